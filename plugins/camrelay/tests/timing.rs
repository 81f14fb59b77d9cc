//! When frames leave, and what time they bear.

mod common;

use common::*;
use gst::prelude::*;

const JPEG: &str = "image/jpeg";

/// A sink that paces what it is given, as it does outside of a harness.
fn pacing_sink(port: u32) -> gst_check::Harness {
    let sink = sink(port, "camera=door", JPEG);
    // The harness switches it off.
    sink.element().unwrap().set_property("sync", true);
    sink
}

/// A frame of that running time.
fn at(running_time: gst::ClockTime) -> gst::Buffer {
    let mut buffer = buffer(1_000, 0);
    buffer.make_mut().set_pts(running_time);
    buffer
}

fn running_time(sink: &gst_check::Harness) -> gst::ClockTime {
    sink.element().unwrap().current_running_time().unwrap()
}

const HOUR: gst::ClockTime = gst::ClockTime::from_seconds(3_600);

#[test]
fn a_live_frame_leaves_at_once_whatever_the_latency_of_the_pipeline() {
    let mut source = source("camera=door");
    let mut sink = pacing_sink(port(&source));
    connected(&sink);
    let latency = gst::event::Latency::new(HOUR);
    assert!(sink.element().unwrap().send_event(latency));
    // Elements upstream hear of it all the same.
    while sink.pull_upstream_event().unwrap().type_() != gst::EventType::Latency {}
    let captured = running_time(&sink);
    sink.push(at(captured)).unwrap();
    source.pull().unwrap();
}

#[test]
fn a_frame_of_a_file_waits_for_its_time() {
    let mut source = source("camera=door");
    let mut sink = pacing_sink(port(&source));
    connected(&sink);
    let due = running_time(&sink) + 100 * gst::ClockTime::MSECOND;
    sink.push(at(due)).unwrap();
    source.pull().unwrap();
    assert!(running_time(&sink) >= due);
}

#[test]
fn a_sink_that_waits_for_a_frames_time_can_be_flushed() {
    let mut source = source("camera=door");
    let mut sink = pacing_sink(port(&source));
    connected(&sink);
    let due = running_time(&sink) + HOUR;
    let pad = sink.srcpad().unwrap();
    let pushing = std::thread::spawn({
        let pad = pad.clone();
        move || pad.push(at(due))
    });
    assert!(pad.push_event(gst::event::FlushStart::new()));
    assert_eq!(pushing.join().unwrap(), Err(gst::FlowError::Flushing));
    assert!(pad.push_event(gst::event::FlushStop::new(false)));
    let now = running_time(&sink);
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    sink.push_event(gst::event::Segment::new(&segment));
    sink.push(at(now)).unwrap();
    source.pull().unwrap();
}

#[test]
fn capture_times_cross_from_one_clock_to_another() {
    let on_test_clock = |launch: &str, sink, src, seconds| {
        let element = gst::parse::launch(launch).unwrap();
        let mut harness = gst_check::Harness::with_element(&element, sink, src);
        harness.use_testclock();
        let time = gst::ClockTime::from_seconds(seconds);
        harness.set_time(time).unwrap();
        harness
    };
    init();
    let launch = "camrelaysrc camera=door address=127.0.0.1 port=0";
    let mut source = on_test_clock(launch, None, Some("src"), 1_000);
    source.play();
    let launch = format!("camrelaysink camera=door port={}", port(&source));
    let mut sink = on_test_clock(&launch, Some("sink"), None, 500);
    sink.set_src_caps_str(JPEG);
    sink.play();
    connected(&sink);
    // What the path takes at the least counts as no time at all.
    sink.push(at(gst::ClockTime::from_seconds(500))).unwrap();
    let prompt = gst::ClockTime::from_seconds(1_000) - source.pull().unwrap().pts().unwrap();
    assert!(prompt < gst::ClockTime::SECOND, "{prompt}");
    sink.push(at(gst::ClockTime::from_seconds(490))).unwrap();
    let received = source.pull().unwrap();
    let age = gst::ClockTime::from_seconds(1_000) - received.pts().unwrap();
    assert!(age.seconds().abs_diff(10) <= 1, "{age}");
    let age = age_by_the_wall(&received);
    assert!(age.abs_diff(10) <= 2, "{age} s");
}

/// Seconds since the capture time that a buffer bears.
fn age_by_the_wall(buffer: &gst::Buffer) -> u64 {
    let meta = buffer.meta::<gst::ReferenceTimestampMeta>().unwrap();
    assert_eq!(meta.reference().to_string(), "timestamp/x-unix");
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs().abs_diff(meta.timestamp().seconds())
}

#[test]
fn frames_keep_their_distance() {
    let mut source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door", JPEG);
    first_frame(&mut sink, &mut source);
    let running = sink.element().unwrap().current_running_time().unwrap();
    let mut last: Option<(gst::ClockTime, gst::ClockTime)> = None;
    for index in 0..30 {
        let mut sent = buffer(1_000, 0);
        // All of them are in the past, so that none waits.
        let pts = running.saturating_sub((31 - index) * gst::ClockTime::from_useconds(100));
        sent.make_mut().set_pts(pts);
        sink.push(sent).unwrap();
        let received = source.pull().unwrap().pts().unwrap();
        if let Some((sent_before, before)) = last {
            let (sent_apart, apart) = (pts - sent_before, received - before);
            // The clocks are fitted as frames come, half a millisecond a second at most.
            let off = sent_apart.nseconds().abs_diff(apart.nseconds());
            assert!(off < 1_000_000, "{sent_apart} became {apart}");
        }
        last = Some((pts, received));
    }
}

#[test]
fn the_capture_time_of_the_wall_is_told() {
    let mut source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door", JPEG);
    let received = first_frame(&mut sink, &mut source);
    let age = age_by_the_wall(&received);
    assert!(age < 60, "{age} s");
}

#[test]
fn a_wall_clock_that_steps_changes_what_frames_bear_and_not_their_times() {
    let mut source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door", JPEG);
    first_frame(&mut sink, &mut source);
    let running = running_time(&sink);
    let unix = gst::Caps::new_empty_simple("timestamp/x-unix");
    let day = gst::ClockTime::from_seconds(1_790_000_000);
    let mut last = None;
    for (index, wall) in (0..).zip([day, day + HOUR, day + HOUR, day - HOUR, day]) {
        // All of them are in the past, so that none waits.
        let pts = running.saturating_sub((6 - index) * gst::ClockTime::from_useconds(100));
        let mut sent = at(pts);
        gst::ReferenceTimestampMeta::add(sent.make_mut(), &unix, wall, None);
        sink.push(sent).unwrap();
        let received = source.pull().unwrap();
        let meta = received.meta::<gst::ReferenceTimestampMeta>().unwrap();
        assert_eq!(meta.timestamp(), wall);
        let (pts, before) = (
            received.pts().unwrap(),
            last.replace(received.pts().unwrap()),
        );
        let apart = before.map_or(0, |before: gst::ClockTime| (pts - before).nseconds());
        assert!(apart < 1_100_000, "{apart} ns, of 100 \u{b5}s");
    }
}
