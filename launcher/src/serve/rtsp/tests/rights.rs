//! Every method for everybody: who is let do what.

use data_encoding::BASE64;

use super::super::request;
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

fn users() -> [User; 4] {
    let user = |name: &str, right, cameras: &str| User {
        name: name.into(),
        password: password::hash(&format!("{name}'s")).expect("it is hashed"),
        rights: vec![right],
        cameras: vec![cameras.into()],
    };
    [
        user("ann", Right::View, "do?r"),
        user("bob", Right::View, "yard"),
        user("cam", Right::Publish, "*"),
        user("eve", Right::Admin, "*"),
    ]
}

fn relay() -> Relay {
    Relay::with(Users::new(None, &users()).expect("randomness"), 60)
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
    let address = relay.server.address().socket;
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

/// A relay with a certificate of its own.
fn relay_with_tls(users: &[User]) -> Relay {
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
    Relay::of(&settings, Users::new(None, users).expect("randomness"), 60)
}

/// What a viewer from `address` is answered to a DESCRIBE of `url`.
fn describe(relay: &Relay, address: [u8; 4], secure: bool, url: &str) -> (u16, String) {
    let shared = relay.server.shared.clone();
    let viewer = SocketAddr::from((address, 4000));
    let local = SocketAddr::from(([192, 0, 2, 1], 8554));
    let place = shared.limits.take(viewer.ip()).expect("there is room");
    let mut connection = session::Connection::new(shared, place, (viewer, local), secure);
    let text = format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\n{}\r\n", right("ann"));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let answer = runtime.expect("a runtime").block_on(async {
        match request::read(&mut text.as_bytes()).await {
            Ok(request::Incoming::Request(request)) => connection.answer(&request).await,
            other => panic!("no request: {other:?}"),
        }
    });
    let bytes = answer.response.to_bytes(None);
    let said = String::from_utf8(bytes).expect("text");
    (answer.response.status(), said)
}

#[test]
fn users_from_elsewhere_are_sent_to_tls_before_they_are_asked_for_a_password() {
    const FAR: [u8; 4] = [198, 51, 100, 7];
    const NEAR: [u8; 4] = [192, 168, 1, 7];
    let relay = relay_with_tls(&users());
    let url = "rtsp://relay.example:8554/nothing";
    for address in [FAR, NEAR] {
        for (url, there) in [
            (url, "rtsps://relay.example:8554/nothing"),
            ("rtsp://ann:secret@10.0.0.1/a@b", "rtsps://10.0.0.1/a@b"),
            ("*", "rtsps://192.0.2.1:8554/"),
        ] {
            let (status, said) = describe(&relay, address, false, url);
            assert_eq!(status, 301, "{said}");
            assert!(
                said.contains(&format!("\r\nLocation: {there}\r\n")),
                "{said}"
            );
            assert!(!said.contains("WWW-Authenticate"), "{said}");
        }
        assert_eq!(
            describe(&relay, address, true, url).0,
            403,
            "no user's camera"
        );
    }
    assert_eq!(
        describe(&relay, [127, 0, 0, 1], false, url).0,
        403,
        "nobody reads it"
    );
    // Where nobody logs in, nothing is to be hidden.
    let open = relay_with_tls(&[]);
    assert_eq!(describe(&open, NEAR, false, url).0, 404);
    // And without a certificate there is nowhere to go.
    let plain = self::relay();
    assert_eq!(describe(&plain, FAR, false, url).0, 403);
}

#[test]
fn viewers_connect_with_and_without_tls() {
    let relay = relay_with_tls(&[]);
    let _camera = relay.camera("door", JPEG);
    let address = relay.server.address().socket;
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
