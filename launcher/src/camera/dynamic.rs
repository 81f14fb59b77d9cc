//! Sources that say only while they run what they give: files and cameras on the network.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gst::prelude::*;

use super::build::{add, choose, element, encoder, tail};
use super::choice::{Choice, Media, Way};
use super::plan::Plan;
use super::trouble::Trouble;

/// How long, in milliseconds, packets of a network camera may come late or out of order.
const NETWORK_LATENCY: u32 = 100;

/// Frames a second of a file that is bare video, without a container that says when
/// to show a frame, where the video does not say it either.
const BARE_RATE: gst::Fraction = gst::Fraction::new_raw(25, 1);

/// Adds a media file. `bare` becomes true when it has no container.
pub fn attach_file(
    pipeline: &gst::Pipeline,
    sink: &gst::Element,
    path: &Path,
    plan: &Plan,
    bare: Arc<AtomicBool>,
) -> Result<(), Trouble> {
    if !path.exists() {
        return Err(Trouble::Failed(format!(
            "there is no file {}",
            path.display()
        )));
    }
    let source = element("filesrc")?;
    source.set_property("location", path.to_string_lossy().as_ref());
    let parser = element("parsebin")?;
    for element in [&source, &parser] {
        add(pipeline, element)?;
    }
    source
        .link(&parser)
        .map_err(|error| Trouble::Failed(error.to_string()))?;
    parser.connect_pad_added(move |parser, pad| {
        let Some(parser) = parser.downcast_ref::<gst::Bin>() else {
            return;
        };
        let demuxes =
            parser.iterate_recurse().into_iter().flatten().any(
                |part| matches!(part.metadata("klass"), Some(klass) if klass.contains("Demux")),
            );
        if !demuxes {
            bare.store(true, Ordering::Relaxed);
            stamp(pad);
        }
    });
    follow(pipeline, &parser, sink, encoder(plan)?);
    Ok(())
}

/// Gives frames that have none the times to show them at, evenly spaced.
fn stamp(pad: &gst::Pad) {
    let next = AtomicU64::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let rate = pad
            .current_caps()
            .and_then(|caps| caps.structure(0)?.get::<gst::Fraction>("framerate").ok())
            .filter(|rate| rate.numer() > 0 && rate.denom() > 0)
            .unwrap_or(BARE_RATE);
        if let Some(buffer) = info.buffer_mut() {
            let count = next.fetch_add(1, Ordering::Relaxed);
            let buffer = buffer.make_mut();
            let (numer, denom) = (rate.numer() as u64, rate.denom() as u64);
            let time = |frame: u64| gst::ClockTime::SECOND.mul_div_floor(frame * denom, numer);
            buffer.set_pts(time(count));
            buffer.set_dts(time(count));
            buffer.set_duration(time(1));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Adds a camera that speaks RTSP.
pub fn attach_rtsp(
    pipeline: &gst::Pipeline,
    sink: &gst::Element,
    uri: &str,
    plan: &Plan,
) -> Result<(), Trouble> {
    let source = element("rtspsrc")?;
    source.set_property("location", uri);
    source.set_property("latency", NETWORK_LATENCY);
    if uri.starts_with("rtsp://") {
        // One connection passes every firewall; rtspu:// asks for UDP.
        source.set_property_from_str("protocols", "tcp");
    }
    source.connect("select-stream", false, |values| {
        let caps = values
            .get(2)
            .and_then(|value| value.get::<gst::Caps>().ok());
        let is_video = caps.is_some_and(|caps| is_video(&caps));
        Some(is_video.to_value())
    });
    add(pipeline, &source)?;
    follow(pipeline, &source, sink, encoder(plan)?);
    Ok(())
}

/// Decodes what `pad` gives, then encodes it.
pub fn decode(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    sink: &gst::Element,
    encoder: Option<gst::Element>,
) -> Result<(), Trouble> {
    let decoder = element("decodebin")?;
    add(pipeline, &decoder)?;
    follow(pipeline, &decoder, sink, encoder);
    let input = decoder
        .static_pad("sink")
        .expect("decodebin has a pad 'sink'");
    pad.link(&input)
        .map_err(|error| Trouble::Failed(error.to_string()))?;
    decoder
        .sync_state_with_parent()
        .map_err(|error| Trouble::Failed(error.to_string()))
}

/// Links the first video pad that `element` comes to have; what cannot be, becomes
/// an error on the bus.
fn follow(
    pipeline: &gst::Pipeline,
    element: &gst::Element,
    sink: &gst::Element,
    encoder: Option<gst::Element>,
) {
    let weak = pipeline.downgrade();
    let found = Arc::new(AtomicBool::new(false));
    let taken = found.clone();
    let sink = sink.clone();
    element.connect_pad_added(move |element, pad| {
        let Some(pipeline) = weak.upgrade() else {
            return;
        };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        if !is_video(&caps) || taken.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(trouble) = link(&pipeline, pad, &caps, &sink, encoder.clone()) {
            let Trouble::Failed(why) = trouble else {
                return;
            };
            gst::element_error!(element, gst::StreamError::Format, ["{why}"]);
        }
    });
    element.connect_no_more_pads(move |element| {
        if !found.load(Ordering::Relaxed) {
            gst::element_error!(
                element,
                gst::StreamError::TypeNotFound,
                ["there is no video in it"]
            );
        }
    });
}

fn link(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    caps: &gst::Caps,
    sink: &gst::Element,
    encoder: Option<gst::Element>,
) -> Result<(), Trouble> {
    if let Some(depayloader) = depayloader(caps) {
        let depayloader = element(depayloader)?;
        add(pipeline, &depayloader)?;
        let input = depayloader
            .static_pad("sink")
            .expect("a depayloader has a pad 'sink'");
        pad.link(&input)
            .map_err(|error| Trouble::Failed(error.to_string()))?;
        let output = depayloader
            .static_pad("src")
            .expect("a depayloader has a pad 'src'");
        let caps = output.query_caps(None);
        link(pipeline, &output, &caps, sink, encoder)?;
        return depayloader
            .sync_state_with_parent()
            .map_err(|error| Trouble::Failed(error.to_string()));
    }
    let mut choice = choose(caps, encoder.as_ref())?;
    let other = caps
        .iter()
        .all(|structure| Media::of(structure) == Media::Other);
    if other && encoder.is_none() {
        choice = Choice {
            filter: None,
            way: Way::Decode,
        };
    }
    // What a pad has now need not be what it has later.
    choice.filter = None;
    tail(pipeline, pad, sink, choice, encoder)
}

fn is_video(caps: &gst::Caps) -> bool {
    caps.iter().any(|structure| {
        let name = structure.name();
        name.starts_with("video/")
            || name == "image/jpeg"
            || structure.get::<&str>("media") == Ok("video")
    })
}

/// What takes RTP apart that is sent on as it is.
fn depayloader(caps: &gst::Caps) -> Option<&'static str> {
    let structure = caps.structure(0)?;
    if structure.name() != "application/x-rtp" {
        return None;
    }
    match structure.get::<&str>("encoding-name") {
        Ok("JPEG") => Some("rtpjpegdepay"),
        Ok("H264") => Some("rtph264depay"),
        Ok("H265") => Some("rtph265depay"),
        _ => None,
    }
}
