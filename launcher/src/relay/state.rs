//! What a viewer has to know about a camera: whether its pictures are of now.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

/// How a camera is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It came, and has sent no picture yet.
    Waiting {
        /// When it came.
        since: SystemTime,
    },
    /// Its pictures are of now.
    Live,
    /// It is connected, but sends nothing any more.
    Stale {
        /// When its last frame came.
        since: SystemTime,
    },
    /// It left; viewers may wait for it.
    Gone {
        /// When it left.
        since: SystemTime,
    },
    /// It tries to come and is not let in, or sends nothing that viewers can be given.
    Refused {
        /// When it was not let in last, or since when it sends such things.
        since: SystemTime,
        /// Why, in words.
        why: String,
    },
}

impl State {
    /// Every name that one can have.
    pub const NAMES: [&str; 5] = ["waiting", "live", "stale", "gone", "refused"];

    /// Its name in the API: `waiting`, `live`, `stale`, `gone` or `refused`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Live => "live",
            Self::Stale { .. } => "stale",
            Self::Gone { .. } => "gone",
            Self::Refused { .. } => "refused",
        }
    }

    /// Since when it is so; `None` while it is live.
    pub fn since(&self) -> Option<SystemTime> {
        match self {
            Self::Live => None,
            Self::Waiting { since }
            | Self::Stale { since }
            | Self::Gone { since }
            | Self::Refused { since, .. } => Some(*since),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Refused { why, .. } => write!(f, ": {why}"),
            _ => Ok(()),
        }
    }
}

/// Without a frame for this long, a camera is stale; one that sends seldom has
/// [`MISSED`] of its intervals. It leaves time to show so within a second.
pub(super) const STALE: Duration = Duration::from_millis(750);
/// Frames that may be missing.
const MISSED: u32 = 3;
/// Without a frame for this long, a camera may be falling silent; one that sends seldom
/// has [`SUSPECT`] of its intervals.
const SUSPICION: Duration = Duration::from_millis(250);
/// See [`SUSPICION`].
const SUSPECT: u32 = 2;
/// Intervals between frames that are remembered.
const INTERVALS: usize = 8;
/// What rates are told of.
const WINDOW: Duration = Duration::from_secs(2);
/// Most frames that rates are told of: 256 a second.
const WINDOW_FRAMES: usize = 512;

/// How much a stream carries, over the last two seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Frames a second.
    pub fps: f64,
    /// Bits a second.
    pub bits: f64,
}

/// When the frames of a stream came.
#[derive(Default)]
pub(super) struct Arrivals {
    /// The last one: on both clocks.
    last: Option<(Instant, SystemTime)>,
    /// Whether what came next follows the last one without a pause that the camera meant.
    follows: bool,
    intervals: VecDeque<Duration>,
    /// Their median: one long pause makes no slow camera.
    usual: Duration,
    /// When each frame of the window came, and its bytes.
    window: VecDeque<(Instant, usize)>,
}

impl Arrivals {
    /// A frame of so many bytes came.
    pub fn note(&mut self, now: Instant, wall: SystemTime, bytes: usize) {
        if let Some((before, _)) = self.last.filter(|_| self.follows) {
            if self.intervals.len() == INTERVALS {
                self.intervals.pop_front();
            }
            self.intervals.push_back(now - before);
            let mut sorted: Vec<_> = self.intervals.iter().collect();
            sorted.sort_unstable();
            self.usual = *sorted[sorted.len() / 2];
        }
        self.follows = true;
        self.last = Some((now, wall));
        while self.window.len() >= WINDOW_FRAMES
            || self
                .window
                .front()
                .is_some_and(|(oldest, _)| now - *oldest > WINDOW)
        {
            self.window.pop_front();
        }
        self.window.push_back((now, bytes));
    }

    /// The camera came again: the pause says nothing about its rate.
    pub fn restart(&mut self) {
        self.follows = false;
    }

    /// When the last frame came.
    pub fn last(&self) -> Option<(Instant, SystemTime)> {
        self.last
    }

