//! A relay with many cameras, each watched once.

mod cameras;
mod relay;
pub(crate) mod rtsp;
mod tally;
mod viewers;

use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

pub(crate) use cameras::{Camera, mark, pictures, send_many};
pub(crate) use relay::{Relay, Sample};
pub(crate) use tally::Tally;
pub(crate) use viewers::watch_many;

use crate::cli::ManyOptions;
use crate::process::Process;
use crate::table::{Table, percent};
use crate::usage;

/// How often the relay is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How many of those looks are one row of the table.
const ROW: usize = 15;

/// The cameras of one process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Cameras {
    pub(crate) count: usize,
    /// Frames a second of each.
    pub(crate) fps: u32,
    /// Of 1280x720, else of 320x240.
    pub(crate) large: bool,
}

impl Cameras {
    /// The caps of their pictures.
    pub(crate) fn caps(&self) -> &'static str {
        match self.large {
            true => "image/jpeg,width=1280,height=720,framerate=0/1",
            false => "image/jpeg,width=320,height=240,framerate=0/1",
        }
    }
}

/// What the process of the cameras is told: send so many frames of each camera between two marks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    frames: u32,
}

/// What it then says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Those that the sinks dropped.
    dropped: u64,
}

/// What the process of the viewers is told: how many frames of each camera to count.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Expected {
    frames: u32,
}

/// What the process of the viewers says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromViewers {
    /// Every camera is watched and shows pictures.
    Watching { after: Duration },
    /// Whole frames that came between marks, camera by camera.
    Counts(Vec<u64>),
}

/// What a camera is called.
pub(crate) fn name(camera: usize) -> String {
    format!("camera-{camera}")
}

/// Measures it.
pub(crate) fn run(options: &ManyOptions) -> anyhow::Result<()> {
    usage::raise_file_limit();
    println!("{}\n", usage::machine());
    println!(
        "{} cameras of 320x240 JPEG at {}/s, encoded beforehand and sent by one process, to one \
         relay; each watched once over RTSP/TCP by a client in another process that counts whole \
         frames.\n",
        options.cameras, options.fps
    );
    let settings = Cameras {
        count: options.cameras,
        fps: options.fps,
        large: false,
    };
    let relay = Relay::start(&options.launcher.path()?)?;
    let mut cameras = Process::start("cameras", &settings, Some(relay.cameras))?;
    let mut viewers = Process::start("viewers", &settings, Some(relay.viewers))?;
    let FromViewers::Watching { after } = viewers.read()? else {
        bail!("the viewers skipped their beginning");
    };
    println!(
        "All cameras are watched {:.1} s after the start.\n",
        after.as_secs_f64()
    );
    let frames = options.seconds * options.fps;
    cameras.tell(&Order { frames })?;
    let mut samples = vec![relay.sample()?];
    let Sent { dropped } = std::thread::scope(|scope| {
        let sending = scope.spawn(|| cameras.read::<Sent>());
        while !sending.is_finished() {
            std::thread::sleep(LOOK);
            samples.push(relay.sample()?);
        }
        sending
            .join()
            .unwrap_or_else(|_| bail!("a thread panicked"))
    })?;
    viewers.tell(&Expected { frames })?;
    let FromViewers::Counts(came) = viewers.read().context("the viewers do not answer")? else {
        bail!("the viewers did not count");
    };
    report_relay(&samples);
    report_frames(options, frames, dropped, &came);
    Ok(())
}

fn report_relay(samples: &[Sample]) {
    let mut table = Table::new(["time", "memory of the relay", "threads", "CPU since"]);
    let mut last: Option<&Sample> = None;
    for sample in samples.iter().step_by(ROW).chain(samples.last()) {
        let cpu = last.map(|last| {
            let busy = sample.cpu.saturating_sub(last.cpu).as_secs_f64();
            busy / (sample.at - last.at).as_secs_f64().max(1e-9)
        });
        table.row([
            format!("{:.0} s", (sample.at - samples[0].at).as_secs_f64()),
            format!("{:.1} MB", sample.memory as f64 / 1e6),
            sample.threads.to_string(),
            cpu.map_or_else(|| "-".into(), |cpu| percent(cpu, 1)),
        ]);
        last = Some(sample);
    }
    println!("{table}");
}

fn report_frames(options: &ManyOptions, frames: u32, dropped: u64, came: &[u64]) {
    let frames = u64::from(frames);
    let total = frames * options.cameras as u64;
    let short: Vec<(usize, u64)> = came
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, came)| *came != frames)
        .collect();
    println!(
        "{total} frames handed over, {frames} for each camera; {dropped} dropped by the sinks; \
         {} came whole.",
        came.iter().sum::<u64>()
    );
    match short.len() {
        0 => println!("No camera lost a frame."),
        cameras => println!("{cameras} cameras differ:"),
    }
    for (camera, came) in short {
        println!("* {}: {came} of {frames}", name(camera));
    }
}
