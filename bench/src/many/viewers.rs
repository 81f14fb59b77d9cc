//! The process that is all viewers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::{Cameras, FromViewers, name, rtsp};
use crate::process::say;
use crate::usage;

/// How long cameras may take to be there, all of them.
const DEADLINE: Duration = Duration::from_secs(60);

/// Watches every camera at 127.0.0.1:`port`, until standard input ends; each line on it asks
/// for the counts.
pub(crate) fn watch_many(settings: Cameras, port: u16) -> anyhow::Result<()> {
    usage::raise_file_limit();
    let begun = Instant::now();
    let counts: Arc<[AtomicU64]> = (0..settings.count).map(|_| AtomicU64::new(0)).collect();
    for camera in 0..settings.count {
        let counts = counts.clone();
        std::thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || {
                let count = || {
                    counts[camera].fetch_add(1, Ordering::Relaxed);
                };
                let watched =
                    rtsp::Player::play(port, &name(camera), begun + DEADLINE, rtsp::Way::Tcp)
                        .and_then(|mut player| {
                            player.watch(|whole| {
                                if whole {
                                    count()
                                }
                            })
                        });
                if let Err(error) = watched {
                    eprintln!("{} is watched no more: {error:#}", name(camera));
                }
            })?;
    }
    while counts
        .iter()
        .any(|count| count.load(Ordering::Relaxed) == 0)
    {
        if begun.elapsed() > DEADLINE {
            let without = counts
                .iter()
                .filter(|count| count.load(Ordering::Relaxed) == 0);
            bail!("{} cameras show nothing", without.count());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    say(&FromViewers::Watching {
        after: begun.elapsed(),
    })?;
    for _ in std::io::stdin().lines().map_while(Result::ok) {
        let counts = counts.iter().map(|count| count.load(Ordering::Relaxed));
        say(&FromViewers::Counts(counts.collect()))?;
    }
    Ok(())
}
