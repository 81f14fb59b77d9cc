//! The sender's clock as the receiver sees it.
//!
//! Every fragment tells when its frame was captured on the sender's clock, and arrives at some
//! time on ours. The smallest difference in each second is the path at its fastest, or one with a
//! queue; a line through those without a queue gives the clocks' offset and skew. What is handed
//! out follows that line by at most [`SLEW`], and faster only from far above, so that capture times
//! never jump unless the sender's clock did, or the path got so much longer or shorter that frames
//! would be judged by the wrong time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;

/// Seconds of minima that are kept.
const HISTORY: usize = 30;
/// Nanoseconds that the mapping moves per second at most, beside the skew itself.
const SLEW: f64 = 500_000.0;
/// Further above the line, in nanoseconds, it moves by its distance in a second: the path was never
/// seen without a queue before.
const FAR: f64 = 3_000_000.0;
/// A minimum that is above another by more, in nanoseconds, beside what skew makes of the time between
/// them, had a queue.
const QUEUED: f64 = 3_000_000.0;
/// Largest skew believed, as a fraction (500 ppm).
const MAX_SKEW: f64 = 500e-6;
/// Seconds of minima before a skew is fitted.
const FIT_AFTER: usize = 8;
/// Least difference, in nanoseconds, that is a step rather than a path's usual change.
const LEAST_STEP: Duration = Duration::from_millis(10);
/// For so long everything must come too late before that is believed to stay so,
const LATER_FOR: Duration = Duration::from_secs(1);
/// unless it is later, in nanoseconds, than any path makes it,
const MUCH_LATER: i64 = 10_000_000_000;
/// and that so many times in a row.
const LATER_CONFIRM: u32 = 3;
/// Captures further on, in microseconds, are no clock's: nanoseconds would not hold the rest.
const MAX_CAPTURE: u64 = 1 << 52;

struct Minimum {
    at: Time,
    delta: i64,
}

/// Fragments that came too late, with none in time between them.
struct Later {
    since: Time,
    least: i64,
    fragments: u32,
}

/// Maps the sender's capture times to ours.
pub(crate) struct Clock {
    /// Sender time, microseconds, extended from the 32 bits that fragments carry.
    last_capture: Option<u64>,
    /// Smallest `arrival - capture` of each second, nanoseconds.
    minima: VecDeque<Minimum>,
    /// The line: offset at `fitted_at` and skew.
    offset: f64,
    skew: f64,
    fitted_at: Time,
    /// What is handed out at `applied_at`.
    applied: f64,
    applied_at: Time,
    /// Nanoseconds that are a step.
    step: i64,
    later: Option<Later>,
    started: Time,
}

impl Clock {
    /// The clock of a sender whose frames may take `latency` beyond the one-way delay.
    pub(crate) fn new(latency: Duration) -> Self {
        let mut clock = Self {
            last_capture: None,
            minima: VecDeque::new(),
            offset: 0.0,
            skew: 0.0,
            fitted_at: Time::default(),
            applied: 0.0,
            applied_at: Time::default(),
            step: 0,
            later: None,
            started: Time::default(),
        };
        clock.set_latency(latency);
        clock
    }

    /// How long, beyond the one-way delay, frames may take: what is off by half of that is a step.
    pub(crate) fn set_latency(&mut self, latency: Duration) {
        self.step = (latency / 2).max(LEAST_STEP).as_nanos() as i64;
    }

    /// Extends the 32 bits of a capture time to the sender's microseconds, by the nearest value
    /// to the last.
    pub(crate) fn extend(&mut self, low: u32) -> u64 {
        let capture = match self.last_capture {
            None => (1 << 32) + u64::from(low),
            Some(last) => last.saturating_add_signed(low.wrapping_sub(last as u32) as i32 as i64),
        };
        let capture = match capture <= MAX_CAPTURE {
            true => capture,
            false => (1 << 32) + u64::from(low),
        };
        self.last_capture = Some(capture);
        capture
    }

