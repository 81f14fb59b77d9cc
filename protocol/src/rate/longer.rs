//! Whether the path got longer: no queue.
//!
//! A queue grows with what is sent, packet by packet, and what is sent comes more slowly while it
//! does. A route that is longer is so from one packet to the next, after which the delay stays the
//! same and everything comes as fast as it is sent.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;

/// Samples that are remembered, at most, and for how long.
const MAX_SAMPLES: usize = 256;
const KEPT: Duration = Duration::from_secs(5);
/// The delay must stay the same for so long, in both halves of it, where it would be heavy congestion,
const STAYS_FOR: Duration = Duration::from_millis(100);
/// which is a step of this share of the limit, or for so long, where it would be slight: what is sent gives way meanwhile, and would shorten a
/// queue;
const HEAVY: f64 = 0.9;
const STAYS_SLIGHTLY: Duration = Duration::from_secs(1);
/// as so many reports say.
const REPORTS: usize = 4;
/// It stays the same where it changes by no more than this share of the step, or so many
/// microseconds.
const EVEN: i64 = 8;
const EVEN_LEAST: i64 = 2_000;
/// Losses beyond twice the link's share that say that a queue may be full: a share and packets.
const LOSSES: (f64, f64) = (0.02, 1.0);

/// What the delays of the last samples say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Longer {
    /// Nothing, or that a queue grew.
    No,
    /// That it may be longer, by what would be heavy congestion: the next reports tell.
    Perhaps,
    Yes,
}

/// A packet that came.
#[derive(Clone, Copy)]
struct Sampled {
    told: Time,
    /// Microseconds, of an unknown offset.
    delay: i64,
    /// Bytes sent up to its end.
    total: u64,
}

/// The delays of packets lately.
#[derive(Default)]
pub(super) struct Trail(VecDeque<Sampled>);

impl Trail {
    /// Takes note of a sample that a report told of: the packet's delay, and bytes sent up to its end.
    pub(super) fn push(&mut self, told: Time, delay: i64, total: u64) {
        while self.0.len() == MAX_SAMPLES
            || (self.0.front()).is_some_and(|first| told.since(first.told) > KEPT)
        {
            self.0.pop_front();
        }
        self.0.push_back(Sampled { told, delay, total });
    }

    /// Judges a delay that rose from `base` by more than half of `limit`. `came`: packets that left
    /// since a report, and those of them that came; `loss`: the share that the link loses by itself.
    pub(super) fn judge(
        &self,
        base: i64,
        limit: Duration,
        came: impl Fn(Time) -> (f64, f64),
        loss: f64,
    ) -> Longer {
        let is_long = |delay: i64| delay - base > limit.as_micros() as i64 / 2;
        let Some(newest) = self.0.back().filter(|newest| is_long(newest.delay)) else {
            return Longer::No;
        };
        let mut least = newest.delay;
        let before = self.0.iter().rposition(|sample| {
            let rose = sample.delay - base < (least - base) / 2;
            if !rose {
                least = least.min(sample.delay);
            }
            rose
        });
        let step = least - base;
        let Some(before) = before.filter(|_| is_long(least)) else {
            return Longer::No;
        };
        let (low, after) = (self.0[before], before + 1);
        let Some(first) = self.0.get(after) else {
            return Longer::No;
        };
        let jump = first.delay - low.delay;
        if jump <= step / 2 {
            return Longer::No;
        }
        let (left, arrived) = came(first.told);
        if left - arrived > left * (2.0 * loss + LOSSES.0) + LOSSES.1 {
            return Longer::No;
        }
        let lasts = newest.told.since(first.told);
        let half = first.told + lasts / 2;
        let is_early = |sample: &&Sampled| sample.told <= half;
        let since = || self.0.range(after..);
        let early = since().filter(is_early).map(|sample| sample.delay).min();
        let late = since().filter(|sample| !is_early(sample));
        let late = late.map(|sample| sample.delay).min();
        let change = early.zip(late).map_or(0, |(early, late)| late - early);
        if change.abs() > (step / EVEN).max(EVEN_LEAST) {
            return Longer::No;
        }
        let mut reports = 1;
        let mut told = first.told;
        for sample in since().filter(|sample| sample.told > first.told) {
            reports += usize::from(sample.told > told);
            told = sample.told;
        }
        let (judged_after, until_then) = match step >= limit.mul_f64(HEAVY).as_micros() as i64 {
            true => (STAYS_FOR, Longer::Perhaps),
            false => (STAYS_SLIGHTLY, Longer::No),
        };
        if lasts < judged_after || reports < REPORTS {
            return until_then;
        }
        // What left between the two packets, had it to wait for each other, would have taken this.
        let rate = (newest.total - first.total) as f64 / lasts.as_micros() as f64;
        let explained = (first.total - low.total) as f64 / rate.max(f64::MIN_POSITIVE);
        if jump as f64 - explained > step as f64 / 2.0 {
            Longer::Yes
        } else {
            Longer::No
        }
    }
}
