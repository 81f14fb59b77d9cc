//! What stands between a stream and one consumer of it: a small bounded queue.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::frame::Frame;

/// Who has not caught up after this long is slow.
const GRACE: Duration = Duration::from_millis(100);

/// What may wait for one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Frames, at least 1.
    pub frames: usize,
    /// Frames until the consumer has had [`GRACE`] to take them: what comes in one go, or
    /// before its thread runs, is no sign that it is slow. No fewer than `frames`.
    pub burst: usize,
    /// Bytes; one frame may always wait, however large.
    pub bytes: usize,
    /// Time between the oldest and the newest frame.
    pub time: gst::ClockTime,
}

/// What happened to an offered frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits in the queue, or something else does.
    Taken,
    /// It was passed over: nothing waits, and the consumer has to start at a key frame.
    NeedsKey,
    /// The same of one that did not keep up, and could go on now.
    Behind,
}

/// The queue of one consumer. It drops its own oldest frames when it is full. Of a codec whose
/// frames build on each other it drops everything but the newest key frame, and goes on at the
/// next; one that is asked for it only once the consumer has taken what it had: it would
/// find another one too late as well.
pub struct Consumer {
    limits: Limits,
    queue: Mutex<Queue>,
    /// Told, outside all locks, that there are frames to take.
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
    /// When the consumer began to take what is here; `None`: it found it empty.
    taking: Option<Instant>,
    needs_key: bool,
    /// Whether that is because it was full, rather than because it begins.
    behind: bool,
    dropped: u64,
    /// From when on frames are wanted, and how far apart; `None`: all of them are.
    wanted: Option<(Instant, Duration)>,
}

