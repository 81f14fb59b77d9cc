//! What reports say of the path: queues, loss, what comes through.
//!
//! Queue delay is the smallest one-way delay of the last [`STANDING`], and of three reports at
//! least, less the smallest of the last [`BASE_SECONDS`]: a frame's own burst or a receiver that
//! was held up once does not count, a queue that stands does.

use std::collections::VecDeque;
use std::time::Duration;

use super::longer::{Longer, Trail};
use crate::Time;
use crate::wire::feedback::Feedback;

/// Packets whose time of sending is remembered.
const MAX_SENT: usize = 4096;
/// A queue that never empties for this long stands.
const STANDING: Duration = Duration::from_millis(120);
/// Reports that must agree that a queue stands.
const STANDING_REPORTS: usize = 3;
/// Seconds over which the fastest path is remembered.
const BASE_SECONDS: usize = 10;
/// Rates and losses are measured over this,
const OVER: Duration = Duration::from_millis(500);
/// and over so many packets, where they are rare: of a few repairs most may be lost by chance.
const MANY: u64 = 128;
/// Loss among fewer packets is not judged.
const FEW: u64 = 64;
/// What arrives, over this at least.
const DELIVERED_LEAST: Duration = Duration::from_millis(50);
/// What the path carries while it is busy is measured over this, at most,
const BUSY_OVER: Duration = Duration::from_millis(100);
/// and over so many microseconds, at least.
const BUSY_LEAST: i64 = 15_000;
/// Microseconds that a receiver waits for packets out of order where they come in order.
const MAX_REORDER: u32 = 2_000;
/// Of what reports said so much is remembered, at most: who reports more often says little with each.
const MAX_REMEMBERED: usize = 4096;
/// Reports further apart than this have an outage between them.
const OUTAGE: Duration = Duration::from_millis(250);
/// Congestion that shows this long after a loss may be its reason.
const UNSURE_FOR: Duration = Duration::from_millis(200);
/// What a packet's fate still weighs when the next one is counted.
const LOSS_DECAY: f64 = 0.9994;

/// A packet that left.
struct Sent {
    packet: u64,
    at: Time,
    /// Bytes sent up to its end, since the start.
    total: u64,
}

/// What a report counted.
#[derive(Clone, Copy, Default)]
struct Count {
    told: Time,
    /// When its newest packet came.
    at: Time,
    bytes: u32,
    packets: u32,
    largest: u64,
}

impl Count {
    /// Packets that left between this report's newest one and a later report's.
    fn left_until(&self, later: &Self) -> u64 {
        later.largest.saturating_sub(self.largest)
    }
}

/// A packet that came: by the receiver's clock, and bytes sent up to its end.
#[derive(Clone, Copy)]
struct Came {
    arrival: u32,
    total: u64,
}

#[derive(Default)]
pub(super) struct Measure {
    sent: VecDeque<Sent>,
    total: u64,
    /// Nothing is made of reports before one on this packet: they tell of what was before.
    from: u64,
    /// When the first packet left of those that reports are made something of.
    begun: Option<Time>,
    /// Smallest one-way delay (of unknown offset) of each report lately, microseconds.
    recent: VecDeque<(Time, i64)>,
    /// Smallest of each second.
    base: VecDeque<(Time, i64)>,
    /// How long packets of the newest report waited at least, microseconds.
    wait: i64,
    trail: Trail,
    /// Packets come in the order in which they left.
    in_order: bool,
    last: Option<Came>,
    /// Bytes that came, and the microseconds that the path was busy with them.
    busy: VecDeque<(Time, f64, i64)>,
    counts: VecDeque<Count>,
    /// The newest report's.
    reported: Count,
    /// Packets that left, and those of them that came, lately: the link's losses unless congestion
    /// shows soon after.
    unsure: VecDeque<(Time, f64, f64)>,
    /// Packets reported on while the path was clear, and those of them lost; older ones weigh less.
    clear_packets: f64,
    clear_lost: f64,
}

impl Measure {
    /// Takes note of a packet of `len` bytes that left.
    pub(super) fn on_sent(&mut self, now: Time, packet: u64, len: usize) {
        if self.sent.len() == MAX_SENT {
            self.sent.pop_front();
        }
        self.total += len as u64;
        self.begun.get_or_insert(now);
        self.sent.push_back(Sent {
            packet,
            at: now,
            total: self.total,
        });
    }