    /// Takes note that a fragment of a frame captured at `capture` (sender's microseconds,
    /// extended) arrived. Returns whether the mapping begins anew because of when it did.
    pub(crate) fn observe(&mut self, now: Time, capture: u64) -> bool {
        let delta = now.as_nanos() as i64 - (capture * 1000) as i64;
        let late = delta - self.line(now) as i64;
        if self.minima.is_empty() {
            self.restart(now, delta);
            return false;
        }
        if late < -self.step {
            // Nothing comes before it can.
            self.restart(now, delta);
            return true;
        }
        if late > self.step {
            return self.wait_and_see(now, delta, late);
        }
        self.later = None;
        match self.minima.back_mut() {
            Some(last) if now.since(last.at) < Duration::from_secs(1) => {
                last.delta = last.delta.min(delta);
            }
            _ => {
                self.fit(now);
                self.minima.push_back(Minimum { at: now, delta });
                if self.minima.len() > HISTORY {
                    self.minima.pop_front();
                }
            }
        }
        // The line never lies above what was seen.
        if (delta as f64) < self.line(now) {
            self.offset += delta as f64 - self.line(now);
        }
        self.slew(now);
        false
    }

    /// The path is another one: what comes next tells how long it takes.
    pub(crate) fn begin_anew(&mut self) {
        self.minima.clear();
        self.later = None;
    }

    /// Our time at which a frame captured at `capture` (sender's microseconds, extended) would
    /// have arrived over the path at its fastest.
    pub(crate) fn map(&self, capture: u64) -> Time {
        let nanos = (capture * 1000) as i64 + self.applied as i64;
        Time::from_nanos(nanos.max(0) as u64)
    }

    /// How much faster our clock runs than the sender's, in parts per million.
    pub(crate) fn skew_ppm(&self) -> f64 {
        self.skew * 1e6
    }

    /// Takes note of what came too late: where nothing comes sooner any more, it is in time, and the
    /// mapping begins anew.
    fn wait_and_see(&mut self, now: Time, delta: i64, late: i64) -> bool {
        let later = self.later.get_or_insert(Later {
            since: now,
            least: delta,
            fragments: 0,
        });
        later.least = later.least.min(delta);
        later.fragments += 1;
        let stays = now.since(later.since) >= LATER_FOR
            || late > MUCH_LATER && later.fragments >= LATER_CONFIRM;
        if stays {
            let least = later.least;
            self.restart(now, least);
        }
        stays
    }

    /// Begins anew with `delta`; clocks go on as fast as before.
    fn restart(&mut self, now: Time, delta: i64) {
        self.minima.clear();
        self.minima.push_back(Minimum { at: now, delta });
        self.offset = delta as f64;
        self.applied = delta as f64;
        (self.fitted_at, self.applied_at, self.started) = (now, now, now);
        self.later = None;
    }

    fn line(&self, now: Time) -> f64 {
        self.offset + self.skew * now.since(self.fitted_at).as_nanos() as f64
    }

    /// Least squares through the minima without a queue, moved down until none lies below it.
    fn fit(&mut self, now: Time) {
        let seconds = |at: Time| -now.since(at).as_secs_f64();
        let base = self.minima.back().map_or(0, |m| m.delta);
        let points = self.minima.iter();
        let points = points.map(|m| (seconds(m.at), (m.delta - base) as f64));
        let points: Vec<_> = points.collect();
        let free = |(x, y): &(f64, f64)| {
            let most = |(at, other): &(f64, f64)| other + MAX_SKEW * 1e9 * (x - at).abs() + QUEUED;
            points.iter().all(|other| *y <= most(other))
        };
        let free: Vec<_> = points.iter().copied().filter(free).collect();
        if free.len() >= FIT_AFTER {
            let n = free.len() as f64;
            let (sx, sy) = free
                .iter()
                .fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
            let (mx, my) = (sx / n, sy / n);
            let (xx, xy) = free.iter().fold((0.0, 0.0), |(xx, xy), (x, y)| {
                (xx + (x - mx) * (x - mx), xy + (x - mx) * (y - my))
            });
            self.skew = (xy / xx / 1e9).clamp(-MAX_SKEW, MAX_SKEW);
        }
        let lowest = points
            .iter()
            .map(|(x, y)| y - self.skew * x * 1e9)
            .fold(f64::INFINITY, f64::min);
        self.offset = base as f64 + lowest;
        self.fitted_at = now;
    }

