//! Frames from sink to source through real UDP: bytes, caps, timestamps, flags.

mod common;

use std::sync::Arc;

use common::*;
use gst::prelude::*;

const JPEG: &str = "image/jpeg,width=16,height=16,framerate=30/1";

#[test]
fn frames_of_every_size_arrive_byte_for_byte() {
    let mut source = source("camera=door latency=2000");
    let mut sink = sink(port(&source), "camera=door", JPEG);
    connected(&sink);
    for (seed, size) in [1, 100, 1_000, 50_000, 1_000_000, 4 << 20]
        .into_iter()
        .enumerate()
    {
        let sent = buffer(size, seed as u8);
        sink.push(sent.clone()).unwrap();
        let received = source.pull().unwrap();
        assert_eq!(received.size(), size);
        assert!(bytes(&received) == bytes(&sent), "{size} bytes differ");
    }
    assert_eq!(stat::<u64>(&source, "frames-delivered"), 6);
    assert_eq!(stat::<u64>(&sink, "frames-sent"), 6);
}

#[test]
fn a_frame_above_the_limit_is_an_error_that_says_so() {
    let source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door", JPEG);
    connected(&sink);
    let sent = sink.push(buffer((4 << 20) + 1, 0));
    assert_eq!(sent, Err(gst::FlowError::Error));
    let (_, text) = complaint(&sink, gst::MessageType::Error);
    assert!(text.contains("4194305"), "{text}");
}

#[test]
fn caps_go_with_their_frames() {
    let mut source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door", JPEG);
    connected(&sink);
    let pad = source.sinkpad().unwrap();
    let caps_now = || pad.current_caps().unwrap().to_string();
    let h264 = "video/x-h264, stream-format=(string)byte-stream, alignment=(string)au";
    for caps in [JPEG, h264, JPEG] {
        sink.set_src_caps_str(caps);
        sink.push(buffer(3_000, 1)).unwrap();
        source.pull().unwrap();
        let expected = caps.parse::<gst::Caps>().unwrap().to_string();
        assert_eq!(caps_now(), expected);
    }
}

#[test]
fn flags_and_times_arrive() {
    let mut source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door", "video/x-h264");
    connected(&sink);
    sink.push(buffer(10, 0)).unwrap();
    let first = source.pull().unwrap();
    assert!(first.flags().contains(gst::BufferFlags::DISCONT));
    assert!(!first.flags().contains(gst::BufferFlags::DELTA_UNIT));

    let mut sent = buffer(10, 1);
    {
        let sent = sent.make_mut();
        let element = sink.element().unwrap();
        let pts = element.current_running_time().unwrap();
        sent.set_pts(pts);
        sent.set_dts(pts.checked_sub(3 * gst::ClockTime::MSECOND));
        sent.set_duration(33 * gst::ClockTime::MSECOND);
        sent.set_flags(gst::BufferFlags::DELTA_UNIT | gst::BufferFlags::DROPPABLE);
        let reference = gst::Caps::new_empty_simple("timestamp/x-unix");
        let wall = gst::ClockTime::from_seconds(1_800_000_000);
        gst::ReferenceTimestampMeta::add(sent, &reference, wall, None);
    }
    let captured = sink.element().unwrap().base_time().unwrap() + sent.pts().unwrap();
    sink.push(sent).unwrap();
    let received = source.pull().unwrap();
    let flags = received.flags();
    assert!(flags.contains(gst::BufferFlags::DELTA_UNIT | gst::BufferFlags::DROPPABLE));
    assert!(!flags.contains(gst::BufferFlags::DISCONT));
    assert_eq!(received.duration(), Some(33 * gst::ClockTime::MSECOND));
    let (pts, dts) = (received.pts().unwrap(), received.dts().unwrap());
    assert_eq!(pts - dts, 3 * gst::ClockTime::MSECOND);
    // Both ends run on the system's clock; what differs is the path's delay, at most.
    let arrived = source.element().unwrap().base_time().unwrap() + pts;
    let apart = captured.nseconds().abs_diff(arrived.nseconds());
    assert!(apart < 1_000_000_000, "{captured} became {arrived}");
    let meta = received.meta::<gst::ReferenceTimestampMeta>().unwrap();
    assert_eq!(
        meta.timestamp(),
        gst::ClockTime::from_seconds(1_800_000_000)
    );
}

/// Bytes whose owner can be watched.
struct Watched(Arc<Vec<u8>>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn a_buffer_is_let_go_once_it_needs_no_repair_any_more() {
    let mut source = source("camera=door latency=20");
    let mut sink = sink(port(&source), "camera=door latency=20", JPEG);
    connected(&sink);
    let bytes = Arc::new(vec![7; 100_000]);
    sink.push(gst::Buffer::from_slice(Watched(bytes.clone())))
        .unwrap();
    source.pull().unwrap();
    until("the memory is free", || {
        sink.push(buffer(10, 0)).unwrap();
        source.pull().unwrap();
        Arc::strong_count(&bytes) == 1
    });
}

#[test]
fn a_stream_without_caps_is_refused_with_a_hint() {
    init();
    let element = gst::parse::launch("camrelaysink camera=door port=9").unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let mut sink = gst_check::Harness::with_element(&element, Some("sink"), None);
    sink.use_systemclock();
    sink.play();
    sink.push_event(gst::event::StreamStart::new("x"));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    sink.push_event(gst::event::Segment::new(&segment));
    assert_eq!(sink.push(buffer(10, 0)), Err(gst::FlowError::NotNegotiated));
    let (_, text) = complaint(&sink, gst::MessageType::Error);
    assert!(text.contains("capsfilter"), "{text}");
}

#[test]
fn caps_that_mean_nothing_elsewhere_are_refused() {
    let dmabuf = "video/x-raw(memory:DMABuf), format=(string)NV12";
    let nested = format!("a/b, x=(int){}1{}", "< ".repeat(9), " >".repeat(9));
    let source = source("camera=door");
    for (caps, hint) in [(dmabuf, "system memory"), (&nested, "nested")] {
        let mut sink = sink(port(&source), "camera=door", JPEG);
        connected(&sink);
        sink.set_src_caps_str(caps);
        let (error, text) = complaint(&sink, gst::MessageType::Error);
        assert!(error.matches(gst::StreamError::Format), "{text}");
        assert!(text.contains(hint), "{text}");
    }
}

#[test]
fn the_latency_query_is_answered() {
    let source = source("camera=door latency=250");
    assert_eq!(source.query_latency(), Some(250 * gst::ClockTime::MSECOND));
    let mut query = gst::query::Latency::new();
    assert!(source.element().unwrap().query(&mut query));
    let (live, min, max) = query.result();
    assert!(live);
    assert_eq!(min, 250 * gst::ClockTime::MSECOND);
    assert_eq!(max, None);
}
