//! The server with real streams, watched by a client of our own, ffmpeg and GStreamer.

mod abuse;
mod catch_up;
mod client;
mod rights;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use gst::prelude::*;

use self::client::Client;
use super::mount::{Layout, Mount};
use super::{Server, session};
use crate::config::Rtsp;
use crate::relay::feed::Feed;
use crate::relay::feeds::{Feeds, Listeners};
use crate::relay::frame::Codec;
use crate::users::Users;

const JPEG: &str = "videotestsrc is-live=true pattern=ball \
     ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! jpegenc";
/// Key frames only when somebody asks for one.
const H264: &str = "videotestsrc is-live=true pattern=ball \
     ! video/x-raw,width=320,height=240,framerate=30/1 ! openh264enc gop-size=100000 \
     ! h264parse config-interval=-1 \
     ! capsfilter caps=video/x-h264,stream-format=byte-stream,alignment=au";

/// A relay without cameras of its own.
struct Relay {
    feeds: Feeds,
    server: Server,
}

/// A pipeline that feeds one stream; stops when it is dropped.
struct Camera(gst::Pipeline);

impl Relay {
    fn start() -> Self {
        Self::with(Users::new(None, &[]).expect("randomness"), session::TIMEOUT)
    }

    /// A relay with these users, which leaves silent viewers after so many seconds.
    fn with(users: Users, timeout: u64) -> Self {
        Self::of(&rtsp(([127, 0, 0, 1], 0).into()), users, timeout)
    }

    fn of(settings: &Rtsp, users: Users, timeout: u64) -> Self {
        gst::init().expect("GStreamer starts");
        let server = Server::start_with(settings, Arc::new(users), timeout);
        let server = server.expect("a free port");
        let mut listeners = Listeners::default();
        listeners.add(server.listener());
        Self {
            feeds: Feeds::new(listeners),
            server,
        }
    }

    fn feed(&self, name: &str) -> Arc<Feed> {
        let feed = self.feeds.open(name).expect("there is room");
        feed.joined();
        feed
    }

    /// A camera from gst-launch text, once its first frame that viewers can start at is here.
    fn camera(&self, name: &str, text: &str) -> Camera {
        let feed = self.feed(name);
        let camera = Camera::new(&feed, 0, text);
        until("the first frame", || started(&feed, 0));
        camera
    }

    fn describe(&self, camera: &str) -> client::Response {
        self.connect(camera).request("DESCRIBE", "", "")
    }

    fn connect(&self, camera: &str) -> Client {
        Client::connect(self.server.address().socket, camera)
    }

    fn play(&self, camera: &str) -> Client {
        Client::playing(self.server.address().socket, camera)
    }
}

impl Camera {
    fn new(feed: &Arc<Feed>, stream: u16, text: &str) -> Self {
        let pipeline = gst::Pipeline::new();
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        let source = gst::parse::bin_from_description(text, true).expect("good text");
        let sink = feed.stream(stream).expect("a good number").sink();
        pipeline.add(&source).expect("a new element");
        pipeline.add(&sink).expect("a new element");
        source.link(&sink).expect("pads that fit");
        pipeline
            .set_state(gst::State::Playing)
            .expect("the camera starts");
        Self(pipeline)
    }

    /// A camera that sends what [`Camera::push`] is given.
    fn by_hand(feed: &Arc<Feed>) -> Self {
        Self::new(
            feed,
            0,
            "appsrc name=hand format=time is-live=true do-timestamp=true caps=image/jpeg",
        )
    }

