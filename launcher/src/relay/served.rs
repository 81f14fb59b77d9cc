//! As what a camera's pictures are sent, and why.

use super::derived::derived_size;
use super::feed::Feed;
use super::frame::{Codec, Frame};
use super::jpeg::Misfit;

impl Feed {
    /// As what RTSP viewers get its pictures, and why, in words; `None` before there are any.
    pub fn served_over_rtsp(&self) -> Option<String> {
        let frame = self.first_picture()?;
        Some(match (&frame.codec, frame.jpeg.and_then(|picture| picture.misfit)) {
            (Codec::Jpeg, Some(Misfit::Huffman)) => {
                "JPEG, its Huffman tables replaced without loss, as RTP has only the standard ones"
                    .to_owned()
            }
            (Codec::Jpeg, Some(misfit)) => match encoded(&frame) {
                Some(encoded) => format!("{encoded}: RTP cannot carry its JPEG, {misfit}"),
                None => format!(
                    "nothing: RTP cannot carry its JPEG, {misfit}; {}",
                    misfit.advice()
                ),
            },
            (codec, _) => format!("{codec}, as it comes"),
        })
    }

    /// The same for WebRTC.
    pub fn served_over_webrtc(&self) -> Option<String> {
        let frame = self.first_picture()?;
        Some(match (&frame.codec, encoded(&frame)) {
            (Codec::H264, _) => "H.264, as it comes".to_owned(),
            (_, Some(encoded)) => format!("{encoded}: browsers take no JPEG over WebRTC"),
            (codec, None) => format!("nothing: browsers cannot be given its {codec}"),
        })
    }

    fn first_picture(&self) -> Option<std::sync::Arc<Frame>> {
        let streams = self.streams();
        let mut frames = streams.iter().filter_map(|(_, stream)| stream.start());
        frames.find(|frame| !frame.codec.is_audio())
    }
}

/// As what a JPEG is encoded, where it can be.
fn encoded(frame: &Frame) -> Option<String> {
    let (width, height) = derived_size(frame.jpeg.as_ref()?)?;
    Some(format!(
        "H.264 {width}x{height}, encoded by the relay while it is watched"
    ))
}
