//! Every message, word for word, as a person sees it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use camrelay_protocol::Accept;

use super::{Audience, Camera, Deployment, Errors, Fault, Http, Relay, Rtsp, User, read};
use crate::users::Right;

const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQxMjM$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn parse(text: &str) -> Result<Deployment, Errors> {
    read::deployment(Path::new("f.toml"), text, &|_| Vec::new())
}

/// Each deployment is wrong in exactly these ways.
#[track_caller]
fn assert_problems(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        let errors = parse(text).expect_err(text).to_string();
        let lines: Vec<_> = errors.lines().collect();
        assert_eq!(lines, *expected, "of the deployment\n{text}");
    }
}

#[test]
fn reads_every_key() {
    let text = r#"
        [relay]
        listen = "127.0.0.1:0"
        accept = "anyone"
        access = "lan"
        latency = "80ms"
        [rtsp]
        listen = "[::1]:0"
        ports = "9000-9001"
        [http]
        listen = "127.0.0.1:80"
        hosts = ["Cams.example.org"]
        [[user]]
        name = "ann"
        password = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQxMjM$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        rights = ["view", "publish"]
        cameras = ["door*", "lab/?"]
        [[camera]]
        name = "door"
        source = " v4l2src device=/dev/video0 "
        encode = "jpegenc quality=85"
        relay = "relay.local:8000"
        latency = "1s"
    "#;
    let expected = Deployment {
        path: PathBuf::from("f.toml"),
        relay: Some(Relay {
            listen: "127.0.0.1:0".parse().unwrap(),
            accept: Accept::Anyone,
            access: Some(Audience::Lan),
            latency: Duration::from_millis(80),
            key: None,
            cameras: None,
        }),
        rtsp: Some(Rtsp {
            listen: "[::1]:0".parse().unwrap(),
            ports: Some(9000),
            tls: None,
        }),
        http: Some(Http {
            listen: "127.0.0.1:80".parse().unwrap(),
            hosts: vec!["cams.example.org".into()],
            tls: None,
        }),
        users: vec![User {
            name: "ann".into(),
            password: HASH.into(),
            rights: vec![Right::View, Right::Publish],
            cameras: vec!["door*".into(), "lab/?".into()],
        }],
        cameras: vec![Camera {
            name: "door".into(),
            source: "v4l2src device=/dev/video0".into(),
            encode: Some("jpegenc quality=85".into()),
            relay: Some("relay.local:8000".into()),
            key: None,
            latency: Duration::from_secs(1),
        }],
    };
    assert_eq!(parse(text), Ok(expected));
}

#[test]
fn fills_in_what_is_left_out() {
    let text = "[relay]\n[rtsp]\n[http]\n[[camera]]\nname = \"a\"\nsource = \"x.mp4\"";
    let deployment = parse(text).unwrap();
    let relay = deployment.relay.unwrap();
    assert_eq!(relay.listen.to_string(), "0.0.0.0:8000");
    assert_eq!(relay.accept, Accept::Lan);
    assert_eq!(relay.latency, Duration::from_millis(120));
    assert_eq!(deployment.rtsp.unwrap().listen.to_string(), "0.0.0.0:8554");
    let http = deployment.http.unwrap();
    assert_eq!(http.listen.to_string(), "0.0.0.0:8080");
    assert!(http.hosts.is_empty());
    assert_eq!(deployment.cameras[0].latency, Duration::from_millis(120));
}

#[test]
fn says_where_it_is_no_toml() {
    assert_problems(&[
        (
            "[relay\nlisten = \"0.0.0.0:8000\"",
            &[
                "f.toml:1:7: unclosed table, expected `]`",
                "f.toml:2:24: the rest of the file is checked once this is right",
            ],
        ),
        (
            "[relay]\nlisten = 0.0.0.0:8000\nlatency = 120ms\naccept = lan\nlatency = \"1s",
            &[
                "f.toml:2:13: expected a number, or a text in quotes (\"…\")",
                "f.toml:3:11: expected a text in quotes (\"…\")",
                "f.toml:4:10: expected a text in quotes (\"…\")",
                "f.toml:5:1: duplicate key",
                "f.toml:5:14: invalid basic string, expected `\"`",
                "f.toml:5:14: the rest of the file is checked once this is right",
            ],
        ),
    ]);
}

