//! A camera that is killed and comes back: how soon each way out says so.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use gst::prelude::*;
use serde_json::Value;

use crate::cli::StaleOptions;
use crate::many::Relay;
use crate::many::rtsp::{Player, Way};
use crate::serve::{Browser, Watching};
use crate::table::{Table, ms, or_dash};
use crate::usage;

/// What the camera is called.
const NAME: &str = "door";
/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(30);
/// Live before it is killed, and silent before it is back.
const RUNNING: Duration = Duration::from_secs(3);
/// How often the API is asked.
const ASKED: Duration = Duration::from_millis(5);
/// Live pictures come closer together than placeholders do.
const LIVE: Duration = Duration::from_millis(250);

/// Encoders by what the camera then sends.
const ENCODERS: [(&str, &str); 3] = [
    ("JPEG", "jpegenc"),
    ("H.264", "openh264enc gop-size=100000"),
    (
        "H.265",
        "x265enc key-int-max=100000 tune=zerolatency speed-preset=ultrafast \
         ! h265parse config-interval=-1",
    ),
];

/// A moment at which an output showed the camera live, or not.
type Shown = (Instant, bool);

/// What one output showed, as it came.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Shown>>>);

impl Log {
    fn note(&self, live: bool) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.push((Instant::now(), live));
    }

    /// How long after `since` it first showed that.
    fn first(&self, since: Instant, live: bool) -> Option<Duration> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = log.iter().find(|shown| shown.0 > since && shown.1 == live);
        first.map(|(at, _)| *at - since)
    }

    /// Waits until it shows that, after `since`.
    fn wait(&self, since: Instant, live: bool, what: &str) -> anyhow::Result<Duration> {
        loop {
            if let Some(after) = self.first(since, live) {
                return Ok(after);
            }
            if since.elapsed() > LONGEST {
                bail!("{what} does not show that the camera is {}", word(live));
            }
            thread::sleep(ASKED);
        }
    }
}

fn word(live: bool) -> &'static str {
    if live { "live" } else { "silent" }
}

/// Measures it for each codec.
pub(crate) fn run(options: &StaleOptions) -> anyhow::Result<()> {
    gst::init()?;
    gstcamrelay::plugin_register_static().context("cannot register the camrelay elements")?;
    println!("{}\n", usage::machine());
    println!(
        "A camera of 320x240 at {}/s is killed (SIGKILL), and {} s later another process of its \
         name starts to send. How long it takes until each way out says that there is no picture, \
         and shows one again:\n",
        options.fps,
        RUNNING.as_secs()
    );
    let mut table = Table::new(["camera", "way out", "stale after", "live again after"]);
    for (codec, encoder) in ENCODERS {
        for number in 1..=options.turns {
            eprintln!("{codec}: turn {number} of {}", options.turns);
            let shown = turn(options, encoder)?;
            for (way, stale, live) in shown {
                let cell = |time| or_dash(time, ms);
                table.row([codec.into(), way.into(), cell(stale), cell(live)]);
            }
        }
    }
    println!("{table}");
    Ok(())
}

