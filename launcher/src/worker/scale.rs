//! Makes JPEGs smaller.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::Context;
use gst::prelude::*;

/// Pipelines that are kept, each for one size.
const KEPT: usize = 4;
/// What one picture may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between the times of pictures, which mean nothing.
const STEP: gst::ClockTime = gst::ClockTime::from_mseconds(33);

/// Makes pictures smaller, one after the other.
#[derive(Default)]
pub struct Scaler(VecDeque<Pipeline>);

/// From JPEGs of any size to JPEGs of one.
struct Pipeline {
    size: (u32, u32),
    pipeline: gst::Pipeline,
    input: gst_app::AppSrc,
    /// What comes out; `None`: it was dropped.
    output: Receiver<Option<gst::Sample>>,
    next: gst::ClockTime,
}

impl Scaler {
    /// That picture with these pixels in a line and lines.
    pub fn scale(&mut self, jpeg: Vec<u8>, width: u32, height: u32) -> anyhow::Result<Vec<u8>> {
        let size = (width, height);
        let known = self.0.iter().position(|one| one.size == size);
        let mut pipeline = match known.and_then(|at| self.0.remove(at)) {
            Some(pipeline) => pipeline,
            None => Pipeline::start(size)?,
        };
        let scaled = pipeline.scale(jpeg)?;
        self.0.truncate(KEPT - 1);
        self.0.push_front(pipeline);
        Ok(scaled)
    }
}

impl Pipeline {
    fn start(size: (u32, u32)) -> anyhow::Result<Self> {
        let (width, height) = size;
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=input format=time max-bytes=0 caps=image/jpeg,framerate=30/1 \
             ! jpegdec max-errors=-1 ! videoconvertscale \
             ! video/x-raw,format=I420,width={width},height={height},pixel-aspect-ratio=1/1 \
             ! jpegenc quality=80 ! appsink name=output sync=false"
        ))
        .context("an element to decode or to encode JPEG is missing")?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow::anyhow!("no pipeline"))?;
        let input = pipeline.by_name("input").and_downcast();
        let output = pipeline.by_name("output").and_downcast();
        let (input, end): (_, gst_app::AppSink) = input.zip(output).context("no ends")?;
        let (sender, output) = channel();
        let dropped = sender.clone();
        end.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |end| {
                    let sample = end.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    let sent = sender.send(Some(sample));
                    sent.map(|()| gst::FlowSuccess::Ok)
                        .map_err(|_| gst::FlowError::Eos)
                })
                .build(),
        );
        pipeline
            .bus()
            .context("no bus")?
            .set_sync_handler(move |_, message| {
                // Of a picture that it drops a decoder says so as the quality of service.
                if let gst::MessageView::Error(_) | gst::MessageView::Qos(_) = message.view() {
                    let _ = dropped.send(None);
                }
                gst::BusSyncReply::Drop
            });
        let started = Self {
            size,
            pipeline,
            input,
            output,
            next: gst::ClockTime::ZERO,
        };
        started.pipeline.set_state(gst::State::Playing)?;
        Ok(started)
    }

    fn scale(&mut self, jpeg: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let mut buffer = gst::Buffer::from_mut_slice(jpeg);
        buffer.get_mut().context("a new buffer")?.set_pts(self.next);
        self.next += STEP;
        self.input.push_buffer(buffer)?;
        let sample = self.output.recv_timeout(PATIENCE);
        let sample = sample.context("it takes too long to decode")?;
        let sample = sample.context("it cannot be decoded")?;
        let scaled = sample.buffer().context("an empty sample")?;
        Ok(scaled.map_readable()?.to_vec())
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    use crate::relay::jpeg::check;
    use crate::relay::mutation::Mutation;

    /// A picture in such a format of raw video.
    pub fn picture(format: &str, width: u32, height: u32) -> Vec<u8> {
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc num-buffers=1 ! video/x-raw,format={format},width={width},height={height} \
             ! jpegenc ! appsink name=end"
        ));
        let pipeline = pipeline.expect("good text").downcast::<gst::Pipeline>();
        let pipeline = pipeline.expect("a pipeline");
        let end = pipeline.by_name("end").and_downcast::<gst_app::AppSink>();
        pipeline.set_state(gst::State::Playing).expect("it starts");
        let sample = end.expect("an appsink").pull_sample().expect("a picture");
        pipeline.set_state(gst::State::Null).expect("it stops");
        let buffer = sample.buffer().expect("a picture");
        buffer.map_readable().expect("memory").to_vec()
    }

    #[test]
    fn pictures_of_any_kind_are_made_smaller() {
        gst::init().expect("GStreamer starts");
        let mut scaler = Scaler::default();
        for round in 0..2 {
            for (format, width, height) in [
                ("I420", 1280, 720),
                ("Y42B", 1280, 720),
                ("Y444", 333, 241),
                ("GRAY8", 640, 480),
                ("I420", 4096, 16),
                ("I420", 640, 480),
            ] {
                let what = format!("{format} {width}x{height}, round {round}");
                let whole = picture(format, width, height);
                let height = (height * 320 / width).max(1);
                let scaled = scaler.scale(whole, 320, height).expect(&what);
                let picture = check(&scaled).expect(&what);
                let size = (u32::from(picture.width), u32::from(picture.height));
                assert_eq!(size, (320, height), "{what}");
            }
        }
        assert!(scaler.0.len() <= KEPT);
    }

    #[test]
    fn damaged_pictures_are_made_smaller_or_refused() {
        gst::init().expect("GStreamer starts");
        let mut mutation = Mutation::new();
        let mut scaler = Scaler::default();
        let whole = picture("I420", 640, 480);
        let mut refused = 0;
        for _ in 0..300 {
            let mut damaged = whole.clone();
            mutation.apply(&mut damaged);
            if check(&damaged).is_ok() {
                refused += u32::from(scaler.scale(damaged, 320, 240).is_err());
            }
        }
        println!("{refused} refused");
        scaler.scale(whole, 320, 240).expect("a good one");
    }

    #[test]
    fn what_cannot_be_decoded_costs_itself_only() {
        gst::init().expect("GStreamer starts");
        let mut scaler = Scaler::default();
        let whole = picture("I420", 640, 480);
        // It has 12 bits a sample now, which nobody decodes.
        let mut broken = whole.clone();
        let frame = broken.windows(2).position(|two| two == [0xff, 0xc0]);
        broken[frame.expect("it has one") + 4] = 12;
        for _ in 0..3 {
            assert!(scaler.scale(broken.clone(), 320, 240).is_err());
            scaler.scale(whole.clone(), 320, 240).expect("a good one");
        }
    }
}
