//! The clock of every port: CLOCK_MONOTONIC, as GStreamer's system clock reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use camrelay_protocol::Time;

/// Now, in nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn now() -> Time {
    Time::from_nanos(gst::get_timestamp().nseconds())
}

/// Microseconds since the Unix epoch at `moment`, a moment of [`now`]'s clock.
/// `None` where the system's date lies before 1970.
pub(crate) fn wall_at(moment: Time) -> Option<u64> {
    let now = now();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let wall = i128::try_from(wall.as_nanos()).ok()?;
    let ago = i128::from(now.as_nanos()) - i128::from(moment.as_nanos());
    u64::try_from((wall - ago) / 1_000).ok()
}
