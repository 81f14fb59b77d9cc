//! The process that is all viewers of a few cameras.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::viewer::{Mjpeg, Over, Rtsp, Watching};
use super::{FromViewers, Viewers};
use crate::many::name;
use crate::many::rtsp::{Player, Way};
use crate::process::say;
use crate::usage;

/// How long all may take to see pictures.
const DEADLINE: Duration = Duration::from_secs(60);

/// Watches the cameras at 127.0.0.1:`port`, until standard input ends; each line on it asks
/// for the counts.
pub(crate) fn watch_one(settings: Viewers, port: u16) -> anyhow::Result<()> {
    usage::raise_file_limit();
    let deadline = Instant::now() + DEADLINE;
    let whole = Arc::new(AtomicU64::new(0));
    let torn = Arc::new(AtomicU64::new(0));
    let (sender, firsts) = mpsc::channel();
    let open = move |camera: &str| -> anyhow::Result<Box<dyn Watching>> {
        let play = |way| Player::play(port, camera, deadline, way).map(Rtsp::from);
        Ok(match settings.over {
            Over::Tcp => Box::new(play(Way::Tcp)?),
            Over::Udp => Box::new(play(Way::Udp)?),
            Over::Http => Box::new(Mjpeg::open(port, camera, deadline)?),
        })
    };
    for camera in 0..settings.cameras {
        // Only the first one may find the camera still without pictures.
        open(&name(camera))?.next()?;
    }
    for viewer in 0..settings.cameras * settings.each {
        let (whole, torn, sender) = (whole.clone(), torn.clone(), sender.clone());
        std::thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || {
                let camera = name(viewer % settings.cameras);
                let begun = Instant::now();
                let mut first = Some(sender);
                let watched = open(&camera).and_then(|mut viewer| {
                    loop {
                        let is_whole = viewer.next()?.whole;
                        let count = if is_whole { &whole } else { &torn };
                        count.fetch_add(1, Ordering::Relaxed);
                        if let (true, Some(first)) = (is_whole, first.take()) {
                            // Nobody waits any more after an error elsewhere.
                            let _ = first.send(begun.elapsed());
                        }
                    }
                });
                if let Err::<(), _>(error) = watched {
                    eprintln!("a viewer of {camera} is gone: {error:#}");
                }
            })?;
    }
    let first = (0..settings.cameras * settings.each)
        .map(|_| {
            let left = deadline.saturating_duration_since(Instant::now());
            firsts
                .recv_timeout(left)
                .context("not all viewers see pictures")
        })
        .collect::<anyhow::Result<_>>()?;
    say(&FromViewers::Watching { first })?;
    for _ in std::io::stdin().lines().map_while(Result::ok) {
        say(&FromViewers::Counts {
            whole: whole.load(Ordering::Relaxed),
            torn: torn.load(Ordering::Relaxed),
        })?;
    }
    Ok(())
}
