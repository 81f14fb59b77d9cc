//! Those who do nothing where something is expected. The times for which they sleep are what is
//! done to the server: nothing is waited for in them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::picture::CAMERA;
use super::scenarios::{MANY, PATIENCE, is_closed, raw, sees, set_up, viewer};
use super::{Seen, Server};
use crate::many::rtsp::Way;

/// How long somebody may say nothing.
const SILENCE: Duration = Duration::from_secs(15);
/// How long somebody takes nothing.
const STALL: Duration = Duration::from_secs(5);
/// The same, for longer than anybody is waited for.
const LONG_STALL: Duration = Duration::from_secs(14);
/// Longer than a relay waits for a viewer over UDP to say anything: a minute, and some seconds.
const VANISHED: Duration = Duration::from_secs(68);
/// Between SETUP and PLAY.
const PAUSE: Duration = Duration::from_secs(4);
/// How long it is looked on afterwards.
const AFTER: Duration = Duration::from_secs(3);
/// Frames in that time, and half of what comes in the pause.
const NOT_OLD: usize = 150;
/// Frames that may be on their way to a viewer that takes none.
const ON_THEIR_WAY: usize = 60;
/// A jump over most of what a stalled viewer has missed, in ticks (RFC 2435, section 3).
const JUMP: u32 = 3 * 90_000;
/// What is late, and is told of.
const LATE: Duration = Duration::from_millis(200);

pub(super) fn silence(server: &Server) -> anyhow::Result<Seen> {
    let begin = Instant::now();
    let mut stream = raw(server)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let held = is_closed(&mut stream);
    let seconds = begin.elapsed().as_secs();
    Ok(Seen {
        held,
        said: match held {
            true => format!("closed after {seconds} s"),
            false => format!("still there after {seconds} s"),
        },
    })
}

pub(super) fn before_play(server: &Server) -> anyhow::Result<Seen> {
    let mut viewer = set_up(server, CAMERA, Way::Tcp)?;
    thread::sleep(PAUSE);
    viewer.ask("PLAY", "")?;
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < AFTER {
        viewer.frame_within(PATIENCE)?.context("nothing is seen")?;
        count += 1;
    }
    Ok(Seen {
        held: count < NOT_OLD,
        said: count.to_string(),
    })
}

/// Told by what comes: the newest pictures, or those that were missed first.
pub(super) fn stall(server: &Server) -> anyhow::Result<Seen> {
    let mut viewer = viewer(server, CAMERA, Way::Tcp)?;
    thread::sleep(STALL);
    let begin = Instant::now();
    let mut came = Vec::new();
    while begin.elapsed() < AFTER {
        let frame = viewer.frame_within(PATIENCE)?.context("nothing is seen")?;
        came.push((begin.elapsed(), frame.time));
    }
    let jump = came
        .windows(2)
        .take(ON_THEIR_WAY)
        .any(|two| two[1].1.wrapping_sub(two[0].1) > JUMP);
    Ok(Seen {
        held: jump && came.len() < NOT_OLD,
        said: format!("{} frames, {} late", came.len(), late(&came)),
    })
}

/// How many came [`LATE`], measured by the one that came soonest.
fn late(came: &[(Duration, u32)]) -> usize {
    let Some((_, first)) = came.first() else {
        return 0;
    };
    let delay = |(at, time): &(Duration, u32)| {
        at.as_secs_f64() - f64::from(time.wrapping_sub(*first)) / 90_000.0
    };
    let least = came.iter().map(delay).fold(f64::INFINITY, f64::min);
    let late = |one: &&(Duration, u32)| delay(one) - least > LATE.as_secs_f64();
    came.iter().filter(late).count()
}

pub(super) fn long_stall(server: &Server) -> anyhow::Result<Seen> {
    let mut viewer = viewer(server, CAMERA, Way::Tcp)?;
    thread::sleep(LONG_STALL);
    let held = !sees(&mut viewer, LONG_STALL.as_secs() as usize * 30);
    Ok(Seen {
        held,
        said: match held {
            true => "closed".into(),
            false => "still served".into(),
        },
    })
}

/// As of a player whose machine was switched off: nothing is closed, and nobody tells.
pub(super) fn vanished(server: &Server) -> anyhow::Result<Seen> {
    let mut viewer = viewer(server, CAMERA, Way::Udp)?;
    thread::sleep(VANISHED);
    let held = !sees(&mut viewer, MANY);
    let seconds = VANISHED.as_secs();
    Ok(Seen {
        held,
        said: match held {
            true => format!("ended before {seconds} s"),
            false => format!("still sent to after {seconds} s"),
        },
    })
}
