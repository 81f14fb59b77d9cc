//! The sender's bitrate: what the path carries without its queues growing.
//!
//! Queue delay is the smallest one-way delay of the last [`STANDING`], and of three reports at
//! least, less the smallest of the last [`BASE_SECONDS`]: a frame's own burst or a receiver that
//! was held up once does not count, a queue that stands does. Loss
//! without delay is the link's and is answered by repair, not by rate.

use std::collections::VecDeque;
use std::time::Duration;

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
/// The delivered rate is measured over this.
const DELIVERED_OVER: Duration = Duration::from_millis(500);
/// Time between two decreases, beside the round trip: a first one takes time to show.
const HOLD: Duration = Duration::from_millis(100);
/// For a decrease also over this: what came before the path narrowed says too much.
const DELIVERED_FAST: Duration = Duration::from_millis(60);
/// What a decrease leaves of the delivered rate.
const DECREASE: f64 = 0.85;
/// Longest pause to let a queue empty.
const MAX_PAUSE: Duration = Duration::from_millis(300);
/// Growth per second while the path is clear.
const INCREASE: f64 = 0.12;
/// Time without congestion before the rate grows.
const CLEAR_FOR: Duration = Duration::from_millis(500);
/// Loss that is never the link's alone.
const HEAVY_LOSS: f64 = 0.15;
/// What a packet's fate still weighs when the next one is counted.
const LOSS_DECAY: f64 = 0.9994;
/// Lowest target, bits per second.
const MIN_TARGET: f64 = 100_000.0;
/// The target stays below so many times what is sent.
const HEADROOM: f64 = 2.0;

/// The sender's view of the path's capacity.
#[derive(Default)]
pub(crate) struct Rate {
    /// Bits per second; `None` until congestion is first met.
    target: Option<f64>,
    sent: VecDeque<(u64, Time)>,
    /// Smallest one-way delay (of unknown offset) of each report lately, microseconds.
    recent: VecDeque<(Time, i64)>,
    /// Smallest of each second.
    base: VecDeque<(Time, i64)>,
    /// The receiver's counts: when, bytes, packets, largest packet number.
    counts: VecDeque<(Time, u32, u32, u64)>,
    delivered: f64,
    loss: f64,
    /// Packets reported on while the path was clear, and those of them lost; older ones weigh less.
    clear_packets: f64,
    clear_lost: f64,
    decreased: Time,
    congested: Time,
    grown: Time,
}

impl Rate {
    /// Bits per second to stay below; `None` where no limit was met.
    pub(crate) fn target(&self) -> Option<u64> {
        self.target.map(|target| target as u64)
    }

    /// Whether the path's queue is too long: what is lost now is lost to congestion, and more
    /// packets make it worse.
    pub(crate) fn is_congested(&self, budget: Duration) -> bool {
        self.queue_delay() > queue_limit(budget)
    }

    /// The share of packets that the link loses by itself: what a full queue lost does not count.
    pub(crate) fn link_loss(&self) -> f64 {
        if self.clear_packets == 0.0 {
            0.0
        } else {
            (self.clear_lost / self.clear_packets).clamp(0.0, 1.0)
        }
    }

    /// Takes note of a packet that left.
    pub(crate) fn on_sent(&mut self, now: Time, packet: u64) {
        if self.sent.len() == MAX_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back((packet, now));
    }

    /// Time that packets stand in queues on the path.
    pub(crate) fn queue_delay(&self) -> Duration {
        let smallest =
            |delays: &VecDeque<(Time, i64)>| delays.iter().map(|(_, delay)| *delay).min();
        match (smallest(&self.recent), smallest(&self.base)) {
            (Some(recent), Some(base)) if self.recent.len() >= STANDING_REPORTS => {
                Duration::from_micros((recent - base).max(0) as u64)
            }
            _ => Duration::ZERO,
        }
    }

