//! What stands between a stream and one consumer of it: a small bounded queue.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::frame::Frame;

/// Who has not caught up after this long is slow.
const GRACE: Duration = Duration::from_millis(100);
/// How long a consumer may take to [catch up](Consumer::catch_up), by what it is offered meanwhile.
const CATCH_UP: gst::ClockTime = gst::ClockTime::from_seconds(2);
/// Frames that may wait meanwhile.
const MAX_CATCH_UP: usize = 600;

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
    /// Bytes of frames that it may be given to [catch up](Consumer::catch_up) with, beside what
    /// else may wait; 0 where it is to wait for a key frame.
    pub catch_up: usize,
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
    /// The number of the key frame that it has begun with and had nothing since.
    begun: Option<u64>,
    /// When the newest of the frames was captured that it catches up with; until it has had
    /// everything.
    catching_up: Option<gst::ClockTime>,
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
            queue.catching_up = None;
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

    /// Whether it was given frames to [catch up](Self::catch_up) with, and has not had all of
    /// what waits since.
    pub fn is_catching_up(&self) -> bool {
        self.lock().catching_up.is_some()
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
        queue.begun = None;
    }

    /// Begins with a key frame that is not the newest frame, and goes on at the next one, or
    /// [catches up](Self::catch_up).
    pub(super) fn begin(&self, key: &Arc<Frame>) {
        self.offer(key);
        let mut queue = self.lock();
        queue.needs_key = true;
        queue.begun = Some(key.sequence);
    }

    /// Goes on with these frames, all since a key frame, without waiting for the next one: where
    /// it has yet to begin, or had that key frame and nothing since. Whether it does. All that
    /// counts of them is that it has them in two seconds; else it is behind.
    pub(super) fn catch_up(&self, group: &[Arc<Frame>]) -> bool {
        let mut queue = self.lock();
        let Some((key, newest)) = group.first().zip(group.last()) else {
            return false;
        };
        let rest = match queue.begun {
            None => group,
            Some(begun) if begun == key.sequence => &group[1..],
            Some(_) => return false,
        };
        let bytes: usize = rest.iter().map(|frame| frame.buffer.size()).sum();
        let is_idle = queue.needs_key && !queue.behind && queue.frames.is_empty();
        if !is_idle || bytes > self.limits.catch_up || rest.len() > MAX_CATCH_UP {
            return false;
        }
        queue.frames.extend(rest.iter().cloned());
        queue.bytes += bytes;
        queue.needs_key = false;
        queue.begun = None;
        queue.catching_up = Some(newest.captured);
        true
    }

    /// Puts a frame into the queue, or not. `wake` is the caller's to call.
    pub fn offer(&self, frame: &Arc<Frame>) -> Offered {
        let mut queue = self.lock();
        if frame.codec.is_inter() {
            let is_full = self.is_full(&queue, frame);
            if queue.catching_up.is_some() && (is_full || frame.key) {
                // It is too slow for that, or there is something better.
                queue.clear();
            }
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
        queue.begun = None;
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
        if let Some(begun) = queue.catching_up {
            return queue.frames.len() >= MAX_CATCH_UP
                || queue.bytes + next.buffer.size() > self.limits.catch_up + self.limits.bytes
                || next.captured.saturating_sub(begun) > CATCH_UP;
        }
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
    /// Drops everything that it was to catch up with, and has not asked for.
    fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
        self.catching_up = None;
    }

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
        catch_up: 50,
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

    /// A key frame and others, which a consumer is given to catch up with.
    fn group(count: u64) -> Vec<Arc<Frame>> {
        let number = |number| h264(100 - count + number, number == 0);
        (0..count).map(number).collect()
    }

    #[test]
    fn who_catches_up_is_held_to_nothing_but_time() {
        let consumer = Consumer::new(LIMITS, || {});
        let group = group(50);
        assert!(consumer.catch_up(&group));
        assert!(consumer.is_catching_up());
        for number in 100..110 {
            assert_eq!(consumer.offer(&h264(number, false)), Offered::Taken);
        }
        assert!(!consumer.catch_up(&group), "it has begun");
        let had = waiting(&consumer);
        assert_eq!(had.len(), 60);
        assert_eq!(had[50..], (100..110).collect::<Vec<_>>());
        assert!(!consumer.is_catching_up());
        // From now on it is as any other.
        for number in 110..114 {
            consumer.offer(&h264(number, false));
        }
        assert_eq!(waiting(&consumer), [0; 0]);
        assert!(!consumer.catch_up(&group), "it was too slow before");
    }

    #[test]
    fn who_does_not_catch_up_in_time_waits_for_a_key_frame() {
        let consumer = Consumer::new(LIMITS, || {});
        assert!(consumer.catch_up(&group(50)));
        for number in 100..120 {
            consumer.take();
            assert_eq!(consumer.offer(&h264(number, false)), Offered::Taken);
        }
        assert_eq!(consumer.offer(&h264(120, false)), Offered::Behind);
        assert!(!consumer.is_catching_up());
        assert_eq!(waiting(&consumer), [0; 0]);
        assert_eq!(consumer.dropped(), 1, "what was before is no loss");
        assert_eq!(consumer.offer(&h264(121, true)), Offered::Taken);
        assert_eq!(waiting(&consumer), [121]);
    }

    #[test]
    fn a_key_frame_ends_catching_up() {
        let consumer = Consumer::new(LIMITS, || {});
        assert!(consumer.catch_up(&group(50)));
        consumer.take();
        consumer.offer(&h264(100, true));
        consumer.offer(&h264(101, false));
        assert_eq!(waiting(&consumer), [100, 101]);
        assert_eq!(consumer.dropped(), 0);
    }

    #[test]
    fn who_has_begun_catches_up_with_the_rest() {
        let consumer = Consumer::new(LIMITS, || {});
        let mut group = group(10);
        let mut key = Frame::for_test(Codec::H264, gst::ClockTime::ZERO);
        key.sequence = 7;
        group[0] = Arc::new(key);
        consumer.begin(&group[0]);
        assert!(!consumer.catch_up(&group), "it has not had the key frame");
        consumer.take();
        assert!(!consumer.catch_up(&group[1..]), "another key frame");
        assert!(consumer.catch_up(&group));
        assert_eq!(waiting(&consumer).len(), 9);
    }

    #[test]
    fn what_is_caught_up_with_is_bounded() {
        let consumer = Consumer::new(LIMITS, || {});
        assert!(!consumer.catch_up(&[]));
        assert!(!consumer.catch_up(&group(51)), "of 51 bytes");
        let limits = Limits {
            catch_up: 0,
            ..LIMITS
        };
        assert!(!Consumer::new(limits, || {}).catch_up(&group(2)));
        assert!(consumer.catch_up(&group(50)));
        let mut number = 100;
        while consumer.offer(&frame(Codec::H264, false, number, 10)) == Offered::Taken {
            number += 1;
            assert!(consumer.lock().bytes <= 150);
        }
        assert_eq!(number, 110);
    }
}
