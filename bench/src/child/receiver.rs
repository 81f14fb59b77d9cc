//! The receiving process of a hop.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;

use super::{FromReceiver, Load, Received};
use crate::chunk::Joiner;
use crate::frame;
use crate::pipeline::failure;
use crate::process::say;
use crate::transport::Receiving;
use crate::usage;

/// What has arrived so far.
struct Arrivals {
    load: Load,
    joiner: Joiner,
    delays: Vec<u64>,
    before: Option<Duration>,
    after: Option<Duration>,
}

impl Arrivals {
    /// Takes a frame that is whole.
    fn take(&mut self, whole: &[u8]) {
        let Some((number, sent)) = frame::read(whole) else {
            return;
        };
        if self.load.measures(number) {
            self.before.get_or_insert_with(usage::cpu);
            self.delays.push(frame::now().saturating_sub(sent));
        } else if number >= self.load.warm_up {
            self.after.get_or_insert_with(usage::cpu);
        }
    }
}

/// Receives until standard input ends.
pub(crate) fn receive(load: Load) -> anyhow::Result<()> {
    gst::init()?;
    gstcamrelay::plugin_register_static().context("cannot register the camrelay elements")?;
    let (receiving, port) = Receiving::start(load.transport, load.budget)?;
    let arrivals = Arc::new(Mutex::new(Arrivals {
        load,
        joiner: Joiner::default(),
        delays: Vec::with_capacity(load.frames as usize),
        before: None,
        after: None,
    }));
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample({
        let arrivals = arrivals.clone();
        move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let buffer = sample.buffer().ok_or(gst::FlowError::Error)?;
            let data = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            match load.transport.piece(&data) {
                None => arrivals.take(&data),
                Some(piece) => {
                    if let Some(whole) = arrivals.joiner.take(piece) {
                        arrivals.take(&whole);
                    }
                }
            }
            Ok(gst::FlowSuccess::Ok)
        }
    });
    receiving.sink.set_callbacks(callbacks.build());
    say(&FromReceiver::Ready { port })?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    if let Some(error) = failure(&receiving.pipeline) {
        return Err(error);
    }
    let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    let before = arrivals.before.unwrap_or_default();
    let after = arrivals.after.unwrap_or_else(usage::cpu);
    say(&FromReceiver::Done(Received {
        delays: std::mem::take(&mut arrivals.delays),
        cpu: after.saturating_sub(before),
    }))
}
