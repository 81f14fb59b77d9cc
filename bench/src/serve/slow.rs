//! Viewers that do not keep up, on every output of the relay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::viewer::{Output, Watching};
use crate::frame;
use crate::many::{Camera, Relay, name, pictures};
use crate::pipeline::buffers;
use crate::table::{Table, or_dash, percent};

/// Frames a second of both cameras.
const FPS: u64 = 30;
/// How long viewers may take to see pictures.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a viewer settles, its usual delay is looked for, and it is looked at in the end.
const SETTLE: Duration = Duration::from_secs(2);
const BASE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(8);
/// What a throttled viewer takes of what it took before.
const SHARE: f64 = 0.3;
/// The delay beyond the usual one, in milliseconds, at which it counts as back.
const BACK: f64 = 200.0;
/// Viewers that take nothing, and how long they are looked at.
const STALLED: usize = 500;
/// The same over WebRTC, where the path ends: the relay lets 64 watch, one of which sees all.
const CUT_OFF: usize = 63;
const LOOK: Duration = Duration::from_secs(15);
/// How often the memory is looked at.
const ROUND: Duration = Duration::from_millis(250);
const H264: &str = "video/x-h264,stream-format=byte-stream,alignment=au,width=1280,height=720,\
                    framerate=30/1";

/// What came of a throttled viewer; delays in milliseconds beyond the usual one.
struct Outcome {
    rate: f64,
    frames: usize,
    whole: usize,
    median: Option<f64>,
    most: Option<f64>,
    back: Option<Duration>,
}

/// Viewers of all outputs at once take 30 % of what there is for so long, then all: when are they
/// back? Then many at a time take nothing.
pub(super) fn run(relay: &Relay, throttled: Duration) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let sending = cameras(relay.cameras, stop.clone())?;
    let done = throttle(relay, throttled).and_then(|()| stall(relay));
    stop.store(true, Ordering::Relaxed);
    let sent = sending.join();
    done?;
    sent.unwrap_or_else(|_| bail!("the cameras panicked"))
}

fn throttle(relay: &Relay, throttled: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let free: Vec<_> = Output::ALL
        .into_iter()
        .map(|output| Free::start(output, relay, deadline))
        .collect::<anyhow::Result<_>>()?;
    let slow: Vec<_> = Output::ALL
        .into_iter()
        .map(|output| {
            let (viewer, narrowing) = output.open(relay, deadline)?;
            anyhow::Ok(thread::spawn(move || {
                follow(viewer, |rate| narrowing.set(rate), throttled)
            }))
        })
        .collect::<anyhow::Result<_>>()?;
    thread::sleep(SETTLE);
    let seconds = (BASE + throttled + AFTER).as_secs();
    eprintln!("a viewer on each output is throttled: {seconds} s");
    let before = relay.sample()?.memory;
    let mut most = before;
    while slow.iter().any(|one| !one.is_finished()) {
        most = relay.sample()?.memory.max(most);
        thread::sleep(ROUND);
    }
    let mut table = Table::new([
        "",
        "its rate",
        "frames while throttled",
        "whole",
        "later than usual, median",
        "most",
        "within 200 ms again",
        "another viewer missed",
    ]);
    for ((output, slow), free) in Output::ALL.into_iter().zip(slow).zip(free) {
        let outcome = slow
            .join()
            .unwrap_or_else(|_| bail!("a viewer panicked"))
            .with_context(|| output.name())?;
        let ms = |time: f64| format!("{time:.0} ms");
        table.row([
            output.name().into(),
            format!("{:.1} Mbit/s", outcome.rate * 8.0 / 1e6),
            outcome.frames.to_string(),
            percent(outcome.whole as f64 / outcome.frames.max(1) as f64, 0),
            or_dash(outcome.median, ms),
            or_dash(outcome.most, ms),
            outcome.back.map_or_else(
                || format!("not in {} s", AFTER.as_secs()),
                |back| format!("after {:.0} ms", back.as_secs_f64() * 1e3),
            ),
            free.end()?,
        ]);
    }
    println!(
        "A viewer on each output, all at once, that takes {:.0} % of its rate for {} s, and then all. \
         Over WebRTC the path is what is narrow. Memory of the relay: {}.\n\n{table}",
        SHARE * 100.0,
        throttled.as_secs(),
        grown(before, most)
    );
    Ok(())
}

/// What a viewer sees before, while and after it is throttled.
fn follow(
    mut viewer: Box<dyn Watching>,
    narrow: impl Fn(Option<f64>),
    throttled: Duration,
) -> anyhow::Result<Outcome> {
    // Each frame's arrival less its capture, from an origin that is the same.
    let origin = Instant::now();
    let late = |captured: f64| origin.elapsed().as_secs_f64() * 1e3 - captured;
    while origin.elapsed() < SETTLE {
        viewer.next()?;
    }
    let (begin, mut delays, mut bytes) = (Instant::now(), Vec::new(), 0);
    while begin.elapsed() < BASE {
        let seen = viewer.next()?;
        delays.push(late(seen.captured));
        bytes += seen.bytes;
    }
    let rate = bytes as f64 / begin.elapsed().as_secs_f64();
    let usual = median(&mut delays).context("no pictures")?;

    narrow(Some(rate * SHARE));
    let (begin, mut delays, mut whole) = (Instant::now(), Vec::new(), 0);
    while begin.elapsed() < throttled {
        let seen = viewer.next()?;
        delays.push(late(seen.captured) - usual);
        whole += usize::from(seen.whole);
    }
    narrow(None);
    let (begin, mut back) = (Instant::now(), None);
    while begin.elapsed() < AFTER {
        let seen = viewer.next()?;
        if late(seen.captured) - usual > BACK || !seen.whole {
            back = None;
        } else {
            back.get_or_insert(begin.elapsed());
        }
    }
    Ok(Outcome {
        rate,
        frames: delays.len(),
        whole,
        median: median(&mut delays),
        most: delays.last().copied(),
        back,
    })
}

