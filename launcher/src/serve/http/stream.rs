//! `GET /cameras/{name}/stream.mjpeg`: a picture after the other, always the newest.
//!
//! A body of `multipart/x-mixed-replace` without an end. The next picture is taken
//! only once the last one was written, so that a slow viewer sees fewer of them and
//! none late.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame as BodyFrame;

use super::Site;
use super::answer::Refusal;
use super::pace::Pace;
use super::picture::{Facts, bytes, jpegs};
use crate::relay::consumer::{Consumer, Limits};
use crate::relay::feed::Feed;
use crate::relay::frame::{Codec, Frame};
use crate::relay::stream::{Attachment, Stream};
use crate::relay::viewers::{Viewing, Way};

/// What stands between pictures. No JPEG has it: 0xff is followed by a marker there.
const BOUNDARY: &str = "camrelay-picture";
/// One picture, the newest.
const NEWEST: Limits = Limits {
    frames: 1,
    burst: 1,
    bytes: usize::MAX,
    time: gst::ClockTime::MAX,
    catch_up: 0,
};

/// The newest frame of a stream, for a task that waits for it.
pub struct Newest {
    feed: Arc<Feed>,
    consumer: Arc<Consumer>,
    waker: Arc<Mutex<Option<Waker>>>,
    _attachment: Attachment,
}

impl Newest {
    /// Of that stream of a camera, from the newest frame there is on.
    pub fn of(feed: Arc<Feed>, stream: &Arc<Stream>) -> Self {
        let waker = Arc::new(Mutex::new(None::<Waker>));
        let wake = waker.clone();
        let consumer = Arc::new(Consumer::new(NEWEST, move || {
            let waker = wake.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }));
        Self {
            feed,
            _attachment: stream.attach(consumer.clone()),
            consumer,
            waker,
        }
    }

    /// The newest frame that was not taken yet; `None` once the camera is forgotten.
    pub fn poll(&self, context: &Context<'_>) -> Poll<Option<Arc<Frame>>> {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        match self.consumer.take() {
            None if !self.feed.is_forgotten() => Poll::Pending,
            taken => Poll::Ready(taken),
        }
    }

    /// As [`Consumer::want`].
    pub fn want(&self, from: Instant, interval: Duration) {
        self.consumer.want(from, interval);
    }
}

/// Answers with the pictures of a camera.
pub async fn mjpeg(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    Extension(pace): Extension<Pace>,
) -> Result<Response, Refusal> {
    let feed = site.feed(&name)?;
    let stream = jpegs(&feed)?;
    let pictures = Pictures {
        _viewing: feed.viewers().watch(Way::Http),
        newest: Newest::of(feed, &stream),
        pace,
        site,
        rest: VecDeque::from([Bytes::from(format!("--{BOUNDARY}\r\n"))]),
    };
    let content = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    Ok(([(header::CONTENT_TYPE, content)], Body::new(pictures)).into_response())
}

struct Pictures {
    _viewing: Viewing,
    newest: Newest,
    pace: Pace,
    site: Arc<Site>,
    /// What of the picture is still to be given.
    rest: VecDeque<Bytes>,
}

impl hyper::body::Body for Pictures {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            ready!(self.pace.poll_written(context));
            if self.site.is_closing() {
                return Poll::Ready(None);
            }
            let Some(frame) = ready!(self.newest.poll(context)) else {
                return Poll::Ready(None);
            };
            // Another codec: a viewer who comes again hears so.
            let picture = bytes(&frame).filter(|_| frame.codec == Codec::Jpeg);
            let Some(picture) = picture else {
                return Poll::Ready(None);
            };
            self.rest = VecDeque::from([
                head(&frame, picture.len()),
                picture,
                // At once, not before the next: this is where browsers show it.
                Bytes::from(format!("\r\n--{BOUNDARY}\r\n")),
            ]);
        }
        self.pace.given();
        Poll::Ready(
            self.rest
                .pop_front()
                .map(|piece| Ok(BodyFrame::data(piece))),
        )
    }
}

/// What stands before a picture.
fn head(frame: &Frame, length: usize) -> Bytes {
    let mut text = format!("Content-Type: image/jpeg\r\nContent-Length: {length}\r\n");
    for (name, value) in Facts::of(frame).headers() {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text += "\r\n";
    text.into()
}