    fn push(&self, jpeg: Vec<u8>) {
        let hand = self.0.by_name("hand").and_downcast::<gst_app::AppSrc>();
        hand.expect("a camera by hand")
            .push_buffer(gst::Buffer::from_mut_slice(jpeg))
            .expect("it runs");
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

fn rtsp(listen: SocketAddr) -> Rtsp {
    Rtsp {
        listen,
        ports: None,
        tls: None,
    }
}

fn started(feed: &Arc<Feed>, stream: u16) -> bool {
    feed.stream(stream)
        .is_some_and(|stream| stream.start().is_some())
}

/// Waits for something that no message tells about.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "no {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// One picture from videotestsrc.
fn jpeg(format: &str, width: u32, height: u32) -> Vec<u8> {
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=1 ! video/x-raw,format={format},width={width},height={height} \
         ! jpegenc ! appsink name=sink"
    ))
    .expect("good text")
    .downcast::<gst::Pipeline>()
    .expect("a pipeline");
    pipeline.set_state(gst::State::Playing).expect("it starts");
    let sink = pipeline.by_name("sink").and_downcast::<gst_app::AppSink>();
    let sample = sink.expect("a sink").pull_sample().expect("a picture");
    pipeline.set_state(gst::State::Null).expect("it stops");
    let map = sample.buffer().expect("a buffer").map_readable();
    map.expect("readable").to_vec()
}

/// Decodes `frames` frames with ffmpeg; what it says.
fn ffmpeg(relay: &Relay, camera: &str, transport: &str, frames: u32) -> String {
    ffmpeg_at(&relay.server.address().url(camera), transport, frames)
}

