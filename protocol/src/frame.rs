//! Frames as the caller sees them.

use std::time::Duration;

use bytes::Bytes;

use crate::Time;

/// What a frame is, beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameFlags {
    /// Decodable without any other frame.
    pub key: bool,
    /// No other frame needs it.
    pub discardable: bool,
    /// Holds stream headers rather than a picture.
    pub header: bool,
    /// Does not continue what came before.
    pub discont: bool,
}

/// One access unit: a whole JPEG, a whole H.264 access unit, an audio packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The bytes, 1 to max-frame-size.
    pub data: Bytes,
    /// When it was captured, on this endpoint's clock.
    pub capture: Time,
    /// Capture time less decode time, in nanoseconds, where they differ.
    pub dts_offset: i64,
    /// How long it is shown, where known.
    pub duration: Option<Duration>,
    /// When it was captured, in microseconds since the Unix epoch, where known.
    pub wall: Option<u64>,
    /// What it is.
    pub flags: FrameFlags,
}

/// A frame that arrived whole.
#[derive(Clone, Debug)]
pub struct ReceivedFrame {
    /// Which stream of the camera, from 0.
    pub stream: u16,
    /// The sender's number of the frame in its stream; wraps.
    pub sequence: u32,
    /// Generation of the caps it goes with, as in [`crate::Event::Caps`].
    pub caps_generation: u8,
    /// The frame, its capture time mapped to this endpoint's clock.
    pub frame: Frame,
}

/// What becomes of frames that are not whole when a newer one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LatePolicy {
    /// The newer one waits for them, as long as their latency lasts.
    #[default]
    Ordered,
    /// They are given up at once, where the newer one can be decoded without them.
    Latest,
}

/// Why frames are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// Fragments were lost on the way and not repaired in time.
    Network,
    /// Fragments were still coming at the deadline, or a newer frame was whole before.
    Late,
    /// The sender dropped the frame before or while sending it.
    Sender,
    /// They came, but build on one that is missing.
    Undecodable,
}
