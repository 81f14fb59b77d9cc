//! What the tests of the elements share.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::Once;
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst_check::Harness;

/// Longer than anything takes that works.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Makes the elements known.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstcamrelay::plugin_register_static().unwrap();
    });
}

/// Polls until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A `camrelaysrc` on a port that the system picks, with more properties as gst-launch
/// writes them.
pub fn source(properties: &str) -> Harness {
    let all = format!("camrelaysrc address=127.0.0.1 port=0 {properties}");
    let mut harness = parse(&all, None, Some("src"));
    harness.play();
    harness
}

/// A `camrelaysrc` on a port of this process that is open already.
pub fn source_on(port: u32, properties: &str) -> Harness {
    let all = format!("camrelaysrc address=127.0.0.1 port={port} {properties}");
    let mut harness = parse(&all, None, Some("src"));
    harness.play();
    harness
}

/// A `camrelaysink` to a port of this machine, with more properties and the caps of its stream.
pub fn sink(port: u32, properties: &str, caps: &str) -> Harness {
    let all = format!("camrelaysink port={port} {properties}");
    let mut harness = parse(&all, Some("sink"), None);
    harness.set_src_caps_str(caps);
    harness.play();
    harness
}

fn parse(launch: &str, sink: Option<&str>, src: Option<&str>) -> Harness {
    init();
    let element = gst::parse::launch(launch).unwrap();
    // A bus of its own keeps what it posts.
    element.set_bus(Some(&gst::Bus::new()));
    let mut harness = Harness::with_element(&element, sink, src);
    harness.use_systemclock();
    harness
}

/// The port that a source is bound to.
pub fn port(source: &Harness) -> u32 {
    source.element().unwrap().property("port")
}

/// A counter of an element.
pub fn stat<T: for<'a> glib::value::FromValue<'a> + 'static>(harness: &Harness, name: &str) -> T {
    let stats: gst::Structure = harness.element().unwrap().property("stats");
    stats.get(name).unwrap()
}

/// Waits until a sink, or a source that calls, has its session.
#[track_caller]
pub fn connected(harness: &Harness) {
    until("connected", || stat(harness, "connected"));
}

/// A buffer of `size` bytes that no other `seed` has.
pub fn buffer(size: usize, seed: u8) -> gst::Buffer {
    let bytes = (0..size).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed);
    gst::Buffer::from_slice(bytes.collect::<Vec<u8>>())
}

/// The bytes of a buffer.
pub fn bytes(buffer: &gst::Buffer) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}

/// The first message of a kind that an element posts.
#[track_caller]
pub fn message(harness: &Harness, kind: gst::MessageType) -> gst::Message {
    let bus = harness.element().unwrap().bus().unwrap();
    let timeout = gst::ClockTime::try_from(DEADLINE).unwrap();
    bus.timed_pop_filtered(timeout, &[kind])
        .unwrap_or_else(|| panic!("no message {kind:?}"))
}

/// The next event of a kind that a source pushes.
#[track_caller]
pub fn event(source: &mut Harness, kind: gst::EventType) -> gst::Event {
    loop {
        let event = source.pull_event().unwrap();
        if event.type_() == kind {
            return event;
        }
    }
}

/// A UDP port of this machine that was free just now.
pub fn free_port() -> u32 {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.local_addr().unwrap().port().into()
}

/// The text of an error or warning that an element posts, but for that on this machine's buffers.
#[track_caller]
pub fn complaint(harness: &Harness, kind: gst::MessageType) -> (glib::Error, String) {
    loop {
        let error = match message(harness, kind).view() {
            gst::MessageView::Error(error) => error.error(),
            gst::MessageView::Warning(warning) => warning.error(),
            _ => unreachable!("only errors and warnings complain"),
        };
        let text = error.message().to_string();
        if !text.contains("net.core.rmem_max") {
            return (error, text);
        }
    }
}

/// Stops an element, and forgets what it posted, which keeps it alive.
pub fn stop(harness: &Harness) {
    let element = harness.element().unwrap();
    element.set_state(gst::State::Null).unwrap();
    element.set_bus(None::<&gst::Bus>);
}

/// Pushes frames, as a live camera does, until the source has one, and lets those that are
/// under way arrive. Returns the first.
#[track_caller]
pub fn first_frame(sink: &mut Harness, source: &mut Harness) -> gst::Buffer {
    let mut received = None;
    until("a frame arrived", || {
        sink.push(buffer(2_000, 1)).unwrap();
        received = source.try_pull();
        received.is_some()
    });
    sink.push(buffer(3_333, 1)).unwrap();
    while source.pull().unwrap().size() != 3_333 {}
    received.unwrap()
}