    /// Moves what is handed out towards the line.
    fn slew(&mut self, now: Time) {
        let passed = now.since(self.applied_at);
        // At first the fastest path is not known yet: follow at once.
        let settling = now.since(self.started) < Duration::from_secs(1);
        let target = self.line(now);
        let carried = self.applied + self.skew * passed.as_nanos() as f64;
        let above = carried - target;
        let most = match above > FAR {
            _ if settling => f64::INFINITY,
            true => above * passed.as_secs_f64().min(1.0),
            false => SLEW * passed.as_secs_f64(),
        };
        self.applied = carried + (target - carried).clamp(-most, most);
        self.applied_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `seconds` at 30 frames a second; `clock(true time) -> sender's µs`, delays from a
    /// seeded source. Returns the error of each mapped capture time against the true one, in ns.
    fn run(seconds: u64, skew_ppm: f64, jitter_us: u64, step_at: Option<u64>) -> Vec<i64> {
        let mut clock = Clock::new(Duration::from_millis(120));
        let mut state = 1u64;
        let mut errors = Vec::new();
        for frame in 0..seconds * 30 {
            let captured = 1_000_000_000 + frame * 33_333_333;
            let mut sender = (captured as f64 * (1.0 + skew_ppm / 1e6) / 1000.0) as u64;
            if step_at.is_some_and(|at| frame >= at * 30) {
                sender = sender.wrapping_add(3_600_000_000);
            }
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let delay = 10_000_000 + (state >> 33) % (jitter_us + 1) * 1000;
            let extended = clock.extend(sender as u32);
            let now = Time::from_nanos(captured + delay);
            clock.observe(now, extended);
            errors.push(clock.map(extended).as_nanos() as i64 - captured as i64 - 10_000_000);
        }
        errors
    }

    fn worst_step(errors: &[i64]) -> i64 {
        errors
            .windows(2)
            .map(|w| (w[1] - w[0]).abs())
            .max()
            .unwrap()
    }

    #[test]
    fn equal_clocks_map_to_the_fastest_path() {
        let errors = run(20, 0.0, 5_000, None);
        assert!(
            errors[60..].iter().all(|e| e.abs() < 1_000_000),
            "{:?}",
            &errors[60..70]
        );
        assert!(worst_step(&errors[60..]) < 50_000);
    }

    #[test]
    fn a_clock_200_ppm_off_stays_smooth_and_close() {
        for ppm in [200.0, -200.0] {
            let errors = run(120, ppm, 5_000, None);
            let late = &errors[30 * 30..];
            assert!(
                late.iter().all(|e| e.abs() < 3_000_000),
                "{ppm}: {:?}",
                late.iter().max()
            );
            // 0.5 ms a second is 17 µs a frame.
            assert!(worst_step(late) < 30_000, "{ppm}: {}", worst_step(late));
        }
    }

    #[test]
    fn a_clock_that_steps_by_an_hour_is_followed() {
        let errors = run(30, 0.0, 1_000, Some(15));
        assert!(errors[15 * 30 + 3..].iter().all(|e| e.abs() < 2_000_000));
    }

    #[test]
    fn captures_that_step_on_for_ever_stay_within_what_nanoseconds_hold() {
        let mut clock = Clock::new(Duration::from_millis(120));
        let (mut capture, mut steps_back, mut behind) = (0u32, 0, 0);
        for step in 0..5_000_000u64 {
            let now = Time::from_nanos(1_000_000_000 + step * 1000);
            capture = capture.wrapping_add(i32::MAX as u32);
            let before = clock.last_capture;
            let extended = clock.extend(capture);
            steps_back += u32::from(Some(extended) < before);
            clock.observe(now, extended);
            behind += u32::from(clock.map(extended) + Duration::from_micros(2) < now);
        }
        // Each is believed with the third fragment.
        assert_eq!((steps_back, behind), (2, 4));
    }

    #[test]
    fn the_32_bits_wrap() {
        let mut clock = Clock::new(Duration::from_millis(120));
        let first = clock.extend(u32::MAX - 10);
        assert_eq!(clock.extend(5), first + 16);
        assert_eq!(clock.extend(u32::MAX), first + 10);
    }
}
