//! Frames from a camera to a relay over all kinds of paths.

use std::collections::BTreeSet;
use std::time::Duration;

use camrelay_protocol::{Code, Error, Event, LatePolicy, MAX_FRAME_SIZE, Random, Rejection, Role};

use path_emulator::Conditions;

use crate::world::{CAMERA, RELAY, World, pattern};

const FRAME: Duration = Duration::from_nanos(33_333_333);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A camera that is registered.
fn registered(seed: u64, path: Conditions) -> (World, camrelay_protocol::PeerId) {
    let mut world = World::new(seed, path);
    world.start_relay();
    world.start(CAMERA, Default::default());
    let peer = world.publish(CAMERA, "door");
    world.run_until(ms(20_000), |events| {
        events.iter().any(|(_, _, e)| matches!(e, Event::Connected))
    });
    (world, peer)
}

#[test]
fn a_clean_path_delivers_everything_at_once() {
    let (mut world, peer) = registered(1, Conditions::clean(ms(5)));
    world.stream(CAMERA, peer, 300, FRAME, 50_000);
    assert_eq!(world.assert_intact(RELAY).len(), 300);
    for received in world.frames(RELAY) {
        assert!(received.frame.flags.key);
    }
    // The capture time is mapped to the relay's clock: the path at its fastest, 5 ms.
    let first = world.frames(RELAY)[0].frame.capture;
    let last = world.frames(RELAY)[299].frame.capture;
    assert_eq!(last.since(first).as_millis(), (FRAME * 299).as_millis());
}

#[test]
fn frames_of_every_size() {
    let (mut world, peer) = registered(2, Conditions::clean(ms(1)));
    let sizes = [
        1,
        2,
        1119,
        1120,
        1121,
        1154,
        2308,
        65_536,
        230_000,
        1 << 20,
        MAX_FRAME_SIZE,
    ];
    for (seed, len) in sizes.into_iter().enumerate() {
        let frame = world.frame(seed as u64, len);
        let now = world.now;
        world.host(CAMERA).send_frame(now, peer, 0, frame).unwrap();
        world.run(ms(40));
    }
    assert_eq!(world.assert_intact(RELAY).len(), sizes.len());
    let frame = world.frame(0, MAX_FRAME_SIZE + 1);
    let now = world.now;
    let refused = world.host(CAMERA).send_frame(now, peer, 0, frame);
    assert_eq!(
        refused,
        Err(Error::FrameTooLarge {
            size: MAX_FRAME_SIZE + 1,
            limit: MAX_FRAME_SIZE
        })
    );
}

#[test]
fn reordered_and_duplicated_datagrams_change_nothing() {
    for seed in 0..10 {
        let path = Conditions {
            jitter: ms(15),
            duplicates: 0.1,
            ..Conditions::clean(ms(5))
        };
        let (mut world, peer) = registered(seed, path);
        world.stream(CAMERA, peer, 100, FRAME, 50_000);
        world.run(ms(200));
        assert_eq!(world.assert_intact(RELAY).len(), 100);
    }
}

#[test]
fn several_streams_in_one_session() {
    let (mut world, peer) = registered(3, Conditions::clean(ms(5)));
    let now = world.now;
    world
        .host(CAMERA)
        .set_caps(now, peer, 1, "audio/x-opus")
        .unwrap();
    for number in 0..50 {
        for (stream, len) in [(0, 20_000), (1, 200)] {
            let frame = world.frame(number, len);
            let now = world.now;
            world
                .host(CAMERA)
                .send_frame(now, peer, stream, frame)
                .unwrap();
        }
        world.run(ms(20));
    }
    let count = |stream| {
        world
            .frames(RELAY)
            .iter()
            .filter(|f| f.stream == stream)
            .count()
    };
    assert_eq!((count(0), count(1)), (50, 50));
    for (stream, caps) in [(0, "image/jpeg"), (1, "audio/x-opus")] {
        assert!(world.events.iter().any(|(_, _, e)| matches!(e, Event::Caps { stream: s, caps: c, .. } if *s == stream && c == caps)));
    }
}

#[test]
fn caps_change_between_the_right_frames() {
    for seed in 0..10 {
        let path = Conditions {
            jitter: ms(20),
            ..Conditions::clean(ms(5))
        };
        let (mut world, peer) = registered(seed, path);
        world.stream(CAMERA, peer, 10, FRAME, 30_000);
        let now = world.now;
        world
            .host(CAMERA)
            .set_caps(now, peer, 0, "video/x-h264")
            .unwrap();
        world.stream(CAMERA, peer, 10, FRAME, 30_000);
        world.run(ms(200));
        let mut order = Vec::new();
        for (_, _, event) in &world.events {
            match event {
                Event::Caps { caps, .. } => order.push(caps.clone()),
                Event::Frame(_) => order.push("frame".into()),
                _ => {}
            }
        }
        let mut expected = vec!["image/jpeg".to_owned()];
        expected.extend(vec!["frame".to_owned(); 10]);
        expected.push("video/x-h264".into());
        expected.extend(vec!["frame".to_owned(); 10]);
        assert_eq!(order, expected);
    }
}

