//! The page in Chromium: what it shows, how it is used, and what other sites' pages
//! can do about it, which is nothing.

#[path = "support/browser.rs"]
mod browser;
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use browser::Browser;
use support::Launcher;

/// WebDriver's names of keys.
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const LEFT: &str = "\u{e012}";
const RIGHT: &str = "\u{e014}";

const JPEG: &str = "jpegenc";
const H264: &str = "openh264enc bitrate=1000000 gop-size=30";

/// A running relay and a place for the deployments of its cameras.
struct Relay {
    launcher: Launcher,
    cameras: String,
    /// `http://127.0.0.1:PORT`.
    page: String,
    folder: tempfile::TempDir,
}

impl Relay {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("relay.toml");
        let text = "[relay]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n";
        fs::write(&file, text).expect("a file");
        let mut launcher = Launcher::start("relay", &file);
        let line = launcher.said("listening for cameras on ");
        let cameras = line.rsplit(' ').next().expect("an address").to_owned();
        let line = launcher.said("listening for browsers on ");
        let page = line.rsplit(' ').next().expect("an address");
        let page = page.trim_end_matches('/').to_owned();
        Self {
            launcher,
            cameras,
            page,
            folder,
        }
    }

    /// A process with these cameras.
    fn cameras(&self, names: &[&str], encode: &str) -> Launcher {
        Launcher::start("camera", &self.deployment(names, encode))
    }

    fn deployment(&self, names: &[&str], encode: &str) -> PathBuf {
        let camera = |name: &&str| {
            format!(
                "[[camera]]\nname = \"{name}\"\nencode = \"{encode}\"\nrelay = \"{}\"\n\
                 source = \"videotestsrc is-live=true pattern=ball \
                 ! video/x-raw,format=I420,width=320,height=240,framerate=15/1\"\n",
                self.cameras
            )
        };
        let file = self.folder.path().join(format!("{}.toml", names.len()));
        let text: String = names.iter().map(camera).collect();
        fs::write(&file, text).expect("a file");
        file
    }

    /// The page, in a browser.
    fn page(&self) -> Browser {
        let browser = Browser::start("MAP evil.test 127.0.0.1");
        browser.open(&self.page);
        // What a picture looks like, and the tile of a camera.
        browser.run(
            "window.look = canvas => {
                 const small = new OffscreenCanvas(16, 12).getContext('2d');
                 small.drawImage(canvas, 0, 0, 16, 12);
                 return small.getImageData(0, 0, 16, 12).data.join();
             };
             window.tile = name => [...document.querySelectorAll('.tile')]
                 .find(tile => tile.querySelector('.name').textContent === name);
             window.seen = new Map();
             window.moves = name => {
                 const seen = window.seen.get(name) ?? new Set();
                 window.seen.set(name, seen);
                 seen.add(look(tile(name).querySelector('canvas')));
                 return seen.size > 3 && tile(name).dataset.state === 'live';
             };",
        );
        browser
    }
}

