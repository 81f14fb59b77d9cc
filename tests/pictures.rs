//! Every kind of JPEG through a running relay, and what viewers see of a camera that
//! falls silent or that a worker encodes.

#[path = "../launcher/src/relay/mutation.rs"]
mod mutation;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use gst::prelude::*;
use support::Launcher;

/// What a step may take; only ever reached when a test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// A relay on ports that the system picks.
struct Relay {
    launcher: Launcher,
    folder: tempfile::TempDir,
    cameras: u16,
    rtsp: u16,
}

impl Relay {
    fn start() -> Self {
        Self::with(|_| {})
    }

    /// The same, with what `prepare` does to the command.
    fn with(prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("relay.toml");
        let text = "[relay]\nlisten = \"127.0.0.1:0\"\n[rtsp]\nlisten = \"127.0.0.1:0\"\n";
        fs::write(&file, text).expect("a file");
        let mut launcher = Launcher::with("relay", &file, prepare);
        let port = |line: String| {
            let digits = line.rsplit(':').next().expect("a port");
            digits.trim_end_matches("/NAME").parse().expect("a port")
        };
        let cameras = port(launcher.said("listening for cameras on "));
        let rtsp = port(launcher.said("listening for viewers on "));
        Self {
            launcher,
            folder,
            cameras,
            rtsp,
        }
    }

    fn url(&self, camera: &str) -> String {
        format!("rtsp://127.0.0.1:{}/{camera}", self.rtsp)
    }

    /// A camera that the launcher runs, white all over.
    fn camera(&self, name: &str, encode: &str) -> Launcher {
        let file = self.folder.path().join(format!("{name}.toml"));
        let text = format!(
            "[[camera]]\nname = \"{name}\"\nrelay = \"127.0.0.1:{}\"\nencode = \"{encode}\"\n\
             source = \"videotestsrc is-live=true pattern=white \
             ! video/x-raw,format=I420,width=320,height=240,framerate=30/1\"\n",
            self.cameras
        );
        fs::write(&file, text).expect("a file");
        Launcher::start("camera", &file)
    }

    /// A camera that sends one picture ten times a second.
    fn shows(&self, name: &str, picture: &Path) -> Still {
        let bytes = fs::read(picture).expect("a file");
        self.sends(name, 10, move || bytes.clone())
    }

    /// A camera that sends so many pictures a second.
    fn sends(&self, name: &str, fps: u32, next: impl FnMut() -> Vec<u8> + Send + 'static) -> Still {
        gst::init().expect("GStreamer starts");
        gstcamrelay::plugin_register_static().expect("the elements load");
        // The pictures of a live source, each with its bytes exchanged for these.
        let text = format!(
            "videotestsrc is-live=true ! video/x-raw,width=16,height=16,framerate={fps}/1 \
             ! capssetter join=false replace=true caps=image/jpeg,framerate={fps}/1 ! identity name=exchange \
             ! camrelaysink host=127.0.0.1 port={} camera={name}",
            self.cameras
        );
        let pipeline = gst::parse::launch(&text).expect("good text");
        let bin = pipeline.clone().downcast::<gst::Bin>().expect("a bin");
        let exchange = bin.by_name("exchange").expect("it is there");
        let next = std::sync::Mutex::new(next);
        let pad = exchange.static_pad("src").expect("a pad");
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(old) = info.buffer() {
                let bytes = next.lock().expect("nobody panicked")();
                let mut buffer = gst::Buffer::from_slice(bytes);
                buffer.make_mut().set_pts(old.pts());
                info.data = Some(gst::PadProbeData::Buffer(buffer));
            }
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).expect("it starts");
        Still(pipeline)
    }
}

struct Still(gst::Element);

