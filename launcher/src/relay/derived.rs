//! A camera as other H.264 than it sends, if it sends any: encoded by a worker, once for all
//! viewers, and only while there are any.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::consumer::{Consumer, Limits};
use super::frame::{Codec, Frame};
use super::stream::Stream;
use crate::worker::wire::{Encoding, Reply, Request};
use crate::worker::{Killer, Process, Replies};

/// How long it goes on after the last viewer left.
const LINGER: Duration = Duration::from_secs(5);
/// How soon a worker that ended is started again; doubled up to the next line.
const PAUSE: Duration = Duration::from_millis(100);
/// See [`PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// The same where viewers have something else to see.
const SMALL_PAUSE: Duration = Duration::from_secs(10);
/// A worker that answers nothing for this long is replaced.
const ANSWER: Duration = Duration::from_secs(5);
/// What may wait for the worker of what builds on what was before.
const INTER: Limits = Limits {
    frames: 30,
    burst: 30,
    bytes: 8 << 20,
    time: gst::ClockTime::SECOND,
    catch_up: 0,
};
/// What the small rendition takes of the bits of what it is made of, and at least.
const SHARE: f64 = 1.0 / 6.0;
/// See [`SHARE`].
const LEAST: u32 = 150_000;
/// Most pixels that are decoded: a few bytes may say that they are billions.
const MAX_PIXELS: u32 = 40_000_000;
/// Pictures in the worker at once are fewer.
const MAX_IN_FLIGHT: usize = 32;
/// Pictures that are remembered because a worker ended on them.
const MAX_SUSPECTS: usize = 32;
/// A picture on which this many workers ended is passed over.
const CHANCES: u32 = 2;

/// What is made of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rendition {
    /// All of it, for who cannot be given JPEGs.
    Whole,
    /// Much less of it, for who cannot be given all.
    Small,
}

impl Rendition {
    /// Its largest picture: larger ones are made smaller.
    fn max_size(self) -> (u32, u32) {
        match self {
            Self::Whole => (1920, 1080),
            Self::Small => (640, 640),
        }
    }

    /// How a picture of that size is encoded that is one of `source` bits a second. `None`: it
    /// is not decoded.
    fn encoding(self, picture: (u32, u32), inter: bool, source: f64) -> Option<Encoding> {
        let (width, height) = size(picture, self.max_size())?;
        let bits = match self {
            Self::Whole => (width * height * 3).max(500_000),
            Self::Small => ((source * SHARE) as u32).clamp(LEAST, (width * height * 2).max(LEAST)),
        };
        Some(Encoding {
            inter,
            width,
            height,
            bits,
            strict: self == Self::Small,
        })
    }
}

/// H.264 made of a stream.
pub struct Derived {
    camera: Arc<str>,
    rendition: Rendition,
    source: Arc<Stream>,
    stream: Arc<Stream>,
    state: Mutex<State>,
    /// Told of every unit that a viewer can start at.
    started: Notify,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// When somebody wanted it last.
    wanted: Option<Instant>,
}

/// The threads that work for a derived stream; ended when this is dropped.
struct Running {
    shared: Arc<Shared>,
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    flight: Mutex<Flight>,
}

/// What the worker is at.
#[derive(Default)]
struct Flight {
    killer: Option<Killer>,
    sent: VecDeque<Sent>,
    /// When it last was idle or answered.
    answered: Option<Instant>,
}

/// A picture that the worker has.
struct Sent {
    time: u64,
    hash: u64,
    wall: SystemTime,
    pictured: gst::ClockTime,
    placeholder: bool,
}

impl Derived {
    /// A rendition of `source`, of which only that of JPEGs may be whole; nothing runs before
    /// it is wanted.
    pub fn new(camera: Arc<str>, source: Arc<Stream>, rendition: Rendition) -> Arc<Self> {
        let stream = Arc::new(Stream::new(Weak::new(), camera.clone()));
        Arc::new(Self {
            camera,
            rendition,
            source,
            stream,
            state: Mutex::default(),
            started: Notify::new(),
        })
    }

    /// Where its frames are.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Starts it where it does not run, and waits up to `patience` for a frame that a
    /// viewer can start at.
    pub async fn prepare(self: &Arc<Self>, patience: Duration) {
        self.want();
        let started = async {
            loop {
                // Made before the look, so that nothing in between is missed.
                let next = self.started.notified();
                if self.stream.start().is_some() {
                    return;
                }
                next.await;
            }
        };
        let _ = tokio::time::timeout(patience, started).await;
    }

