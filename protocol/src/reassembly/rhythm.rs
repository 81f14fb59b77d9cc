//! When reports are repeated.

use std::time::Duration;

/// How reports that may get lost are repeated. Every time wakes a thread at either end, which a copy
/// beside it hardly costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rhythm {
    /// Losses are independent: two at once are as good as two after one another.
    Pairs,
    /// Some losses cluster: one after the other.
    Singles,
    /// Many do: a burst takes what is sent soon after one another, and more come later.
    Bunches,
    /// The same, and they may be those of a full queue: the rate follows reports, which go on.
    Steady,
}

const fn millis<const N: usize>(millis: [u64; N]) -> [Duration; N] {
    let mut waits = [Duration::ZERO; N];
    let mut at = 0;
    while at < N {
        waits[at] = Duration::from_millis(millis[at]);
        at += 1;
    }
    waits
}

/// The longest time from one to the next that goes on.
const STEADY: Duration = Duration::from_millis(5);
/// Most datagrams of a bunch.
const MOST_COPIES: usize = 4;

impl Rhythm {
    /// When a report is repeated that was sent `sent` times more, and might be the `last` one.
    pub(super) fn repeats_after(self, sent: usize, last: bool) -> Option<Duration> {
        const ONCE: [Duration; 1] = millis([5]);
        const RARELY: [Duration; 3] = millis([8, 12, 20]);
        const LAST: [Duration; 5] = millis([1, 2, 4, 8, 16]);
        const LAST_PAIRS: [Duration; 2] = millis([3, 9]);
        let waits: &[Duration] = match (self, last) {
            (Self::Pairs, false) => &[],
            (Self::Pairs, true) => &LAST_PAIRS,
            (Self::Singles | Self::Steady, false) => &ONCE,
            (Self::Bunches, false) => &RARELY,
            (_, true) => &LAST,
        };
        let wait = waits.get(sent).copied();
        match self {
            Self::Pairs | Self::Singles => wait,
            Self::Bunches => wait.or(waits.last().copied()),
            Self::Steady => Some(wait.map_or(STEADY, |wait| wait.min(STEADY))),
        }
    }

    /// How many datagrams carry one that was sent `sent` times before.
    pub(super) fn copies(self, sent: usize) -> usize {
        match self {
            Self::Pairs => 2,
            Self::Singles | Self::Steady => 1,
            Self::Bunches => MOST_COPIES.min(1 << sent.min(8)),
        }
    }
}
