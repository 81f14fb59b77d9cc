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

/// `GET /cameras/{name}/snapshot.jpg`: the newest picture; of a camera that sends no JPEGs
/// one that is made now.
pub async fn snapshot(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let feed = site.feed(&name)?;
    let (stream, codec) = video(&feed).ok_or_else(|| no_picture(&feed))?;
    let frame = match codec {
        Codec::Jpeg => stream.start().ok_or_else(|| no_picture(&feed))?,
        _ => site.snapshots.take(stream).await.map_err(|error| {
            let why = format!("there is no snapshot of camera {name} now: {error:#}; try again");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)
        })?,
    };
    let bytes = bytes(&frame).ok_or_else(|| no_picture(&feed))?;
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
    let name = feed.name();
    match video(feed) {
        Some((stream, Codec::Jpeg)) => Ok(stream),
        Some((_, codec)) => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "camera {name} sends {codec}, not JPEG: watch it over WebRTC, on the page, or over RTSP"
            ),
        )),
        None => Err(no_picture(feed)),
    }
}

/// The stream of a camera that has pictures, JPEGs where there is a choice; and what they are.
pub fn video(feed: &Feed) -> Option<(Arc<Stream>, Codec)> {
    let all = feed.streams().into_iter().filter_map(|(_, stream)| {
        let (codec, _) = stream.codec()?;
        (!codec.is_audio()).then_some((stream, codec))
    });
    all.min_by_key(|(_, codec)| *codec != Codec::Jpeg)
}

/// The bytes of a frame, without a copy.
pub fn bytes(frame: &Frame) -> Option<Bytes> {
    let map = frame.buffer.clone().into_mapped_buffer_readable().ok()?;
    Some(Bytes::from_owner(map))
}

fn no_picture(feed: &Feed) -> Refusal {
    let name = feed.name();
    let why = match feed.why_no_picture() {
        Some(why) => format!("camera {name} is refused: {why}"),
        None => format!("camera {name} has not sent a picture yet; try again in a second"),
    };
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)
}
