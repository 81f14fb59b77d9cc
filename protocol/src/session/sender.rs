//! The sending end of a session's media: streams, first flights, repairs.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::flow::{Interval, Overhead};
use super::outgoing::{Outgoing, UnderWay};
use super::pace::{Pace, Pacer};
use crate::fragment::{Coded, Layout, flags_to_wire, frame_header, symbol_room};
use crate::loss::CLUSTERED;
use crate::parity::{self, MAX_ROUNDS, Plan};
use crate::rate::Rate;
use crate::stats::Sent;
use crate::wire::control::Message;
use crate::wire::feedback::{Deficit, Feedback};
use crate::wire::fragment::{FLAG_DISCARDABLE, FLAG_KEY, FRAGMENT_LEN, Fragment, MAX_SYMBOL_INDEX};
use crate::wire::header::{HEADER_LEN, TAG_LEN};
use crate::{Error, Frame, MAX_CAPS, MAX_STREAMS, Time};

/// Frames waiting to be sent, at most; a new one beyond that is dropped whole.
pub(crate) const MAX_QUEUED_FRAMES: usize = 64;
/// Bytes waiting to be sent, at most.
pub(crate) const MAX_QUEUED_BYTES: usize = 16 << 20;
/// Frames kept for repairs, at most.
const MAX_HISTORY: usize = 128;
/// Bytes kept for repairs, at most.
const MAX_HISTORY_BYTES: usize = 32 << 20;
/// Repairs under way for one frame that are told apart.
const MAX_REPAIRS: usize = 64;
/// Repair symbols that may leave at once; more come back with what is sent.
const REPAIR_BURST: f64 = 256.0;
/// Repair symbols earned by each symbol of a first flight.
const REPAIR_SHARE: f64 = 0.5;
/// How long a frame may wait for those before it, at least.
const MIN_PATIENCE: Duration = Duration::from_millis(50);
/// Symbols of a frame that is sent again as a whole where nothing was reported of it.
const MAX_PROBE: u8 = 8;

/// A stream that this side sends.
struct Stream {
    /// `None` between its end and its next beginning; its numbers go on.
    caps: Option<String>,
    generation: u8,
    next: u32,
    /// A frame was dropped that others may build on: nothing leaves before a key frame.
    broken: bool,
    /// The last frame builds on others.
    is_chain: bool,
    /// How long the last key frame takes to leave.
    key_takes: Duration,
    /// Frames dropped since the last one accepted, of which the next one is to tell: they have
    /// no numbers yet,
    dropped: u8,
    /// or have them, having been accepted before.
    abandoned: u8,
}

/// What is known of the path to the receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) rtt: Duration,
    loss: f64,
    clustering: f64,
    /// How long, beyond the fastest path, symbols take to come (p99).
    spread: Duration,
    /// How long the receiver waits for reordered packets.
    reorder: Duration,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendCounters {
    pub(crate) frames_captured: u64,
    pub(crate) frames_sent: u64,
    pub(crate) frames_dropped: u64,
    pub(crate) parity_sent: u64,
    pub(crate) repairs_sent: u64,
}

impl SendCounters {
    /// What the receiver is told of.
    pub(crate) fn sent(&self) -> Sent {
        Sent {
            captured: self.frames_captured,
            sent: self.frames_sent,
            target: 0,
        }
    }
}

/// The sending end of a session's media.
pub(crate) struct Sender {
    mtu: u16,
    max_frame_size: usize,
    budget: Duration,
    streams: BTreeMap<u16, Stream>,
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
    history: VecDeque<Outgoing>,
    history_bytes: usize,
    /// Repairs to send: number of the frame in its stream, stream, block.
    repairs: VecDeque<(u16, u32, u8)>,
    allowance: f64,
    path: Path,
    plan: Plan,
    interval: Interval,
    rate: Rate,
    overhead: Overhead,
    /// Largest packet number that the receiver reported, and whether it lacked anything then.
    reported: u64,
    lacking: bool,
    /// The newest report: its largest packet number, how old that was, and how many came.
    newest_report: Option<(u64, u32, u32)>,
    pacer: Pacer,
    /// When what was accepted will have left at the target bitrate.
    accepted_until: Time,
    /// The last frame that began to leave was given up.
    gave_up: bool,
    pub(crate) counters: SendCounters,
}

