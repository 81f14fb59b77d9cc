//! What a viewer begins with where frames build on each other.
//!
//! It sees the newest key frame at once, and goes on at the next one, which is asked for: of a
//! camera that answers, that is there within a frame or two. From a camera that does not, it may be
//! ten seconds away; so a viewer of that one is given all frames since the key frame as well,
//! which others are not: they would take longer than the answer, and what it costs all viewers
//! is little beside what they would cost each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame::Frame;

/// A key frame is not asked for again within this time. A camera that has sent none by then
/// is taken not to answer.
pub const KEY_REQUEST_INTERVAL: Duration = Duration::from_millis(500);
/// How much faster than they were captured a viewer is to show the frames that it catches up
/// with. Ten seconds become ten milliseconds, by which the viewer stays late at most; and the
/// ticks of RTP still tell 1000 frames a second apart.
const SQUEEZE: u64 = 1000;

/// The key frames that a camera was asked for.
#[derive(Default)]
pub struct KeyRequests {
    /// When one was asked for that has not come.
    asked: Option<Instant>,
    ignored: bool,
}

impl KeyRequests {
    /// One is asked for now.
    pub fn ask(&mut self, now: Instant) {
        self.are_ignored(now);
        self.asked = Some(now);
    }

    /// Whether one was asked for just now.
    pub fn has_asked(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| is_recent(asked, now))
    }

    /// A key frame came.
    pub fn came(&mut self, now: Instant) {
        let asked = self.asked.take();
        self.ignored &= !asked.is_some_and(|asked| is_recent(asked, now));
    }

    /// Whether the camera did not answer the last one in time, as far as that is known.
    pub fn are_ignored(&mut self, now: Instant) -> bool {
        self.ignored |= self.asked.is_some_and(|asked| !is_recent(asked, now));
        self.ignored
    }
}

fn is_recent(asked: Instant, now: Instant) -> bool {
    now.saturating_duration_since(asked) < KEY_REQUEST_INTERVAL
}

/// These frames, as if they were captured just before `newest`, in the same order: players show
/// a frame as much later than the one before as it was captured later, and would stay as late
/// as the first is old.
pub fn squeezed(frames: &[Arc<Frame>], newest: gst::ClockTime) -> Vec<Arc<Frame>> {
    let squeeze = |frame: &Arc<Frame>| match newest.saturating_sub(frame.captured) / SQUEEZE {
        gst::ClockTime::ZERO => frame.clone(),
        before => Arc::new(frame.captured_at(newest - before)),
    };
    frames.iter().map(squeeze).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::relay::frame::Codec;

    #[test]
    fn a_camera_ignores_requests_until_it_answers_one() {
        let mut requests = KeyRequests::default();
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        assert!(!requests.are_ignored(at(0)), "nobody has asked");
        requests.ask(at(0));
        assert!(requests.has_asked(at(499)));
        assert!(!requests.are_ignored(at(499)), "it has time left");
        assert!(!requests.has_asked(at(500)));
        requests.ask(at(500));
        assert!(requests.are_ignored(at(501)), "it had its time");
        requests.came(at(1100));
        assert!(requests.are_ignored(at(1100)), "that was none of an answer");
        requests.came(at(1200));
        assert!(requests.are_ignored(at(1200)), "nobody had asked");
        requests.ask(at(1300));
        requests.came(at(1350));
        assert!(!requests.are_ignored(at(5000)), "it answered");
    }

    #[test]
    fn squeezed_frames_stay_apart_and_show_what_they_did() {
        let ms = gst::ClockTime::from_mseconds;
        let frames: Vec<_> = (0..300)
            .map(|number| {
                let captured = ms(1000) + number * gst::ClockTime::SECOND / 30;
                Arc::new(Frame::for_test(Codec::H264, captured))
            })
            .collect();
        let newest = frames[299].clone();
        let squeezed = squeezed(&frames, newest.captured);
        assert!(Arc::ptr_eq(&squeezed[299], &newest));
        for (frame, squeezed) in frames.iter().zip(&squeezed) {
            assert_eq!(squeezed.pictured, frame.pictured);
        }
        let ticks = |frame: &Arc<Frame>| frame.captured.nseconds() * 9 / 100_000;
        for pair in squeezed.windows(2) {
            assert!(ticks(&pair[0]) < ticks(&pair[1]));
        }
        assert!(newest.captured - squeezed[0].captured < ms(10));
    }
}
