//! Frames that were passed over because they were malformed.

use std::time::{Instant, SystemTime};

use super::frame::Codec;
use super::intake::Malformed;

/// So many malformed frames in a row make a camera refused: webcams begin with one at times.
const IN_A_ROW: u32 = 3;

/// What was wrong with the frames of a stream.
#[derive(Default)]
pub(super) struct Flaws {
    last: Option<(Codec, Malformed)>,
    run: Option<Run>,
}

/// Malformed frames with no good one between them.
struct Run {
    frames: u32,
    since: SystemTime,
    last: Instant,
}

impl Flaws {
    /// A malformed frame came.
    pub fn note(&mut self, now: Instant, wall: SystemTime, codec: &Codec, why: Malformed) {
        let run = self.run.get_or_insert(Run {
            frames: 0,
            since: wall,
            last: now,
        });
        run.frames = run.frames.saturating_add(1);
        run.last = now;
        self.last = Some((codec.clone(), why));
    }

    /// A good frame came, or the camera did: what was before is over.
    pub fn end(&mut self) {
        self.run = None;
    }

    /// What was wrong with the last one.
    pub fn last(&self) -> Option<Malformed> {
        self.last.as_ref().map(|(_, why)| *why)
    }

    /// Since when nothing good comes of a stream whose last good frame, where there is one, is
    /// of now until `stale_at`; and why, with what to do.
    pub fn refusal(&self, stale_at: Option<Instant>) -> Option<(SystemTime, String)> {
        let (codec, why) = self.last.as_ref()?;
        let run = self.run.as_ref()?;
        let goes_on = stale_at.is_none_or(|stale_at| run.last >= stale_at);
        (goes_on && run.frames >= IN_A_ROW).then(|| {
            let advice = why.advice();
            let why = format!("what it sends is no good {codec} ({why}); {advice}");
            (run.since, why)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    use crate::relay::{annexb, jpeg};

    #[test]
    fn a_camera_is_refused_for_as_long_as_nothing_good_comes() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let since = SystemTime::now();
        let mut flaws = Flaws::default();
        let why = Malformed::Jpeg(jpeg::Malformed::NoEnd);
        for number in 0..u64::from(IN_A_ROW) {
            assert_eq!(flaws.refusal(None), None, "only {number}");
            let wall = since + Duration::from_millis(number);
            flaws.note(at(number), wall, &Codec::Jpeg, why);
        }
        let (from, said) = flaws.refusal(None).expect("it is refused");
        assert_eq!(from, since, "since the first of them");
        assert!(said.starts_with("what it sends is no good JPEG (its end is missing); give "));

        // A few beside good ones make a camera silent at most.
        let stale_at = Some(at(750));
        assert_eq!(flaws.refusal(stale_at), None);
        flaws.note(at(750), since, &Codec::Jpeg, why);
        assert!(flaws.refusal(stale_at).is_some());

        flaws.end();
        assert_eq!(flaws.refusal(None), None);
        assert!(flaws.last().is_some(), "it stays known");
    }

    #[test]
    fn there_is_something_to_do_about_every_flaw() {
        use jpeg::Malformed::{
            BadLength, BadMarker, BadValue, FrameHeader, NoEnd, NoStart, Truncated,
        };
        let jpegs = [
            NoStart,
            Truncated,
            NoEnd,
            BadMarker(1),
            BadLength(1),
            BadValue(1),
            FrameHeader,
        ];
        let units = [
            annexb::Malformed::NoStart,
            annexb::Malformed::Empty,
            annexb::Malformed::Forbidden,
        ];
        let flaws = jpegs
            .map(Malformed::Jpeg)
            .into_iter()
            .chain(units.map(Malformed::Units));
        for flaw in flaws {
            assert!(flaw.advice().len() > 20, "{flaw}");
            assert!(!flaw.advice().ends_with('.'), "{flaw}");
        }
    }
}
