//! Between a pipeline's clock and CLOCK_MONOTONIC, which captures are told in.

use camrelay_protocol::Time;
use gst::prelude::*;

use crate::port::clock;

/// Readings of both clocks further apart than this are taken again, a few times.
const APART: u64 = 20_000;

/// What to add to a time of `clock` to get CLOCK_MONOTONIC, in nanoseconds.
///
/// Exactly 0 for the system clock, which is what pipelines run on unless told otherwise.
fn to_monotonic(clock: &gst::Clock) -> i64 {
    if is_monotonic(clock) {
        return 0;
    }
    let mut best = (u64::MAX, 0);
    for _ in 0..4 {
        let before = clock::now();
        let other = clock.time();
        let after = clock::now();
        let apart = after.as_nanos().saturating_sub(before.as_nanos());
        if apart < best.0 {
            let middle = before.as_nanos() + apart / 2;
            best = (apart, middle as i64 - other.nseconds() as i64);
        }
        if apart <= APART {
            break;
        }
    }
    best.1
}

fn is_monotonic(clock: &gst::Clock) -> bool {
    let (internal, external, numerator, denominator) = clock.calibration();
    clock.type_() == gst::SystemClock::static_type()
        && clock.property::<gst::ClockType>("clock-type") == gst::ClockType::Monotonic
        && internal == external
        && numerator == denominator
}

/// A pipeline's clock and where its running time began.
pub(crate) struct Running {
    clock: gst::Clock,
    base: gst::ClockTime,
}

impl Running {
    /// Those of an element; `None` before it has them.
    pub(crate) fn of(element: &impl IsA<gst::Element>) -> Option<Self> {
        let (clock, base) = (element.clock()?, element.base_time()?);
        Some(Self { clock, base })
    }

    /// The moment of a running time.
    pub(crate) fn moment(&self, running_time: gst::ClockTime) -> Time {
        let time = self.base.saturating_add(running_time);
        Time::from_nanos(time.nseconds()).offset(to_monotonic(&self.clock))
    }

    /// The running time at a moment; zero for those before it began.
    pub(crate) fn running_time(&self, moment: Time) -> gst::ClockTime {
        let time = moment.offset(-to_monotonic(&self.clock));
        gst::ClockTime::from_nseconds(time.as_nanos()).saturating_sub(self.base)
    }
}
