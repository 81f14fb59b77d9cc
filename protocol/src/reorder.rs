//! How far packets are reordered, and so how long to wait for one before it counts as lost.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;

/// Upper bounds, in microseconds, of the classes that waiting times are counted in.
const CLASSES: [u64; 8] = [1_000, 2_000, 3_000, 5_000, 8_000, 12_000, 20_000, 30_000];
/// Share of packets that may come after the wait.
const AFTER: f64 = 0.002;
/// Packets after which all counts are halved.
const HALVE_AFTER: f64 = 20_000.0;
/// Marks of when packet numbers were reached.
const MAX_MARKS: usize = 64;

/// Counts packets by how long after a higher-numbered one they came.
#[derive(Default)]
pub(crate) struct Reorder {
    /// When a packet number was first the largest, at most one a millisecond.
    marks: VecDeque<(Time, u64)>,
    /// The last class is for what comes after all bounds.
    counts: [f64; CLASSES.len() + 1],
    total: f64,
}

impl Reorder {
    pub(crate) fn observe(&mut self, now: Time, number: u64) {
        let newest = self
            .marks
            .back()
            .is_none_or(|(_, largest)| number > *largest);
        self.total += 1.0;
        if newest {
            let spaced = self
                .marks
                .back()
                .is_none_or(|(at, _)| now.since(*at) >= Duration::from_millis(1));
            match self.marks.back_mut() {
                Some((_, largest)) if !spaced => *largest = number,
                _ => {
                    if self.marks.len() == MAX_MARKS {
                        self.marks.pop_front();
                    }
                    self.marks.push_back((now, number));
                }
            }
        } else if let Some((at, _)) = self.marks.iter().find(|(_, largest)| *largest > number) {
            let late = now.since(*at).as_micros() as u64;
            let class = CLASSES
                .iter()
                .position(|bound| late <= *bound)
                .unwrap_or(CLASSES.len());
            self.counts[class] += 1.0;
        }
        if self.total >= HALVE_AFTER {
            self.total /= 2.0;
            self.counts.iter_mut().for_each(|count| *count /= 2.0);
        }
    }

    /// How long to wait for reordered packets.
    pub(crate) fn window(&self) -> Duration {
        let mut after: f64 = self.counts.iter().sum();
        for (bound, count) in CLASSES.iter().zip(self.counts) {
            after -= count;
            if after <= AFTER * self.total {
                return Duration::from_micros(*bound);
            }
        }
        Duration::from_micros(CLASSES[CLASSES.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(delay_us: impl Fn(u64) -> u64) -> Duration {
        let mut arrivals: Vec<(u64, u64)> = (0..5000).map(|n| (n * 300 + delay_us(n), n)).collect();
        arrivals.sort_unstable();
        let mut reorder = Reorder::default();
        for (at, number) in arrivals {
            reorder.observe(Time::from_nanos(at * 1000), number);
        }
        assert!(reorder.marks.len() <= MAX_MARKS);
        reorder.window()
    }

    #[test]
    fn the_window_follows_the_path() {
        assert_eq!(run(|_| 5000), Duration::from_millis(1));
        let window = run(|n| 5000 + n * 7919 % 15_000);
        assert!((12..=20).contains(&window.as_millis()), "{window:?}");
        // One packet in a thousand is not worth waiting for.
        assert_eq!(
            run(|n| if n % 1000 == 0 { 25_000 } else { 5000 }),
            Duration::from_millis(1)
        );
    }
}
