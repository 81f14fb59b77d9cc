//! `launcher camera` with every kind of source but a device, watched by a camrelaysrc.

mod support;
#[path = "support/watcher.rs"]
mod watcher;

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use camrelay_protocol::{CameraToken, PrivateKey};
use gst::prelude::*;
use support::Launcher;
use watcher::{Watcher, bytes, caps, run_pipeline};

/// Pictures in a film, half a second.
const PICTURES: usize = 15;
/// A live picture.
const LIVE: &str = "videotestsrc is-live=true pattern=ball \
     ! video/x-raw,width=320,height=240,framerate=30/1";

fn deployment(source: &str, relay: &str, more: &str) -> String {
    format!("[[camera]]\nname = \"cam\"\nsource = \"{source}\"\nrelay = \"{relay}\"\n{more}")
}

/// `launcher COMMAND` with a deployment that is made in `folder`.
fn launch(command: &str, folder: &Path, deployment: &str) -> Launcher {
    let file = folder.join(format!("{command}.toml"));
    fs::write(&file, deployment).unwrap();
    Launcher::start(command, &file)
}

/// A pipeline of `count` encoded pictures, without its end.
fn pictures(count: usize, encode: &str) -> String {
    format!(
        "videotestsrc num-buffers={count} pattern=ball \
         ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! {encode}"
    )
}

/// Makes the file `name` of so many pictures.
fn film(folder: &Path, name: &str, count: usize, encode: &str) {
    let path = folder.join(name);
    run_pipeline(&format!(
        "{} ! filesink location={}",
        pictures(count, encode),
        path.display()
    ));
}

/// The times of the next `count` frames.
fn times(watcher: &Watcher, count: usize) -> Vec<gst::ClockTime> {
    (0..count)
        .map(|_| watcher.next().buffer().unwrap().pts().expect("a time"))
        .collect()
}

#[test]
fn a_film_begins_again_as_if_it_had_no_end() {
    let folder = tempfile::tempdir().unwrap();
    film(
        folder.path(),
        "film.mp4",
        PICTURES,
        "openh264enc ! h264parse ! mp4mux",
    );
    let watcher = Watcher::new();
    let added = Arc::new(AtomicUsize::new(0));
    let counter = added.clone();
    watcher.source().connect("camera-added", false, move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        None
    });
    let text = deployment("film.mp4", &watcher.address(), "");
    let mut launcher = launch("camera", folder.path(), &text);

    let caps = caps(&watcher.next());
    assert_eq!(caps.name(), "video/x-h264");
    assert_eq!(caps.get::<&str>("stream-format"), Ok("byte-stream"));
    assert_eq!(caps.get::<&str>("alignment"), Ok("au"));
    // Three times through; a jump in time would be seen as a pause.
    let times = times(&watcher, 3 * PICTURES);
    for pair in times.windows(2) {
        let step = pair[1].checked_sub(pair[0]).expect("forwards");
        assert!(
            step < gst::ClockTime::from_mseconds(300),
            "{step} in {times:?}"
        );
    }
    assert_eq!(added.load(Ordering::Relaxed), 1, "one session for all");
    launcher.said("camera cam: sending H.264 320x240, 30 frames/s");
    launcher.stop();
}

#[test]
fn jpegs_in_a_container_are_passed_through_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let jpegs: BTreeSet<_> = run_pipeline(&format!(
        "{} ! appsink name=out",
        pictures(PICTURES, "jpegenc")
    ))
    .iter()
    .map(bytes)
    .collect();
    film(folder.path(), "film.avi", PICTURES, "jpegenc ! avimux");
    let watcher = Watcher::new();
    let text = deployment("film.avi", &watcher.address(), "");
    let launcher = launch("camera", folder.path(), &text);
    for _ in 0..jpegs.len() {
        assert!(jpegs.contains(&bytes(&watcher.next())));
    }
    launcher.stop();
}

