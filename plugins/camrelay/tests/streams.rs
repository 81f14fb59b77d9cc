//! Streams of one camera, cameras of one port, and the end of both.

mod common;

use common::*;
use gst::prelude::*;

const JPEG: &str = "image/jpeg";
const OPUS: &str = "audio/x-opus";

#[test]
fn streams_of_one_camera_share_a_session() {
    let mut video = source("camera=door");
    let shared = format!("camera=door stream=1 port={}", port(&video));
    let mut audio = source(&shared);
    let mut picture = sink(port(&video), "camera=door", JPEG);
    let mut sound = sink(port(&video), "camera=door stream=1", OPUS);
    connected(&picture);
    assert!(stat::<bool>(&sound, "connected"), "a session of its own");

    picture.push(buffer(9_000, 1)).unwrap();
    sound.push(buffer(90, 2)).unwrap();
    assert_eq!(video.pull().unwrap().size(), 9_000);
    assert_eq!(audio.pull().unwrap().size(), 90);
    let caps = audio.sinkpad().unwrap().current_caps().unwrap();
    assert_eq!(caps.to_string(), OPUS);
    assert!(video.try_pull().is_none());
    assert!(audio.try_pull().is_none());
    assert_eq!(stat::<u64>(&picture, "frames-sent"), 2);
    assert_eq!(stat::<u64>(&sound, "frames-sent"), 2);
}

#[test]
fn one_stream_has_one_sender() {
    let first = sink(free_port(), "camera=door stream=3", JPEG);
    let port: u32 = first.element().unwrap().property("port");
    let launch = format!("camrelaysink port={port} camera=door stream=3");
    let second = gst::parse::launch(&launch).unwrap();
    let bus = gst::Bus::new();
    second.set_bus(Some(&bus));
    assert!(second.set_state(gst::State::Paused).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!()
    };
    let text = error.error().message().to_string();
    assert!(text.contains("stream 3 of camera 'door'"), "{text}");
    second.set_state(gst::State::Null).unwrap();
}

#[test]
fn cameras_of_one_port_are_kept_apart() {
    let mut door = source("camera=door");
    let at = format!("port={} camera=", port(&door));
    let mut yard = source(&format!("{at}yard"));
    let mut yard_too = source(&format!("{at}yard"));
    let mut from_door = sink(port(&door), "camera=door", JPEG);
    let mut from_yard = sink(port(&door), "camera=yard", JPEG);
    connected(&from_door);
    connected(&from_yard);
    for seed in 0..5 {
        from_door.push(buffer(1_000, seed)).unwrap();
        from_yard.push(buffer(2_000, seed)).unwrap();
    }
    for seed in 0..5 {
        assert_eq!(bytes(&door.pull().unwrap()), bytes(&buffer(1_000, seed)));
        let expected = bytes(&buffer(2_000, seed));
        assert_eq!(bytes(&yard.pull().unwrap()), expected);
        assert_eq!(bytes(&yard_too.pull().unwrap()), expected);
    }
}

#[test]
fn a_source_without_a_name_takes_the_first_camera() {
    let mut any = source("");
    let mut first = sink(port(&any), "camera=first", JPEG);
    connected(&first);
    let mut second = sink(port(&any), "camera=second", JPEG);
    connected(&second);
    second.push(buffer(20, 0)).unwrap();
    first.push(buffer(10, 0)).unwrap();
    assert_eq!(any.pull().unwrap().size(), 10);
    assert!(any.try_pull().is_none());
}

#[test]
fn the_end_of_a_stream_ends_a_source_that_does_not_keep_listening() {
    let mut source = source("camera=door keep-listening=false latency=2000");
    let mut sink = sink(port(&source), "camera=door", JPEG);
    connected(&sink);
    for seed in 0..20 {
        sink.push(buffer(50_000, seed)).unwrap();
    }
    assert!(sink.push_event(gst::event::Eos::new()));
    stop(&sink);
    for seed in 0..20 {
        let received = bytes(&source.pull().unwrap());
        assert!(received == bytes(&buffer(50_000, seed)), "frame {seed}");
    }
    event(&mut source, gst::EventType::Eos);
}

