//! The receiving end of one stream: open frames, their order and their deadlines.

mod rhythm;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

pub(crate) use self::rhythm::Rhythm;
use crate::assembly::{Added, Assembly};
use crate::clock::Clock;
use crate::fragment::flags_from_wire;
use crate::wire::feedback::Deficit;
use crate::wire::fragment::{FLAG_REPAIR, Fragment, FrameHeader};
use crate::{Frame, GapReason, LatePolicy, ReceivedFrame, Time};

/// Frames ahead of the next one to hand over that are kept.
pub(crate) const WINDOW: u64 = 128;
/// Frames whose latency is remembered.
const LATENCIES: usize = 256;
/// Changes of caps ahead of the frames that need them.
const MAX_CAPS_AHEAD: usize = 8;
/// What is still coming is waited for at least so long: a frame leaves in several bursts.
const LEAST_WAIT: Duration = Duration::from_millis(5);
/// How long a frame is kept, beyond its deadline, while no caps came.
const CAPS_PATIENCE: Duration = Duration::from_secs(5);

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

/// Frames in a row that are missing for one reason.
#[derive(Default)]
struct Gap {
    frames: u32,
    reason: Option<GapReason>,
}

impl Gap {
    /// Tells of them, if there are any.
    fn tell(&mut self, out: &mut impl FnMut(Output)) {
        if let Some(reason) = self.reason.take() {
            let frames = std::mem::take(&mut self.frames);
            out(Output::Gap { frames, reason });
        }
    }
}

enum Slot {
    /// Nothing came of it, but of later frames.
    Unseen,
    Open(Assembly),
    Whole {
        header: FrameHeader,
        data: Bytes,
        memory: usize,
    },
}

struct Open {
    slot: Slot,
    /// The sender's clock, microseconds.
    capture: u64,
    /// When the newest of its first flight came.
    came: Option<Time>,
    /// When its first flight counts as over.
    over_at: Time,
    /// That is certain: its last symbol or a newer frame came.
    over: bool,
    /// When its deficit is to be reported next.
    report_at: Option<Time>,
    reports: u32,
    /// When it may be reported anew, where an answer to that could come in time.
    next_round: Option<Time>,
    /// How often the newest of these reports was sent.
    sent: usize,
}

impl Open {
    /// When it is given up. The time that a frame takes through a narrow path is not counted, and
    /// one that came late was late already when it left, or the path is longer now: the next ones
    /// are as late.
    fn deadline(&self, clock: &Clock, latency: Duration) -> Time {
        let deadline = clock.map(self.capture) + latency;
        self.came.map_or(deadline, |came| {
            deadline.max(came + (latency / 2).max(LEAST_WAIT))
        })
    }
}

fn is_key(header: &FrameHeader) -> bool {
    flags_from_wire(header.flags).key
}

/// What reports are timed by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) rtt: Duration,
    /// How long to wait for reordered packets.
    pub(crate) reorder: Duration,
    /// How long without a symbol a first flight takes to be over.
    pub(crate) tail: Duration,
    /// Time between a report and the next, beside the round trip and reordering.
    pub(crate) jitter: Duration,
    pub(crate) rhythm: Rhythm,
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
    /// The next frame to hand over, extended; unknown until caps tell.
    next: Option<u64>,
    /// The newest frame number seen, extended.
    newest: Option<u64>,
    /// Frames before this one that are not whole are too old to wait for.
    given_up_before: u64,
    /// Frames, not handed over yet, that the sender said not to send.
    not_sent: BTreeSet<u64>,
    frames: BTreeMap<u64, Open>,
    memory: usize,
    generation: Option<u8>,
    caps: VecDeque<(u64, u8, String)>,
    /// Where the stream ends, and when the frames before that are given up.
    end: Option<(u64, Time)>,
    /// Capture time of the frame handed over last: the sender's nanoseconds and, mapped, ours.
    last_capture: Option<(u64, Time)>,
    /// Capture time and number of the frame handed over last.
    last: Option<(u64, u64)>,
    /// Frames were lost since the last key frame.
    broken: bool,
    /// A key frame is needed and was not asked for.
    wants_key: bool,
    /// Frames that became whole, and those of them of whose end no report had told.
    whole: [u64; 2],
    late_policy: LatePolicy,
    /// Microseconds from capture, mapped, to hand-over, of the last frames.
    latencies: VecDeque<u32>,
    pub(crate) counters: ReceiveCounters,
}