#[test]
fn says_which_keys_and_tables_are_wrong() {
    assert_problems(&[
        (
            "",
            &[
                "f.toml:1:1: there is nothing to run: expected a [relay], or at least one [[camera]]",
            ],
        ),
        (
            "relay = 3\nrtsp = \"x\"\ncamera = 1",
            &[
                "f.toml:1:9: relay: expected a table, [relay], found the number 3",
                "f.toml:2:8: rtsp: expected a table, [rtsp], found the text 'x'",
                "f.toml:3:10: camera: expected [[camera]] tables, found the number 1",
            ],
        ),
        (
            "camera = [3]",
            &["f.toml:1:11: camera 1: expected a table, [[camera]], found the number 3"],
        ),
        (
            "[camera]\nname = \"door\"",
            &["f.toml:1:1: camera: expected two brackets, [[camera]], as there can be several"],
        ),
        (
            "[cameras]\n[relais]\n[foo]\n[relay.x]",
            &[
                "f.toml:1:2: cameras: no such key (did you mean 'camera'?)",
                "f.toml:2:2: relais: no such key (did you mean 'relay'?)",
                "f.toml:3:2: foo: no such key (there are relay, rtsp, http, user, camera)",
                "f.toml:4:8: relay.x: no such key (there are listen, accept, access, latency, key, cameras)",
            ],
        ),
        (
            "[relay]\nlisen = \"x\"\n[rtsp]\nLISTEN = 1\n[[camera]]\nname = \"a\"\nsource = \"b\"\nencoder = 1\nurl = 2",
            &[
                "f.toml:2:1: relay.lisen: no such key (did you mean 'listen'?)",
                "f.toml:4:1: rtsp.LISTEN: no such key (did you mean 'listen'?)",
                "f.toml:8:1: camera 'a'.encoder: no such key (did you mean 'encode'?)",
                "f.toml:9:1: camera 'a'.url: no such key (there are name, source, encode, relay, key, latency)",
            ],
        ),
    ]);
}

#[test]
fn says_which_values_are_wrong() {
    assert_problems(&[
        (
            "[relay]\naccept = \"everyone\"\nlatency = 120\nlisten = 8000\n[rtsp]\nlisten = 8554.5",
            &[
                "f.toml:2:10: relay.accept: expected 'lan', 'known' or 'anyone', found 'everyone' (did you mean 'anyone'?)",
                "f.toml:3:11: relay.latency: expected a duration from '1ms' to '10s', such as '120ms', in quotes, found the number 120 (did you mean \"120ms\"?)",
                "f.toml:4:10: relay.listen: expected an address and port to listen on, such as '0.0.0.0:8000', in quotes, found the number 8000 (did you mean \"0.0.0.0:8000\"?)",
                "f.toml:6:10: rtsp.listen: expected an address and port to listen on, such as '0.0.0.0:8554', in quotes, found the number 8554.5",
            ],
        ),
        (
            "[relay]\naccept = \"all\"\nlatency = \"11s\"\nlisten = \"relay.local:8000\"\n[rtsp]\nlisten = \"::\"",
            &[
                "f.toml:2:10: relay.accept: expected 'lan', 'known' or 'anyone', found 'all'",
                "f.toml:3:11: relay.latency: expected a duration from '1ms' to '10s', such as '120ms', found '11s'",
                "f.toml:4:10: relay.listen: expected an address and port to listen on, such as '0.0.0.0:8000', found 'relay.local:8000'",
                "f.toml:6:10: rtsp.listen: expected an address and port to listen on, such as '0.0.0.0:8554', found '::' (did you mean '[::]:8554'?)",
            ],
        ),
        (
            "[relay]\naccept = true\nlatency = \"0ms\"\nlisten = \"localhost:9000\"\n[rtsp]\nlisten = \":8555\"",
            &[
                "f.toml:2:10: relay.accept: expected 'lan', 'known' or 'anyone', in quotes, found the truth value true",
                "f.toml:3:11: relay.latency: expected a duration from '1ms' to '10s', such as '120ms', found '0ms'",
                "f.toml:4:10: relay.listen: expected an address and port to listen on, such as '0.0.0.0:8000', found 'localhost:9000' (did you mean '127.0.0.1:9000'?)",
                "f.toml:6:10: rtsp.listen: expected an address and port to listen on, such as '0.0.0.0:8554', found ':8555' (did you mean '0.0.0.0:8555'?)",
            ],
        ),
        (
            "[relay]\nlisten = \"0.0.0.0:65536\"\nlatency = \"fast\"",
            &[
                "f.toml:2:10: relay.listen: expected an address and port to listen on, such as '0.0.0.0:8000', found '0.0.0.0:65536'",
                "f.toml:3:11: relay.latency: expected a duration from '1ms' to '10s', such as '120ms', found 'fast'",
            ],
        ),
    ]);
}

