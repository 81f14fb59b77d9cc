//! What is known of the streams of one camera on the receiving side.

use std::collections::BTreeMap;
use std::str::FromStr;

use camrelay_protocol::{MAX_STREAMS, ReceivedFrame};

use super::queue::CameraFrame;

/// Deepest nesting of lists and arrays in caps that come from outside.
const MAX_NESTING: usize = 8;

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
        let caps = parse_caps(text)?;
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

/// Reads caps that come from outside: fixed ones, of system memory, nested no deeper than
/// the parser, which recurses, can take.
fn parse_caps(text: &str) -> Result<gst::Caps, String> {
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'{' | b'<' | b'[' => depth += 1,
            b'}' | b'>' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err("its caps are nested too deeply".into());
        }
    }
    let caps = gst::Caps::from_str(text).map_err(|_| format!("its caps cannot be read: {text}"))?;
    let features = caps.features(0);
    let in_memory = features
        .is_none_or(|features| features.is_equal(gst::CAPS_FEATURES_MEMORY_SYSTEM_MEMORY.as_ref()));
    if caps.is_fixed() && in_memory {
        Ok(caps)
    } else {
        Err(format!("its caps do not say one thing: {text}"))
    }
}