/// Counters of frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReceiveCounters {
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    /// Whole, but of no use without a lost one.
    pub(crate) undecodable: u64,
    pub(crate) by_parity: u64,
    pub(crate) by_resend: u64,
    /// Still arriving when their time was over, or given up for a newer one.
    pub(crate) late: u64,
    /// Reports that frames took which were made whole by resending.
    pub(crate) rounds: u64,
    /// Dropped by the sender.
    pub(crate) not_sent: u64,
}

impl ReceiveCounters {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            delivered: self.delivered + other.delivered,
            lost: self.lost + other.lost,
            undecodable: self.undecodable + other.undecodable,
            by_parity: self.by_parity + other.by_parity,
            by_resend: self.by_resend + other.by_resend,
            late: self.late + other.late,
            rounds: self.rounds + other.rounds,
            not_sent: self.not_sent + other.not_sent,
        }
    }
}

impl Reassembly {
    pub(crate) fn new(stream: u16, latency: Duration) -> Self {
        Self {
            stream,
            latency,
            next: None,
            newest: None,
            given_up_before: 0,
            not_sent: BTreeSet::new(),
            frames: BTreeMap::new(),
            memory: 0,
            generation: None,
            caps: VecDeque::new(),
            end: None,
            last_capture: None,
            last: None,
            broken: false,
            wants_key: false,
            whole: [0; 2],
            late_policy: LatePolicy::default(),
            latencies: VecDeque::new(),
            counters: ReceiveCounters::default(),
        }
    }

    /// Bytes held by open and waiting frames.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Frames that became whole, and those of them of whose end no report had told.
    pub(crate) fn whole(&self) -> [u64; 2] {
        self.whole
    }

    pub(crate) fn set_latency(&mut self, latency: Duration) {
        self.latency = latency;
    }

    pub(crate) fn set_late_policy(&mut self, policy: LatePolicy) {
        self.late_policy = policy;
    }

    /// Microseconds from capture, mapped, to hand-over, of the last frames.
    pub(crate) fn latencies(&self) -> impl Iterator<Item = u32> {
        self.latencies.iter().copied()
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
        self.caps.push_back((first, generation, caps));
        self.caps.len() <= MAX_CAPS_AHEAD
    }

    /// The stream ends before frame `end`.
    pub(crate) fn handle_end(&mut self, now: Time, end: u32) {
        let end = self.extend(end);
        if self.next.is_none() {
            self.next = Some(end);
            self.drop_before(end);
        }
        self.end = Some((end, now + self.latency));
    }

