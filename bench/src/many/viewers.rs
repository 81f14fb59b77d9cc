//! The process that is all viewers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::rtsp::{Player, Way};
use super::{Cameras, Expected, FromViewers, Tally, name};
use crate::process::say;
use crate::usage;

/// How long cameras may take to be there, all of them.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long the last frames may take to come, once they are asked for.
const LAST: Duration = Duration::from_secs(5);
/// How often the counts are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What a viewer saw.
#[derive(Default)]
struct Seen {
    /// All frames.
    frames: AtomicU64,
    /// Whole ones between marks.
    counted: AtomicU64,
}

/// Watches every camera at 127.0.0.1:`port`, until standard input ends; each line on it asks
/// for the counts.
pub(crate) fn watch_many(settings: Cameras, port: u16) -> anyhow::Result<()> {
    usage::raise_file_limit();
    let begun = Instant::now();
    let all: Arc<[Seen]> = (0..settings.count).map(|_| Seen::default()).collect();
    for camera in 0..settings.count {
        let all = all.clone();
        std::thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || {
                let (seen, mut tally) = (&all[camera], Tally::default());
                let player = Player::play(port, &name(camera), begun + DEADLINE, Way::Tcp);
                let watched = player.and_then(|mut player| {
                    player.watch(|frame| {
                        seen.frames.fetch_add(1, Ordering::Relaxed);
                        let counted = tally.take(frame).unwrap_or(0);
                        seen.counted.fetch_add(counted, Ordering::Relaxed);
                    })
                });
                if let Err(error) = watched {
                    eprintln!("{} is watched no more: {error:#}", name(camera));
                }
            })?;
    }
    let without = short_of(&all, |seen| &seen.frames, 1, begun + DEADLINE);
    if without > 0 {
        bail!("{without} cameras show nothing");
    }
    say(&FromViewers::Watching {
        after: begun.elapsed(),
    })?;
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let Expected { frames } =
            serde_json::from_str(&line).with_context(|| format!("not a number: {line}"))?;
        // What is missing shows in the counts.
        short_of(
            &all,
            |seen| &seen.counted,
            frames.into(),
            Instant::now() + LAST,
        );
        let counts = all.iter().map(|seen| seen.counted.load(Ordering::Relaxed));
        say(&FromViewers::Counts(counts.collect()))?;
    }
    Ok(())
}

/// Waits until each has that much, but not beyond `deadline`; how many are short of it then.
fn short_of(
    all: &[Seen],
    count: impl Fn(&Seen) -> &AtomicU64,
    enough: u64,
    deadline: Instant,
) -> usize {
    loop {
        let short = |seen: &&Seen| count(seen).load(Ordering::Relaxed) < enough;
        let short = all.iter().filter(short).count();
        if short == 0 || Instant::now() > deadline {
            return short;
        }
        std::thread::sleep(LOOK);
    }
}
