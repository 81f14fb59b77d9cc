//! Says what happens to a camera: one line each time something changes.

use std::path::Path;
use std::sync::atomic::Ordering;

use gst::prelude::*;
use tracing::{debug, error, info, warn};

use super::build::Running;
use super::choice::Media;
use super::plan::Plan;
use super::trouble::Trouble;

/// What was said last about a camera.
pub struct Voice {
    camera: String,
    source: String,
    relay: String,
    /// The trouble said last; nothing since it went well.
    said: Option<String>,
    /// That its frames arrive was said, and is still so.
    sending: bool,
    /// A file begins again: that its frames arrive is no news then.
    again: bool,
}

impl Voice {
    /// Says that the camera starts.
    pub fn new(plan: &Plan) -> Self {
        let relay = match plan.host.contains(':') {
            true => format!("[{}]:{}", plan.host, plan.port),
            false => format!("{}:{}", plan.host, plan.port),
        };
        let (camera, source) = (plan.name.clone(), plan.source.to_string());
        info!("camera {camera}: starting {source}");
        Self {
            camera,
            source,
            relay,
            said: None,
            sending: false,
            again: false,
        }
    }

    /// Says why the camera stopped; `absent` is its device when that is gone.
    pub fn trouble(&mut self, trouble: &Trouble, absent: Option<&Path>) {
        self.sending = false;
        let (camera, source) = (&self.camera, &self.source);
        let words = match (trouble, absent) {
            (_, Some(device)) => {
                let device = device.display();
                format!("camera {camera}: {device} is not there; it starts when that is plugged in")
            }
            (Trouble::Failed(why), None) => format!("camera {camera}: {why}; trying again"),
            (Trouble::Refused(why), None) => {
                format!("camera {camera}: {why}; trying again every 30 s")
            }
            (Trouble::Ended | Trouble::CannotRewind, None) => {
                format!("camera {camera}: {source} ended; starting it again")
            }
        };
        if self.said.as_ref() == Some(&words) {
            debug!("{words}");
            return;
        }
        match trouble {
            Trouble::Refused(_) => error!("{words}"),
            Trouble::Failed(_) => warn!("{words}"),
            Trouble::Ended | Trouble::CannotRewind => info!("{words}"),
        }
        self.said = Some(words);
    }

    /// Takes note that a file begins again, which is no news.
    pub fn again(&mut self) {
        self.sending = false;
        self.again = true;
        debug!("camera {}: {} begins again", self.camera, self.source);
    }

    /// Says why the sink, which warns once, has lost the relay.
    pub fn warning(&mut self, warning: &gst::message::Warning, sink: &gst::Element) {
        let words = format!("camera {}: {}", self.camera, warning.error().message());
        if warning.src() == Some(sink.upcast_ref()) {
            self.sending = false;
            warn!("{words}");
        } else {
            debug!("{words}");
        }
    }

    /// Says when frames begin to arrive at the relay, and when that is lost.
    pub fn progress(&mut self, running: &Running) {
        let connected = running
            .sink
            .property::<gst::Structure>("stats")
            .get::<bool>("connected")
            .unwrap_or(false);
        let (camera, relay) = (&self.camera, &self.relay);
        if self.sending && !connected {
            self.sending = false;
            warn!("camera {camera}: lost the relay {relay}; connecting again");
        } else if !self.sending && connected && running.frames.load(Ordering::Relaxed) > 0 {
            self.sending = true;
            self.said = None;
            let picture = picture(running);
            match std::mem::take(&mut self.again) {
                true => debug!("camera {camera}: sending {picture} to {relay}"),
                false => info!("camera {camera}: sending {picture} to {relay}"),
            }
        }
    }
}

/// What comes to the sink, `JPEG 1280x720, 30 frames/s`.
fn picture(running: &Running) -> String {
    let caps = running
        .sink
        .static_pad("sink")
        .and_then(|pad| pad.current_caps());
    let Some(structure) = caps.as_ref().and_then(|caps| caps.structure(0)) else {
        return "frames".into();
    };
    let mut text = match Media::of(structure) {
        Media::Jpeg => "JPEG".to_owned(),
        Media::H264 => "H.264".to_owned(),
        Media::H265 => "H.265".to_owned(),
        Media::Raw | Media::Other => structure.name().to_string(),
    };
    if let (Ok(width), Ok(height)) = (
        structure.get::<i32>("width"),
        structure.get::<i32>("height"),
    ) {
        text += &format!(" {width}x{height}");
    }
    match structure.get::<gst::Fraction>("framerate") {
        Ok(rate) if rate.numer() > 0 => {
            let rate = f64::from(rate.numer()) / f64::from(rate.denom());
            text += &format!(", {} frames/s", (rate * 100.0).round() / 100.0);
        }
        _ => {}
    }
    text
}