    /// Takes one symbol. The capture time is extended already.
    pub(crate) fn handle_fragment(
        &mut self,
        now: Time,
        fragment: &Fragment,
        symbol: &[u8],
        capture: u64,
        limits: Limits,
        timing: Timing,
    ) -> Outcome {
        let number = self.extend(fragment.sequence);
        if number < self.given_up_before.max(self.next.unwrap_or(0)) {
            return Outcome::Old;
        }
        let mut room = limits.memory;
        if !matches!(
            self.frames.get(&number),
            Some(Open {
                slot: Slot::Open(_) | Slot::Whole { .. },
                ..
            })
        ) {
            let size = Assembly::cost(fragment, symbol.len());
            // The last symbols may be padding: a frame of the limit fits with one symbol a block
            // to spare.
            let slack = symbol.len() * (usize::from(fragment.blocks) + 1);
            if size > limits.frame + slack {
                return Outcome::TooLarge(size);
            }
            // Until it is known where the stream begins, none is far from any other.
            let ends = [self.frames.keys().next(), self.frames.keys().next_back()];
            let stray = |end: &u64| number.abs_diff(*end) >= WINDOW;
            let stray = self.next.is_none() && ends.into_iter().flatten().any(stray);
            if stray || size > room {
                return Outcome::NoRoom;
            }
            self.give_up_before((number + 1).saturating_sub(WINDOW));
            self.memory += size;
            room -= size;
            self.skip(number, fragment.skipped);
            let assembly = Assembly::new(fragment, symbol.len() as u16);
            self.open(now, number, assembly, capture, timing);
        }
        self.newest = self.newest.max(Some(number));
        let Some(open) = self.frames.get_mut(&number) else {
            return Outcome::NoRoom;
        };
        let Slot::Open(assembly) = &mut open.slot else {
            return Outcome::Duplicate;
        };
        let is_parity = fragment.symbol >= u16::from(fragment.k);
        if is_parity && symbol.len() > room {
            return Outcome::NoRoom;
        }
        let before = assembly.memory();
        let added = assembly.add(fragment, symbol);
        self.memory = self.memory - before + assembly.memory();
        if fragment.flags & FLAG_REPAIR == 0 {
            open.came = Some(now);
        }
        if fragment.flags & FLAG_REPAIR == 0 && !open.over && open.reports == 0 {
            let last = fragment.block + 1 == fragment.blocks
                && fragment.symbol + 1 == u16::from(fragment.first_flight);
            open.over = last;
            open.over_at = now + if last { timing.reorder } else { timing.tail };
            open.report_at = Some(open.over_at);
        }
        match added {
            Added::New => Outcome::Taken,
            Added::Duplicate => Outcome::Duplicate,
            Added::Inconsistent => Outcome::Inconsistent,
            Added::Whole => self.complete(number),
        }
    }

    /// After an outage: what is so far behind the newest is kept nowhere any more.
    fn give_up_before(&mut self, number: u64) {
        if number > self.given_up_before {
            self.given_up_before = number;
            self.remove_missing(0..number);
            if self.next.is_none() {
                self.not_sent = self.not_sent.split_off(&number);
            }
        }
    }

    /// The `skipped` frames before this one will not come.
    fn skip(&mut self, number: u64, skipped: u8) {
        let first = number.saturating_sub(skipped.into());
        let kept = self.next.unwrap_or(0).max(self.given_up_before);
        let range = first.max(kept)..number;
        self.remove_missing(range.clone());
        self.not_sent.extend(range);
    }

    /// Removes those of these frames that are not whole.
    fn remove_missing(&mut self, range: Range<u64>) {
        let missing: Vec<u64> = self
            .frames
            .range(range)
            .filter(|(_, open)| !matches!(open.slot, Slot::Whole { .. }))
            .map(|(number, _)| *number)
            .collect();
        for number in missing {
            self.remove(number);
        }
    }

    /// Opens a frame, and those before it that nothing came of; the older ones' first flights are
    /// over.
    fn open(&mut self, now: Time, number: u64, assembly: Assembly, capture: u64, timing: Timing) {
        let over_at = now + timing.reorder;
        let begin = self.next.max(self.newest.map(|newest| newest + 1));
        let begin = begin.map(|begin| begin.max(self.given_up_before));
        let (from, captured) = match (self.last, self.newest) {
            (_, Some(newest)) if self.frames.contains_key(&newest) => {
                (newest, self.frames[&newest].capture)
            }
            (Some((last, captured)), _) => (last, captured),
            _ => (number, capture),
        };
        for unseen in begin.unwrap_or(number)..number {
            if self.not_sent.contains(&unseen) {
                continue;
            }
            // Both numbers are the other side's choice, and their product may be any.
            let part = |of: u64| u128::from(of.saturating_sub(from));
            let passed = u128::from(capture.saturating_sub(captured));
            let share = (passed * part(unseen) / part(number).max(1)) as u64;
            let open = Open {
                slot: Slot::Unseen,
                capture: captured + share,
                came: None,
                over_at,
                over: true,
                report_at: Some(over_at),
                reports: 0,
                next_round: None,
                sent: 0,
            };
            self.frames.insert(unseen, open);
        }
        let older = self.frames.range_mut(..number).map(|(_, open)| open);
        for open in older.filter(|open| !open.over && open.reports == 0) {
            open.over = true;
            open.over_at = open.over_at.min(over_at);
            open.report_at = Some(open.over_at);
        }
        let over_at = now + timing.tail;
        let slot = Slot::Open(assembly);
        let open = Open {
            slot,
            capture,
            came: None,
            over_at,
            over: false,
            report_at: Some(over_at),
            reports: 0,
            next_round: None,
            sent: 0,
        };
        self.frames.insert(number, open);
    }

