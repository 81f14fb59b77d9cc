//! What viewers see while a camera sends nothing: its last picture dimmed, with its name
//! and since when.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
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
/// Frames that are decoded soon enough. Of more, the first placeholder shows the key frame
/// that they begin with, and only the next one the last.
const FEW: usize = 15;
/// After so long what a placeholder takes may have to be read from the disk again.
const REHEARSED: Duration = Duration::from_secs(600);

/// The last pictures of a stream, and what is shown in their place.
#[derive(Default)]
pub(super) struct Standby {
    /// The frames since the last key frame; of JPEG the last one.
    last: VecDeque<Arc<Frame>>,
    bytes: usize,
    /// The key frame that those began with which were too many.
    start: Option<Arc<Frame>>,
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
    /// As [`Standby::last`]; where those are too many, the key frame that they began with.
    last: Vec<Arc<Frame>>,
    /// The last frame of the camera.
    of: Arc<Frame>,
    /// When it came.
    since: SystemTime,
    pass: Pass,
}

/// Of what a placeholder is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Of all frames, which are few.
    Only,
    /// Of the key frame: decoding the others takes its time.
    Key,
    /// Of the others as well, while the key frame is shown.
    All,
}

/// What there is to do.
enum Work {
    Make(Material),
    /// What making one takes, before it is needed.
    Rehearse(Coding),
}

