//! A relay with cameras that send damaged pictures, and a good one beside them.

use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::cli::MutateOptions;
use crate::many::rtsp::{Player, Way};
use crate::many::{Camera, Relay, Tally, mark, pictures};
use crate::mutation::Mutation;
use crate::pipeline::buffers;
use crate::table::Table;
use crate::usage;

/// Frames a second of the good camera.
const GOOD_FPS: u64 = 30;
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / GOOD_FPS);
/// How long the last of them may take to be seen.
const LAST: Duration = Duration::from_secs(5);
/// How long anything may take to begin.
const BEGIN: Duration = Duration::from_secs(20);
/// Damaged frames that are sent in one go.
const BATCH: u64 = 20;
/// Frames of the good camera between two looks at how busy the machine is.
const LOOK: u64 = 5;
/// How busy the machine may be, all processors together.
const BUSY: f64 = 0.8;
/// Damaged frames a second that are sent however busy it is.
const LEAST: f64 = 1000.0;

/// How often it is said how far it is.
const TELLING: Duration = Duration::from_secs(10);

const GOOD: &str = "image/jpeg,width=320,height=240,framerate=0/1";
const JPEG: &str = "image/jpeg,width=64,height=48,framerate=0/1";
const UNITS: &str = "openh264enc ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au";
const H264: &str = "video/x-h264,stream-format=byte-stream,alignment=au,framerate=0/1";