    /// Begins to measure anew, with what is sent from now on.
    pub(super) fn begin_anew(&mut self) {
        self.from = self.sent.back().map_or(0, |sent| sent.packet + 1);
        self.begun = None;
        self.unsure.clear();
    }

    /// When the first packet left since it began to.
    pub(super) fn begun(&self) -> Option<Time> {
        self.begun
    }

    /// Learns anew how long the path takes at its fastest.
    pub(super) fn forget_base(&mut self) {
        self.base.clear();
        self.recent.clear();
        self.busy.clear();
        self.trail = Trail::default();
        self.wait = 0;
    }

    fn forget(&mut self) {
        self.counts.clear();
        self.recent.clear();
        self.busy.clear();
        self.last = None;
    }

    /// Whether nothing was sent since it began to.
    pub(super) fn is_paused(&self) -> bool {
        self.sent.back().is_some_and(|sent| sent.packet < self.from)
    }

    /// Takes a report; `clear` where no congestion was met for a while. Returns whether it says
    /// something new.
    pub(super) fn on_feedback(&mut self, now: Time, feedback: &Feedback, clear: bool) -> bool {
        if feedback.largest < self.from.max(self.reported.largest) {
            // It tells of what was before, or was overtaken.
            return false;
        }
        let outage = !self.counts.is_empty() && now.since(self.reported.at) > OUTAGE;
        let anew = std::mem::take(&mut self.from) > 0 || outage;
        if anew {
            self.forget();
        }
        let lost = Some(self.lost_since_last(feedback)).filter(|_| !anew);
        match lost {
            Some((left, came)) if clear && self.unsure.len() < MAX_REMEMBERED => {
                self.unsure.push_back((now, left, came));
            }
            _ => self.unsure.clear(),
        }
        while let Some((_, left, came)) = self
            .unsure
            .pop_front_if(|(at, ..)| now.since(*at) > UNSURE_FOR)
        {
            let keep = LOSS_DECAY.powf(left);
            self.clear_packets = self.clear_packets * keep + left;
            self.clear_lost = self.clear_lost * keep + left - came;
        }
        let came = lost.map_or(1.0, |(left, came)| (came / left.max(1.0)).clamp(0.0, 1.0));
        self.take_samples(now, feedback, came);
        self.take_counts(now, feedback);
        true
    }

    /// Time that packets stand in queues on the path.
    pub(super) fn queue_delay(&self) -> Duration {
        let recent = self.recent.iter().map(|(_, delay)| *delay).min();
        match (recent, self.base()) {
            (Some(recent), Some(base)) if self.agree() => {
                Duration::from_micros((recent - base).max(0) as u64)
            }
            _ => Duration::ZERO,
        }
    }

    /// Whether there are as many reports lately as have to agree. Those of a path that stood still for
    /// a moment come all at once.
    fn agree(&self) -> bool {
        let span = self.recent.front().zip(self.recent.back());
        let spans = span.is_some_and(|((first, _), (last, _))| last.since(*first) >= STANDING / 2);
        spans && self.recent.len() >= STANDING_REPORTS
    }

    /// Whether the path got longer, where a queue delay above `limit` is long. What is lost then is
    /// not taken for the link's.
    pub(super) fn longer(&mut self, limit: Duration) -> Longer {
        let Some(base) = self.base() else {
            return Longer::No;
        };
        let came = |since: Time| self.came_since(since);
        let longer = self.trail.judge(base, limit, came, self.surely_link_loss());
        if longer != Longer::No {
            self.unsure.clear();
        }
        longer
    }

    /// The share of packets that the link was seen to lose by itself, among many.
    fn surely_link_loss(&self) -> f64 {
        match self.clear_packets >= MANY as f64 {
            true => self.clear_lost / self.clear_packets,
            false => 0.0,
        }
    }

    /// Packets that left since before the first report since then, and those of them that came. Where
    /// they overtake each other, the last ones may yet come.
    fn came_since(&self, since: Time) -> (f64, f64) {
        let at = self.counts.partition_point(|count| count.told < since);
        let first = self.counts.get(at.saturating_sub(1));
        let first = first.unwrap_or(&self.reported);
        let came = self.reported.packets.wrapping_sub(first.packets);
        let before_last = self.counts.len().checked_sub(2);
        let until = before_last.and_then(|at| self.counts.get(at));
        let until = until.filter(|_| !self.in_order).unwrap_or(&self.reported);
        (first.left_until(until) as f64, f64::from(came))
    }

