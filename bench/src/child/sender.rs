//! The sending process of a hop.

use std::time::Duration;

use anyhow::Context;

use super::{FromSender, Load};
use crate::frame::{self, Frames};
use crate::pipeline::failure;
use crate::process::say;
use crate::transport::Sending;
use crate::usage;

/// After its last frame a sender stays this long, and twice the budget, for repairs.
const STAY: Duration = Duration::from_millis(500);

/// Sends what `load` says to 127.0.0.1:`port`.
pub(crate) fn send(load: Load, port: u16) -> anyhow::Result<()> {
    gst::init()?;
    gstcamrelay::plugin_register_static().context("cannot register the camrelay elements")?;
    let frames = Frames::new(load.seed, load.size);
    let mut sending = Sending::start(load.transport, port, load.budget)?;
    let interval = load.interval();
    // The same grid of time for every hop, so that phases keep them apart.
    let first = (frame::now() / interval + 2) * interval + load.phase;
    let mut before = Duration::ZERO;
    let mut after = Duration::ZERO;
    for number in 0..load.warm_up + load.frames + load.tail {
        let due = first + u64::from(number) * interval;
        let wait = due.saturating_sub(frame::now());
        std::thread::sleep(Duration::from_nanos(wait));
        if number == load.warm_up {
            before = usage::cpu();
            say(&FromSender::Measuring)?;
        } else if number == load.warm_up + load.frames {
            after = usage::cpu();
            say(&FromSender::Measured)?;
        }
        sending.send(number, frames.stamped(number))?;
        if let Some(error) = failure(&sending.pipeline) {
            return Err(error);
        }
    }
    std::thread::sleep(STAY + 2 * load.budget);
    say(&FromSender::Done {
        cpu: after - before,
    })
}
