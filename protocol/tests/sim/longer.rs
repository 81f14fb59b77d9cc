//! Paths that get longer: another route, or another address, and no queue.

use std::time::Duration;

use camrelay_protocol::{Event, GapReason, PeerId, ReceivedFrame, Role, Stats};
use path_emulator::Conditions;

use crate::sessions::{ms, until_frame};
use crate::world::{CAMERA, RELAY, World, address};

const FRAME: Duration = Duration::from_nanos(33_333_333);
const VIEWER: &str = "10.0.0.4:40000";
const ELSEWHERE: &str = "10.0.0.9:40000";

fn stats(world: &mut World, at: &str, peer: PeerId) -> Stats {
    let now = world.now;
    world.host(at).stats(now, peer).unwrap()
}

/// A camera that sends frames of `len` bytes for 12 s.
fn published(seed: u64, path: Conditions, len: usize) -> (World, PeerId) {
    let mut world = World::new(seed, path);
    world.start_relay();
    world.start(CAMERA, Default::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    world.stream(CAMERA, peer, 360, FRAME, len);
    world.events.clear();
    (world, peer)
}

/// Frames that were sent and did not come whole in time at the host.
fn missing(world: &World, at: &str) -> u32 {
    let gaps = world
        .events
        .iter()
        .filter_map(|(host, _, event)| match event {
            Event::Gap { frames, reason, .. }
                if *host == address(at) && *reason != GapReason::Sender =>
            {
                Some(*frames)
            }
            _ => None,
        });
    gaps.sum()
}

/// By how much the capture times that frames bear differ from the path's delay at most, in
/// microseconds.
fn worst_error(frames: &[&ReceivedFrame], delay: Duration) -> i64 {
    let error = |received: &&ReceivedFrame| {
        let bears = received.frame.capture.as_nanos() as i64 - received.frame.dts_offset;
        ((bears - delay.as_nanos() as i64) / 1000).abs()
    };
    frames.iter().map(error).max().unwrap()
}

#[test]
fn a_longer_path_is_no_queue() {
    for (len, longer) in [3000, 20_000, 40_000]
        .into_iter()
        .flat_map(|len| [30, 50, 80, 200, 400].map(|longer| (len, longer)))
    {
        for (jitter, loss) in [(0, 0.0), (3, 0.0), (0, 0.02)] {
            // A step of a few times the jitter is hidden in it.
            if longer <= 10 * jitter {
                continue;
            }
            for seed in 0..3 {
                let path = Conditions {
                    jitter: ms(jitter),
                    loss,
                    ..Conditions::clean(ms(10))
                };
                let (mut world, peer) = published(seed, path, len);
                world.run(ms(seed * 7));
                let before = stats(&mut world, CAMERA, peer);
                world.path.delay = ms(10 + longer);
                world.stream(CAMERA, peer, 300, FRAME, len);
                world.run(ms(1000));
                let after = stats(&mut world, CAMERA, peer);
                let dropped = after.frames_dropped - before.frames_dropped;
                let missing = missing(&world, RELAY);
                println!("{len} bytes, +{longer} ms: {dropped} dropped, {missing} missing");
                // The new round trip leaves no time for some repairs.
                assert!(dropped == 0 && missing <= 5);
                let (rtt, least) = (Duration::from_micros(after.rtt_us), ms(2 * longer));
                assert!(
                    (least + ms(19)..least + ms(21 + 2 * jitter)).contains(&rtt),
                    "{rtt:?}"
                );
            }
        }
    }
}

/// How much longer a path is after a move, in ms, and how long frames are, in bytes.
const MOVES: [(u64, usize); 5] = [
    (30, 3000),
    (50, 20_000),
    (80, 40_000),
    (400, 3000),
    (400, 20_000),
];

#[test]
fn a_camera_that_moves_to_a_longer_path_loses_nothing() {
    for (longer, len) in MOVES {
        for seed in 0..3 {
            let (mut world, peer) = published(seed, Conditions::clean(ms(10)), len);
            world.run(ms(seed * 7));
            let before = stats(&mut world, CAMERA, peer);
            world.path.delay = ms(10 + longer);
            world.move_host(CAMERA, ELSEWHERE);
            world.stream(ELSEWHERE, peer, 300, FRAME, len);
            world.run(ms(1000));
            let after = stats(&mut world, ELSEWHERE, peer);
            assert_eq!(after.frames_dropped, before.frames_dropped);
            assert_eq!(
                (world.frames(RELAY).len(), missing(&world, RELAY)),
                (300, 0)
            );
            // The new address is taken a round trip after something came from there.
            let taken = (2 * (10 + longer)).div_ceil(33) as usize + 2;
            let frames = world.frames(RELAY);
            assert!(worst_error(&frames[taken..], ms(10 + longer)) < 1000);
            assert!(
                after.rtt_us.abs_diff(2000 * (10 + longer)) < 1000,
                "{after:?}"
            );
        }
    }
}

#[test]
fn a_viewer_that_moves_to_a_longer_path_loses_only_what_went_to_the_old_address() {
    for (longer, len) in MOVES {
        let mut world = World::new(longer, Conditions::clean(ms(10)));
        world.start_relay();
        world.start(VIEWER, Default::default());
        let camera = "door".into();
        world.connect(VIEWER, Role::Watch { camera });
        world.run(ms(200));
        let wanted = world.events.iter().find_map(|(at, peer, event)| {
            let wanted = matches!(event, Event::WatchRequested { .. });
            (*at == address(RELAY) && wanted).then_some(*peer)
        });
        let viewer = wanted.unwrap();
        let now = world.now;
        let relay = world.host(RELAY);
        relay.set_caps(now, viewer, 0, "image/jpeg").unwrap();
        world.stream(RELAY, viewer, 360, FRAME, len);
        world.path.delay = ms(10 + longer);
        world.move_host(VIEWER, ELSEWHERE);
        let moved = world.now;
        while stats(&mut world, RELAY, viewer).moves == 0 {
            assert!(world.now.since(moved) < ms(3000), "not moved");
            world.stream(RELAY, viewer, 1, FRAME, len);
        }
        let before = stats(&mut world, RELAY, viewer);
        world.events.clear();
        world.stream(RELAY, viewer, 300, FRAME, len);
        world.run(ms(1000));
        let after = stats(&mut world, RELAY, viewer);
        assert_eq!(after.frames_dropped, before.frames_dropped);
        let frames = world.frames(ELSEWHERE);
        assert!(frames.len() >= 299, "{} of 300", frames.len());
        assert!(worst_error(&frames[1..], ms(10 + longer)) < 1000);
        assert!(
            after.rtt_us.abs_diff(2000 * (10 + longer)) < 1000,
            "{after:?}"
        );
    }
}
