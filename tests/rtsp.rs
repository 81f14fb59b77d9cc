//! `launcher relay` and `launcher camera`, watched by ffmpeg and GStreamer.

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use support::Launcher;

const JPEG: Codec = Codec {
    encode: "jpegenc quality=90",
    ffmpeg: "Video: mjpeg",
    decode: "rtpjpegdepay ! jpegdec",
};
const H264: Codec = Codec {
    encode: "openh264enc bitrate=2000000 gop-size=30",
    ffmpeg: "Video: h264",
    decode: "rtph264depay ! avdec_h264",
};
/// A picture that stands still, so that what arrives can be compared.
const PICTURE: &str = "videotestsrc is-live=true pattern=smpte75 \
     ! video/x-raw,format=I420,width=640,height=480,framerate=30/1";

struct Codec {
    encode: &'static str,
    /// What ffmpeg calls it.
    ffmpeg: &'static str,
    /// How GStreamer takes it out of RTP.
    decode: &'static str,
}

/// A folder with deployments in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    }

    /// A relay on these loopback ports; 0: the system picks.
    fn relay(&self, cameras: u16, rtsp: u16) -> PathBuf {
        self.write(
            "relay.toml",
            &format!(
                "[relay]\nlisten = \"127.0.0.1:{cameras}\"\n\
                 [rtsp]\nlisten = \"127.0.0.1:{rtsp}\"\n"
            ),
        )
    }

    /// A camera for the relay at that port.
    fn camera(&self, name: &str, codec: &Codec, relay: u16) -> PathBuf {
        let camera = camera(name, codec) + &format!("relay = \"127.0.0.1:{relay}\"\n");
        self.write(&format!("{name}.toml"), &camera)
    }
}

fn camera(name: &str, codec: &Codec) -> String {
    format!(
        "[[camera]]\nname = \"{name}\"\nsource = \"{PICTURE}\"\nencode = \"{}\"\n",
        codec.encode
    )
}

/// The ports of a relay, from what it says.
fn ports(relay: &mut Launcher) -> (u16, u16) {
    let port = |line: String| {
        let digits = line
            .rsplit(':')
            .next()
            .map(|rest| rest.trim_end_matches("/NAME"));
        digits.and_then(|port| port.parse().ok()).expect("a port")
    };
    let cameras = port(relay.said("listening for cameras on "));
    let rtsp = port(relay.said("listening for viewers on "));
    (cameras, rtsp)
}

/// ffmpeg on a camera, decoding `frames` frames.
fn ffmpeg(url: &str, transport: &str, frames: u32, output: &[&str]) -> Child {
    Command::new("timeout")
        .args(["--kill-after=1", "60", "ffmpeg", "-nostdin", "-hide_banner"])
        .args(["-rtsp_transport", transport, "-i", url])
        .args(["-frames:v", &frames.to_string()])
        .args(output)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ffmpeg runs")
}

