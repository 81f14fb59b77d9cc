//! The pipeline from one stream of a port to its feed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gst::prelude::*;

use crate::relay::frame::Codec;
use crate::relay::stream::Stream;

/// `camrelaysrc ! (parser) ! appsink`: one thread, and nothing is decoded. Ends
/// when it is dropped.
pub struct Branch {
    pipeline: gst::Pipeline,
    /// What the parser is for.
    pub codec: Codec,
    failure: Arc<Mutex<Option<String>>>,
}

/// Which stream a branch reads.
pub struct Origin<'a> {
    /// The address that the port listens on, as it was opened.
    pub port: SocketAddr,
    /// How long past its travel time a frame may take to arrive.
    pub latency: Duration,
    /// The camera's name.
    pub camera: &'a str,
    /// The stream's number.
    pub number: u16,
}

impl Branch {
    /// Starts to read.
    pub fn start(origin: &Origin, codec: Codec, stream: &Arc<Stream>) -> anyhow::Result<Self> {
        let pipeline = gst::Pipeline::new();
        // Feeds count time on this clock.
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        let source = gst::ElementFactory::make("camrelaysrc")
            .property("address", origin.port.ip().to_string())
            .property("port", u32::from(origin.port.port()))
            .property("camera", origin.camera)
            .property("stream", u32::from(origin.number))
            .property("latency", origin.latency.as_millis() as u32)
            .build()?;
        stream.comes_from(&source);
        let mut elements = vec![source];
        elements.extend(parser(&codec)?);
        elements.push(stream.sink().upcast());
        pipeline.add_many(&elements)?;
        gst::Element::link_many(&elements)?;

        let failure = Arc::new(Mutex::new(None));
        let failed = failure.clone();
        let bus = pipeline.bus().expect("every pipeline has a bus");
        bus.set_sync_handler(move |_, message| {
            let text = match message.view() {
                gst::MessageView::Error(error) => error.error().to_string(),
                gst::MessageView::Eos(_) => "the stream ended".to_owned(),
                _ => return gst::BusSyncReply::Drop,
            };
            failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(text);
            gst::BusSyncReply::Drop
        });
        let branch = Self {
            pipeline,
            codec,
            failure,
        };
        branch.pipeline.set_state(gst::State::Playing)?;
        stream.request_key();
        Ok(branch)
    }

    /// What stopped it, if anything did.
    pub fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Branch {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// What makes whole access units with all that a decoder needs out of a codec,
/// and holds it to the format that feeds have.
fn parser(codec: &Codec) -> anyhow::Result<Vec<gst::Element>> {
    let (parser, caps) = match codec {
        Codec::H264 => ("h264parse", "video/x-h264"),
        Codec::H265 => ("h265parse", "video/x-h265"),
        _ => return Ok(Vec::new()),
    };
    let caps = gst::Caps::builder(caps)
        .field("stream-format", "byte-stream")
        .field("alignment", "au")
        .build();
    Ok(vec![
        gst::ElementFactory::make(parser)
            .property("config-interval", -1)
            .build()?,
        gst::ElementFactory::make("capsfilter")
            .property("caps", caps)
            .build()?,
    ])
}