impl Sender {
    pub(crate) fn new(mtu: u16, max_frame_size: usize, budget: Duration) -> Self {
        Self {
            mtu,
            max_frame_size,
            budget,
            streams: BTreeMap::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            history: VecDeque::new(),
            history_bytes: 0,
            repairs: VecDeque::new(),
            allowance: REPAIR_BURST,
            path: Path {
                rtt: Duration::ZERO,
                loss: 0.0,
                clustering: 0.0,
                spread: Duration::ZERO,
                reorder: Duration::from_millis(1),
            },
            plan: Plan::new(parity::Path {
                loss: 0.0,
                clustering: 0.0,
                rounds: 0,
                waiting: [0.0; 2],
            }),
            interval: Interval::default(),
            rate: Rate::default(),
            overhead: Overhead::default(),
            reported: 0,
            lacking: false,
            newest_report: None,
            pacer: Pacer::default(),
            accepted_until: Time::default(),
            gave_up: false,
            counters: SendCounters::default(),
        }
    }

    /// The path is another one: how long the old one took says nothing of it.
    pub(crate) fn learn_path_anew(&mut self) {
        self.rate.learn_path_anew();
    }

    /// Whether the path was found to have got longer since that was last asked.
    pub(crate) fn take_longer(&mut self) -> bool {
        self.rate.take_longer()
    }

    /// How long, beyond the one-way delay, the receiver waits for a frame.
    pub(crate) fn set_budget(&mut self, budget: Duration) {
        self.budget = budget;
    }

    /// Bits per second that the frames of all streams together should stay below; `None` where no
    /// limit was met.
    pub(crate) fn target_bitrate(&self) -> Option<u64> {
        let target = self.rate.target()? as f64;
        Some((target / self.overhead.ratio()) as u64)
    }

    /// What the receiver is told of what is sent.
    pub(crate) fn sent(&self) -> Sent {
        Sent {
            target: self.rate.target().unwrap_or(0),
            ..self.counters.sent()
        }
    }

    /// Takes note of what comes through, as a share of the mean of those that share its bottleneck.
    pub(crate) fn set_share(&mut self, now: Time, share: f64) {
        self.rate.set_share(now, share);
    }

    /// Time that packets stand in queues on the path.
    pub(crate) fn queue_delay(&self) -> Duration {
        self.rate.queue_delay()
    }

