//! Frames that viewers count, and marks that say from where to where.

use super::rtsp::Frame;

/// Packets of a mark are longer than this, those of another picture of 320x240 shorter, in bytes.
const MARK: usize = 6000;

/// Counts the frames of one viewer between marks, which are much larger pictures: what a relay
/// shows while nothing comes, before the first mark and after the last, is not counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Whole frames since the last mark; `None` before the first.
    since: Option<u64>,
}

impl Tally {
    /// Takes a frame that came; where it is a mark, how many came whole since the one before.
    pub(crate) fn take(&mut self, frame: &Frame) -> Option<u64> {
        if frame.bytes > MARK {
            return Some(self.since.replace(0).unwrap_or(0));
        }
        if let Some(count) = &mut self.since {
            *count += u64::from(frame.whole);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_between_marks_are_counted() {
        let mut tally = Tally::default();
        let mut take = |bytes, whole| {
            tally.take(&Frame {
                time: 0,
                bytes,
                whole,
            })
        };
        assert_eq!(take(2000, true), None, "before the first mark");
        assert_eq!(take(MARK + 1, true), Some(0));
        assert_eq!(take(MARK, true), None);
        assert_eq!(take(2000, false), None, "torn");
        assert_eq!(take(2000, true), None);
        assert_eq!(take(MARK + 1, true), Some(2));
        assert_eq!(take(MARK + 1, true), Some(0));
    }
}