    /// How long each packet that was sampled for the newest report waited in queues.
    pub(super) fn wait(&self) -> Duration {
        Duration::from_micros(self.wait.max(0) as u64)
    }

    /// Bits per second that come through while packets wait for each other.
    pub(super) fn capacity(&self) -> Option<f64> {
        let bytes: f64 = self.busy.iter().map(|(_, bytes, _)| bytes).sum();
        let micros: i64 = self.busy.iter().map(|(_, _, micros)| micros).sum();
        (micros >= BUSY_LEAST && bytes > 0.0).then(|| bytes * 8e6 / micros as f64)
    }

    /// The same by the newest packets alone.
    pub(super) fn newest_capacity(&self) -> Option<f64> {
        let (mut bytes, mut micros) = (0.0, 0);
        for (_, more, passed) in self.busy.iter().rev() {
            (bytes, micros) = (bytes + more, micros + passed);
            if micros >= 2 * BUSY_LEAST {
                return Some(bytes * 8e6 / micros as f64);
            }
        }
        None
    }

    /// Bits per second that came through a queue that was longer than `limit` for all of the time:
    /// what the path carries, though packets overtake each other.
    pub(super) fn passed_lately(&self, limit: Duration) -> Option<f64> {
        let last = self.counts.back().filter(|_| self.queue_delay() > limit)?;
        let before = |count: &&Count| last.at.since(count.at) >= STANDING;
        self.rate_since(self.counts.iter().rev().find(before)?)
    }

    /// Bits per second that are sent.
    pub(super) fn offered(&self, now: Time) -> f64 {
        let first = self.sent.partition_point(|sent| now.since(sent.at) > OVER);
        let since = first.checked_sub(1).and_then(|at| self.sent.get(at));
        let bytes = self.total - since.map_or(0, |sent| sent.total);
        bytes as f64 * 8.0 / OVER.as_secs_f64()
    }

    /// Bits that were sent after the newest packet that was reported and may still come.
    pub(super) fn in_flight(&self, feedback: &Feedback) -> f64 {
        let came = self
            .sent
            .partition_point(|sent| sent.packet <= feedback.largest);
        let came = came.checked_sub(1).and_then(|at| self.sent.get(at));
        let bytes = self.total - came.map_or(0, |sent| sent.total);
        bytes as f64 * 8.0 * (1.0 - self.loss())
    }

    /// Bits per second that arrived lately.
    pub(super) fn delivered(&self) -> Option<f64> {
        self.rate_since(self.counts.front()?)
    }

    fn rate_since(&self, first: &Count) -> Option<f64> {
        let last = self.counts.back()?;
        let passed = last.at.since(first.at);
        let bytes = f64::from(last.bytes.wrapping_sub(first.bytes));
        (passed >= DELIVERED_LEAST).then(|| bytes * 8.0 / passed.as_secs_f64())
    }

    /// The share of packets lost lately.
    pub(super) fn loss(&self) -> f64 {
        let (Some(first), Some(last)) = (self.counts.front(), self.counts.back()) else {
            return 0.0;
        };
        let left = first.left_until(last);
        let came = f64::from(last.packets.wrapping_sub(first.packets));
        if left < FEW {
            return 0.0;
        }
        (1.0 - came / left as f64).clamp(0.0, 1.0)
    }

    /// That, where it was seen among so many that it is no single burst's; else 0.
    pub(super) fn lasting_loss(&self) -> f64 {
        let first = self.counts.front().unwrap_or(&self.reported);
        match first.left_until(&self.reported) >= MANY {
            true => self.loss(),
            false => 0.0,
        }
    }

    /// The share of packets that the link loses by itself: what a full queue lost does not count.
    pub(super) fn link_loss(&self) -> f64 {
        let (mut left, mut lost) = (self.clear_packets, self.clear_lost);
        for (_, more, came) in &self.unsure {
            left += more;
            lost += more - came;
        }
        (lost / left.max(1.0)).clamp(0.0, 1.0)
    }

    fn base(&self) -> Option<i64> {
        self.base.iter().map(|(_, delay)| *delay).min()
    }