/// Draws numbers just below the wrap.
struct NearWrap(u32);

impl Random for NearWrap {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 -= 1;
        let bytes = self.0.to_be_bytes();
        out.iter_mut()
            .zip(bytes.into_iter().cycle())
            .for_each(|(out, byte)| *out = byte);
    }
}

#[test]
fn sequence_numbers_wrap() {
    let mut world = World::new(
        4,
        Conditions {
            jitter: ms(5),
            ..Conditions::clean(ms(1))
        },
    );
    world.start_relay();
    world.start_with(CAMERA, Default::default(), NearWrap(u32::MAX - 10));
    let peer = world.publish(CAMERA, "door");
    world.run(ms(500));
    world.stream(CAMERA, peer, 60, FRAME, 10_000);
    world.run(ms(200));
    let numbers: Vec<u32> = world.frames(RELAY).iter().map(|f| f.sequence).collect();
    assert!(
        numbers.contains(&u32::MAX) && numbers.contains(&0),
        "{numbers:?}"
    );
    assert_eq!(world.assert_intact(RELAY).len(), 60);
}

#[test]
fn the_end_of_a_stream_comes_after_its_last_frame() {
    for seed in 0..10 {
        let path = Conditions {
            jitter: ms(10),
            ..Conditions::clean(ms(5))
        };
        let (mut world, peer) = registered(seed, path);
        world.stream(CAMERA, peer, 5, FRAME, 50_000);
        let frame = world.frame(5, 50_000);
        let now = world.now;
        world.host(CAMERA).send_frame(now, peer, 0, frame).unwrap();
        world.host(CAMERA).end_stream(now, peer, 0);
        world.run(ms(500));
        let relevant: Vec<_> = world
            .events
            .iter()
            .filter(|(_, _, e)| matches!(e, Event::Frame(_) | Event::StreamEnded { .. }))
            .collect();
        assert_eq!(relevant.len(), 7);
        assert!(matches!(relevant[6].2, Event::StreamEnded { stream: 0 }));
    }
}

#[test]
fn capture_times_that_do_not_go_back_there_do_not_here() {
    let (mut world, peer) = registered(
        8,
        Conditions {
            jitter: ms(20),
            ..Conditions::clean(ms(5))
        },
    );
    for number in 0..300 {
        // Two frames with one capture time, the second some time after the first.
        let frame = world.frame(number, 5000);
        for _ in 0..2 {
            let now = world.now;
            world
                .host(CAMERA)
                .send_frame(now, peer, 0, frame.clone())
                .unwrap();
            world.run(FRAME / 2);
        }
    }
    world.run(ms(200));
    let times: Vec<_> = world
        .frames(RELAY)
        .iter()
        .map(|f| f.frame.capture)
        .collect();
    assert_eq!(times.len(), 600);
    assert!(times.is_sorted());
}

#[test]
fn a_stream_may_begin_again_after_its_end() {
    for seed in 0..10 {
        let path = Conditions {
            jitter: ms(30),
            loss: 0.05,
            ..Conditions::clean(ms(5))
        };
        let (mut world, peer) = registered(seed, path);
        for _ in 0..3 {
            let now = world.now;
            world
                .host(CAMERA)
                .set_caps(now, peer, 0, "image/jpeg")
                .unwrap();
            world.stream(CAMERA, peer, 20, FRAME, 30_000);
            let now = world.now;
            world.host(CAMERA).end_stream(now, peer, 0);
            let frame = world.frame(0, 100);
            let refused = world.host(CAMERA).send_frame(now, peer, 0, frame);
            assert_eq!(refused, Err(Error::NoCaps(0)));
        }
        world.run(ms(500));
        let ends: Vec<_> = world
            .events
            .iter()
            .filter(|(_, _, e)| matches!(e, Event::Frame(_) | Event::StreamEnded { .. }))
            .collect();
        let sizes: Vec<_> = ends
            .split(|(_, _, e)| matches!(e, Event::StreamEnded { .. }))
            .map(<[_]>::len)
            .collect();
        // The loss is not known at first: a frame may go.
        assert_eq!(sizes.len(), 4, "three ends: {sizes:?}, seed {seed}");
        assert!(
            sizes[..3].iter().all(|frames| *frames >= 19),
            "{sizes:?}, seed {seed}"
        );
    }
}

#[test]
fn a_key_frame_request_reaches_the_camera_once() {
    let (mut world, peer) = registered(5, Conditions::clean(ms(5)));
    world.stream(CAMERA, peer, 1, FRAME, 1000);
    let relay_peer = world
        .events
        .iter()
        .find(|(_, _, e)| matches!(e, Event::CameraAdded { .. }))
        .unwrap()
        .1;
    for _ in 0..5 {
        let now = world.now;
        world.host(RELAY).request_keyframe(now, relay_peer, 0);
        world.run(ms(10));
    }
    world.run(ms(100));
    let requests = world
        .events
        .iter()
        .filter(|(_, _, e)| matches!(e, Event::KeyframeRequested { stream: 0 }))
        .count();
    assert_eq!(requests, 1);
}

