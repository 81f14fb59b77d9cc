//! Runs what is there through elements until its end.

use anyhow::{Context, bail};
use gst::prelude::*;

use super::wire::Coding;

/// What running it may take.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(4);

/// The last picture in `body`, a JPEG or the access units since a key frame, as raw video of
/// that format; and its caps.
pub fn last_picture(
    coding: &Coding,
    format: &str,
    body: Vec<u8>,
) -> anyhow::Result<(gst::Buffer, gst::Caps)> {
    let (caps, decode) = match coding {
        Coding::Jpeg(_) => ("image/jpeg,framerate=30/1", "jpegdec"),
        Coding::H264 => (
            "video/x-h264,stream-format=byte-stream",
            "h264parse ! avdec_h264",
        ),
        Coding::H265 => (
            "video/x-h265,stream-format=byte-stream",
            "h265parse ! avdec_h265",
        ),
    };
    let samples = run(
        &format!("{decode} ! videoconvert ! video/x-raw,format={format}"),
        &caps.parse()?,
        [gst::Buffer::from_mut_slice(body)],
        1,
    )?;
    let last = samples.last().context("nothing can be decoded")?;
    last.buffer_owned()
        .zip(last.caps_owned())
        .context("an empty sample")
}

/// Runs buffers through elements; the last `keep` of what comes out.
pub fn run(
    elements: &str,
    caps: &gst::Caps,
    buffers: impl IntoIterator<Item = gst::Buffer>,
    keep: u32,
) -> anyhow::Result<Vec<gst::Sample>> {
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=input format=time max-bytes=0 ! {elements} \
         ! appsink name=output sync=false wait-on-eos=false drop=true max-buffers={keep}"
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| anyhow::anyhow!("no pipeline"))?;
    let pipeline = Stopped(pipeline);
    let input: Option<gst_app::AppSrc> = pipeline.0.by_name("input").and_downcast();
    let output: Option<gst_app::AppSink> = pipeline.0.by_name("output").and_downcast();
    let (input, output) = input.zip(output).context("no ends")?;
    input.set_caps(Some(caps));
    pipeline.0.set_state(gst::State::Playing)?;
    for buffer in buffers {
        input.push_buffer(buffer)?;
    }
    input.end_of_stream()?;
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let bus = pipeline.0.bus().context("no bus")?;
    let end = bus.timed_pop_filtered(PATIENCE, &ends);
    match end.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Eos(_)) => {}
        Some(gst::MessageView::Error(error)) => return Err(error.error().into()),
        _ => bail!("it takes too long"),
    }
    Ok(std::iter::from_fn(|| output.try_pull_sample(gst::ClockTime::ZERO)).collect())
}

/// A pipeline that is stopped when it is dropped.
struct Stopped(gst::Pipeline);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}
