//! What is known of the streams of one camera on the receiving side.

use std::collections::BTreeMap;

use camrelay_protocol::{MAX_STREAMS, ReceivedFrame};

use super::caps;
use super::queue::CameraFrame;

/// The streams of one camera, by number.
#[derive(Default)]
pub(super) struct Streams(BTreeMap<u16, Stream>);

struct Stream {
    current: Generation,
    previous: Option<Generation>,
}

struct Generation {
    number: u8,
    text: String,
    caps: gst::Caps,
}

impl Streams {
    /// Takes the caps of a new generation. Returns them parsed where they are new.
    ///
    /// # Errors
    /// Why they are refused; frames of that generation then are, too.
    pub(super) fn set_caps(
        &mut self,
        stream: u16,
        generation: u8,
        text: &str,
    ) -> Result<Option<gst::Caps>, String> {
        if stream >= MAX_STREAMS {
            return Err(format!("there is no stream {stream}"));
        }
        let caps = caps::parse(text)?;
        let current = Generation {
            number: generation,
            text: text.into(),
            caps: caps.clone(),
        };
        let old = self.0.remove(&stream);
        let known = old.as_ref().is_some_and(|old| old.current.caps == caps);
        let previous = old.and_then(|old| {
            if old.current.number == generation {
                old.previous
            } else {
                Some(old.current)
            }
        });
        self.0.insert(stream, Stream { current, previous });
        Ok((!known).then_some(caps))
    }

    /// A received frame with its caps; `None` where they are not known.
    pub(super) fn frame(&self, received: ReceivedFrame) -> Option<CameraFrame> {
        let stream = self.0.get(&received.stream)?;
        let generation = [Some(&stream.current), stream.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|generation| generation.number == received.caps_generation)?;
        Some(CameraFrame {
            frame: received.frame,
            caps: generation.caps.clone(),
        })
    }

    /// Every stream and its present caps, as text and parsed.
    pub(super) fn caps(&self) -> impl Iterator<Item = (u16, &str, &gst::Caps)> {
        let all = self.0.iter();
        all.map(|(number, stream)| (*number, &*stream.current.text, &stream.current.caps))
    }
}

#[cfg(test)]
mod tests {
    use camrelay_protocol::{Frame, FrameFlags, Time};

    use super::*;

    fn received(stream: u16, generation: u8) -> ReceivedFrame {
        ReceivedFrame {
            stream,
            sequence: 0,
            caps_generation: generation,
            frame: Frame {
                data: vec![1].into(),
                capture: Time::default(),
                dts_offset: 0,
                duration: None,
                wall: None,
                flags: FrameFlags::default(),
            },
        }
    }

    #[test]
    fn frames_get_the_caps_of_their_generation() {
        gst::init().unwrap();
        let mut streams = Streams::default();
        assert!(streams.frame(received(0, 7)).is_none());
        assert!(streams.set_caps(0, 7, "image/jpeg").unwrap().is_some());
        assert!(streams.set_caps(0, 8, "video/x-h264").unwrap().is_some());
        // Under way since before the change.
        let before = streams.frame(received(0, 7)).unwrap();
        assert_eq!(before.caps.to_string(), "image/jpeg");
        let after = streams.frame(received(0, 8)).unwrap();
        assert_eq!(after.caps.to_string(), "video/x-h264");
        assert!(streams.frame(received(0, 6)).is_none());
        assert!(streams.frame(received(1, 8)).is_none());
    }

    #[test]
    fn the_same_caps_again_are_no_news() {
        gst::init().unwrap();
        let mut streams = Streams::default();
        assert!(streams.set_caps(0, 0, "image/jpeg").unwrap().is_some());
        assert!(streams.set_caps(0, 0, "image/jpeg").unwrap().is_none());
        assert!(streams.set_caps(0, 1, "image/jpeg").unwrap().is_none());
        assert!(streams.frame(received(0, 1)).is_some());
        assert!(streams.set_caps(0, 2, "image/png").unwrap().is_some());
    }

    #[test]
    fn a_camera_has_no_more_streams_than_the_protocol() {
        gst::init().unwrap();
        let mut streams = Streams::default();
        assert!(streams.set_caps(MAX_STREAMS - 1, 0, "image/jpeg").is_ok());
        assert!(streams.set_caps(MAX_STREAMS, 0, "image/jpeg").is_err());
    }
}
