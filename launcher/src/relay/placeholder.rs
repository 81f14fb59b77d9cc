//! What viewers see while a camera sends nothing: its last picture dimmed, with its name
//! and since when.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

use super::frame::{Codec, Frame};
use super::jpeg;
use super::stream::Stream;
use crate::worker::Client;
use crate::worker::wire::{Coding, MAX_BODY, MAX_UNITS, Order, Reply, Request};

/// How often a placeholder is shown.
const INTERVAL: Duration = Duration::from_millis(500);
/// Frames since the last key frame that are kept, to decode the last picture from.
const MAX_FRAMES: usize = 300;
/// Their bytes.
const MAX_BYTES: usize = 8 << 20;
/// Placeholders that wait to be made.
const MAX_WAITING: usize = 64;
/// What making one may take.
const MAKING: Duration = Duration::from_secs(6);
/// A worker that nobody needed for so long is let go.
const IDLE: Duration = Duration::from_secs(10);

/// The last pictures of a stream, and what is shown in their place.
#[derive(Default)]
pub(super) struct Standby {
    /// The frames since the last key frame; of JPEG the last one.
    last: VecDeque<Arc<Frame>>,
    bytes: usize,
    /// The last frame, where a placeholder was ordered since.
    ordered: Option<Arc<Frame>>,
    card: Option<Card>,
    shown: Option<Instant>,
}

/// A placeholder, as it is shown again and again.
pub(super) struct Card {
    /// Shown in turn; at least one.
    units: Vec<gst::Buffer>,
    next: usize,
    jpeg: Option<jpeg::Picture>,
    of: Arc<Frame>,
}

/// What a placeholder is made of.
pub struct Material {
    stream: Weak<Stream>,
    camera: Arc<str>,
    /// As [`Standby::last`].
    last: Vec<Arc<Frame>>,
    /// The last frame of the camera.
    of: Arc<Frame>,
    /// When it came.
    since: SystemTime,
}

impl Standby {
    /// The camera sent a frame; whether the frames since the last key frame are too many
    /// to be kept.
    pub fn note(&mut self, frame: &Arc<Frame>) -> bool {
        self.ordered = None;
        self.card = None;
        self.shown = None;
        if frame.key {
            self.last.clear();
            self.bytes = 0;
        }
        let was_kept = frame.key || !self.last.is_empty();
        if self.last.len() == MAX_FRAMES || self.bytes + frame.buffer.size() > MAX_BYTES {
            self.last.clear();
            self.bytes = 0;
            return was_kept;
        }
        if was_kept {
            self.bytes += frame.buffer.size();
            self.last.push_back(frame.clone());
        }
        false
    }

    /// The frames since the last key frame, where they are not too many; of JPEG the last one.
    pub fn last(&self) -> Vec<Arc<Frame>> {
        self.last.iter().cloned().collect()
    }

    /// Whether viewers see a placeholder.
    pub fn shows(&self) -> bool {
        self.shown.is_some()
    }

    /// What is to be made into a placeholder, the first time this is asked.
    pub fn order(
        &mut self,
        stream: &Arc<Stream>,
        camera: &Arc<str>,
        newest: &Arc<Frame>,
        since: SystemTime,
    ) -> Option<Material> {
        if self.ordered.is_some() {
            return None;
        }
        self.ordered = Some(newest.clone());
        Some(Material {
            stream: Arc::downgrade(stream),
            camera: camera.clone(),
            last: self.last(),
            of: newest.clone(),
            since,
        })
    }

    /// It was not taken; it may be ordered again.
    pub fn was_not_ordered(&mut self) {
        self.ordered = None;
    }

    /// Whether one of that frame is wanted still: the camera sent nothing since it was ordered.
    pub fn awaits(&self, of: &Arc<Frame>) -> bool {
        let ordered = self.ordered.as_ref();
        ordered.is_some_and(|ordered| Arc::ptr_eq(ordered, of))
    }

