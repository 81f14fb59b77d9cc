//! A webcam without a webcam: the launcher with a device that only `fake-v4l2` has,
//! watched by a camrelaysrc.

mod support;
#[path = "support/watcher.rs"]
mod watcher;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use support::Launcher;
use watcher::{Watcher, bytes, caps, run_pipeline, shim};

const DEVICE: &str = "/dev/video42";
const WIDTH: usize = 640;
const HEIGHT: usize = 480;
/// The longest wait for what has to come.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the fake device is like.
struct Device {
    /// The camera's `source`.
    source: String,
    formats: &'static str,
    /// The pictures that it gives as MJPG.
    jpegs: Vec<Vec<u8>>,
    /// Where its switches are.
    folder: tempfile::TempDir,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            source: DEVICE.into(),
            formats: "YUYV",
            jpegs: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
        }
    }
}

/// `launcher camera` with the fake device.
struct Camera {
    launcher: Launcher,
    folder: tempfile::TempDir,
}

impl Camera {
    /// Runs the camera with a device that gives YUYV.
    fn new(watcher: &Watcher) -> Self {
        Self::with(watcher, Device::default())
    }

    /// Runs the camera with `device`.
    fn with(watcher: &Watcher, device: Device) -> Self {
        let folder = device.folder;
        let path = |name: &str| folder.path().join(name);
        let mut pictures = Vec::new();
        for jpeg in device.jpegs {
            pictures.extend((jpeg.len() as u32).to_le_bytes());
            pictures.extend(jpeg);
        }
        fs::write(path("jpegs"), pictures).unwrap();
        let deployment = format!(
            "[[camera]]\nname = \"cam\"\nsource = \"{}\"\nrelay = \"{}\"",
            device.source,
            watcher.address()
        );
        fs::write(path("camera.toml"), deployment).unwrap();
        let launcher = Launcher::with("camera", &path("camera.toml"), |command| {
            command
                .env("LD_PRELOAD", shim())
                .env("FAKE_V4L2_DEVICE", DEVICE)
                .env("FAKE_V4L2_FORMATS", device.formats)
                .env("FAKE_V4L2_SIZE", format!("{WIDTH}x{HEIGHT}"))
                .env("FAKE_V4L2_JPEGS", path("jpegs"))
                .env("FAKE_V4L2_UNPLUGGED", path("unplugged"))
                .env("FAKE_V4L2_FROZEN", path("frozen"));
        });
        Self { launcher, folder }
    }

    /// Waits for a line of the log with `words` in it.
    #[track_caller]
    fn says(&mut self, words: &str) {
        self.launcher.said(words);
    }

    /// Unplugs or freezes the device.
    fn set(&self, switch: &str) {
        fs::write(self.folder.path().join(switch), "").unwrap();
    }

    /// Plugs it in again or wakes it.
    fn clear(&self, switch: &str) {
        fs::remove_file(self.folder.path().join(switch)).unwrap();
    }

    /// The descriptors that the launcher has open: what for, and how many.
    fn descriptors(&self) -> HashMap<PathBuf, usize> {
        let mut open = HashMap::new();
        let folder = format!("/proc/{}/fd", self.launcher.id());
        for entry in fs::read_dir(folder).unwrap() {
            // One that was closed meanwhile is not open.
            if let Ok(target) = fs::read_link(entry.unwrap().path()) {
                *open.entry(target).or_insert(0) += 1;
            }
        }
        open
    }

    /// Interrupts the launcher, which must end well.
    fn stop(self) {
        self.launcher.stop();
    }
}

/// The brightness of every pixel of a JPEG.
fn decode(jpeg: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.jpg");
    fs::write(&path, jpeg).unwrap();
    let decoded = run_pipeline(&format!(
        "filesrc location={} ! jpegdec ! videoconvert ! video/x-raw,format=GRAY8 \
         ! appsink name=out sync=false",
        path.display()
    ));
    bytes(&decoded[0])
}

