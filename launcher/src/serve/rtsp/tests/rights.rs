//! Every method for everybody: who is let do what.

use data_encoding::BASE64;

use super::*;
use crate::config::{Tls, User};
use crate::users::{Right, password};

/// Each method, and what who may use it is answered on a connection without a session.
const METHODS: [(&str, u16); 13] = [
    ("OPTIONS", 200),
    ("DESCRIBE", 200),
    ("SETUP", 200),
    ("PLAY", 454),
    ("PAUSE", 454),
    ("TEARDOWN", 454),
    ("GET_PARAMETER", 200),
    ("SET_PARAMETER", 200),
    ("ANNOUNCE", 405),
    ("RECORD", 405),
    ("REDIRECT", 405),
    ("EXPLODE", 501),
    ("describe", 501),
];
const TRANSPORT: &str = "Transport: RTP/AVP/TCP;unicast\r\n";

fn relay() -> Relay {
    let user = |name: &str, right, cameras: &str| User {
        name: name.into(),
        password: password::hash(&format!("{name}'s")).expect("it is hashed"),
        rights: vec![right],
        cameras: vec![cameras.into()],
    };
    let users = [
        user("ann", Right::View, "do?r"),
        user("bob", Right::View, "yard"),
        user("cam", Right::Publish, "*"),
        user("eve", Right::Admin, "*"),
    ];
    Relay::with(Users::new(None, &users).expect("randomness"), 60)
}

fn basic(name: &str, password: &str) -> String {
    let text = BASE64.encode(format!("{name}:{password}").as_bytes());
    format!("Authorization: Basic {text}\r\n")
}

fn right(name: &str) -> String {
    basic(name, &format!("{name}'s"))
}

/// No login or a wrong one, and what that is answered whatever the method; few with one
/// name, as who guesses much is not listened to.
fn strangers(number: usize) -> Vec<(String, u16)> {
    let name = ["ann", "bob", "cam", "eve"][number % 4];
    vec![
        (String::new(), 401),
        (basic(name, "wrong"), 401),
        ("Authorization: Digest username=\"ann\"\r\n".into(), 401),
        ("Authorization: Basic !\r\n".into(), 401),
        (right("bob"), 403),
        (right("cam"), 403),
    ]
}

#[test]
fn every_method_asks_who_is_there() {
    let relay = relay();
    let _camera = relay.camera("door", JPEG);
    for (number, (method, status)) in METHODS.into_iter().enumerate() {
        let known = ["ann", "eve"].map(|name| (right(name), status));
        for (login, expected) in strangers(number).into_iter().chain(known) {
            let mut viewer = relay.connect("door");
            let found = viewer.request(method, "", &format!("{login}{TRANSPORT}"));
            assert_eq!(found.status, expected, "{method} with {login}");
            let asks = found.headers.contains("WWW-Authenticate: Basic ");
            assert_eq!(asks, expected == 401, "{method} with {login}");
        }
    }
    // Whether there is a camera is nothing that who may not view it learns.
    for (login, expected) in [
        (right("bob"), 403),
        (right("eve"), 404),
        (String::new(), 401),
    ] {
        let found = relay.connect("nothing").request("DESCRIBE", "", &login);
        assert_eq!(found.status, expected, "{login}");
    }
}

#[test]
fn every_method_asks_again_within_a_session() {
    let relay = relay();
    let _camera = relay.camera("door", JPEG);
    let mut viewer = relay.connect("door");
    let login = right("ann");
    let set_up = viewer.request("SETUP", "/stream=0", &format!("{login}{TRANSPORT}"));
    assert_eq!(set_up.status, 200, "{}", set_up.headers);
    assert_eq!(viewer.request("PLAY", "", &login).status, 200);
    for (number, (method, _)) in METHODS.into_iter().enumerate() {
        for (login, expected) in strangers(number) {
            let found = viewer.request(method, "", &format!("{login}{TRANSPORT}"));
            assert_eq!(found.status, expected, "{method} with {login}");
        }
        assert!(viewer.frames(2), "{method}");
    }
    assert_eq!(viewer.request("TEARDOWN", "", &login).status, 200);
}

#[test]
fn who_guesses_passwords_is_not_listened_to_for_a_while() {
    let relay = relay();
    let _camera = relay.camera("door", JPEG);
    let ask = |login: &str| relay.connect("door").request("DESCRIBE", "", login);
    assert_eq!(ask(&right("ann")).status, 200);
    until("an end of guessing", || {
        ask(&basic("ann", "guess")).status == 429
    });
    let found = ask(&right("ann"));
    assert_eq!(found.status, 429);
    assert!(
        found.headers.contains("Retry-After: 60"),
        "{}",
        found.headers
    );
    assert_eq!(ask(&right("eve")).status, 200);
}

#[test]
fn ffmpeg_logs_in() {
    let relay = relay();
    let _camera = relay.camera("door", JPEG);
    let address = relay.server.address();
    for (login, lets_in) in [("ann:ann's@", true), ("ann:wrong@", false), ("", false)] {
        let output = Command::new("timeout")
            .args(["--kill-after=1", "30", "ffmpeg", "-nostdin", "-hide_banner"])
            .args(["-rtsp_transport", "tcp", "-i"])
            .arg(format!("rtsp://{login}{address}/door"))
            .args(["-frames:v", "3", "-f", "null", "-"])
            .output()
            .expect("ffmpeg runs");
        assert_eq!(output.status.success(), lets_in, "{login}: {output:?}");
    }
}

#[test]
fn viewers_connect_with_and_without_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = (folder.path().join("a.crt"), folder.path().join("a.key"));
    crate::keys::make_certificate(&certificate, &key, &[]).expect("they are made");
    let settings = Rtsp {
        tls: Some(Tls {
            certificate,
            private_key: key,
        }),
        ..rtsp(([127, 0, 0, 1], 0).into())
    };
    let relay = Relay::of(&settings, Users::new(None, &[]).expect("randomness"), 60);
    let _camera = relay.camera("door", JPEG);
    let address = relay.server.address();
    for (scheme, transport) in [("rtsps", "tcp"), ("rtsp", "tcp"), ("rtsp", "udp")] {
        let output = Command::new("timeout")
            .args(["--kill-after=1", "30", "ffmpeg", "-nostdin", "-hide_banner"])
            .args(["-rtsp_transport", transport, "-i"])
            .arg(format!("{scheme}://{address}/door"))
            .args(["-frames:v", "10", "-f", "null", "-"])
            .output()
            .expect("ffmpeg runs");
        assert!(output.status.success(), "{scheme} {transport}: {output:?}");
    }
}