#[test]
fn says_what_is_wrong_with_a_camera() {
    assert_problems(&[
        (
            "[[camera]]",
            &[
                "f.toml:1:1: camera 1.name: expected one, such as name = \"door\"",
                "f.toml:1:1: camera 1.source: expected one, such as source = \"/dev/video0\"",
                "f.toml:1:1: camera 1.relay: expected one, such as relay = \"relay.local:8000\", as this file has no [relay] of its own",
            ],
        ),
        (
            "[relay]\n[[camera]]\nname = \"front door\"\nsource = \"\"\nrelay = \"10.0.0.1\"\n[[camera]]\nname = 7\nsource = 2026-01-01",
            &[
                "f.toml:3:8: camera 'front door'.name: expected 1 to 64 letters (a to z), digits, '-', '_' or '.', starting with a letter or digit, found 'front door' (did you mean 'front-door'?)",
                "f.toml:4:10: camera 'front door'.source: expected a device (/dev/video0), an rtsp:// address, a file, or gst-launch text, found ''",
                "f.toml:5:9: camera 'front door'.relay: expected a relay's name or address, and its port, such as 'relay.local:8000', found '10.0.0.1' (did you mean '10.0.0.1:8000'?)",
                "f.toml:7:8: camera 2.name: expected a text in quotes, found the number 7 (did you mean \"7\"?)",
                "f.toml:8:10: camera 2.source: expected a device (/dev/video0), an rtsp:// address, a file, or gst-launch text, in quotes, found the date 2026-01-01",
            ],
        ),
        (
            "[relay]\n[[camera]]\nname = \"a\"\nsource = \"x\"\nrelay = \"camrelay://there:8000/a\"\n[[camera]]\nname = \"a\"\nsource = [1]\nrelay = \"there:99999\"\nencode = \" \"",
            &[
                "f.toml:5:9: camera 'a'.relay: expected a relay's name or address, and its port, such as 'relay.local:8000', found 'camrelay://there:8000/a' (did you mean 'there:8000'?)",
                "f.toml:7:8: camera 'a'.name: expected a name of its own, found the one of the camera on line 3",
                "f.toml:8:10: camera 'a'.source: expected a device (/dev/video0), an rtsp:// address, a file, or gst-launch text, in quotes, found a list",
                "f.toml:9:9: camera 'a'.relay: expected a relay's name or address, and its port, such as 'relay.local:8000', found 'there:99999' (did you mean 'there:8000'?)",
                "f.toml:10:10: camera 'a'.encode: expected some text, found ' '",
            ],
        ),
    ]);
}