impl Drop for Still {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// ffmpeg with these arguments; what it writes and says.
fn ffmpeg(arguments: &[&str]) -> (bool, Vec<u8>, String) {
    let output = Command::new("timeout")
        .args(["--kill-after=1", "60", "ffmpeg", "-nostdin", "-hide_banner"])
        .args(arguments)
        .output()
        .expect("ffmpeg runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), output.stdout, said)
}

/// The hash of the first decoded picture.
fn hash(input: &[&str]) -> String {
    let list = ["-frames:v", "1", "-f", "framemd5", "-"];
    let (good, list, said) = ffmpeg(&[input, &list].concat());
    assert!(good, "{said}");
    let list = String::from_utf8_lossy(&list).into_owned();
    let last = list
        .lines()
        .last()
        .and_then(|line| line.rsplit(", ").next());
    last.expect("a frame").to_owned()
}

/// How a picture comes to a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// As it is, or with other Huffman tables: pixel by pixel the same.
    Same,
    /// As H.264.
    Encoded,
}

/// A moving test picture, encoded by ffmpeg.
fn by_ffmpeg(size: &str, arguments: &[&str]) -> Vec<u8> {
    let source = format!("testsrc2=s={size}");
    let input = [
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        &source,
        "-frames:v",
        "1",
    ];
    let output = ["-c:v", "mjpeg", "-f", "image2pipe", "-"];
    let (good, picture, said) = ffmpeg(&[&input, arguments, &output].concat());
    assert!(good, "{said}");
    picture
}

/// The same by GStreamer.
fn by_gstreamer(format: &str) -> Vec<u8> {
    let samples = {
        gst::init().expect("GStreamer starts");
        let text = format!(
            "videotestsrc num-buffers=1 ! video/x-raw,format={format},width=320,height=240 \
             ! jpegenc ! appsink name=sink sync=false"
        );
        let pipeline = gst::parse::launch(&text).expect("good text");
        let pipeline = pipeline.downcast::<gst::Pipeline>().expect("a pipeline");
        let sink = pipeline.by_name("sink").and_downcast::<gst_app::AppSink>();
        pipeline.set_state(gst::State::Playing).expect("it starts");
        let sample = sink.expect("a sink").pull_sample().expect("a picture");
        pipeline.set_state(gst::State::Null).expect("it stops");
        sample
    };
    let map = samples.buffer().expect("a buffer").map_readable();
    map.expect("readable").to_vec()
}

/// `picture` without the headers of that marker, as webcams leave out Huffman tables.
fn without(picture: &[u8], marker: u8) -> Vec<u8> {
    let mut kept = picture[..2].to_vec();
    let mut rest = &picture[2..];
    while rest[1] != 0xda {
        let length = 2 + usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        if rest[1] != marker {
            kept.extend(&rest[..length]);
        }
        rest = &rest[length..];
    }
    kept.extend(rest);
    kept
}

/// Pictures by name, and how they come.
fn corpus() -> Vec<(&'static str, Vec<u8>, Comes)> {
    let stored = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/jpegs");
        fs::read(folder.join(name)).expect("it is there")
    };
    let ffmpeg = |size, arguments: &[&str]| by_ffmpeg(size, arguments);
    let typical = ["-huffman", "default", "-pix_fmt", "yuvj420p"];
    let restarts = [&typical[..], &["-slices", "4", "-threads", "4"]].concat();
    let uvc = without(&by_gstreamer("Y42B"), 0xc4);
    vec![
        ("420", by_gstreamer("I420"), Comes::Same),
        ("422", by_gstreamer("Y42B"), Comes::Same),
        ("uvc", uvc, Comes::Same),
        ("restarts", ffmpeg("320x240", &restarts), Comes::Same),
        (
            "optimised",
            ffmpeg("320x240", &["-pix_fmt", "yuvj420p", "-huffman", "optimal"]),
            Comes::Same,
        ),
        (
            "tall-422",
            ffmpeg("320x240", &["-pix_fmt", "yuvj422p"]),
            Comes::Encoded,
        ),
        ("444", by_gstreamer("Y444"), Comes::Encoded),
        ("grey", by_gstreamer("GRAY8"), Comes::Encoded),
        ("progressive", stored("progressive.jpg"), Comes::Encoded),
        ("three-tables", stored("three-tables.jpg"), Comes::Encoded),
        ("odd", ffmpeg("333x241", &typical), Comes::Encoded),
        ("large", ffmpeg("3840x2160", &typical), Comes::Encoded),
    ]
}

