//! Cameras behind a bottleneck: how their encoders follow it.

use std::time::{Duration, Instant};

use anyhow::Context;
use gst::prelude::*;
use path_emulator::{Conditions, Direction, Proxy, Route};

use crate::cli::RateOptions;
use crate::live::{Camera, FPS, QUALITY};
use crate::table::{Table, ms};
use crate::usage;

/// Frames in this time after the path narrowed may be lost.
const SETTLING: Duration = Duration::from_secs(2);

/// What a camera did in one second.
struct Second {
    quality: i32,
    bits: f64,
    frames: usize,
    /// Queue on the path, in milliseconds.
    queue: f64,
    /// Bits per second; 0 where no limit was met.
    target: f64,
    /// Frames lost, late, and left out or dropped before they were sent, since the start.
    lost: u64,
    late: u64,
    left_out: u64,
}

/// What a camera did since `since`, taken as one second.
fn second(camera: &Camera, since: Instant) -> Second {
    let stats: gst::Structure = camera.sink.property("stats");
    let counter = |name| stats.get::<u64>(name).unwrap_or(0);
    let arrivals = camera.arrivals();
    let first = arrivals.partition_point(|(at, _)| *at < since);
    let came = &arrivals[first..];
    Second {
        quality: camera.encoder.property("quality"),
        bits: came.iter().map(|(_, size)| *size as f64 * 8.0).sum(),
        frames: came.len(),
        queue: stats.get("queue-delay-ms").unwrap_or(0.0),
        target: f64::from(camera.sink.property::<u32>("target-bitrate")),
        lost: counter("frames-lost"),
        late: counter("frames-late"),
        left_out: counter("frames-dropped"),
    }
}

/// A phase: what the path carries, in bits per second, and for how long.
struct Phase {
    rate: u64,
    seconds: u64,
}

/// Measures one camera on a path that narrows and widens, or several that share one.
pub(crate) fn run(options: &RateOptions) -> anyhow::Result<()> {
    gst::init()?;
    gstcamrelay::plugin_register_static().context("cannot register the camrelay elements")?;
    println!("{}\n", usage::machine());
    let phases = match options.cameras {
        1 => vec![
            Phase {
                rate: options.wide,
                seconds: 8,
            },
            Phase {
                rate: options.narrow,
                seconds: 20,
            },
            Phase {
                rate: options.wide,
                seconds: 20,
            },
        ],
        cameras => vec![Phase {
            rate: cameras as u64 * options.narrow,
            seconds: 60,
        }],
    };
    let port = crate::transport::free_port(1)?;
    let path = |rate| Conditions {
        rate,
        queue: options.queue,
        ..Conditions::clean(options.delay)
    };
    let back = Conditions::clean(options.delay);
    let route = Route {
        listen: ([127, 0, 0, 1], 0).into(),
        to: ([127, 0, 0, 1], port).into(),
    };
    let proxy = Proxy::start(&[route], path(phases[0].rate), back, 1)?;
    let through = proxy.addresses()[0].port();
    let cameras = (0..options.cameras)
        .map(|number| Camera::start(&format!("camera-{number}"), port, through));
    let cameras = cameras.collect::<anyhow::Result<Vec<_>>>()?;
    println!(
        "jpegenc quality={QUALITY}, 288x216 at {FPS}/s, through a path of {} each way with a queue of \
         {}; what came each second.\n",
        ms(options.delay),
        ms(options.queue)
    );
    let (seconds, begun) = follow(&cameras, &proxy, &phases, &path)?;
    match cameras.as_slice() {
        [camera] => {
            print_one(&seconds, &phases);
            judge_one(camera, &seconds, &phases, &begun);
        }
        _ => print_many(&seconds),
    }
    Ok(())
}

/// Runs the phases; returns each second of each camera, and when each phase began.
fn follow(
    cameras: &[Camera],
    proxy: &Proxy,
    phases: &[Phase],
    path: &impl Fn(u64) -> Conditions,
) -> anyhow::Result<(Vec<Vec<Second>>, Vec<Instant>)> {
    let (mut seconds, mut begun) = (Vec::new(), Vec::new());
    for phase in phases {
        proxy.set(Direction::There, path(phase.rate));
        let begin = Instant::now();
        begun.push(begin);
        for number in 1..=phase.seconds {
            let end = begin + Duration::from_secs(number);
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
            if let Some(error) = cameras.iter().find_map(Camera::failure) {
                return Err(error);
            }
            let since = end - Duration::from_secs(1);
            seconds.push(cameras.iter().map(|camera| second(camera, since)).collect());
        }
    }
    Ok((seconds, begun))
}