    /// Symbols that the one frame lacks that is coming; `None` where another one waits, or a symbol
    /// of it may have got lost: what comes next is then not known.
    pub(crate) fn lacking(&self) -> Option<usize> {
        let (_, open) = self.frames.first_key_value()?;
        match &open.slot {
            Slot::Open(assembly) if self.frames.len() == 1 && !open.over && open.reports == 0 => {
                assembly.lacking_in_order()
            }
            _ => None,
        }
    }

    // Reports.

    /// When a deficit is to be reported.
    pub(crate) fn report_due(&self) -> Option<Time> {
        self.incomplete()
            .filter_map(|(_, open)| open.report_at)
            .min()
    }

    fn incomplete(&self) -> impl Iterator<Item = (&u64, &Open)> {
        self.frames
            .iter()
            .filter(|(_, open)| !matches!(open.slot, Slot::Whole { .. }))
    }

    /// Appends what frames lack whose first flight is over, and plans the next report. Returns
    /// how many datagrams are to carry this one.
    pub(crate) fn report(
        &mut self,
        now: Time,
        clock: &Clock,
        timing: Timing,
        out: &mut Vec<Deficit>,
    ) -> usize {
        let (stream, latency) = (self.stream, self.latency);
        let mut copies = 1;
        for (number, open) in &mut self.frames {
            let blocks = match &open.slot {
                Slot::Whole { .. } => continue,
                Slot::Unseen => Vec::new(),
                Slot::Open(assembly) => assembly.deficits(),
            };
            if open.over_at > now {
                continue;
            }
            out.push(Deficit {
                stream,
                sequence: *number as u32,
                blocks,
            });
            if open.report_at.is_none_or(|at| at > now) {
                continue;
            }
            let deadline = open.deadline(clock, latency);
            let answered = |report: &Time| *report + timing.rtt <= deadline;
            if open.reports == 0 || open.next_round.is_some_and(|at| at <= now) {
                open.reports += 1;
                open.sent = 0;
                let next = now + timing.rtt + timing.reorder + timing.jitter;
                open.next_round = Some(next).filter(answered);
            }
            let last = open.next_round.is_none();
            // Symbols of a flight whose end was not seen may be under way, and are not sent before
            // it is reported once more.
            let rhythm = match timing.rhythm {
                Rhythm::Pairs if !open.over => Rhythm::Singles,
                rhythm => rhythm,
            };
            copies = copies.max(rhythm.copies(open.sent));
            let repeat = rhythm.repeats_after(open.sent, last);
            let repeat = repeat.map(|wait| now + wait).filter(answered);
            open.sent += 1;
            // Shortly before the next one it says nothing that that will not.
            let next = open
                .next_round
                .filter(|_| timing.rhythm == Rhythm::Bunches)
                .map(|next| next.offset(-(timing.rtt.as_nanos() as i64) / 4));
            let repeat = repeat.filter(|at| next.is_none_or(|next| *at <= next));
            open.report_at = [repeat, open.next_round].into_iter().flatten().min();
        }
        copies
    }

