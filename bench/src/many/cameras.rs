//! The process that is all cameras.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use gst::prelude::*;
use gst_app::AppSrc;

use super::{Cameras, Order, Sent, name};
use crate::pipeline::buffers;
use crate::process::say;
use crate::{frame, usage};

/// Pictures that cameras send in turn.
const PICTURES: u32 = 16;
/// What a large picture has at least, in bytes.
const LARGE: usize = 114_000;
/// How long what was given may take to be sent, and how often a sink is asked.
const SENT: Duration = Duration::from_secs(5);
const ASKED: Duration = Duration::from_millis(5);

/// Sends frames of every camera to 127.0.0.1:`port`, in turn, until standard input ends. Told to,
/// sends so many of each between two [`mark`]s.
pub(crate) fn send_many(settings: Cameras, port: u16) -> anyhow::Result<()> {
    usage::raise_file_limit();
    gst::init()?;
    gstcamrelay::plugin_register_static().context("cannot register the camrelay elements")?;
    let pictures = pictures(settings.large)?;
    let mark = [mark()?];
    let cameras: Vec<Camera> = (0..settings.count)
        .map(|camera| Camera::start(&name(camera), settings.caps(), port))
        .collect::<anyhow::Result<_>>()?;
    let mut sending = Sending {
        cameras,
        interval: 1_000_000_000 / u64::from(settings.fps) / settings.count as u64,
        due: frame::now(),
    };
    let orders = orders();
    for round in 0.. {
        match orders.try_recv() {
            Err(TryRecvError::Empty) => sending.round(&pictures, round)?,
            Err(TryRecvError::Disconnected) => break,
            Ok(Order { frames }) => {
                sending.round(&mark, 0)?;
                let before = sending.dropped()?;
                sending.due = frame::now();
                (0..frames).try_for_each(|round| sending.round(&pictures, round))?;
                let dropped = sending.dropped()? - before;
                sending.round(&mark, 0)?;
                say(&Sent { dropped })?;
            }
        }
    }
    Ok(())
}

struct Sending {
    cameras: Vec<Camera>,
    /// Nanoseconds from one camera's frame to the next camera's.
    interval: u64,
    /// When the next frame leaves.
    due: u64,
}

impl Sending {
    /// One of these pictures from each camera.
    fn round(&mut self, pictures: &[gst::Buffer], round: u32) -> anyhow::Result<()> {
        for (number, camera) in self.cameras.iter().enumerate() {
            let wait = self.due.saturating_sub(frame::now());
            std::thread::sleep(Duration::from_nanos(wait));
            self.due += self.interval;
            camera.send(&pictures[(number + round as usize) % pictures.len()])?;
        }
        Ok(())
    }

    /// Frames that the sinks dropped of all so far.
    fn dropped(&self) -> anyhow::Result<u64> {
        self.cameras.iter().map(Camera::dropped).sum()
    }
}

/// A camera that sends what it is given.
pub(crate) struct Camera {
    pipeline: gst::Pipeline,
    source: AppSrc,
    sink: gst::Element,
    key_wished: Arc<AtomicBool>,
    /// Frames that it was given.
    given: AtomicU64,
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
            given: AtomicU64::new(0),
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
        self.given.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the relay asked for a key frame since this was asked last.
    pub(crate) fn takes_key_wish(&self) -> bool {
        self.key_wished.swap(false, Ordering::Relaxed)
    }

    /// Frames that its sink dropped, once it has sent or dropped all that it was given.
    pub(crate) fn dropped(&self) -> anyhow::Result<u64> {
        let given = self.given.load(Ordering::Relaxed);
        let deadline = Instant::now() + SENT;
        loop {
            let stats: gst::Structure = self.sink.property("stats");
            let count = |name: &str| {
                stats
                    .get::<u64>(name)
                    .context("camrelaysink does not count")
            };
            let (sent, dropped) = (count("frames-sent")?, count("frames-dropped")?);
            if sent + dropped >= given {
                return Ok(dropped);
            }
            ensure!(
                Instant::now() < deadline,
                "of {given} frames camrelaysink sent {sent} and dropped {dropped}"
            );
            std::thread::sleep(ASKED);
        }
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

/// A picture of a small camera that [`Tally`](super::Tally) tells from its others.
pub(crate) fn mark() -> anyhow::Result<gst::Buffer> {
    Ok(encode("pattern=snow", (320, 240), 5)?.swap_remove(0))
}

fn encode(
    pattern: &str,
    (width, height): (u32, u32),
    quality: u32,
) -> anyhow::Result<Vec<gst::Buffer>> {
    buffers(&format!(
        "videotestsrc {pattern} num-buffers={PICTURES} \
         ! video/x-raw,format=I420,width={width},height={height} \
         ! jpegenc quality={quality} ! appsink name=out sync=false"
    ))
}

/// What comes in on standard input.
fn orders() -> Receiver<Order> {
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
