//! The pictures that both servers have, and what sends them to the relay.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use gst::prelude::*;

use crate::many::{Camera, pictures};
use crate::{frame, pipeline};

/// A camera that sends whole pictures.
pub(super) const CAMERA: &str = "camera";
/// One that sends nothing.
pub(super) const SILENT: &str = "silent";
/// One of whose pictures every other is damaged.
pub(super) const DAMAGED: &str = "damaged";
/// One of whose pictures every 30th is cut short.
pub(super) const CUT: &str = "cut";
/// One whose pictures are 4:4:4, which RFC 2435 cannot carry.
pub(super) const FULL: &str = "full";
/// One that fails after some pictures, and comes again.
pub(super) const FAILING: &str = "failing";
/// A film of [`LENGTH`] seconds, shown again and again where it is a camera.
pub(super) const FILM: &str = "film";
/// Pictures after which the failing one fails.
pub(super) const FAILS: usize = 90;
/// Seconds of the film.
pub(super) const LENGTH: u32 = 30;
/// How long the encoding of the film may take.
const ENCODED: gst::ClockTime = gst::ClockTime::from_seconds(60);
/// What the file of the 4:4:4 picture is called.
const FULL_FILE: &str = "full";
/// From one picture to the next.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);

/// The caps of a camera that is no film.
pub(super) fn caps(camera: &str) -> &'static str {
    match camera {
        FULL => "image/jpeg,width=320,height=240,framerate=0/1",
        _ => "image/jpeg,width=1280,height=720,framerate=0/1",
    }
}

/// Whole pictures, and others.
#[derive(Clone)]
pub(super) struct Pictures {
    whole: Vec<gst::Buffer>,
    damaged: gst::Buffer,
    cut: gst::Buffer,
    full: gst::Buffer,
}

impl Pictures {
    /// Encodes them.
    pub(super) fn new() -> anyhow::Result<Self> {
        let full = pipeline::buffers(
            "videotestsrc num-buffers=1 ! video/x-raw,format=Y444,width=320,height=240 \
             ! jpegenc ! appsink name=out sync=false",
        )?;
        Self::of(
            pictures(true)?,
            full.into_iter().next().context("no 4:4:4")?,
        )
    }

    /// Reads what [`Pictures::write`] wrote.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut whole = Vec::new();
        while let Ok(bytes) = fs::read(folder.join(whole.len().to_string())) {
            whole.push(gst::Buffer::from_mut_slice(bytes));
        }
        let full = gst::Buffer::from_mut_slice(fs::read(folder.join(FULL_FILE))?);
        Self::of(whole, full)
    }

    /// Makes files of them, and of the film.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        encode_film(&film(folder))?;
        fs::write(folder.join(FULL_FILE), self.full.map_readable()?)?;
        for (number, picture) in self.whole.iter().enumerate() {
            fs::write(folder.join(number.to_string()), picture.map_readable()?)?;
        }
        Ok(())
    }

    fn of(whole: Vec<gst::Buffer>, full: gst::Buffer) -> anyhow::Result<Self> {
        let first = whole.first().context("there are no pictures")?;
        let damaged = damage(first).context("a picture cannot be damaged")?;
        let mut cut = first.copy();
        cut.make_mut().set_size(first.size() / 2);
        Ok(Self {
            damaged,
            cut,
            full,
            whole,
        })
    }

    /// The picture of a camera in a round.
    pub(super) fn picture(&self, camera: &str, round: usize) -> &gst::Buffer {
        match camera {
            FULL => &self.full,
            DAMAGED if round % 2 == 1 => &self.damaged,
            CUT if round % 30 == 29 => &self.cut,
            _ => &self.whole[round % self.whole.len()],
        }
    }
}

/// Where the film is.
pub(super) fn film(folder: &Path) -> PathBuf {
    folder.join("film.mp4")
}

/// The film as a camera of a deployment.
pub(super) fn film_camera(folder: &Path) -> anyhow::Result<String> {
    let uri = glib::filename_to_uri(film(folder), None)?;
    Ok(format!(
        "\n[[camera]]\nname = \"{FILM}\"\nsource = \"{uri}\"\n"
    ))
}

/// H.264, of which every second can be gone to.
fn encode_film(path: &Path) -> anyhow::Result<()> {
    let text = format!(
        "videotestsrc num-buffers={} pattern=ball \
         ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 \
         ! openh264enc gop-size=30 ! h264parse ! mp4mux ! filesink name=out",
        LENGTH * 30
    );
    let pipeline = pipeline::parse(&text)?;
    let out = pipeline::child(&pipeline, "out")?;
    out.set_property("location", path.to_str().context("an odd folder")?);
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().context("a pipeline without a bus")?;
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = bus.timed_pop_filtered(ENCODED, &ends);
    pipeline.set_state(gst::State::Null)?;
    match end {
        Some(end) if end.type_() == gst::MessageType::Eos => Ok(()),
        end => bail!("the film cannot be encoded: {end:?}"),
    }
}

/// A picture that ends within the header of its scan (ITU T.81, B.2.3).
fn damage(whole: &gst::Buffer) -> Option<gst::Buffer> {
    let bytes = whole.map_readable().ok()?;
    let scan = bytes.windows(2).position(|marker| marker == [0xff, 0xda])?;
    let mut damaged = bytes.get(..scan + 4)?.to_vec();
    // It says that it is longer than what follows.
    damaged[scan + 2..].copy_from_slice(&[0xff, 0xff]);
    Some(gst::Buffer::from_mut_slice(damaged))
}

/// Calls that with the number of each round, 30 times a second, until it is false.
pub(super) fn rounds(mut round: impl FnMut(usize) -> bool) {
    let mut due = frame::now();
    for number in 0.. {
        let wait = due.saturating_sub(frame::now());
        thread::sleep(Duration::from_nanos(wait));
        due += INTERVAL.as_nanos() as u64;
        if !round(number) {
            return;
        }
    }
}

/// Sends the cameras to a relay, until it is dropped.
pub(super) struct Feed {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Of these cameras, to 127.0.0.1:`port`.
    pub(super) fn to_relay(
        cameras: &'static [&'static str],
        pictures: &Pictures,
        port: u16,
    ) -> anyhow::Result<Self> {
        let mut cameras = cameras
            .iter()
            .filter(|name| **name != FILM)
            .map(|name| Ok((*name, Camera::start(name, caps(name), port)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let pictures = pictures.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            rounds(|round| {
                for (name, camera) in cameras.iter_mut().filter(|(name, _)| *name != SILENT) {
                    if *name == FAILING
                        && round % FAILS == FAILS - 1
                        && let Ok(again) = Camera::start(name, caps(name), port)
                    {
                        *camera = again;
                    }
                    // One that the relay refuses is missed by the scenario.
                    let _ = camera.send(pictures.picture(name, round));
                }
                !stopped.load(Ordering::Relaxed)
            });
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed.
            let _ = thread.join();
        }
    }
}
