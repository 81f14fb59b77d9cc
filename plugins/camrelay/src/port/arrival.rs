//! When datagrams came, in the time of ports: read late, they did not come late.
//!
//! The kernel stamps them with its wall clock (SO_TIMESTAMPNS), which may step; a stamp counts
//! where that clock has kept pace with the port's since the last reading of both.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use camrelay_protocol::Time;

use super::clock;

/// Longest wait that is believed; what seems to have waited longer was stamped by another clock.
const LONGEST: Duration = Duration::from_secs(1);
/// Nanoseconds that the clocks may be apart from one reading to the next,
const APART: i128 = 1_000_000;
/// and one for so many that passed (500 ppm is as much as NTP slews).
const SLEWED: i128 = 1_000;

/// Both clocks at one time.
#[derive(Clone, Copy)]
struct Reading {
    at: Time,
    /// Nanoseconds that the wall clock is ahead.
    ahead: i128,
}

/// Turns the kernel's stamps into times of arrival.
#[derive(Default)]
pub(super) struct Arrivals {
    last: Option<Reading>,
    /// The wall clock has kept pace.
    steady: bool,
}

impl Arrivals {
    /// Reads both clocks: once for each batch, as soon as it was received.
    pub(super) fn read(&mut self) {
        let before = clock::now();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let after = clock::now();
        let middle = before + after.since(before) / 2;
        self.take(middle, wall.unwrap_or_default());
    }

    fn take(&mut self, at: Time, wall: Duration) {
        let ahead = wall.as_nanos() as i128 - i128::from(at.as_nanos());
        self.steady = self.last.is_some_and(|last| {
            let passed = at.since(last.at).as_nanos() as i128;
            (ahead - last.ahead).abs() <= APART + passed / SLEWED
        });
        self.last = Some(Reading { at, ahead });
    }

    /// When a datagram of the batch came that has this stamp, nanoseconds since the Unix epoch: the
    /// time of the reading, where that cannot be known.
    pub(super) fn of(&self, stamp: Option<Duration>) -> Time {
        let Some(Reading { at, ahead }) = self.last else {
            return clock::now();
        };
        let came = stamp.filter(|_| self.steady).and_then(|stamp| {
            let nanos = u64::try_from(stamp.as_nanos() as i128 - ahead).ok()?;
            Some(Time::from_nanos(nanos).min(at))
        });
        came.filter(|came| at.since(*came) <= LONGEST).unwrap_or(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Duration = Duration::from_secs(1_790_000_000);

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn wall(millis: u64) -> Duration {
        WALL + Duration::from_millis(millis)
    }

    fn arrivals() -> Arrivals {
        let mut arrivals = Arrivals::default();
        arrivals.take(at(10_000), wall(10_000));
        arrivals.take(at(20_000), wall(20_000));
        arrivals
    }

    #[test]
    fn a_stamp_is_when_it_came() {
        let arrivals = arrivals();
        assert_eq!(arrivals.of(Some(wall(19_960))), at(19_960));
        assert_eq!(arrivals.of(Some(wall(19_000))), at(19_000));
        // Not before the socket can have held it, nor after it was read; nor without a stamp.
        assert_eq!(arrivals.of(Some(wall(18_999))), at(20_000));
        assert_eq!(arrivals.of(Some(wall(20_001))), at(20_000));
        assert_eq!(arrivals.of(None), at(20_000));
    }

    #[test]
    fn a_wall_clock_that_stepped_is_not_believed_once() {
        for step in [-9_000i64, -30, 30, 3_600_000] {
            let mut arrivals = arrivals();
            let stepped = |millis: u64| wall(millis.saturating_add_signed(step));
            arrivals.take(at(20_500), stepped(20_500));
            assert_eq!(arrivals.of(Some(wall(20_490))), at(20_500), "{step}");
            assert_eq!(arrivals.of(Some(stepped(20_490))), at(20_500), "{step}");
            arrivals.take(at(20_600), stepped(20_600));
            assert_eq!(arrivals.of(Some(stepped(20_590))), at(20_590), "{step}");
        }
    }

    #[test]
    fn a_wall_clock_that_is_slewed_is_believed() {
        let mut arrivals = arrivals();
        // 500 ppm of 100 s.
        arrivals.take(at(120_000), wall(120_050));
        assert_eq!(arrivals.of(Some(wall(120_040))), at(119_990));
    }
}
