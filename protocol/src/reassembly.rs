//! The receiving end of one stream: open frames, their order and their deadlines.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::assembly::{Added, Assembly};
use crate::clock::Clock;
use crate::fragment::flags_from_wire;
use crate::wire::fragment::{Fragment, FrameHeader};
use crate::{Frame, GapReason, ReceivedFrame, Time};

/// Frames ahead of the next one to hand over that are kept.
pub(crate) const WINDOW: u64 = 128;
/// Changes of caps ahead of the frames that need them.
const MAX_CAPS_AHEAD: usize = 8;

/// What the stream has to say.
#[derive(Debug)]
pub(crate) enum Output {
    Caps { generation: u8, caps: String },
    Frame(ReceivedFrame),
    Gap { frames: u32, reason: GapReason },
    Ended,
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Taken,
    Duplicate,
    /// Its frame was handed over or given up.
    Old,
    /// It contradicts its frame's other fragments.
    Inconsistent,
    /// Its frame is larger than the limit; the value is its size in bytes.
    TooLarge(usize),
    /// There is no room for another frame.
    NoRoom,
}

enum Slot {
    Open(Assembly),
    Whole {
        header: FrameHeader,
        data: Bytes,
        memory: usize,
        repaired: bool,
    },
}

struct Open {
    slot: Slot,
    /// The sender's clock, microseconds.
    capture: u64,
}

/// Limits that the stream keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of one frame.
    pub(crate) frame: usize,
    /// Bytes that this stream may add to what it holds.
    pub(crate) memory: usize,
}

/// Frames of one stream between the network and the caller.
pub(crate) struct Reassembly {
    stream: u16,
    latency: Duration,
    /// The next frame to hand over, extended; unknown until caps or, for want of them, a
    /// deadline tells.
    next: Option<u64>,
    /// The newest frame number seen, extended.
    newest: Option<u64>,
    frames: BTreeMap<u64, Open>,
    memory: usize,
    generation: Option<u8>,
    caps: VecDeque<(u64, u8, String)>,
    /// Where the stream ends, and when the frames before that are given up.
    end: Option<(u64, Time)>,
    /// Capture time and number of the frame handed over last.
    last: Option<(u64, u64)>,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) repaired: u64,
}

impl Reassembly {
    pub(crate) fn new(stream: u16, latency: Duration) -> Self {
        Self {
            stream,
            latency,
            next: None,
            newest: None,
            frames: BTreeMap::new(),
            memory: 0,
            generation: None,
            caps: VecDeque::new(),
            end: None,
            last: None,
            delivered: 0,
            lost: 0,
            repaired: 0,
        }
    }