#[test]
fn raw_pictures_are_encoded() {
    let watcher = Watcher::new();
    let mut camera = Camera::new(&watcher);
    let sample = watcher.next();
    camera.says("camera cam: sending JPEG 640x480, 30 frames/s");

    let caps = caps(&sample);
    assert_eq!(caps.name(), "image/jpeg");
    assert_eq!(caps.get::<i32>("width"), Ok(WIDTH as i32));
    assert_eq!(caps.get::<i32>("height"), Ok(HEIGHT as i32));
    // The device draws a ramp, one step brighter for each pixel to the right and down.
    // Where it starts again from black, JPEG has no sharp edge.
    let picture = decode(&bytes(&sample));
    assert_eq!(picture.len(), WIDTH * HEIGHT);
    let diagonal = |at: usize| i32::from(picture[at * WIDTH + at]);
    let start = (100..300).find(|at| (60..180).contains(&diagonal(*at)));
    let start = start.expect("a place on the ramp");
    for step in 0..10 {
        let (seen, expected) = (diagonal(start + step), diagonal(start) + 2 * step as i32);
        assert!(seen.abs_diff(expected) < 16, "{seen} for {expected}");
    }
    assert_ne!(decode(&bytes(&watcher.next())), picture, "it stands still");
    camera.stop();
}

#[test]
fn jpeg_of_the_device_is_passed_through_byte_for_byte() {
    let watcher = Watcher::new();
    let jpegs: Vec<_> = run_pipeline(&format!(
        "videotestsrc num-buffers=7 pattern=ball \
         ! video/x-raw,format=I420,width={WIDTH},height={HEIGHT} ! jpegenc ! appsink name=out"
    ))
    .iter()
    .map(bytes)
    .collect();
    let device = Device {
        formats: "YUYV,MJPG",
        jpegs: jpegs.clone(),
        ..Device::default()
    };
    let camera = Camera::with(&watcher, device);
    let mut before = None;
    for _ in 0..30 {
        let frame = bytes(&watcher.next());
        let index = jpegs.iter().position(|jpeg| *jpeg == frame);
        let index = index.expect("a frame as the device gave it");
        if let Some(before) = before {
            assert_ne!(index, before, "the same frame twice");
        }
        before = Some(index);
    }
    camera.stop();
}

#[test]
fn a_device_that_is_plugged_in_again_comes_back() {
    let watcher = Watcher::new();
    let mut camera = Camera::new(&watcher);
    watcher.next();
    camera.says("sending JPEG");
    camera.set("unplugged");
    camera.says("camera cam: /dev/video42 is not there; it starts when that is plugged in");
    watcher.forget();
    camera.clear("unplugged");
    camera.says("sending JPEG");
    watcher.next();
    camera.stop();
}

#[test]
fn a_device_that_is_not_there_yet_is_waited_for() {
    let watcher = Watcher::new();
    let device = Device::default();
    fs::write(device.folder.path().join("unplugged"), "").unwrap();
    let mut camera = Camera::with(&watcher, device);
    camera.says("is not there");
    camera.clear("unplugged");
    watcher.next();
    camera.stop();
}

#[test]
fn a_device_that_hangs_is_started_again() {
    let watcher = Watcher::new();
    let mut camera = Camera::new(&watcher);
    watcher.next();
    camera.says("sending JPEG");
    camera.set("frozen");
    camera.says("camera cam: no frame for 5 s; trying again");
    watcher.forget();
    camera.clear("frozen");
    camera.says("sending JPEG");
    watcher.next();
    camera.stop();
}

#[test]
fn restarts_leave_no_descriptors_open() {
    let watcher = Watcher::new();
    let source = format!("v4l2src device={DEVICE} num-buffers=5");
    let mut camera = Camera::with(
        &watcher,
        Device {
            source,
            ..Device::default()
        },
    );
    // The first ones load what is loaded once.
    for _ in 0..2 {
        camera.says("sending JPEG");
    }
    camera.set("unplugged");
    camera.says("is not there");
    let before = camera.descriptors().values().sum::<usize>();
    camera.clear("unplugged");
    for _ in 0..20 {
        camera.says("sending JPEG");
    }
    camera.set("unplugged");
    camera.says("is not there");
    // What the last run had open is closed a little after its end.
    let begin = Instant::now();
    loop {
        let open = camera.descriptors();
        if open.values().sum::<usize>() <= before {
            break;
        }
        assert!(begin.elapsed() < DEADLINE, "{before} before: {open:#?}");
        thread::yield_now();
    }
    camera.stop();
}