#[test]
fn a_source_that_keeps_listening_goes_on_when_the_stream_begins_anew() {
    let mut source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door", JPEG);
    connected(&sink);
    sink.push(buffer(10, 0)).unwrap();
    source.pull().unwrap();
    sink.push_event(gst::event::Eos::new());

    // As a seek back to the beginning does.
    sink.push_event(gst::event::FlushStart::new());
    sink.push_event(gst::event::FlushStop::new(true));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    sink.push_event(gst::event::Segment::new(&segment));
    let again = first_frame(&mut sink, &mut source);
    assert!(again.flags().contains(gst::BufferFlags::DISCONT));
    while let Some(event) = source.try_pull_event() {
        assert_ne!(event.type_(), gst::EventType::Eos);
    }
}

#[test]
fn a_key_frame_asked_for_downstream_is_asked_for_upstream() {
    let mut source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door", "video/x-h264");
    connected(&sink);
    first_frame(&mut sink, &mut source);
    let force = gst_video::UpstreamForceKeyUnitEvent::builder().build();
    assert!(source.push_upstream_event(force));
    loop {
        let event = sink.pull_upstream_event().unwrap();
        if gst_video::ForceKeyUnitEvent::is(&event) {
            break;
        }
    }
}

#[test]
fn a_source_begins_with_a_key_frame_and_asks_for_it() {
    let mut early = source("camera=door");
    let mut sink = sink(port(&early), "camera=door", "video/x-h264");
    connected(&sink);
    let delta = || {
        let mut delta = buffer(10, 0);
        delta.make_mut().set_flags(gst::BufferFlags::DELTA_UNIT);
        delta
    };
    sink.push(buffer(20, 0)).unwrap();
    sink.push(delta()).unwrap();
    assert_eq!(early.pull().unwrap().size(), 20);
    assert_eq!(early.pull().unwrap().size(), 10);

    let mut late = source(&format!("camera=door port={}", port(&early)));
    until("a key frame is asked for", || {
        sink.push(delta()).unwrap();
        let event = sink.try_pull_upstream_event();
        event.is_some_and(|event| gst_video::ForceKeyUnitEvent::is(&event))
    });
    assert!(late.try_pull().is_none());
    sink.push(buffer(30, 0)).unwrap();
    assert_eq!(late.pull().unwrap().size(), 30);
}

#[test]
fn cameras_are_announced_by_signals() {
    let source = source("camera=door");
    let (tell, told) = std::sync::mpsc::channel();
    for signal in ["camera-added", "camera-removed"] {
        let tell = tell.clone();
        source
            .element()
            .unwrap()
            .connect(signal, false, move |values| {
                let camera: String = values[1].get().unwrap();
                tell.send(format!("{signal} {camera}")).unwrap();
                None
            });
    }
    let sink = sink(port(&source), "camera=yard", JPEG);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), "camera-added yard");
    stop(&sink);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), "camera-removed yard");
}

#[test]
fn a_slow_consumer_loses_whole_frames_and_hears_of_it() {
    let mut source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door", JPEG);
    connected(&sink);
    first_frame(&mut sink, &mut source);
    // Nothing is taken while a buffer is held up downstream.
    let pad = source.sinkpad().unwrap();
    let held = pad.stream_lock();
    let begun: u64 = stat(&source, "frames-delivered");
    for sent in 1..=100 {
        sink.push(buffer(1_000, 9)).unwrap();
        until("it arrived", || {
            stat::<u64>(&source, "frames-delivered") == begun + sent
        });
    }
    // The queue holds 32, and the streaming thread one.
    let dropped = stat::<u64>(&source, "frames-dropped");
    assert!((67..=68).contains(&dropped), "{dropped} were dropped");
    drop(held);
    let message = message(&source, gst::MessageType::Element);
    let gap = message.structure().unwrap();
    assert_eq!(gap.name(), "camrelay-gap");
    assert_eq!(gap.get::<&str>("reason").unwrap(), "slow-consumer");
    let missing = gap.get::<u32>("frames").unwrap();
    assert_eq!(u64::from(missing), stat::<u64>(&source, "frames-dropped"));
    event(&mut source, gst::EventType::Gap);
}
