//! `/api/v1/wall`: many cameras over one WebSocket (RFC 6455); docs/http.md has its messages.
//!
//! Of each camera one picture is on its way until the client has seen it, and the next
//! is the newest there is then: a slow link gets fewer pictures, and none late. JPEGs that
//! are larger than the client shows them are made smaller, once for all clients; so that
//! these want the same ones, each is due at the same times as everybody's. Of a camera that
//! sends no JPEGs a snapshot is made now and then.

use std::collections::BTreeMap;
use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use gst::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, Sleep};

use super::Site;
use super::answer::Refusal;
use super::api::{self, model::Camera};
use super::guard::Asked;
use super::picture::{bytes, video};
use super::socket::{self, CloseCode, Error, Message, Socket};
use super::stream::Newest;
use crate::relay::feed::Feed;
use crate::relay::frame::{Codec, Frame};
use crate::relay::scaler;
use crate::relay::stream::Stream;
use crate::relay::viewers::{Viewing, Way};
use crate::users::{Right, Visitor};

/// The version of the header before a picture.
const VERSION: u8 = 1;
/// Its bytes.
const HEADER: usize = 24;
/// In its flags: the relay made the picture, as the camera sends none any more.
const PLACEHOLDER: u8 = 1;
/// Cameras that one client is shown.
pub const MAX_SHOWN: usize = 64;
/// How often is looked whether there is something new to attach to.
const LOOK: Duration = Duration::from_millis(250);
/// So many looks, and the status is told even when no state changed.
const LOOKS: u32 = 4;
/// The least between two snapshots of a camera that sends no JPEGs: all since its last key frame
/// is decoded for each.
const SNAPSHOTS: Duration = Duration::from_secs(1);
/// The least between two tellings of the status: cameras may come all at once.
const SPACING: Duration = Duration::from_millis(50);
/// From when on pictures are due, at every interval.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What a client says.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wish {
    /// These cameras and no others.
    Show(Vec<Show>),
    /// The picture of the camera with this number was seen.
    Seen(u16),
}

#[derive(Deserialize)]
struct Show {
    camera: String,
    /// Pictures a second, at most.
    fps: Option<f64>,
    /// Pixels that it is shown in; left out: all that there are.
    width: Option<u32>,
}

/// What a client is told.
#[derive(Serialize)]
#[serde(untagged)]
enum News {
    Shown {
        /// The number of each camera that is shown, as pictures have it.
        shown: BTreeMap<String, u16>,
    },
    Cameras {
        /// The cameras as they are now.
        cameras: Vec<Camera>,
        /// The clock that pictures are captured by, in milliseconds.
        clock: u64,
    },
}

/// Why a connection ends.
struct End {
    code: CloseCode,
    why: &'static str,
}

/// The pictures that a client is shown.
struct Wall {
    site: Arc<Site>,
    visitor: Visitor,
    shown: BTreeMap<u16, Shown>,
    /// The camera whose turn it is.
    turn: u16,
    /// The number of the next camera.
    next: u16,
}

struct Shown {
    camera: String,
    interval: Duration,
    width: u32,
    /// There is one on its way.
    unseen: bool,
    /// Ready when the next may go.
    due: Pin<Box<Sleep>>,
    source: Option<Source>,
    /// The next, while it is made.
    making: Option<Pin<Box<Making>>>,
}

/// `None`: it cannot be made.
type Making = dyn Future<Output = Option<Arc<Frame>>> + Send;

struct Source {
    feed: Arc<Feed>,
    stream: Arc<Stream>,
    /// `None`: it has no JPEGs, and is shown as snapshots.
    newest: Option<Newest>,
    _viewing: Viewing,
}

/// Answers by becoming a WebSocket.
pub async fn wall(
    State(site): State<Arc<Site>>,
    Extension(visitor): Extension<Visitor>,
    Extension(asked): Extension<Asked>,
    request: Request,
) -> Result<Response, Refusal> {
    socket::upgrade(request, async move |mut socket| {
        let end = match show(&mut socket, site, visitor, &asked).await {
            Ok(end) => end,
            Err(Error::Capacity(_)) => End {
                code: CloseCode::Size,
                why: "a message of more than 64 KiB",
            },
            // It is gone.
            Err(_) => return,
        };
        socket.close(end.code, end.why).await;
    })
}

