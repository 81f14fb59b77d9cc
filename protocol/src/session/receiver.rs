//! The receiving end of a session's media: streams, the sender's clock, reports.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Happened;
use super::delays::Delays;
use super::lull::Lull;
use crate::clock::Clock;
use crate::loss::{CLUSTERED, LossEstimator};
use crate::reassembly::{Limits, Outcome, Reassembly, ReceiveCounters, Rhythm, Timing};
use crate::reorder::Reorder;
use crate::replay::ReplayWindow;
use crate::stats::Received;
use crate::wire::feedback::{Feedback, MAX_SAMPLES, Sample};
use crate::wire::fragment::{FLAG_REPAIR, Fragment};
use crate::{LatePolicy, Time};

/// How long what came may stay unreported.
const REPORT_INTERVAL: Duration = Duration::from_millis(25);
/// The same for repairs: the next frame's report is soon enough.
const REPAIRED_INTERVAL: Duration = Duration::from_millis(50);
/// Time between two arrival samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(3);
/// Shortest wait for the rest of a first flight.
const MIN_TAIL: Duration = Duration::from_millis(3);
/// Share of packets lost above which it is likely that a burst takes the reports of a frame.
const MUCH_LOSS: f64 = 0.02;
/// Correlation of neighbours' fates below which losses are independent.
const EVEN: f64 = 0.15;
/// Spread above which a path may have a queue, at whose end packets are lost.
const QUEUED: Duration = Duration::from_millis(12);
/// Frames whose spread is remembered.
const SPREADS: usize = 128;
/// What the newest interval weighs in the rate of what comes.
const ARRIVING_WEIGHT: f64 = 0.7;
/// A share of one, as it is told.
pub(super) const SHARE_UNIT: f64 = 4096.0;

/// The receiving end of a session's media.
pub(crate) struct Receiver {
    latency: Duration,
    late_policy: LatePolicy,
    streams: BTreeMap<u16, Reassembly>,
    clock: Clock,
    /// That began anew.
    begun_anew: bool,
    reorder: Reorder,
    loss: LossEstimator,
    largest: Option<(Time, u64)>,
    packets: u32,
    bytes: u32,
    samples: VecDeque<(Time, u64)>,
    /// When what came since the last report is to be reported.
    regular: Option<Time>,
    /// A frame became whole: say so at once.
    report_now: bool,
    /// For each of the last frames, how long after the fastest path its last symbol came.
    spreads: VecDeque<Duration>,
    /// The two largest of these but for the last one, which may still grow.
    largest_spreads: [Duration; 2],
    spread_of: Option<(u16, u32)>,
    /// Time of the last symbol, and the longest gap inside frames lately.
    last_symbol: Option<Time>,
    gap: Duration,
    lull: Lull,
    delays: Delays,
    /// Bytes that had come when that was last asked, and bits per second, smoothed.
    arriving: (u32, f64),
    /// What the sender is to be told of its share of a bottleneck.
    share: u16,
    /// The sender met a limit.
    limited: bool,
}

impl Receiver {
    pub(crate) fn new(latency: Duration) -> Self {
        Self {
            latency,
            late_policy: LatePolicy::default(),
            streams: BTreeMap::new(),
            clock: Clock::new(latency),
            begun_anew: false,
            reorder: Reorder::default(),
            loss: LossEstimator::default(),
            largest: None,
            packets: 0,
            bytes: 0,
            samples: VecDeque::new(),
            regular: None,
            report_now: false,
            spreads: VecDeque::new(),
            largest_spreads: Default::default(),
            spread_of: None,
            last_symbol: None,
            gap: Duration::ZERO,
            lull: Lull::default(),
            delays: Delays::default(),
            arriving: (0, 0.0),
            share: 0,
            limited: false,
        }
    }

    pub(crate) fn set_latency(&mut self, latency: Duration) {
        self.latency = latency;
        self.clock.set_latency(latency);
        self.streams
            .values_mut()
            .for_each(|stream| stream.set_latency(latency));
    }

