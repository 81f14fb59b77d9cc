//! Encoders that keep a bitrate.

use super::Plan;
use super::cadence::Thinning;

/// What of the limit is asked for: encoders overshoot.
const FILL: f64 = 0.9;
/// Down from this share on, up from that: a bitrate that moves a little is left where it is.
const DOWN: f64 = 0.97;
const UP: f64 = 1.1;
/// The lowest bitrate that is asked for, in bits per second.
const FLOOR: u64 = 64_000;
/// Frames over which sizes are smoothed.
const SMOOTHED: f64 = 90.0;
/// An encoder that makes more than this of the limit does not follow it.
const OVERSHOOT: f64 = 1.15;

/// Decides about one encoder.
pub(super) struct Bitrate {
    /// Bits per second of one step.
    unit: u64,
    /// Whether the encoder chooses by itself what it is set to nothing.
    zero_is_automatic: bool,
    ceiling: i64,
    set: i64,
    /// Bits of a frame, smoothed.
    size: Option<f64>,
    /// Bits per second that it made while it chose by itself.
    unlimited: f64,
    thinning: Thinning,
}

impl Bitrate {
    /// For an encoder set up with a bitrate of `current` steps of `unit` bits per second. Nothing is what
    /// it chooses, at any time where `zero_is_automatic`, else only until it was given one.
    pub(super) fn new(current: i64, unit: u64, zero_is_automatic: bool) -> Self {
        Self {
            unit,
            zero_is_automatic,
            ceiling: current,
            set: current,
            size: None,
            unlimited: 0.0,
            thinning: Thinning::default(),
        }
    }

    pub(super) fn ceiling(&self) -> i64 {
        self.ceiling
    }

    /// Takes note of what the encoder made of what it was set to.
    pub(super) fn is_set(&mut self, value: i64) {
        self.set = value;
    }

    /// Takes note of an encoded frame of `size` bytes.
    pub(super) fn encoded(&mut self, size: usize) {
        let size = size as f64 * 8.0;
        let mean = self.size.get_or_insert(size);
        *mean += (size - *mean) / SMOOTHED;
    }

    /// What to do with the next picture.
    pub(super) fn plan(
        &mut self,
        pts: Option<gst::ClockTime>,
        limit: Option<u64>,
        current: i64,
    ) -> Plan {
        if current != self.set {
            // Somebody set it.
            (self.set, self.ceiling) = (current, current);
        }
        self.thinning.observe(pts);
        let made = self
            .size
            .map_or(0.0, |size| size / self.thinning.interval());
        let Some(limit) = limit else {
            if self.set == 0 {
                self.unlimited = made;
            }
            return self.turn(self.whole(), true);
        };
        let wanted = ((limit as f64 * FILL) as u64).max(FLOOR) / self.unit;
        let wanted = self.below_ceiling(wanted.max(1) as i64);
        let change = wanted as f64 / self.set as f64;
        let moves = !(DOWN..=UP).contains(&change) || wanted == self.whole();
        let share = if made > limit as f64 * OVERSHOOT {
            limit as f64 / made
        } else {
            1.0
        };
        let admit = self.thinning.admits(share);
        self.turn(if moves { wanted } else { self.set }, admit)
    }

    /// At most what was set up, or, where that was left to the encoder, what it then made.
    fn below_ceiling(&self, wanted: i64) -> i64 {
        let made = (self.unlimited / self.unit as f64) as i64;
        match self.ceiling {
            0 if made == 0 || wanted <= made => wanted,
            0 => self.whole(),
            ceiling => wanted.min(ceiling),
        }
    }

    /// What it is set to where nothing limits it.
    fn whole(&self) -> i64 {
        if self.ceiling > 0 || self.zero_is_automatic || self.set == 0 {
            return self.ceiling;
        }
        match (self.unlimited / self.unit as f64) as i64 {
            0 => self.set,
            made => made,
        }
    }

    fn turn(&mut self, value: i64, admit: bool) -> Plan {
        let set = (value != self.set).then_some(value);
        if let (Some(size), true) = (&mut self.size, value.min(self.set) > 0) {
            // It is taken to follow; its frames show whether it does.
            *size *= value as f64 / self.set as f64;
        }
        self.set = value;
        Plan { set, admit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 frames a second; the encoder makes what it is asked for, or `stubborn` bits a frame.
    fn run(
        bitrate: &mut Bitrate,
        set: &mut i64,
        limit: Option<u64>,
        stubborn: Option<usize>,
    ) -> usize {
        let mut admitted = 0;
        for frame in 0..600 {
            let pts = gst::ClockTime::SECOND * frame / 30;
            let plan = bitrate.plan(Some(pts), limit, *set);
            *set = plan.set.unwrap_or(*set);
            if plan.admit {
                admitted += 1;
                let asked = *set as usize * bitrate.unit as usize / 30;
                bitrate.encoded(stubborn.unwrap_or(asked) / 8);
            }
        }
        admitted
    }

    #[test]
    fn it_follows_the_limit_in_its_unit_and_no_higher_than_set_up() {
        let mut set = 2_000;
        let mut bitrate = Bitrate::new(set, 1_000, true);
        for (limit, expected) in [
            (None, 2_000),
            (Some(1_000_000), 900),
            // Too little to move for.
            (Some(1_020_000), 900),
            (Some(990_000), 900),
            (Some(1_500_000), 1_350),
            (Some(50_000_000), 2_000),
            (Some(10), 64),
            (None, 2_000),
        ] {
            run(&mut bitrate, &mut set, limit, None);
            assert_eq!(set, expected, "{limit:?}");
        }
        set = 3_000;
        run(&mut bitrate, &mut set, Some(50_000_000), None);
        assert_eq!((set, bitrate.ceiling()), (3_000, 3_000));
    }

    #[test]
    fn what_was_left_to_the_encoder_is_left_to_it_again() {
        let mut set = 0;
        let mut bitrate = Bitrate::new(set, 1, true);
        // It makes 3 Mbit/s of itself.
        run(&mut bitrate, &mut set, None, Some(100_000));
        run(&mut bitrate, &mut set, Some(1_000_000), Some(30_000));
        assert_eq!(set, 900_000);
        run(&mut bitrate, &mut set, Some(9_000_000), Some(100_000));
        assert_eq!(set, 0);
    }

    #[test]
    fn a_driver_is_given_what_it_made_of_itself_again() {
        let mut set = 0;
        let mut bitrate = Bitrate::new(set, 1, false);
        // It makes 3 Mbit/s of itself, and what it was asked for last from then on.
        run(&mut bitrate, &mut set, None, Some(100_000));
        assert_eq!(set, 0);
        for limit in [Some(9_000_000), None] {
            run(&mut bitrate, &mut set, Some(1_000_000), None);
            assert_eq!(set, 900_000);
            run(&mut bitrate, &mut set, limit, None);
            assert!(set.abs_diff(3_000_000) < 1_000, "{set} at {limit:?}");
        }
        assert_eq!(bitrate.ceiling(), 0);
    }

    #[test]
    fn of_one_that_does_not_follow_fewer_frames_are_made() {
        let mut set = 2_000_000;
        let mut bitrate = Bitrate::new(set, 1, true);
        // 3 Mbit/s, whatever is asked for.
        run(&mut bitrate, &mut set, Some(1_000_000), Some(100_000));
        let admitted = run(&mut bitrate, &mut set, Some(1_000_000), Some(100_000));
        assert!((190..=215).contains(&admitted), "{admitted}");
    }
}