    fn complete(&mut self, number: u64) -> Outcome {
        let Some(open) = self.frames.get_mut(&number) else {
            return Outcome::Old;
        };
        let Slot::Open(assembly) = std::mem::replace(&mut open.slot, Slot::Unseen) else {
            return Outcome::Old;
        };
        let (memory, repaired) = (assembly.memory(), assembly.repaired);
        let Some((header, data)) = assembly.finish() else {
            self.memory -= memory;
            return Outcome::Inconsistent;
        };
        match (open.reports, repaired) {
            (0, false) => {}
            (0, true) => self.counters.by_parity += 1,
            (rounds, _) => {
                self.counters.by_resend += 1;
                self.counters.rounds += u64::from(rounds);
            }
        }
        open.slot = Slot::Whole {
            header,
            data,
            memory,
        };
        self.whole[0] += 1;
        self.whole[1] += u64::from(open.reports == 0 || !open.over);
        Outcome::Taken
    }

    fn remove(&mut self, number: u64) -> Option<Open> {
        let open = self.frames.remove(&number)?;
        self.memory -= match &open.slot {
            Slot::Unseen => 0,
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

    /// When frame `number`, not whole, is given up.
    fn deadline(&self, number: u64, clock: &Clock) -> Option<Time> {
        match self.frames.range(number..).next() {
            Some((_, open)) => Some(open.deadline(clock, self.latency)),
            None => self.end.map(|(_, deadline)| deadline),
        }
    }

    /// The number after the last frame that is given up with frame `number`, of which nothing
    /// came: of what follows nothing came either, so that it has the same deadline. There may be
    /// thousands of millions.
    fn given_up_with(&self, number: u64) -> u64 {
        let after = number + 1;
        if self.not_sent.contains(&number) {
            return after;
        }
        let frame = self.frames.range(after..).next().map(|(next, _)| *next);
        let end = self.end.map(|(end, _)| end);
        let caps = self.caps.front().map(|(first, ..)| *first);
        let not_sent = self.not_sent.range(after..).next().copied();
        let stops = [frame, end, caps, not_sent].into_iter().flatten();
        stops.filter(|stop| *stop >= after).min().unwrap_or(after)
    }

    /// Hands over what is due, in order, and gives up what is late.
    pub(crate) fn poll(&mut self, now: Time, clock: &Clock, mut out: impl FnMut(Output)) {
        if self.next.is_none() {
            // The caps are lost and sent again; until then nothing can be told about frames.
            while let Some((&oldest, _)) = self.frames.first_key_value()
                && self.without_caps_until(clock).is_some_and(|at| at <= now)
            {
                self.remove(oldest);
            }
            return;
        }
        let mut gap = Gap::default();
        while let Some(next) = self.next {
            while let Some((_, generation, caps)) =
                self.caps.pop_front_if(|(first, ..)| *first <= next)
            {
                self.generation = Some(generation);
                out(Output::Caps { generation, caps });
            }
            if self.end.is_some_and(|(end, _)| end <= next) {
                self.end = None;
                gap.tell(&mut out);
                out(Output::Ended);
                continue;
            }
            if let Some(reason) = self.given_up(now, next, clock) {
                if gap.reason != Some(reason) {
                    gap.tell(&mut out);
                }
                let open = self.remove(next);
                let until = match &open {
                    Some(_) => next + 1,
                    None => self.given_up_with(next),
                };
                let is_needed = !open.is_some_and(
                    |open| matches!(open.slot, Slot::Open(frame) if frame.is_discardable()),
                );
                match reason {
                    GapReason::Late => self.counters.late += until - next,
                    GapReason::Sender => self.counters.not_sent += until - next,
                    GapReason::Undecodable => self.counters.undecodable += until - next,
                    GapReason::Network => self.counters.lost += until - next,
                }
                self.wants_key |= reason == GapReason::Undecodable;
                // What follows frames that were not sent does not build on them.
                self.broken |= is_needed && reason != GapReason::Sender;
                let frames = u32::try_from(until - next).unwrap_or(u32::MAX);
                gap.frames = gap.frames.saturating_add(frames);
                gap.reason = Some(reason);
                self.next = Some(until);
            } else if self.ready(next).is_some() {
                gap.tell(&mut out);
                self.hand_over(now, next, clock, &mut out);
                self.next = Some(next + 1);
            } else {
                break;
            }
        }
        gap.tell(&mut out);
        let next = self.next.unwrap_or(0);
        if self.not_sent.first().is_some_and(|first| *first < next) {
            self.not_sent = self.not_sent.split_off(&next);
        }
    }

    /// The header of a frame that is whole and whose caps are known.
    fn ready(&self, number: u64) -> Option<&FrameHeader> {
        match &self.frames.get(&number)?.slot {
            Slot::Whole { header, .. } => {
                (Some(header.caps_generation) == self.generation).then_some(header)
            }
            Slot::Open(_) | Slot::Unseen => None,
        }
    }

    /// Whether a frame is not, or no longer, to be handed over, and why.
    fn given_up(&self, now: Time, number: u64, clock: &Clock) -> Option<GapReason> {
        if let Some(header) = self.ready(number) {
            let is_decodable = !self.broken || is_key(header);
            return (!is_decodable).then_some(GapReason::Undecodable);
        }
        if self.not_sent.contains(&number) {
            return Some(GapReason::Sender);
        }
        if self.late_policy == LatePolicy::Latest {
            // Others would be of no use without this one.
            let mut newer = self.frames.range(number + 1..).map(|(newer, _)| *newer);
            if newer.any(|newer| self.ready(newer).is_some_and(is_key)) {
                return Some(GapReason::Late);
            }
        }
        if number < self.given_up_before {
            return Some(GapReason::Network);
        }
        self.deadline(number, clock)
            .filter(|deadline| *deadline <= now)?;
        let arriving = self.frames.get(&number).is_some_and(|open| {
            matches!(open.slot, Slot::Open(_)) && !open.over && open.reports == 0
        });
        Some(if arriving {
            GapReason::Late
        } else {
            GapReason::Network
        })
    }

    fn hand_over(&mut self, now: Time, number: u64, clock: &Clock, out: &mut impl FnMut(Output)) {
        let Some(Open {
            slot: Slot::Whole { header, data, .. },
            capture,
            ..
        }) = self.remove(number)
        else {
            return;
        };
        self.last = Some((number, capture));
        let flags = flags_from_wire(header.flags);
        self.broken = false;
        self.counters.delivered += 1;
        if self.latencies.len() == LATENCIES {
            self.latencies.pop_front();
        }
        let latency = now.since(clock.map(capture)).as_micros();
        self.latencies
            .push_back(u32::try_from(latency).unwrap_or(u32::MAX));
        // The header has the nanoseconds that the fragments' microseconds leave out.
        let nanos = Duration::from_nanos(header.capture % 1000);
        let sent = capture * 1000 + header.capture % 1000;
        let mut mapped = clock.map(capture) + nanos;
        // The mapping moves by a little all the time: what did not go back there must not here.
        if let Some((_, last)) = self.last_capture.filter(|(last, _)| *last <= sent) {
            mapped = mapped.max(last);
        }
        self.last_capture = Some((sent, mapped));
        let known = |value: u64| (value != 0).then_some(value);
        out(Output::Frame(ReceivedFrame {
            stream: self.stream,
            sequence: number as u32,
            caps_generation: header.caps_generation,
            frame: Frame {
                data,
                capture: mapped,
                dts_offset: header.dts_offset,
                duration: known(header.duration.into()).map(Duration::from_micros),
                wall: known(header.wall),
                flags,
            },
        }));
    }

    /// Whether a key frame is needed since a frame was lost; asked once.
    pub(crate) fn take_wants_key(&mut self) -> bool {
        std::mem::take(&mut self.wants_key)
    }

    /// Until when the oldest frame is kept where no caps came.
    fn without_caps_until(&self, clock: &Clock) -> Option<Time> {
        Some(self.deadline(0, clock)? + CAPS_PATIENCE)
    }

    /// When [`Self::poll`] has something to do if no fragment comes.
    pub(crate) fn poll_timeout(&self, clock: &Clock) -> Option<Time> {
        match self.next {
            Some(next) => self.deadline(next, clock),
            None => self.without_caps_until(clock),
        }
    }
}

#[cfg(test)]
mod tests;