/// What there is to do, what viewers wait for first.
struct Queue {
    orders: Receiver<Work>,
    /// What has a placeholder already, that a better one replaces.
    later: VecDeque<Material>,
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
            self.start = None;
        }
        let was_kept = frame.key || !self.last.is_empty();
        if self.last.len() == MAX_FRAMES || self.bytes + frame.buffer.size() > MAX_BYTES {
            self.start = self.last.pop_front().or(self.start.take());
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
            last: self.start.iter().chain(&self.last).cloned().collect(),
            of: newest.clone(),
            since,
            pass: match self.last.len() {
                0..=FEW => Pass::Only,
                _ => Pass::Key,
            },
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
    pub fn put(&mut self, mut card: Card) {
        if self.awaits(&card.of) {
            // It goes on where the one before stopped: units in a row are to differ.
            card.next = self.card.as_ref().map_or(0, |before| before.next);
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
            pictured: card.of.pictured,
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
    orders: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
    /// What was rehearsed, and when.
    rehearsed: Mutex<Vec<(Coding, Instant)>>,
}

impl Maker {
    /// Starts a thread; the worker is started when it is needed.
    pub fn start() -> anyhow::Result<Self> {
        let (orders, ordered) = sync_channel(MAX_WAITING);
        let queue = Queue {
            orders: ordered,
            later: VecDeque::new(),
        };
        let thread = thread::Builder::new()
            .name("placeholders".into())
            .spawn(move || make_all(queue))
            .context("no thread for placeholders")?;
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
            rehearsed: Mutex::default(),
        })
    }

    /// Has a placeholder made; whether it is taken. It goes to the stream when it is made.
    pub fn order(&self, material: Material) -> bool {
        self.tell(Work::Make(material))
    }

    /// Somebody watches a camera of that codec, which may fall silent. Decoders and encoders
    /// of H.264 and H.265 are large: reading them from the disk takes seconds, so that is done
    /// now.
    pub fn rehearse(&self, codec: &Codec, now: Instant) {
        let coding = match codec {
            Codec::H264 => Coding::H264,
            Codec::H265 => Coding::H265,
            _ => return,
        };
        let mut rehearsed = self
            .rehearsed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rehearsed.retain(|(_, at)| now.saturating_duration_since(*at) < REHEARSED);
        if rehearsed.iter().all(|(done, _)| *done != coding) {
            rehearsed.push((coding.clone(), now));
            drop(rehearsed);
            self.tell(Work::Rehearse(coding));
        }
    }

    fn tell(&self, work: Work) -> bool {
        let orders = self.orders.as_ref();
        orders.is_some_and(|orders| orders.try_send(work).is_ok())
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

impl Queue {
    /// What to do next; an error after [`IDLE`] without any, and at the end.
    fn next(&mut self) -> Result<Work, RecvTimeoutError> {
        if self.later.is_empty() {
            return self.orders.recv_timeout(IDLE);
        }
        match self.orders.try_recv() {
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => {
                let material = self.later.pop_front().map(Work::Make);
                material.ok_or(RecvTimeoutError::Timeout)
            }
            Ok(work) => Ok(work),
        }
    }

    /// One is made of that: what is better may follow.
    fn made(&mut self, mut material: Material) {
        if material.pass == Pass::Key && self.later.len() < MAX_WAITING {
            material.pass = Pass::All;
            self.later.push_back(material);
        }
    }
}

impl Material {
    /// What the picture is decoded from.
    fn frames(&self) -> &[Arc<Frame>] {
        match self.pass {
            Pass::Only | Pass::All => &self.last,
            Pass::Key => self.last.get(..1).unwrap_or_default(),
        }
    }
}

fn make_all(mut queue: Queue) {
    let mut worker = Client::default();
    loop {
        let material = match queue.next() {
            Ok(Work::Make(material)) => material,
            Ok(Work::Rehearse(coding)) => {
                rehearse(coding);
                continue;
            }
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
        let camera = &material.camera;
        let card = make(&mut worker, &material, material.frames()).or_else(|error| {
            tracing::debug!("camera {camera}: {error:#}");
            match material.pass {
                Pass::All => Err(error),
                // Without its picture, that cannot be decoded.
                _ => make(&mut worker, &material, &[]),
            }
        });
        match card {
            Ok(card) => {
                if let Some(stream) = material.stream.upgrade() {
                    stream.stand_in(card);
                }
                queue.made(material);
            }
            // What is shown is as good as it gets.
            Err(_) if material.pass == Pass::All => {}
            Err(error) => tracing::warn!(
                "camera {camera}: viewers see its last picture as it was, no placeholder: {error:#}"
            ),
        }
    }
}

/// Has a worker of its own do once what making a placeholder takes: it stands back behind
/// all others.
fn rehearse(coding: Coding) {
    let done = Client::default().ask(&Request::Rehearse(coding), &[], MAKING);
    if let Err(error) = done {
        tracing::debug!("placeholders are not rehearsed: {error:#}");
    }
}

/// Makes one of the picture in these frames, or without any.
fn make(worker: &mut Client, material: &Material, last: &[Arc<Frame>]) -> anyhow::Result<Card> {
    let of = &material.of;
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

    use crate::relay::feeds::{Feeds, Listeners};

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
    fn of_many_frames_the_key_frame_is_shown_first_and_no_camera_waits_for_better_ones() {
        let feeds = Feeds::new(Listeners::default());
        let feed = feeds.open("door").expect("there is room");
        let stream = feed.stream(0).expect("a good number");
        let material = |camera: &str, frames: usize| {
            let mut standby = Standby::default();
            let sent: Vec<_> = (0..frames).map(|number| frame(number == 0, 1)).collect();
            for frame in &sent {
                standby.note(frame);
            }
            let newest = sent.last().expect("there is one");
            let order = standby.order(&stream, &camera.into(), newest, SystemTime::now());
            let first = &order.as_ref().expect("it is the first").last[0];
            assert!(Arc::ptr_eq(first, &sent[0]), "the key frame");
            Work::Make(order.expect("it is the first"))
        };
        let (orders, ordered) = sync_channel(MAX_WAITING);
        let mut queue = Queue {
            orders: ordered,
            later: VecDeque::new(),
        };
        let sent = [
            ("few", FEW),
            ("many", FEW + 1),
            ("more", MAX_FRAMES),
            ("most", MAX_FRAMES + 2),
        ];
        for (camera, frames) in sent {
            orders.try_send(material(camera, frames)).expect("room");
        }
        let wanted = [
            ("few", FEW),
            ("many", 1),
            ("more", 1),
            ("most", 1),
            ("many", FEW + 1),
            ("more", MAX_FRAMES),
        ];
        for wanted in wanted {
            let Ok(Work::Make(material)) = queue.next() else {
                panic!("there is more to make");
            };
            assert_eq!((&*material.camera, material.frames().len()), wanted);
            queue.made(material);
        }
        assert!(queue.later.is_empty());
        for _ in 0..2 * MAX_WAITING {
            let Work::Make(material) = material("many", FEW + 1) else {
                panic!("it is to be made");
            };
            queue.made(material);
        }
        assert_eq!(queue.later.len(), MAX_WAITING);
        drop(orders);
        assert!(matches!(queue.next(), Err(RecvTimeoutError::Disconnected)));
    }

    #[test]
    fn what_placeholders_take_is_rehearsed_once_in_a_while() {
        let (orders, ordered) = sync_channel(MAX_WAITING);
        let maker = Maker {
            orders: Some(orders),
            thread: None,
            rehearsed: Mutex::default(),
        };
        let begin = Instant::now();
        let rehearsed = || match ordered.try_recv() {
            Ok(Work::Rehearse(coding)) => Some(coding),
            _ => None,
        };
        maker.rehearse(&Codec::Jpeg, begin);
        maker.rehearse(&Codec::Other("video/x-vp8".into()), begin);
        assert_eq!(rehearsed(), None);
        for _ in 0..2 {
            maker.rehearse(&Codec::H264, begin);
            maker.rehearse(&Codec::H265, begin + REHEARSED / 2);
        }
        assert_eq!(
            [rehearsed(), rehearsed()],
            [Some(Coding::H264), Some(Coding::H265)]
        );
        assert_eq!(rehearsed(), None, "just done");
        maker.rehearse(&Codec::H264, begin + REHEARSED);
        maker.rehearse(&Codec::H265, begin + REHEARSED);
        assert_eq!([rehearsed(), rehearsed()], [Some(Coding::H264), None]);
    }

    #[test]
    fn a_card_is_shown_twice_a_second_until_the_camera_is_back() {
        let mut standby = Standby::default();
        let last = frame(true, 1);
        let unit = |size| gst::Buffer::with_size(size).expect("memory");
        let card = || Card {
            units: vec![unit(1), unit(2)],
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
        assert_eq!(shown.buffer.size(), 1);
        assert!(standby.due(begin + INTERVAL / 2).is_none());
        standby.put(card());
        assert!(standby.due(begin + INTERVAL / 2).is_none(), "a better one");
        let shown = standby.due(begin + INTERVAL).expect("it is due");
        assert_eq!(shown.buffer.size(), 2, "no two in a row are alike");
        assert!(standby.shows());
        standby.note(&last);
        assert!(!standby.shows() && !standby.awaits(&last));
        assert!(standby.due(begin + 2 * INTERVAL).is_none());
    }
}