    fn take_samples(&mut self, now: Time, feedback: &Feedback, share: f64) {
        let mut least = None::<i64>;
        self.in_order = feedback.reorder <= MAX_REORDER;
        for sample in &feedback.samples {
            let packet = feedback.largest.saturating_sub(sample.back.into());
            let Ok(at) = self.sent.binary_search_by_key(&packet, |sent| sent.packet) else {
                continue;
            };
            let Sent {
                at: left, total, ..
            } = self.sent[at];
            // Only differences count: the clocks' offset, wrapped, is in all of them alike.
            let reference = self.base.front().map_or(0, |(_, delay)| *delay);
            let raw = sample.arrival.wrapping_sub(left.low_micros());
            let delay = reference + i64::from(raw.wrapping_sub(reference as u32) as i32);
            match self.recent.back_mut() {
                Some((at, smallest)) if *at == now => *smallest = delay.min(*smallest),
                _ => self.recent.push_back((now, delay)),
            }
            match self.base.back_mut() {
                Some((at, smallest)) if now.since(*at) < Duration::from_secs(1) => {
                    *smallest = delay.min(*smallest);
                }
                _ => self.base.push_back((now, delay)),
            }
            self.trail.push(now, delay, total);
            let wait = delay - self.base().unwrap_or(delay);
            least = Some(least.map_or(wait, |least| least.min(wait)));
            let arrival = sample.arrival;
            if let Some(last) = self.last.replace(Came { arrival, total }) {
                let passed = i64::from(arrival.wrapping_sub(last.arrival) as i32);
                let bytes = total.saturating_sub(last.total) as f64 * share;
                // It waited for all of the time: the path was never idle. Where packets overtake
                // each other, waiting is not for those before.
                if self.in_order && passed > 0 && wait >= passed {
                    self.busy.push_back((now, bytes, passed));
                }
            }
        }
        self.wait = least.unwrap_or(self.wait);
        let is_old = |at: &Time, age| now.since(*at) > age;
        while self.recent.len() > STANDING_REPORTS
            && self
                .recent
                .front()
                .is_some_and(|(at, _)| is_old(at, STANDING))
            || self.recent.len() > MAX_REMEMBERED
        {
            self.recent.pop_front();
        }
        while self
            .busy
            .front()
            .is_some_and(|(at, ..)| is_old(at, BUSY_OVER))
            || self.busy.len() > MAX_REMEMBERED
        {
            self.busy.pop_front();
        }
        while self.base.len() > BASE_SECONDS {
            self.base.pop_front();
        }
    }

    /// Packets that left, and those of them that came, between the last report and this one.
    fn lost_since_last(&self, feedback: &Feedback) -> (f64, f64) {
        let left = feedback.largest.saturating_sub(self.reported.largest) as f64;
        let came = feedback.packets.wrapping_sub(self.reported.packets) as i32;
        (left, f64::from(came))
    }

    fn take_counts(&mut self, now: Time, feedback: &Feedback) {
        let at = now - Duration::from_micros(feedback.age.into());
        self.reported = Count {
            told: now,
            at,
            bytes: feedback.bytes,
            packets: feedback.packets,
            largest: feedback.largest,
        };
        self.counts.push_back(self.reported);
        while self.counts.len() > 2
            && self.counts.get(1).is_some_and(|one| {
                at.since(one.at) >= OVER && one.left_until(&self.reported) >= MANY
            })
            || self.counts.len() > MAX_REMEMBERED
        {
            self.counts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::feedback::Sample;

    #[test]
    fn what_is_remembered_of_reports_is_bounded_however_many_come() {
        let mut measure = Measure::default();
        let begun = Time::from_nanos(1_000_000_000);
        for packet in 0..2 {
            measure.on_sent(begun, packet, 1000);
        }
        let mut most = [0; 4];
        for report in 0..3 * MAX_REMEMBERED as u64 {
            let now = begun + Duration::from_micros(report);
            // Of the same packets again and again, which took longer each time.
            let samples = [1, 0].map(|back| Sample {
                back,
                arrival: (10 + report as u32) * 1000 - u32::from(back) * 500,
            });
            let feedback = Feedback {
                largest: 1,
                samples: samples.into(),
                ..Feedback::default()
            };
            assert!(measure.on_feedback(now, &feedback, true));
            let lens = [
                measure.recent.len(),
                measure.busy.len(),
                measure.counts.len(),
                measure.unsure.len(),
            ];
            most = std::array::from_fn(|at| most[at].max(lens[at]));
        }
        assert!(most.iter().all(|most| *most <= MAX_REMEMBERED), "{most:?}");
        // They come to it, but for those that are old sooner.
        assert!(most[0] > 1000 && most[2] == MAX_REMEMBERED, "{most:?}");
    }
}