/// Many viewers of each output take nothing at all: what does the relay keep for them?
fn stall(relay: &Relay) -> anyhow::Result<()> {
    let mut table = Table::new([
        "",
        "viewers",
        "memory of the relay",
        "another viewer missed",
    ]);
    for output in Output::ALL {
        let count = if output == Output::WebRtc {
            CUT_OFF
        } else {
            STALLED
        };
        let deadline = Instant::now() + DEADLINE;
        eprintln!("{}: {count} viewers that take nothing", output.name());
        let before = relay.sample()?.memory;
        let mut most = before;
        let free = Free::start(output, relay, deadline)?;
        let mut viewers = Vec::new();
        for _ in 0..count {
            viewers.extend(stalled(output, relay, deadline)?);
            most = relay.sample()?.memory.max(most);
        }
        let begin = Instant::now();
        while begin.elapsed() < LOOK {
            most = relay.sample()?.memory.max(most);
            thread::sleep(ROUND);
        }
        drop(viewers);
        let memory = grown(before, most);
        table.row([output.name().into(), count.to_string(), memory, free.end()?]);
    }
    println!(
        "Viewers that take nothing, of one output at a time. Over WebRTC the path to them carries \
         nothing any more after their first picture:\n\n{table}"
    );
    Ok(())
}

/// A viewer that takes nothing while it is kept. Over UDP nobody can: there the path to it ends,
/// and it goes on saying that it is there.
fn stalled(
    output: Output,
    relay: &Relay,
    deadline: Instant,
) -> anyhow::Result<Option<Box<dyn Watching>>> {
    let (mut viewer, narrowing) = output.open(relay, deadline)?;
    if output != Output::WebRtc {
        return Ok(Some(viewer));
    }
    viewer.next()?;
    narrowing.cut();
    // It ends when it has waited for too long.
    thread::spawn(move || while viewer.next().is_ok() {});
    Ok(None)
}

fn grown(before: u64, most: u64) -> String {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    format!(
        "{:.1} MB before, {:.1} MB at most",
        megabytes(before),
        megabytes(most)
    )
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Another viewer, that takes everything.
struct Free {
    stop: Arc<AtomicBool>,
    counting: JoinHandle<anyhow::Result<(u64, u64)>>,
}

impl Free {
    fn start(output: Output, relay: &Relay, deadline: Instant) -> anyhow::Result<Self> {
        let (mut viewer, _) = output.open(relay, deadline)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let counting = thread::spawn(move || {
            let begin = Instant::now();
            while begin.elapsed() < SETTLE {
                viewer.next()?;
            }
            let first = viewer.next()?.captured;
            let (mut count, mut last) = (1, first);
            while !stops.load(Ordering::Relaxed) {
                let seen = viewer.next()?;
                count += u64::from(seen.whole);
                last = seen.captured;
            }
            let sent = 1 + ((last - first) * FPS as f64 / 1e3).round() as u64;
            Ok((count, sent))
        });
        Ok(Self { stop, counting })
    }

    /// What it missed.
    fn end(self) -> anyhow::Result<String> {
        self.stop.store(true, Ordering::Relaxed);
        let counted = self.counting.join();
        let (count, sent) = counted.unwrap_or_else(|_| bail!("a viewer panicked"))?;
        Ok(format!("{} of {sent}", sent.saturating_sub(count)))
    }
}

/// Sends JPEGs as one camera and H.264 as another until it is told to stop. Of H.264 there is
/// a key frame every ten seconds, and whenever one is asked for.
pub(super) fn cameras(
    port: u16,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    gst::init()?;
    gstcamrelay::plugin_register_static().context("cannot register the camrelay elements")?;
    let jpegs = pictures(true)?;
    let units = units()?;
    let jpeg = Camera::start(
        &name(0),
        "image/jpeg,width=1280,height=720,framerate=30/1",
        port,
    )?;
    let h264 = Camera::start(&name(1), H264, port)?;
    Ok(thread::spawn(move || {
        let mut due = frame::now();
        let mut unit = 0;
        for round in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let wait = due.saturating_sub(frame::now());
            thread::sleep(Duration::from_nanos(wait));
            due += 1_000_000_000 / FPS;
            jpeg.send(&jpegs[round % jpegs.len()])?;
            if h264.takes_key_wish() {
                unit = 0;
            }
            h264.send(&units[unit % units.len()])?;
            unit += 1;
        }
        Ok(())
    }))
}

/// Ten seconds of H.264 that begin with their one key frame.
fn units() -> anyhow::Result<Vec<gst::Buffer>> {
    let text = format!(
        "videotestsrc pattern=zone-plate kx2=20 ky2=20 kt=10 num-buffers={} \
         ! video/x-raw,format=I420,width=1280,height=720,framerate=30/1 \
         ! openh264enc bitrate=4000000 rate-control=bitrate gop-size=1000 complexity=low \
         ! h264parse config-interval=-1 ! {H264} ! appsink name=out sync=false",
        10 * FPS
    );
    buffers(&text)
}
