//! From a frame to RTP packets: once per frame, whoever watches.
//!
//! Only the headers of RTP itself differ between viewers (see [`super::track`]); what
//! follows them is shared, and the frame's bytes are never copied.

pub mod cut;
pub mod jpeg;
pub mod units;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::cut::Cut;
use crate::relay::frame::{Codec, Frame};
use crate::relay::jpeg::Misfit;

/// Frames whose packets are kept for the viewers that have yet to send them.
const KEPT: usize = 2;
/// What RTP cannot carry is told of once in this time.
const TELLING: Duration = Duration::from_secs(10);

/// How RTP carries a codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The kind of media in a description.
    pub media: &'static str,
    /// Its name in a description, `a=rtpmap`.
    pub encoding: &'static str,
    /// Ticks of its RTP clock in a second.
    pub rate: u32,
    /// The payload type that is always its own (RFC 3551, section 6), if it has one.
    pub payload_type: Option<u8>,
}

/// How RTP carries that codec; `None` where RTSP players know no way.
pub fn format(codec: &Codec) -> Option<Format> {
    let video = |encoding, payload_type| Format {
        media: "video",
        encoding,
        rate: 90_000,
        payload_type,
    };
    Some(match codec {
        Codec::Jpeg => video("JPEG/90000", Some(26)),
        Codec::H264 => video("H264/90000", None),
        Codec::H265 => video("H265/90000", None),
        Codec::Opus => Format {
            media: "audio",
            // Always two channels, whatever it carries (RFC 7587, section 7).
            encoding: "opus/48000/2",
            rate: 48_000,
            payload_type: None,
        },
        Codec::Other(_) => return None,
    })
}

/// The format parameters of a description, `a=fmtp`, that `start` needs.
pub fn parameters(start: &Frame) -> Option<String> {
    let data = start.buffer.map_readable().ok()?;
    match start.codec {
        Codec::H264 => Some(units::h264_parameters(&data)),
        Codec::H265 => Some(units::h265_parameters(&data)),
        _ => None,
    }
}

/// What follows the RTP headers of one frame's packets.
pub struct Packets {
    data: gst::MappedBuffer<gst::buffer::Readable>,
    cut: Cut,
    /// Whether the last packet is marked as the end of the frame.
    marked: bool,
}

impl Packets {
    /// The packets of a frame; `None` where RTP cannot carry it.
    pub fn of(frame: &Frame) -> Option<Self> {
        let recoded = match frame.jpeg.and_then(|picture| picture.misfit) {
            None => None,
            Some(Misfit::Huffman) => Some(frame.recoded().ok()?),
            Some(_) => return None,
        };
        let frame = recoded.as_ref().unwrap_or(frame);
        let data = frame.buffer.clone().into_mapped_buffer_readable().ok()?;
        let cut = match frame.codec {
            Codec::Jpeg => jpeg::cut(&data)?,
            Codec::H264 => units::cut_h264(&data),
            Codec::H265 => units::cut_h265(&data),
            Codec::Opus => {
                let mut cut = Cut::default();
                cut.add(&[], 0..data.len());
                cut
            }
            Codec::Other(_) => return None,
        };
        Some(Self {
            data,
            cut,
            marked: !frame.codec.is_audio(),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.cut.len()
    }

    /// What they hold of the frame, in bytes.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Whether the last one ends a picture and is marked so (RFC 3550, section 5.1).
    pub fn marked(&self) -> bool {
        self.marked
    }

    /// What follows the RTP header of each: the payload's header, and the frame's bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.cut.iter(&self.data)
    }
}

/// A frame and its packets; `None` where RTP cannot carry it.
type Kept = (Arc<Frame>, Option<Arc<Packets>>);

/// The packets of a stream's newest frames, so that they are cut once.
pub struct Cutter {
    camera: Arc<str>,
    /// The newest first.
    kept: Mutex<VecDeque<Kept>>,
    /// Whether the frame before was one that RTP cannot carry.
    misfit: AtomicBool,
    /// When the log was told of that last.
    told: Mutex<Option<Instant>>,
}

impl Cutter {
    /// For a stream of that camera.
    pub fn new(camera: &str) -> Self {
        Self {
            camera: camera.into(),
            kept: Mutex::default(),
            misfit: AtomicBool::new(false),
            told: Mutex::default(),
        }
    }

    /// The packets of a frame; `None` where RTP cannot carry it, which the log says when
    /// it begins and when it ends.
    pub fn packets(&self, frame: &Arc<Frame>) -> Option<Arc<Packets>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, packets)) = kept.iter().find(|(known, _)| Arc::ptr_eq(known, frame)) {
            return packets.clone();
        }
        let packets = Packets::of(frame).map(Arc::new);
        kept.truncate(KEPT - 1);
        kept.push_front((frame.clone(), packets.clone()));
        drop(kept);
        self.tell(frame, packets.is_some());
        packets
    }

    /// Whether nothing was told for a while: a camera may change with every frame.
    fn may_tell(&self) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let may = told.is_none_or(|told| now - told > TELLING);
        if may {
            *told = Some(now);
        }
        may
    }

    fn tell(&self, frame: &Frame, fits: bool) {
        let camera = &self.camera;
        let before = self.misfit.swap(!fits, Ordering::Relaxed);
        if before != fits || !self.may_tell() {
            return;
        }
        match frame.jpeg.and_then(|picture| picture.misfit) {
            Some(misfit) if !fits && !before => tracing::warn!(
                "camera {camera}: RTSP viewers see no more pictures: RTP cannot carry its JPEG ({misfit}); {}",
                misfit.advice()
            ),
            _ if fits && before => {
                tracing::info!("camera {camera}: RTSP viewers see pictures again");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_once_and_few_are_kept() {
        gst::init().expect("GStreamer starts");
        let frames: Vec<_> = (0..KEPT + 1)
            .map(|_| {
                Arc::new(Frame {
                    buffer: gst::Buffer::from_slice([1, 2, 3]),
                    ..Frame::for_test(Codec::Opus, gst::ClockTime::ZERO)
                })
            })
            .collect();
        let cutter = Cutter::new("door");
        let first = cutter.packets(&frames[0]).expect("RTP carries it");
        let again = cutter.packets(&frames[0]).expect("RTP carries it");
        assert!(Arc::ptr_eq(&first, &again));
        for frame in &frames {
            cutter.packets(frame).expect("RTP carries it");
        }
        assert_eq!(Arc::strong_count(&first), 2, "let go");
        assert_eq!(Arc::strong_count(&frames[KEPT]), 2);
        let found: Vec<_> = first.iter().collect();
        assert_eq!(found, [(&[][..], &[1, 2, 3][..])]);
    }
}
