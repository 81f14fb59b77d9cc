//! How long frames took lately: sessions behind one bottleneck have the same queue before them, and
//! their delays rise and fall together (RFC 8382 finds them in a like way).

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;

/// Delays are compared by the smallest in each of these times,
const BIN: Duration = Duration::from_millis(100);
/// so many of them,
const BINS: u64 = 120;
/// at least so many in which both sessions had frames.
const LEAST_BINS: usize = 36;
/// Delays that vary by less, in microseconds, say nothing: no queue comes and goes.
const LEAST_DEVIATION: f64 = 700.0;

/// The delays of one session's frames.
#[derive(Default)]
pub(crate) struct Delays {
    /// Number of the bin since the clock began, and microseconds: from no beginning that is known,
    /// as only differences count. A clock that is set in between hides what is alike for a while.
    bins: VecDeque<(u64, i64)>,
}

impl Delays {
    /// Takes note of a frame's first packet: when it came, and the frame's capture in microseconds by
    /// the sender's clock.
    pub(crate) fn observe(&mut self, arrived: Time, capture: u64) {
        let bin = arrived.as_nanos() / BIN.as_nanos() as u64;
        let delay = (arrived.as_nanos() / 1000).wrapping_sub(capture) as i64;
        match self.bins.back_mut() {
            Some((last, least)) if *last >= bin => *least = delay.min(*least),
            _ => self.bins.push_back((bin, delay)),
        }
        while self
            .bins
            .front()
            .is_some_and(|(first, _)| first + BINS < bin)
        {
            self.bins.pop_front();
        }
    }

    /// How alike the delays of two sessions rose and fell: from -1 to 1, their correlation; 0 where
    /// that cannot be told.
    pub(crate) fn likeness(&self, other: &Self) -> f64 {
        let mut others = other.bins.iter().peekable();
        let mut pairs = Vec::with_capacity(self.bins.len());
        for (bin, delay) in &self.bins {
            while others.next_if(|(at, _)| at < bin).is_some() {}
            if let Some((_, same_time)) = others.next_if(|(at, _)| at == bin) {
                pairs.push((*delay as f64, *same_time as f64));
            }
        }
        if pairs.len() < LEAST_BINS {
            return 0.0;
        }
        let count = pairs.len() as f64;
        let sum = pairs
            .iter()
            .fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        let (mut squares, mut product) = ((0.0, 0.0), 0.0);
        for (a, b) in pairs {
            let (a, b) = (a - sum.0 / count, b - sum.1 / count);
            squares = (squares.0 + a * a, squares.1 + b * b);
            product += a * b;
        }
        let least = LEAST_DEVIATION * LEAST_DEVIATION * count;
        if squares.0 < least || squares.1 < least {
            return 0.0;
        }
        product / (squares.0 * squares.1).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delays of 30 frames a second for `seconds`, each as long, in milliseconds, as `queue` says of
    /// its second and some noise of `seed`.
    fn delays(seed: u64, seconds: u64, queue: impl Fn(f64) -> f64) -> Delays {
        let (mut delays, mut state) = (Delays::default(), seed);
        for frame in 0..seconds * 30 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let noise = (state >> 40) as f64 / (1u64 << 24) as f64 * 4.0;
            let at = Duration::from_micros(frame * 33_333 + seed * 7_000);
            let delay = (queue(at.as_secs_f64()) + noise) * 1000.0;
            // The sender's clock is far ahead.
            let capture = (1 << 40) + at.as_micros() as u64 - delay as u64;
            delays.observe(Time::default() + at, capture);
        }
        delays
    }

    /// A queue that fills for so many seconds and is emptied then.
    fn saw(period: f64) -> impl Fn(f64) -> f64 {
        move |at| 12.0 * (at / period).fract()
    }

    #[test]
    fn those_before_one_queue_are_alike() {
        let (a, b) = (delays(1, 20, saw(1.7)), delays(2, 20, saw(1.7)));
        assert!(a.likeness(&b) > 0.8, "{}", a.likeness(&b));
        assert!(a.likeness(&delays(3, 20, saw(2.3))) < 0.4);
        // Without a queue there is nothing to see, nor in a few seconds.
        assert_eq!(delays(1, 20, |_| 0.0).likeness(&a).max(0.3), 0.3);
        assert_eq!(
            delays(1, 3, saw(1.7)).likeness(&delays(2, 3, saw(1.7))),
            0.0
        );
        assert_eq!(a.likeness(&Delays::default()), 0.0);
    }

    #[test]
    fn only_the_last_seconds_are_remembered() {
        let delays = delays(1, 600, saw(1.7));
        assert!(delays.bins.len() as u64 <= BINS + 1);
        // A pause is no reason to keep more.
        let mut delays = delays;
        delays.observe(Time::from_nanos(3_600_000_000_000), 0);
        assert_eq!(delays.bins.len(), 1);
    }
}
