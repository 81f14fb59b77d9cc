//! State changes: from any state to any other, at any moment, leaving nothing behind.

mod common;

use common::*;
use gst::prelude::*;

const JPEG: &str = "image/jpeg";

/// Threads of this process that ports and sessions started.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| {
        // A thread may end while it is looked at.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    names.filter(|name| name.starts_with("camrelay-")).count()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn starting_and_stopping_leaves_no_thread_and_no_descriptor() {
    let cycle = || {
        let mut source = source("camera=door");
        let mut sink = sink(port(&source), "camera=door", JPEG);
        first_frame(&mut sink, &mut source);
        assert!(threads() >= 2, "they are called otherwise");
        stop(&sink);
        stop(&source);
        // A session says goodbye in the background.
        until("its threads ended", || threads() == 0);
    };
    // GStreamer's own pools fill up at first.
    for _ in 0..5 {
        cycle();
    }
    let before = descriptors();
    for _ in 0..50 {
        cycle();
    }
    assert_eq!(descriptors(), before);
}

#[test]
fn every_state_is_reached_from_every_other() {
    init();
    let states = [
        gst::State::Null,
        gst::State::Ready,
        gst::State::Paused,
        gst::State::Playing,
    ];
    let source = gst::parse::launch("camrelaysrc address=127.0.0.1 port=0 ! fakesink").unwrap();
    let sink = gst::parse::launch(
        "videotestsrc is-live=true ! video/x-raw,width=16,height=16 ! camrelaysink camera=x port=9",
    )
    .unwrap();
    for pipeline in [source, sink] {
        for from in states {
            for to in states {
                pipeline.set_state(from).unwrap();
                pipeline.set_state(to).unwrap();
            }
        }
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn frames_captured_while_a_source_was_paused_are_not_played() {
    let mut source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door", JPEG);
    first_frame(&mut sink, &mut source);
    let element = source.element().unwrap();
    element.set_state(gst::State::Paused).unwrap();
    let delivered = || stat::<u64>(&source, "frames-delivered");
    let before = delivered();
    sink.push(buffer(1_000, 1)).unwrap();
    until("it arrived", || delivered() == before + 1);
    element.set_state(gst::State::Playing).unwrap();
    sink.push(buffer(2_000, 2)).unwrap();
    assert_eq!(source.pull().unwrap().size(), 2_000);
}

#[test]
fn a_source_that_waits_for_its_camera_can_be_flushed_and_stopped() {
    let mut source = source("camera=door");
    let element = source.element().unwrap();
    assert!(element.send_event(gst::event::FlushStart::new()));
    assert!(element.send_event(gst::event::FlushStop::new(true)));
    let mut sink = sink(port(&source), "camera=door", JPEG);
    first_frame(&mut sink, &mut source);
    stop(&source);
}

#[test]
fn a_sink_stops_at_once_although_nobody_answers() {
    let sink = sink(free_port(), "camera=door", JPEG);
    let begun = std::time::Instant::now();
    stop(&sink);
    // Far below any timeout of the network, far above what a busy machine needs.
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}
