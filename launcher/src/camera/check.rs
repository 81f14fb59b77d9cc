//! What is wrong with a camera of a deployment, as far as it can be told without its device.

use std::path::Path;

use gst::prelude::*;

use super::build::choose;
use super::text::{self, TextError};
use super::trouble::Trouble;
use crate::config::{Camera, Fault, Source};

/// What is wrong with `camera`; paths are relative to `folder`.
pub fn faults(camera: &Camera, folder: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    let encoder = camera.encode.as_deref().and_then(|text| {
        let encoder = text::encoder(text);
        note(&mut faults, "encode", text, encoder)
    });
    // What is wrong with the form of a source was noted before.
    let Ok(source) = Source::parse(&camera.source, folder) else {
        return faults;
    };
    let needed: &[&str] = match &source {
        Source::Device(_) => &["v4l2src", "videoconvert", "jpegenc"],
        Source::Rtsp(_) => &["rtspsrc", "rtpjpegdepay", "rtph264depay", "h264parse"],
        Source::File(_) => &["filesrc", "parsebin", "jpegparse", "h264parse"],
        Source::Text(_) => &["camrelaysink"],
    };
    for name in needed {
        note(&mut faults, "source", &camera.source, text::element(name));
    }
    match &source {
        Source::File(path) if !path.exists() => faults.push(Fault {
            key: "source",
            offset: 0,
            message: format!("there is no file '{}'", path.display()),
        }),
        Source::Text(text) => {
            let bin = note(&mut faults, "source", text, text::source(text));
            let pad = bin.as_ref().and_then(|bin| bin.static_pad("src"));
            if let (Some(pad), Some(encoder)) = (pad, encoder)
                && let Err(Trouble::Failed(message)) =
                    choose(&pad.query_caps(None), Some(encoder.upcast_ref()))
            {
                faults.push(Fault {
                    key: "encode",
                    offset: 0,
                    message,
                });
            }
        }
        _ => {}
    }
    faults
}

/// The result; what is wrong instead is noted.
fn note<T>(
    faults: &mut Vec<Fault>,
    key: &'static str,
    text: &str,
    result: Result<T, Vec<TextError>>,
) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(errors) => {
            faults.extend(errors.into_iter().map(|error| Fault {
                key,
                offset: error.offset_in(text),
                message: error.message,
            }));
            None
        }
    }
}
