//! What the pipeline of a camera gives, checked and made a frame.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gst::prelude::*;

use super::frame::{Codec, Frame};
use super::{annexb, jpeg};

/// Why something is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A JPEG that no decoder should be given.
    #[error(transparent)]
    Jpeg(#[from] jpeg::Malformed),
    /// An access unit that no payloader should be given.
    #[error(transparent)]
    Units(#[from] annexb::Malformed),
}

impl Malformed {
    /// What its owner can do about it.
    pub fn advice(self) -> &'static str {
        use jpeg::Malformed::{NoEnd, NoStart, Truncated};
        match self {
            Self::Jpeg(NoStart | Truncated | NoEnd) => {
                "give camrelaysink one whole JPEG a buffer, as jpegparse before it does"
            }
            Self::Jpeg(_) => "try another encoder, or another mode of the camera",
            Self::Units(_) => {
                "give camrelaysink whole access units, as h264parse or h265parse before it does"
            }
        }
    }
}

/// The frame in a buffer of a pipeline with that base time, which runs on GStreamer's
/// system clock. It has no number yet.
pub fn frame(
    buffer: gst::Buffer,
    caps: gst::Caps,
    segment: Option<&gst::Segment>,
    base_time: gst::ClockTime,
) -> Result<Frame, (Codec, Malformed)> {
    let codec = Codec::of(&caps);
    let (buffer, jpeg) = match codec {
        Codec::Jpeg => match check_jpeg(buffer) {
            Ok((buffer, picture)) => (buffer, Some(picture)),
            Err(why) => return Err((codec, why.into())),
        },
        Codec::H264 | Codec::H265 => match check_units(&buffer) {
            Ok(()) => (buffer, None),
            Err(why) => return Err((codec, why.into())),
        },
        _ => (buffer, None),
    };
    let now = gst::SystemClock::obtain().time();
    let segment = segment.and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
    let on_clock = |time: Option<gst::ClockTime>| {
        Some(segment?.to_running_time(time?)? + base_time).map(|time| time.min(now))
    };
    let captured = on_clock(buffer.pts()).unwrap_or(now);
    let key = !codec.is_inter() || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let wall = sender_time(&buffer)
        .unwrap_or_else(|| SystemTime::now() - Duration::from(now.saturating_sub(captured)));
    Ok(Frame {
        buffer,
        caps,
        codec,
        captured,
        pictured: captured,
        wall,
        arrived: Instant::now(),
        sequence: 0,
        placeholder: false,
        key,
        jpeg,
    })
}

/// Checks an access unit.
pub fn check_units(buffer: &gst::Buffer) -> Result<(), annexb::Malformed> {
    let map = buffer
        .map_readable()
        .map_err(|_| annexb::Malformed::NoStart)?;
    annexb::check(&map)
}

/// When the sender says that it captured this, where it knows.
fn sender_time(buffer: &gst::BufferRef) -> Option<SystemTime> {
    buffer
        .iter_meta::<gst::ReferenceTimestampMeta>()
        .find(|meta| {
            let reference = meta.reference().structure(0);
            reference.is_some_and(|reference| reference.name() == "timestamp/x-unix")
        })
        .and_then(|meta| UNIX_EPOCH.checked_add(Duration::from(meta.timestamp())))
}

/// Checks a JPEG and makes it one piece of memory, as those who read it expect.
fn check_jpeg(mut buffer: gst::Buffer) -> Result<(gst::Buffer, jpeg::Picture), jpeg::Malformed> {
    if buffer.n_memory() > 1
        && let Some(memory) = buffer.all_memory()
    {
        let buffer = buffer.make_mut();
        buffer.remove_all_memory();
        buffer.append_memory(memory);
    }
    let map = buffer
        .map_readable()
        .map_err(|_| jpeg::Malformed::Truncated)?;
    let picture = jpeg::check(&map)?;
    drop(map);
    Ok((buffer, picture))
}
