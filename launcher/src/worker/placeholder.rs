//! Makes what viewers see of a camera that sends nothing any more.

use anyhow::{Context, bail};
use gst::prelude::*;

use super::draw;
use super::wire::{Coding, MAX_BODY, MAX_UNITS, Order};

/// What decoding the last picture may take.
const DECODING: gst::ClockTime = gst::ClockTime::from_seconds(4);
/// Key frames of a coding that counts them: two in a row are told apart by their number.
const KEY_FRAMES: usize = 2;

/// The placeholder that is ordered: a JPEG, or key frames to be shown in turn.
pub fn make(order: &Order, body: Vec<u8>) -> anyhow::Result<Vec<Vec<u8>>> {
    let format = match &order.coding {
        Coding::Jpeg(format) => format,
        Coding::H264 | Coding::H265 => "I420",
    };
    let picture = match body.is_empty() {
        true => grey(order, format),
        false => decode(&order.coding, format, body),
    };
    let (mut picture, caps) = picture.or_else(|_| grey(order, format))?;
    let info = gst_video::VideoInfo::from_caps(&caps)?;
    draw::placeholder(picture.make_mut(), &info, &order.text)?;
    encode(&order.coding, &picture, &caps)
}

/// The last picture in `body`, and its caps.
fn decode(
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

/// A plain picture of the size that is ordered, and its caps.
fn grey(order: &Order, format: &str) -> anyhow::Result<(gst::Buffer, gst::Caps)> {
    if !(16..=4096).contains(&order.width) || !(16..=4096).contains(&order.height) {
        bail!("no placeholder has {}x{} pixels", order.width, order.height);
    }
    let format: gst_video::VideoFormat = format.parse().ok().context("no such format")?;
    let info = gst_video::VideoInfo::builder(format, order.width, order.height)
        .fps(gst::Fraction::new(30, 1))
        .build()?;
    let bytes = vec![0x80_u8; info.size()];
    Ok((gst::Buffer::from_mut_slice(bytes), info.to_caps()?))
}

fn encode(
    coding: &Coding,
    picture: &gst::Buffer,
    caps: &gst::Caps,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let (encode, count) = match coding {
        Coding::Jpeg(_) => ("jpegenc quality=75", 1),
        Coding::H264 => (
            "openh264enc gop-size=1 bitrate=2000000 ! h264parse config-interval=-1 \
             ! video/x-h264,stream-format=byte-stream,alignment=au",
            KEY_FRAMES,
        ),
        Coding::H265 => (
            "x265enc key-int-max=1 tune=zerolatency ! h265parse config-interval=-1 \
             ! video/x-h265,stream-format=byte-stream,alignment=au",
            KEY_FRAMES,
        ),
    };
    let pictures: Vec<_> = (0..count as u64)
        .map(|number| {
            let mut picture = picture.copy();
            let writable = picture.make_mut();
            writable.set_pts(number * gst::ClockTime::SECOND);
            writable.set_dts(gst::ClockTime::NONE);
            picture
        })
        .collect();
    let mut caps = caps.clone();
    caps.make_mut().set("framerate", gst::Fraction::new(30, 1));
    let samples = run(encode, &caps, pictures, MAX_UNITS as u32)?;
    let units: Vec<_> = samples
        .iter()
        .filter_map(|sample| Some(sample.buffer()?.map_readable().ok()?.to_vec()))
        .collect();
    let bytes: usize = units.iter().map(Vec::len).sum();
    if units.is_empty() || bytes > MAX_BODY {
        bail!("nothing was encoded");
    }
    Ok(units)
}

/// Runs buffers through elements; the last `keep` of what comes out.
fn run(
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
    let end = bus.timed_pop_filtered(DECODING, &ends);
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