    /// Starts it where it does not run.
    pub fn want(self: &Arc<Self>) {
        let mut state = self.lock();
        state.wanted = Some(Instant::now());
        self.run(&mut state);
    }

    /// Starts and stops it as viewers come and go, and ends a worker that hangs; to be
    /// called a few times a second.
    pub fn tend(self: &Arc<Self>) {
        let mut state = self.lock();
        if self.stream.consumers() > 0 {
            drop(state);
            self.want();
            state = self.lock();
        } else if state.wanted.is_none_or(|wanted| wanted.elapsed() > LINGER) {
            let ended = state.running.take();
            drop(state);
            if ended.is_some() {
                drop(ended);
                self.stream.forget();
                tracing::debug!("camera {}: nobody needs its H.264 any more", self.camera);
            }
            return;
        }
        let shared = state.running.as_ref().map(|running| running.shared.clone());
        drop(state);
        if let Some(shared) = shared {
            shared.end_if_hung();
        }
    }

    fn run(self: &Arc<Self>, state: &mut State) {
        if state.running.is_some() {
            return;
        }
        let (wake, woken) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let work = Work {
            camera: self.camera.clone(),
            rendition: self.rendition,
            source: self.source.clone(),
            derived: Arc::downgrade(self),
            shared: shared.clone(),
            suspects: VecDeque::new(),
        };
        let waker = wake.clone();
        let thread = thread::Builder::new()
            .name("to H.264".into())
            .spawn(move || work.run(&woken, waker));
        match thread {
            Ok(thread) => {
                state.running = Some(Running {
                    shared,
                    wake,
                    thread: Some(thread),
                });
            }
            Err(error) => tracing::error!("camera {}: not encoded: {error}", self.camera),
        }
    }