    /// The size of datagrams from the next frame on.
    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
    }

    /// Caps of a stream; the message to send where they are new.
    pub(crate) fn set_caps(
        &mut self,
        stream: u16,
        caps: &str,
        first: u32,
    ) -> Result<Option<Message>, Error> {
        if stream >= MAX_STREAMS {
            return Err(Error::BadStream(stream));
        }
        if caps.len() > MAX_CAPS {
            return Err(Error::CapsTooLong(caps.len()));
        }
        let known = self.streams.get(&stream);
        if known.is_some_and(|known| known.caps.as_deref() == Some(caps)) {
            return Ok(None);
        }
        let entry = Stream {
            caps: Some(caps.into()),
            generation: known.map_or(0, |known| known.generation.wrapping_add(1)),
            next: known.map_or(first, |known| known.next),
            broken: false,
            is_chain: false,
            key_takes: Duration::ZERO,
            dropped: known.map_or(0, |known| known.dropped),
            abandoned: known.map_or(0, |known| known.abandoned),
        };
        let (generation, first) = (entry.generation, entry.next);
        self.streams.insert(stream, entry);
        Ok(Some(Message::Caps {
            stream,
            generation,
            first,
            caps: caps.into(),
        }))
    }

    pub(crate) fn end_stream(&mut self, stream: u16) -> Option<Message> {
        let entry = self.streams.get_mut(&stream)?;
        entry.caps.take()?;
        Some(Message::StreamEnd {
            stream,
            end: entry.next,
        })
    }

    /// Queues a frame; drops and counts it where too much waits or `refuse` says so. Returns
    /// whether a key frame is needed, because one that others build on was dropped.
    pub(crate) fn push(
        &mut self,
        now: Time,
        stream: u16,
        frame: Frame,
        refuse: bool,
    ) -> Result<bool, Error> {
        let size = frame.data.len();
        if size > self.max_frame_size {
            let limit = self.max_frame_size;
            return Err(Error::FrameTooLarge { size, limit });
        }
        let layout = Layout::new(size, symbol_room(self.mtu));
        let full =
            self.queue.len() >= MAX_QUEUED_FRAMES || self.queued_bytes + size > MAX_QUEUED_BYTES;
        let [backlog, patience] = [self.backlog(now), self.patience()];
        let entry = self.streams.get_mut(&stream);
        let entry = entry
            .filter(|entry| entry.caps.is_some())
            .ok_or(Error::NoCaps(stream))?;
        self.counters.frames_captured += 1;
        // What builds on a key frame waits for as long as that took: to begin anew takes longer.
        let is_chain = entry.is_chain || !frame.flags.key;
        let waits = is_chain && !entry.broken && !frame.flags.discardable;
        let most = patience
            + if waits {
                entry.key_takes
            } else {
                Duration::ZERO
            };
        let broken = entry.broken && !frame.flags.key;
        // The narrowest paths do not carry the largest frames.
        let layout = layout.filter(|_| !(full || refuse || broken || backlog > most));
        let Some(layout) = layout else {
            self.counters.frames_dropped += 1;
            entry.broken |= !frame.flags.discardable;
            if !refuse {
                entry.dropped = entry.dropped.saturating_add(1);
            }
            // Another one, too, could not leave yet.
            return Ok(entry.broken && !frame.flags.key && backlog <= patience);
        };
        entry.broken = false;
        entry.is_chain = !frame.flags.key;
        self.interval.observe(frame.capture);
        let first_flight = match self.rate.is_congested(self.budget) {
            true => layout.k,
            false => self.plan.first_flight(layout.k, layout.blocks),
        };
        let dropped = std::mem::take(&mut entry.dropped);
        let abandoned = std::mem::take(&mut entry.abandoned);
        let sequence = entry.next.wrapping_add(dropped.into());
        let fragment = Fragment {
            flags: flags_to_wire(frame.flags),
            skipped: dropped.saturating_add(abandoned),
            stream,
            sequence,
            capture: frame.capture.low_micros(),
            symbol: 0,
            k: layout.k,
            first_flight,
            block: 0,
            blocks: layout.blocks,
            code: 1,
        };
        entry.next = sequence.wrapping_add(1);
        let header = frame_header(&frame, entry.generation).encode();
        let takes = self.accept(now, size, layout, first_flight);
        // What others do not build on is given up for the next, but not each.
        let most = match is_chain || self.gave_up {
            true => Duration::MAX,
            false => self.interval.mean,
        };
        let leaves = now + self.accepted_until.since(now).min(most);
        if let Some(entry) = self.streams.get_mut(&stream).filter(|_| frame.flags.key) {
            entry.key_takes = takes;
        }
        self.queued_bytes += size;
        self.queue.push_back(Outgoing {
            fragment,
            layout,
            coded: Coded {
                header,
                data: frame.data,
            },
            is_chain,
            takes,
            due: leaves + self.budget.max(MIN_PATIENCE),
            sent: 0,
            first_sent: Time::default(),
            last_packet: 0,
            last_sent: Time::default(),
            fresh: vec![first_flight.into(); layout.blocks.into()],
            under_way: VecDeque::new(),
            probes: 0,
        });
        Ok(false)
    }

    /// Drops what has waited so long that it cannot come in time, and what builds on it.
    pub(crate) fn abandon(&mut self, now: Time) {
        while let Some(stale) = self.queue.pop_front_if(|frame| now > frame.due) {
            let mut left = Some(stale);
            while let Some(frame) = left.take() {
                left = self.leave_out(&frame);
            }
        }
    }

    /// Has the next frame of its stream tell that this one is not sent; returns that one where it
    /// is of no use without.
    fn leave_out(&mut self, frame: &Outgoing) -> Option<Outgoing> {
        self.counters.frames_dropped += 1;
        self.queued_bytes -= frame.coded.data.len();
        self.gave_up |= frame.sent > 0;
        let unsent = 1.0 - frame.sent as f64 / frame.first_flight() as f64;
        self.accepted_until = self.accepted_until - frame.takes.mul_f64(unsent);
        let Fragment {
            flags,
            skipped,
            stream,
            ..
        } = frame.fragment;
        let skipped = skipped.saturating_add(1);
        let is_needed = flags & FLAG_DISCARDABLE == 0;
        let next = self.queue.iter_mut().enumerate();
        let mut next = next.filter(|(_, next)| next.fragment.stream == stream);
        if let Some((at, next)) = next.next() {
            let fragment = &mut next.fragment;
            fragment.skipped = fragment.skipped.saturating_add(skipped);
            let goes_too = is_needed && fragment.flags & FLAG_KEY == 0;
            return if goes_too {
                self.queue.remove(at)
            } else {
                None
            };
        }
        if let Some(entry) = self.streams.get_mut(&stream) {
            entry.abandoned = entry.abandoned.saturating_add(skipped);
            entry.broken |= is_needed;
        }
        None
    }

    /// Whether it ever had something to send.
    pub(crate) fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    /// Whether everything sent has come, as far as was reported.
    pub(crate) fn is_settled(&self) -> bool {
        let reported = self
            .history
            .back()
            .is_none_or(|last| last.last_packet <= self.reported);
        self.queue.is_empty() && self.repairs.is_empty() && reported && !self.lacking
    }

    /// Bytes of frames held.
    pub(crate) fn memory(&self) -> usize {
        self.queued_bytes + self.history_bytes
    }

    /// Drops what waits to leave, and what could be repaired.
    pub(crate) fn drop_all(&mut self) {
        self.counters.frames_dropped += self.queue.len() as u64;
        self.queue.clear();
        self.history.clear();
        self.repairs.clear();
        (self.queued_bytes, self.history_bytes, self.lacking) = (0, 0, false);
    }

    // What leaves.

    /// Bytes of the next datagram, where one may leave now.
    pub(crate) fn next_len(&self, now: Time) -> Option<usize> {
        let layout = match self.repairs.front() {
            Some((stream, sequence, _)) => self.find(*stream, *sequence)?.layout,
            None => self.queue.front()?.layout,
        };
        (self.pacer.at() <= now)
            .then_some(HEADER_LEN + FRAGMENT_LEN + usize::from(layout.symbol_len) + TAG_LEN)
    }

    /// Appends the next FRAGMENT; it leaves in packet number `packet`.
    pub(crate) fn write(&mut self, now: Time, packet: u64, out: &mut Vec<u8>) {
        let start = out.len();
        if let Some((stream, sequence, block)) = self.repairs.pop_front() {
            self.write_repair(now, packet, stream, sequence, block, out);
            self.skip_stale_repairs();
        } else {
            self.write_first(now, packet, out);
        }
        let len = out.len() - start + HEADER_LEN + TAG_LEN;
        self.overhead.on_datagram(len);
        self.rate.on_sent(now, packet, len);
        let front = self.queue.front();
        let pace = Pace {
            target: self.rate.target(),
            rtt: self.path.rtt,
            loss: self.path.loss,
            flight: front.map_or(0, Outgoing::first_flight),
            // What waits behind a key frame would only wait on the path.
            hurries: !front.is_some_and(|frame| frame.is_chain) || self.backlog(now) < MIN_PATIENCE,
        };
        self.pacer.on_sent(now, len, &pace);
    }

    fn write_first(&mut self, now: Time, packet: u64, out: &mut Vec<u8>) {
        let Some(frame) = self.queue.front_mut() else {
            return;
        };
        let data = frame.layout.symbols();
        let (block, number) = frame.layout.locate(frame.sent);
        frame.write(block, number, false, out);
        self.counters.parity_sent += u64::from(frame.sent >= data);
        if frame.sent == 0 {
            frame.first_sent = now;
        }
        frame.sent += 1;
        frame.last_packet = packet;
        frame.last_sent = now;
        self.allowance = (self.allowance + REPAIR_SHARE).min(REPAIR_BURST);
        if frame.sent == frame.first_flight() {
            self.counters.frames_sent += 1;
            self.gave_up = false;
            self.overhead.on_frame(frame.coded.data.len());
            let frame = self.queue.pop_front();
            self.history.extend(frame);
            let size = self
                .history
                .back()
                .map_or(0, |frame| frame.coded.data.len());
            self.queued_bytes -= size;
            self.history_bytes += size;
            self.forget(now);
        }
    }

    fn write_repair(
        &mut self,
        now: Time,
        packet: u64,
        stream: u16,
        sequence: u32,
        block: u8,
        out: &mut Vec<u8>,
    ) {
        let Some(frame) = self.history.iter_mut().find(|f| f.is(stream, sequence)) else {
            return;
        };
        let fresh = &mut frame.fresh[usize::from(block)];
        let number = *fresh;
        *fresh += 1;
        if usize::from(*fresh) == MAX_SYMBOL_INDEX {
            // Every parity symbol was sent: begin again with the data.
            *fresh = 0;
        }
        frame.write(block, number, true, out);
        if frame.under_way.len() == MAX_REPAIRS {
            frame.under_way.pop_front();
        }
        frame.under_way.push_back(UnderWay {
            block,
            packet,
            at: now,
        });
        self.counters.repairs_sent += 1;
    }

    /// Drops repairs whose frame is forgotten, so that the first in the queue can be sent.
    fn skip_stale_repairs(&mut self) {
        while let Some((stream, sequence, _)) = self.repairs.front() {
            if self.find(*stream, *sequence).is_some() {
                break;
            }
            self.repairs.pop_front();
        }
    }

    fn find(&self, stream: u16, sequence: u32) -> Option<&Outgoing> {
        self.history.iter().find(|frame| frame.is(stream, sequence))
    }

    /// How long what was accepted takes, at the target, to leave.
    fn backlog(&self, now: Time) -> Duration {
        match self.rate.target() {
            Some(_) => self.accepted_until.since(now),
            None => Duration::ZERO,
        }
    }

    /// How long a frame may wait for those before it.
    fn patience(&self) -> Duration {
        // What waits for longer than half of its time comes late.
        self.interval.mean.max(MIN_PATIENCE).min(self.budget / 2)
    }

    /// Takes note of an accepted frame's share of the target; returns how long it takes to leave.
    fn accept(&mut self, now: Time, size: usize, layout: Layout, first_flight: u8) -> Duration {
        self.rate.target().map_or(Duration::ZERO, |target| {
            let datagram = usize::from(layout.symbol_len) + HEADER_LEN + FRAGMENT_LEN + TAG_LEN;
            let flight = datagram * usize::from(first_flight) * usize::from(layout.blocks);
            let bits = 8.0 * (size as f64 * self.overhead.ratio()).max(flight as f64);
            let takes = Duration::from_secs_f64(bits / target as f64);
            self.accepted_until = self.accepted_until.max(now) + takes;
            takes
        })
    }

    // What comes back.

    /// Gives up frames whose time for repairs is over.
    fn forget(&mut self, now: Time) {
        while let Some(oldest) = self.history.front() {
            let over = now > oldest.over_at(self.budget);
            if !over && self.history.len() <= MAX_HISTORY && self.history_bytes <= MAX_HISTORY_BYTES
            {
                break;
            }
            self.history_bytes -= oldest.coded.data.len();
            self.history.pop_front();
        }
        self.skip_stale_repairs();
    }

    /// Repair rounds that still fit for a frame whose time is over then.
    fn rounds_left(&self, now: Time, over_at: Time) -> usize {
        let left = over_at.since(now);
        let Path { rtt, reorder, .. } = self.path;
        // One is under way: the symbols now sent, which need no further report.
        let more = left.as_secs_f64() / (rtt + reorder + Duration::from_millis(1)).as_secs_f64();
        1 + (more as usize).min(MAX_ROUNDS - 1)
    }

    /// Takes a report now that arrived then.
    pub(crate) fn handle_feedback(
        &mut self,
        [now, arrived]: [Time; 2],
        feedback: &Feedback,
        rtt: Duration,
    ) {
        // A copy of the one before has nothing to add.
        let report = (feedback.largest, feedback.age, feedback.packets);
        if self.newest_report.replace(report) == Some(report) {
            return;
        }
        self.reported = self.reported.max(feedback.largest);
        self.lacking = !feedback.deficits.is_empty();
        self.path = Path {
            rtt,
            loss: (f64::from(feedback.loss) / 65_536.0).min(self.rate.link_loss()),
            clustering: f64::from(feedback.clustering) / 65_536.0,
            spread: Duration::from_micros(feedback.spread.into()),
            reorder: Duration::from_micros(feedback.reorder.into()),
        };
        if let Some(pause) = self.rate.on_feedback(arrived, feedback, rtt, self.budget) {
            self.accepted_until = now + pause;
        }
        self.replan();
        self.forget(now);
        // Behind a long queue repairs come late, and lengthen it.
        if self.rate.is_congested(self.budget) {
            return;
        }
        for deficit in &feedback.deficits {
            self.answer(now, feedback.largest, deficit);
        }
    }

    fn replan(&mut self) {
        let Path {
            rtt,
            loss,
            clustering,
            spread,
            reorder,
        } = self.path;
        let round = rtt + reorder + Duration::from_millis(2) + spread / 4;
        let rounds = self
            .budget
            .saturating_sub(spread.min(self.budget / 2))
            .as_secs_f64()
            / round.as_secs_f64();
        let rounds = (rounds as usize).min(MAX_ROUNDS);
        let waiting_for = |rounds: u32| {
            let late = (rtt + reorder + Duration::from_millis(2)) * rounds;
            self.interval.waiting(late)
        };
        let waiting = [waiting_for(1), waiting_for(2) - waiting_for(1)];
        let path = parity::Path {
            loss,
            clustering,
            rounds,
            waiting,
        };
        if !self.plan.fits(path) {
            self.plan = Plan::new(path);
        }
    }

    /// Queues what a frame lacks, less what may still be under way to the receiver.
    fn answer(&mut self, now: Time, largest: u64, deficit: &Deficit) {
        let Some(at) = self
            .history
            .iter()
            .position(|f| f.is(deficit.stream, deficit.sequence))
        else {
            return;
        };
        let frame = &self.history[at];
        let blocks = usize::from(frame.layout.blocks);
        let unseen = vec![frame.layout.k; blocks];
        let lacking = if deficit.blocks.is_empty() {
            &unseen
        } else {
            &deficit.blocks
        };
        if lacking.len() != blocks {
            return;
        }
        // What is late may still come, but where this is the last round nobody can wait for that.
        let over_at = frame.over_at(self.budget);
        let late = match self.rounds_left(now, over_at) {
            1 => Duration::ZERO,
            _ => self.path.spread.min(self.path.rtt) / 2,
        };
        let recent = self.path.rtt + self.path.reorder + late;
        let fresh_flight = now.since(frame.last_sent) < recent;
        let flying = frame.last_packet.saturating_sub(largest) as usize;
        let mut more = Vec::with_capacity(blocks);
        for (block, lacking) in (0u8..).zip(lacking.clone()) {
            if lacking == 0 {
                continue;
            }
            let frame = &self.history[at];
            let repairs = frame.under_way.iter().filter(|sent| {
                sent.block == block && sent.packet > largest && now.since(sent.at) < recent
            });
            // What is under way was chosen for the rounds left then, and its fate is not known.
            let decided = repairs.clone().map(|sent| sent.at).min().unwrap_or(now);
            let rounds = self.rounds_left(decided, over_at);
            let wanted = usize::from(self.plan.repairs(rounds, lacking));
            let mut under_way = repairs.count();
            if fresh_flight {
                under_way += flying.div_ceil(blocks);
            }
            let queued = self
                .repairs
                .iter()
                .filter(|r| **r == (deficit.stream, deficit.sequence, block));
            under_way += queued.count();
            more.push((block, wanted.saturating_sub(under_way)));
        }
        // The blocks take turns, so that a run of losses takes little of each.
        while more.iter().any(|(_, count)| *count > 0) {
            for (block, count) in more.iter_mut().filter(|(_, count)| *count > 0) {
                if self.allowance < 1.0 {
                    return;
                }
                *count -= 1;
                self.allowance -= 1.0;
                self.repairs
                    .push_back((deficit.stream, deficit.sequence, *block));
            }
        }
    }

    /// When the newest frame's silence calls for a probe: the receiver may have seen nothing.
    fn probe_due(&self) -> Option<Time> {
        if !self.queue.is_empty() || !self.repairs.is_empty() {
            return None;
        }
        let newest = self.history.back()?;
        if newest.last_packet <= self.reported || newest.probes > 2 || self.path.rtt.is_zero() {
            return None;
        }
        let Path {
            rtt,
            reorder,
            spread,
            ..
        } = self.path;
        let wait = rtt + rtt / 8 + reorder + spread.min(rtt) / 2 + Duration::from_millis(3);
        let last = newest
            .under_way
            .back()
            .map_or(newest.last_sent, |sent| sent.at);
        let at = last + wait;
        (at < newest.over_at(self.budget)).then_some(at)
    }

    /// When something may leave although nothing comes.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let waiting = !self.queue.is_empty() || !self.repairs.is_empty();
        if waiting {
            Some(self.pacer.at())
        } else {
            self.probe_due()
        }
    }

    /// Queues a probe if one is due.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        if self.probe_due().is_some_and(|at| at <= now)
            && let Some(newest) = self.history.back_mut()
        {
            newest.probes += 1;
            // What a probe has the receiver ask for takes a round more: of a burst's victim as much
            // as may be lacking is sent at once, if that is little.
            let k = newest.layout.k;
            let small = newest.layout.blocks == 1 && k <= MAX_PROBE;
            let count = match small && self.path.clustering > CLUSTERED {
                true => k.into(),
                false => 1.0,
            };
            let count = self.allowance.min(count).floor();
            self.allowance -= count;
            let Fragment {
                stream, sequence, ..
            } = newest.fragment;
            self.repairs
                .extend((0..count as usize).map(|_| (stream, sequence, 0)));
        }
    }
}
