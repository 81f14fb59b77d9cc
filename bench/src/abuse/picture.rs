//! The pictures that both servers have, and what sends them to the relay.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;

use crate::frame;
use crate::many::{Camera, pictures};

/// A camera that sends whole pictures.
pub(super) const CAMERA: &str = "camera";
/// One that sends nothing.
pub(super) const SILENT: &str = "silent";
/// One of whose pictures every other is damaged.
pub(super) const DAMAGED: &str = "damaged";
/// The caps of all.
pub(super) const CAPS: &str = "image/jpeg,width=1280,height=720,framerate=0/1";
/// From one picture to the next.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);

/// Whole pictures, and a damaged one.
#[derive(Clone)]
pub(super) struct Pictures {
    whole: Vec<gst::Buffer>,
    damaged: gst::Buffer,
}

impl Pictures {
    /// Encodes them.
    pub(super) fn new() -> anyhow::Result<Self> {
        Self::of_whole(pictures(true)?)
    }

    /// Reads what [`Pictures::write`] wrote.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut whole = Vec::new();
        while let Ok(bytes) = fs::read(folder.join(whole.len().to_string())) {
            whole.push(gst::Buffer::from_mut_slice(bytes));
        }
        Self::of_whole(whole)
    }

    /// Makes a file of each whole one.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        for (number, picture) in self.whole.iter().enumerate() {
            fs::write(folder.join(number.to_string()), picture.map_readable()?)?;
        }
        Ok(())
    }

    fn of_whole(whole: Vec<gst::Buffer>) -> anyhow::Result<Self> {
        let damaged = whole
            .first()
            .and_then(damage)
            .context("a picture cannot be damaged")?;
        Ok(Self { whole, damaged })
    }

    /// The picture of a round.
    pub(super) fn of(&self, camera: &str, round: usize) -> &gst::Buffer {
        match camera == DAMAGED && round % 2 == 1 {
            true => &self.damaged,
            false => &self.whole[round % self.whole.len()],
        }
    }
}

/// A picture that ends within the header of its scan (ITU T.81, B.2.3).
fn damage(whole: &gst::Buffer) -> Option<gst::Buffer> {
    let bytes = whole.map_readable().ok()?;
    let scan = bytes.windows(2).position(|marker| marker == [0xff, 0xda])?;
    let mut damaged = bytes.get(..scan + 4)?.to_vec();
    // It says that it is longer than what follows.
    damaged[scan + 2..].copy_from_slice(&[0xff, 0xff]);
    Some(gst::Buffer::from_mut_slice(damaged))
}

/// Calls that with the number of each round, 30 times a second, until it is false.
pub(super) fn rounds(mut round: impl FnMut(usize) -> bool) {
    let mut due = frame::now();
    for number in 0.. {
        let wait = due.saturating_sub(frame::now());
        thread::sleep(Duration::from_nanos(wait));
        due += INTERVAL.as_nanos() as u64;
        if !round(number) {
            return;
        }
    }
}

/// Sends the cameras to a relay, until it is dropped.
pub(super) struct Feed {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Of these cameras, to 127.0.0.1:`port`.
    pub(super) fn to_relay(
        cameras: &'static [&'static str],
        pictures: &Pictures,
        port: u16,
    ) -> anyhow::Result<Self> {
        let cameras = cameras
            .iter()
            .map(|name| Ok((name, Camera::start(name, CAPS, port)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let pictures = pictures.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            rounds(|round| {
                for (name, camera) in cameras.iter().filter(|(name, _)| **name != SILENT) {
                    // One that the relay refuses is missed by the scenario.
                    let _ = camera.send(pictures.of(name, round));
                }
                !stopped.load(Ordering::Relaxed)
            });
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed.
            let _ = thread.join();
        }
    }
}
