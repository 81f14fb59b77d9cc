//! How often frames come, and leaving some of them out.

/// Longest time between frames that is taken for a frame rate, in seconds.
const MAX_INTERVAL: f64 = 1.0;
/// What is taken for the time between frames before it is known, in seconds.
const USUAL_INTERVAL: f64 = 1.0 / 30.0;
/// More than this share fits: all of it does.
const NEARLY_ALL: f64 = 0.95;

/// The time between frames, smoothed.
#[derive(Default)]
pub(super) struct Cadence {
    last: Option<gst::ClockTime>,
    /// Seconds.
    mean: Option<f64>,
}

impl Cadence {
    /// Takes note of a frame.
    pub(super) fn observe(&mut self, pts: Option<gst::ClockTime>) {
        let Some(pts) = pts else { return };
        let passed = self.last.and_then(|last| pts.checked_sub(last));
        self.last = Some(pts);
        if let Some(passed) = passed.filter(|passed| !passed.is_zero()) {
            let passed = (passed.nseconds() as f64 / 1e9).min(MAX_INTERVAL);
            let mean = self.mean.unwrap_or(passed);
            self.mean = Some(mean + (passed - mean) / 8.0);
        }
    }

    /// Seconds between frames.
    pub(super) fn interval(&self) -> f64 {
        self.mean.unwrap_or(USUAL_INTERVAL)
    }
}

/// Leaves out frames evenly. Of a stream, so many pass as their share says, one a second at least.
#[derive(Default)]
pub(crate) struct Thinning {
    cadence: Cadence,
    credit: f64,
}

impl Thinning {
    /// Takes note of a frame.
    pub(crate) fn observe(&mut self, pts: Option<gst::ClockTime>) {
        self.cadence.observe(pts);
    }

    /// Seconds between frames, those left out included.
    pub(crate) fn interval(&self) -> f64 {
        self.cadence.interval()
    }

    /// Whether the frame passes where `share` of them fit.
    pub(crate) fn admits(&mut self, share: f64) -> bool {
        if share >= NEARLY_ALL {
            self.credit = 0.0;
            return true;
        }
        self.credit += share.max(self.interval()).min(1.0);
        let admits = self.credit >= 1.0;
        if admits {
            self.credit -= 1.0;
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_30(frame: u64) -> Option<gst::ClockTime> {
        Some(gst::ClockTime::SECOND * frame / 30)
    }

    fn passed(share: f64) -> Vec<bool> {
        let mut thinning = Thinning::default();
        let frames = 0..300;
        frames
            .map(|frame| {
                thinning.observe(at_30(frame));
                thinning.admits(share)
            })
            .collect()
    }

    #[test]
    fn the_share_passes_evenly() {
        for (share, runs) in [(0.5, [1, 1]), (0.26, [2, 3])] {
            let passed = passed(share);
            let count = passed.iter().filter(|one| **one).count() as f64;
            assert!((count / 300.0 - share).abs() < 0.01, "{count}");
            let left_out = passed.chunk_by(|a, b| a == b).filter(|run| !run[0]);
            let lengths: Vec<_> = left_out.skip(1).map(<[bool]>::len).collect();
            let even = |length: &usize| (runs[0]..=runs[1]).contains(length);
            assert!(lengths[..lengths.len() - 1].iter().all(even), "{lengths:?}");
        }
    }

    #[test]
    fn what_nearly_fits_passes_and_a_picture_a_second_always() {
        assert!(passed(0.96).iter().all(|one| *one));
        let count = passed(0.0).iter().filter(|one| **one).count();
        assert!((9..=11).contains(&count), "{count}");
    }

    #[test]
    fn frames_without_times_pass_too() {
        let mut thinning = Thinning::default();
        thinning.observe(None);
        assert!(thinning.admits(1.0));
        assert_eq!(thinning.interval(), USUAL_INTERVAL);
    }
}