    /// The path is another one: how long the old one took says nothing of it.
    pub(crate) fn learn_path_anew(&mut self) {
        self.clock.begin_anew();
        self.forget_spreads();
        self.delays = Delays::default();
    }

    /// Whether the mapping of the sender's clock began anew since that was last asked: the path is
    /// likely to take another time now.
    pub(crate) fn take_begun_anew(&mut self) -> bool {
        std::mem::take(&mut self.begun_anew)
    }

    /// Forgets how late symbols were by a line that is no more.
    fn forget_spreads(&mut self) {
        self.spreads.clear();
        self.largest_spreads = Default::default();
        self.spread_of = None;
    }

    /// What becomes of frames that are not whole when a newer one is.
    pub(crate) fn set_late_policy(&mut self, policy: LatePolicy) {
        self.late_policy = policy;
        self.streams
            .values_mut()
            .for_each(|stream| stream.set_late_policy(policy));
    }

    /// Bytes of frames held.
    pub(crate) fn memory(&self) -> usize {
        self.streams.values().map(Reassembly::memory).sum()
    }

    pub(crate) fn stream(&mut self, stream: u16) -> &mut Reassembly {
        let (latency, policy) = (self.latency, self.late_policy);
        self.streams.entry(stream).or_insert_with(|| {
            let mut reassembly = Reassembly::new(stream, latency);
            reassembly.set_late_policy(policy);
            reassembly
        })
    }

    fn timing(&self, rtt: Duration) -> Timing {
        Timing {
            rtt,
            reorder: self.reorder.window(),
            tail: MIN_TAIL.max(self.gap * 2).max(self.reorder.window()),
            jitter: Duration::from_millis(2) + self.spread().min(rtt) / 4,
            rhythm: self.rhythm(),
        }
    }

    /// Whether the path may have a queue, at whose end packets are lost: the sender's rate follows it.
    fn is_queued(&self) -> bool {
        self.limited || self.spread() > QUEUED
    }

    fn rhythm(&self) -> Rhythm {
        let queued = self.is_queued();
        let clustering = self.loss.clustering();
        let much = clustering > CLUSTERED && self.loss() > MUCH_LOSS;
        match (much, queued) {
            (true, true) => Rhythm::Steady,
            (true, false) => Rhythm::Bunches,
            (false, false) if clustering < EVEN => Rhythm::Pairs,
            (false, _) => Rhythm::Singles,
        }
    }

    /// How long after the fastest path the symbols of a frame take to come, for 99 of 100 frames.
    pub(crate) fn spread(&self) -> Duration {
        let last = self.spreads.back().copied().unwrap_or_default();
        let largest = with(self.largest_spreads, last);
        largest[usize::from(self.spreads.len() >= SPREADS / 2)]
    }

    /// When a symbol of a first flight came last.
    pub(crate) fn last_symbol(&self) -> Option<Time> {
        self.last_symbol
    }

    /// Takes note of an authentic and new datagram.
    pub(crate) fn handle_packet(
        &mut self,
        now: Time,
        number: u64,
        len: usize,
        came: &ReplayWindow,
    ) {
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(len as u32);
        self.reorder.observe(now, number);
        if self.largest.is_none_or(|(_, largest)| number > largest) {
            self.largest = Some((now, number));
            if self
                .samples
                .back()
                .is_none_or(|(at, _)| now.since(*at) >= SAMPLE_INTERVAL)
            {
                if self.samples.len() == MAX_SAMPLES {
                    self.samples.pop_front();
                }
                self.samples.push_back((now, number));
            }
        }
        if let Some((_, largest)) = self.largest {
            let wait = self.reorder.window() + Duration::from_millis(20);
            self.loss.update(now, largest, wait, came);
        }
    }

