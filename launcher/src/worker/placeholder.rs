//! Makes what viewers see of a camera that sends nothing any more.

use anyhow::{Context, bail};

use super::batch::{last_picture, run};
use super::draw;
use super::wire::{Coding, MAX_BODY, MAX_UNITS, Order};

/// Key frames of a coding that counts them: two in a row are told apart by their number.
const KEY_FRAMES: usize = 2;

/// The placeholder that is ordered: a JPEG, or key frames to be shown in turn.
pub fn make(order: &Order, body: Vec<u8>) -> anyhow::Result<Vec<Vec<u8>>> {
    let format = match &order.coding {
        Coding::Jpeg(format) => format,
        Coding::H264 | Coding::H265 => "I420",
    };
    let (mut picture, caps) = match body.is_empty() {
        true => grey(order, format)?,
        false => last_picture(&order.coding, format, body)?,
    };
    let info = gst_video::VideoInfo::from_caps(&caps)?;
    draw::placeholder(picture.make_mut(), &info, &order.text)?;
    encode(&order.coding, &picture, &caps)
}

/// Makes a placeholder of a placeholder, so that all that this takes is in memory.
pub fn rehearse(coding: Coding) -> anyhow::Result<()> {
    let order = Order {
        coding,
        width: 320,
        height: 240,
        text: Vec::new(),
    };
    let units = make(&order, Vec::new())?;
    make(&order, units.concat())?;
    Ok(())
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
            // Many threads would wait for each other where processors are busy.
            "x265enc key-int-max=1 tune=zerolatency speed-preset=ultrafast \
             option-string=pools=none:frame-threads=1 ! h265parse config-interval=-1 \
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

#[cfg(test)]
mod tests {
    use super::*;

    fn order(coding: Coding) -> Order {
        Order {
            coding,
            width: 320,
            height: 240,
            text: vec!["door".into()],
        }
    }

    #[test]
    fn what_is_made_can_be_decoded_and_made_into_another_one() {
        gst::init().expect("GStreamer starts");
        for coding in [Coding::H264, Coding::H265] {
            rehearse(coding.clone()).expect("it works");
            let units = make(&order(coding), Vec::new()).expect("it works");
            assert_eq!(units.len(), KEY_FRAMES);
        }
        rehearse(Coding::Jpeg("I420".into())).expect("it works");
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        gst::init().expect("GStreamer starts");
        for coding in [Coding::Jpeg("I420".into()), Coding::H264, Coding::H265] {
            assert!(make(&order(coding), vec![0; 1000]).is_err());
        }
    }
}