#[test]
fn every_jpeg_plays_in_ffmpeg_and_gstreamer() {
    let mut relay = Relay::start();
    for (name, picture, comes) in corpus() {
        let file = relay.folder.path().join(format!("{name}.jpg"));
        fs::write(&file, &picture).expect("a file");
        let camera = relay.shows(name, &file);
        let line = relay.launcher.said(&format!("camera {name}: watch at "));
        let encoded = line.contains("as H.264, encoded");
        assert_eq!(encoded, comes == Comes::Encoded, "{line}");
        let recoded = line.contains(" re-coded without loss");
        assert_eq!(recoded, name == "optimised", "{line}");

        let url = relay.url(name);
        let tcp = ["-rtsp_transport", "tcp", "-i", &url];
        let (good, list, said) =
            ffmpeg(&[&tcp[..], &["-frames:v", "5", "-f", "framemd5", "-"]].concat());
        assert!(good, "{name}: {said}");
        let list = String::from_utf8_lossy(&list).into_owned();
        let frames = list.lines().filter(|line| line.starts_with("0,")).count();
        assert_eq!(frames, 5, "{name}: {said}");
        let codec = match comes {
            Comes::Same => "Video: mjpeg",
            Comes::Encoded => "Video: h264",
        };
        assert!(said.contains(codec), "{name}: {said}");
        if comes == Comes::Same {
            let sent = hash(&["-i", file.to_str().expect("a plain path")]);
            assert_eq!(hash(&tcp), sent, "{name}: pixel by pixel");
        }
        let played = Command::new("timeout")
            .args(["--kill-after=1", "60", "gst-launch-1.0", "rtspsrc"])
            .args([
                &format!("location={url}"),
                "protocols=tcp",
                "latency=0",
                "!",
            ])
            .args(["decodebin", "!", "fakesink", "num-buffers=3"])
            .output()
            .expect("gst-launch-1.0 runs");
        // Its status also tells of a PAUSE that it sends after its own TEARDOWN.
        let said = String::from_utf8_lossy(&played.stdout);
        assert!(said.contains("Got EOS"), "{name}: {played:?}");
        drop(camera);
    }
    relay.launcher.stop();
}

#[test]
fn a_truncated_jpeg_is_refused_with_a_sentence() {
    let mut relay = Relay::start();
    let whole = by_gstreamer("I420");
    let file = relay.folder.path().join("cut.jpg");
    fs::write(&file, &whole[..whole.len() / 2]).expect("a file");
    let _camera = relay.shows("cut", &file);
    relay
        .launcher
        .said("camera cut: a frame is no good JPEG (its end is missing)");
    // What a viewer is told, once more than the first of them came.
    let begin = Instant::now();
    let why =
        "refused: what it sends is no good JPEG (its end is missing); give camrelaysink one whole";
    loop {
        let (good, _, said) = ffmpeg(&["-i", &relay.url("cut"), "-f", "null", "-"]);
        assert!(!good && said.contains("503"), "{said}");
        if said.contains(why) {
            break;
        }
        assert!(begin.elapsed() < DEADLINE, "{said}");
    }
    relay.launcher.stop();
}

/// A viewer that stays: ffmpeg, and how bright each picture is that it sees.
struct Viewer {
    ffmpeg: Child,
    brightness: ChildStdout,
}