#[test]
fn says_what_does_not_go_together() {
    assert_problems(&[
        (
            "[rtsp]",
            &["f.toml:1:1: rtsp: expected a [relay] as well: RTSP shows the cameras of a relay"],
        ),
        (
            "[relay]\n[rtsp]\nlisten = \"0.0.0.0:8000\"",
            &[
                "f.toml:3:10: rtsp.listen: expected a port of its own, found 8000, which [relay] has (line 1)",
            ],
        ),
        (
            "[http]",
            &["f.toml:1:1: http: expected a [relay] as well: HTTP shows the cameras of a relay"],
        ),
        (
            "[relay]\n[rtsp]\n[http]\nlisten = \"0.0.0.0:8554\"",
            &["f.toml:4:10: http.listen: expected a port of its own, found 8554, which [rtsp] has"],
        ),
        (
            "[relay]\n[http]\nhosts = [\"https://cams.example.org/\", \"a b\"]",
            &[
                "f.toml:3:10: http.hosts: expected a host name, such as 'cams.example.org', found 'https://cams.example.org/' (did you mean 'cams.example.org'?)",
                "f.toml:3:39: http.hosts: expected a host name, such as 'cams.example.org', found 'a b'",
            ],
        ),
        (
            "[relay]\nlisten = \"127.0.0.1:8554\"\n[rtsp]",
            &[
                "f.toml:3:1: rtsp.listen: expected a port of its own, found 8554, which [relay] has (line 2)",
            ],
        ),
        (
            "[relay]\naccept = \"known\"",
            &[
                "f.toml:2:10: relay.accept: 'known' needs the relay's key: make one with 'launcher keys relay relay.key' and say key = \"relay.key\" here",
                "f.toml:2:10: relay.accept: 'known' needs the list of known cameras, which 'launcher keys add' keeps: say cameras = \"cameras.txt\" here",
            ],
        ),
        (
            "[relay]\ncameras = \"missing.txt\"",
            &[
                "f.toml:2:11: relay.cameras: a list of known cameras needs the relay's key: make one with 'launcher keys relay relay.key' and say key = \"relay.key\" here",
                "f.toml:2:11: relay.cameras: 'missing.txt': no such file; add a camera with: launcher keys add --cameras missing.txt …",
            ],
        ),
        (
            "[relay]\nkey = \"missing.key\"\n[[camera]]\nname = \"a\"\nsource = \"x\"\nkey = \"missing.token\"",
            &[
                "f.toml:2:7: relay.key: 'missing.key': no such file; make the relay's key with: launcher keys relay missing.key",
                "f.toml:6:7: camera 'a'.key: 'missing.token': no such file; put the token into it that 'launcher keys add' prints",
            ],
        ),
    ]);
}

#[test]
fn says_why_a_file_cannot_be_read() {
    let missing = Deployment::load(Path::new("no/such.toml")).unwrap_err();
    assert_eq!(missing.to_string(), "no/such.toml: no such file");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.toml");
    std::fs::write(&path, b"[relay]\xff").unwrap();
    let binary = Deployment::load(&path).unwrap_err();
    assert_eq!(
        binary.to_string(),
        format!(
            "{}: no text: it has bytes that are not UTF-8",
            path.display()
        )
    );
}

#[test]
fn reads_the_key_files_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let relay = camrelay_protocol::PrivateKey::from_random([7; 32]);
    let token = camrelay_protocol::CameraToken::new(relay.public(), [9; 32]);
    write("relay.key", &relay.to_text());
    write("door.key", &token.to_text());
    write(
        "cameras.txt",
        &token.known_camera(vec!["door".into()]).to_text(),
    );
    let good = "[relay]\naccept = \"known\"\nkey = \"relay.key\"\ncameras = \"cameras.txt\"\n\
                [[camera]]\nname = \"door\"\nsource = \"x.mp4\"\nkey = \"door.key\"";
    write("good.toml", good);
    let deployment = Deployment::load(&folder.path().join("good.toml")).unwrap();
    let beside = |name: &str| Some(folder.path().join(name));
    let relay = deployment.relay.unwrap();
    assert_eq!(relay.key, beside("relay.key"));
    assert_eq!(relay.cameras, beside("cameras.txt"));
    assert_eq!(deployment.cameras[0].key, beside("door.key"));

    let swapped = good
        .replace("\"cameras.txt\"", "\"CAMERAS\"")
        .replace("\"relay.key\"", "\"cameras.txt\"")
        .replace("\"door.key\"", "\"relay.key\"")
        .replace("\"CAMERAS\"", "\"door.key\"");
    write("swapped.toml", &swapped);
    let errors = Deployment::load(&folder.path().join("swapped.toml")).unwrap_err();
    let prefix = format!("{}/", folder.path().display());
    let errors = errors.to_string().replace(&prefix, "");
    assert_eq!(
        errors.lines().collect::<Vec<_>>(),
        [
            "swapped.toml:3:7: relay.key: 'cameras.txt' holds no relay's key: a private key is 43 characters of base64url; this has 91",
            "swapped.toml:4:11: relay.cameras: 'door.key' is no list of cameras: line 1: expected camera names separated by commas, a space, and a key",
            "swapped.toml:8:7: camera 'door'.key: 'relay.key' holds no camera's token: a camera's token starts with 'camrelay1.'; 'launcher keys add' prints one",
        ]
    );
}

