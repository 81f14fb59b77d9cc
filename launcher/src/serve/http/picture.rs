//! Pictures as HTTP has them: the newest one of a camera, and what is said with it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use gst::prelude::*;

use super::Site;
use super::answer::Refusal;
use crate::relay::feed::Feed;
use crate::relay::frame::{Codec, Frame};
use crate::relay::stream::Stream;

/// What is said with a picture, besides its type and length.
pub struct Facts {
    /// When it was captured, RFC 3339 with milliseconds.
    pub captured: String,
    /// How old it is, in milliseconds.
    pub age: u128,
    /// Its number in the stream.
    pub sequence: u64,
    /// Whether it was drawn by the relay, which has no picture of now.
    pub placeholder: bool,
}

impl Facts {
    /// Of a frame, as things are now.
    pub fn of(frame: &Frame) -> Self {
        let now = gst::SystemClock::obtain().time();
        Self {
            captured: humantime::format_rfc3339_millis(frame.wall).to_string(),
            age: frame.age(now).as_millis(),
            sequence: frame.sequence,
            placeholder: frame.placeholder,
        }
    }

    /// As headers, in the order in which they are written.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        [
            ("x-capture-time", Some(self.captured.clone())),
            ("x-age-ms", Some(self.age.to_string())),
            ("x-sequence", Some(self.sequence.to_string())),
            ("x-placeholder", self.placeholder.then(|| "1".to_owned())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// `GET /cameras/{name}/snapshot.jpg`: the newest picture.
pub async fn snapshot(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let feed = site.feed(&name)?;
    let stream = jpegs(&feed)?;
    let frame = stream.start().ok_or_else(|| no_picture(&name))?;
    let bytes = bytes(&frame).ok_or_else(|| no_picture(&name))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    for (name, value) in Facts::of(&frame).headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Ok((headers, bytes).into_response())
}

/// The stream of a camera that has JPEGs.
pub fn jpegs(feed: &Feed) -> Result<Arc<Stream>, Refusal> {
    let mut other = None;
    for (_, stream) in feed.streams() {
        match stream.codec() {
            Some((Codec::Jpeg, _)) => return Ok(stream),
            Some((codec, _)) if !codec.is_audio() => other = Some(codec),
            _ => {}
        }
    }
    let name = feed.name();
    Err(match other {
        Some(codec) => Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "camera {name} sends {codec}, not JPEG: watch it over WebRTC, on the page, or over RTSP"
            ),
        ),
        None => no_picture(name),
    })
}

/// The bytes of a frame, without a copy.
pub fn bytes(frame: &Frame) -> Option<Bytes> {
    let map = frame.buffer.clone().into_mapped_buffer_readable().ok()?;
    Some(Bytes::from_owner(map))
}

fn no_picture(name: &str) -> Refusal {
    let why = format!("camera {name} has not sent a picture yet; try again in a second");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)
}