/// Shows pictures until the end, or until there is nobody any more.
async fn show(
    socket: &mut Socket,
    site: Arc<Site>,
    visitor: Visitor,
    asked: &Asked,
) -> Result<End, Error> {
    let mut wall = Wall {
        site: site.clone(),
        visitor,
        shown: BTreeMap::new(),
        turn: 0,
        next: 0,
    };
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = site.feeds.changes();
    changes.mark_changed();
    let (mut look, mut rested) = (0, Instant::now());
    loop {
        // That something changed is only forgotten once it is told.
        let mut news = changes.clone();
        let changed = async move {
            // An error would mean that there are no feeds any more, and the site has them.
            let _ = news.changed().await;
            tokio::time::sleep_until(rested).await;
        };
        tokio::select! {
            message = socket.hear() => match message? {
                None | Some(Message::Close(_)) => {
                    return Ok(End { code: CloseCode::Normal, why: "" });
                }
                Some(Message::Text(text)) => match serde_json::from_str(&text) {
                    Ok(Wish::Show(wishes)) if wishes.len() <= MAX_SHOWN => {
                        let shown = wall.show(wishes);
                        socket.say(text_of(&News::Shown { shown })).await?;
                    }
                    Ok(Wish::Show(_)) => {
                        return Ok(End { code: CloseCode::Policy, why: "64 cameras are the most" });
                    }
                    Ok(Wish::Seen(number)) => wall.seen(number),
                    Err(_) => {
                        return Ok(End { code: CloseCode::Invalid, why: "no such message; see docs/http.md" });
                    }
                },
                Some(_) => {}
            },
            (number, frame) = poll_fn(|context| wall.poll_picture(context)) => {
                if let Some(picture) = bytes(&frame) {
                    socket.show(&head(number, &frame), picture).await?;
                }
            }
            () = changed => {
                changes.mark_unchanged();
                wall.find();
                rested = Instant::now() + SPACING;
                let cameras = api::visible(&site, &wall.visitor, asked);
                let clock = gst::SystemClock::obtain().time().mseconds();
                socket.say(text_of(&News::Cameras { cameras, clock })).await?;
            }
            _ = looks.tick() => {
                wall.find();
                look = (look + 1) % LOOKS;
                if look == 0 {
                    changes.mark_changed();
                }
            }
            () = site.closed() => return Ok(End { code: CloseCode::Away, why: "the relay stops" }),
        }
    }
}

fn text_of(news: &News) -> Message {
    // Nothing in it can fail to be written as JSON.
    Message::Text(serde_json::to_string(news).unwrap_or_default().into())
}

/// What is sent before a picture: numbers are big-endian.
fn head(number: u16, frame: &Frame) -> [u8; HEADER] {
    let wall = frame.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
    let age = frame.age(gst::SystemClock::obtain().time()).as_millis();
    let age = u32::try_from(age).unwrap_or(u32::MAX);
    let mut head = [0; HEADER];
    head[0] = VERSION;
    head[1..3].copy_from_slice(&number.to_be_bytes());
    head[3] = if frame.placeholder { PLACEHOLDER } else { 0 };
    head[4..12].copy_from_slice(&wall.to_be_bytes());
    head[12..16].copy_from_slice(&age.to_be_bytes());
    head[16..].copy_from_slice(&frame.sequence.to_be_bytes());
    head
}

impl Wall {
    /// Shows these cameras and no others. Those that were shown before keep their
    /// numbers and what is on its way.
    fn show(&mut self, wishes: Vec<Show>) -> BTreeMap<String, u16> {
        let mut before: BTreeMap<_, _> = std::mem::take(&mut self.shown)
            .into_iter()
            .map(|(number, shown)| (shown.camera.clone(), (number, shown)))
            .collect();
        for wish in wishes {
            if !self.visitor.may(Right::View, &wish.camera) {
                continue;
            }
            let fps = wish.fps.filter(|fps| fps.is_finite()).unwrap_or(60.0);
            let interval = Duration::from_secs(1).div_f64(fps.clamp(0.1, 60.0));
            let (number, mut shown) = before.remove(&wish.camera).unwrap_or_else(|| {
                while before.values().any(|(number, _)| *number == self.next)
                    || self.shown.contains_key(&self.next)
                {
                    self.next = self.next.wrapping_add(1);
                }
                let number = self.next;
                self.next = self.next.wrapping_add(1);
                (number, Shown::new(wish.camera))
            });
            shown.interval = interval;
            shown.want();
            shown.width = wish.width.unwrap_or(u32::MAX);
            self.shown.insert(number, shown);
        }
        self.find();
        let numbers = self.shown.iter();
        numbers
            .map(|(number, shown)| (shown.camera.clone(), *number))
            .collect()
    }

    fn seen(&mut self, number: u16) {
        if let Some(shown) = self.shown.get_mut(&number) {
            shown.unseen = false;
        }
    }

    /// Attaches to cameras that came, and to those that send something else now.
    fn find(&mut self) {
        for shown in self
            .shown
            .values_mut()
            .filter(|shown| shown.source.is_none())
        {
            if let Some(feed) = self.site.feeds.get(&shown.camera)
                && let Some((stream, codec)) = video(&feed)
            {
                shown.source = Some(Source {
                    newest: (codec == Codec::Jpeg).then(|| Newest::of(feed.clone(), &stream)),
                    stream,
                    _viewing: feed.viewers().watch(Way::Http),
                    feed,
                });
                shown.want();
            }
        }
    }

