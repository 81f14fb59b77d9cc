//! What the tests of cameras share: a launcher that is read, and a camrelaysrc that it
//! sends to.
#![allow(dead_code, reason = "no test uses all of it")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;

/// How long anything may take before a test gives up on it.
const DEADLINE: Duration = Duration::from_secs(30);

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

/// A launcher that runs, and what it says.
pub struct Launcher {
    child: Child,
    lines: Receiver<String>,
}

impl Launcher {
    /// `launcher COMMAND --config FILE`, FILE being made in `folder` with `deployment` in it.
    pub fn new(command: &str, folder: &Path, deployment: &str) -> Self {
        Self::with(command, folder, deployment, |_| {})
    }

    /// The same, with what `prepare` does to the command.
    pub fn with(
        command: &str,
        folder: &Path,
        deployment: &str,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let file = folder.join(format!("{command}.toml"));
        fs::write(&file, deployment).unwrap();
        let mut launcher = Command::new(env!("CARGO_BIN_EXE_launcher"));
        launcher.arg(command).arg("--config").arg(file);
        launcher.env_remove("RUST_LOG").stderr(Stdio::piped());
        prepare(&mut launcher);
        let mut child = launcher.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // The test may have seen all that it wants to see.
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    /// Waits for a line of the log with `words` in it.
    #[track_caller]
    pub fn says(&self, words: &str) -> String {
        let end = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        while let Ok(line) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if line.contains(words) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line with '{words}' in {seen:#?}");
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Interrupts it; it must end well.
    #[track_caller]
    pub fn stop(mut self) {
        let pid = self.child.id() as i32;
        // SAFETY: the process is this test's own, and not waited for yet.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
