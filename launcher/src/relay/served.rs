//! As what a camera's pictures are sent, and why.

use super::derived::derived_size;
use super::feed::Feed;
use super::frame::{Codec, Frame};
use super::jpeg::Misfit;

impl Feed {
    /// As what RTSP viewers get its pictures, and why, in words; `None` before there are any.
    /// What stands before the first comma or colon is the coding alone.
    pub fn served_over_rtsp(&self) -> Option<String> {
        let frame = self.first_picture()?;
        Some(over_rtsp(&frame))
    }

    /// The same for WebRTC.
    pub fn served_over_webrtc(&self) -> Option<String> {
        let frame = self.first_picture()?;
        Some(over_webrtc(&frame))
    }

    fn first_picture(&self) -> Option<std::sync::Arc<Frame>> {
        let streams = self.streams();
        let mut frames = streams.iter().filter_map(|(_, stream)| stream.start());
        frames.find(|frame| !frame.codec.is_audio())
    }
}

fn over_rtsp(frame: &Frame) -> String {
    match (&frame.codec, frame.jpeg.and_then(|picture| picture.misfit)) {
        (Codec::Jpeg, Some(Misfit::Huffman)) => {
            "JPEG re-coded, its Huffman tables replaced without loss: RTP has only the standard ones"
                .to_owned()
        }
        (Codec::Jpeg, Some(misfit)) => match encoded(frame) {
            Some(encoded) => format!("{encoded}: RTP cannot carry its JPEG, {misfit}"),
            None => format!(
                "nothing: RTP cannot carry its JPEG, {misfit}; {}",
                misfit.advice()
            ),
        },
        (codec, _) => format!("{codec}, as it comes"),
    }
}

fn over_webrtc(frame: &Frame) -> String {
    match (&frame.codec, encoded(frame)) {
        (Codec::H264, _) => "H.264, as it comes".to_owned(),
        (_, Some(encoded)) => format!("{encoded}: browsers take no JPEG over WebRTC"),
        (codec, None) => format!("nothing: browsers cannot be given its {codec}"),
    }
}

/// As what a JPEG is encoded, where it can be.
fn encoded(frame: &Frame) -> Option<String> {
    let (width, height) = derived_size(frame.jpeg.as_ref()?)?;
    Some(format!(
        "H.264 {width}x{height}, encoded by the relay while it is watched"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::relay::jpeg::Picture;

    fn jpeg(width: u16, height: u16, misfit: Option<Misfit>) -> Frame {
        let picture = Picture {
            width,
            height,
            misfit,
        };
        Frame {
            jpeg: Some(picture),
            ..Frame::for_test(Codec::Jpeg, gst::ClockTime::ZERO)
        }
    }

    #[test]
    fn says_as_what_pictures_are_sent_and_why() {
        let other = |codec| Frame::for_test(codec, gst::ClockTime::ZERO);
        for (frame, rtsp, webrtc) in [
            (
                jpeg(640, 480, None),
                "JPEG, as it comes",
                "H.264 640x480, encoded by the relay while it is watched: \
                 browsers take no JPEG over WebRTC",
            ),
            (
                jpeg(640, 480, Some(Misfit::Huffman)),
                "JPEG re-coded, its Huffman tables replaced without loss: \
                 RTP has only the standard ones",
                "H.264 640x480, encoded by the relay while it is watched: \
                 browsers take no JPEG over WebRTC",
            ),
            (
                jpeg(3840, 2160, Some(Misfit::Size)),
                "H.264 1920x1080, encoded by the relay while it is watched: \
                 RTP cannot carry its JPEG, wider or higher than 2040 pixels",
                "H.264 1920x1080, encoded by the relay while it is watched: \
                 browsers take no JPEG over WebRTC",
            ),
            (
                jpeg(8, 8, Some(Misfit::Sampling)),
                "nothing: RTP cannot carry its JPEG, chroma sampled neither 4:2:0 nor 4:2:2; \
                 put video/x-raw,format=I420 before its encoder, or send H.264",
                "nothing: browsers cannot be given its JPEG",
            ),
            (
                other(Codec::H264),
                "H.264, as it comes",
                "H.264, as it comes",
            ),
            (
                other(Codec::H265),
                "H.265, as it comes",
                "nothing: browsers cannot be given its H.265",
            ),
        ] {
            assert_eq!(over_rtsp(&frame), rtsp);
            assert_eq!(over_webrtc(&frame), webrtc);
        }
    }
}
