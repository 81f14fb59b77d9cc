//! `launcher relay` asked over HTTP, by a client and by `launcher status`.

mod support;

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use path_emulator::{Conditions, Proxy, Route};
use support::{Launcher, password_line};

/// What a step may take; only ever reached when a test fails.
const DEADLINE: Duration = Duration::from_secs(60);

fn status(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_launcher"))
        .arg("status")
        .args(arguments)
        .output()
        .expect("it runs")
}

#[track_caller]
fn fails(arguments: &[&str], why: &str) {
    let output = status(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(why), "{said}");
}

#[test]
fn shows_a_camera_and_how_it_is_doing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("f.toml");
    let text = "[relay]\nlisten = \"127.0.0.1:0\"\n[rtsp]\nlisten = \"127.0.0.1:0\"\n\
        [http]\nlisten = \"127.0.0.1:0\"\n[[camera]]\nname = \"door\"\n\
        source = \"videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1\"\n\
        encode = \"jpegenc\"\n";
    fs::write(&config, text).expect("a file");
    let mut relay = Launcher::start("relay", &config);
    let line = relay.said("listening for browsers on ");
    let url = line.split_whitespace().last().expect("an address");

    let begin = Instant::now();
    let table = loop {
        let output = status(&["--url", url]);
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        if table.contains("live") && table.contains("JPEG 320x240") {
            break table;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(begin.elapsed() < DEADLINE, "{table}{said}");
    };
    assert!(table.starts_with("CAMERA"), "{table}");
    // There is no delay of a placeholder, which a busy machine shows meanwhile.
    let cameras = loop {
        let json = status(&["--json", "--url", url]).stdout;
        let cameras: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(cameras[0]["name"], "door");
        assert!(
            cameras[0]["hop"]["delivered"].as_u64() > Some(0),
            "{cameras}"
        );
        if cameras[0]["hop"]["delay_ms"].is_number() {
            break cameras;
        }
        assert!(begin.elapsed() < DEADLINE, "{cameras}");
    };
    let captured = |text: &str| -> Option<u64> {
        let name = "camrelay_hop_frames_captured_total{camera=\"door\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|count| count.parse().ok())
    };
    // The camera tells each second.
    loop {
        let mut answer = ureq::get(&format!("{url}metrics")).call().expect("figures");
        let text = answer.body_mut().read_to_string().expect("figures");
        if captured(&text) > Some(0) {
            break;
        }
        assert!(begin.elapsed() < DEADLINE, "{text}");
    }
    let rtsp = cameras[0]["urls"]["rtsp"].as_str().expect("an address");
    assert!(rtsp.starts_with("rtsp://127.0.0.1:"), "{rtsp}");

    let snapshot = cameras[0]["urls"]["snapshot"].as_str().expect("an address");
    let mut answer = ureq::get(snapshot).call().expect("a picture");
    let picture = answer.body_mut().read_to_vec().expect("a picture");
    assert!(picture.starts_with(&[0xff, 0xd8]));
    relay.stop();
    fails(&["--url", url], "no relay answers at http://127.0.0.1:");
}

/// A relay and a camera whose way to it takes 100 ms, and where cameras are told of.
struct Far {
    relay: Launcher,
    camera: Launcher,
    url: String,
    _path: Proxy,
    _folder: tempfile::TempDir,
}

impl Far {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("relay.toml");
        let text = "[relay]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n";
        fs::write(&config, text).expect("a file");
        let mut relay = Launcher::start("relay", &config);
        let mut address = |what: &str| {
            let line = relay.said(what);
            let address = line.split_whitespace().last().expect("an address");
            address.to_owned()
        };
        let to = address("listening for cameras on ").parse();
        let url = address("listening for browsers on ");
        let route = Route {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            to: to.expect("an address"),
        };
        let conditions = Conditions::clean(Duration::from_millis(100));
        let path = Proxy::start(&[route], conditions, conditions, 1).expect("a path");
        let config = folder.path().join("camera.toml");
        let text = format!(
            "[[camera]]\nname = \"door\"\nencode = \"jpegenc\"\nrelay = \"{}\"\n\
             source = \"videotestsrc is-live=true \
             ! video/x-raw,width=320,height=240,framerate=30/1\"\n",
            path.addresses()[0]
        );
        fs::write(&config, text).expect("a file");
        let camera = Launcher::start("camera", &config);
        Self {
            relay,
            camera,
            url,
            _path: path,
            _folder: folder,
        }
    }
}

/// Asks about cameras until the first one is like that.
#[track_caller]
fn until(url: &str, is: impl Fn(&serde_json::Value) -> bool) {
    let begin = Instant::now();
    loop {
        let answer = ureq::get(format!("{url}api/v1/cameras")).call();
        let text = answer.expect("an answer").body_mut().read_to_string();
        let cameras: serde_json::Value =
            serde_json::from_str(&text.expect("a text")).expect("JSON");
        if is(&cameras[0]) {
            break;
        }
        assert!(begin.elapsed() < DEADLINE, "{cameras}");
    }
}

#[test]
fn tells_how_long_pictures_were_on_their_way() {
    let far = Far::start();
    until(&far.url, |camera| {
        let (age, hop) = (&camera["age_ms"], &camera["hop"]);
        hop["delay_ms"].as_f64() > Some(95.0) && age.as_u64() > Some(95)
    });
    far.camera.stop();
    far.relay.stop();
}

