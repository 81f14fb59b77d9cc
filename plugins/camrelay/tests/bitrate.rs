//! Encoders before the sink that follow what the network carries.

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::*;
use gst::prelude::*;
use path_emulator::{Conditions, Direction, Proxy, Route};

/// A camera whose frames nobody takes, with an encoder called `encoder`; 30 frames a second that
/// are made as fast as they can be.
fn camera(encoder: &str, sink: &str) -> (gst::Pipeline, gst::Element, gst::Element) {
    init();
    let text = format!(
        "videotestsrc name=source pattern=zone-plate kx2=20 ky2=20 kt=1 \
         ! video/x-raw,width=640,height=480,framerate=30/1 \
         ! {encoder} name=encoder ! queue max-size-buffers=2 \
         ! camrelaysink name=sink sync=false camera=x port={} {sink}",
        free_port()
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let (encoder, sink) = (pipeline.by_name("encoder"), pipeline.by_name("sink"));
    (pipeline, encoder.unwrap(), sink.unwrap())
}

/// Bits per second of so many frames that come to the sink from now on, by their times; those
/// before are skipped.
fn rate(sink: &gst::Element, frames: usize, skip: usize) -> f64 {
    let (sender, came) = std::sync::mpsc::channel();
    let pad = sink.static_pad("sink").unwrap();
    let probe = pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            // The test may have had enough.
            let _ = sender.send((buffer.pts().unwrap(), buffer.size()));
        }
        gst::PadProbeReturn::Ok
    });
    let next = || came.recv_timeout(DEADLINE).unwrap();
    for _ in 0..skip {
        next();
    }
    let first = next().0;
    let (mut bits, mut last) = (0.0, first);
    for _ in 0..frames {
        let (pts, size) = next();
        bits += size as f64 * 8.0;
        last = pts;
    }
    pad.remove_probe(probe.unwrap());
    bits / (last - first).mseconds() as f64 * 1000.0
}

#[test]
fn jpeg_gets_coarser_and_as_fine_as_before_again() {
    let (pipeline, encoder, sink) = camera("jpegenc quality=90", "");
    pipeline.set_state(gst::State::Playing).unwrap();
    let full = rate(&sink, 30, 5);
    assert_eq!(encoder.property::<i32>("quality"), 90);
    assert_eq!(sink.property::<u32>("target-bitrate"), 0);

    let limit = full * 0.4;
    sink.set_property("max-bitrate", limit as u32);
    let limited = rate(&sink, 60, 30);
    assert!(
        (0.7..=1.0).contains(&(limited / limit)),
        "{limited} of {limit}"
    );
    assert!(encoder.property::<i32>("quality") < 90);
    assert_eq!(sink.property::<u32>("target-bitrate"), limit as u32);

    sink.set_property("max-bitrate", 0_u32);
    rate(&sink, 1, 30);
    assert_eq!(encoder.property::<i32>("quality"), 90);

    // It is left as it was found.
    sink.set_property("max-bitrate", limit as u32);
    rate(&sink, 1, 30);
    assert!(encoder.property::<i32>("quality") < 90);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(encoder.property::<i32>("quality"), 90);
}

/// A path that carries so much.
fn narrow(rate: u64) -> Conditions {
    Conditions {
        rate,
        queue: Duration::from_millis(100),
        ..Conditions::clean(Duration::from_millis(10))
    }
}