/// GStreamer on a camera, decoding `frames` frames.
fn gstreamer(url: &str, decode: &str, frames: u32) -> Child {
    let text = format!(
        "rtspsrc location={url} protocols=tcp latency=0 ! {decode} \
         ! fakesink num-buffers={frames}"
    );
    Command::new("timeout")
        .args(["--kill-after=1", "60", "gst-launch-1.0"])
        .args(text.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gst-launch-1.0 runs")
}

fn success(viewer: Child) -> Output {
    let output = viewer.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    // The status of gst-launch also tells of a PAUSE that it sends after its own TEARDOWN.
    let ended = String::from_utf8_lossy(&output.stdout).contains("Got EOS");
    assert!(output.status.success() || ended, "{said}");
    output
}

/// Frames in ffmpeg's list of them.
fn frames(output: &Output) -> usize {
    let list = String::from_utf8_lossy(&output.stdout);
    list.lines().filter(|line| line.starts_with("0,")).count()
}

/// One picture of a few grey pixels.
fn thumbnail(input: &[&str]) -> Vec<u8> {
    let output = Command::new("timeout")
        .args(["--kill-after=1", "60", "ffmpeg", "-nostdin", "-v", "error"])
        .args(input)
        .args([
            "-vf",
            "scale=32:24:flags=area,format=gray",
            "-frames:v",
            "1",
        ])
        .args(["-f", "rawvideo", "-"])
        .output()
        .expect("ffmpeg runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout.len(), 32 * 24, "{said}");
    output.stdout
}

/// What [`PICTURE`] looks like before it is encoded.
fn original(folder: &Path) -> Vec<u8> {
    let raw = folder.join("picture.yuv");
    let text = PICTURE.replace("is-live=true", "num-buffers=1");
    let status = Command::new("gst-launch-1.0")
        .arg("-q")
        .args(text.split_whitespace())
        .args(["!", "filesink", &format!("location={}", raw.display())])
        .status();
    assert!(status.expect("gst-launch-1.0 runs").success());
    let raw = raw.to_str().expect("a plain path");
    let input = [
        "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "640x480", "-i", raw,
    ];
    thumbnail(&input)
}

#[test]
fn three_players_watch_at_once_and_see_what_was_sent() {
    let folder = Folder::new();
    let mut relay = Launcher::start("relay", &folder.relay(0, 0));
    let (cameras, rtsp) = ports(&mut relay);
    let sent = original(folder.0.path());
    for (name, codec) in [("jpeg", JPEG), ("h264", H264)] {
        let file = folder.camera(name, &codec, cameras);
        let camera = Launcher::start("camera", &file);
        let line = relay.said(&format!("camera {name}: watch at "));
        let url = format!("rtsp://127.0.0.1:{rtsp}/{name}");
        assert!(line.contains(&url), "{line}");
        assert!(line.contains("640x480"), "{line}");

        let list = ["-f", "framemd5", "-"];
        let tcp = ffmpeg(&url, "tcp", 60, &list);
        let udp = ffmpeg(&url, "udp", 60, &list);
        let gstreamer = gstreamer(&url, codec.decode, 60);
        for viewer in [tcp, udp] {
            let output = success(viewer);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(codec.ffmpeg), "{said}");
            assert!(said.contains("640x480"), "{said}");
            assert_eq!(frames(&output), 60, "{said}");
        }
        success(gstreamer);

        let seen = thumbnail(&["-rtsp_transport", "tcp", "-i", &url]);
        let worst = sent.iter().zip(&seen).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst < Some(16), "{name}: off by {worst:?} of 255");
        camera.stop();
    }
    relay.stop();
}

#[test]
fn a_camera_that_is_killed_and_a_relay_that_is_killed_come_back() {
    let folder = Folder::new();
    let mut relay = Launcher::start("relay", &folder.relay(0, 0));
    let (cameras, rtsp) = ports(&mut relay);
    let file = folder.camera("door", &JPEG, cameras);
    let camera = Launcher::start("camera", &file);
    relay.said("camera door: watch at ");
    let url = format!("rtsp://127.0.0.1:{rtsp}/door");
    let watch = |frames_wanted: u32| {
        let output = success(ffmpeg(&url, "tcp", frames_wanted, &["-f", "framemd5", "-"]));
        assert_eq!(frames(&output), frames_wanted as usize);
    };
    watch(10);

    // A viewer that stays sees the camera again.
    let mut stays = ffmpeg(&url, "tcp", 10_000, &["-f", "framemd5", "-"]);
    let mut list = support::lines(stays.stdout.take().expect("piped"));
    list.contains("0,");
    camera.kill();
    let camera = Launcher::start("camera", &file);
    relay.said("camera door: watch at ");
    for _ in 0..150 {
        list.contains("0,");
    }
    let _ = stays.kill();
    let _ = stays.wait();

    relay.kill();
    let mut relay = Launcher::start("relay", &folder.relay(cameras, rtsp));
    relay.said("camera door: watch at ");
    watch(10);
    camera.stop();
    relay.stop();
}