    /// Takes a report. After a decrease with a long queue, returns how long it takes to empty if
    /// nothing more is sent.
    pub(crate) fn on_feedback(
        &mut self,
        now: Time,
        feedback: &Feedback,
        rtt: Duration,
        budget: Duration,
    ) -> Option<Duration> {
        self.take_samples(now, feedback);
        if now.since(self.congested) > CLEAR_FOR {
            self.take_clear_loss(feedback);
        }
        self.take_counts(now, feedback);
        let limit = queue_limit(budget);
        let queue = self.queue_delay();
        let congested =
            queue > limit || self.loss > HEAVY_LOSS && queue > limit / 2 || self.loss > 0.5;
        if !congested {
            self.grow(now);
            return None;
        }
        self.congested = now;
        let delivered = self
            .delivered_over(DELIVERED_OVER)?
            .min(self.delivered_over(DELIVERED_FAST)?);
        if now.since(self.decreased) <= HOLD + rtt + queue {
            return None;
        }
        let below = delivered * DECREASE;
        let target = self.target.map_or(below, |target| target.min(below));
        self.target = Some(target.max(MIN_TARGET));
        self.decreased = now;
        // A queue that frames still pass in time empties by itself.
        (queue > budget / 2).then_some(queue.min(MAX_PAUSE))
    }

    fn grow(&mut self, now: Time) {
        let passed = now
            .since(self.grown)
            .min(Duration::from_millis(200))
            .as_secs_f64();
        self.grown = now;
        let clear = now.since(self.congested) >= CLEAR_FOR;
        if let Some(target) = self.target.filter(|_| clear) {
            let grown = target * (1.0 + INCREASE * passed);
            // What is not used is not known to fit.
            self.target = Some(grown.min((self.delivered * HEADROOM).max(target)));
        }
    }

    fn take_samples(&mut self, now: Time, feedback: &Feedback) {
        for sample in &feedback.samples {
            let packet = feedback.largest.saturating_sub(sample.back.into());
            let Ok(at) = self
                .sent
                .binary_search_by_key(&packet, |(packet, _)| *packet)
            else {
                continue;
            };
            let left = self.sent[at].1.low_micros();
            // Only differences count: the clocks' offset, wrapped, is in all of them alike.
            let reference = self.base.front().map_or(0, |(_, delay)| *delay);
            let raw = sample.arrival.wrapping_sub(left);
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
        }
        while self.recent.len() > STANDING_REPORTS
            && self
                .recent
                .front()
                .is_some_and(|(at, _)| now.since(*at) > STANDING)
        {
            self.recent.pop_front();
        }
        while self.base.len() > BASE_SECONDS {
            self.base.pop_front();
        }
    }

    /// Counts what was lost between the last report and this one.
    fn take_clear_loss(&mut self, feedback: &Feedback) {
        let Some((_, _, packets, largest)) = self.counts.back().copied() else {
            return;
        };
        let left = feedback.largest.saturating_sub(largest) as f64;
        let came = f64::from(feedback.packets.wrapping_sub(packets) as i32);
        let keep = LOSS_DECAY.powf(left);
        self.clear_packets = self.clear_packets * keep + left;
        self.clear_lost = self.clear_lost * keep + left - came;
    }

    fn take_counts(&mut self, now: Time, feedback: &Feedback) {
        let measured = now - Duration::from_micros(feedback.age.into());
        self.counts
            .push_back((measured, feedback.bytes, feedback.packets, feedback.largest));
        while self.counts.len() > 2
            && self
                .counts
                .get(1)
                .is_some_and(|(at, ..)| measured.since(*at) >= DELIVERED_OVER)
        {
            self.counts.pop_front();
        }
        if let Some(delivered) = self.delivered_over(DELIVERED_OVER) {
            self.delivered = delivered;
        }
        if let Some((_, _, packets, largest)) = self.counts.front() {
            let came = f64::from(feedback.packets.wrapping_sub(*packets));
            let left = feedback.largest.saturating_sub(*largest) as f64;
            self.loss = if left > 0.0 {
                (1.0 - came / left).max(0.0)
            } else {
                0.0
            };
        }
    }

    /// Bits per second that arrived over the last `time`.
    fn delivered_over(&self, time: Duration) -> Option<f64> {
        let (end, newest, ..) = *self.counts.back()?;
        let start = self
            .counts
            .iter()
            .rev()
            .find(|(at, ..)| end.since(*at) >= time);
        let (at, bytes, ..) = *start.or(self.counts.front())?;
        let passed = end.since(at).as_secs_f64();
        (passed >= 0.05).then(|| f64::from(newest.wrapping_sub(bytes)) * 8.0 / passed)
    }
}

