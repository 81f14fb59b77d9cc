//! What is sent, in the mean: the time between frames, and what goes beside them.

use std::time::Duration;

use crate::Time;

/// Frames waiting behind a late one that are counted.
const MAX_WAITING: u32 = 20;
/// A frame that waits for this long waits.
const LONG_WAIT: Duration = Duration::from_millis(5);

/// The time between frames, smoothed.
#[derive(Default)]
pub(super) struct Interval {
    last: Option<Time>,
    pub(super) mean: Duration,
}

impl Interval {
    /// Frames that wait behind one that is late by this: those that wait briefly count in part.
    pub(super) fn waiting(&self, late: Duration) -> f64 {
        let interval = self.mean.max(Duration::from_millis(1));
        let waits = (1..=MAX_WAITING).map(|frame| late.saturating_sub(interval * frame));
        waits
            .map(|wait| (wait.as_secs_f64() / LONG_WAIT.as_secs_f64()).min(1.0))
            .sum()
    }

    pub(super) fn observe(&mut self, capture: Time) {
        if let Some(last) = self.last.filter(|last| *last < capture) {
            // A pause is not a frame rate.
            let passed = capture.since(last).min(Duration::from_secs(1));
            self.mean = if self.mean.is_zero() {
                passed
            } else {
                (self.mean * 7 + passed) / 8
            };
        }
        self.last = Some(capture);
    }
}

/// What is sent beside the frames: headers, parity, repairs.
#[derive(Default)]
pub(super) struct Overhead {
    frames: f64,
    datagrams: f64,
}

impl Overhead {
    /// Bytes sent for each byte of a frame.
    pub(super) fn ratio(&self) -> f64 {
        if self.frames < 1000.0 {
            1.05
        } else {
            (self.datagrams / self.frames).clamp(1.0, 4.0)
        }
    }

    pub(super) fn on_frame(&mut self, len: usize) {
        self.frames = self.frames * 0.9 + len as f64;
        self.datagrams *= 0.9;
    }

    pub(super) fn on_datagram(&mut self, len: usize) {
        self.datagrams += len as f64;
    }
}
