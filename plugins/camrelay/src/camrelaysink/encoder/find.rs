//! The encoder before a pad.

use gst::prelude::*;

/// Elements between an encoder and the sink, at most.
const FARTHEST: usize = 32;

/// The nearest video or image encoder upstream of `pad`, and its pads in and out. Nothing is
/// looked for beyond an element that has several inputs or outputs: others use it as well.
pub(super) fn encoder(pad: &gst::Pad) -> Option<(gst::Element, gst::Pad, gst::Pad)> {
    let mut pad = pad.clone();
    for _ in 0..FARTHEST {
        let output = pad.peer()?;
        if let Some(proxy) = output.downcast_ref::<gst::ProxyPad>() {
            // The boundary of a bin.
            pad = proxy.internal()?.upcast();
            continue;
        }
        let element = output.parent_element()?;
        let [input] = <[gst::Pad; 1]>::try_from(element.sink_pads()).ok()?;
        if element.num_src_pads() > 1 {
            return None;
        }
        if is_encoder(&element) {
            return Some((element, input, output));
        }
        pad = input;
    }
    None
}

fn is_encoder(element: &gst::Element) -> bool {
    let class = element
        .factory()
        .and_then(|one| one.metadata("klass").map(String::from));
    class.is_some_and(|class| {
        let has = |word| class.split('/').any(|one| one == word);
        has("Encoder") && (has("Video") || has("Image"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<String> {
        gst::init().unwrap();
        let pipeline = gst::parse::launch(text).unwrap();
        let sink = pipeline.downcast_ref::<gst::Bin>().unwrap().by_name("sink");
        let pad = sink.unwrap().static_pad("sink").unwrap();
        let (encoder, input, output) = encoder(&pad)?;
        assert_eq!(input.direction(), gst::PadDirection::Sink);
        assert_eq!(output.direction(), gst::PadDirection::Src);
        Some(encoder.factory().unwrap().name().into())
    }

    #[test]
    fn the_nearest_encoder_is_found() {
        for (text, expected) in [
            ("videotestsrc ! jpegenc ! fakesink name=sink", "jpegenc"),
            (
                "videotestsrc ! openh264enc ! queue ! h264parse ! video/x-h264 ! fakesink name=sink",
                "openh264enc",
            ),
            (
                "( videotestsrc ! jpegenc ) ! ( queue ! identity ) ! fakesink name=sink",
                "jpegenc",
            ),
        ] {
            assert_eq!(found(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_others_use_is_left_alone() {
        for text in [
            "videotestsrc ! fakesink name=sink",
            "audiotestsrc ! vorbisenc ! fakesink name=sink",
            "videotestsrc ! jpegenc ! tee name=t ! queue ! fakesink name=sink t. ! queue ! fakesink",
            "videotestsrc ! jpegenc ! avimux name=m ! fakesink name=sink audiotestsrc ! m.",
            "identity ! fakesink name=sink",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
