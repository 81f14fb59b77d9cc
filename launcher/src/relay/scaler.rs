//! Smaller JPEGs for walls of many cameras: made by workers, once for all who ask for
//! the same size, of the newest picture, and only when somebody asks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::sync::oneshot;

use super::frame::{Codec, Frame};
use super::jpeg::{self, Picture};
use super::stream::Stream;
use crate::worker::Client;
use crate::worker::wire::{Reply, Request};

/// Sizes that there are, by the pixels of a line: few, so that viewers share them.
const WIDTHS: [u32; 3] = [320, 640, 960];
/// Workers, at most: half the processors, so that cameras and viewers have the others.
const MAX_WORKERS: usize = 4;
/// What a smaller picture may take; who waits for it gets the whole one then.
const PATIENCE: Duration = Duration::from_secs(2);
/// A worker that nobody needed for so long is let go, and what it made last as well.
const IDLE: Duration = Duration::from_secs(10);
/// So long a stream's pictures stay as they are after one could not be made smaller: the
/// next may be as bad, and others wait for their turn.
const SHUNNED: Duration = Duration::from_secs(5);
/// Most pixels that are decoded: a few bytes may say that they are billions.
const MAX_PIXELS: u32 = 40_000_000;

/// What makes pictures smaller.
trait Make: Send {
    /// The JPEG of `frame` in that size.
    fn make(&mut self, frame: &Frame, size: (u32, u32)) -> anyhow::Result<Vec<u8>>;
    /// Nothing was asked for in a while.
    fn rest(&mut self) {}
}

/// A stream, by its address, and a width.
type Key = (usize, u32);

/// Makes pictures smaller for those who ask; ends its workers when it is dropped.
pub struct Scaler {
    desk: Arc<Desk>,
    threads: Vec<JoinHandle<()>>,
}

/// Where smaller pictures are asked for.
pub struct Desk {
    state: Mutex<State>,
    /// Told when there is something to make, or nothing ever again.
    ready: Condvar,
}

#[derive(Default)]
struct State {
    /// Each of these once, the first to be made next.
    due: VecDeque<Key>,
    slots: HashMap<Key, Slot>,
    stops: bool,
}

/// A stream in one size.
struct Slot {
    /// It keeps the address from being another stream's.
    stream: Weak<Stream>,
    /// The last one that was made.
    made: Option<Arc<Frame>>,
    used: Instant,
    /// Until when nothing is made.
    shunned: Option<Instant>,
    /// Whether it is due, or in a worker.
    busy: bool,
    /// Who waits for a picture not before the one with that number.
    waiting: Vec<(u64, oneshot::Sender<Arc<Frame>>)>,
}

/// The size in which a picture is made for who shows it `wanted` pixels wide. `None`: as
/// it is, as the others are too small, or hardly smaller than that.
pub fn size(picture: &Picture, wanted: u32) -> Option<(u32, u32)> {
    let (width, height) = (u32::from(picture.width), u32::from(picture.height));
    if width * height > MAX_PIXELS {
        return None;
    }
    let fits = |fits: &u32| *fits >= wanted && fits * 5 <= width * 4;
    let fitting = WIDTHS.into_iter().find(fits)?;
    Some((fitting, (height * fitting / width).max(1)))
}

impl Scaler {
    /// Starts its threads; workers are started when they are needed.
    pub fn start() -> anyhow::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let workers = (processors / 2).clamp(1, MAX_WORKERS);
        Self::with((0..workers).map(|_| Client::default()).collect())
    }

    fn with<M: Make + 'static>(makers: Vec<M>) -> anyhow::Result<Self> {
        let desk = Arc::new(Desk {
            state: Mutex::default(),
            ready: Condvar::new(),
        });
        let mut scaler = Self {
            desk: desk.clone(),
            threads: Vec::new(),
        };
        for make in makers {
            let desk = desk.clone();
            let thread = thread::Builder::new()
                .name("scaler".into())
                .spawn(move || desk.work(make))
                .context("no thread that makes pictures smaller")?;
            scaler.threads.push(thread);
        }
        Ok(scaler)
    }

    /// Where to ask.
    pub fn desk(&self) -> Arc<Desk> {
        self.desk.clone()
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        self.desk.lock().stops = true;
        self.desk.ready.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of the thread is in the log already.
            let _ = thread.join();
        }
    }
}

