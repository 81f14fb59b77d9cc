//! What stops a camera, in words.

use std::path::Path;

use gst::prelude::*;

use super::text::TextError;

/// Why a camera does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is worth another try.
    Failed(String),
    /// The relay does not want this camera; only a person can change that.
    Refused(String),
    /// The source came to its end.
    Ended,
    /// The file cannot be told to begin again at its end.
    CannotRewind,
}

impl Trouble {
    /// What is wrong with a gst-launch text.
    pub fn of_text(key: &str, errors: &[TextError]) -> Self {
        let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
        Self::Failed(format!("{key}: {}", messages.join("; ")))
    }

    /// What an error message on the bus means; `source` is how the camera's source is
    /// called, and `device` the device that it reads.
    pub fn of_message(error: &gst::message::Error, source: &str, device: Option<&Path>) -> Self {
        let details = error.error();
        let from = error
            .src()
            .and_then(|src| src.downcast_ref::<gst::Element>());
        let factory = from.and_then(ElementExt::factory).map(|f| f.name());
        let factory = factory.as_deref().unwrap_or("GStreamer");
        let debug = error.debug().unwrap_or_default();
        // The second line of the debugging text often says what the message does not.
        let reason = debug.lines().nth(1).unwrap_or_default().trim();
        let what = Event {
            details: &details,
            message: details.message(),
            reason,
        };
        match factory {
            "camrelaysink" if what.is(gst::ResourceError::NotAuthorized) => {
                Self::Refused(what.message.to_owned())
            }
            "camrelaysink" => Self::Failed(what.message.to_owned()),
            "v4l2src" => Self::Failed(match device {
                Some(device) => what.of_device(&device.display().to_string()),
                None => what.of_element(factory),
            }),
            "rtspsrc" => Self::Failed(what.of_network(source)),
            _ if debug.contains("reason not-linked") => {
                Self::Failed(format!("there is no video in {source}"))
            }
            _ => Self::Failed(what.of_element(factory)),
        }
    }
}

/// What an element says of its error.
struct Event<'e> {
    details: &'e glib::Error,
    message: &'e str,
    reason: &'e str,
}

impl Event<'_> {
    fn is(&self, kind: gst::ResourceError) -> bool {
        self.details.matches(kind)
    }

    fn of_device(&self, device: &str) -> String {
        if self.is(gst::ResourceError::NotFound) {
            format!("there is no device {device}: is it plugged in?")
        } else if self.is(gst::ResourceError::Busy) {
            format!("another program uses {device}")
        } else if self.reason.contains("Permission denied") {
            format!(
                "no permission to use {device}: add your user to the group 'video' (sudo usermod \
                 -aG video USER), and log in again"
            )
        } else {
            self.of_element(device)
        }
    }

    fn of_network(&self, source: &str) -> String {
        if self.is(gst::ResourceError::NotAuthorized) {
            format!("{source} wants a user and a password: rtsp://USER:PASSWORD@…")
        } else if self.is(gst::ResourceError::NotFound) {
            format!("{source} is not there: {}", self.message)
        } else if self.is(gst::ResourceError::OpenReadWrite)
            || self.is(gst::ResourceError::OpenRead)
        {
            format!("{source} does not answer")
        } else if self.is(gst::ResourceError::Read) {
            format!("{source} is lost")
        } else {
            self.of_element(source)
        }
    }

    fn of_element(&self, name: &str) -> String {
        let gap = if self.reason.is_empty() { "" } else { " " };
        format!("{name}: {}{gap}{}", self.message, self.reason)
    }
}
