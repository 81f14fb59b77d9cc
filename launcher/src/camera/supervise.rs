//! Keeps one camera running, whatever happens to it.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::build::{self, Running};
use super::plan::Plan;
use super::trouble::Trouble;
use super::voice::Voice;
use crate::config::Source;
use crate::stop::Stop;

/// How often a camera is looked at.
const TICK: Duration = Duration::from_millis(200);
/// The first pause before a camera is started again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The pause after the relay said no.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// A camera that ran this long was well: the pauses begin anew.
const WELL: Duration = Duration::from_secs(5);

/// Runs the camera until `stop`.
pub fn run(plan: &Plan, stop: &Stop) {
    let mut voice = Voice::new(plan);
    let mut pause = SHORTEST_PAUSE;
    let is_file = matches!(plan.source, Source::File(_));
    let mut rewinds = is_file;
    loop {
        let started = Instant::now();
        let mut device = None;
        let trouble = match Running::new(plan) {
            Ok(mut running) => {
                running.repeats = rewinds;
                let trouble = play(&mut running, plan, &mut voice, stop);
                device.clone_from(&running.device);
                trouble
            }
            Err(trouble) => Some(trouble),
        };
        let Some(trouble) = trouble else { return };
        if trouble == Trouble::CannotRewind {
            voice.again();
            rewinds = false;
            continue;
        }
        if is_file && trouble == Trouble::Ended {
            voice.again();
            if stop.wait_timeout(SHORTEST_PAUSE) {
                return;
            }
            continue;
        }
        if started.elapsed() >= WELL {
            pause = SHORTEST_PAUSE;
        }
        let device = device.as_deref();
        voice.trouble(&trouble, device.filter(|device| !build::is_present(device)));
        let wait = match trouble {
            Trouble::Refused(_) => REFUSED_PAUSE,
            _ => pause,
        };
        match wait_for(device, wait, stop) {
            Waited::Stopped => return,
            Waited::Replugged => pause = SHORTEST_PAUSE,
            // The end of what has an end is no failure.
            Waited::Long if trouble == Trouble::Ended => {}
            Waited::Long => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

enum Waited {
    Stopped,
    Replugged,
    Long,
}

/// Waits for `pause`; longer while the device is not there, and until it is there again.
fn wait_for(device: Option<&Path>, pause: Duration, stop: &Stop) -> Waited {
    let end = Instant::now() + pause;
    let mut was_absent = false;
    loop {
        if device.is_some_and(|device| !build::is_present(device)) {
            was_absent = true;
        } else if was_absent {
            return Waited::Replugged;
        }
        let left = match end.saturating_duration_since(Instant::now()) {
            Duration::ZERO if !was_absent => return Waited::Long,
            left if was_absent => TICK.max(left.min(TICK)),
            left => left.min(TICK),
        };
        if stop.wait_timeout(left) {
            return Waited::Stopped;
        }
    }
}

/// Runs the pipeline until something is wrong; `None`: until `stop`.
fn play(running: &mut Running, plan: &Plan, voice: &mut Voice, stop: &Stop) -> Option<Trouble> {
    if let Err(trouble) = running.prepare(plan) {
        return Some(trouble);
    }
    // A file is told to begin again at its end before it begins.
    let first = match running.repeats {
        true => gst::State::Paused,
        false => gst::State::Playing,
    };
    if running.pipeline.set_state(first).is_err() {
        return Some(running.first_error());
    }
    let bus = running.pipeline.bus().expect("a pipeline has a bus");
    let mut watch = Watch::new(running);
    let mut begun = false;
    while !stop.is_raised() {
        if let Some(message) = bus.timed_pop(gst::ClockTime::try_from(TICK).ok()) {
            match message.view() {
                gst::MessageView::Error(error) => {
                    return Some(running.trouble(error));
                }
                gst::MessageView::Eos(_) => return Some(Trouble::Ended),
                gst::MessageView::Warning(warning) => voice.warning(warning, &running.sink),
                gst::MessageView::AsyncDone(_) if running.repeats && !begun => {
                    begun = true;
                    let bare = running.bare.load(Ordering::Relaxed);
                    if !bare && !rewind(running, gst::SeekFlags::FLUSH) {
                        return Some(Trouble::CannotRewind);
                    }
                    if running.pipeline.set_state(gst::State::Playing).is_err() {
                        return Some(running.first_error());
                    }
                }
                gst::MessageView::SegmentDone(_) if !rewind(running, gst::SeekFlags::empty()) => {
                    return Some(Trouble::Ended);
                }
                gst::MessageView::Latency(_) => {
                    // What cannot be worked out now is when the next message comes.
                    let _ = running.pipeline.recalculate_latency();
                }
                _ => {}
            }
        }
        voice.progress(running);
        if let Some(trouble) = watch.look(running) {
            return Some(trouble);
        }
    }
    None
}

/// Goes to the start of a file, such that its end will be no end of the stream. False
/// when the file cannot do that.
fn rewind(running: &Running, flags: gst::SeekFlags) -> bool {
    let done = running.pipeline.seek(
        1.0,
        flags | gst::SeekFlags::SEGMENT,
        gst::SeekType::Set,
        gst::ClockTime::ZERO,
        gst::SeekType::None,
        gst::ClockTime::NONE,
    );
    done.is_ok()
}

/// Notices that frames no longer come.
struct Watch {
    frames: u64,
    since: Instant,
}

impl Watch {
    fn new(running: &Running) -> Self {
        Self {
            frames: running.frames.load(Ordering::Relaxed),
            since: Instant::now(),
        }
    }

    fn look(&mut self, running: &Running) -> Option<Trouble> {
        let limit = running.frozen_after?.max(interval(running) * 3);
        let frames = running.frames.load(Ordering::Relaxed);
        if frames != self.frames {
            self.frames = frames;
            self.since = Instant::now();
        } else if self.since.elapsed() >= limit {
            return Some(Trouble::Failed(format!(
                "no frame for {} s",
                limit.as_secs()
            )));
        }
        None
    }
}

/// The time between two frames, as the caps say; zero where they do not.
fn interval(running: &Running) -> Duration {
    let caps = running
        .sink
        .static_pad("sink")
        .and_then(|pad| pad.current_caps());
    caps.as_ref()
        .and_then(|caps| caps.structure(0))
        .and_then(|structure| structure.get::<gst::Fraction>("framerate").ok())
        .filter(|rate| rate.numer() > 0 && rate.denom() > 0)
        .map_or(Duration::ZERO, |rate| {
            Duration::from_secs(rate.denom() as u64) / rate.numer() as u32
        })
}