#[test]
fn one_file_runs_a_relay_that_lets_in_only_known_cameras_and_its_own() {
    let folder = Folder::new();
    let keys = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_launcher"))
            .arg("keys")
            .args(arguments)
            .current_dir(folder.0.path())
            .output()
            .expect("the launcher runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let add = [
        "add",
        "--relay-key",
        "relay.key",
        "--cameras",
        "cameras.txt",
    ];
    keys(&["relay", "relay.key"]);
    let token = keys(&[&add[..], &["gate"]].concat());
    folder.write("gate.key", &token);
    let file = folder.write(
        "all.toml",
        &("[relay]\nlisten = \"127.0.0.1:0\"\naccept = \"known\"\nkey = \"relay.key\"\n\
             cameras = \"cameras.txt\"\n[rtsp]\nlisten = \"127.0.0.1:0\"\n"
            .to_owned()
            + &camera("own", &JPEG)),
    );
    let mut relay = Launcher::start("relay", &file);
    let (cameras, _) = ports(&mut relay);
    relay.said("camera own: watch at ");

    let gate = folder.camera("gate", &JPEG, cameras);
    let text = fs::read_to_string(&gate).expect("a file");
    let stranger = folder.write("stranger.toml", &text.replace("gate", "stranger"));
    fs::write(&gate, text + "key = \"gate.key\"\n").expect("a file");
    let stranger = Launcher::start("camera", &stranger);
    let known = Launcher::start("camera", &gate);
    relay.said("camera gate: watch at ");

    // The list is followed while the relay runs.
    folder.write("cameras.txt", "");
    relay.said("camera gate: gone: ");
    stranger.stop();
    known.stop();
    relay.stop();
}

#[test]
fn with_a_certificate_every_address_that_is_shown_is_a_secure_one() {
    let folder = Folder::new();
    let pair = ["a.crt", "a.key"].map(|name| folder.0.path().join(name));
    let made = Command::new(env!("CARGO_BIN_EXE_launcher"))
        .args(["keys", "certificate"])
        .args(pair)
        .output();
    assert!(made.expect("it runs").status.success());
    let text = "[relay]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
        [rtsp]\nlisten = \"127.0.0.1:0\"\ncertificate = \"a.crt\"\nprivate-key = \"a.key\"\n";
    let file = folder.write("relay.toml", &(text.to_owned() + &camera("door", &JPEG)));
    let mut relay = Launcher::start("relay", &file);
    let line = relay.said("listening for viewers on ");
    assert!(line.contains(" rtsps://127.0.0.1:"), "{line}");
    let line = relay.said("listening for browsers on ");
    let page = line.split_whitespace().last().expect("an address");
    let line = relay.said("camera door: watch at ");
    let url = line.split_whitespace().find(|word| word.contains("://"));
    let url = url.expect("an address");
    assert!(url.starts_with("rtsps://127.0.0.1:"), "{line}");

    let status = Command::new(env!("CARGO_BIN_EXE_launcher"))
        .args(["status", "--json", "--url", page])
        .output();
    let json = status.expect("it runs").stdout;
    let cameras: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(cameras[0]["urls"]["rtsp"], url);
    assert!(
        !String::from_utf8_lossy(&json).contains("rtsp://"),
        "{cameras}"
    );
    let output = success(ffmpeg(url, "tcp", 10, &["-f", "framemd5", "-"]));
    assert_eq!(frames(&output), 10);
    relay.stop();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = Folder::new();
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = taken.local_addr().expect("it has an address").port();
    let file = folder.relay(0, port);
    let relay = Launcher::start("relay", &file);
    let said = relay.fails(1);
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
    assert!(said.contains("choose another port"), "{said}");
    assert!(said.lines().count() <= 2, "{said}");

    let taken = std::net::UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    let port = taken.local_addr().expect("it has an address").port();
    let relay = Launcher::start("relay", &folder.relay(port, 0));
    let said = relay.fails(1);
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
    assert!(said.contains("choose another port"), "{said}");
}
