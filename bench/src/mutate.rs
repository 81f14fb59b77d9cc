//! A relay with cameras that send damaged pictures, and a good one beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use gst::prelude::*;

use crate::cli::MutateOptions;
use crate::many::rtsp::{Player, Way};
use crate::many::{Camera, Relay};
use crate::mutation::Mutation;
use crate::usage;

/// Frames a second of the good camera.
const GOOD_FPS: u32 = 30;
/// How long the last frames may take to arrive; less than it takes a camera to be stale.
const QUIET: Duration = Duration::from_millis(700);
/// How long anything may take to begin.
const BEGIN: Duration = Duration::from_secs(20);
/// Damaged frames that are sent in one go.
const BATCH: u64 = 20;

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
    let good = Camera::start("good", JPEG, relay.cameras)?;
    let pictures = encoded("jpegenc", "I420")?;
    let came = Arc::new(AtomicU64::new(0));
    // The viewers end with the program.
    let (count, port) = (came.clone(), relay.viewers);
    thread::spawn(move || {
        let watched = Player::play(port, "good", Instant::now() + BEGIN, Way::Tcp);
        let ended = watched.and_then(|mut player| {
            player.watch(|whole| {
                count.fetch_add(u64::from(whole), Ordering::Relaxed);
            })
        });
        eprintln!("the viewer of the good camera ended: {ended:?}");
    });
    for name in ["bad-jpeg", "bad-h264"] {
        thread::spawn(move || ask_for(name, port));
    }
    // Until it is watched, then nothing, so that what comes from now on can be counted.
    let deadline = Instant::now() + BEGIN;
    while came.load(Ordering::Relaxed) == 0 {
        ensure!(Instant::now() < deadline, "the good camera is not watched");
        good.send(&pictures[0])?;
        thread::sleep(Duration::from_millis(33));
    }
    thread::sleep(QUIET);
    came.store(0, Ordering::Relaxed);

    let begin = Instant::now();
    let mut sent = 0;
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
                options,
                &relay,
            )
        });
        let units = scope.spawn(|| {
            let units = encoded(UNITS, "I420")?;
            damage("bad-h264", H264, &units, options.units, options, &relay)
        });
        let mut due = Instant::now();
        while !(jpegs.is_finished() && units.is_finished()) {
            good.send(&pictures[sent as usize % pictures.len()])?;
            sent += 1;
            due += Duration::from_secs(1) / GOOD_FPS;
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
    thread::sleep(QUIET);
    let came = came.load(Ordering::Relaxed);
    println!(
        "In {:.0} s the good camera sent {sent} frames, of which its viewer saw {came} whole; \
         its sink dropped {}.",
        begin.elapsed().as_secs_f64(),
        good.dropped()
    );
    println!("{left_out} damaged frames were left out by the sinks that sent them.");
    let sample = relay.sample().context("the relay crashed")?;
    println!("The relay runs, with {} MB of memory.", sample.memory >> 20);
    ensure!(came == sent, "frames of the good camera were lost");
    Ok(())
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
    options: &MutateOptions,
    relay: &Relay,
) -> anyhow::Result<u64> {
    let camera = Camera::start(name, caps, relay.cameras)?;
    let originals: Vec<Vec<u8>> = frames
        .iter()
        .map(|frame| Ok(frame.map_readable()?.to_vec()))
        .collect::<anyhow::Result<_>>()?;
    let mut mutation = Mutation::new();
    let mut due = Instant::now();
    for number in 0..count {
        // A whole one now and then, so that viewers have something to start at.
        let mut bytes = originals[number as usize % originals.len()].clone();
        if !number.is_multiple_of(50) {
            mutation.apply(&mut bytes);
        }
        camera.send(&gst::Buffer::from_mut_slice(bytes))?;
        if number.is_multiple_of(BATCH) {
            due += Duration::from_secs(1) * BATCH as u32 / options.fps;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        if number.is_multiple_of(100_000) {
            relay
                .sample()
                .with_context(|| format!("the relay crashed by frame {number} of {name}"))?;
        }
    }
    thread::sleep(QUIET);
    Ok(camera.dropped())
}

/// A few small pictures through an encoder.
fn encoded(encoder: &str, format: &str) -> anyhow::Result<Vec<gst::Buffer>> {
    let text = format!(
        "videotestsrc pattern=ball num-buffers=10 ! video/x-raw,format={format},width=64,height=48 \
         ! {encoder} ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&text)?.downcast::<gst::Pipeline>();
    let pipeline = pipeline.ok().context("no pipeline")?;
    let sink = pipeline.by_name("out").and_downcast::<gst_app::AppSink>();
    let sink = sink.context("no appsink")?;
    pipeline.set_state(gst::State::Playing)?;
    let frames: Vec<_> = std::iter::from_fn(|| sink.pull_sample().ok())
        .filter_map(|sample| {
            let mut frame = sample.buffer_owned()?;
            frame.make_mut().set_duration(None);
            Some(frame)
        })
        .collect();
    pipeline.set_state(gst::State::Null)?;
    ensure!(!frames.is_empty(), "{encoder} gives nothing");
    Ok(frames)
}
