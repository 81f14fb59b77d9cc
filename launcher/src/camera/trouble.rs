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

    /// What an error message on the bus means.
    pub fn of_message(error: &gst::message::Error, device: Option<&Path>) -> Self {
        let details = error.error();
        let from = error
            .src()
            .and_then(|src| src.downcast_ref::<gst::Element>());
        let factory = from.and_then(ElementExt::factory).map(|f| f.name());
        let factory = factory.as_deref().unwrap_or("GStreamer");
        if details.matches(gst::ResourceError::NotAuthorized) && factory == "camrelaysink" {
            return Self::Refused(details.message().to_owned());
        }
        let debug = error.debug().unwrap_or_default();
        if debug.contains("reason not-linked") {
            return Self::Failed("there is no video in it".into());
        }
        let device = device.filter(|_| factory == "v4l2src").map(Path::display);
        Self::Failed(match device {
            Some(device) if details.matches(gst::ResourceError::NotFound) => {
                format!("there is no device {device}: is it plugged in?")
            }
            Some(device) if details.matches(gst::ResourceError::Busy) => {
                format!("another program uses {device}")
            }
            Some(device) if debug.contains("Permission denied") => format!(
                "no permission to use {device}: add your user to the group 'video' (sudo usermod \
                 -aG video USER), and log in again"
            ),
            _ if factory == "camrelaysink" => details.message().to_owned(),
            _ => {
                // The last line of the debugging text often says what the message does not.
                let reason = debug.lines().nth(1).unwrap_or_default().trim();
                let gap = if reason.is_empty() { "" } else { " " };
                format!("{factory}: {}{gap}{reason}", details.message())
            }
        })
    }
}