/// Measures it.
pub(crate) fn run(options: &MutateOptions) -> anyhow::Result<()> {
    gst::init()?;
    gstcamrelay::plugin_register_static().context("cannot register the camrelay elements")?;
    println!("{}\n", usage::machine());
    println!(
        "{} mutated JPEGs and {} mutated H.264 units go to one relay, which viewers ask for all \
         the time, so that they are put into packets, re-coded and encoded; a good camera of \
         {GOOD_FPS} frames a second beside them is watched over RTSP/TCP.\n",
        options.jpegs, options.units
    );
    let relay = Relay::start(&options.launcher.path()?)?;
    let good = Camera::start("good", GOOD, relay.cameras)?;
    let (pictures, mark) = (pictures(false)?, mark()?);
    // The viewers end with the program.
    let (counted, counts) = mpsc::channel();
    let port = relay.viewers;
    thread::spawn(move || {
        let mut tally = Tally::default();
        let watched = Player::play(port, "good", Instant::now() + BEGIN, Way::Tcp);
        let ended = watched.and_then(|mut player| {
            player.watch(|frame| {
                if let Some(count) = tally.take(frame) {
                    // Nobody counts any more after an error elsewhere.
                    let _ = counted.send(count);
                }
            })
        });
        eprintln!("the viewer of the good camera ended: {ended:?}");
    });
    for name in ["bad-jpeg", "bad-h264"] {
        thread::spawn(move || ask_for(name, port));
    }
    let deadline = Instant::now() + BEGIN;
    while counts.recv_timeout(INTERVAL).is_err() {
        ensure!(Instant::now() < deadline, "the good camera is not watched");
        good.send(&mark)?;
    }
    // What left before its mark is not to be counted below.
    let dropped_before = good.dropped()?;
    let before = relay.camera("good")?;
    let load = Load::of_at_most(options.fps);
    let begin = Instant::now();
    let mut sent: u64 = 0;
    let left_out = thread::scope(|scope| {
        let jpegs = scope.spawn(|| {
            let formats = ["I420", "Y42B", "Y444", "GRAY8"];
            let pictures = formats.map(|format| encoded("jpegenc", format));
            let pictures: anyhow::Result<Vec<_>> = pictures.into_iter().collect();
            damage(
                "bad-jpeg",
                JPEG,
                &pictures?.concat(),
                options.jpegs,
                (&load, &relay),
            )
        });
        let units = scope.spawn(|| {
            let units = encoded(UNITS, "I420")?;
            damage("bad-h264", H264, &units, options.units, (&load, &relay))
        });
        let mut due = Instant::now();
        while !(jpegs.is_finished() && units.is_finished()) {
            good.send(&pictures[sent as usize % pictures.len()])?;
            sent += 1;
            if sent.is_multiple_of(LOOK) {
                load.follow();
            }
            due += INTERVAL;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let mut left_out = 0;
        for thread in [jpegs, units] {
            left_out += thread
                .join()
                .unwrap_or_else(|_| bail!("a thread panicked"))?;
        }
        anyhow::Ok(left_out)
    })?;
    let dropped = good.dropped()? - dropped_before;
    let after = relay.camera("good")?;
    good.send(&mark)?;
    // What is missing then is lost.
    let mut came = 0;
    while came < sent
        && let Ok(count) = counts.recv_timeout(LAST)
    {
        came += count;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let sample = relay.sample().context("the relay crashed")?;
    println!(
        "It took {seconds:.0} s: {:.0} damaged frames a second of each camera, held to {LEAST} \
         while the machine was busier than {:.0} %; {left_out} of them were left out by the sinks \
         that sent them. The relay runs, with {} MB of memory.\n",
        load.mean(),
        BUSY * 100.0,
        sample.memory >> 20
    );
    report(sent, dropped, came, (&before, &after));
    ensure!(came == sent, "frames of the good camera were lost");
    Ok(())
}

/// What became of the good camera's frames, stage by stage.
fn report(sent: u64, dropped: u64, came: u64, (before, after): (&Value, &Value)) {
    let grown = |place: &str| {
        let count = |camera: &Value| camera.pointer(place).and_then(Value::as_u64);
        count(after).zip(count(before)).map_or_else(
            || "?".into(),
            |(after, before)| (after - before).to_string(),
        )
    };
    let mut table = Table::new(["the good camera", "frames"]);
    for (stage, frames) in [
        ("given to its sink", sent.to_string()),
        ("dropped by its sink", dropped.to_string()),
        ("whole and in time at the relay", grown("/hop/delivered")),
        ("late there", grown("/hop/late")),
        ("lost on the way", grown("/hop/lost")),
        ("repaired", grown("/hop/repaired")),
        ("passed on to viewers", grown("/streams/0/frames")),
        ("dropped for a slow viewer", grown("/streams/0/dropped")),
        ("seen whole", came.to_string()),
    ] {
        table.row([stage.into(), frames]);
    }
    println!("{table}");
    println!(
        "Datagrams of all cameras that came faster than the relay read: {}.",
        grown("/hop/overflow")
    );
}

/// How much load the damaged frames are: what the machine can bear, as what is held up for
/// want of a processor says nothing about the relay.
struct Load {
    most: f64,
    /// Frames a second of each camera.
    now: Mutex<f64>,
    /// Sum of `now`, and of how many.
    past: Mutex<(f64, u32)>,
    /// What the machine had done when this was looked at last.
    done: Mutex<Option<usage::Done>>,
}

impl Load {
    fn of_at_most(fps: u32) -> Self {
        Self {
            most: fps.into(),
            now: Mutex::new(f64::from(fps) / 4.0),
            past: Mutex::default(),
            done: Mutex::default(),
        }
    }

    /// Adapts it to how busy the machine was since this was called before.
    fn follow(&self) {
        let done = usage::done();
        let before = std::mem::replace(&mut *lock(&self.done), done);
        let Some(busy) = before
            .zip(done)
            .and_then(|(before, done)| done.since(before))
        else {
            return;
        };
        let mut now = lock(&self.now);
        let factor = if busy > BUSY { 0.8 } else { 1.05 };
        *now = (*now * factor).clamp(LEAST.min(self.most), self.most);
        let mut past = lock(&self.past);
        *past = (past.0 + *now, past.1 + 1);
    }

    /// How long to wait between two batches.
    fn interval(&self) -> Duration {
        Duration::from_secs_f64(BATCH as f64 / *lock(&self.now))
    }

    fn mean(&self) -> f64 {
        let (sum, count) = *lock(&self.past);
        sum / f64::from(count.max(1))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches that camera, again and again.
fn ask_for(name: &str, port: u16) {
    loop {
        let deadline = Instant::now() + Duration::from_secs(2);
        // It is asked for what cannot be shown, so that it often ends.
        let _ = Player::play(port, name, deadline, Way::Tcp).and_then(|mut one| one.watch(|_| {}));
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sends so many mutations of these frames; how many the sink left out.
fn damage(
    name: &str,
    caps: &str,
    frames: &[gst::Buffer],
    count: u64,
    (load, relay): (&Load, &Relay),
) -> anyhow::Result<u64> {
    let camera = Camera::start(name, caps, relay.cameras)?;
    let originals: Vec<Vec<u8>> = frames
        .iter()
        .map(|frame| Ok(frame.map_readable()?.to_vec()))
        .collect::<anyhow::Result<_>>()?;
    let mut mutation = Mutation::new();
    let mut due = Instant::now();
    let mut told = due;
    for number in 0..count {
        // A whole one now and then, so that viewers have something to start at.
        let mut bytes = originals[number as usize % originals.len()].clone();
        if !number.is_multiple_of(50) {
            mutation.apply(&mut bytes);
        }
        camera.send(&gst::Buffer::from_mut_slice(bytes))?;
        if number.is_multiple_of(BATCH) {
            due = (due + load.interval()).max(Instant::now());
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        if told.elapsed() > TELLING {
            told = Instant::now();
            eprintln!("{name}: {number} of {count} damaged frames");
        }
        if number.is_multiple_of(100_000) {
            relay
                .sample()
                .with_context(|| format!("the relay crashed by frame {number} of {name}"))?;
        }
    }
    camera.dropped()
}

/// A few small pictures through an encoder.
fn encoded(encoder: &str, format: &str) -> anyhow::Result<Vec<gst::Buffer>> {
    let text = format!(
        "videotestsrc pattern=ball num-buffers=10 ! video/x-raw,format={format},width=64,height=48 \
         ! {encoder} ! appsink name=out sync=false"
    );
    buffers(&text)
}
