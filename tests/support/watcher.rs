//! What the tests of cameras share: a camrelaysrc that the launcher sends to.
#![allow(dead_code, reason = "no test uses all of it")]

use std::path::PathBuf;
use std::time::Duration;

use gst::prelude::*;

/// How long anything may take before a test gives up on it.
const DEADLINE: Duration = Duration::from_secs(60);

/// What listens for a camera.
pub struct Watcher {
    pipeline: gst::Pipeline,
    source: gst::Element,
    frames: gst_app::AppSink,
}

impl Watcher {
    /// Listens on a port that the system picks.
    pub fn new() -> Self {
        Self::with(&[("port", "0")])
    }

    /// Listens on the loopback address, with these properties of camrelaysrc.
    pub fn with(properties: &[(&str, &str)]) -> Self {
        gst::init().unwrap();
        gstcamrelay::plugin_register_static().unwrap();
        let source = gst::ElementFactory::make("camrelaysrc")
            .property("address", "127.0.0.1")
            .build()
            .unwrap();
        for (name, value) in properties {
            source.set_property_from_str(name, value);
        }
        let frames = gst_app::AppSink::builder().sync(false).build();
        let pipeline = gst::Pipeline::new();
        pipeline.add_many([&source, frames.upcast_ref()]).unwrap();
        source.link(&frames).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        Self {
            pipeline,
            source,
            frames,
        }
    }

    /// Where cameras reach it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.source.property::<u32>("port"))
    }

    /// The camrelaysrc.
    pub fn source(&self) -> &gst::Element {
        &self.source
    }

    /// The first warning or error that names the relay.
    #[track_caller]
    pub fn complaint(&self) -> String {
        let deadline = gst::ClockTime::try_from(DEADLINE).unwrap();
        let kinds = [gst::MessageType::Warning, gst::MessageType::Error];
        let bus = self.pipeline.bus().unwrap();
        loop {
            let message = bus.timed_pop_filtered(deadline, &kinds).expect("words");
            let words = match message.view() {
                gst::MessageView::Warning(warning) => warning.error().to_string(),
                gst::MessageView::Error(error) => error.error().to_string(),
                _ => unreachable!("only these were asked for"),
            };
            if words.contains("the relay") {
                return words;
            }
        }
    }

    /// The next frame.
    #[track_caller]
    pub fn next(&self) -> gst::Sample {
        let deadline = gst::ClockTime::try_from(DEADLINE).unwrap();
        self.frames.try_pull_sample(deadline).expect("a frame")
    }

    /// Forgets the frames that came so far.
    pub fn forget(&self) {
        while self.frames.try_pull_sample(gst::ClockTime::ZERO).is_some() {}
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The bytes of a frame.
pub fn bytes(sample: &gst::Sample) -> Vec<u8> {
    let map = sample.buffer().unwrap().map_readable().unwrap();
    map.to_vec()
}

/// The caps of a frame.
pub fn caps(sample: &gst::Sample) -> gst::Structure {
    sample.caps().unwrap().structure(0).unwrap().to_owned()
}

/// Runs a pipeline to its end; the frames that came to its appsink `out`, if it has one.
pub fn run_pipeline(description: &str) -> Vec<gst::Sample> {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let frames = match pipeline.by_name("out") {
        Some(out) => {
            let out = out.downcast::<gst_app::AppSink>().unwrap();
            std::iter::from_fn(|| out.pull_sample().ok()).collect()
        }
        None => Vec::new(),
    };
    let deadline = gst::ClockTime::try_from(DEADLINE).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(deadline, &ends);
    pipeline.set_state(gst::State::Null).unwrap();
    let end = end.expect("an end");
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    frames
}

/// The library `fake-v4l2`, to be preloaded; Cargo builds it beside this test.
pub fn shim() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let shim = test.with_file_name("libfake_v4l2.so");
    assert!(shim.exists(), "{} is not built", shim.display());
    shim
}