    pub(crate) fn handle_fragment(
        &mut self,
        [now, arrived]: [Time; 2],
        fragment: &Fragment,
        symbol: &[u8],
        limits: Limits,
        rtt: Duration,
    ) -> Outcome {
        let capture = self.clock.extend(fragment.capture);
        let first_flight = fragment.flags & FLAG_REPAIR == 0;
        if first_flight {
            if self.clock.observe(arrived, capture) {
                self.forget_spreads();
                self.begun_anew = true;
            }
            self.measure(arrived, fragment, capture);
        }
        let timing = self.timing(rtt);
        let queued = self.is_queued();
        // Of what was repaired nobody waits to hear but a rate that follows a queue.
        let regular = arrived
            + match first_flight || queued {
                true => REPORT_INTERVAL,
                false => REPAIRED_INTERVAL,
            };
        self.regular = Some(self.regular.map_or(regular, |before| before.min(regular)));
        let stream = self.stream(fragment.stream);
        let before = stream.whole();
        let outcome = stream.handle_fragment(now, fragment, symbol, capture, limits, timing);
        let whole = self.stream(fragment.stream).whole();
        self.report_now |= whole[usize::from(!queued)] > before[usize::from(!queued)];
        outcome
    }

    /// Measures how symbols of a first flight are spread in time: parity is left out, as there is
    /// the more of it the less time it leaves for repairs.
    fn measure(&mut self, now: Time, fragment: &Fragment, capture: u64) {
        let late = now.since(self.clock.map(capture));
        if (fragment.symbol, fragment.block) == (0, 0) {
            self.delays.observe(now, capture);
        }
        let frame = (fragment.stream, fragment.sequence);
        if self.spread_of == Some(frame) {
            let is_data = fragment.symbol < fragment.k.into();
            if let Some(spread) = self.spreads.back_mut().filter(|_| is_data) {
                *spread = late.max(*spread);
            }
            self.lull.observe(now);
            if let Some(last) = self.last_symbol {
                self.gap = now.since(last).max(self.gap - self.gap / 512);
            }
        } else if self
            .spread_of
            .is_none_or(|(_, sequence)| fragment.sequence.wrapping_sub(sequence) < 1 << 31)
        {
            if self.spreads.len() == SPREADS {
                self.spreads.pop_front();
            }
            self.largest_spreads = self.spreads.iter().copied().fold(Default::default(), with);
            self.lull.begin(now);
            self.spreads.push_back(late);
            self.spread_of = Some(frame);
        }
        self.last_symbol = Some(now);
    }

    /// Hands over what is due.
    pub(crate) fn poll(&mut self, now: Time, out: &mut Vec<Happened>) {
        for (stream, reassembly) in &mut self.streams {
            reassembly.poll(now, &self.clock, |output| {
                out.push(Happened::Stream {
                    stream: *stream,
                    output,
                });
            });
        }
    }

    /// Streams that need a key frame and have not asked for it.
    pub(crate) fn take_wants_key(&mut self) -> Vec<u16> {
        let wanting = self
            .streams
            .iter_mut()
            .filter_map(|(stream, r)| r.take_wants_key().then_some(*stream));
        wanting.collect()
    }

