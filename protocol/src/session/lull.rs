//! How long nothing of a frame that is coming can be of use yet.
//!
//! Behind a bottleneck a frame's packets come one by one, and to wake for each costs more than all
//! else that is done about them. While some are lacking, the frame cannot be whole before as many
//! have come, which takes the time that they took lately, at the least.

use std::time::Duration;

use crate::Time;

/// Most packets whose time is measured.
const PACKETS: usize = 8;
/// Longest lull: what else may come does not wait for longer.
const LONGEST: Duration = Duration::from_millis(5);
/// Shortest one that is worth it.
const SHORTEST: Duration = Duration::from_millis(1);
/// How the measured time grows from frame to frame, until it is met again: a 32nd and so much.
const GROWS: Duration = Duration::from_micros(50);

/// The shortest times that packets of a frame take to come.
#[derive(Default)]
pub(super) struct Lull {
    /// When the last packets of this frame came, the newest at `count - 1`, modulo their number.
    came: [Time; PACKETS],
    count: usize,
    /// The least time from one packet to the next, to the second one after it and so on, lately;
    /// `None` until it is known.
    least: [Option<Duration>; PACKETS],
}

impl Lull {
    /// A packet came that is of a new frame.
    pub(super) fn begin(&mut self, at: Time) {
        self.count = 0;
        let grown = |least: Duration| (least + least / 32 + GROWS).min(LONGEST);
        self.least = self.least.map(|least| least.map(grown));
        self.observe(at);
    }

    /// One more of the same frame.
    pub(super) fn observe(&mut self, at: Time) {
        for (least, after) in self.least.iter_mut().zip(1..=self.count) {
            let took = at.since(self.came[(self.count - after) % PACKETS]);
            *least = Some(least.map_or(took, |least| least.min(took)));
        }
        self.came[self.count % PACKETS] = at;
        self.count += 1;
    }

    /// Until when `lacking` packets cannot have come.
    pub(super) fn until(&self, lacking: usize) -> Option<Time> {
        let newest = self.came[self.count.checked_sub(1)? % PACKETS];
        // The last one is not to be missed.
        // Those before the last one.
        let before = lacking.checked_sub(1)?;
        let least = |packets: usize, times: usize| match packets * times {
            0 => Some(Duration::ZERO),
            _ => Some(self.least[packets - 1]? * times as u32),
        };
        let all = least(PACKETS, before / PACKETS)? + least(before % PACKETS, 1)?;
        let lull = all.min(LONGEST);
        (lull >= SHORTEST).then(|| newest + lull)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Time {
        Time::from_nanos(1_000_000_000 + micros * 1000)
    }

    /// Frames of 40 packets, so many microseconds after one another.
    fn after(gaps: &[u64]) -> Lull {
        let mut lull = Lull::default();
        for (frame, gap) in (0..).zip(gaps) {
            let begin = frame * 100_000;
            lull.begin(at(begin));
            (1..40).for_each(|packet| lull.observe(at(begin + packet * gap)));
        }
        lull
    }

    #[test]
    fn it_lasts_while_packets_come_one_by_one_and_many_are_lacking() {
        let lull = after(&[500, 500]);
        let newest = at(100_000 + 39 * 500);
        let waits = |lacking| Some(lull.until(lacking)?.since(newest).as_micros());
        assert_eq!(waits(40), Some(5000));
        assert_eq!(waits(11), Some(5000));
        assert_eq!(waits(10), Some(4500));
        assert_eq!(waits(9), Some(4000));
        assert_eq!(waits(4), Some(1500));
        assert_eq!(waits(3), Some(1000));
        assert_eq!(waits(2), None);
        assert_eq!(waits(0), None);
    }

    #[test]
    fn what_came_in_bursts_lately_is_waited_for() {
        assert_eq!(after(&[]).until(40), None);
        assert_eq!(after(&[0, 0]).until(40), None);
        // After one burst the path is believed to have got slow again, but not at once.
        let mut gaps = vec![500, 0];
        gaps.extend([500; 10]);
        assert!(after(&gaps).until(5).is_none());
        gaps.extend([500; 10]);
        assert!(after(&gaps).until(5).is_some());
        gaps.extend([500; 1000]);
        assert!(after(&gaps).until(5).is_some());
    }
}
