//! The deployments that come with the launcher, run with free ports and without hardware.

mod support;
#[path = "support/watcher.rs"]
mod watcher;

use std::fs;
use std::path::{Path, PathBuf};

use support::Launcher;
use watcher::{Watcher, caps, shim};

/// A deployment of `pipelines/`, in which `from` was replaced by `to`, in a folder.
struct Deployment(tempfile::TempDir);

impl Deployment {
    fn new(name: &str, replacements: &[(&str, &str)]) -> Self {
        let mut text = fs::read_to_string(pipelines().join(name)).unwrap();
        for (from, to) in replacements {
            assert!(text.contains(from), "{name} has no {from}");
            text = text.replace(from, to);
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f.toml"), text).unwrap();
        Self(folder)
    }

    /// Runs it, with a webcam that gives pictures of 640x480 as `/dev/video0`.
    fn run(&self, command: &str) -> Launcher {
        Launcher::with(command, &self.0.path().join("f.toml"), |launcher| {
            launcher
                .env("LD_PRELOAD", shim())
                .env("FAKE_V4L2_DEVICE", "/dev/video0");
        })
    }
}

const FREE_PORTS: [(&str, &str); 3] = [
    ("\"0.0.0.0:8000\"", "\"127.0.0.1:0\""),
    ("\"0.0.0.0:8554\"", "\"127.0.0.1:0\""),
    ("\"0.0.0.0:8080\"", "\"127.0.0.1:0\""),
];

fn pipelines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines")
}

#[test]
fn each_is_run_below() {
    let mut names: Vec<_> = fs::read_dir(pipelines())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let run = [
        "all-in-one.toml",
        "camera.toml",
        "relay.toml",
        "test-camera.toml",
    ];
    assert_eq!(names, run);
}

#[test]
fn all_in_one() {
    let deployment = Deployment::new("all-in-one.toml", &FREE_PORTS);
    let mut launcher = deployment.run("relay");
    launcher.said("listening for cameras on 127.0.0.1:");
    // In whatever order.
    let lines = [
        launcher.said(": watch at rtsp://127.0.0.1:"),
        launcher.said(": watch at rtsp://127.0.0.1:"),
    ];
    for words in ["camera webcam: ", "camera test: "] {
        assert!(lines.iter().any(|line| line.contains(words)), "{lines:?}");
    }
    launcher.stop();
}

#[test]
fn camera() {
    let watcher = Watcher::new();
    let relay = format!("relay = \"{}\"", watcher.address());
    let deployment = Deployment::new("camera.toml", &[("relay = \"relay.local:8000\"", &relay)]);
    let mut launcher = deployment.run("camera");
    assert_eq!(caps(&watcher.next()).get::<i32>("width"), Ok(640));
    launcher.said("camera door: sending JPEG 640x480, 30 frames/s");
    launcher.stop();
}

#[test]
fn relay() {
    let deployment = Deployment::new("relay.toml", &FREE_PORTS);
    let mut launcher = deployment.run("relay");
    launcher.said("listening for cameras on 127.0.0.1:");
    launcher.stop();
}

#[test]
fn test_camera() {
    let watcher = Watcher::new();
    let relay = format!("relay = \"{}\"", watcher.address());
    let deployment = Deployment::new(
        "test-camera.toml",
        &[("relay = \"127.0.0.1:8000\"", &relay)],
    );
    let mut launcher = deployment.run("camera");
    assert_eq!(caps(&watcher.next()).get::<i32>("width"), Ok(1280));
    launcher.said("camera test: sending JPEG 1280x720, 30 frames/s");
    launcher.stop();
}