#[test]
fn a_viewer_gets_what_the_relay_forwards() {
    let mut world = World::new(6, Conditions::clean(ms(5)));
    world.start_relay();
    world.start(CAMERA, Default::default());
    let viewer = world.connect(
        CAMERA,
        Role::Watch {
            camera: "door".into(),
        },
    );
    world.run_until(ms(2000), |events| {
        events
            .iter()
            .any(|(_, _, e)| matches!(e, Event::WatchRequested { .. }))
    });
    let at_relay = world
        .events
        .iter()
        .find(|(_, _, e)| matches!(e, Event::WatchRequested { .. }))
        .unwrap()
        .1;
    let now = world.now;
    world
        .host(RELAY)
        .end_feed(now, at_relay, Rejection::new(Code::NoSuchCamera, "not yet"));
    world.run(ms(50));
    assert!(world.events.iter().any(|(_, p, e)| *p == viewer
        && matches!(e, Event::FeedEnded(r) if r.code == Code::NoSuchCamera)));
    let now = world.now;
    world
        .host(RELAY)
        .set_caps(now, at_relay, 0, "image/jpeg")
        .unwrap();
    world.stream(RELAY, at_relay, 30, FRAME, 50_000);
    assert_eq!(world.assert_intact(CAMERA).len(), 30);
    assert_eq!(world.frames(CAMERA)[0].frame.data, pattern(0, 50_000));
}

#[test]
fn a_sender_with_too_much_waiting_drops_whole_frames() {
    let (mut world, peer) = registered(7, Conditions::clean(ms(5)));
    for number in 0..1000 {
        let frame = world.frame(number, 1000);
        let now = world.now;
        world.host(CAMERA).send_frame(now, peer, 0, frame).unwrap();
    }
    world.run(ms(100));
    assert_eq!(world.assert_intact(RELAY).len(), 64);
    let now = world.now;
    let stats = world.host(CAMERA).stats(now, peer).unwrap();
    assert_eq!((stats.frames_sent, stats.frames_dropped), (64, 936));
}

#[test]
fn only_the_newest_frame_counts_where_that_is_the_policy() {
    let path = Conditions {
        loss: 0.05,
        ..Conditions::clean(ms(40))
    };
    let run = |policy| {
        let (mut world, peer) = registered(3, path);
        world.host(RELAY).set_late_policy("door", policy);
        world.stream(CAMERA, peer, 300, FRAME, 30_000);
        world.run(ms(1500));
        let now = world.now;
        let sent = world.host(CAMERA).stats(now, peer).unwrap();
        let reasons: BTreeSet<_> = world
            .events
            .iter()
            .filter_map(|(_, _, event)| match event {
                Event::Gap { reason, .. } => Some(format!("{reason:?}")),
                _ => None,
            })
            .collect();
        (sent, reasons)
    };
    let (ordered, _) = run(LatePolicy::Ordered);
    let (latest, reasons) = run(LatePolicy::Latest);
    println!("{ordered:?}\n{latest:?}");
    assert!(ordered.frames_late == 0 && ordered.frames_delivered >= 295);
    assert!(
        latest.frames_late > 0 && reasons.contains("Late"),
        "{reasons:?}"
    );
    assert!(latest.frames_delivered > 200);
    let all = latest.frames_delivered + latest.frames_late + latest.frames_lost;
    assert!((290..=300).contains(&all), "{all}");
    // A frame that waits for a repair waits a round trip; the next is whole before.
    let [waits, newest] = [&ordered, &latest].map(|stats| stats.frame_latency_us[1]);
    assert!(waits > 80_000 && newest < 50_000, "{waits} {newest}");
}

#[test]
fn the_sender_hears_what_became_of_its_frames() {
    let path = Conditions {
        loss: 0.05,
        ..Conditions::clean(ms(20))
    };
    let (mut world, peer) = registered(4, path);
    world.stream(CAMERA, peer, 120, FRAME, 30_000);
    let relay_peer = world
        .events
        .iter()
        .find_map(|(_, peer, event)| matches!(event, Event::CameraAdded { .. }).then_some(*peer))
        .unwrap();
    let now = world.now;
    let there = world.host(RELAY).stats(now, relay_peer).unwrap();
    let here = world.host(CAMERA).stats(now, peer).unwrap();
    println!("{there:?}\n{here:?}");
    assert!(there.frames_delivered.abs_diff(here.frames_delivered) <= 35);
    assert!(here.recovered_by_parity + here.recovered_by_resend > 0);
    assert!(here.repair_rounds >= here.recovered_by_resend);
    assert!((0.01..0.12).contains(&here.loss_fraction));
    let [p50, p95, p99] = here.frame_latency_us;
    assert!(
        (20_000..40_000).contains(&p50) && p50 <= p95 && p95 <= p99,
        "{p50} {p95} {p99}"
    );
}
