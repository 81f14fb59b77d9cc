//! When packets may leave: in bursts, by the pace that the path asks for.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::Time;

/// A path at least this long, or one that loses, is not sent whole frames in one burst.
const FROM_RTT: Duration = Duration::from_millis(3);
const FROM_LOSS: f64 = 0.005;
/// Where no limit was met, a first flight of at least so many packets is spread over this. No burst
/// takes longer at the target.
const SPREAD: Duration = Duration::from_millis(4);
const LEAST_SPREAD: usize = 32;
/// Packets that leave together: half of a frame, so that few bursts each wake a thread here and one
/// over there, within these bounds.
const BURST: RangeInclusive<usize> = 8..=24;
/// How much faster than the target a frame leaves,
const GAIN: f64 = 1.5;
/// unless it takes longer than this: its own queue is to be no longer than that of others.
const LONG: Duration = Duration::from_millis(40);

/// What the pace follows.
pub(super) struct Pace {
    /// Bits per second to stay below, where a limit was met.
    pub(super) target: Option<u64>,
    pub(super) rtt: Duration,
    pub(super) loss: f64,
    /// Packets of the first flight that is under way.
    pub(super) flight: usize,
    /// Whether it may leave faster than the target.
    pub(super) hurries: bool,
}

impl Pace {
    /// The time that a packet of `len` bytes takes.
    fn of(&self, len: usize) -> Duration {
        match self.target {
            Some(target) => {
                let takes = Duration::from_secs_f64(len as f64 * 8.0 / target as f64);
                if !self.hurries {
                    return takes;
                }
                let all = takes * self.flight.max(1) as u32;
                let faster = LONG.as_secs_f64() / all.max(LONG).as_secs_f64();
                takes.div_f64(1.0 + (GAIN - 1.0) * faster)
            }
            None if self.rtt < FROM_RTT && self.loss < FROM_LOSS => Duration::ZERO,
            None => SPREAD / self.flight.max(LEAST_SPREAD) as u32,
        }
    }
}

/// When the next packet may leave, and up to when the pace is used up.
#[derive(Default)]
pub(super) struct Pacer {
    at: Time,
    from: Time,
}

impl Pacer {
    /// When the next packet may leave.
    pub(super) fn at(&self) -> Time {
        self.at
    }

    /// Takes note of a packet of `len` bytes that leaves now.
    pub(super) fn on_sent(&mut self, now: Time, len: usize, pace: &Pace) {
        let spread = pace.of(len);
        if spread.is_zero() {
            return;
        }
        // What was saved up, at most a burst, may be used at once.
        let packets = pace.flight.div_ceil(2).clamp(*BURST.start(), *BURST.end());
        let burst = (spread * packets as u32).min(SPREAD.max(spread));
        self.from = self.from.max(now - burst) + spread;
        self.at = if self.from > now { now + burst } else { now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `packets` of 1250 bytes, as soon as each may leave; how many left at which
    /// microsecond.
    fn bursts(packets: usize, pace: &Pace) -> Vec<(u64, usize)> {
        let begin = Time::from_nanos(1_000_000_000);
        let mut pacer = Pacer::default();
        let mut bursts: Vec<(u64, usize)> = Vec::new();
        let mut now = begin;
        for _ in 0..packets {
            now = now.max(pacer.at());
            let at = now.since(begin).as_micros() as u64;
            match bursts.last_mut() {
                Some((last, count)) if *last == at => *count += 1,
                _ => bursts.push((at, 1)),
            }
            pacer.on_sent(now, 1250, pace);
        }
        bursts
    }

    fn pace(target: Option<u64>, rtt: u64, loss: f64, flight: usize) -> Pace {
        let rtt = Duration::from_millis(rtt);
        Pace {
            target,
            rtt,
            loss,
            flight,
            hurries: true,
        }
    }

    #[test]
    fn a_frame_leaves_in_two_halves_unless_it_is_small_or_large() {
        assert_eq!(bursts(100, &pace(None, 2, 0.0, 100)), [(0, 100)]);
        assert_eq!(bursts(8, &pace(None, 20, 0.0, 8)), [(0, 8)]);
        assert_eq!(bursts(16, &pace(None, 20, 0.0, 16)), [(0, 9), (1000, 7)]);
        assert_eq!(bursts(40, &pace(None, 20, 0.0, 40)), [(0, 21), (2000, 19)]);
        assert_eq!(bursts(40, &pace(None, 2, 0.01, 40)), [(0, 21), (2000, 19)]);
        let large = bursts(200, &pace(None, 20, 0.0, 200));
        assert_eq!((large[0], large[8]), ((0, 25), (3840, 7)));
    }

    #[test]
    fn behind_a_limit_no_burst_is_longer_than_the_spread() {
        // 10 kbit take 5 ms, and 0.5 ms.
        let apart = |flight: usize| {
            let slow = bursts(10, &pace(Some(1_333_333), 20, 0.0, flight));
            slow.windows(2)
                .map(|two| two[1].0 - two[0].0)
                .collect::<Vec<_>>()
        };
        assert_eq!(apart(4), [5000; 8]);
        // A frame that takes 0.3 s leaves hardly faster than at the target: 7.5 ms a packet.
        assert!(apart(40).iter().all(|apart| (7031..=7032).contains(apart)));
        let fast = bursts(80, &pace(Some(13_333_333), 20, 0.0, 40));
        assert!(fast.iter().all(|(_, count)| *count <= 9), "{fast:?}");
        assert!(
            fast.windows(2).all(|two| two[1].0 - two[0].0 == 4000),
            "{fast:?}"
        );
    }
}