    /// A unit came from the worker.
    fn pass_on(&self, unit: Vec<u8>, key: bool, caps: &gst::Caps, sent: &Sent) {
        let captured = gst::ClockTime::from_nseconds(sent.time);
        let passed = self.stream.pass_on_units(Frame {
            buffer: gst::Buffer::from_mut_slice(unit),
            caps: caps.clone(),
            codec: Codec::H264,
            captured,
            pictured: sent.pictured,
            wall: sent.wall,
            arrived: Instant::now(),
            sequence: 0,
            placeholder: sent.placeholder,
            key,
            jpeg: None,
        });
        if passed && key {
            self.started.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.kill();
        let _ = self.wake.try_send(());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread is in the log already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn kill(&self) {
        if let Some(killer) = self.lock().killer.take() {
            killer.kill();
        }
    }

    fn end_if_hung(&self) {
        let flight = self.lock();
        let hangs = !flight.sent.is_empty()
            && flight
                .answered
                .is_some_and(|answered| answered.elapsed() > ANSWER);
        drop(flight);
        if hangs {
            self.kill();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that writes to the workers, one after the other.
struct Work {
    camera: Arc<str>,
    rendition: Rendition,
    source: Arc<Stream>,
    derived: Weak<Derived>,
    shared: Arc<Shared>,
    /// Pictures on which a worker ended, and how many did.
    suspects: VecDeque<(u64, u32)>,
}

impl Work {
    fn run(mut self, woken: &Receiver<()>, wake: SyncSender<()>) {
        let is_inter = self
            .source
            .codec()
            .is_some_and(|(codec, _)| codec.is_inter());
        let limits = match is_inter {
            true => INTER,
            // Only the newest picture is worth the work.
            false => Limits {
                frames: 1,
                burst: 1,
                bytes: usize::MAX,
                time: gst::ClockTime::SECOND,
                catch_up: 0,
            },
        };
        let consumer = Arc::new(Consumer::new(limits, move || {
            // Where it is full, the thread is woken already.
            let _ = wake.try_send(());
        }));
        let _attachment = match is_inter {
            // Viewers have seen what was before.
            true => self.source.attach_next(consumer.clone()),
            false => self.source.attach(consumer.clone()),
        };
        let longest = match self.rendition {
            Rendition::Whole => LONGEST_PAUSE,
            Rendition::Small => SMALL_PAUSE,
        };
        let mut pause = PAUSE;
        while !self.shared.stops() {
            let began = Instant::now();
            match self.feed(&consumer, woken) {
                Ok(()) => {}
                Err(error) => {
                    if self.shared.stops() {
                        return;
                    }
                    self.suspect();
                    if began.elapsed() > longest * 4 {
                        pause = PAUSE;
                    }
                    tracing::warn!(
                        "camera {}: the worker that encodes it ended ({error}); another one is started",
                        self.camera
                    );
                    self.wait(woken, pause);
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }

    /// Waits that long, whatever pictures come.
    fn wait(&self, woken: &Receiver<()>, pause: Duration) {
        let end = Instant::now() + pause;
        while !self.shared.stops() {
            let left = end.saturating_duration_since(Instant::now());
            if woken.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Runs one worker until it ends, the pictures get another size, or it is to stop.
    fn feed(&mut self, consumer: &Consumer, woken: &Receiver<()>) -> io::Result<()> {
        let mut worker: Option<Worker> = None;
        let mut last = 0;
        // What comes builds on what the worker does not have.
        let mut needs_key = true;
        while !self.shared.stops() {
            let Some(frame) = consumer.take() else {
                let _ = woken.recv_timeout(Duration::from_secs(1));
                if let Some(worker) = &worker
                    && worker.has_ended()
                {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                continue;
            };
            let Some(size) = frame.size() else {
                continue;
            };
            let Ok(bytes) = frame.buffer.map_readable() else {
                continue;
            };
            let hash = hash(&bytes);
            let kind = (frame.codec.clone(), size);
            let is_other = worker.as_ref().is_none_or(|worker| worker.kind != kind);
            let is_bad = self.suspects.contains(&(hash, CHANCES));
            needs_key |= is_other || is_bad;
            if needs_key && !frame.key {
                self.source.request_key();
                continue;
            }
            if is_bad {
                continue;
            }
            if is_other {
                drop(worker.take());
                let (inter, rate) = (frame.codec.is_inter(), self.source.rate().bits);
                let Some(encoding) = self.rendition.encoding(size, inter, rate) else {
                    continue;
                };
                let (derived, shared) = (self.derived.clone(), self.shared.clone());
                worker = Some(Worker::start(kind, encoding, derived, shared)?);
                last = 0;
            }
            needs_key = false;
            let Some(worker) = &mut worker else {
                continue;
            };
            let time = frame.captured.nseconds().max(last + 1);
            last = time;
            self.shared.lock().note(Sent {
                time,
                hash,
                wall: frame.wall,
                pictured: frame.pictured,
                placeholder: frame.placeholder,
            });
            let key = self
                .derived
                .upgrade()
                .is_some_and(|derived| derived.stream.takes_key_wish());
            worker
                .process
                .ask(&Request::Picture { time, key }, &bytes)?;
        }
        Ok(())
    }

    /// Remembers what the worker had when it ended.
    fn suspect(&mut self) {
        let sent = std::mem::take(&mut self.shared.lock().sent);
        for sent in sent {
            match self
                .suspects
                .iter_mut()
                .find(|(hash, _)| *hash == sent.hash)
            {
                Some((_, count)) => *count = (*count + 1).min(CHANCES),
                None => {
                    if self.suspects.len() == MAX_SUSPECTS {
                        self.suspects.pop_front();
                    }
                    self.suspects.push_back((sent.hash, 1));
                }
            }
        }
    }
}

impl Flight {
    fn note(&mut self, sent: Sent) {
        if self.sent.is_empty() {
            self.answered = Some(Instant::now());
        }
        if self.sent.len() == MAX_IN_FLIGHT {
            self.sent.pop_front();
        }
        self.sent.push_back(sent);
    }

    /// What became the unit of that time; those before it came to nothing.
    fn answer(&mut self, time: u64) -> Option<Sent> {
        self.answered = Some(Instant::now());
        while let Some(sent) = self.sent.pop_front() {
            if sent.time == time {
                return Some(sent);
            }
            if sent.time > time {
                self.sent.push_front(sent);
                return None;
            }
        }
        None
    }
}

/// One worker, and the thread that reads what it answers.
struct Worker {
    /// What the pictures are coded in that it is given, and their size.
    kind: (Codec, (u32, u32)),
    process: Process,
    reader: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(
        kind: (Codec, (u32, u32)),
        encoding: Encoding,
        derived: Weak<Derived>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let (mut process, replies) = Process::start()?;
        let mut flight = shared.lock();
        flight.killer = Some(process.killer());
        flight.sent.clear();
        drop(flight);
        process.ask(&Request::Encode(encoding), &[])?;
        let caps = gst::Caps::builder("video/x-h264")
            .field("stream-format", "byte-stream")
            .field("alignment", "au")
            .field("width", encoding.width as i32)
            .field("height", encoding.height as i32)
            .build();
        let reader = thread::Builder::new()
            .name("from H.264".into())
            .spawn(move || read(replies, &caps, &derived, &shared))?;
        Ok(Self {
            kind,
            process,
            reader: Some(reader),
        })
    }

    fn has_ended(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.process.killer().kill();
        if let Some(reader) = self.reader.take() {
            // A panic of the thread is in the log already.
            let _ = reader.join();
        }
    }
}

/// Passes on what a worker answers, until it ends.
fn read(mut replies: Replies, caps: &gst::Caps, derived: &Weak<Derived>, shared: &Shared) {
    while let Ok(Some((reply, unit))) = replies.next(None) {
        let Reply::Unit { time, key } = reply else {
            return;
        };
        let sent = shared.lock().answer(time);
        if let Some((derived, sent)) = derived.upgrade().zip(sent) {
            derived.pass_on(unit, key, caps, &sent);
        }
    }
}

/// The size of the whole H.264 of such a picture. `None`: it is not decoded.
pub fn derived_size(picture: &super::jpeg::Picture) -> Option<(u32, u32)> {
    let picture = (picture.width.into(), picture.height.into());
    size(picture, Rendition::Whole.max_size())
}

/// The size of a picture that is no larger than `most`; even. `None`: it is not decoded.
fn size((width, height): (u32, u32), most: (u32, u32)) -> Option<(u32, u32)> {
    if width < 16 || height < 16 || width.checked_mul(height)? > MAX_PIXELS {
        return None;
    }
    // Thousandths of the picture's own size.
    let scale = (most.0 * 1000 / width)
        .min(most.1 * 1000 / height)
        .min(1000);
    let side = |side: u32| ((side * scale / 1000) & !1).max(16);
    Some((side(width), side(height)))
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::relay::jpeg::Picture;

    #[test]
    fn sizes_are_even_and_bounded() {
        let size = |width, height| {
            derived_size(&Picture {
                width,
                height,
                misfit: None,
            })
        };
        assert_eq!(size(1280, 720), Some((1280, 720)));
        assert_eq!(size(333, 241), Some((332, 240)));
        assert_eq!(size(3840, 2160), Some((1920, 1080)));
        assert_eq!(size(2048, 2048), Some((1078, 1078)));
        assert_eq!(size(8000, 16), Some((1920, 16)));
        assert_eq!(size(15, 240), None);
        assert_eq!(size(u16::MAX, u16::MAX), None);
    }

    #[test]
    fn the_small_rendition_takes_a_sixth_or_what_its_size_needs() {
        let encoding = |size, source| {
            let encoding = Rendition::Small.encoding(size, true, source);
            encoding.map(|it| (it.width, it.height, it.bits))
        };
        assert_eq!(encoding((1280, 720), 2.4e6), Some((640, 360, 400_000)));
        assert_eq!(encoding((1280, 720), 90e6), Some((640, 360, 460_800)));
        assert_eq!(encoding((720, 1280), 2.4e6), Some((360, 640, 400_000)));
        assert_eq!(encoding((160, 120), 2.4e6), Some((160, 120, 150_000)));
        assert_eq!(encoding((1280, 720), 0.0), Some((640, 360, 150_000)));
        assert_eq!(encoding((1280, 8), 2.4e6), None);
        assert_eq!(encoding((u32::MAX, u32::MAX), 2.4e6), None);
    }

    #[test]
    fn what_is_in_flight_is_bounded() {
        let mut flight = Flight::default();
        for time in 0..100 {
            flight.note(Sent {
                time,
                hash: 0,
                wall: SystemTime::now(),
                pictured: gst::ClockTime::ZERO,
                placeholder: false,
            });
        }
        assert_eq!(flight.sent.len(), MAX_IN_FLIGHT);
        assert_eq!(flight.answer(90).map(|sent| sent.time), Some(90));
        assert!(flight.answer(90).is_none(), "answered already");
        assert_eq!(flight.answer(99).map(|sent| sent.time), Some(99));
        assert!(flight.sent.is_empty());
    }
}