#[test]
fn twelve_cameras_move_on_one_page_and_say_when_they_do_not() {
    let relay = Relay::start();
    let names: Vec<_> = (1..12).map(|number| format!("camera{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let others = relay.cameras(&names, JPEG);
    let door = relay.cameras(&["door"], JPEG);
    let browser = relay.page();
    browser.until(
        "document.querySelectorAll('.tile').length === 12
         && ['door', ...Array.from({length: 11}, (_, at) => `camera${at + 1}`)]
             .map(moves).every(moved => moved)",
    );
    let rate = "tile('camera3').querySelector('.rate').textContent";
    browser.until(&format!(
        "{rate}.includes('fps') && {rate}.includes('bit/s')"
    ));
    browser.until("document.getElementById('summary').textContent === '12 of 12 live'");

    let killed = Instant::now();
    door.kill();
    browser.until(
        "tile('door').dataset.state !== 'live'
         && tile('door').querySelector('.age').hasAttribute('data-late')",
    );
    println!(
        "stale on the page {:?} after it was killed",
        killed.elapsed()
    );
    browser.until("document.getElementById('summary').textContent === '11 of 12 live'");
    browser.until("seen.clear(), moves('camera1') || true");

    let back = relay.cameras(&["door"], JPEG);
    browser.until("moves('door')");
    browser.until("!tile('door').querySelector('.age').hasAttribute('data-late')");
    for launcher in [others, back, relay.launcher] {
        launcher.stop();
    }
}

#[test]
fn one_camera_plays_over_webrtc_and_keys_do_the_rest() {
    let relay = Relay::start();
    let gate = relay.cameras(&["gate"], H264);
    let others = relay.cameras(&["door", "yard"], JPEG);
    let browser = relay.page();
    browser.until("document.querySelectorAll('.tile').length === 3 && moves('door')");

    browser.until("tile('gate').dataset.state === 'live'");
    browser.run("tile('gate').querySelector('a').id = 'there'");
    browser.click("#there");
    let plays = "!video.hidden && video.currentTime > 0.5 && video.videoWidth === 320";
    browser.until(plays);
    browser.until("document.getElementById('via').textContent === 'WebRTC'");
    assert_eq!(browser.run("return location.hash"), "#gate");
    browser.until(&format!("window.before = video.currentTime, {plays}"));
    browser.until("video.currentTime > window.before + 0.5");

    browser.press(" ");
    browser.until("video.paused && document.getElementById('pause').ariaPressed === 'true'");
    browser.press(" ");
    browser.until("!video.paused");

    browser.press("s");
    let file = browser.downloaded("gate ");
    let picture = fs::read(file).expect("a file");
    assert!(picture.starts_with(&[0xff, 0xd8]) && picture.len() > 1000);

    browser.press("f");
    browser.until("document.fullscreenElement?.id === 'stage'");
    browser.press("f");
    browser.until("document.fullscreenElement === null");

    browser.press(RIGHT);
    browser.until(
        "location.hash === '#yard' && document.getElementById('large-name').textContent === 'yard'",
    );
    browser.press(LEFT);
    browser.until(plays);

    browser.press(ESCAPE);
    browser.until("!document.getElementById('large').open && location.hash === ''");
    browser.until("document.activeElement === tile('gate').querySelector('a')");
    browser.press(LEFT);
    browser.until("document.activeElement === tile('door').querySelector('a')");
    browser.press(ENTER);
    browser.until("document.getElementById('large').open && location.hash === '#door'");
    // JPEGs come picture by picture where WebRTC has nothing for them.
    browser.until(
        "!video.hidden || (canvas => (seen.get('large') ?? seen.set('large', new Set()).get('large'))
             .add(look(canvas)).size > 3)(document.getElementById('large-canvas'))",
    );
    browser.press("s");
    browser.downloaded("door ");
    browser.until(
        "document.getElementById('addresses').textContent.includes('/cameras/door/snapshot.jpg')",
    );
    for launcher in [gate, others, relay.launcher] {
        launcher.stop();
    }
}

/// A server of another site; every page of it is empty.
fn evil() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        // Browsers open connections before they have anything to ask.
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(|| answer(stream));
        }
    });
    port
}

fn answer(stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
        line.clear();
    }
    let page = "<!doctype html><title>evil</title>";
    let _ = write!(
        reader.into_inner(),
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{page}",
        page.len()
    );
}