    /// Shows that from now on, if it is wanted still.
    pub fn put(&mut self, card: Card) {
        if self.awaits(&card.of) {
            self.card = Some(card);
        }
    }

    /// When the next one is to be shown, where one is.
    pub fn next_due(&self) -> Option<Instant> {
        self.shown.map(|shown| shown + INTERVAL)
    }

    /// The placeholder to show now, if one is due.
    pub fn due(&mut self, now: Instant) -> Option<Frame> {
        if self.next_due().is_some_and(|due| now < due) {
            return None;
        }
        let card = self.card.as_mut()?;
        self.shown = Some(now);
        let buffer = card.units.get(card.next % card.units.len())?.clone();
        card.next += 1;
        let captured = gst::prelude::ClockExt::time(&gst::SystemClock::obtain());
        Some(Frame {
            buffer,
            caps: card.of.caps.clone(),
            codec: card.of.codec.clone(),
            captured,
            pictured: card.of.captured,
            wall: card.of.wall,
            arrived: now,
            sequence: 0,
            placeholder: true,
            key: true,
            jpeg: card.jpeg,
        })
    }
}

/// Makes placeholders, one after the other, in a worker; until it is dropped.
pub struct Maker {
    orders: Option<SyncSender<Material>>,
    thread: Option<JoinHandle<()>>,
}

impl Maker {
    /// Starts a thread; the worker is started when it is needed.
    pub fn start() -> anyhow::Result<Self> {
        let (orders, ordered) = sync_channel(MAX_WAITING);
        let thread = thread::Builder::new()
            .name("placeholders".into())
            .spawn(move || make_all(&ordered))
            .context("no thread for placeholders")?;
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Has a placeholder made; whether it is taken. It goes to the stream when it is made.
    pub fn order(&self, material: Material) -> bool {
        let orders = self.orders.as_ref();
        orders.is_some_and(|orders| orders.try_send(material).is_ok())
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread is in the log already.
            let _ = thread.join();
        }
    }
}