type Row = (&'static str, Option<Duration>, Option<Duration>);

fn turn(options: &StaleOptions, encoder: &str) -> anyhow::Result<Vec<Row>> {
    let relay = Relay::start(&options.launcher.path()?)?;
    let text = format!(
        "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate={}/1 \
         ! {encoder} ! camrelaysink port={} camera={NAME}",
        options.fps, relay.cameras
    );
    let camera = Camera::start(&text)?;
    let over = Arc::new(AtomicBool::new(false));
    let mut outputs = vec![
        ("API", Log::default()),
        ("wall", Log::default()),
        ("RTSP/TCP", Log::default()),
        ("RTSP/UDP", Log::default()),
    ];
    if encoder.starts_with("jpegenc") {
        outputs.push(("stream.mjpeg", Log::default()));
    }
    if !encoder.starts_with("x265enc") {
        outputs.push(("WebRTC", Log::default()));
    }
    let (viewers, browsers) = (relay.viewers, relay.browsers);
    for (way, log) in &outputs {
        let (way, log, over) = (*way, log.clone(), over.clone());
        // They end with the relay.
        thread::spawn(move || {
            let ended = match way {
                "API" => ask(browsers, &log, &over),
                "wall" => watch_wall(browsers, &log),
                "RTSP/TCP" => watch_rtsp(viewers, Way::Tcp, &log),
                "RTSP/UDP" => watch_rtsp(viewers, Way::Udp, &log),
                "WebRTC" => watch_webrtc(browsers, &log),
                _ => watch_mjpeg(browsers, &log),
            };
            if !over.load(Ordering::Relaxed)
                && let Err(error) = ended
            {
                eprintln!("{way}: {error:#}");
            }
        });
    }
    let begin = Instant::now();
    for (way, log) in &outputs {
        log.wait(begin, true, way)?;
    }
    thread::sleep(RUNNING);
    let killed = Instant::now();
    drop(camera);
    for (way, log) in &outputs {
        log.wait(killed, false, way)?;
    }
    thread::sleep(RUNNING.saturating_sub(killed.elapsed()));
    let back = Instant::now();
    let camera = gst::parse::launch(&text)?;
    camera.set_state(gst::State::Playing)?;
    for (way, log) in &outputs {
        log.wait(back, true, way)?;
    }
    over.store(true, Ordering::Relaxed);
    camera.set_state(gst::State::Null)?;
    let rows = outputs.iter();
    Ok(rows
        .map(|(way, log)| (*way, log.first(killed, false), log.first(back, true)))
        .collect())
}

/// A process that sends; killed when it is dropped.
struct Camera(Child);

impl Camera {
    fn start(text: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let child = command.args(["launch", text]).spawn();
        Ok(Self(child.context("cannot start another process")?))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process of a camera: runs that text until it is killed.
pub(crate) fn launch(text: &str) -> anyhow::Result<()> {
    gst::init()?;
    gstcamrelay::plugin_register_static().context("cannot register the camrelay elements")?;
    let pipeline = gst::parse::launch(text)?;
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().context("no bus")?;
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        if let gst::MessageView::Error(error) = message.view() {
            bail!("{}", error.error());
        }
    }
    Ok(())
}

fn ask(port: u16, log: &Log, over: &AtomicBool) -> anyhow::Result<()> {
    while !over.load(Ordering::Relaxed) {
        let mut connection = get(
            port,
            &format!("/api/v1/cameras/{NAME}"),
            "Connection: close",
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        if let Ok(camera) = serde_json::from_str::<Value>(body) {
            log.note(camera["state"]["name"] == "live");
        }
        thread::sleep(ASKED);
    }
    Ok(())
}

/// What the page does, as far as states matter (RFC 6455).
fn watch_wall(port: u16, log: &Log) -> anyhow::Result<()> {
    let mut connection = get(
        port,
        "/api/v1/wall",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )?;
    skip_head(&mut connection)?;
    loop {
        let mut head = [0; 2];
        connection.read_exact(&mut head)?;
        let mut length = u64::from(head[1] & 0x7f);
        if length >= 126 {
            let mut long = [0; 8];
            let place = if length == 126 { 6 } else { 0 };
            connection.read_exact(&mut long[place..])?;
            length = u64::from_be_bytes(long);
        }
        let mut message = Vec::new();
        (&mut connection).take(length).read_to_end(&mut message)?;
        let news: Value = serde_json::from_slice(&message).unwrap_or_default();
        if let Some(camera) = news["cameras"].get(0) {
            log.note(camera["state"]["name"] == "live");
        }
    }
}

/// The first picture after a pause is a placeholder; they come too seldom to be live ones.
fn watch_rtsp(port: u16, way: Way, log: &Log) -> anyhow::Result<()> {
    let mut player = Player::play(port, NAME, Instant::now() + LONGEST, way)?;
    watch(log, || player.frame().map(|_| ()))
}

/// The same; with JPEG of what the relay encodes.
fn watch_webrtc(port: u16, log: &Log) -> anyhow::Result<()> {
    let deadline = Instant::now() + LONGEST;
    let mut browser = Browser::open(port, NAME, deadline, Duration::ZERO)?;
    watch(log, || browser.next().map(|_| ()))
}

fn watch(log: &Log, mut next: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut last = Instant::now();
    loop {
        next()?;
        let now = Instant::now();
        log.note(now - last < LIVE);
        last = now;
    }
}

fn watch_mjpeg(port: u16, log: &Log) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let mut connection = get(
            port,
            &format!("/cameras/{NAME}/stream.mjpeg"),
            "Accept: */*",
        )?;
        let mut line = Vec::new();
        connection.read_until(b'\n', &mut line)?;
        if !line.windows(5).any(|bytes| bytes == b" 200 ") {
            if begin.elapsed() > LONGEST {
                bail!("there is no stream");
            }
            thread::sleep(ASKED);
            continue;
        }
        skip_head(&mut connection)?;
        // Chunks and pictures are passed over: only the lines between are looked at.
        let mut live = None;
        loop {
            line.clear();
            if connection.read_until(b'\n', &mut line)? == 0 {
                return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into());
            }
            if line.starts_with(b"Content-Type: image/jpeg") {
                live = Some(true);
            } else if line.starts_with(b"x-placeholder") {
                live = Some(false);
            } else if line == b"\r\n"
                && let Some(live) = live.take()
            {
                log.note(live);
            }
        }
    }
}

/// Asks for that; the answer is still to be read.
fn get(port: u16, path: &str, header: &str) -> anyhow::Result<BufReader<TcpStream>> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(LONGEST))?;
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n"
    )?;
    Ok(BufReader::with_capacity(1 << 16, connection))
}

fn skip_head(connection: &mut BufReader<TcpStream>) -> anyhow::Result<()> {
    let mut line = String::new();
    while connection.read_line(&mut line)? > 2 {
        line.clear();
    }
    Ok(())
}
