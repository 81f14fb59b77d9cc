//! The receiver's estimate of loss: how much, and how much it clusters.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;
use crate::replay::{ReplayWindow, WINDOW};

/// Packets judged together.
const GROUP: u64 = 32;
/// What packets still weigh when the next group is judged.
const DECAY: f64 = 0.98;
/// Marks kept of when packet numbers were reached.
const MAX_MARKS: usize = 64;

/// Correlation of neighbours' fates above which losses come in bursts.
pub(crate) const CLUSTERED: f64 = 0.3;

/// Loss among packet numbers, judged once reordered ones had time to come.
#[derive(Default)]
pub(crate) struct LossEstimator {
    /// When the packet number was first the largest.
    marks: VecDeque<(Time, u64)>,
    /// Packet numbers below this are judged.
    judged: u64,
    /// Packets judged, those lost, and those lost right after a lost one; older ones weigh less.
    packets: f64,
    lost: f64,
    lost_pairs: f64,
    last_lost: bool,
}

impl LossEstimator {
    /// Takes note of the largest packet number so far and judges the groups before it that are
    /// older than `wait`.
    pub(crate) fn update(&mut self, now: Time, largest: u64, wait: Duration, came: &ReplayWindow) {
        if self
            .marks
            .back()
            .is_none_or(|(at, _)| now.since(*at) >= Duration::from_millis(2))
        {
            if self.marks.len() == MAX_MARKS {
                self.marks.pop_front();
            }
            self.marks.push_back((now, largest));
        }
        // The other side chooses its numbers, and may pass over billions of them: what is not
        // remembered any more is not judged.
        self.judged = self.judged.max(came.end().saturating_sub(WINDOW));
        while let Some((_, reached)) = self.marks.pop_front_if(|(at, _)| now.since(*at) >= wait) {
            while self.judged + GROUP <= reached {
                self.judge(came);
            }
        }
    }

    fn judge(&mut self, came: &ReplayWindow) {
        for sum in [&mut self.packets, &mut self.lost, &mut self.lost_pairs] {
            *sum *= DECAY;
        }
        for number in self.judged..self.judged + GROUP {
            let lost = came.is_new(number);
            self.packets += 1.0;
            self.lost += f64::from(u8::from(lost));
            self.lost_pairs += f64::from(u8::from(lost && self.last_lost));
            self.last_lost = lost;
        }
        self.judged += GROUP;
    }

    /// The share of packets lost, 0 to 1.
    pub(crate) fn loss(&self) -> f64 {
        if self.packets == 0.0 {
            0.0
        } else {
            self.lost / self.packets
        }
    }

    /// The correlation of the fates of two packets sent one after the other, 0 (independent) to 1.
    pub(crate) fn clustering(&self) -> f64 {
        let p = self.loss();
        if self.lost < 4.0 || p >= 1.0 {
            return 0.0;
        }
        ((self.lost_pairs / self.lost - p) / (1.0 - p)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `count` packets, 1 ms apart, those lost of which `lose` says so.
    fn run(count: u64, mut lose: impl FnMut(u64) -> bool) -> LossEstimator {
        let (mut estimator, mut window) = (LossEstimator::default(), ReplayWindow::new());
        for number in 0..count {
            if !lose(number) {
                window.take(number);
                let now = Time::from_nanos(number * 1_000_000);
                estimator.update(now, number, Duration::from_millis(20), &window);
            }
        }
        estimator
    }

    #[test]
    fn even_and_clustered_losses_are_told_apart() {
        assert_eq!(run(5000, |_| false).loss(), 0.0);
        let even = run(5000, |n| n % 20 == 7);
        assert!((even.loss() - 0.05).abs() < 0.01, "{}", even.loss());
        assert!(even.clustering() < 0.01, "{}", even.clustering());
        let bursts = run(5000, |n| n % 100 < 5);
        assert!((bursts.loss() - 0.05).abs() < 0.015, "{}", bursts.loss());
        assert!(bursts.clustering() > 0.7, "{}", bursts.clustering());
    }

    #[test]
    fn reordered_packets_are_not_lost() {
        let (mut estimator, mut window) = (LossEstimator::default(), ReplayWindow::new());
        for pair in 0..2000u64 {
            for number in [pair * 2 + 1, pair * 2] {
                window.take(number);
                let now = Time::from_nanos((pair * 2) * 1_000_000);
                estimator.update(now, pair * 2 + 1, Duration::from_millis(20), &window);
            }
        }
        assert_eq!(estimator.loss(), 0.0);
    }

    #[test]
    fn numbers_that_are_passed_over_are_not_gone_through() {
        let (mut estimator, mut window) = (LossEstimator::default(), ReplayWindow::new());
        for (millis, number) in [(0, 7), (30, 1 << 47), (60, (1 << 47) + 40)] {
            window.take(number);
            let now = Time::from_nanos(millis * 1_000_000);
            estimator.update(now, number, Duration::from_millis(20), &window);
        }
        assert!(estimator.judged > (1 << 47) - GROUP);
        // What is remembered was lost.
        assert!(estimator.loss() > 0.9, "{}", estimator.loss());
    }

    #[test]
    fn marks_are_bounded() {
        let (mut estimator, window) = (LossEstimator::default(), ReplayWindow::new());
        for number in 0..1000 {
            let now = Time::from_nanos(number * 3_000_000);
            estimator.update(now, number, Duration::from_secs(100), &window);
        }
        assert_eq!(estimator.marks.len(), MAX_MARKS);
    }
}
