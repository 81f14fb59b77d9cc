//! Tests of what consumers of a stream get.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;
use crate::relay::consumer::Limits;
use crate::relay::feeds::{Feeds, Listeners};

const LIMITS: Limits = Limits {
    frames: 100,
    burst: 100,
    bytes: 1 << 20,
    time: gst::ClockTime::from_seconds(10),
    catch_up: 1 << 20,
};

/// A stream and the source pad of a camera in front of it, which counts what
/// key frames are asked for.
struct Camera {
    /// Keeps the feed, which tells that viewers can start.
    _feeds: Feeds,
    stream: Arc<Stream>,
    harness: gst_check::Harness,
    asked: Arc<AtomicUsize>,
    ready: mpsc::Receiver<()>,
}

impl Camera {
    fn new(caps: &str) -> Self {
        gst::init().expect("GStreamer starts");
        let (sender, ready) = mpsc::channel();
        let mut listeners = Listeners::default();
        listeners.add(move |event| {
            if let Event::Ready(..) = event {
                sender.send(()).expect("the test listens");
            }
        });
        let feeds = Feeds::new(listeners);
        let feed = feeds.open("door").expect("there is room");
        let stream = feed.stream(0).expect("a good number");
        let mut harness = gst_check::Harness::with_element(&stream.sink(), Some("sink"), None);
        harness.set_src_caps_str(caps);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let source = harness.srcpad().expect("a source pad").clone();
        source.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
            if info
                .event()
                .is_some_and(|event| gst_video::ForceKeyUnitEvent::is(event))
            {
                count.fetch_add(1, Ordering::Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
        Self {
            _feeds: feeds,
            stream,
            harness,
            asked,
            ready,
        }
    }

    fn push(&mut self, key: bool) {
        let mut buffer = gst::Buffer::from_slice([0, 0, 1, 9, 0xf0]);
        let writable = buffer.make_mut();
        writable.set_pts(gst::ClockTime::ZERO);
        if !key {
            writable.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        self.harness.push(buffer).expect("the sink takes it");
    }

    /// The camera had its time to send a key frame that was asked for.
    fn wait_for_an_answer(&self) {
        self.stream.lock().key_requests.ask(past());
    }

    fn attach(&self) -> (Arc<Consumer>, Attachment) {
        let consumer = Arc::new(Consumer::new(LIMITS, || {}));
        let attachment = self.stream.attach(consumer.clone());
        (consumer, attachment)
    }
}

/// A moment in which what was asked for should be here by now.
fn past() -> Instant {
    Instant::now()
        .checked_sub(KEY_REQUEST_INTERVAL)
        .expect("it was")
}

fn keys(consumer: &Consumer) -> Vec<bool> {
    std::iter::from_fn(|| consumer.take())
        .map(|frame| frame.key)
        .collect()
}

fn numbers(consumer: &Consumer) -> Vec<u64> {
    std::iter::from_fn(|| consumer.take())
        .map(|frame| frame.sequence)
        .collect()
}

#[test]
fn viewers_start_at_key_frames_and_ask_for_them() {
    let mut camera = Camera::new("video/x-h264");
    let (early, _early) = camera.attach();
    camera.push(false);
    assert_eq!(camera.asked.load(Ordering::Relaxed), 1);
    camera.push(false);
    assert_eq!(
        camera.asked.load(Ordering::Relaxed),
        1,
        "asked once is enough"
    );
    assert!(camera.ready.try_recv().is_err());
    camera.push(true);
    camera.ready.try_recv().expect("viewers can start");
    camera.push(false);
    assert_eq!(keys(&early), [true, false]);

    // The key frame is shown at once, and what follows the next one.
    let (late, _late) = camera.attach();
    assert_eq!(camera.asked.load(Ordering::Relaxed), 2);
    camera.push(false);
    camera.push(true);
    camera.push(false);
    assert_eq!(keys(&late), [true, true, false]);
    assert_eq!(keys(&early), [false, true, false]);
    assert!(camera.ready.try_recv().is_err(), "told once");
}

#[test]
fn a_viewer_right_after_a_key_frame_misses_nothing() {
    let mut camera = Camera::new("video/x-h265");
    camera.push(true);
    let (consumer, _attachment) = camera.attach();
    camera.push(false);
    assert_eq!(keys(&consumer), [true, false]);
    assert_eq!(camera.asked.load(Ordering::Relaxed), 0);
}

#[test]
fn a_camera_that_returns_is_followed_from_its_key_frame() {
    let mut camera = Camera::new("video/x-h264");
    camera.push(true);
    let (consumer, attachment) = camera.attach();
    camera.stream.restart();
    camera.push(false);
    camera.push(true);
    camera.push(false);
    assert_eq!(keys(&consumer), [true, true, false]);
    assert_eq!(camera.ready.try_iter().count(), 2, "told again");
    drop(attachment);
    assert_eq!(camera.stream.consumers(), 0);
    camera.push(true);
    assert_eq!(keys(&consumer), [true; 0]);
}

#[test]
fn a_camera_that_ignores_requests_is_shown_live_all_the_same() {
    let mut camera = Camera::new("video/x-h264");
    camera.push(true);
    camera.push(false);
    // It may yet answer the first viewer.
    let (first, _first) = camera.attach();
    assert_eq!(camera.asked.load(Ordering::Relaxed), 1);
    camera.push(false);
    assert_eq!(numbers(&first), [0]);
    camera.wait_for_an_answer();
    camera.push(false);
    assert_eq!(numbers(&first), [1, 2, 3]);
    // The next one is not kept waiting.
    let (next, _next) = camera.attach();
    camera.push(false);
    assert_eq!(numbers(&next), [0, 1, 2, 3, 4]);
    assert_eq!(numbers(&first), [4]);

    // Once it answers, a key frame is all that a viewer needs.
    camera.wait_for_an_answer();
    camera.stream.request_key();
    camera.push(true);
    camera.push(false);
    let (last, _last) = camera.attach();
    camera.push(false);
    assert_eq!(numbers(&last), [5]);
}

#[test]
fn nobody_catches_up_with_what_was_before_the_camera_came_again() {
    let mut camera = Camera::new("video/x-h264");
    camera.push(true);
    camera.push(false);
    camera.stream.restart();
    camera.push(false);
    let (consumer, _attachment) = camera.attach();
    camera.wait_for_an_answer();
    camera.push(false);
    assert_eq!(numbers(&consumer), [0], "2 and 3 build on what nobody has");
    camera.push(true);
    assert_eq!(numbers(&consumer), [4]);
}
