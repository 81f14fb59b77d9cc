//! The process that is all cameras.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use anyhow::{Context, anyhow};
use gst::prelude::*;
use gst_app::{AppSink, AppSrc};

use super::{Cameras, FromCameras, ToCameras, name};
use crate::process::say;
use crate::{frame, usage};

/// Pictures that cameras send in turn.
const PICTURES: u32 = 16;
/// What a large picture has at least, in bytes.
const LARGE: usize = 114_000;

/// Sends frames of every camera to 127.0.0.1:`port`, in turn, until standard input ends.
pub(crate) fn send_many(settings: Cameras, port: u16) -> anyhow::Result<()> {
    usage::raise_file_limit();
    gst::init()?;
    gstcamrelay::plugin_register_static().context("cannot register the camrelay elements")?;
    let pictures = pictures(settings.large)?;
    let cameras: Vec<Camera> = (0..settings.count)
        .map(|camera| Camera::start(&name(camera), settings.caps(), port))
        .collect::<anyhow::Result<_>>()?;
    let mut sending = Sending {
        cameras,
        pictures,
        interval: 1_000_000_000 / u64::from(settings.fps) / settings.count as u64,
        orders: orders(),
        due: frame::now(),
    };
    let mut next = sending.send_until_told()?;
    while let Some(order) = next {
        match order {
            ToCameras::Pause => say(&FromCameras::Paused)?,
            ToCameras::Send { frames } => {
                let before = sending.dropped();
                sending.send(frames)?;
                // What is queued leaves within moments.
                std::thread::sleep(Duration::from_millis(200));
                let dropped = sending.dropped() - before;
                say(&FromCameras::Sent { dropped })?;
            }
        }
        next = sending.orders.recv().ok();
    }
    Ok(())
}

struct Sending {
    cameras: Vec<Camera>,
    pictures: Vec<gst::Buffer>,
    /// Nanoseconds from one camera's frame to the next camera's.
    interval: u64,
    orders: Receiver<ToCameras>,
    /// When the next frame leaves.
    due: u64,
}

impl Sending {
    /// Sends round after round until there is an order; `None`: standard input ended.
    fn send_until_told(&mut self) -> anyhow::Result<Option<ToCameras>> {
        for round in 0.. {
            self.round(round)?;
            match self.orders.try_recv() {
                Ok(order) => return Ok(Some(order)),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => break,
            }
        }
        Ok(None)
    }

    fn send(&mut self, rounds: u32) -> anyhow::Result<()> {
        self.due = frame::now();
        (0..rounds).try_for_each(|round| self.round(round))
    }

    /// Frames that the sinks dropped so far.
    fn dropped(&self) -> u64 {
        self.cameras.iter().map(Camera::dropped).sum()
    }

    /// A frame of each camera.
    fn round(&mut self, round: u32) -> anyhow::Result<()> {
        for (number, camera) in self.cameras.iter().enumerate() {
            let wait = self.due.saturating_sub(frame::now());
            std::thread::sleep(Duration::from_nanos(wait));
            self.due += self.interval;
            let picture = (number + round as usize) % self.pictures.len();
            camera.send(&self.pictures[picture])?;
        }
        Ok(())
    }
}

/// A camera that sends what it is given.
pub(crate) struct Camera {
    pipeline: gst::Pipeline,
    source: AppSrc,
    sink: gst::Element,
    key_wished: Arc<AtomicBool>,
}

impl Camera {
    /// Sends to 127.0.0.1:`port`.
    pub(crate) fn start(name: &str, caps: &str, port: u16) -> anyhow::Result<Self> {
        let source = AppSrc::builder()
            .caps(&caps.parse()?)
            .format(gst::Format::Time)
            .is_live(true)
            .build();
        let sink = gst::ElementFactory::make("camrelaysink")
            .property("port", u32::from(port))
            .property("camera", name)
            .build()?;
        let key_wished = Arc::new(AtomicBool::new(false));
        let wished = key_wished.clone();
        let pad = source
            .static_pad("src")
            .context("an appsrc without a pad")?;
        pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
            let structure = info.event().and_then(|event| event.structure());
            if structure.is_some_and(|one| one.has_name("GstForceKeyUnit")) {
                wished.store(true, Ordering::Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
        let pipeline = gst::Pipeline::new();
        pipeline.add_many([source.upcast_ref(), &sink])?;
        source.link(&sink)?;
        pipeline.set_state(gst::State::Playing)?;
        Ok(Self {
            pipeline,
            source,
            sink,
            key_wished,
        })
    }

    /// Sends that now.
    pub(crate) fn send(&self, picture: &gst::Buffer) -> anyhow::Result<()> {
        // The same memory in another buffer: nothing is copied.
        let mut picture = picture.copy();
        let pts = self.source.current_running_time();
        picture.make_mut().set_pts(pts);
        self.source
            .push_buffer(picture)
            .map_err(|error| anyhow!("cannot send: {error}"))?;
        Ok(())
    }

    /// Whether the relay asked for a key frame since this was asked last.
    pub(crate) fn takes_key_wish(&self) -> bool {
        self.key_wished.swap(false, Ordering::Relaxed)
    }

    /// Frames that its sink dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        let stats: gst::Structure = self.sink.property("stats");
        stats.get("frames-dropped").unwrap_or(0)
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // The process ends with it.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// A moving picture, encoded; a large one as a webcam does.
pub(crate) fn pictures(large: bool) -> anyhow::Result<Vec<gst::Buffer>> {
    if !large {
        return encode("pattern=ball", (320, 240), 85);
    }
    for quality in 1..100 {
        let pictures = encode("pattern=snow", (1280, 720), quality)?;
        if pictures[0].size() >= LARGE {
            return Ok(pictures);
        }
    }
    anyhow::bail!("jpegenc gives no large pictures")
}

fn encode(
    pattern: &str,
    (width, height): (u32, u32),
    quality: u32,
) -> anyhow::Result<Vec<gst::Buffer>> {
    let text = format!(
        "videotestsrc {pattern} num-buffers={PICTURES} ! video/x-raw,format=I420,width={width},height={height} \
         ! jpegenc quality={quality} ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&text)?;
    let sink = pipeline
        .downcast_ref::<gst::Bin>()
        .and_then(|bin| bin.by_name("out"));
    let sink = sink.and_then(|sink| sink.downcast::<AppSink>().ok());
    let sink = sink.context("no appsink")?;
    pipeline.set_state(gst::State::Playing)?;
    let pictures = (0..PICTURES).map(|_| {
        let sample = sink.pull_sample().context("jpegenc gives no pictures")?;
        let mut picture = sample.buffer_owned().context("an empty picture")?;
        picture.make_mut().set_duration(None);
        Ok(picture)
    });
    let pictures: anyhow::Result<_> = pictures.collect();
    pipeline.set_state(gst::State::Null)?;
    pictures
}

/// What comes in on standard input.
fn orders() -> Receiver<ToCameras> {
    let (sender, orders) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else {
                eprintln!("not an order: {line}");
                return;
            };
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    orders
}
