//! The bounded queue between a port's thread and the streaming thread of a source.
//!
//! Frames are held by reference. When the element takes them too slowly, the oldest whole
//! frames go, and with them those that cannot be decoded without them; each is counted.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use camrelay_protocol::{Frame, GapReason, Rejection};

/// Most frames waiting.
pub(crate) const MAX_FRAMES: usize = 32;
/// Most bytes waiting; one frame may exceed it.
pub(crate) const MAX_BYTES: usize = 16 << 20;

/// A frame and what it is.
#[derive(Clone, Debug)]
pub(crate) struct CameraFrame {
    pub(crate) frame: Frame,
    pub(crate) caps: gst::Caps,
}

/// Why frames are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// They were lost on the way, dropped by the sender, or build on such a one.
    Path(GapReason),
    /// The element took frames too slowly.
    SlowConsumer,
}

impl Missing {
    /// The reason as messages give it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Path(GapReason::Network) => "network",
            Self::Path(GapReason::Late) => "late",
            Self::Path(GapReason::Sender) => "sender",
            Self::Path(GapReason::Undecodable) => "undecodable",
            Self::Path(_) => "unknown",
            Self::SlowConsumer => "slow-consumer",
        }
    }
}

/// What goes in.
#[derive(Debug)]
pub(super) enum Input {
    Frame(CameraFrame),
    Gap { frames: u32, reason: GapReason },
    Ended,
}

/// What comes out.
#[derive(Debug)]
pub(crate) enum Output {
    /// The next frame. `discont`: it does not continue the one before.
    Frame { frame: CameraFrame, discont: bool },
    /// Frames are missing here.
    Gap { frames: u32, reason: Missing },
    /// The camera ended the stream.
    Ended,
    /// Nothing will come any more.
    Failed(Rejection),
    /// The element is flushing.
    Flushing,
}

/// The queue of one source.
pub(crate) struct Queue {
    stream: u16,
    state: Mutex<State>,
    filled: Condvar,
}

struct State {
    items: VecDeque<Item>,
    frames: usize,
    bytes: usize,
    dropped: u64,
    /// Frames are taken only while the element plays.
    open: bool,
    /// The stream ended while the queue was not open.
    ended: bool,
    flushing: bool,
    /// The next frame taken must be decodable by itself.
    needs_key: bool,
    /// Frames were taken since the queue was opened.
    started: bool,
    /// The next frame given out does not continue the one before.
    discont: bool,
    failed: Option<Rejection>,
}

enum Item {
    Frame(CameraFrame),
    Gap { frames: u32, reason: Missing },
    Ended,
}

impl Queue {
    /// A closed queue for the frames of `stream`.
    pub(super) fn new(stream: u16) -> Self {
        Self {
            stream,
            state: Mutex::new(State {
                items: VecDeque::new(),
                frames: 0,
                bytes: 0,
                dropped: 0,
                open: false,
                ended: false,
                flushing: false,
                needs_key: true,
                started: false,
                discont: true,
                failed: None,
            }),
            filled: Condvar::new(),
        }
    }

    /// The number of the stream.
    pub(super) fn stream(&self) -> u16 {
        self.stream
    }

    /// Frames dropped because the element took them too slowly.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Takes frames from now on, beginning with one that is decodable by itself, or none.
    pub(crate) fn set_open(&self, open: bool) {
        let mut state = self.lock();
        state.open = open;
        state.clear();
        if open && std::mem::take(&mut state.ended) {
            state.items.push_back(Item::Ended);
        }
        drop(state);
        self.filled.notify_all();
    }

    /// While flushing, [`Self::next`] returns [`Output::Flushing`] at once.
    pub(crate) fn set_flushing(&self, flushing: bool) {
        self.lock().flushing = flushing;
        self.filled.notify_all();
    }

