//! Clocks that run fast, slow, step or stand still, and what frames bear then.

use std::time::Duration;

use camrelay_protocol::{Event, GapReason, PeerId, ReceivedFrame};
use path_emulator::Conditions;

use crate::sessions::{ms, until_frame};
use crate::world::{CAMERA, HostClock, RELAY, World, address};

const FRAME: Duration = Duration::from_nanos(33_333_333);
const SECOND: i64 = 1_000_000_000;

/// The true time of a frame's capture, and how much later the one is that it bears, in nanoseconds.
fn error(received: &ReceivedFrame) -> (i64, i64) {
    let captured = received.frame.dts_offset;
    (
        captured,
        received.frame.capture.as_nanos() as i64 - captured,
    )
}

/// Asserts that capture times bear the path's delay, within some milliseconds, and no more.
fn assert_errors(frames: &[(i64, i64)], delay: Duration) {
    let delay = delay.as_nanos() as i64;
    let wrong = frames
        .iter()
        .find(|(_, error)| !(-1_000_000..3_000_000).contains(&(error - delay)));
    assert_eq!(wrong, None, "of {} frames", frames.len());
}

/// The greatest change of the error between frames that are `apart` from each other.
fn roughness(frames: &[(i64, i64)], apart: usize) -> i64 {
    let changes = frames
        .windows(apart + 1)
        .map(|some| (some[apart].1 - some[0].1).abs());
    changes.max().unwrap()
}