impl Desk {
    /// `frame` or a newer one of its stream, no narrower than `wanted`; as it is, where
    /// it is not to be smaller or that cannot be done in time.
    pub async fn smaller(
        self: Arc<Self>,
        stream: Arc<Stream>,
        frame: Arc<Frame>,
        wanted: u32,
    ) -> Arc<Frame> {
        let Some(made) = self.ask(&stream, &frame, wanted) else {
            return frame;
        };
        match tokio::time::timeout(PATIENCE, made).await {
            Ok(Ok(made)) => made,
            _ => frame,
        }
    }

    /// `None`: it is to stay as it is.
    fn ask(
        &self,
        stream: &Arc<Stream>,
        frame: &Frame,
        wanted: u32,
    ) -> Option<oneshot::Receiver<Arc<Frame>>> {
        let (width, _) = size(frame.jpeg.as_ref()?, wanted)?;
        let (sender, receiver) = oneshot::channel();
        let key = (Arc::as_ptr(stream) as usize, width);
        let now = Instant::now();
        let mut state = self.lock();
        if state.stops {
            return None;
        }
        if !state.slots.contains_key(&key) {
            state.forget_unused(now);
        }
        let slot = state.slots.entry(key).or_insert_with(|| Slot {
            stream: Arc::downgrade(stream),
            made: None,
            used: now,
            shunned: None,
            busy: false,
            waiting: Vec::new(),
        });
        slot.used = now;
        if slot.shunned.is_some_and(|until| now < until) {
            return None;
        }
        match &slot.made {
            Some(made) if made.sequence >= frame.sequence => {
                // It is heard: the receiver is here.
                let _ = sender.send(made.clone());
                return Some(receiver);
            }
            _ => {}
        }
        // Who left without waiting for the end of it.
        slot.waiting.retain(|(_, sender)| !sender.is_closed());
        slot.waiting.push((frame.sequence, sender));
        if !std::mem::replace(&mut slot.busy, true) {
            state.due.push_back(key);
            self.ready.notify_one();
        }
        Some(receiver)
    }

    /// Makes what is asked for, until the end.
    fn work(&self, mut maker: impl Make) {
        while let Some((key, frame)) = self.next(&mut maker) {
            let made = smaller(&mut maker, &frame, key.1);
            if let Err(error) = &made {
                tracing::debug!("a picture stays as large as it is: {error:#}");
            }
            self.deliver(key, made.ok());
        }
    }

    /// What to make next, of the newest picture there is; `None` at the end.
    fn next(&self, maker: &mut impl Make) -> Option<(Key, Arc<Frame>)> {
        let mut state = self.lock();
        loop {
            if state.stops {
                return None;
            }
            if let Some(key) = state.due.pop_front() {
                let stream = state.slots.get(&key).and_then(|slot| slot.stream.upgrade());
                let newest = stream.and_then(|stream| stream.newest());
                match newest.filter(|newest| newest.codec == Codec::Jpeg) {
                    Some(newest) => return Some((key, newest)),
                    // Who waits hears that nobody answers.
                    None => drop(state.slots.remove(&key)),
                }
                continue;
            }
            let waited = self.ready.wait_timeout(state, IDLE);
            let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = next;
            if timeout.timed_out() && state.due.is_empty() {
                state.forget_unused(Instant::now());
                drop(state);
                maker.rest();
                state = self.lock();
            }
        }
    }