    /// Adds an input; returns whether a key frame must be asked for.
    pub(super) fn push(&self, input: Input) -> bool {
        let mut state = self.lock();
        let needs_key = match input {
            Input::Frame(frame) => state.push_frame(frame),
            Input::Gap { frames, reason } => {
                if state.open && state.started {
                    state.push_gap(frames, Missing::Path(reason));
                }
                false
            }
            Input::Ended => {
                state.ended = !state.open;
                if state.open && !matches!(state.items.back(), Some(Item::Ended)) {
                    state.items.push_back(Item::Ended);
                }
                false
            }
        };
        drop(state);
        self.filled.notify_all();
        needs_key
    }

    /// After what is in it, the queue gives out [`Output::Failed`].
    pub(super) fn fail(&self, reason: Rejection) {
        self.lock().failed = Some(reason);
        self.filled.notify_all();
    }

    /// Waits for the next output.
    pub(crate) fn next(&self) -> Output {
        let mut state = self.lock();
        loop {
            if state.flushing {
                return Output::Flushing;
            }
            match state.items.pop_front() {
                Some(Item::Frame(frame)) => {
                    state.frames -= 1;
                    state.bytes -= frame.frame.data.len();
                    let discont = std::mem::take(&mut state.discont);
                    return Output::Frame { frame, discont };
                }
                Some(Item::Gap { frames, reason }) => {
                    state.discont = true;
                    return Output::Gap { frames, reason };
                }
                Some(Item::Ended) => {
                    state.discont = true;
                    return Output::Ended;
                }
                None => {}
            }
            if let Some(reason) = &state.failed {
                return Output::Failed(reason.clone());
            }
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn clear(&mut self) {
        self.items.clear();
        self.frames = 0;
        self.bytes = 0;
        self.needs_key = true;
        self.started = false;
        self.discont = true;
    }

    fn push_frame(&mut self, frame: CameraFrame) -> bool {
        self.ended = false;
        if !self.open {
            return false;
        }
        let flags = frame.frame.flags;
        if flags.key {
            self.needs_key = false;
        } else if self.needs_key && !flags.header {
            if self.started {
                self.dropped += 1;
                self.push_gap(1, Missing::SlowConsumer);
            }
            return true;
        }
        self.started = true;
        self.frames += 1;
        self.bytes += frame.frame.data.len();
        self.items.push_back(Item::Frame(frame));
        let mut dropped = 0;
        while self.frames > 1 && (self.frames > MAX_FRAMES || self.bytes > MAX_BYTES) {
            dropped += self.drop_oldest();
        }
        if dropped > 0 {
            self.dropped += u64::from(dropped);
            self.note_dropped(dropped);
        }
        self.needs_key
    }

    /// Drops the oldest frame and those after it that need it; returns how many.
    fn drop_oldest(&mut self) -> u32 {
        let mut dropped = 0;
        let mut broken = false;
        while let Some(index) = self.items.iter().position(Item::is_frame) {
            if let Some(Item::Frame(next)) = self.items.get(index) {
                let flags = next.frame.flags;
                if dropped > 0 && (flags.key || !broken) {
                    return dropped;
                }
                broken |= !flags.discardable;
            }
            if let Some(Item::Frame(frame)) = self.items.remove(index) {
                self.frames -= 1;
                self.bytes -= frame.frame.data.len();
                dropped += 1;
            }
        }
        // Nothing that is left can be decoded, nor what comes before the next key frame.
        self.needs_key = broken;
        dropped
    }

    /// Puts the gap that dropping left in front of the oldest frame, joined with the gaps
    /// that are there already, so that their number stays bounded.
    fn note_dropped(&mut self, dropped: u32) {
        let leading = self.items.iter().position(Item::is_frame);
        let leading = leading.unwrap_or(self.items.len());
        let rest = self.items.split_off(leading);
        let ended = self.items.iter().any(|item| matches!(item, Item::Ended));
        for item in std::mem::take(&mut self.items) {
            if let Item::Gap { frames, reason } = item {
                self.push_gap(frames, reason);
            }
        }
        self.push_gap(dropped, Missing::SlowConsumer);
        if ended {
            self.items.push_back(Item::Ended);
        }
        self.items.extend(rest);
    }

    fn push_gap(&mut self, frames: u32, reason: Missing) {
        // Since the last frame at most one gap for each reason waits.
        let since = self.items.iter_mut().rev();
        let mut since = since.take_while(|item| !item.is_frame());
        if !since.any(|item| item.merge(frames, reason)) {
            self.items.push_back(Item::Gap { frames, reason });
        }
    }
}

impl Item {
    fn is_frame(&self) -> bool {
        matches!(self, Self::Frame(_))
    }

    /// Adds to this gap, where it is one for that reason.
    fn merge(&mut self, more: u32, why: Missing) -> bool {
        match self {
            Self::Gap { frames, reason } if *reason == why => {
                *frames = frames.saturating_add(more);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use camrelay_protocol::{FrameFlags, Time};

    use super::*;

    fn frame(size: usize, key: bool) -> CameraFrame {
        gst::init().unwrap();
        CameraFrame {
            frame: Frame {
                data: vec![0; size].into(),
                capture: Time::default(),
                dts_offset: 0,
                duration: None,
                wall: None,
                flags: FrameFlags {
                    key,
                    ..FrameFlags::default()
                },
            },
            caps: gst::Caps::new_empty_simple("image/jpeg"),
        }
    }

    fn open() -> Queue {
        let queue = Queue::new(0);
        queue.set_open(true);
        queue
    }

    fn push(queue: &Queue, size: usize, key: bool) -> bool {
        queue.push(Input::Frame(frame(size, key)))
    }

    /// What is in the queue: the sizes of frames, and gaps.
    fn drain(queue: &Queue) -> Vec<Result<usize, (u32, Missing)>> {
        let mut all = Vec::new();
        while !queue.lock().items.is_empty() {
            match queue.next() {
                Output::Frame { frame, .. } => all.push(Ok(frame.frame.data.len())),
                Output::Gap { frames, reason } => all.push(Err((frames, reason))),
                other => panic!("{other:?}"),
            }
        }
        all
    }

    #[test]
    fn the_oldest_frames_go_at_the_bound_and_not_before() {
        let queue = open();
        for size in 1..=MAX_FRAMES {
            push(&queue, size, true);
        }
        assert_eq!(queue.dropped(), 0);
        push(&queue, MAX_FRAMES + 1, true);
        push(&queue, MAX_FRAMES + 2, true);
        assert_eq!(queue.dropped(), 2);
        let mut expected = vec![Err((2, Missing::SlowConsumer))];
        expected.extend((3..=MAX_FRAMES + 2).map(Ok));
        assert_eq!(drain(&queue), expected);
    }

    #[test]
    fn bytes_are_bounded_but_for_one_frame() {
        let queue = open();
        push(&queue, MAX_BYTES - 1, true);
        push(&queue, 1, true);
        assert_eq!(queue.dropped(), 0);
        push(&queue, 2, true);
        let expected = [Err((1, Missing::SlowConsumer)), Ok(1), Ok(2)];
        assert_eq!(drain(&queue), expected);
        push(&queue, MAX_BYTES + 1, true);
        assert_eq!(drain(&queue), [Ok(MAX_BYTES + 1)]);
    }

    #[test]
    fn frames_go_with_those_that_they_need() {
        let queue = open();
        // Two groups of pictures; the first begins to go when one too many comes.
        push(&queue, 1, true);
        for size in 2..=10 {
            push(&queue, size, false);
        }
        push(&queue, 11, true);
        for size in 12..=MAX_FRAMES + 1 {
            push(&queue, size, false);
        }
        let mut expected = vec![Err((10, Missing::SlowConsumer))];
        expected.extend((11..=MAX_FRAMES + 1).map(Ok));
        assert_eq!(drain(&queue), expected);
    }

    #[test]
    fn one_that_nobody_needs_goes_alone() {
        let queue = open();
        push(&queue, 1, true);
        for size in 2..=MAX_FRAMES {
            let mut discardable = frame(size, false);
            discardable.frame.flags.discardable = true;
            queue.push(Input::Frame(discardable));
        }
        assert!(matches!(queue.next(), Output::Frame { .. }));
        push(&queue, MAX_FRAMES + 1, false);
        push(&queue, MAX_FRAMES + 2, false);
        assert_eq!(queue.dropped(), 1);
        assert_eq!(drain(&queue)[..2], [Err((1, Missing::SlowConsumer)), Ok(3)]);
    }

    #[test]
    fn without_a_key_frame_everything_goes_and_one_is_asked_for() {
        let queue = open();
        push(&queue, 1, true);
        for size in 2..=MAX_FRAMES {
            assert!(!push(&queue, size, false));
        }
        assert!(push(&queue, 99, false), "a key frame is needed");
        assert!(push(&queue, 99, false));
        assert!(!push(&queue, 100, true));
        let lost = MAX_FRAMES as u32 + 2;
        assert_eq!(queue.dropped(), u64::from(lost));
        assert_eq!(drain(&queue), [Err((lost, Missing::SlowConsumer)), Ok(100)]);
    }

    #[test]
    fn it_begins_with_a_key_frame() {
        let queue = open();
        assert!(push(&queue, 1, false));
        assert!(!push(&queue, 2, true));
        assert!(!push(&queue, 3, false));
        assert_eq!(drain(&queue), [Ok(2), Ok(3)]);
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn gaps_stay_few_however_long_nobody_listens() {
        let queue = open();
        push(&queue, 1, true);
        for _ in 0..10_000 {
            for reason in [
                GapReason::Network,
                GapReason::Late,
                GapReason::Sender,
                GapReason::Undecodable,
            ] {
                queue.push(Input::Gap { frames: 1, reason });
            }
            queue.push(Input::Ended);
            push(&queue, 1, true);
        }
        let items = queue.lock().items.len();
        assert!(items <= 7 * (MAX_FRAMES + 1), "{items} items");
        let mut lost = 0;
        loop {
            match queue.next() {
                Output::Gap { frames, .. } => lost += frames,
                Output::Frame { .. } | Output::Ended => {}
                other => panic!("{other:?}"),
            }
            if queue.lock().items.is_empty() {
                break;
            }
        }
        let dropped = u32::try_from(queue.dropped()).unwrap();
        assert_eq!(lost, 40_000 + dropped);
    }

    #[test]
    fn what_follows_a_gap_is_discontinuous() {
        let queue = open();
        let gap = || {
            queue.push(Input::Gap {
                frames: 3,
                reason: GapReason::Network,
            });
        };
        // There is nothing to be missed before the first frame.
        gap();
        push(&queue, 1, true);
        push(&queue, 2, true);
        gap();
        push(&queue, 3, true);
        let discont = |output| match output {
            Output::Frame { discont, .. } => discont,
            other => panic!("{other:?}"),
        };
        assert!(discont(queue.next()));
        assert!(!discont(queue.next()));
        let missing = Missing::Path(GapReason::Network);
        assert!(matches!(queue.next(), Output::Gap { frames: 3, reason } if reason == missing));
        assert!(discont(queue.next()));
    }

    #[test]
    fn nothing_is_kept_while_it_is_closed() {
        let queue = Queue::new(0);
        assert!(!push(&queue, 1, true));
        queue.set_open(true);
        push(&queue, 2, true);
        queue.set_open(false);
        push(&queue, 3, true);
        queue.push(Input::Ended);
        queue.set_open(true);
        // But the end is.
        assert!(matches!(queue.next(), Output::Ended));
        queue.set_open(false);
        queue.push(Input::Ended);
        push(&queue, 4, true);
        queue.set_open(true);
        assert!(drain(&queue).is_empty());
    }

    #[test]
    fn a_failure_comes_after_what_is_there() {
        let queue = open();
        push(&queue, 1, true);
        queue.fail(Rejection::new(camrelay_protocol::Code::UnknownKey, "no"));
        queue.set_flushing(true);
        assert!(matches!(queue.next(), Output::Flushing));
        queue.set_flushing(false);
        assert!(matches!(queue.next(), Output::Frame { .. }));
        assert!(matches!(queue.next(), Output::Failed(_)));
        assert!(matches!(queue.next(), Output::Failed(_)));
    }
}
