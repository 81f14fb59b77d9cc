//! The process that is all viewers.

use std::sync::mpsc::{Receiver, channel};
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

/// Watches every camera at 127.0.0.1:`port`, until standard input ends; each line on it asks
/// for the counts.
pub(crate) fn watch_many(settings: Cameras, port: u16) -> anyhow::Result<()> {
    usage::raise_file_limit();
    let begun = Instant::now();
    let (sender, news) = channel();
    for camera in 0..settings.count {
        let sender = sender.clone();
        std::thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || {
                let (mut is_first, mut tally) = (true, Tally::default());
                let player = Player::play(port, &name(camera), begun + DEADLINE, Way::Tcp);
                let watched = player.and_then(|mut player| {
                    player.watch(|frame| {
                        let count = tally.take(frame);
                        if std::mem::take(&mut is_first) || count.is_some() {
                            // Nobody counts any more after an error elsewhere.
                            let _ = sender.send((camera, count.unwrap_or(0)));
                        }
                    })
                });
                if let Err(error) = watched {
                    eprintln!("{} is watched no more: {error:#}", name(camera));
                }
            })?;
    }
    drop(sender);
    let mut counts = vec![None; settings.count];
    let without = take_until(&news, &mut counts, 0, begun + DEADLINE);
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
        take_until(&news, &mut counts, frames.into(), Instant::now() + LAST);
        let counts = counts.iter().map(|count| count.unwrap_or(0));
        say(&FromViewers::Counts(counts.collect()))?;
    }
    Ok(())
}

/// Adds up the whole frames between marks, by the numbers of their cameras, until each camera
/// has shown itself and so many, but not beyond `deadline`; how many are short of it then.
fn take_until(
    news: &Receiver<(usize, u64)>,
    counts: &mut [Option<u64>],
    enough: u64,
    deadline: Instant,
) -> usize {
    loop {
        let short = |count: &&Option<u64>| count.is_none_or(|count| count < enough);
        let short = counts.iter().filter(short).count();
        let left = deadline.saturating_duration_since(Instant::now());
        if short == 0 {
            return 0;
        }
        let Ok((camera, count)) = news.recv_timeout(left) else {
            return short;
        };
        *counts[camera].get_or_insert(0) += count;
    }
}
