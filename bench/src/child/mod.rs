//! The two processes of a hop, and what they tell the one that started them.

mod receiver;
mod sender;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use receiver::receive;
pub(crate) use sender::send;

use crate::transport::Transport;

/// What a hop carries.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) transport: Transport,
    pub(crate) seed: u64,
    /// Bytes of a frame.
    pub(crate) size: usize,
    /// Frames a second.
    pub(crate) fps: u32,
    /// Frames before those that are measured.
    pub(crate) warm_up: u32,
    /// Frames that are measured.
    pub(crate) frames: u32,
    /// Frames after those: the end of a stream is not what is measured.
    pub(crate) tail: u32,
    /// The `latency` of the elements.
    pub(crate) budget: Duration,
    /// Where in the interval between frames this hop's are sent, in nanoseconds.
    pub(crate) phase: u64,
}

impl Load {
    /// Nanoseconds between frames.
    pub(crate) fn interval(&self) -> u64 {
        1_000_000_000 / u64::from(self.fps)
    }

    /// Whether a frame is measured.
    pub(crate) fn measures(&self, number: u32) -> bool {
        (self.warm_up..self.warm_up + self.frames).contains(&number)
    }
}

/// What a sender says, a line each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromSender {
    /// The first frame that is measured is about to be sent.
    Measuring,
    /// The last one was sent, an interval ago.
    Measured,
    /// Everything was sent; what the measured frames cost.
    Done { cpu: Duration },
}

/// What a receiver says, a line each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromReceiver {
    /// It listens there.
    Ready { port: u16 },
    /// It was told to end.
    Done(Received),
}

/// What arrived.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Received {
    /// Delay of each measured frame that came, in nanoseconds.
    pub(crate) delays: Vec<u64>,
    /// What the measured frames cost.
    pub(crate) cpu: Duration,
}
