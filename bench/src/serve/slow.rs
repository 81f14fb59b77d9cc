//! Viewers that do not keep up.

use std::time::{Duration, Instant};

use crate::many::rtsp::{Player, Way};
use crate::many::{Sample, name};

/// How long viewers may take to see pictures.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long the usual delay is looked for, the viewer is throttled, and looked at after.
const BASE: Duration = Duration::from_secs(5);
const THROTTLED: Duration = Duration::from_secs(60);
const AFTER: Duration = Duration::from_secs(5);
/// What a throttled viewer takes of a camera's rate.
const SHARE: f64 = 0.3;
/// The delay beyond the usual one at which it counts as back.
const BACK: Duration = Duration::from_millis(200);
/// Viewers that take nothing.
const STALLED: usize = 500;
/// How long they are looked at.
const LOOK: Duration = Duration::from_secs(20);

/// One viewer takes 30 % of what there is for a minute, then all: when is it back?
pub(super) fn throttled(port: u16) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut player = Player::play(port, &name(0), begun + DEADLINE, Way::Tcp)?;
    // Each frame's arrival less its capture, in milliseconds, from an origin that is the same.
    let mut origin = None;
    let mut arrival = |time: u32| {
        let (first, at) = *origin.get_or_insert((time, Instant::now()));
        let captured = f64::from(time.wrapping_sub(first) as i32) / 90.0;
        at.elapsed().as_secs_f64() * 1e3 - captured
    };
    let mut base = Vec::new();
    let mut bytes = 0;
    while begun.elapsed() < BASE {
        let frame = player.frame()?;
        bytes += frame.bytes;
        base.push(arrival(frame.time));
    }
    base.sort_by(f64::total_cmp);
    let usual = base[base.len() / 2];
    let rate = bytes as f64 / begun.elapsed().as_secs_f64();

    let from = Instant::now();
    let (mut taken, mut frames, mut most) = (0, 0, f64::MIN);
    while from.elapsed() < THROTTLED {
        let frame = player.paced_frame(|read| {
            let due = (taken + read) as f64 / (rate * SHARE);
            std::thread::sleep(Duration::from_secs_f64(due).saturating_sub(from.elapsed()));
        })?;
        taken += frame.bytes;
        frames += 1;
        most = arrival(frame.time).max(most);
    }
    let released = Instant::now();
    let mut back = None;
    while released.elapsed() < AFTER {
        let frame = player.frame()?;
        let late = arrival(frame.time) - usual;
        if late > BACK.as_secs_f64() * 1e3 {
            back = None;
        } else {
            back.get_or_insert(released.elapsed());
        }
    }
    println!(
        "A viewer throttled to {:.0} % for {} s got {frames} frames in it, the latest of them \
         {:.0} ms late; after that it was back within {} ms of its usual delay {}.\n",
        SHARE * 100.0,
        THROTTLED.as_secs(),
        most - usual,
        BACK.as_millis(),
        match back {
            Some(back) => format!("after {:.0} ms", back.as_secs_f64() * 1e3),
            None => format!("not within {} s", AFTER.as_secs()),
        }
    );
    Ok(())
}

/// Many viewers take nothing at all: what does the server keep for them?
pub(super) fn stalled(
    sample: impl Fn() -> anyhow::Result<Sample>,
    port: u16,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let before = sample()?.memory;
    let viewers: Vec<_> = (0..STALLED)
        .map(|_| Player::play(port, &name(0), deadline, Way::Tcp))
        .collect::<anyhow::Result<_>>()?;
    let from = Instant::now();
    let mut most = 0;
    while from.elapsed() < LOOK {
        most = sample()?.memory.max(most);
        std::thread::sleep(Duration::from_millis(250));
    }
    drop(viewers);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "{STALLED} viewers that take nothing: {:.1} MB of memory before, {:.1} MB at most, {:.1} \
         MB after {} s.\n",
        megabytes(before),
        megabytes(most),
        megabytes(sample()?.memory),
        LOOK.as_secs()
    );
    Ok(())
}
