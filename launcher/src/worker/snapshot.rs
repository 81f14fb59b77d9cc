//! Makes a JPEG of the last picture of a camera that sends none.

use anyhow::Context;

use super::batch::{last_picture, run};
use super::wire::Coding;

/// The last picture in `body`, the access units since a key frame, as a JPEG.
pub fn make(coding: &Coding, body: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let (picture, caps) = last_picture(coding, "I420", body)?;
    let samples = run("jpegenc quality=85", &caps, [picture], 1)?;
    let jpeg = samples.first().and_then(|sample| sample.buffer());
    Ok(jpeg
        .context("nothing was encoded")?
        .map_readable()?
        .to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    use gst::prelude::*;

    use crate::relay::jpeg::check;

    /// Pictures as an encoder has them, all in one.
    fn encoded(encoder: &str) -> Vec<u8> {
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc num-buffers=10 ! video/x-raw,format=I420,width=320,height=240 \
             ! {encoder} ! appsink name=end sync=false"
        ));
        let pipeline = pipeline.expect("good text").downcast::<gst::Pipeline>();
        let pipeline = pipeline.expect("a pipeline");
        let end = pipeline.by_name("end").and_downcast::<gst_app::AppSink>();
        let end = end.expect("an appsink");
        pipeline.set_state(gst::State::Playing).expect("it starts");
        let samples = std::iter::from_fn(|| end.pull_sample().ok());
        let units = samples.map(|sample| {
            let buffer = sample.buffer().expect("a unit");
            buffer.map_readable().expect("memory").to_vec()
        });
        let units: Vec<_> = units.collect();
        pipeline.set_state(gst::State::Null).expect("it stops");
        assert_eq!(units.len(), 10);
        units.concat()
    }

    #[test]
    fn the_last_picture_becomes_a_jpeg() {
        gst::init().expect("GStreamer starts");
        let h264 = "openh264enc ! h264parse config-interval=-1 \
                    ! video/x-h264,stream-format=byte-stream,alignment=au";
        let h265 = "x265enc tune=zerolatency ! h265parse config-interval=-1 \
                    ! video/x-h265,stream-format=byte-stream,alignment=au";
        for (coding, encoder) in [(Coding::H264, h264), (Coding::H265, h265)] {
            let jpeg = make(&coding, encoded(encoder)).expect(encoder);
            let picture = check(&jpeg).expect(encoder);
            assert_eq!((picture.width, picture.height), (320, 240));
            assert_eq!(picture.misfit, None, "RTP can carry it");
        }
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        gst::init().expect("GStreamer starts");
        for body in [Vec::new(), vec![0; 1000], b"\0\0\0\x01\x65".to_vec()] {
            assert!(make(&Coding::H264, body).is_err());
        }
    }
}