fn mbit(bits: f64) -> String {
    format!("{:.2}", bits / 1e6)
}

fn print_one(seconds: &[Vec<Second>], phases: &[Phase]) {
    let carries = phases
        .iter()
        .flat_map(|phase| (0..phase.seconds).map(|_| phase.rate));
    let mut table = Table::new([
        "second", "path", "target", "came", "frames", "quality", "queue",
    ]);
    for (number, (second, carries)) in seconds.iter().zip(carries).enumerate() {
        let second = &second[0];
        table.row([
            (number + 1).to_string(),
            mbit(carries as f64),
            mbit(second.target),
            mbit(second.bits),
            second.frames.to_string(),
            second.quality.to_string(),
            format!("{:.1} ms", second.queue),
        ]);
    }
    println!("{table}");
}

/// What became of one camera on a path that narrowed and widened.
fn judge_one(camera: &Camera, seconds: &[Vec<Second>], phases: &[Phase], begun: &[Instant]) {
    let [wide, narrow, _] = phases else { return };
    let settled = begun[1] + SETTLING;
    let arrivals = camera.arrivals();
    let came = arrivals
        .iter()
        .filter(|(at, _)| (settled..begun[2]).contains(at))
        .count();
    drop(arrivals);
    let expected = (narrow.seconds - SETTLING.as_secs()) as usize * FPS;
    let back_from = (wide.seconds + narrow.seconds) as usize;
    let back = seconds[back_from..]
        .iter()
        .position(|second| second[0].quality == QUALITY);
    let qualities: Vec<i32> = seconds[wide.seconds as usize + 2..back_from]
        .iter()
        .map(|second| second[0].quality)
        .collect();
    println!(
        "Longest freeze after it narrowed {}, after it widened {}. In the {} s after the first {} s: \
         {came} of {expected} frames, quality {} to {}. Quality {QUALITY} again after {}.",
        ms(camera.freeze(begun[1])),
        ms(camera.freeze(begun[2])),
        narrow.seconds - SETTLING.as_secs(),
        SETTLING.as_secs(),
        qualities.iter().min().unwrap_or(&0),
        qualities.iter().max().unwrap_or(&0),
        back.map_or("never".into(), |seconds| format!("{} s", seconds + 1)),
    );
    let stats: gst::Structure = camera.sink.property("stats");
    println!(
        "Left out or dropped before they were sent: {} frames.",
        stats.get::<u64>("frames-dropped").unwrap_or(0)
    );
}

fn print_many(seconds: &[Vec<Second>]) {
    let last = &seconds[seconds.len() - seconds.len() / 3..];
    let mut table = Table::new([
        "camera",
        "came, Mbit/s",
        "frames a second",
        "quality",
        "lost",
        "late",
        "left out",
    ]);
    let count = last.len() as f64;
    let mut rates = Vec::new();
    for camera in 0..last[0].len() {
        let of = |value: fn(&Second) -> f64| {
            last.iter()
                .map(|second| value(&second[camera]))
                .sum::<f64>()
                / count
        };
        let since = |counter: fn(&Second) -> u64| {
            let (first, end) = (&last[0][camera], &last[last.len() - 1][camera]);
            (counter(end) - counter(first)).to_string()
        };
        rates.push(of(|second| second.bits));
        table.row([
            camera.to_string(),
            mbit(of(|second| second.bits)),
            format!("{:.1}", of(|second| second.frames as f64)),
            format!("{:.0}", of(|second| f64::from(second.quality))),
            since(|second| second.lost),
            since(|second| second.late),
            since(|second| second.left_out),
        ]);
    }
    let (least, most) = rates
        .iter()
        .fold((f64::MAX, 0.0f64), |(least, most), rate| {
            (least.min(*rate), most.max(*rate))
        });
    println!("The last {} seconds:\n\n{table}", last.len());
    println!(
        "The most is {:.1} % above the least.",
        (most / least - 1.0) * 100.0
    );
}
