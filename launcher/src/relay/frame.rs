//! One frame in the relay, and what it is coded in.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::jpeg;

/// What a stream is coded in, as far as the relay treats codecs differently.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Motion JPEG: every frame a picture of its own.
    Jpeg,
    /// H.264, as whole access units in byte-stream format.
    H264,
    /// H.265, as whole access units in byte-stream format.
    H265,
    /// Opus: every packet on its own, near enough.
    Opus,
    /// Anything else, by its media type.
    Other(Arc<str>),
}

impl Codec {
    /// The codec of a stream with these caps.
    pub fn of(caps: &gst::CapsRef) -> Self {
        match caps.structure(0).map(|caps| caps.name().as_str()) {
            Some("image/jpeg") => Self::Jpeg,
            Some("video/x-h264") => Self::H264,
            Some("video/x-h265") => Self::H265,
            Some("audio/x-opus") => Self::Opus,
            other => Self::Other(other.unwrap_or("nothing").into()),
        }
    }

    /// Whether frames build on others, so that a viewer must start at a key frame.
    pub fn is_inter(&self) -> bool {
        match self {
            Self::Jpeg | Self::Opus => false,
            Self::H264 | Self::H265 => true,
            Self::Other(name) => name.starts_with("video/") && &**name != "video/x-raw",
        }
    }

    /// Whether this is sound rather than pictures.
    pub fn is_audio(&self) -> bool {
        match self {
            Self::Jpeg | Self::H264 | Self::H265 => false,
            Self::Opus => true,
            Self::Other(name) => name.starts_with("audio/"),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::H264 => "H.264",
            Self::H265 => "H.265",
            Self::Opus => "Opus",
            Self::Other(name) => name,
        })
    }
}

/// One access unit as the relay holds it: shared by everybody who shows it, never copied.
#[derive(Debug)]
pub struct Frame {
    /// The bytes. Its own timestamps mean nothing here.
    pub buffer: gst::Buffer,
    /// What the bytes are.
    pub caps: gst::Caps,
    /// The codec of `caps`.
    pub codec: Codec,
    /// When it was captured, on the system clock of GStreamer (monotonic, nanoseconds), as if the path
    /// took no time at its fastest: evenly spaced, whatever is known of the path.
    pub captured: gst::ClockTime,
    /// When the picture that it shows was captured, on the same clock: before `captured` by
    /// the time that the path takes, and where it is a placeholder, or a viewer is to catch up
    /// with it.
    pub pictured: gst::ClockTime,
    /// When it was captured, on the sender's wall clock where that is known, else on ours.
    pub wall: SystemTime,
    /// When it came to the relay.
    pub arrived: Instant,
    /// Frames of its stream before it since the relay started, placeholders included.
    pub sequence: u64,
    /// Whether the relay made it, of the last picture of a camera that sends none any more.
    pub placeholder: bool,
    /// Whether a viewer can start here.
    pub key: bool,
    /// What the check found; there when `codec` is [`Codec::Jpeg`].
    pub jpeg: Option<jpeg::Picture>,
}

impl Frame {
    /// How old its picture is, at `now` on the clock of [`Frame::captured`].
    pub fn age(&self, now: gst::ClockTime) -> Duration {
        now.saturating_sub(self.pictured).into()
    }

    /// The same as if it was captured at that time; its picture is as old as it was.
    pub fn captured_at(&self, captured: gst::ClockTime) -> Self {
        Self {
            buffer: self.buffer.clone(),
            caps: self.caps.clone(),
            codec: self.codec.clone(),
            captured,
            ..*self
        }
    }

    /// The same picture with the typical Huffman tables, for RTP.
    pub fn recoded(&self) -> Result<Self, jpeg::Unfit> {
        let bytes = self.buffer.map_readable();
        let recoded = jpeg::recode(&bytes.map_err(|_| jpeg::Unfit::Data)?)?;
        let picture = jpeg::check(&recoded).map_err(|_| jpeg::Unfit::Data)?;
        Ok(Self {
            buffer: gst::Buffer::from_mut_slice(recoded),
            caps: self.caps.clone(),
            codec: self.codec.clone(),
            jpeg: Some(picture),
            ..*self
        })
    }

    /// Width and height in pixels, where they are known.
    pub fn size(&self) -> Option<(u32, u32)> {
        if let Some(picture) = self.jpeg {
            return Some((picture.width.into(), picture.height.into()));
        }
        let caps = self.caps.structure(0)?;
        let side = |name| u32::try_from(caps.get::<i32>(name).ok()?).ok();
        Some((side("width")?, side("height")?))
    }
}

#[cfg(test)]
impl Frame {
    /// An empty key frame of that codec, captured at that time.
    pub fn for_test(codec: Codec, captured: gst::ClockTime) -> Self {
        gst::init().expect("GStreamer starts");
        Self {
            buffer: gst::Buffer::new(),
            caps: gst::Caps::new_empty_simple("test/caps"),
            codec,
            captured,
            pictured: captured,
            wall: SystemTime::now(),
            arrived: Instant::now(),
            sequence: 0,
            placeholder: false,
            key: true,
            jpeg: None,
        }
    }
}
