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
    /// They were lost on the way or dropped by the sender.
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