impl Viewer {
    fn watch(url: &str) -> Self {
        let mut ffmpeg = Command::new("timeout")
            .args(["--kill-after=1", "120", "ffmpeg", "-nostdin", "-v", "error"])
            .args(["-fflags", "nobuffer", "-rtsp_transport", "tcp", "-i", url])
            .args([
                "-vf",
                "scale=1:1:flags=area,format=gray",
                "-fps_mode",
                "passthrough",
            ])
            .args(["-f", "rawvideo", "-flush_packets", "1", "-"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("ffmpeg runs");
        let brightness = ffmpeg.stdout.take().expect("piped");
        Self { ffmpeg, brightness }
    }

    /// Waits for a picture that is so bright; it must not be disconnected.
    #[track_caller]
    fn sees(&mut self, what: &str, wanted: impl Fn(u8) -> bool) {
        let mut byte = [0];
        loop {
            self.brightness.read_exact(&mut byte).expect(what);
            if wanted(byte[0]) {
                return;
            }
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.ffmpeg.kill();
        let _ = self.ffmpeg.wait();
    }
}

const JPEG: (&str, &str) = ("jpeg", "jpegenc");
const H264: (&str, &str) = ("h264", "openh264enc gop-size=100000");
const H265: (&str, &str) = (
    "h265",
    "x265enc key-int-max=100000 tune=zerolatency speed-preset=ultrafast",
);

/// How far behind others a process stands for processor time (proc_pid_stat(5), `nice`).
fn niceness(process: u32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // The name of the program, in parentheses, may hold spaces.
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let nice = fields.split(' ').nth(16).expect("19 fields");
    nice.parse().expect("a number")
}

#[test]
fn viewers_that_stay_see_a_placeholder_until_the_camera_is_back() {
    for (name, encode) in [JPEG, H264, H265] {
        let mut relay = Relay::start();
        let camera = relay.camera(name, encode);
        relay.launcher.said(&format!("camera {name}: watch at "));
        let mut viewer = Viewer::watch(&relay.url(name));
        viewer.sees("the white picture", |bright| bright > 200);
        for _ in 0..30 {
            viewer.sees("more of it", |_| true);
        }
        camera.kill();
        viewer.sees("it dimmed", |bright| (60..160).contains(&bright));
        // On a busy machine it would be seen late else.
        let niceness = niceness(relay.launcher.id());
        for worker in relay.launcher.workers() {
            assert_eq!(self::niceness(worker), niceness, "it comes after others");
        }
        viewer.sees("it dimmed, again", |bright| (60..160).contains(&bright));
        let camera = relay.camera(name, encode);
        viewer.sees("the white picture again", |bright| bright > 200);
        for _ in 0..30 {
            viewer.sees("more of it", |bright| bright > 200);
        }
        drop(viewer);
        camera.stop();
        relay.launcher.stop();
    }
}

/// GStreamer's plugins, but for the one with that file.
fn plugins_without(file: &str) -> tempfile::TempDir {
    gst::init().expect("GStreamer starts");
    let registry = gst::Registry::get();
    let core = registry.find_plugin("coreelements").expect("it is there");
    let core = core.filename().expect("it is a file");
    let folder = tempfile::tempdir().expect("a folder");
    for plugin in fs::read_dir(core.parent().expect("a folder")).expect("a folder") {
        let plugin = plugin.expect("a file");
        if plugin.file_name() != file {
            let link = folder.path().join(plugin.file_name());
            std::os::unix::fs::symlink(plugin.path(), link).expect("a link");
        }
    }
    folder
}

#[test]
fn without_an_encoder_for_a_placeholder_viewers_keep_the_last_picture() {
    let plugins = plugins_without("libgstx265.so");
    let (name, encode) = H265;
    let mut relay = Relay::with(|command| {
        command
            .env("GST_PLUGIN_SYSTEM_PATH", plugins.path())
            .env("GST_REGISTRY", plugins.path().join("registry.bin"));
    });
    let camera = relay.camera(name, encode);
    relay.launcher.said(&format!("camera {name}: watch at "));
    let mut viewer = Viewer::watch(&relay.url(name));
    viewer.sees("the white picture", |bright| bright > 200);
    camera.kill();
    let words = format!("camera {name}: viewers see its last picture as it was, no placeholder");
    relay.launcher.said(&words);
    // Whoever stays sees nothing but the camera, when it is back.
    let camera = relay.camera(name, encode);
    for _ in 0..30 {
        viewer.sees("the white picture", |bright| {
            assert!(bright > 200, "{bright}");
            true
        });
    }
    drop(viewer);
    camera.stop();
    relay.launcher.stop();
}

#[test]
fn a_worker_that_dies_is_replaced_and_one_that_nobody_needs_ends() {
    let mut relay = Relay::start();
    let file = relay.folder.path().join("picture.jpg");
    fs::write(&file, by_gstreamer("Y444")).expect("a file");
    let _camera = relay.shows("door", &file);
    relay.launcher.said("camera door: watch at ");
    assert_eq!(relay.launcher.workers(), [0_u32; 0], "nobody watches");

    let mut viewer = Viewer::watch(&relay.url("door"));
    viewer.sees("a picture", |_| true);
    for _ in 0..2 {
        let running = relay.launcher.workers();
        assert_eq!(running.len(), 1, "{running:?}");
        let killed = Command::new("kill")
            .args(["-9", &running[0].to_string()])
            .status();
        assert!(killed.expect("kill runs").success());
        relay.launcher.said("another one is started");
        for _ in 0..20 {
            viewer.sees("pictures again", |_| true);
        }
    }
    drop(viewer);
    let begin = Instant::now();
    while !relay.launcher.workers().is_empty() {
        assert!(begin.elapsed().as_secs() < 60, "it goes on");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    relay.launcher.stop();
}

/// A worker whose pipes are here.
fn worker() -> Child {
    Command::new(env!("CARGO_BIN_EXE_launcher"))
        .arg("worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs")
}

#[test]
fn a_worker_ends_when_nobody_hears_it() {
    let mut worker = worker();
    // As after the relay was killed; but what it wrote last goes on and on.
    drop(worker.stdout.take());
    let mut pipe = worker.stdin.take().expect("piped");
    let picture = by_gstreamer("I420");
    let writing = std::thread::spawn(move || {
        let mut tell = |header: String, body: &[u8]| {
            let lengths = [header.len(), body.len()].map(|length| (length as u32).to_be_bytes());
            pipe.write_all(&[lengths.as_flattened(), header.as_bytes(), body].concat())
        };
        let encode =
            r#"{"Encode":{"inter":false,"width":320,"height":240,"bits":1000000,"strict":false}}"#;
        let mut told = tell(encode.into(), &[]);
        for number in 0_u64.. {
            if told.is_err() {
                break;
            }
            let time = number * 33_000_000;
            let header = format!("{{\"Picture\":{{\"time\":{time},\"key\":false}}}}");
            told = tell(header, &picture);
        }
    });
    let begin = Instant::now();
    while worker.try_wait().expect("it is there").is_none() {
        if begin.elapsed().as_secs() > 60 {
            let _ = worker.kill();
            let _ = worker.wait();
            panic!("it goes on");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    writing.join().expect("it ends");
}

/// Access units of a moving picture of 640x480.
fn units() -> Vec<Vec<u8>> {
    gst::init().expect("GStreamer starts");
    let pipeline = gst::parse::launch(
        "videotestsrc pattern=ball num-buffers=40 ! video/x-raw,format=I420,width=640,height=480 \
         ! openh264enc gop-size=300 ! h264parse config-interval=-1 \
         ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=end sync=false",
    );
    let pipeline = pipeline.expect("good text").downcast::<gst::Pipeline>();
    let pipeline = pipeline.expect("a pipeline");
    let end = pipeline.by_name("end").and_downcast::<gst_app::AppSink>();
    let end = end.expect("an appsink");
    pipeline.set_state(gst::State::Playing).expect("it starts");
    let units = std::iter::from_fn(|| end.pull_sample().ok()).map(|sample| {
        let unit = sample.buffer().expect("a unit");
        unit.map_readable().expect("memory").to_vec()
    });
    let units = units.collect();
    pipeline.set_state(gst::State::Null).expect("it stops");
    units
}

#[test]
fn a_worker_makes_h264_smaller_and_keeps_nothing_back() {
    let mut worker = worker();
    let mut requests = worker.stdin.take().expect("piped");
    let mut replies = worker.stdout.take().expect("piped");
    let (tell, told) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        let mut lengths = [0; 8];
        while replies.read_exact(&mut lengths).is_ok() {
            let [header, body] = [0, 4].map(|at| {
                let length = lengths[at..at + 4].try_into().expect("four");
                vec![0; u32::from_be_bytes(length) as usize]
            });
            let mut message = [header, body];
            for part in &mut message {
                replies.read_exact(part).expect("the rest");
            }
            let [header, body] = message;
            let header = String::from_utf8(header).expect("JSON");
            tell.send((header, body)).expect("somebody listens");
        }
    });
    let mut ask = |header: String, body: &[u8]| {
        let lengths = [header.len(), body.len()].map(|length| (length as u32).to_be_bytes());
        let message = [lengths.as_flattened(), header.as_bytes(), body].concat();
        requests.write_all(&message).expect("it listens");
    };
    let encode =
        r#"{"Encode":{"inter":true,"width":320,"height":240,"bits":400000,"strict":true}}"#;
    ask(encode.into(), &[]);
    let mut made = Vec::new();
    for (number, unit) in units().iter().enumerate() {
        let time = number * 33_000_000;
        // One that is asked for, and the first.
        let key = number == 20;
        ask(
            format!(r#"{{"Picture":{{"time":{time},"key":{key}}}}}"#),
            unit,
        );
        // The next is not given before this one has come back.
        let reply = told.recv_timeout(Duration::from_secs(60));
        let (header, unit) = reply.expect("a reply");
        let key = key || number == 0;
        let unit_of = format!(r#"{{"Unit":{{"time":{time},"key":{key}}}}}"#);
        assert_eq!(header, unit_of);
        made.extend(unit);
    }
    drop(requests);
    reading.join().expect("it ends");
    worker.wait().expect("it ends");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("made.h264");
    fs::write(&file, made).expect("a file");
    let file = file.to_str().expect("a path");
    let (played, _, said) = ffmpeg(&["-i", file, "-f", "null", "-"]);
    assert!(played && said.contains("320x240"), "{said}");
}

#[test]
fn damaged_pictures_harm_neither_the_relay_nor_a_good_camera() {
    let mut relay = Relay::start();
    let good = relay.camera("good", "jpegenc");
    relay.launcher.said("camera good: watch at ");
    let mut viewer = Viewer::watch(&relay.url("good"));
    viewer.sees("the white picture", |bright| bright > 200);

    let mut mutation = mutation::Mutation::new();
    let originals = ["I420", "Y444", "GRAY8"].map(by_gstreamer);
    let (finished, finish) = std::sync::mpsc::channel();
    let mut count = 0;
    let bad = relay.sends("bad", 500, move || {
        let mut bytes = originals[count % originals.len()].clone();
        count += 1;
        if count == 2500 {
            let _ = finished.send(());
        }
        if !count.is_multiple_of(20) {
            mutation.apply(&mut bytes);
        }
        bytes
    });
    relay.launcher.said("camera bad: ");
    // It sees whatever it makes of that.
    let watching = Viewer::watch(&relay.url("bad"));
    finish
        .recv_timeout(Duration::from_secs(60))
        .expect("all are sent");
    for _ in 0..30 {
        viewer.sees("the good camera", |bright| bright > 200);
    }
    drop(bad);
    drop(watching);
    drop(viewer);
    good.stop();
    relay.launcher.stop();
}