    /// Bytes held by open and waiting frames.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    pub(crate) fn set_latency(&mut self, latency: Duration) {
        self.latency = latency;
    }

    /// The sequence number nearest to the newest one seen.
    fn extend(&self, sequence: u32) -> u64 {
        match self.newest.or(self.next) {
            None => (1 << 32) + u64::from(sequence),
            Some(near) => {
                near.saturating_add_signed(sequence.wrapping_sub(near as u32) as i32 as i64)
            }
        }
    }

    /// What the stream is from frame `first` on. Returns false where the sender is too far ahead.
    pub(crate) fn handle_caps(&mut self, generation: u8, first: u32, caps: String) -> bool {
        let first = self.extend(first);
        if self.next.is_none() {
            self.next = Some(first);
            self.drop_before(first);
        }
        self.end = None;
        self.caps.push_back((first, generation, caps));
        self.caps.len() <= MAX_CAPS_AHEAD
    }

    /// The stream ends before frame `end`.
    pub(crate) fn handle_end(&mut self, now: Time, end: u32) {
        let end = self.extend(end);
        self.next.get_or_insert(end);
        self.end = Some((end, now + self.latency));
    }

    /// Takes one symbol. The capture time is extended already.
    pub(crate) fn handle_fragment(
        &mut self,
        fragment: &Fragment,
        symbol: &[u8],
        capture: u64,
        limits: Limits,
    ) -> Outcome {
        let number = self.extend(fragment.sequence);
        if self.next.is_some_and(|next| number < next) {
            return Outcome::Old;
        }
        if !self.frames.contains_key(&number) {
            let size = Assembly::cost(fragment, symbol.len());
            // The last symbols may be padding: a frame of the limit fits with one symbol a block
            // to spare.
            let slack = symbol.len() * (usize::from(fragment.blocks) + 1);
            if size > limits.frame + slack {
                return Outcome::TooLarge(size);
            }
            let base = self
                .next
                .or_else(|| self.frames.keys().next().copied())
                .unwrap_or(number);
            if number.abs_diff(base) >= WINDOW || size > limits.memory {
                return Outcome::NoRoom;
            }
            self.memory += size;
            let slot = Slot::Open(Assembly::new(fragment, symbol.len() as u16));
            self.frames.insert(number, Open { slot, capture });
        }
        self.newest = self.newest.max(Some(number));
        let Some(open) = self.frames.get_mut(&number) else {
            return Outcome::NoRoom;
        };
        let Slot::Open(assembly) = &mut open.slot else {
            return Outcome::Duplicate;
        };
        match assembly.add(fragment, symbol) {
            Added::New => Outcome::Taken,
            Added::Duplicate => Outcome::Duplicate,
            Added::Inconsistent => Outcome::Inconsistent,
            Added::Whole => self.complete(number),
        }
    }

    fn complete(&mut self, number: u64) -> Outcome {
        let Some(Open {
            slot: Slot::Open(assembly),
            capture,
        }) = self.frames.remove(&number)
        else {
            return Outcome::Old;
        };
        let (memory, repaired) = (assembly.memory(), assembly.repaired);
        match assembly.finish() {
            Some((header, data)) => {
                let slot = Slot::Whole {
                    header,
                    data,
                    memory,
                    repaired,
                };
                self.frames.insert(number, Open { slot, capture });
                Outcome::Taken
            }
            None => {
                self.memory -= memory;
                Outcome::Inconsistent
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<Open> {
        let open = self.frames.remove(&number)?;
        self.memory -= match &open.slot {
            Slot::Open(assembly) => assembly.memory(),
            Slot::Whole { memory, .. } => *memory,
        };
        Some(open)
    }

    fn drop_before(&mut self, number: u64) {
        while let Some(first) = self
            .frames
            .keys()
            .next()
            .copied()
            .filter(|first| *first < number)
        {
            self.remove(first);
        }
    }

    /// When frame `number`, not whole, is given up. One that no fragment came of takes its place
    /// in time between its neighbours.
    fn deadline(&self, number: u64, clock: &Clock) -> Option<Time> {
        let Some((at, open)) = self.frames.range(number..).next() else {
            return self.end.map(|(_, deadline)| deadline);
        };
        let capture = match self.last {
            Some((last, captured)) if *at > number && open.capture > captured => {
                captured + (open.capture - captured) * (number - last) / (at - last)
            }
            _ => open.capture,
        };
        Some(clock.map(capture) + self.latency)
    }

    /// Hands over what is due, in order, and gives up what is late.
    pub(crate) fn poll(&mut self, now: Time, clock: &Clock, mut out: impl FnMut(Output)) {
        if self.next.is_none() {
            // The caps are lost and sent again; until then nothing can be told about frames.
            return;
        }
        let mut gap = 0;
        while let Some(next) = self.next {
            while let Some((_, generation, caps)) =
                self.caps.pop_front_if(|(first, ..)| *first <= next)
            {
                self.generation = Some(generation);
                out(Output::Caps { generation, caps });
            }
            if self.end.is_some_and(|(end, _)| end <= next) {
                self.end = None;
                if gap > 0 {
                    out(Output::Gap {
                        frames: std::mem::take(&mut gap),
                        reason: GapReason::Network,
                    });
                }
                out(Output::Ended);
                break;
            }
            let ready = self.frames.get(&next).is_some_and(|open| match &open.slot {
                Slot::Whole { header, .. } => Some(header.caps_generation) == self.generation,
                Slot::Open(_) => false,
            });
            if ready {
                if gap > 0 {
                    out(Output::Gap {
                        frames: std::mem::take(&mut gap),
                        reason: GapReason::Network,
                    });
                }
                self.hand_over(next, clock, &mut out);
            } else if self
                .deadline(next, clock)
                .is_some_and(|deadline| deadline <= now)
            {
                self.remove(next);
                self.lost += 1;
                gap += 1;
            } else {
                break;
            }
            self.next = Some(next + 1);
        }
        if gap > 0 {
            out(Output::Gap {
                frames: gap,
                reason: GapReason::Network,
            });
        }
    }

    fn hand_over(&mut self, number: u64, clock: &Clock, out: &mut impl FnMut(Output)) {
        let Some(Open {
            slot:
                Slot::Whole {
                    header,
                    data,
                    repaired,
                    ..
                },
            capture,
        }) = self.remove(number)
        else {
            return;
        };
        self.delivered += 1;
        self.repaired += u64::from(repaired);
        self.last = Some((number, capture));
        // The header has the nanoseconds that the fragments' microseconds leave out.
        let nanos = Duration::from_nanos(header.capture % 1000);
        let known = |value: u64| (value != 0).then_some(value);
        out(Output::Frame(ReceivedFrame {
            stream: self.stream,
            sequence: number as u32,
            caps_generation: header.caps_generation,
            frame: Frame {
                data,
                capture: clock.map(capture) + nanos,
                dts_offset: header.dts_offset,
                duration: known(header.duration.into()).map(Duration::from_micros),
                wall: known(header.wall),
                flags: flags_from_wire(header.flags),
            },
        }));
    }

    /// When [`Self::poll`] has something to do if no fragment comes.
    pub(crate) fn poll_timeout(&self, clock: &Clock) -> Option<Time> {
        self.deadline(self.next?, clock)
    }
}