    /// Hands out what was made; who needs a newer one waits for the next. `None`: it
    /// could not be made.
    fn deliver(&self, key: Key, made: Option<Arc<Frame>>) {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&key) else {
            return;
        };
        let Some(made) = made else {
            slot.busy = false;
            slot.shunned = Some(Instant::now() + SHUNNED);
            // Who waits hears that nobody answers.
            slot.waiting.clear();
            return;
        };
        slot.made = Some(made.clone());
        let waiting = std::mem::take(&mut slot.waiting).into_iter();
        let (heard, waiting): (Vec<_>, Vec<_>) =
            waiting.partition(|(sequence, _)| *sequence <= made.sequence);
        slot.waiting = waiting;
        slot.busy = !slot.waiting.is_empty();
        if slot.busy {
            state.due.push_back(key);
            self.ready.notify_one();
        }
        drop(state);
        for (_, sender) in heard {
            // Who left does not mind.
            let _ = sender.send(made.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_unused(&mut self, now: Instant) {
        self.slots
            .retain(|_, slot| slot.busy || now - slot.used < IDLE);
    }
}

/// That frame in the size for who wants that width.
fn smaller(maker: &mut impl Make, frame: &Frame, wanted: u32) -> anyhow::Result<Arc<Frame>> {
    let size = frame.jpeg.and_then(|picture| size(&picture, wanted));
    let jpeg = maker.make(frame, size.context("it is small enough")?)?;
    let picture = jpeg::check(&jpeg)?;
    Ok(Arc::new(Frame {
        buffer: gst::Buffer::from_mut_slice(jpeg),
        caps: frame.caps.clone(),
        codec: frame.codec.clone(),
        jpeg: Some(picture),
        ..*frame
    }))
}

impl Make for Client {
    fn make(&mut self, frame: &Frame, (width, height): (u32, u32)) -> anyhow::Result<Vec<u8>> {
        let bytes = frame.buffer.map_readable().ok().context("unreadable")?;
        match self.ask(&Request::Scale { width, height }, &bytes, PATIENCE)? {
            (Reply::Jpeg, jpeg) => Ok(jpeg),
            _ => bail!("the worker answers something else"),
        }
    }

    fn rest(&mut self) {
        Client::rest(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, channel};

    use crate::relay::feeds::{Feeds, Listeners};
    use crate::worker;

    /// Makes them here, and counts them; each waits for a word where there is a channel.
    struct Here {
        made: Arc<AtomicUsize>,
        go: Option<Receiver<()>>,
        fails: bool,
        scaler: worker::Scaler,
    }

    impl Make for Here {
        fn make(&mut self, frame: &Frame, size: (u32, u32)) -> anyhow::Result<Vec<u8>> {
            if let Some(go) = &self.go {
                go.recv().context("the test ended")?;
            }
            self.made.fetch_add(1, Ordering::Relaxed);
            if self.fails {
                bail!("as the test has it");
            }
            let bytes = frame.buffer.map_readable()?.to_vec();
            self.scaler.scale(bytes, size.0, size.1)
        }
    }

    /// A camera that sends pictures of 1280x720.
    struct Camera {
        stream: Arc<Stream>,
        harness: gst_check::Harness,
        jpeg: Vec<u8>,
        _feeds: Feeds,
    }

    impl Camera {
        fn new() -> Self {
            gst::init().expect("GStreamer starts");
            let feeds = Feeds::new(Listeners::default());
            let feed = feeds.open("door").expect("there is room");
            let stream = feed.stream(0).expect("a good number");
            let mut harness = gst_check::Harness::with_element(&stream.sink(), Some("sink"), None);
            harness.set_src_caps_str("image/jpeg");
            Self {
                stream,
                harness,
                jpeg: worker::picture("I420", 1280, 720),
                _feeds: feeds,
            }
        }

        fn send(&mut self) -> Arc<Frame> {
            let mut buffer = gst::Buffer::from_slice(self.jpeg.clone());
            buffer.make_mut().set_pts(gst::ClockTime::ZERO);
            self.harness.push(buffer).expect("the sink takes it");
            self.stream.newest().expect("it was sent")
        }
    }

    fn here(made: &Arc<AtomicUsize>, go: Option<Receiver<()>>) -> Here {
        Here {
            made: made.clone(),
            go,
            fails: false,
            scaler: worker::Scaler::default(),
        }
    }

    fn wait(made: oneshot::Receiver<Arc<Frame>>) -> Arc<Frame> {
        made.blocking_recv().expect("it is made")
    }

    #[test]
    fn a_picture_has_the_smallest_size_that_is_wide_enough_and_saves_something() {
        let of = |width, height, wanted| {
            let misfit = None;
            let picture = Picture {
                width,
                height,
                misfit,
            };
            size(&picture, wanted)
        };
        assert_eq!(of(1280, 720, 320), Some((320, 180)));
        assert_eq!(of(1280, 720, 321), Some((640, 360)));
        assert_eq!(of(1280, 720, 640), Some((640, 360)));
        assert_eq!(of(1280, 720, 641), Some((960, 540)));
        assert_eq!(of(1280, 720, 961), None);
        assert_eq!(of(1280, 720, u32::MAX), None);
        assert_eq!(of(1280, 720, 0), Some((320, 180)));
        assert_eq!(of(640, 480, 400), None, "as wide as that is");
        assert_eq!(of(320, 240, 100), None);
        assert_eq!(of(4096, 8, 100), Some((320, 1)));
        assert_eq!(of(u16::MAX, u16::MAX, 320), None, "that is not decoded");
    }

    #[test]
    fn one_picture_is_made_once_for_all_and_again_only_of_a_newer_one() {
        let made = Arc::new(AtomicUsize::new(0));
        let scaler = Scaler::with(vec![here(&made, None)]).expect("a thread");
        let desk = scaler.desk();
        let mut door = Camera::new();
        let first = door.send();
        assert_eq!(made.load(Ordering::Relaxed), 0, "nobody asks");
        let smaller: Vec<_> = (0..3)
            .map(|_| wait(desk.ask(&door.stream, &first, 320).expect("it works")))
            .collect();
        for one in &smaller {
            assert_eq!(one.size(), Some((320, 180)));
            assert_eq!(one.sequence, first.sequence);
            assert!(Arc::ptr_eq(one, &smaller[0]), "the same memory");
        }
        assert_eq!(made.load(Ordering::Relaxed), 1);
        let smaller = wait(desk.ask(&door.stream, &first, 640).expect("it works"));
        assert_eq!(smaller.size(), Some((640, 360)));
        let second = door.send();
        let smaller = wait(desk.ask(&door.stream, &second, 320).expect("it works"));
        assert_eq!(smaller.sequence, second.sequence);
        assert_eq!(made.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_newest_picture_is_made_and_nobody_gets_an_older_one() {
        let (go, wait_for) = channel();
        let made = Arc::new(AtomicUsize::new(0));
        let scaler = Scaler::with(vec![here(&made, Some(wait_for))]).expect("a thread");
        let desk = scaler.desk();
        let (mut door, mut gate) = (Camera::new(), Camera::new());
        let frame = gate.send();
        let held = desk.ask(&gate.stream, &frame, 320).expect("it works");

        // Both wait for the same, which is not begun: it is made of the second.
        let first = door.send();
        let early = desk.ask(&door.stream, &first, 320).expect("it works");
        let second = door.send();
        let late = desk.ask(&door.stream, &second, 320).expect("it works");
        for _ in 0..2 {
            go.send(()).expect("it listens");
        }
        wait(held);
        assert_eq!(wait(early).sequence, second.sequence);
        assert_eq!(wait(late).sequence, second.sequence);
        assert_eq!(made.load(Ordering::Relaxed), 2);
        drop((go, scaler));
        assert!(desk.ask(&door.stream, &second, 320).is_none(), "it ended");
    }

    #[test]
    fn what_cannot_be_made_smaller_goes_as_it_is() {
        let made = Arc::new(AtomicUsize::new(0));
        let mut maker = here(&made, None);
        maker.fails = true;
        let scaler = Scaler::with(vec![maker]).expect("a thread");
        let mut door = Camera::new();
        let frame = door.send();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        let stream = door.stream.clone();
        let whole = runtime.block_on(scaler.desk().smaller(stream, frame.clone(), 320));
        assert!(Arc::ptr_eq(&whole, &frame));
        assert_eq!(made.load(Ordering::Relaxed), 1);
        let next = door.send();
        assert!(
            scaler.desk().ask(&door.stream, &next, 320).is_none(),
            "it is shunned"
        );
        assert!(
            scaler.desk().ask(&door.stream, &next, 640).is_some(),
            "in that size"
        );
    }

    #[test]
    fn who_left_and_what_is_unused_is_forgotten() {
        let (go, wait_for) = channel::<()>();
        let made = Arc::new(AtomicUsize::new(0));
        let scaler = Scaler::with(vec![here(&made, Some(wait_for))]).expect("a thread");
        let desk = scaler.desk();
        let mut door = Camera::new();
        for _ in 0..1000 {
            let frame = door.send();
            drop(desk.ask(&door.stream, &frame, 320));
        }
        let mut state = desk.lock();
        let waiting: usize = state.slots.values().map(|slot| slot.waiting.len()).sum();
        assert!(waiting <= 1, "{waiting} wait");
        assert!(state.due.len() <= 1);
        for slot in state.slots.values_mut() {
            slot.busy = false;
        }
        state.forget_unused(Instant::now() + IDLE);
        assert!(state.slots.is_empty());
        drop(state);
        drop(go);
    }
}