/// The queue delay that is still taken for none.
fn queue_limit(budget: Duration) -> Duration {
    (budget / 4).clamp(Duration::from_millis(20), Duration::from_millis(60))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::feedback::Sample;

    /// A path of `capacity` bits per second with 20 ms of delay; the sender follows its target,
    /// at most `wanted`. Returns the target and the queue delay at the end of each second.
    fn run(seconds: u64, wanted: f64, capacity: impl Fn(u64) -> f64) -> Vec<(f64, Duration)> {
        let (mut rate, mut out) = (Rate::default(), Vec::new());
        let (mut busy, mut bytes, mut number) = (0f64, 0u32, 0u64);
        let mut arrived: VecDeque<(f64, u64, u32)> = VecDeque::new();
        for tick in 0..seconds * 1000 {
            let now = Time::from_nanos(1_000_000_000 + tick * 1_000_000);
            let seconds = tick as f64 / 1000.0;
            let target = rate.target().map_or(wanted, |t| wanted.min(t as f64));
            let size = target / 8000.0;
            rate.on_sent(now, number);
            busy = busy.max(seconds) + size * 8.0 / capacity(tick / 1000);
            arrived.push_back((busy + 0.02, number, size as u32));
            number += 1;
            if tick % 25 == 24 {
                let (mut samples, mut largest) = (Vec::new(), 0);
                while let Some((at, n, size)) =
                    arrived.pop_front_if(|(at, ..)| *at <= seconds - 0.02)
                {
                    bytes = bytes.wrapping_add(size);
                    samples.push((n, (at * 1e6) as u32));
                    largest = n;
                }
                let last = samples.split_off(samples.len().saturating_sub(8));
                let feedback = Feedback {
                    largest,
                    bytes,
                    packets: largest as u32,
                    samples: last
                        .iter()
                        .map(|(n, arrival)| Sample {
                            back: (largest - n) as u16,
                            arrival: *arrival,
                        })
                        .collect(),
                    ..Feedback::default()
                };
                rate.on_feedback(
                    now,
                    &feedback,
                    Duration::from_millis(40),
                    Duration::from_millis(120),
                );
            }
            if tick % 1000 == 999 {
                out.push((target, rate.queue_delay()));
            }
        }
        out
    }

    #[test]
    fn a_clear_path_sets_no_limit() {
        let out = run(20, 10e6, |_| 100e6);
        let clear = |(target, queue): &(f64, Duration)| {
            *target == 10e6 && *queue < Duration::from_millis(5)
        };
        assert!(out.iter().all(clear), "{out:?}");
    }

    #[test]
    fn a_bottleneck_is_met_and_its_queue_drained() {
        let out = run(30, 10e6, |_| 4e6);
        for (target, queue) in &out[4..] {
            assert!((2.4e6..4.6e6).contains(target), "{out:?}");
            assert!(*queue < Duration::from_millis(150), "{out:?}");
        }
    }

    #[test]
    fn a_receiver_held_up_once_is_no_congestion() {
        let mut rate = Rate::default();
        for frame in 0..100u64 {
            // Five small frames a second, one of which waits for 80 ms to be taken.
            let sent = Time::from_nanos(1_000_000_000 + frame * 200_000_000);
            rate.on_sent(sent, frame);
            let held = if frame == 50 { 80_000 } else { 0 };
            let arrival = sent.low_micros() + 500 + held;
            let feedback = Feedback {
                largest: frame,
                packets: frame as u32 + 1,
                bytes: frame as u32 * 9000,
                samples: vec![Sample { back: 0, arrival }],
                ..Feedback::default()
            };
            let now = sent + Duration::from_micros((1000 + held).into());
            rate.on_feedback(
                now,
                &feedback,
                Duration::from_millis(1),
                Duration::from_millis(120),
            );
            assert_eq!(rate.target(), None, "frame {frame}");
        }
    }

    #[test]
    fn the_rate_comes_back() {
        let out = run(40, 10e6, |second| {
            if (10..20).contains(&second) {
                3e6
            } else {
                30e6
            }
        });
        assert_eq!(out[9].0, 10e6);
        assert!(out[13].0 < 3.2e6, "{out:?}");
        assert!(out[34].0 > 9e6, "{out:?}");
    }
}