#[test]
fn a_camera_that_is_stopped_far_away_is_gone_at_once() {
    let far = Far::start();
    until(&far.url, |camera| camera["state"]["name"] == "live");
    far.camera.stop();
    // Otherwise after 90 s of silence.
    until(&far.url, |camera| camera["state"]["name"] == "gone");
    far.relay.stop();
}

#[test]
fn makes_snapshots_of_a_camera_that_sends_no_jpegs() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("f.toml");
    let text = "[relay]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
        [[camera]]\nname = \"door\"\nencode = \"openh264enc gop-size=30\"\n\
        source = \"videotestsrc is-live=true pattern=white \
        ! video/x-raw,format=I420,width=320,height=240,framerate=30/1\"\n";
    fs::write(&config, text).expect("a file");
    let mut relay = Launcher::start("relay", &config);
    let line = relay.said("listening for browsers on ");
    let url = line.split_whitespace().last().expect("an address");
    let url = format!("{url}cameras/door/snapshot.jpg");

    let begin = Instant::now();
    let mut seen: Vec<u64> = Vec::new();
    while seen.len() < 2 {
        assert!(begin.elapsed() < DEADLINE, "{seen:?}");
        // Until it has sent a picture there is none.
        let Ok(mut answer) = ureq::get(&url).call() else {
            continue;
        };
        let number = answer.headers()["x-sequence"].to_str().expect("text");
        let number = number.parse().expect("a number");
        // On a busy machine there may be no newer one yet.
        if seen.last() != Some(&number) {
            seen.push(number);
        }
        let jpeg = folder.path().join("snapshot.jpg");
        let bytes = answer.body_mut().read_to_vec().expect("a picture");
        fs::write(&jpeg, bytes).expect("a file");
        let decoded = Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(&jpeg)
            .args(["-f", "rawvideo", "-pix_fmt", "gray", "-"])
            .output()
            .expect("ffmpeg runs");
        assert_eq!(decoded.stdout.len(), 320 * 240);
        assert!(decoded.stdout.iter().all(|luma| *luma > 200), "it is white");
    }
    assert!(seen[0] < seen[1], "the newest each time: {seen:?}");
    relay.stop();
}

#[test]
fn logs_in_with_a_password_that_is_not_in_the_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("f.toml");
    let hash = password_line("a:b@c");
    let text = format!(
        "[relay]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [[user]]\nname = \"ann\"\n{}\nrights = [\"view\"]\n",
        hash.trim()
    );
    fs::write(&config, text).expect("a file");
    let mut relay = Launcher::start("relay", &config);
    let line = relay.said("listening for browsers on ");
    let url = line.split_whitespace().last().expect("an address");
    let ann = url.replace("://", "://ann@");
    let ask = |password: &str| {
        Command::new(env!("CARGO_BIN_EXE_launcher"))
            .args(["status", "--url", &ann])
            .env("CAMRELAY_PASSWORD", password)
            .output()
            .expect("it runs")
    };
    let right = ask("a:b@c");
    let said = String::from_utf8_lossy(&right.stdout);
    assert_eq!(
        said, "The relay runs, and has no camera yet.\n",
        "{right:?}"
    );
    let wrong = ask("wrong");
    assert_eq!(wrong.status.code(), Some(1));
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(said.contains("knows no such name and password"), "{said}");
    fails(
        &["--url", url],
        "wants a login: launcher status --url http://NAME@127.0.0.1:",
    );
    relay.stop();
}

#[test]
fn says_what_is_in_the_way_of_a_status() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("f.toml");
    fs::write(&config, "[relay]\n").expect("a file");
    let config = config.to_str().expect("text");
    fails(
        &["--config", config],
        "has no [http], so its relay cannot be asked",
    );
    fails(
        &["--url", "rtsp://there"],
        "expected an address such as http://",
    );
}

#[test]
fn asks_a_relay_that_shows_its_certificate_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| {
        let path = folder.path().join(name);
        path.to_str().expect("text").to_owned()
    };
    for name in ["own", "other"] {
        let pair = [path(&format!("{name}.crt")), path(&format!("{name}.key"))];
        let made = Command::new(env!("CARGO_BIN_EXE_launcher"))
            .args(["keys", "certificate"])
            .args(pair)
            .output();
        assert!(made.expect("it runs").status.success());
    }
    let config = folder.path().join("f.toml");
    let text = "[relay]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
        certificate = \"own.crt\"\nprivate-key = \"own.key\"\n";
    fs::write(&config, text).expect("a file");
    let mut relay = Launcher::start("relay", &config);
    let line = relay.said("listening for browsers on ");
    let url = line.split_whitespace().last().expect("an address");
    assert!(url.starts_with("https://"), "{url}");

    let asked = status(&["--url", url, "--certificate", &path("own.crt")]);
    let said = String::from_utf8_lossy(&asked.stdout);
    assert_eq!(
        said, "The relay runs, and has no camera yet.\n",
        "{asked:?}"
    );
    fails(&["--url", url], "by which certificate is https://");
    let other = path("other.crt");
    fails(
        &["--url", url, "--certificate", &other],
        "it shows another certificate than the file holds",
    );
    relay.stop();
}
