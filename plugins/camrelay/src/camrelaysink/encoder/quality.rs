//! JPEG: as fine as fits; where the coarsest does not fit, fewer pictures.

use super::Plan;
use super::cadence::Thinning;

/// The coarsest quality that is set: below, pictures are blocks.
const FLOOR: i64 = 10;
/// What of a frame's share is aimed at: contents change from one frame to the next.
const FILL: f64 = 0.9;
/// How a picture's size follows the step of its quantisation: to the power of minus this. Pictures
/// have 0.3 (drawings) to 0.7 (noise); what this is off is made good with the next picture.
const EXPONENT: f64 = 0.5;
/// Finer only by so many steps at once: what moves a little is left where it is.
const RISE: i64 = 3;

/// Decides about one encoder.
pub(super) struct Quality {
    ceiling: i64,
    set: i64,
    /// Logarithm of the size, in bits, that pictures have lately at quality 50.
    size: Option<f64>,
    thinning: Thinning,
}

impl Quality {
    /// For an encoder set up with a quality.
    pub(super) fn new(current: i64) -> Self {
        Self {
            ceiling: current,
            set: current,
            size: None,
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

    /// Takes note of an encoded picture of `size` bytes.
    pub(super) fn encoded(&mut self, size: usize) {
        let size = (size.max(1) as f64 * 8.0).ln() + EXPONENT * step(self.set);
        let mean = self.size.get_or_insert(size);
        *mean += (size - *mean) * if size > *mean { 0.5 } else { 0.1 };
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
        let (wanted, share) = match limit.zip(self.size) {
            Some((limit, size)) => self.wanted(limit, size),
            None => (self.ceiling, 1.0),
        };
        let moves = wanted < self.set || wanted == self.ceiling || wanted >= self.set + RISE;
        let set = (moves && wanted != self.set).then_some(wanted);
        self.set = set.unwrap_or(self.set);
        Plan {
            set,
            admit: self.thinning.admits(share),
        }
    }

    /// The quality at which pictures fit, and the share of them that does.
    fn wanted(&self, limit: u64, size: f64) -> (i64, f64) {
        let budget = (FILL * limit as f64 * self.thinning.interval()).ln();
        let floor = FLOOR.min(self.ceiling);
        let wanted = quality((size - budget) / EXPONENT);
        if wanted > floor {
            return (wanted.min(self.ceiling), 1.0);
        }
        let beyond = size - EXPONENT * step(floor) - budget;
        (floor, (-beyond).exp())
    }
}

/// Logarithm of libjpeg's quantisation steps at a quality, those of quality 50 being 1.
fn step(quality: i64) -> f64 {
    let quality = quality.clamp(1, 99) as f64;
    let step = if quality < 50.0 {
        50.0 / quality
    } else {
        2.0 - quality / 50.0
    };
    step.ln()
}

/// The quality with steps of this logarithm at the most.
fn quality(step: f64) -> i64 {
    let step = step.exp();
    let quality = if step > 1.0 {
        50.0 / step
    } else {
        100.0 - 50.0 * step
    };
    quality as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A camera with 30 pictures a second whose size follows the quality with an exponent.
    struct Camera {
        quality: Quality,
        set: i64,
        frame: u64,
        /// Bits at quality 50.
        size: f64,
        exponent: f64,
    }

    impl Camera {
        fn new(set: i64, size: f64, exponent: f64) -> Self {
            Self {
                quality: Quality::new(set),
                set,
                frame: 0,
                size,
                exponent,
            }
        }

        /// Runs for so many frames; returns bits a second and how often the quality changed.
        fn run(&mut self, frames: u64, limit: Option<u64>) -> (u64, usize) {
            let (mut bits, mut changes) = (0.0, 0);
            for _ in 0..frames {
                let pts = gst::ClockTime::SECOND * self.frame / 30;
                self.frame += 1;
                let plan = self.quality.plan(Some(pts), limit, self.set);
                if let Some(set) = plan.set {
                    self.set = set;
                    changes += 1;
                }
                if plan.admit {
                    // Two percent up and down from one picture to the next.
                    let wobble = 1.0 + 0.02 * ((self.frame * 7 % 5) as f64 - 2.0) / 2.0;
                    let size = self.size * (-self.exponent * step(self.set)).exp() * wobble;
                    self.quality.encoded((size / 8.0) as usize);
                    bits += size;
                }
            }
            ((bits * 30.0 / frames as f64) as u64, changes)
        }
    }

    #[test]
    fn pictures_fit_whatever_they_show() {
        for exponent in [0.3, 0.5, 0.8] {
            let mut camera = Camera::new(85, 300_000.0, exponent);
            camera.run(30, None);
            assert_eq!(camera.set, 85);
            // A frame's time later they have begun to get smaller, after half a second they fit.
            camera.run(15, Some(5_000_000));
            let (rate, changes) = camera.run(300, Some(5_000_000));
            assert!(
                (3_500_000..=5_000_000).contains(&rate),
                "{exponent}: {rate}"
            );
            assert!(changes <= 4, "{exponent}: {changes} changes");
            assert!(camera.set >= FLOOR && camera.set < 85);
        }
    }

    #[test]
    fn never_finer_than_it_was_set_up() {
        let mut camera = Camera::new(40, 300_000.0, 0.5);
        camera.run(90, Some(1_000_000_000));
        assert_eq!(camera.set, 40);
        camera.run(30, Some(3_000_000));
        assert!(camera.set < 40);
        camera.run(90, None);
        assert_eq!(camera.set, 40);
        // Set up anew while it runs.
        camera.set = 70;
        camera.run(90, Some(1_000_000_000));
        assert_eq!((camera.set, camera.quality.ceiling()), (70, 70));
    }

    #[test]
    fn below_the_coarsest_there_are_fewer_pictures() {
        let mut camera = Camera::new(85, 300_000.0, 0.5);
        camera.run(60, Some(1_000_000));
        assert_eq!(camera.set, FLOOR);
        let (rate, _) = camera.run(300, Some(1_000_000));
        assert!((700_000..=1_000_000).contains(&rate), "{rate}");
        // What was set up coarser yet stays so.
        let mut camera = Camera::new(5, 300_000.0, 0.5);
        camera.run(60, Some(500_000));
        assert_eq!(camera.set, 5);
    }

    #[test]
    fn steps_and_qualities_are_each_others() {
        for value in 1..=99 {
            let back = quality(step(value) - 1e-9);
            assert!((value - back).abs() <= 1, "{value} {back}");
        }
    }
}