#[test]
fn a_film_of_another_codec_is_encoded() {
    let folder = tempfile::tempdir().unwrap();
    film(
        folder.path(),
        "film.webm",
        PICTURES,
        "vp8enc deadline=1 ! webmmux",
    );
    let watcher = Watcher::new();
    let text = deployment("film.webm", &watcher.address(), "");
    let launcher = launch("camera", folder.path(), &text);
    assert_eq!(caps(&watcher.next()).name(), "image/jpeg");
    launcher.stop();
}

#[test]
fn the_deployments_encoder_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    film(folder.path(), "film.avi", PICTURES, "jpegenc ! avimux");
    let watcher = Watcher::new();
    let text = deployment(
        "film.avi",
        &watcher.address(),
        "encode = \"openh264enc gop-size=10\"",
    );
    let launcher = launch("camera", folder.path(), &text);
    assert_eq!(caps(&watcher.next()).name(), "video/x-h264");
    launcher.stop();
}

#[test]
fn pictures_without_a_container_come_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    film(folder.path(), "film.mjpeg", 10 * PICTURES, "jpegenc");
    let watcher = Watcher::new();
    let text = deployment("film.mjpeg", &watcher.address(), "");
    let launcher = launch("camera", folder.path(), &text);
    let times = times(&watcher, PICTURES);
    // A clock that is only getting known moves single frames, but not all of them.
    for pair in times.windows(2) {
        let step = pair[1].checked_sub(pair[0]).expect("forwards");
        assert!(step.mseconds() < 200, "{step} in {times:?}");
    }
    let all = times[PICTURES - 1] - times[0];
    let at_25_a_second = 40 * (PICTURES as u64 - 1);
    let off = all.mseconds().abs_diff(at_25_a_second);
    assert!(off < at_25_a_second / 4, "{all} for {times:?}");
    launcher.stop();
}

#[test]
fn a_file_that_is_no_film_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let sound = folder.path().join("sound.ogg");
    run_pipeline(&format!(
        "audiotestsrc num-buffers=10 ! opusenc ! oggmux ! filesink location={}",
        sound.display()
    ));
    let folder = folder.path();
    for (source, why) in [
        ("sound.ogg", "there is no video in"),
        ("missing.mp4", "there is no file"),
    ] {
        let text = deployment(source, "127.0.0.1:9", "");
        let mut launcher = launch("camera", folder, &text);
        // That nothing answers there is said as well, and first where starting takes long.
        let line = launcher.said("camera cam: there is no ");
        let words = format!(
            " WARN camera cam: {why} {}/{source}; trying again",
            folder.display()
        );
        assert!(line.ends_with(&words), "{line}");
        launcher.stop();
    }
}

#[test]
fn a_camera_on_the_network_is_passed_on() {
    for (encode, media, words) in [
        ("jpegenc", "image/jpeg", "sending JPEG 320x240"),
        (
            "openh264enc gop-size=10",
            "video/x-h264",
            "sending H.264 320x240",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[relay]\nlisten = \"127.0.0.1:0\"\n[rtsp]\nlisten = \"127.0.0.1:0\"\n\
             [[camera]]\nname = \"net\"\nsource = \"{LIVE}\"\nencode = \"{encode}\""
        );
        let mut network = launch("relay", folder.path(), &text);
        let line = network.said("camera net: watch at rtsp://");
        let start = line.find("rtsp://").unwrap();
        let uri = line[start..].split_whitespace().next().unwrap();

        let watcher = Watcher::new();
        let text = deployment(uri, &watcher.address(), "");
        let mut launcher = launch("camera", folder.path(), &text);
        assert_eq!(caps(&watcher.next()).name(), media);
        launcher.said(words);

        // It goes away, and the camera says so instead of ending.
        network.stop();
        launcher.said(&format!("camera cam: {uri} does not answer; trying again"));
        launcher.stop();
    }
}

