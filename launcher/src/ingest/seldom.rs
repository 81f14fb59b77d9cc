//! Log lines that strangers can cause, held to a number that a person can read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Lines that may come in one [`WINDOW`].
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);
/// How long the same line is not written again, and how many are remembered for that.
const SAME_AGAIN: Duration = Duration::from_secs(600);
const REMEMBERED: usize = 64;

/// Counts lines, and says which to leave out: too many, and the same again.
#[derive(Default)]
pub struct Seldom {
    window: Option<Instant>,
    lines: u32,
    written: VecDeque<(Instant, String)>,
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
    pub fn judge(&mut self, now: Instant, line: &str) -> Verdict {
        self.written.retain(|(at, _)| now - *at < SAME_AGAIN);
        if self.written.iter().any(|(_, known)| known == line) {
            return Verdict::LeaveOut;
        }
        let verdict = self.count(now);
        if verdict != Verdict::LeaveOut {
            if self.written.len() == REMEMBERED {
                self.written.pop_front();
            }
            self.written.push_back((now, line.into()));
        }
        verdict
    }

    fn count(&mut self, now: Instant) -> Verdict {
        let mut left_out = 0;
        if self.window.is_none_or(|begin| now - begin >= WINDOW) {
            left_out = self.lines.saturating_sub(LINES);
            (self.window, self.lines) = (Some(now), 0);
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
        let mut lines = (0..).map(|number| format!("line {number}"));
        let mut judge = |now| seldom.judge(now, &lines.next().unwrap());
        for _ in 0..LINES {
            assert_eq!(judge(begin), Verdict::Write);
        }
        for _ in 0..7 {
            assert_eq!(judge(begin + WINDOW / 2), Verdict::LeaveOut);
        }
        assert_eq!(judge(begin + WINDOW), Verdict::WriteAfter(7));
        assert_eq!(judge(begin + WINDOW), Verdict::Write);
        assert_eq!(judge(begin + 2 * WINDOW), Verdict::Write);
    }

    #[test]
    fn the_same_line_comes_once_in_ten_minutes() {
        let begin = Instant::now();
        let mut seldom = Seldom::default();
        assert_eq!(seldom.judge(begin, "door"), Verdict::Write);
        for second in 1..600 {
            let now = begin + Duration::from_secs(second);
            assert_eq!(seldom.judge(now, "door"), Verdict::LeaveOut);
        }
        assert_eq!(seldom.judge(begin + SAME_AGAIN, "yard"), Verdict::Write);
        assert_eq!(seldom.judge(begin + SAME_AGAIN, "door"), Verdict::Write);
    }

    #[test]
    fn few_lines_are_remembered() {
        let mut now = Instant::now();
        let mut seldom = Seldom::default();
        for number in 0..=REMEMBERED {
            now += WINDOW / LINES;
            assert_eq!(seldom.judge(now, &number.to_string()), Verdict::Write);
            assert!(seldom.written.len() <= REMEMBERED);
        }
        assert_eq!(seldom.judge(now + WINDOW, "0"), Verdict::Write);
    }
}
