//! Cameras with an encoder, and who takes their frames, in this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::pipeline::{child, failure, out, parse};

/// A picture of some 47 kB: a camera would make some 11 Mbit/s, at its coarsest a fifth of that.
const SOURCE: &str = "videotestsrc is-live=true pattern=snow \
                      ! video/x-raw,format=I420,width=288,height=216,framerate=30/1";
/// The quality that the encoder is set up with.
pub(crate) const QUALITY: i32 = 90;
pub(crate) const FPS: usize = 30;

/// When frames came, and how long each was.
type Arrivals = Arc<Mutex<Vec<(Instant, usize)>>>;

/// A camera, by way of a path, and its receiver.
pub(crate) struct Camera {
    sending: gst::Pipeline,
    receiving: gst::Pipeline,
    pub(crate) encoder: gst::Element,
    pub(crate) sink: gst::Element,
    arrivals: Arrivals,
}

impl Camera {
    /// Starts a camera called `name` that reaches the relay's `port` through the one at `through`.
    pub(crate) fn start(name: &str, port: u16, through: u16) -> anyhow::Result<Self> {
        let receiving = parse(&format!(
            "camrelaysrc address=127.0.0.1 port={port} camera={name} \
             ! appsink name=out sync=false"
        ))?;
        let arrivals = Arrivals::default();
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample({
            let arrivals = arrivals.clone();
            move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let size = sample.buffer().map_or(0, |buffer| buffer.size());
                lock(&arrivals).push((Instant::now(), size));
                Ok(gst::FlowSuccess::Ok)
            }
        });
        out(&receiving)?.set_callbacks(callbacks.build());
        receiving.set_state(gst::State::Playing)?;
        let sending = parse(&format!(
            "{SOURCE} ! jpegenc name=encoder quality={QUALITY} \
             ! camrelaysink name=net port={through} camera={name}"
        ))?;
        sending.set_state(gst::State::Playing)?;
        Ok(Self {
            encoder: child(&sending, "encoder")?,
            sink: child(&sending, "net")?,
            sending,
            receiving,
            arrivals,
        })
    }

    /// When frames came, and how long each was.
    pub(crate) fn arrivals(&self) -> MutexGuard<'_, Vec<(Instant, usize)>> {
        lock(&self.arrivals)
    }

    /// The longest time between two frames from `since` on.
    pub(crate) fn freeze(&self, since: Instant) -> Duration {
        let arrivals = self.arrivals();
        let first = arrivals.partition_point(|(at, _)| *at < since);
        let after = &arrivals[first.saturating_sub(1)..];
        let gaps = after.windows(2).map(|pair| pair[1].0 - pair[0].0);
        gaps.max().unwrap_or(Duration::MAX)
    }

    pub(crate) fn failure(&self) -> Option<anyhow::Error> {
        let pipelines = [&self.sending, &self.receiving];
        pipelines.into_iter().find_map(failure)
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        for pipeline in [&self.sending, &self.receiving] {
            // The process ends with it.
            let _ = pipeline.set_state(gst::State::Null);
        }
    }
}

fn lock(arrivals: &Arrivals) -> MutexGuard<'_, Vec<(Instant, usize)>> {
    arrivals.lock().unwrap_or_else(PoisonError::into_inner)
}