#[test]
fn encoders_follow_what_the_path_carries() {
    for (encoder, property) in [
        ("jpegenc quality=90", "quality"),
        (
            "openh264enc rate-control=bitrate bitrate=2000000 gop-size=30",
            "bitrate",
        ),
    ] {
        let mut source = source("camera=door");
        let route = Route {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            to: (Ipv4Addr::LOCALHOST, port(&source) as u16).into(),
        };
        let wide = narrow(20_000_000);
        let proxy = Proxy::start(&[route], wide, wide, 1).unwrap();
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc is-live=true pattern=zone-plate kx2=20 ky2=20 kt=1 \
             ! video/x-raw,width=320,height=240,framerate=30/1 ! {encoder} name=encoder \
             ! camrelaysink name=sink camera=door port={}",
            proxy.addresses()[0].port()
        ));
        let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
        let element = pipeline.by_name("encoder").unwrap();
        let set = || {
            let value = element.property_value(property);
            value.transform::<i64>().unwrap().get::<i64>().unwrap()
        };
        let as_set_up = set();
        let mut frames = 0;
        let mut go_on_until = |what: &str, condition: &dyn Fn(u32) -> bool| {
            until(&format!("{encoder}: {what}"), || {
                while source.try_pull().is_some() {
                    frames += 1;
                }
                condition(frames)
            });
        };
        pipeline.set_state(gst::State::Playing).unwrap();
        go_on_until("it is seen", &|frames| frames > 30);
        proxy.set(Direction::There, narrow(700_000));
        go_on_until("it gets coarser", &|_| set() < as_set_up / 2);
        proxy.set(Direction::There, wide);
        go_on_until("it is as fine as before again", &|_| set() == as_set_up);
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn encoders_with_a_bitrate_get_another_one() {
    for (text, property, unit) in [
        (
            "openh264enc rate-control=bitrate bitrate=4000000",
            "bitrate",
            1.0,
        ),
        (
            "vp8enc deadline=1 cpu-used=8 target-bitrate=4000000",
            "target-bitrate",
            1.0,
        ),
    ] {
        let (pipeline, encoder, sink) = camera(text, "");
        let set = || {
            let value = encoder.property_value(property);
            value.transform::<i64>().unwrap().get::<i64>().unwrap() as f64 * unit
        };
        pipeline.set_state(gst::State::Playing).unwrap();
        let full = rate(&sink, 60, 30);
        assert_eq!(set(), 4e6, "{text}");
        sink.set_property("max-bitrate", 1_000_000_u32);
        let limited = rate(&sink, 60, 120);
        assert_eq!(set(), 0.9e6, "{text}");
        println!("{text}: {full} became {limited}");
        assert!(limited < 1.5e6, "{text}: {full} became {limited}");
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(set(), 4e6, "{text}");
    }
}

#[test]
fn nothing_is_touched_where_it_is_switched_off() {
    let (pipeline, encoder, sink) = camera("jpegenc", "auto-bitrate=false max-bitrate=100000");
    pipeline.set_state(gst::State::Playing).unwrap();
    rate(&sink, 30, 0);
    assert_eq!(encoder.property::<i32>("quality"), 85);
    sink.set_property("auto-bitrate", true);
    rate(&sink, 1, 30);
    assert_eq!(encoder.property::<i32>("quality"), 10);
    sink.set_property("auto-bitrate", false);
    rate(&sink, 1, 30);
    assert_eq!(encoder.property::<i32>("quality"), 85);
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn pictures_that_come_encoded_are_left_out_evenly() {
    let mut source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door", "image/jpeg");
    first_frame(&mut sink, &mut source);
    // 12.5 kB at 30 a second are 3 Mbit/s.
    let element = sink.element().unwrap();
    element.set_property("max-bitrate", 1_000_000_u32);
    let before = stat::<u64>(&sink, "frames-dropped");
    let mut sent = Vec::new();
    for frame in 0..90 {
        let mut picture = buffer(12_500, frame as u8);
        let pts = gst::ClockTime::SECOND * frame / 30;
        picture.make_mut().set_pts(pts);
        let dropped = stat::<u64>(&sink, "frames-dropped");
        sink.push(picture).unwrap();
        sent.push(stat::<u64>(&sink, "frames-dropped") == dropped);
    }
    let dropped = stat::<u64>(&sink, "frames-dropped") - before;
    assert!((50..=62).contains(&dropped), "{dropped}");
    let apart = sent[30..].chunk_by(|a, b| a == b).filter(|run| !run[0]);
    assert!(apart.map(<[bool]>::len).all(|len| len <= 3), "{sent:?}");
}