impl Consumer {
    /// An empty queue.
    pub fn new(limits: Limits, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            limits,
            queue: Mutex::new(Queue {
                needs_key: true,
                ..Queue::default()
            }),
            wake: Box::new(wake),
        }
    }

    /// The oldest frame that waits.
    pub fn take(&self) -> Option<Arc<Frame>> {
        let mut queue = self.lock();
        if queue.behind {
            queue.keep_key();
        }
        if queue.frames.is_empty() {
            queue.taking = None;
        }
        let frame = queue.frames.pop_front()?;
        queue.taking.get_or_insert_with(Instant::now);
        queue.bytes -= frame.buffer.size();
        Some(frame)
    }

    /// Wants no frame before `from`, and then one each `interval`: others that are pushed
    /// out are not counted as dropped.
    pub fn want(&self, from: Instant, interval: Duration) {
        self.lock().wanted = Some((from, interval));
    }

    /// Whether it was too slow, and no key frame that it can go on at has come yet.
    pub fn is_behind(&self) -> bool {
        self.lock().behind
    }

    /// Frames that were dropped since this consumer came because it did not keep up.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Passes over everything up to the next key frame, as at the start: what
    /// comes now does not continue what came before.
    pub(super) fn require_key(&self) {
        let mut queue = self.lock();
        queue.needs_key = true;
        queue.behind = false;
    }

    /// Puts a frame into the queue, or not. `wake` is the caller's to call.
    pub fn offer(&self, frame: &Arc<Frame>) -> Offered {
        let mut queue = self.lock();
        if frame.codec.is_inter() {
            let is_full = self.is_full(&queue, frame);
            if !frame.key && (queue.needs_key || is_full) {
                queue.behind |= is_full && !queue.needs_key;
                queue.needs_key = true;
                if queue.behind {
                    queue.count_dropped();
                }
                return match (queue.frames.is_empty(), queue.behind) {
                    (false, _) => Offered::Taken,
                    (true, false) => Offered::NeedsKey,
                    (true, true) => Offered::Behind,
                };
            }
            if is_full || queue.behind {
                queue.drop_oldest(usize::MAX);
            }
        }
        while self.is_full(&queue, frame) {
            queue.drop_oldest(1);
        }
        queue.needs_key = false;
        queue.behind = false;
        queue.bytes += frame.buffer.size();
        queue.frames.push_back(frame.clone());
        Offered::Taken
    }

    /// Tells the consumer to look at its queue.
    pub(super) fn wake(&self) {
        (self.wake)();
    }

    /// Whether `next` has no room behind what waits.
    fn is_full(&self, queue: &Queue, next: &Frame) -> bool {
        let is_slow = queue.taking.is_some_and(|since| since.elapsed() >= GRACE);
        let frames = match is_slow {
            true => self.limits.frames,
            false => self.limits.burst,
        };
        queue.frames.front().is_some_and(|oldest| {
            queue.frames.len() >= frames
                || queue.bytes + next.buffer.size() > self.limits.bytes
                || next.captured.saturating_sub(oldest.captured) > self.limits.time
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Drops everything but the newest key frame.
    fn keep_key(&mut self) {
        let key = self.frames.iter().rposition(|frame| frame.key);
        self.drop_oldest(key.unwrap_or(usize::MAX));
        let key = self.frames.pop_front();
        self.drop_oldest(usize::MAX);
        self.frames.extend(key);
    }

    fn drop_oldest(&mut self, count: usize) {
        for _ in 0..count.min(self.frames.len()) {
            if let Some(frame) = self.frames.pop_front() {
                self.bytes -= frame.buffer.size();
                self.count_dropped();
            }
        }
    }

    /// Counts a frame that was dropped, if it was wanted.
    fn count_dropped(&mut self) {
        let now = Instant::now();
        if let Some((from, interval)) = &mut self.wanted {
            if now < *from {
                return;
            }
            *from = now + *interval;
        }
        self.dropped += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::relay::frame::Codec;

    const LIMITS: Limits = Limits {
        frames: 3,
        burst: 3,
        bytes: 100,
        time: gst::ClockTime::SECOND,
    };

    fn frame(codec: Codec, key: bool, number: u64, size: usize) -> Arc<Frame> {
        let captured = number * 100 * gst::ClockTime::MSECOND;
        let mut frame = Frame::for_test(codec, captured);
        frame.buffer = gst::Buffer::with_size(size).expect("memory");
        frame.key = key;
        Arc::new(frame)
    }

    fn jpeg(number: u64, size: usize) -> Arc<Frame> {
        frame(Codec::Jpeg, true, number, size)
    }

    fn h264(number: u64, key: bool) -> Arc<Frame> {
        frame(Codec::H264, key, number, 1)
    }

    /// The numbers of the frames that wait.
    fn waiting(consumer: &Consumer) -> Vec<u64> {
        std::iter::from_fn(|| consumer.take())
            .map(|frame| frame.captured.mseconds() / 100)
            .collect()
    }

    #[test]
    fn pictures_push_out_the_oldest() {
        let consumer = Consumer::new(LIMITS, || {});
        for number in 0..4 {
            consumer.offer(&jpeg(number, 10));
        }
        assert_eq!(consumer.dropped(), 1);
        assert_eq!(waiting(&consumer), [1, 2, 3], "by number");

        consumer.offer(&jpeg(0, 50));
        consumer.offer(&jpeg(1, 50));
        consumer.offer(&jpeg(2, 1));
        assert_eq!(waiting(&consumer), [1, 2], "by bytes, 100 being the most");
        consumer.offer(&jpeg(3, 101));
        assert_eq!(waiting(&consumer), [3], "one frame may always wait");

        consumer.offer(&jpeg(0, 1));
        consumer.offer(&jpeg(10, 1));
        consumer.offer(&jpeg(11, 1));
        assert_eq!(
            waiting(&consumer),
            [10, 11],
            "by time, a second being the most"
        );
        assert_eq!(consumer.dropped(), 3);
    }

    #[test]
    fn more_may_wait_for_who_is_about_to_take_it() {
        let limits = Limits { burst: 5, ..LIMITS };
        let consumer = Consumer::new(limits, || {});
        for number in 0..6 {
            consumer.offer(&jpeg(number, 1));
        }
        assert_eq!(consumer.dropped(), 1, "one too many came in one go");
        assert!(consumer.take().is_some());
        consumer.offer(&jpeg(6, 1));
        assert_eq!(consumer.dropped(), 1, "it only began");
        consumer.lock().taking = Instant::now().checked_sub(GRACE);
        consumer.offer(&jpeg(7, 1));
        assert_eq!(waiting(&consumer), [5, 6, 7]);
        for number in 0..5 {
            consumer.offer(&jpeg(number, 1));
        }
        assert_eq!(waiting(&consumer), [0, 1, 2, 3, 4], "it had caught up");
    }

    #[test]
    fn what_is_not_wanted_is_not_counted() {
        let limits = Limits {
            frames: 1,
            burst: 1,
            ..LIMITS
        };
        let offered = |from: Instant, interval: Duration| {
            let consumer = Consumer::new(limits, || {});
            consumer.want(from, interval);
            for number in 0..4 {
                consumer.offer(&jpeg(number, 10));
            }
            assert_eq!(waiting(&consumer), [3]);
            consumer.dropped()
        };
        let (now, hour) = (Instant::now(), Duration::from_secs(3600));
        assert_eq!(offered(now + hour, Duration::ZERO), 0, "it rests");
        assert_eq!(offered(now, Duration::ZERO), 3, "it is slow");
        assert_eq!(offered(now, hour), 1, "of three it wanted one");
    }

    #[test]
    fn what_builds_on_a_dropped_frame_is_dropped() {
        let consumer = Consumer::new(LIMITS, || {});
        assert_eq!(consumer.offer(&h264(0, false)), Offered::NeedsKey);
        assert_eq!(consumer.dropped(), 0, "it has only begun");
        for number in 1..4 {
            assert_eq!(consumer.offer(&h264(number, number == 1)), Offered::Taken);
        }
        assert_eq!(consumer.take().map(|frame| frame.key), Some(true));
        for number in 4..7 {
            let offered = consumer.offer(&h264(number, false));
            assert_eq!(offered, Offered::Taken, "it would take no key frame yet");
        }
        assert_eq!(
            waiting(&consumer),
            [0; 0],
            "5 is missing, and all were late"
        );
        assert_eq!(consumer.dropped(), 5);
        assert_eq!(consumer.offer(&h264(7, false)), Offered::Behind);
        assert_eq!(consumer.offer(&h264(8, true)), Offered::Taken);
        assert_eq!(consumer.offer(&h264(9, false)), Offered::Taken);
        assert_eq!(waiting(&consumer), [8, 9]);
        assert_eq!(consumer.dropped(), 6);
    }

    #[test]
    fn who_is_always_late_sees_key_frames() {
        let consumer = Consumer::new(LIMITS, || {});
        for number in 0..10 {
            consumer.offer(&h264(number, number % 5 == 0));
        }
        assert_eq!(waiting(&consumer), [5], "the newest of them");
        assert_eq!(consumer.dropped(), 9);
        consumer.offer(&h264(10, true));
        assert_eq!(waiting(&consumer), [10]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let consumer = Consumer::new(LIMITS, || {});
        let bounded = || {
            let queue = consumer.lock();
            queue.frames.len() <= LIMITS.frames && queue.bytes <= LIMITS.bytes
        };
        for number in 0..1000 {
            let frame = frame(Codec::H264, number % 7 == 0, number, 30);
            consumer.offer(&frame);
            assert!(bounded(), "at {number}");
            if number % 11 == 0 {
                consumer.take();
            }
        }
        let queue = consumer.lock();
        let bytes: usize = queue.frames.iter().map(|one| one.buffer.size()).sum();
        assert_eq!(queue.bytes, bytes);
    }
}
