//! Frames that are missing, and whom the receiver holds to blame.

use std::time::Duration;

use camrelay_protocol::{Event, FrameFlags, GapReason, LatePolicy, PeerId, Stats};
use path_emulator::Conditions;

use crate::sessions::{ms, until_frame};
use crate::world::{CAMERA, RELAY, World, address};

const FRAME: Duration = Duration::from_nanos(33_333_333);

fn published(seed: u64, path: Conditions) -> (World, PeerId) {
    let mut world = World::new(seed, path);
    world.mtu = 1200;
    world.start_relay();
    world.start(CAMERA, Default::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    world.run(ms(200));
    world.events.clear();
    (world, peer)
}

fn send(world: &mut World, peer: PeerId, seed: u64, len: usize, flags: FrameFlags) {
    let mut frame = world.frame(seed, len);
    frame.flags = flags;
    let now = world.now;
    world.host(CAMERA).send_frame(now, peer, 0, frame).unwrap();
}

const KEY: FrameFlags = FrameFlags {
    key: true,
    discardable: false,
    header: false,
    discont: false,
};
const DELTA: FrameFlags = FrameFlags { key: false, ..KEY };
const DISCARDABLE: FrameFlags = FrameFlags {
    discardable: true,
    ..DELTA
};

/// What the relay was told is missing, and why, in order.
fn gaps(world: &World) -> Vec<(u32, GapReason)> {
    let told = world.events.iter().filter_map(|(_, _, event)| match event {
        Event::Gap { frames, reason, .. } => Some((*frames, *reason)),
        _ => None,
    });
    told.collect()
}

fn missing(world: &World, why: GapReason) -> u32 {
    let of = gaps(world).into_iter().filter(|(_, reason)| *reason == why);
    of.map(|(frames, _)| frames).sum()
}

fn stats(world: &mut World, at: &str, peer: PeerId) -> Stats {
    let now = world.now;
    world.host(at).stats(now, peer).unwrap()
}

/// The relay's own session with the camera.
fn at_relay(world: &World) -> PeerId {
    let of = |(at, ..): &&(_, PeerId, Event)| *at == address(RELAY);
    world.events.iter().find(of).unwrap().1
}

#[test]
fn frames_that_a_full_sender_drops_are_told_by_the_next() {
    for seed in 0..10 {
        // The next frame's fragments come before some of those before it, or get lost.
        let path = Conditions {
            jitter: ms(seed),
            loss: 0.002 * seed as f64,
            ..Conditions::clean(ms(5))
        };
        let (mut world, peer) = published(seed, path);
        let before = stats(&mut world, CAMERA, peer).frames_dropped;
        for number in 0..100 {
            send(&mut world, peer, number, 1000, KEY);
        }
        send(&mut world, peer, 100, 1000, KEY);
        world.run(ms(1));
        send(&mut world, peer, 101, 5000, KEY);
        send(&mut world, peer, 102, 5000, KEY);
        world.run(ms(400));
        let told = gaps(&world);
        let sender: Vec<_> = told
            .iter()
            .filter(|(_, r)| *r == GapReason::Sender)
            .collect();
        assert_eq!(sender, [&(37, GapReason::Sender)], "of {told:?}");
        let relay_peer = at_relay(&world);
        let there = stats(&mut world, RELAY, relay_peer);
        assert_eq!(there.frames_not_sent, 37);
        let dropped = stats(&mut world, CAMERA, peer).frames_dropped - before;
        assert_eq!(dropped, 37);
        let seeds = world.assert_intact(RELAY);
        let lost = missing(&world, GapReason::Network) as usize;
        assert_eq!(seeds.len() + lost, 66);
        assert_eq!(seeds.last(), Some(&102));
        assert!(seeds.iter().all(|seed| *seed < 64 || *seed > 100));
    }
}

#[test]
fn what_does_not_build_on_dropped_frames_is_not_held_back() {
    let (mut world, peer) = published(1, Conditions::clean(ms(5)));
    send(&mut world, peer, 0, 1000, KEY);
    for number in 1..80 {
        send(&mut world, peer, number, 1000, DISCARDABLE);
    }
    world.run(ms(1));
    send(&mut world, peer, 80, 1000, DELTA);
    world.run(ms(200));
    assert_eq!(gaps(&world), [(16, GapReason::Sender)]);
    assert_eq!(world.assert_intact(RELAY).last(), Some(&80));
    // Of frames that others build on, those go, too, and a key frame is asked for.
    for number in 81..161 {
        send(&mut world, peer, number, 1000, DELTA);
    }
    world.run(ms(1));
    send(&mut world, peer, 161, 1000, DELTA);
    send(&mut world, peer, 162, 1000, KEY);
    world.run(ms(200));
    assert_eq!(gaps(&world)[1..], [(17, GapReason::Sender)]);
    assert_eq!(world.assert_intact(RELAY).last(), Some(&162));
    let asked = |(_, told, event): &(_, PeerId, Event)| {
        *told == peer && matches!(event, Event::KeyframeRequested { .. })
    };
    assert!(world.events.iter().any(asked));
    let relay_peer = at_relay(&world);
    assert_eq!(stats(&mut world, RELAY, relay_peer).frames_undecodable, 0);
}

#[test]
fn what_builds_on_a_lost_frame_is_not_handed_over_and_a_key_frame_is_asked_for() {
    for seed in 0..8 {
        let (mut world, peer) = published(seed, Conditions::clean(ms(20)));
        let begun = world.events.len();
        let asked = |world: &World| {
            let told = world.events[begun..].iter();
            told.filter(|(_, told, event)| {
                *told == peer && matches!(event, Event::KeyframeRequested { .. })
            })
            .count()
        };
        // Every third is one that none builds on.
        let mut keys = vec![0];
        for number in 0..240 {
            // Nothing comes through for longer than frames are waited for.
            world.path.down = (60 + seed..70 + seed).contains(&number);
            let flags = match number {
                _ if asked(&world) >= keys.len() => {
                    keys.push(number);
                    KEY
                }
                0 => KEY,
                _ if number % 3 == 0 => DISCARDABLE,
                _ => DELTA,
            };
            send(&mut world, peer, number, 5000, flags);
            world.run(FRAME);
        }
        world.run(ms(300));
        assert_eq!((asked(&world), keys.len()), (1, 2), "seed {seed}: {keys:?}");
        let came = world.assert_intact(RELAY);
        let last = (0..60 + seed).rfind(|number| number % 3 != 0).unwrap();
        let (before, after): (Vec<u64>, Vec<u64>) = came.iter().partition(|n| **n < keys[1]);
        assert!(
            before.contains(&last) && before.last() < Some(&(60 + seed)),
            "{before:?}"
        );
        assert_eq!(after, (keys[1]..240).collect::<Vec<_>>());
        let relay_peer = at_relay(&world);
        let there = stats(&mut world, RELAY, relay_peer);
        assert!(
            there.frames_lost > 0 && there.frames_undecodable > 0,
            "{there:?}"
        );
        let told: u32 = gaps(&world).iter().map(|(frames, _)| frames).sum();
        assert_eq!(came.len() as u32 + told, 240);
        let undecodable = missing(&world, GapReason::Undecodable);
        assert_eq!(u64::from(undecodable), there.frames_undecodable);
    }
}

#[test]
fn only_a_key_frame_makes_those_before_it_late_where_the_newest_counts() {
    let path = Conditions {
        loss: 0.05,
        ..Conditions::clean(ms(20))
    };
    let (mut world, peer) = published(1, path);
    world
        .host(RELAY)
        .set_late_policy("door", LatePolicy::Latest);
    for number in 0..600 {
        let flags = if number % 30 == 0 { KEY } else { DELTA };
        send(&mut world, peer, number, 20_000, flags);
        world.run(FRAME);
    }
    world.run(ms(300));
    let came = world.assert_intact(RELAY);
    let late = missing(&world, GapReason::Late);
    println!("{} came, {late} late", came.len());
    assert!(late > 0, "the test shows nothing");
    let made_late = |number: &u64| came.contains(&(number / 30 * 30 + 30));
    let mut missing = (0..600).filter(|number| !came.contains(number));
    assert!(missing.all(|number| number % 30 > 25 && made_late(&number)));
}

#[test]
fn a_camera_that_does_not_follow_is_what_drops_its_frames() {
    let path = Conditions {
        rate: 4_000_000,
        queue: ms(60),
        ..Conditions::clean(ms(10))
    };
    let (mut world, peer) = published(2, path);
    let before = stats(&mut world, CAMERA, peer).frames_dropped;
    for seed in 0..600 {
        send(&mut world, peer, seed, 50_000, KEY);
        world.run(FRAME);
    }
    // One that fits tells of those before it.
    world.run(ms(1000));
    send(&mut world, peer, 600, 1000, KEY);
    world.run(ms(300));
    let dropped = stats(&mut world, CAMERA, peer).frames_dropped - before;
    let told = missing(&world, GapReason::Sender);
    let network = missing(&world, GapReason::Network) + missing(&world, GapReason::Late);
    let came = world.assert_intact(RELAY).len();
    println!("{came} came, {dropped} dropped, {network} lost");
    assert_eq!(came + told as usize + network as usize, 601);
    // One that is dropped while it leaves may be late before the next can tell.
    let late = missing(&world, GapReason::Late);
    assert!((u64::from(told)..=u64::from(told + late)).contains(&dropped));
    assert!(told > 200 && network < 10, "{told} {network}");
}

#[test]
fn a_frame_that_cannot_come_in_time_is_given_up_for_the_next() {
    let path = Conditions {
        rate: 2_000_000,
        queue: ms(60),
        ..Conditions::clean(ms(10))
    };
    let (mut world, peer) = published(3, path);
    // The limit is met, and then forgotten about.
    for seed in 0..90 {
        send(&mut world, peer, seed, 20_000, KEY);
        world.run(FRAME);
    }
    for seed in 90..150 {
        send(&mut world, peer, seed, 2000, KEY);
        world.run(FRAME);
    }
    world.events.clear();
    let (begun, before) = (world.now, stats(&mut world, CAMERA, peer));
    // It takes two seconds.
    send(&mut world, peer, 150, 500_000, KEY);
    world.run(FRAME);
    while !world.assert_intact(RELAY).iter().any(|seed| *seed > 150) {
        assert!(
            world.now.since(begun) < ms(1000),
            "no frame within a second"
        );
        let seed = 151 + world.now.since(begun).as_micros() as u64;
        send(&mut world, peer, seed, 2000, KEY);
        world.run(FRAME);
    }
    println!(
        "a frame after {:?}, {:?}",
        world.now.since(begun),
        gaps(&world)
    );
    let after = stats(&mut world, CAMERA, peer);
    let dropped = after.frames_dropped - before.frames_dropped;
    assert_eq!(gaps(&world), [(dropped as u32, GapReason::Sender)]);
    let sent = (after.bytes_sent - before.bytes_sent) as usize;
    assert!(sent < 250_000, "{sent} bytes of half a million");
}