    /// When a frame's time is over.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.streams
            .values()
            .filter_map(|stream| stream.poll_timeout(&self.clock))
            .min()
    }

    /// Until when nothing that comes can make a frame whole, as fast as packets come; `None`: what
    /// comes next may.
    pub(crate) fn lull(&self) -> Option<Time> {
        let mut streams = self.streams.values();
        let lacking = streams.next()?.lacking()?;
        match streams.next() {
            None => self.lull.until(lacking),
            Some(_) => None,
        }
    }

    /// When to report.
    pub(crate) fn report_due(&self) -> Option<Time> {
        if self.report_now {
            return Some(Time::default());
        }
        let repairs = self.streams.values().filter_map(Reassembly::report_due);
        repairs.chain(self.regular).min()
    }

    /// What to report, and how many datagrams are to carry it.
    pub(crate) fn report(&mut self, now: Time, rtt: Duration) -> (Feedback, usize) {
        (self.regular, self.report_now) = (None, false);
        let timing = self.timing(rtt);
        let (at, largest) = self.largest.unwrap_or((now, 0));
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let mut deficits = Vec::new();
        let mut copies = 1;
        for stream in self.streams.values_mut() {
            copies = copies.max(stream.report(now, &self.clock, timing, &mut deficits));
        }
        // The newest is one in any case: what came before it is then accounted for.
        let newest = (at, largest);
        if self.samples.back().is_some_and(|last| *last != newest) {
            if self.samples.len() == MAX_SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back(newest);
        }
        let samples = self
            .samples
            .drain(..)
            .filter_map(|(at, number)| {
                let back = u16::try_from(largest - number).ok()?;
                Some(Sample {
                    back,
                    arrival: at.low_micros(),
                })
            })
            .collect();
        let feedback = Feedback {
            largest,
            age: micros(now.since(at)),
            packets: self.packets,
            bytes: self.bytes,
            loss: (self.loss.loss() * 65_535.0) as u16,
            clustering: (self.loss.clustering() * 65_535.0) as u16,
            spread: micros(self.spread()),
            reorder: micros(timing.reorder),
            samples,
            deficits,
        };
        (feedback, copies)
    }

    /// The sum of all streams' counters.
    pub(crate) fn counters(&self) -> ReceiveCounters {
        self.streams
            .values()
            .fold(ReceiveCounters::default(), |sum, stream| {
                sum.plus(stream.counters)
            })
    }

    /// What became of the frames, whose way takes `least` at the least.
    pub(crate) fn received(&self, least: Duration) -> Received {
        let counters = self.counters();
        let mut latencies: Vec<u32> = self
            .streams
            .values()
            .flat_map(Reassembly::latencies)
            .collect();
        latencies.sort_unstable();
        let least = u32::try_from(least.as_micros()).unwrap_or(u32::MAX);
        let of_a_hundred = |share: usize| {
            let at = (latencies.len() * share).div_ceil(100).saturating_sub(1);
            let latency = latencies.get(at);
            latency.map_or(0, |latency| latency.saturating_add(least))
        };
        Received {
            delivered: counters.delivered,
            lost: counters.lost,
            late: counters.late,
            undecodable: counters.undecodable,
            by_parity: counters.by_parity,
            by_resend: counters.by_resend,
            rounds: counters.rounds,
            latency_us: [50, 95, 99].map(of_a_hundred),
            loss: (self.loss() * 65_535.0) as u16,
            share: self.share,
        }
    }

    pub(crate) fn loss(&self) -> f64 {
        self.loss.loss()
    }

    /// How long frames took lately.
    pub(crate) fn delays(&self) -> &Delays {
        &self.delays
    }

    /// Bits per second that come, smoothed; asked for in regular intervals, the last one of which
    /// was so long.
    pub(crate) fn arriving(&mut self, interval: Duration) -> f64 {
        let (bytes, rate) = &mut self.arriving;
        let came = self
            .bytes
            .wrapping_sub(std::mem::replace(bytes, self.bytes));
        *rate += (f64::from(came) * 8.0 / interval.as_secs_f64() - *rate) * ARRIVING_WEIGHT;
        *rate
    }

    /// Takes note of what comes, as a share of what comes on average of those behind the same
    /// bottleneck; `None` where that is not known.
    pub(crate) fn set_share(&mut self, share: Option<f64>) {
        let share = share.map(|share| (share * SHARE_UNIT).clamp(1.0, 65_535.0));
        self.share = share.map_or(0, |share| share as u16);
    }

    /// Takes note of whether the sender met a limit of what the path carries.
    pub(crate) fn set_limited(&mut self, limited: bool) {
        self.limited = limited;
    }

    pub(crate) fn skew_ppm(&self) -> f64 {
        self.clock.skew_ppm()
    }
}

/// The two largest of these and one more.
fn with([first, second]: [Duration; 2], more: Duration) -> [Duration; 2] {
    if more > first {
        [more, first]
    } else {
        [first, second.max(more)]
    }
}