    /// The next picture to send, and the number of its camera; each camera in its turn.
    fn poll_picture(&mut self, context: &mut Context<'_>) -> Poll<(u16, Arc<Frame>)> {
        let after = self.shown.range(self.turn..).map(|(number, _)| *number);
        let before = self.shown.range(..self.turn).map(|(number, _)| *number);
        for number in after.chain(before).collect::<Vec<_>>() {
            let Some(shown) = self.shown.get_mut(&number) else {
                continue;
            };
            if let Poll::Ready(frame) = shown.poll(context, &self.site) {
                self.turn = number.wrapping_add(1);
                return Poll::Ready((number, frame));
            }
        }
        Poll::Pending
    }
}

impl Shown {
    fn new(camera: String) -> Self {
        Self {
            camera,
            interval: Duration::ZERO,
            width: u32::MAX,
            unseen: false,
            due: Box::pin(tokio::time::sleep(Duration::ZERO)),
            source: None,
            making: None,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>, site: &Site) -> Poll<Arc<Frame>> {
        if self.unseen {
            return Poll::Pending;
        }
        let making = match &mut self.making {
            Some(making) => making,
            None => {
                let making = std::task::ready!(self.poll_begin(context, site));
                self.making.insert(making)
            }
        };
        let made = std::task::ready!(making.as_mut().poll(context));
        self.making = None;
        let Some(frame) = made else {
            // What it sends now is found out anew.
            self.source = None;
            return Poll::Pending;
        };
        self.unseen = true;
        Poll::Ready(frame)
    }

    /// Begins with the next picture, once it is due.
    fn poll_begin(&mut self, context: &mut Context<'_>, site: &Site) -> Poll<Pin<Box<Making>>> {
        let Some(source) = &self.source else {
            return Poll::Pending;
        };
        std::task::ready!(self.due.as_mut().poll(context));
        if source.feed.is_forgotten() {
            return Poll::Ready(Box::pin(ready(None)));
        }
        let stream = source.stream.clone();
        let Some(newest) = &source.newest else {
            self.rest(self.interval.max(SNAPSHOTS));
            let snapshots = site.snapshots.clone();
            return Poll::Ready(Box::pin(async move { snapshots.take(stream).await.ok() }));
        };
        let newest = std::task::ready!(newest.poll(context));
        let Some(frame) = newest.filter(|frame| frame.codec == Codec::Jpeg) else {
            return Poll::Ready(Box::pin(ready(None)));
        };
        self.rest(self.interval);
        self.want();
        let size = frame.jpeg.and_then(|jpeg| scaler::size(&jpeg, self.width));
        if size.is_none() {
            return Poll::Ready(Box::pin(ready(Some(frame))));
        }
        let smaller = site.desk.clone().smaller(stream, frame, self.width);
        Poll::Ready(Box::pin(async { Some(smaller.await) }))
    }

    /// Has the next one due after that interval.
    fn rest(&mut self, interval: Duration) {
        let next = next_due(self.due.deadline(), interval, Instant::now());
        self.due.as_mut().reset(next);
    }

    /// Says which pictures are wanted: the others are not left out because this is slow.
    fn want(&self) {
        let source = self.source.as_ref();
        if let Some(newest) = source.and_then(|source| source.newest.as_ref()) {
            newest.want(self.due.deadline().into_std(), self.interval);
        }
    }
}

/// When the next picture is due, after one at `due` that was taken `now`. Where that is
/// not long ago the one after `due`, so that a picture that comes a little late does not
/// make all others late.
fn next_due(due: Instant, interval: Duration, now: Instant) -> Instant {
    let from = match now.saturating_duration_since(due) < interval * 2 {
        true => due + interval / 2,
        false => now,
    };
    let since = from.saturating_duration_since(*EPOCH);
    *EPOCH + interval.mul_f64(since.div_duration_f64(interval).ceil())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_due_at_the_same_times_and_at_the_rate_that_is_asked_for() {
        let interval = Duration::from_millis(100);
        let at = |millis: u64| *EPOCH + Duration::from_millis(millis);
        assert_eq!(next_due(at(1000), interval, at(1000)), at(1100));
        assert_eq!(next_due(at(1000), interval, at(1090)), at(1100));
        assert_eq!(
            next_due(at(1000), interval, at(1190)),
            at(1100),
            "it catches up"
        );
        assert_eq!(next_due(at(1000), interval, at(1210)), at(1300));
        assert_eq!(next_due(at(1049), interval, at(1049)), at(1100), "it began");
        assert_eq!(next_due(at(1051), interval, at(1051)), at(1200));
        let interval = Duration::from_secs(1).div_f64(60.0);
        let mut due = at(0);
        for _ in 0..600 {
            due = next_due(due, interval, due);
        }
        let late = due.saturating_duration_since(at(10_000));
        assert!(
            late < Duration::from_millis(1) && due > at(9_999),
            "{late:?}"
        );
    }
}