fn ffmpeg_at(url: &str, transport: &str, frames: u32) -> String {
    let output = Command::new("timeout")
        .args(["--kill-after=1", "30", "ffmpeg", "-nostdin", "-hide_banner"])
        .args(["-rtsp_transport", transport, "-i"])
        .arg(url)
        .args(["-map", "0", "-frames:v", &frames.to_string()])
        .args(["-f", "framemd5", "-"])
        .output()
        .expect("ffmpeg runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let decoded = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.starts_with("0,"))
        .count();
    assert_eq!(decoded, frames as usize, "{said}");
    said
}

#[test]
fn jpeg_is_watched_over_tcp_and_udp() {
    let relay = Relay::start();
    let _camera = relay.camera("door", JPEG);
    for transport in ["tcp", "udp"] {
        let said = ffmpeg(&relay, "door", transport, 20);
        assert!(said.contains("Video: mjpeg"), "{said}");
        assert!(said.contains("320x240"), "{said}");
    }
}

#[test]
fn h264_is_watched_over_tcp_and_udp() {
    let relay = Relay::start();
    let _camera = relay.camera("door", H264);
    for transport in ["tcp", "udp"] {
        let said = ffmpeg(&relay, "door", transport, 20);
        assert!(said.contains("Video: h264"), "{said}");
        assert!(said.contains("320x240"), "{said}");
        assert!(!said.contains("error"), "decodes from the first on: {said}");
    }
}

#[test]
fn h265_is_watched_over_tcp_and_udp() {
    let relay = Relay::start();
    let _camera = relay.camera(
        "door",
        "videotestsrc is-live=true pattern=ball \
         ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 \
         ! x265enc tune=zerolatency speed-preset=ultrafast key-int-max=30 \
         ! h265parse config-interval=-1 \
         ! capsfilter caps=video/x-h265,stream-format=byte-stream,alignment=au",
    );
    for transport in ["tcp", "udp"] {
        let said = ffmpeg(&relay, "door", transport, 20);
        assert!(said.contains("Video: hevc"), "{said}");
        assert!(said.contains("320x240"), "{said}");
    }
}

#[test]
fn picture_and_sound_are_watched_together() {
    let relay = Relay::start();
    let feed = relay.feed("door");
    let _pictures = Camera::new(&feed, 0, JPEG);
    let _sound = Camera::new(&feed, 1, "audiotestsrc is-live=true ! opusenc");
    until("picture and sound", || {
        started(&feed, 0) && started(&feed, 1)
    });
    let said = ffmpeg(&relay, "door", "tcp", 10);
    assert!(said.contains("Video: mjpeg"), "{said}");
    assert!(said.contains("Audio: opus"), "{said}");
}

/// The types of the NAL units that a packet starts or is part of (RFC 6184, 5.2).
fn nal_types(payload: &[u8]) -> Vec<u8> {
    match payload[0] & 31 {
        28 => vec![payload[1] & 31],
        24 => {
            let (mut types, mut rest) = (Vec::new(), &payload[1..]);
            while let [high, low, unit @ ..] = rest {
                types.push(unit[0] & 31);
                rest = &unit[u16::from_be_bytes([*high, *low]).into()..];
            }
            types
        }
        kind => vec![kind],
    }
}

#[test]
fn viewers_of_h264_start_at_a_key_frame() {
    const SLICE: u8 = 1;
    const IDR: u8 = 5;
    let relay = Relay::start();
    let _camera = relay.camera("door", H264);
    let mut first = relay.play("door");
    let mut pictures = std::iter::from_fn(|| first.packet())
        .flat_map(|packet| nal_types(packet.payload()))
        .filter(|kind| [SLICE, IDR].contains(kind));
    assert_eq!(pictures.next(), Some(IDR));
    assert_eq!(pictures.filter(|kind| *kind == SLICE).take(20).count(), 20);
    // The encoder makes no key frame by itself: this viewer's request reaches it.
    let mut second = relay.play("door");
    let mut pictures =
        std::iter::from_fn(|| second.packet()).flat_map(|packet| nal_types(packet.payload()));
    assert!(pictures.any(|kind| kind == IDR));
}

#[test]
fn the_newest_picture_is_shown_at_once() {
    let relay = Relay::start();
    let feed = relay.feed("door");
    let camera = Camera::by_hand(&feed);
    camera.push(jpeg("I420", 320, 240));
    until("the frame", || started(&feed, 0));
    // No other frame ever comes, and every viewer still gets this one.
    let mut first = relay.play("door");
    assert!(first.frames(1));
    let mut second = relay.play("door");
    assert!(second.frames(1));
}

#[test]
fn answers_at_once_when_there_is_nothing_to_watch() {
    let relay = Relay::start();
    relay.feed("new");
    let odd = relay.feed("odd");
    let camera = Camera::by_hand(&odd);
    // Too small to be encoded.
    camera.push(jpeg("Y444", 8, 8));
    until("the frame", || started(&odd, 0));
    let raw = relay.camera("raw", "videotestsrc is-live=true");

    let begin = Instant::now();
    assert_eq!(relay.describe("nobody").status, 404);
    assert_eq!(relay.describe("new").status, 503);
    assert_eq!(relay.describe("odd").status, 415);
    assert_eq!(relay.describe("raw").status, 415);
    // Whoever waits for a media waits 20 s.
    assert!(begin.elapsed() < Duration::from_secs(10));
    drop(raw);
}

#[test]
fn names_that_begin_alike_are_told_apart() {
    let relay = Relay::start();
    let _short = relay.camera("cam", JPEG);
    assert_eq!(relay.describe("cam").status, 200);
    assert_eq!(relay.describe("cam2").status, 404);
    let _long = relay.camera("cam2", H264);
    assert!(relay.describe("cam").body.contains("JPEG"));
    assert!(relay.describe("cam2").body.contains("H264"));
}

#[test]
fn viewers_stay_while_the_camera_is_away() {
    let relay = Relay::start();
    for (name, text) in [("jpeg", JPEG), ("h264", H264)] {
        let camera = relay.camera(name, text);
        let mut viewer = relay.play(name);
        assert!(viewer.frames(5));
        drop(camera);
        let feed = relay.feeds.get(name).expect("it is known");
        feed.left();
        assert_eq!(relay.describe(name).status, 200, "the URL stays");
        let passed = feed.stream(0).expect("a stream").counts().frames;
        feed.joined();
        let _camera = Camera::new(&feed, 0, text);
        until("new frames", || {
            feed.stream(0).expect("a stream").counts().frames > passed + 30
        });
        // More than can have waited for it anywhere from before.
        assert!(viewer.frames(20));
    }
}

#[test]
fn who_comes_while_another_codec_does_stays() {
    let relay = Relay::start();
    let camera = relay.camera("door", JPEG);
    let feed = relay.feeds.get("door").expect("it is known");
    let mount = Mount::new(feed.clone());
    let mut before = mount.joined(&mount.layout().expect("pictures"));
    drop(camera);
    let _camera = Camera::new(&feed, 0, H264);
    let is_h264 = |layout: Layout| {
        layout
            .iter()
            .all(|(_, _, frame)| frame.codec == Codec::H264)
    };
    until("H.264", || mount.layout().is_ok_and(is_h264));
    let mut after = mount.joined(&mount.layout().expect("pictures"));
    mount.check();
    assert!(before.changed().now_or_never().is_some());
    assert!(after.changed().now_or_never().is_none());
    mount.close();
    assert!(after.changed().now_or_never().is_some());
}

#[test]
fn another_size_keeps_the_viewers_and_another_codec_does_not() {
    let relay = Relay::start();
    let feed = relay.feed("door");
    let camera = Camera::by_hand(&feed);
    camera.push(jpeg("I420", 320, 240));
    until("the frame", || started(&feed, 0));
    let mut viewer = relay.play("door");
    assert!(viewer.frames(1));
    camera.push(jpeg("I420", 640, 480));
    // Width and height in units of 8 (RFC 2435, 3.1.5 and 3.1.6).
    let found =
        std::iter::from_fn(|| viewer.packet()).any(|packet| packet.payload()[6..8] == [80, 60]);
    assert!(found, "pictures of the new size");
    drop(camera);

    let _camera = Camera::new(&feed, 0, H264);
    while viewer.packet().is_some() {}
    let mut again = relay.play("door");
    assert!(again.frames(5));
    assert!(relay.describe("door").body.contains("H264"));
}

#[test]
fn a_viewer_that_stalls_harms_nobody() {
    let relay = Relay::start();
    let text = JPEG.replace("width=320,height=240", "width=1280,height=720") + " quality=95";
    let _camera = relay.camera("door", &text);
    // Takes nothing at all: what the kernel does not hold waits in the server.
    let _stalled = relay.play("door");
    let mut viewer = relay.play("door");
    let begin = Instant::now();
    assert!(viewer.frames(90));
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn what_one_viewer_asks_for_harms_no_other() {
    let relay = Relay::start();
    let _camera = relay.camera("door", JPEG);
    let mut viewer = relay.play("door");
    assert!(viewer.frames(5));
    for headers in [
        "Range: npt=10-\r\n",
        "Range: npt=5-1\r\nScale: -2\r\n",
        "Scale: 0.000001\r\nSpeed: 1e300\r\n",
        "Scale: nan\r\n",
        "Range: clock=99999999T999999Z-\r\n",
        "Range: smpte=0:0:0-\r\nSpeed: -0\r\n",
    ] {
        let mut other = relay.connect("door");
        other.setup(0);
        let status = other.request("PLAY", "", headers).status;
        assert!(
            [200, 400, 457, 501].contains(&status),
            "{headers}: {status}"
        );
        assert!(viewer.frames(5), "{headers}");
    }
    let mut other = relay.play("door");
    assert!(other.frames(2));
    assert_eq!(other.request("PAUSE", "", "").status, 200);
    assert!(viewer.frames(10));
    assert_eq!(other.request("PLAY", "", "").status, 200);
    assert!(other.frames(5));
    assert_eq!(viewer.request("PAUSE", "", "").status, 200);
    assert!(other.frames(10));
    assert_eq!(viewer.request("TEARDOWN", "", "").status, 200);
    assert!(other.frames(10));
}

#[test]
fn malformed_pictures_are_passed_over() {
    let relay = Relay::start();
    let feed = relay.feed("door");
    let camera = Camera::by_hand(&feed);
    let good = jpeg("I420", 320, 240);
    camera.push(good.clone());
    until("the frame", || started(&feed, 0));
    let mut viewer = relay.play("door");
    assert!(viewer.frames(1));
    for length in [0, 2, 30, 200, good.len() - 2] {
        camera.push(good[..length].to_vec());
    }
    camera.push(jpeg("Y444", 320, 240));
    camera.push(good);
    assert!(viewer.frames(1));
    let counts = feed.stream(0).expect("a stream").counts();
    assert_eq!(counts.malformed, 5);
}

#[test]
fn a_viewer_of_a_camera_that_sends_nothing_good_is_told_why() {
    let relay = Relay::start();
    let feed = relay.feed("door");
    let camera = Camera::by_hand(&feed);
    let good = jpeg("I420", 320, 240);
    for _ in 0..3 {
        camera.push(good[..good.len() - 2].to_vec());
    }
    until("the refusal", || feed.state().name() == "refused");
    let answer = relay.describe("door");
    assert_eq!(answer.status, 503);
    let why = "(it is refused: what it sends is no good JPEG (its end is missing); give ";
    assert!(answer.headers.contains(why), "{}", answer.headers);
    camera.push(good);
    until("the frame", || started(&feed, 0));
    assert!(relay.play("door").frames(1));
    assert_eq!(feed.state().name(), "live");
}

#[test]
fn who_waits_before_playing_begins_with_the_newest_picture() {
    let relay = Relay::start();
    let feed = relay.feed("door");
    let camera = Camera::by_hand(&feed);
    camera.push(jpeg("I420", 320, 240));
    until("the frame", || started(&feed, 0));
    let mut viewer = relay.connect("door");
    viewer.setup(0);
    for _ in 0..20 {
        camera.push(jpeg("I420", 320, 240));
    }
    camera.push(jpeg("I420", 640, 480));
    let newest = || feed.stream(0)?.start()?.size();
    until("the newest", || newest() == Some((640, 480)));
    assert_eq!(viewer.request("PLAY", "", "").status, 200);
    let first = viewer.packet().expect("a packet");
    assert_eq!(first.payload()[6..8], [80, 60], "of the newest size");
}

#[test]
fn both_families_of_addresses_watch_over_tcp_and_udp() {
    let relay = Relay::of(
        &rtsp(([0; 8], 0).into()),
        Users::new(None, &[]).expect("randomness"),
        session::TIMEOUT,
    );
    let _camera = relay.camera("door", JPEG);
    let port = relay.server.address().socket.port();
    for host in ["127.0.0.1", "[::1]"] {
        for transport in ["tcp", "udp"] {
            let url = format!("rtsp://{host}:{port}/door");
            let said = ffmpeg_at(&url, transport, 10);
            assert!(said.contains("Video: mjpeg"), "{url} {transport}: {said}");
        }
    }
}

#[test]
fn viewers_come_and_go() {
    let relay = Relay::start();
    let _camera = relay.camera("door", JPEG);
    for _ in 0..50 {
        let mut viewer = relay.play("door");
        assert!(viewer.frames(1));
    }
    until("end of the last media", || {
        relay.feeds.get("door").expect("it is known").streams()[0]
            .1
            .consumers()
            == 0
    });
}

#[test]
fn says_when_its_port_is_taken() {
    gst::init().expect("GStreamer starts");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = taken.local_addr().expect("it has an address");
    let users = Arc::new(Users::new(None, &[]).expect("randomness"));
    let error = Server::start(&rtsp(address), users)
        .err()
        .expect("the port is taken");
    let said = format!("{error:#}");
    assert!(said.contains(&address.to_string()), "{said}");
    assert!(said.contains("[rtsp]"), "{said}");
}