    /// Whether the last frame is of now.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.stale_at().is_some_and(|at| now < at)
    }

    /// When the last frame is no more of now.
    pub fn stale_at(&self) -> Option<Instant> {
        let (last, _) = self.last?;
        Some(last + STALE.max(self.usual * MISSED))
    }

    /// When the next frame is so late that there may be none; before [`Self::stale_at`].
    pub fn suspect_at(&self) -> Option<Instant> {
        let (last, _) = self.last?;
        Some(last + SUSPICION.max(self.usual * SUSPECT))
    }

    /// What came in the last two seconds.
    pub fn rate(&self, now: Instant) -> Rate {
        let recent = self
            .window
            .iter()
            .filter(|(at, _)| now.saturating_duration_since(*at) <= WINDOW);
        let (mut frames, mut bytes, mut first) = (0, 0, None);
        for (at, size) in recent {
            first.get_or_insert(*at);
            frames += 1;
            bytes += size;
        }
        // A stream that is younger than the window is not taken for a slow one.
        let began = first.filter(|_| frames == self.window.len());
        let usual = self.intervals.back().copied().unwrap_or(WINDOW);
        let time = began.map_or(WINDOW, |began| {
            (now.saturating_duration_since(began) + usual).min(WINDOW)
        });
        Rate {
            fps: frames as f64 / time.as_secs_f64(),
            bits: bytes as f64 * 8.0 / time.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arrivals of frames of 1000 bytes at these times in milliseconds, and when the
    /// first came.
    fn arrivals(times: impl IntoIterator<Item = u64>) -> (Arrivals, Instant) {
        let begin = Instant::now();
        let mut arrivals = Arrivals::default();
        for time in times {
            let now = begin + Duration::from_millis(time);
            arrivals.note(now, SystemTime::now(), 1000);
        }
        (arrivals, begin)
    }

    fn goes_stale_after(arrivals: &Arrivals, last: Instant) -> Duration {
        let after = |millis: &u64| !arrivals.is_fresh(last + Duration::from_millis(*millis));
        let millis = (0..60_000).find(after).expect("it goes stale");
        Duration::from_millis(millis)
    }

    #[test]
    fn goes_stale_within_a_second_or_three_frames() {
        assert!(!Arrivals::default().is_fresh(Instant::now()));
        let (fast, begin) = arrivals((0..100).map(|frame| frame * 33));
        let last = begin + Duration::from_millis(99 * 33);
        assert_eq!(goes_stale_after(&fast, last), STALE);
        assert_eq!(fast.suspect_at(), Some(last + SUSPICION));

        let (slow, begin) = arrivals((0..10).map(|frame| frame * 2000));
        let last = begin + Duration::from_secs(18);
        assert_eq!(goes_stale_after(&slow, last), Duration::from_secs(6));
        assert_eq!(slow.suspect_at(), Some(last + Duration::from_secs(4)));
    }

    #[test]
    fn a_pause_makes_no_slow_camera() {
        let times = (0..100).map(|frame| frame * 33 + if frame > 90 { 30_000 } else { 0 });
        let (stalled, begin) = arrivals(times);
        let last = begin + Duration::from_millis(99 * 33 + 30_000);
        assert_eq!(goes_stale_after(&stalled, last), STALE);

        let (mut away, begin) = arrivals([0]);
        away.restart();
        let last = begin + Duration::from_secs(3600);
        away.note(last, SystemTime::now(), 1000);
        assert_eq!(goes_stale_after(&away, last), STALE);
    }

    #[test]
    fn rates_are_of_the_last_two_seconds() {
        let (steady, begin) = arrivals((0..500).map(|frame| frame * 20));
        let rate = steady.rate(begin + Duration::from_millis(499 * 20));
        assert!((49.0..=51.0).contains(&rate.fps), "{rate:?}");
        assert!((392e3..=408e3).contains(&rate.bits), "{rate:?}");
        assert_eq!(
            steady.rate(begin + Duration::from_secs(13)),
            Rate::default()
        );

        let (young, begin) = arrivals((0..10).map(|frame| frame * 20));
        let rate = young.rate(begin + Duration::from_millis(180));
        assert!((49.0..=51.0).contains(&rate.fps), "{rate:?}");
    }

    #[test]
    fn the_window_is_bounded() {
        let (flood, _) = arrivals((0..10_000).map(|frame| frame / 10));
        assert_eq!(flood.window.len(), WINDOW_FRAMES);
        assert_eq!(flood.intervals.len(), INTERVALS);
    }
}
