//! What stands between a stream and one consumer of it: a small bounded queue.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::frame::Frame;

/// What may wait for one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Frames, at least 1.
    pub frames: usize,
    /// Bytes; one frame may always wait, however large.
    pub bytes: usize,
    /// Time between the oldest and the newest frame.
    pub time: gst::ClockTime,
}

/// What happened to an offered frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits in the queue.
    Taken,
    /// It was passed over, because the consumer has to start at a key frame.
    NeedsKey,
}

/// The queue of one consumer. It drops its own oldest frames when it is full; of
/// a codec whose frames build on each other, everything up to the next key frame.
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
    needs_key: bool,
    dropped: u64,
}

impl Consumer {
    /// An empty queue.
    pub fn new(limits: Limits, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            limits,
            queue: Mutex::default(),
            wake: Box::new(wake),
        }
    }

    /// The oldest frame that waits.
    pub fn take(&self) -> Option<Arc<Frame>> {
        let mut queue = self.lock();
        let frame = queue.frames.pop_front()?;
        queue.bytes -= frame.buffer.size();
        Some(frame)
    }

    /// Frames that were dropped for this consumer since it came.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Passes over everything up to the next key frame, as at the start and
    /// after a frame that this one does not continue.
    pub(super) fn require_key(&self) {
        self.lock().needs_key = true;
    }

    /// Puts a frame into the queue, or not. `wake` is the caller's to call.
    pub(super) fn offer(&self, frame: &Arc<Frame>) -> Offered {
        let mut queue = self.lock();
        let inter = frame.codec.is_inter();
        if inter && queue.needs_key && !frame.key {
            queue.dropped += 1;
            return Offered::NeedsKey;
        }
        if inter && self.is_full(&queue, frame) {
            if !frame.key {
                queue.needs_key = true;
                queue.dropped += 1;
                return Offered::NeedsKey;
            }
            queue.drop_oldest(usize::MAX);
        }
        while self.is_full(&queue, frame) {
            queue.drop_oldest(1);
        }
        queue.needs_key = false;
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
        queue.frames.front().is_some_and(|oldest| {
            queue.frames.len() >= self.limits.frames
                || queue.bytes + next.buffer.size() > self.limits.bytes
                || next.captured.saturating_sub(oldest.captured) > self.limits.time
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn drop_oldest(&mut self, count: usize) {
        for frame in self.frames.drain(..count.min(self.frames.len())) {
            self.bytes -= frame.buffer.size();
            self.dropped += 1;
        }
    }
}
