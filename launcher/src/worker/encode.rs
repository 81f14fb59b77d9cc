//! Encodes the JPEGs of a camera, or its own H.264 once more, as H.264.

use anyhow::Context;
use gst::prelude::*;

use super::Output;
use super::wire::{Encoding, Reply};

/// A pipeline from pictures to access units, which it sends to the output.
pub struct Encoder {
    pipeline: gst::Pipeline,
    input: gst_app::AppSrc,
    output: gst_app::AppSink,
}

impl Encoder {
    /// For H.264 like that.
    pub fn start(encoding: &Encoding, replies: Output) -> anyhow::Result<Self> {
        let (caps, decode) = match encoding.inter {
            // Threads of frames would each keep one back.
            true => (
                "video/x-h264,stream-format=byte-stream,alignment=au,framerate=30/1",
                "h264parse ! avdec_h264 max-threads=1",
            ),
            false => ("image/jpeg,framerate=30/1", "jpegdec max-errors=-1"),
        };
        let Encoding {
            width,
            height,
            bits,
            ..
        } = encoding;
        let strict = match encoding.strict {
            true => format!("rate-control=bitrate max-bitrate={bits} enable-frame-skip=true"),
            false => String::new(),
        };
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=input format=time block=true max-buffers=1 max-bytes=0 caps={caps} \
             ! {decode} ! videoconvertscale \
             ! video/x-raw,format=I420,width={width},height={height},pixel-aspect-ratio=1/1 \
             ! openh264enc bitrate={bits} gop-size=300 complexity=low usage-type=camera {strict} \
             ! h264parse config-interval=-1 \
             ! video/x-h264,stream-format=byte-stream,alignment=au \
             ! appsink name=output sync=false"
        ))
        .context("an element to decode JPEG or to encode H.264 is missing")?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow::anyhow!("no pipeline"))?;
        let input = pipeline.by_name("input").and_downcast();
        let output = pipeline.by_name("output").and_downcast();
        let (input, output): (gst_app::AppSrc, gst_app::AppSink) =
            input.zip(output).context("no ends")?;
        output.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    let unit = sample.buffer().ok_or(gst::FlowError::Error)?;
                    let reply = Reply::Unit {
                        time: unit.pts().map_or(0, gst::ClockTime::nseconds),
                        key: !unit.flags().contains(gst::BufferFlags::DELTA_UNIT),
                    };
                    let bytes = unit.map_readable().map_err(|_| gst::FlowError::Error)?;
                    if replies.send(&reply, &bytes).is_err() {
                        // The relay is gone. Who waits to put pictures in would wait for ever.
                        std::process::exit(1);
                    }
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        pipeline
            .bus()
            .context("no bus")?
            .set_sync_handler(|_, message| {
                // The relay starts another worker.
                if let gst::MessageView::Error(_) = message.view() {
                    std::process::exit(1);
                }
                gst::BusSyncReply::Drop
            });
        pipeline.set_state(gst::State::Playing)?;
        Ok(Self {
            pipeline,
            input,
            output,
        })
    }

    /// Takes a picture in; waits while the one before is not begun.
    pub fn take(&self, picture: Vec<u8>, time: u64, key: bool) -> anyhow::Result<()> {
        if key {
            let pad = self.output.static_pad("sink").context("no pad")?;
            let event = gst_video::UpstreamForceKeyUnitEvent::builder();
            pad.push_event(event.all_headers(true).build());
        }
        let mut buffer = gst::Buffer::from_mut_slice(picture);
        let writable = buffer.get_mut().context("a new buffer")?;
        writable.set_pts(gst::ClockTime::from_nseconds(time));
        self.input.push_buffer(buffer)?;
        Ok(())
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