#[test]
fn points_at_the_word_that_a_closer_look_finds_wrong() {
    let look = |camera: &Camera| {
        let fault = |key| Fault {
            key,
            offset: 4,
            message: "wrong".into(),
        };
        let mut faults = vec![fault("source")];
        faults.extend(camera.encode.as_ref().map(|_| fault("encode")));
        faults
    };
    let text = "[relay]\n[[camera]]\nname = \"a\"\nsource = ' src x=1'\nencode = \"enc \\\"1\\\"\"\n\
                [[camera]]\nname = \"b\"\nsource = \"\"\"\nsrc x=1\"\"\"\nlatency = 1";
    let errors = read::deployment(Path::new("f.toml"), text, &look).unwrap_err();
    assert_eq!(
        errors.to_string().lines().collect::<Vec<_>>(),
        [
            "f.toml:4:16: camera 'a'.source: wrong",
            "f.toml:5:10: camera 'a'.encode: wrong",
            "f.toml:9:5: camera 'b'.source: wrong",
            "f.toml:10:11: camera 'b'.latency: expected a duration from '1ms' to '10s', such as '120ms', in quotes, found the number 1 (did you mean \"1ms\"?)",
        ]
    );
}

#[test]
fn says_what_is_wrong_with_users() {
    let user = |more: &str| format!("[relay]\n[[user]]\nname = \"ann\"\n{more}");
    let right = user(&format!("password = \"{HASH}\"\nrights = [\"admin\"]"));
    let users = parse(&right).expect("it is right").users;
    assert_eq!(users[0].cameras, ["*"]);
    let twice = right.clone() + &right.replace("[relay]", "");
    assert_problems(&[
        (
            "[relay]\n[rtsp]\ncertificate = \"a.crt\"\n[[user]]\nname = \"ann\"",
            &[
                "f.toml:3:15: rtsp.certificate: expected certificate and private-key together; make both with: launcher keys certificate",
                "f.toml:4:1: user 'ann'.password: expected one, such as password = \"$argon2id$…\", the line that this prints: launcher keys password",
                "f.toml:4:1: user 'ann'.rights: expected one, such as rights = [\"view\"]",
            ],
        ),
        (
            "[relay]\n[rtsp]\ncertificate = \"a.crt\"\nprivate-key = \"a.key\"",
            &[
                "f.toml:3:15: rtsp.certificate: 'a.crt': no such file; make a certificate and its key with: launcher keys certificate",
            ],
        ),
        (
            "[relay]\n[rtsp]\nports = \"9001-9002\"",
            &[
                "f.toml:3:9: rtsp.ports: expected two ports in a row, the first one even, such as '8556-8557', found '9001-9002' (did you mean '9000-9001'?)",
            ],
        ),
        (
            "[relay]\naccess = \"lam\"\n[user]\nname = \"ann\"",
            &[
                "f.toml:2:10: relay.access: expected 'lan' or 'anyone', found 'lam' (did you mean 'lan'?)",
                "f.toml:3:1: user: expected two brackets, [[user]], as there can be several",
            ],
        ),
        (
            &user("password = \"secret\"\nrights = [\"veiw\", 3]\ncameras = []"),
            &[
                "f.toml:4:12: user 'ann'.password: expected the line that this prints: launcher keys password",
                "f.toml:5:11: user 'ann'.rights: expected 'view', 'publish' or 'admin', found 'veiw' (did you mean 'view'?)",
                "f.toml:5:19: user 'ann'.rights: expected a text in quotes, found the number 3",
                "f.toml:6:11: user 'ann'.cameras: expected a list of texts, […], found an empty one",
            ],
        ),
        (
            "[[user]]\nname = \"a:b\"\ncameras = [\"a b\"]\n[relay]",
            &[
                "f.toml:1:1: user 'a:b'.password: expected one, such as password = \"$argon2id$…\", the line that this prints: launcher keys password",
                "f.toml:1:1: user 'a:b'.rights: expected one, such as rights = [\"view\"]",
                "f.toml:2:8: user 'a:b'.name: expected a name of at most 128 bytes, without a colon and spaces around it, found 'a:b'",
                "f.toml:3:12: user 'a:b'.cameras: expected a camera's name, or a pattern with '*' for any text and '?' for one character, found 'a b'",
            ],
        ),
        (
            &twice,
            &[
                "f.toml:7:8: user 'ann'.name: expected a name of its own, found the one of the user on line 3",
            ],
        ),
    ]);
}
