//! Log lines that strangers can cause, held to a number that a person can read.

use std::time::{Duration, Instant};

/// Lines that may come in one [`WINDOW`].
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// Counts lines, and says which to leave out.
#[derive(Default)]
pub struct Seldom {
    window: Option<Instant>,
    lines: u32,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Write it.
    Write,
    /// Write it, and before it how many were left out.
    WriteAfter(u32),
    /// Leave it out.
    LeaveOut,
}

impl Seldom {
    /// What to do with a line that comes `now`.
    pub fn judge(&mut self, now: Instant) -> Verdict {
        let mut left_out = 0;
        if self.window.is_none_or(|begin| now - begin >= WINDOW) {
            left_out = self.lines.saturating_sub(LINES);
            *self = Self {
                window: Some(now),
                lines: 0,
            };
        }
        self.lines = self.lines.saturating_add(1);
        match left_out {
            _ if self.lines > LINES => Verdict::LeaveOut,
            0 => Verdict::Write,
            left_out => Verdict::WriteAfter(left_out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_what_is_too_much_and_says_how_much() {
        let begin = Instant::now();
        let mut seldom = Seldom::default();
        for _ in 0..LINES {
            assert_eq!(seldom.judge(begin), Verdict::Write);
        }
        for _ in 0..7 {
            assert_eq!(seldom.judge(begin + WINDOW / 2), Verdict::LeaveOut);
        }
        assert_eq!(seldom.judge(begin + WINDOW), Verdict::WriteAfter(7));
        assert_eq!(seldom.judge(begin + WINDOW), Verdict::Write);
        assert_eq!(seldom.judge(begin + 2 * WINDOW), Verdict::Write);
    }
}