fn make_all(ordered: &Receiver<Material>) {
    let mut worker = Client::default();
    loop {
        let material = match ordered.recv_timeout(IDLE) {
            Ok(material) => material,
            Err(RecvTimeoutError::Timeout) => {
                worker.rest();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let stream = material.stream.upgrade();
        if !stream.is_some_and(|stream| stream.awaits(&material.of)) {
            continue;
        }
        let card = make(&mut worker, &material, true).or_else(|error| {
            tracing::debug!("camera {}: {error:#}", material.camera);
            // Without its picture, that cannot be decoded.
            make(&mut worker, &material, false)
        });
        match card {
            Ok(card) => {
                if let Some(stream) = material.stream.upgrade() {
                    stream.stand_in(card);
                }
            }
            Err(error) => tracing::warn!(
                "camera {}: viewers see its last picture as it was, no placeholder: {error:#}",
                material.camera
            ),
        }
    }
}

/// Makes one, of the last picture or without.
fn make(worker: &mut Client, material: &Material, with_picture: bool) -> anyhow::Result<Card> {
    let of = &material.of;
    let last = if with_picture {
        &material.last[..]
    } else {
        &[]
    };
    let body = joined(last)?;
    let coding = match of.codec {
        Codec::Jpeg => {
            let bytes = of.buffer.map_readable().ok().context("unreadable")?;
            Coding::Jpeg(jpeg::raw_format(&bytes).to_owned())
        }
        Codec::H264 => Coding::H264,
        Codec::H265 => Coding::H265,
        _ => bail!("none is made of {}", of.codec),
    };
    let (width, height) = of.size().context("its size is not known")?;
    let order = Request::Placeholder(Order {
        coding,
        width,
        height,
        text: vec![material.camera.to_string(), caption(material.since)],
    });
    let (Reply::Placeholder { sizes }, bytes) = worker.ask(&order, &body, MAKING)? else {
        bail!("the worker answers something else");
    };
    let total = sizes
        .iter()
        .try_fold(0_usize, |sum, size| sum.checked_add(*size));
    if sizes.is_empty() || sizes.len() > MAX_UNITS || total != Some(bytes.len()) {
        bail!("the worker answers nonsense");
    }
    let mut rest = bytes.as_slice();
    let mut units = Vec::new();
    for size in sizes {
        let (unit, after) = rest.split_at(size);
        units.push(gst::Buffer::from_mut_slice(unit.to_vec()));
        rest = after;
    }
    let jpeg = match of.codec {
        Codec::Jpeg => Some(jpeg::check(&bytes)?),
        _ => None,
    };
    Ok(Card {
        units,
        next: 0,
        jpeg,
        of: of.clone(),
    })
}

/// The bytes of these frames, one after the other, as a worker takes them.
pub(super) fn joined(frames: &[Arc<Frame>]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    for frame in frames {
        let bytes = frame.buffer.map_readable().ok().context("unreadable")?;
        if body.len() + bytes.len() > MAX_BODY {
            bail!("the pictures since the last key frame are too large");
        }
        body.extend_from_slice(&bytes);
    }
    Ok(body)
}

/// Since when there is no picture, in the time of this place.
fn caption(since: SystemTime) -> String {
    let seconds = since
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| glib::DateTime::from_unix_local(seconds).ok())
        .and_then(|time| time.format("%H:%M:%S").ok());
    match time {
        Some(time) => format!("no picture since {time}"),
        None => "no picture".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(key: bool, size: usize) -> Arc<Frame> {
        let mut frame = Frame::for_test(Codec::H264, gst::ClockTime::ZERO);
        frame.key = key;
        frame.buffer = gst::Buffer::with_size(size).expect("memory");
        Arc::new(frame)
    }

    #[test]
    fn the_frames_since_the_last_key_frame_are_kept_and_bounded() {
        let mut standby = Standby::default();
        assert!(!standby.note(&frame(false, 1)));
        assert_eq!(standby.last.len(), 0, "nothing to decode it with");
        assert!(!standby.note(&frame(true, 1)));
        for _ in 1..MAX_FRAMES {
            assert!(!standby.note(&frame(false, 1)));
        }
        assert_eq!(standby.last.len(), MAX_FRAMES);
        assert!(standby.note(&frame(false, 1)), "a key frame is needed");
        assert!(!standby.note(&frame(false, 1)), "said once");
        assert_eq!(standby.last.len(), 0);

        assert!(!standby.note(&frame(true, MAX_BYTES)));
        assert!(standby.note(&frame(false, 1)));
        assert!(!standby.note(&frame(true, 1)));
        assert_eq!(standby.last.len(), 1);
    }

    #[test]
    fn a_card_is_shown_twice_a_second_until_the_camera_is_back() {
        let mut standby = Standby::default();
        let last = frame(true, 1);
        let card = || Card {
            units: vec![gst::Buffer::new()],
            next: 0,
            jpeg: None,
            of: last.clone(),
        };
        standby.note(&last);
        standby.put(card());
        let begin = Instant::now();
        assert!(standby.due(begin).is_none(), "nobody ordered it");
        standby.ordered = Some(frame(true, 1));
        standby.put(card());
        assert!(
            standby.due(begin).is_none(),
            "it was ordered of another one"
        );
        standby.ordered = Some(last.clone());
        assert!(standby.awaits(&last));
        standby.put(card());
        let shown = standby.due(begin).expect("it is due");
        assert!(shown.placeholder && shown.key);
        assert!(standby.due(begin + INTERVAL / 2).is_none());
        assert!(standby.due(begin + INTERVAL).is_some());
        assert!(standby.shows());
        standby.note(&last);
        assert!(!standby.shows() && !standby.awaits(&last));
        assert!(standby.due(begin + 2 * INTERVAL).is_none());
    }
}