#[test]
fn a_relay_that_appears_late_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let port = UdpSocket::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .unwrap()
        .port();
    let text = deployment(LIVE, &format!("127.0.0.1:{port}"), "");
    let mut launcher = launch("camera", folder.path(), &text);
    launcher.said("camera cam: Waiting for camera 'cam' at the relay 127.0.0.1:");
    let watcher = Watcher::with(&[("port", &port.to_string())]);
    launcher.said("camera cam: sending JPEG 320x240, 30 frames/s to 127.0.0.1:");
    watcher.next();
    launcher.stop();
}

#[test]
fn a_relay_that_does_not_know_the_camera_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let relay = PrivateKey::from_random([7; 32]);
    let known = CameraToken::new(relay.public(), [9; 32]);
    let unknown = CameraToken::new(relay.public(), [8; 32]);
    let list = known.known_camera(vec!["cam".into()]).to_text();
    fs::write(path("relay.key"), relay.to_text()).unwrap();
    fs::write(path("cameras.txt"), list).unwrap();
    fs::write(path("known.key"), known.to_text()).unwrap();
    fs::write(path("unknown.key"), unknown.to_text()).unwrap();
    let watcher = Watcher::with(&[
        ("port", "0"),
        ("key", path("relay.key").to_str().unwrap()),
        ("cameras", path("cameras.txt").to_str().unwrap()),
        ("accept", "known"),
    ]);

    let text = deployment(LIVE, &watcher.address(), "key = \"unknown.key\"");
    let mut launcher = launch("camera", folder.path(), &text);
    let line = launcher.said("ERROR");
    assert!(line.contains("camera cam: Refused: "), "{line}");
    assert!(line.ends_with("; trying again every 30 s"), "{line}");
    launcher.stop();

    let text = deployment(LIVE, &watcher.address(), "key = \"known.key\"");
    let launcher = launch("camera", folder.path(), &text);
    watcher.next();
    launcher.stop();
}

#[test]
fn a_source_that_ends_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let watcher = Watcher::new();
    let source = "videotestsrc is-live=true num-buffers=5";
    let text = deployment(source, &watcher.address(), "");
    let mut launcher = launch("camera", folder.path(), &text);
    launcher.said("camera cam: sending");
    launcher.said(&format!("camera cam: {source} ended; starting it again"));
    launcher.said("camera cam: sending");
    launcher.stop();
}

#[test]
fn the_log_can_be_read_by_machines() {
    let folder = tempfile::tempdir().unwrap();
    let watcher = Watcher::new();
    let text = deployment(LIVE, &watcher.address(), "");
    let file = folder.path().join("camera.toml");
    fs::write(&file, text).unwrap();
    let mut launcher = Launcher::with("camera", &file, |command| {
        command.args(["--log-format", "json"]);
    });
    let line = launcher.said("camera cam: sending");
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["level"], "INFO");
    let message = object["message"].as_str().unwrap();
    assert!(message.starts_with("camera cam: sending JPEG 320x240, 30 frames/s"));
    launcher.stop();
}

#[test]
fn who_cannot_say_who_he_is_watches_no_relay_that_asks() {
    let user = "[[user]]\nname = \"ann\"\nrights = [\"view\"]\npassword = \
        \"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQxMjM$\
        AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\n";
    for (asks, users) in [(true, user), (false, "")] {
        let folder = tempfile::tempdir().unwrap();
        let source = format!("{LIVE} ! jpegenc");
        let text = format!(
            "[relay]\nlisten = \"127.0.0.1:0\"\n{users}\
             [[camera]]\nname = \"door\"\nsource = \"{source}\"\n"
        );
        let mut relay = launch("relay", folder.path(), &text);
        let line = relay.said("listening for cameras on ");
        let port = line.rsplit(':').next().expect("a port");
        relay.said("camera door: connected");
        let viewer = [("mode", "caller"), ("port", port), ("camera", "door")];
        let watcher = Watcher::with(&viewer);
        if asks {
            let words = watcher.complaint();
            assert!(
                words.contains("asks who watches: use RTSP or its page, or a key"),
                "{words}"
            );
        } else {
            watcher.next();
        }
        relay.stop();
    }
}
