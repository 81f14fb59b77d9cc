//! Snapshots and streams of pictures.

use super::client::Parts;
use super::*;

/// An access unit of H.264 that the check lets pass.
const H264: [u8; 5] = [0, 0, 1, 9, 0xf0];

fn parts(relay: &Relay, path: &str, buffer: Option<usize>) -> Parts {
    let mut client = Client::with_buffer(relay.address(), buffer);
    client.ask("GET", path, &[]);
    let answer = client.answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    Parts::of(client, &answer)
}

#[test]
fn a_snapshot_is_the_newest_picture() {
    let relay = Relay::start();
    let mut door = relay.camera("door", "image/jpeg");
    let answer = relay.get("/cameras/door/snapshot.jpg", &[]);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), "1");
    assert!(
        answer
            .text()
            .contains("camera door has not sent a picture yet")
    );

    let pictures = [jpeg(64, 48), jpeg(80, 48)];
    pictures.iter().for_each(|picture| door.send(picture));
    let answer = relay.get("/cameras/door/snapshot.jpg", &[]);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "image/jpeg");
    assert_eq!(answer.header("x-sequence"), "1");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.body == pictures[1]);
    let captured = answer.header("x-capture-time");
    humantime::parse_rfc3339(captured).expect("a time");
    assert_eq!(captured.len(), "2026-01-01T00:00:00.000Z".len());
    answer.header("x-age-ms").parse::<u64>().expect("an age");

    let answer = relay.get("/cameras/gate/snapshot.jpg", &[]);
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("there is no camera gate"));
}

#[test]
fn a_camera_without_jpegs_says_how_it_is_watched() {
    let relay = Relay::start();
    let mut yard = relay.camera("yard", "video/x-h264");
    yard.send(&H264);
    let answer = relay.get("/cameras/yard/stream.mjpeg", &[]);
    assert_eq!(answer.status, 415);
    let why = "camera yard sends H.264, not JPEG";
    assert!(answer.text().contains(why), "{}", answer.text());
    let answer = relay.get("/api/v1/cameras/yard", &[]);
    assert!(answer.text().contains("\"mjpeg\":null"));
}

#[test]
fn a_viewer_sees_the_newest_at_once_and_then_what_comes() {
    let relay = Relay::start();
    let mut door = relay.camera("door", "image/jpeg");
    let pictures = [jpeg(64, 48), jpeg(80, 48), jpeg(96, 48)];
    door.send(&pictures[0]);
    door.send(&pictures[1]);
    let mut viewer = parts(&relay, "/cameras/door/stream.mjpeg", None);
    let first = viewer.next().expect("a picture");
    assert_eq!(first.header("content-type"), "image/jpeg");
    assert_eq!(first.header("x-sequence"), "1");
    assert!(first.body == pictures[1]);
    humantime::parse_rfc3339(first.header("x-capture-time")).expect("a time");
    first.header("x-age-ms").parse::<u64>().expect("an age");
    door.send(&pictures[2]);
    let second = viewer.next().expect("a picture");
    assert_eq!(second.header("x-sequence"), "2");
    assert!(second.body == pictures[2]);
}

#[test]
fn a_viewer_that_was_slow_sees_the_newest_and_nothing_queued() {
    const PICTURES: u64 = 300;
    let relay = Relay::start();
    let mut door = relay.camera("door", "image/jpeg");
    let picture = jpeg(320, 240);
    assert!(picture.len() > 40_000, "it is {} bytes", picture.len());
    door.send(&picture);
    let mut viewer = parts(&relay, "/cameras/door/stream.mjpeg", Some(64 << 10));
    let mut other = parts(&relay, "/cameras/door/stream.mjpeg", None);
    other.next().expect("a picture");
    for number in 1..PICTURES {
        door.send(&picture);
        let seen = other.next().expect("a picture");
        assert_eq!(
            seen.header("x-sequence"),
            number.to_string(),
            "of who is not slow"
        );
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&(PICTURES - 1)) {
        let part = viewer.next().expect("a picture");
        seen.push(part.header("x-sequence").parse::<u64>().expect("a number"));
    }
    assert!(
        seen.len() < 30,
        "no more than the system's buffers: {seen:?}"
    );
    assert!(seen.is_sorted());
}

#[test]
fn another_codec_and_the_end_of_the_server_end_a_stream() {
    let relay = Relay::start();
    let mut door = relay.camera("door", "image/jpeg");
    door.send(&jpeg(64, 48));
    let mut viewer = parts(&relay, "/cameras/door/stream.mjpeg", None);
    viewer.next().expect("a picture");
    door.harness.set_src_caps_str("video/x-h264");
    door.send(&H264);
    assert!(viewer.next().is_none());

    door.harness.set_src_caps_str("image/jpeg");
    door.send(&jpeg(64, 48));
    let mut viewer = parts(&relay, "/cameras/door/stream.mjpeg", None);
    viewer.next().expect("a picture");
    drop(relay.server);
    assert!(viewer.next().is_none(), "and in good order");
}