#[test]
fn a_hostile_page_reads_and_changes_nothing() {
    let relay = Relay::start();
    let gate = relay.cameras(&["gate"], H264);
    let door = relay.cameras(&["door", "yard"], JPEG);
    let browser = relay.page();
    browser.until("moves('door') && tile('gate').dataset.state === 'live'");

    // A session that a hostile page in another tab may want to end.
    let session = browser.until(
        "(async () => {
             if (window.session) return window.video.currentTime > 0.2 && window.session;
             const peer = new RTCPeerConnection();
             peer.addTransceiver('video', { direction: 'recvonly' });
             window.video = document.createElement('video');
             peer.ontrack = ({ track }) => {
                 window.video.muted = true;
                 window.video.srcObject = new MediaStream([track]);
                 window.video.play();
             };
             await peer.setLocalDescription(await peer.createOffer());
             const offer = peer.localDescription.sdp;
             const response = await fetch('/cameras/gate/whep', {
                 method: 'POST',
                 headers: { 'Content-Type': 'application/sdp' },
                 body: offer,
             });
             await peer.setRemoteDescription({ type: 'answer', sdp: await response.text() });
             window.session = [response.headers.get('Location'), offer];
         })()",
    );
    let tab = browser.open_tab();
    let location = session[0].as_str().expect("a location");
    let offer = &session[1];

    // The relay's own pages, from a site that took over a name of its address.
    let port = relay.page.rsplit(':').next().expect("a port");
    browser.open(&format!("http://evil.test:{port}/"));
    let text = browser.run("return document.body.textContent");
    let text = text.as_str().expect("text");
    assert!(text.contains("not called evil.test"), "{text}");
    for path in [
        "/api/v1/cameras",
        "/cameras/door/snapshot.jpg",
        "/page/page.js",
    ] {
        let read = browser.until(&format!(
            "fetch('{path}').then(answer => String(answer.status))"
        ));
        assert_eq!(read, "421", "{path}");
    }

    let evil = evil();
    for site in ["evil.test", "127.0.0.1"] {
        browser.open(&format!("http://{site}:{evil}/"));
        let page = &relay.page;
        for (what, attempt) in [
            ("reads", format!("fetch('{page}/api/v1/cameras')")),
            (
                "reads a picture",
                format!("fetch('{page}/cameras/door/snapshot.jpg')"),
            ),
            (
                "loads a picture",
                format!("fetch('{page}/cameras/door/snapshot.jpg', {{ mode: 'no-cors' }})"),
            ),
            (
                "shows a picture",
                format!(
                    "new Promise((good, bad) => {{ const image = new Image();
                     image.onload = good; image.onerror = bad;
                     image.src = '{page}/cameras/door/stream.mjpeg'; }})"
                ),
            ),
            (
                "runs a script of the page",
                format!("import('{page}/page/text.js')"),
            ),
            (
                "watches the wall",
                format!(
                    "new Promise((good, bad) => {{
                     const socket = new WebSocket('{}/api/v1/wall');
                     socket.onopen = good; socket.onerror = bad; }})",
                    page.replace("http", "ws")
                ),
            ),
            (
                "starts a session",
                format!(
                    "fetch('{page}/cameras/gate/whep', {{ method: 'POST',
                     headers: {{ 'Content-Type': 'application/sdp' }}, body: {offer} }})"
                ),
            ),
            (
                "starts a session unasked",
                format!(
                    "fetch('{page}/cameras/gate/whep', {{ method: 'POST', mode: 'no-cors',
                     body: {offer} }})"
                ),
            ),
            (
                "ends a session",
                format!("fetch('{page}{location}', {{ method: 'DELETE' }})"),
            ),
        ] {
            let script = format!("{attempt}.then(() => 'done', () => 'refused')");
            assert_eq!(browser.until(&script), "refused", "{site} {what}");
        }
        let framed = browser.framed(page);
        assert!(framed.starts_with("chrome-error:"), "{site}: {framed}");
        let embedded = browser.framed(&format!("{page}/embed/door"));
        assert_eq!(
            embedded,
            format!("{page}/embed/door"),
            "that is what it is for"
        );
    }

    // The session was there all the time.
    browser.go_to_tab(&tab);
    browser.until("window.video.currentTime > 0.2");
    let ended = format!(
        "fetch('{location}', {{ method: 'DELETE' }}).then(answer => String(answer.status))"
    );
    assert_eq!(browser.until(&ended), "200");
    for launcher in [gate, door, relay.launcher] {
        launcher.stop();
    }
}

#[test]
fn a_camera_has_no_name_that_a_page_could_mistake() {
    let relay = Relay::start();
    let name = "<script>document.title='evil'</script>";
    let said = Launcher::start("camera", &relay.deployment(&[name], JPEG)).fails(78);
    assert!(said.contains("name"), "{said}");

    // Nor does the relay take it from somebody who asks by other means.
    gst::init().expect("GStreamer starts");
    gstcamrelay::plugin_register_static().expect("the elements load");
    let (host, port) = relay.cameras.split_once(':').expect("an address");
    let pipeline = format!(
        "videotestsrc is-live=true ! video/x-raw,width=64,height=64 ! jpegenc \
         ! camrelaysink host={host} port={port} camera=\"{name}\""
    );
    use gst::prelude::*;
    let refused = match gst::parse::launch(&pipeline) {
        Err(_) => true,
        Ok(pipeline) => {
            let bus = pipeline.bus().expect("a pipeline has one");
            let started = pipeline.set_state(gst::State::Playing);
            let ends = [gst::MessageType::Error];
            let error = bus.timed_pop_filtered(gst::ClockTime::from_seconds(30), &ends);
            pipeline.set_state(gst::State::Null).expect("it stops");
            started.is_err() || error.is_some()
        }
    };
    assert!(refused);
    let door = relay.cameras(&["door", "yard"], JPEG);
    let browser = relay.page();
    browser.until("moves('door') && document.querySelectorAll('.tile').length === 2");
    assert_eq!(browser.run("return document.title"), "camrelay");
    door.stop();
    relay.launcher.stop();
}