fn published(seed: u64, path: Conditions, clock: HostClock) -> (World, PeerId) {
    let mut world = World::new(seed, path);
    world.clocks.insert(address(CAMERA), clock);
    world.start_relay();
    world.start(CAMERA, Default::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    world.stream(CAMERA, peer, 60, FRAME, 20_000);
    world.events.clear();
    (world, peer)
}

/// Streams for `seconds`; returns the errors of the frames that came.
fn follow(world: &mut World, peer: PeerId, seconds: u64) -> Vec<(i64, i64)> {
    world.events.clear();
    world.stream(CAMERA, peer, seconds * 30, FRAME, 3000);
    world.frames(RELAY).into_iter().map(error).collect()
}

#[test]
fn a_clock_200_ppm_off_gives_smooth_capture_times() {
    for ppm in [200.0, -200.0] {
        let path = Conditions {
            jitter: ms(5),
            loss: 0.01,
            ..Conditions::clean(ms(20))
        };
        // The 32 bits that fragments carry wrap after two minutes.
        let ahead = ((1i64 << 32) * 1000) - 120 * SECOND;
        let (mut world, peer) = published(1, path, HostClock { ppm, ahead });
        let frames: Vec<_> = (0..60).flat_map(|_| follow(&mut world, peer, 10)).collect();
        assert!(frames.len() >= 17_990, "{} frames of 18000", frames.len());
        let settled = &frames[30 * 30..];
        assert_errors(settled, ms(20));
        // At most half a millisecond a second; a frame that waited for a repair is followed at once
        // by the next.
        let rough = [1, 30].map(|apart| roughness(settled, apart));
        println!("{ppm}: {rough:?} ns");
        assert!(rough[0] < 60_000 && rough[1] < 550_000, "{rough:?}");
        let now = world.now;
        let relay_peer = world
            .events
            .iter()
            .find(|(_, _, e)| matches!(e, Event::Frame(_)));
        let relay_peer = relay_peer.unwrap().1;
        let skew = world
            .host(RELAY)
            .stats(now, relay_peer)
            .unwrap()
            .clock_skew_ppm;
        assert!((skew + ppm).abs() < 20.0, "{skew} for {ppm}");
    }
}

#[test]
fn capture_times_that_step_are_followed_and_few_frames_lost() {
    // By how much, and how many frames that may cost: what is a little late may yet come in time.
    for (step, cost) in [
        (3600 * SECOND, 1),
        (-3600 * SECOND, 1),
        (600 * SECOND, 1),
        (5 * SECOND, 1),
        (-5 * SECOND, 32),
        (SECOND / 3, 1),
        (-SECOND / 3, 32),
    ] {
        let path = Conditions {
            jitter: ms(2),
            ..Conditions::clean(ms(20))
        };
        let ahead = 7200 * SECOND;
        let (mut world, peer) = published(2, path, HostClock { ppm: 0.0, ahead });
        follow(&mut world, peer, 10);
        world.events.clear();
        for number in 0..600 {
            let mut frame = world.frame(number, 20_000);
            let now = world.clock(CAMERA).at(world.now);
            frame.capture = now.offset(step);
            world.host(CAMERA).send_frame(now, peer, 0, frame).unwrap();
            world.run(FRAME);
        }
        world.run(ms(300));
        let frames: Vec<_> = world.frames(RELAY).into_iter().map(error).collect();
        assert!(
            frames.len() >= 600 - cost,
            "{step}: {} of 600",
            frames.len()
        );
        assert_errors(&frames[frames.len() - 300..], ms(20));
        let times: Vec<_> = world
            .frames(RELAY)
            .iter()
            .map(|f| f.frame.capture)
            .collect();
        assert!(times.windows(2).filter(|pair| pair[1] < pair[0]).count() <= 1);
    }
}

#[test]
fn a_camera_that_was_suspended_goes_on() {
    // Its clock stood still, or went on meanwhile; a session lasts 90 s.
    for asleep in [2, 5, 30, 600] {
        for counts in [false, true] {
            let (mut world, peer) = published(3, Conditions::clean(ms(20)), HostClock::default());
            follow(&mut world, peer, 10);
            let slept = Duration::from_secs(asleep);
            world.suspend(CAMERA, slept);
            if counts {
                world.step(CAMERA, slept.as_nanos() as i64);
            }
            let took = until_frame(&mut world, CAMERA, peer, ms(3000));
            println!("{asleep} s, its clock {counts}: a frame after {took:?}");
            assert!(took < ms(1300), "{took:?} after {asleep} s");
            let frames = follow(&mut world, peer, 10);
            assert!(
                frames.len() >= 250,
                "{} of 300 after {asleep} s",
                frames.len()
            );
            assert_errors(&frames[150..], ms(20));
        }
    }
}

/// Frames that were sent and did not come whole in time.
fn missing(world: &World) -> u32 {
    let gaps = world.events.iter().filter_map(|(_, _, event)| match event {
        Event::Gap { frames, reason, .. } if *reason != GapReason::Sender => Some(*frames),
        _ => None,
    });
    gaps.sum()
}

#[test]
fn a_path_that_gets_longer_loses_nothing_and_a_shorter_one_what_is_under_way() {
    for (longer, moves) in [(80, false), (400, false), (400, true)] {
        let (mut world, peer) = published(4, Conditions::clean(ms(10)), HostClock::default());
        follow(&mut world, peer, 40);
        world.path.delay = ms(longer);
        let mut at = CAMERA;
        if moves {
            at = "10.0.0.9:40000";
            world.move_host(CAMERA, at);
        }
        world.events.clear();
        world.stream(at, peer, 300, FRAME, 3000);
        let long: Vec<_> = world.frames(RELAY).into_iter().map(error).collect();
        println!("{} of 300, {} missing", long.len(), missing(&world));
        assert_eq!(missing(&world), 0);
        assert_errors(&long[long.len() - 10..], ms(longer));
        // The last ones are under way.
        assert!(long.len() >= 287, "{}", long.len());
        world.path.delay = ms(10);
        world.events.clear();
        world.stream(at, peer, 300, FRAME, 3000);
        // Those under way on the longer path come too late.
        assert!(missing(&world) <= 14, "{} missing", missing(&world));
        let short: Vec<_> = world.frames(RELAY).into_iter().map(error).collect();
        assert_errors(&short[short.len() - 10..], ms(10));
    }
}

/// By how many microseconds frames bear a later capture time than the path at its fastest makes it, in
/// each second of a session that begins before a queue of so many milliseconds, which is gone in the
/// second at `empties`. Jitter is 2 ms.
fn begun_before_a_queue(queue: u64, empties: u64) -> Vec<(i64, i64)> {
    let path = |queue| Conditions {
        jitter: ms(2),
        ..Conditions::clean(ms(10 + queue))
    };
    let mut world = World::new(queue, path(queue));
    world.start_relay();
    world.start(CAMERA, Default::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    let mut errors = Vec::new();
    for second in 0..60u64 {
        let left = queue.saturating_sub(queue * (second + 1).saturating_sub(empties));
        world.path = path(left);
        world.events.clear();
        world.stream(CAMERA, peer, 30, FRAME, 20_000);
        errors.extend(world.frames(RELAY).into_iter().map(error));
    }
    errors
}

#[test]
fn a_session_that_begins_before_a_full_queue_tells_true_times_soon_after_it_empties() {
    for (queue, empties) in [(20, 3), (40, 10), (55, 3), (55, 20)] {
        let errors = begun_before_a_queue(queue, empties);
        assert!(errors.len() >= 1790, "{} of 1800", errors.len());
        let late = |second: usize| (errors[second * 30].1 - 10_000_000) / 1000;
        let late: Vec<_> = (0..59).map(late).collect();
        println!("{queue} ms until {empties} s: {late:?} us");
        let soon = empties as usize + 5;
        assert!(late[soon..].iter().all(|late| *late < 3000));
    }
}

#[test]
fn frames_of_an_encoder_that_falls_behind_come_as_late_as_they_left() {
    let (mut world, peer) = published(6, Conditions::clean(ms(10)), HostClock::default());
    for behind in [300, 0, 300, 2000, 0] {
        for number in 0..45 {
            let mut frame = world.frame(number, 20_000);
            frame.capture = frame.capture - ms(behind);
            let now = world.now;
            world.host(CAMERA).send_frame(now, peer, 0, frame).unwrap();
            world.run(FRAME);
        }
        println!("{behind} ms behind: {} missing", missing(&world));
    }
    assert_eq!(missing(&world), 0);
    assert_eq!(world.frames(RELAY).len(), 5 * 45);
}

#[test]
fn an_outage_longer_than_the_window_of_frames_is_got_over() {
    // 50 packets of audio a second, 60 pictures: more than 128 are sent before silence is noticed.
    for rate in [30, 50, 60, 200] {
        let (mut world, peer) = published(5, Conditions::clean(ms(10)), HostClock::default());
        let interval = Duration::from_secs(1) / rate;
        world.stream(CAMERA, peer, u64::from(rate), interval, 3000);
        world.path.down = true;
        world.stream(CAMERA, peer, 5 * u64::from(rate), interval, 3000);
        world.path.down = false;
        world.events.clear();
        world.stream(CAMERA, peer, 2 * u64::from(rate), interval, 3000);
        let came = world.frames(RELAY).len();
        assert!(
            came as u32 >= 2 * rate - rate / 2,
            "{came} of {} at {rate}/s",
            2 * rate
        );
        let lost: u32 = world
            .events
            .iter()
            .map(|(_, _, event)| match event {
                Event::Gap {
                    frames,
                    reason: GapReason::Network,
                    ..
                } => *frames,
                _ => 0,
            })
            .sum();
        assert!(lost > 0);
    }
}
