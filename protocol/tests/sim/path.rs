//! What happens to a path while a session goes on: other keys, other addresses, other sizes.

use std::net::SocketAddr;
use std::time::Duration;

use camrelay_protocol::{Accept, Access};
use camrelay_protocol::{CameraToken, Config, Event, PeerId, Role, Stats};

use path_emulator::Conditions;

use crate::sessions::{ms, publish_with, relay_with_key, until_frame};
use crate::world::{CAMERA, RELAY, World, address};

const VIEWER: &str = "10.0.0.4:40000";
const ELSEWHERE: &str = "10.0.0.5:50000";
const FRAME: Duration = Duration::from_nanos(33_333_333);

fn stats(world: &mut World, at: &str, peer: PeerId) -> Stats {
    let now = world.now;
    world.host(at).stats(now, peer).unwrap()
}

/// The relay's own session with the only peer that did `what`.
fn at_relay(world: &World, what: impl Fn(&Event) -> bool) -> PeerId {
    let of = |(at, _, event): &&(SocketAddr, PeerId, Event)| *at == address(RELAY) && what(event);
    world.events.iter().find(of).expect("it happened").1
}

fn published(path: Conditions) -> (World, PeerId, PeerId) {
    let mut world = World::new(30, path);
    world.start_relay();
    world.start(CAMERA, Config::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    let other = at_relay(&world, |event| matches!(event, Event::Frame(_)));
    world.run(ms(200));
    world.events.clear();
    (world, peer, other)
}

/// A viewer that gets frames from the relay's own session with it.
fn watched(path: Conditions) -> (World, PeerId, PeerId) {
    let mut world = World::new(31, path);
    world.start_relay();
    world.start(VIEWER, Config::default());
    let role = Role::Watch {
        camera: "door".into(),
    };
    let viewer = world.connect(VIEWER, role);
    world.run(ms(200));
    let other = at_relay(&world, |event| {
        matches!(event, Event::WatchRequested { .. })
    });
    let now = world.now;
    world
        .host(RELAY)
        .set_caps(now, other, 0, "image/jpeg")
        .unwrap();
    world.stream(RELAY, other, 30, FRAME, 20_000);
    assert_eq!(world.frames(VIEWER).len(), 30);
    world.events.clear();
    (world, viewer, other)
}

fn rekeyed(token: Option<CameraToken>, mut world: World) {
    // Datagrams that come late and twice come under the old keys, too.
    world.path = Conditions {
        jitter: ms(5),
        duplicates: 0.1,
        ..Conditions::clean(ms(10))
    };
    let peer = publish_with(&mut world, CAMERA, "door", token);
    until_frame(&mut world, CAMERA, peer, ms(1000));
    let other = at_relay(&world, |event| matches!(event, Event::Frame(_)));
    world.run(ms(200));
    world.events.clear();
    const FRAMES: usize = 125 * 60;
    world.stream(CAMERA, peer, FRAMES as u64, ms(1000), 3000);
    assert_eq!(world.assert_intact(RELAY).len(), FRAMES);
    for (at, peer) in [(CAMERA, peer), (RELAY, other)] {
        let stats = stats(&mut world, at, peer);
        assert_eq!((stats.rekeys, stats.reconnects), (2, 0), "{at}");
        assert!(stats.connected, "{at}");
    }
    assert_eq!(world.host(RELAY).admissions().sessions, 1);
}

#[test]
fn keys_change_each_hour_and_no_frame_is_lost() {
    let mut world = World::new(32, Conditions::clean(ms(10)));
    let token = relay_with_key(&mut world, Accept::Known, &["door"]);
    rekeyed(Some(token), world);
    let mut world = World::new(33, Conditions::clean(ms(10)));
    world.start_relay();
    rekeyed(None, world);
}

#[test]
fn a_camera_moves_and_its_relay_follows_once_the_address_answers() {
    let (mut world, peer, other) = published(Conditions::clean(ms(20)));
    world.stream(CAMERA, peer, 10, FRAME, 20_000);
    world.move_host(CAMERA, ELSEWHERE);
    let took = until_frame(&mut world, ELSEWHERE, peer, ms(1000));
    assert!(took < ms(140), "{took:?}");
    world.stream(ELSEWHERE, peer, 5, FRAME, 20_000);
    assert_eq!(stats(&mut world, RELAY, other).moves, 1);
    // Repairs come by the new address.
    world.path.loss = 0.2;
    world.events.clear();
    world.stream(ELSEWHERE, peer, 100, FRAME, 20_000);
    world.run(ms(300));
    assert!(world.assert_intact(RELAY).len() >= 99);
}

#[test]
fn a_viewer_moves_and_its_pictures_follow() {
    let (mut world, viewer, other) = watched(Conditions::clean(ms(20)));
    world.move_host(VIEWER, ELSEWHERE);
    let moved = world.now;
    while world.frames(ELSEWHERE).is_empty() {
        assert!(world.now.since(moved) < ms(1000), "no frame");
        world.stream(RELAY, other, 1, ms(10), 20_000);
    }
    let took = world.now.since(moved);
    // It misses its frames after 100 ms, and is believed a round trip later; then the frames
    // that went to the old address have their time for repairs.
    assert!(took < ms(100 + 2 * 40 + 120), "{took:?}");
    assert!(stats(&mut world, ELSEWHERE, viewer).connected);
}

#[test]
fn who_copies_datagrams_and_sends_them_sooner_does_not_get_the_stream() {
    let (mut world, _, other) = watched(Conditions::clean(ms(20)));
    world.copier = Some((address(VIEWER), address(ELSEWHERE)));
    world.stream(RELAY, other, 300, FRAME, 20_000);
    world.run(ms(200));
    assert_eq!(world.frames(VIEWER).len(), 300);
    // He is asked now and then who he is, and no more.
    assert!(
        world.copier_got > 0 && world.copier_got < 5000,
        "{}",
        world.copier_got
    );
    assert_eq!(stats(&mut world, RELAY, other).moves, 0);
}

#[test]
fn what_was_sent_before_moves_nothing_from_elsewhere() {
    let (mut world, peer, other) = published(Conditions::clean(ms(20)));
    world.tap = Some(Vec::new());
    world.stream(CAMERA, peer, 30, FRAME, 20_000);
    world.run(ms(100));
    for datagram in world.tap.take().unwrap() {
        world.inject("10.200.0.1:4000", RELAY, datagram);
    }
    world.stream(CAMERA, peer, 30, FRAME, 20_000);
    world.run(ms(100));
    assert_eq!(
        (world.sent_to_nobody, stats(&mut world, RELAY, other).moves),
        (0, 0)
    );
    assert_eq!(world.frames(RELAY).len(), 60);
}

#[test]
fn an_anonymous_session_stays_where_it_is_accepted() {
    let (mut world, peer, other) = published(Conditions::clean(ms(20)));
    world.move_host(CAMERA, "8.8.8.8:4000");
    world.stream("8.8.8.8:4000", peer, 30, FRAME, 20_000);
    world.run(ms(100));
    assert!(world.frames(RELAY).is_empty());
    assert_eq!(stats(&mut world, RELAY, other).moves, 0);
    let access = Access {
        accept: Accept::Anyone,
        known: Vec::new(),
    };
    let now = world.now;
    world.host(RELAY).set_access(now, access);
    until_frame(&mut world, "8.8.8.8:4000", peer, ms(1000));
}

#[test]
fn datagrams_grow_to_what_the_path_carries() {
    for (largest, found) in [
        (1472, 1472),
        (1471, 1464),
        (1400, 1392),
        (1279, 1252),
        (1200, 1200),
    ] {
        let mut world = World::new(34, Conditions::clean(ms(10)));
        world.largest = largest;
        world.start_relay();
        world.start(CAMERA, Config::default());
        let peer = world.publish(CAMERA, "door");
        world.run(ms(100));
        world.stream(CAMERA, peer, 20 * 30, FRAME, 20_000);
        world.run(ms(200));
        assert_eq!(world.frames(RELAY).len(), 600, "no frame is lost to it");
        assert_eq!(stats(&mut world, CAMERA, peer).mtu, found, "of {largest}");
    }
}

/// How long it takes from now on until frames come again.
fn until_frames(world: &mut World, peer: PeerId, limit: Duration) -> Duration {
    world.events.clear();
    let begin = world.now;
    while world.frames(RELAY).is_empty() {
        assert!(world.now.since(begin) < limit, "no frame");
        world.stream(CAMERA, peer, 1, FRAME, 20_000);
    }
    world.now.since(begin)
}

#[test]
fn a_path_that_stops_carrying_large_datagrams_is_found_out() {
    let (mut world, peer, _) = published(Conditions::clean(ms(10)));
    world.stream(CAMERA, peer, 90, FRAME, 20_000);
    assert_eq!(stats(&mut world, CAMERA, peer).mtu, 1472);
    world.largest = 1300;
    let took = until_frames(&mut world, peer, ms(250));
    println!("pictures again after {took:?}");
    world.stream(CAMERA, peer, 30, FRAME, 20_000);
    assert_eq!(stats(&mut world, CAMERA, peer).mtu, 1200);
    // And that it carries them again.
    world.largest = 1500;
    world.stream(CAMERA, peer, 62 * 30, FRAME, 20_000);
    assert_eq!(stats(&mut world, CAMERA, peer).mtu, 1472);
}

#[test]
fn a_path_that_carries_no_more_than_it_must_is_used() {
    let mut world = World::new(35, Conditions::clean(ms(10)));
    world.largest = 548;
    world.start_relay();
    world.start(CAMERA, Config::default());
    let peer = world.publish(CAMERA, "door");
    world.run(ms(100));
    let took = until_frames(&mut world, peer, ms(500));
    println!("pictures after {took:?}");
    world.stream(CAMERA, peer, 30, FRAME, 20_000);
    assert_eq!(stats(&mut world, CAMERA, peer).mtu, 548);
    world.events.clear();
    world.stream(CAMERA, peer, 30, FRAME, 20_000);
    assert!(world.frames(RELAY).len() >= 29);

    // More than all symbols of that size hold.
    let before = stats(&mut world, CAMERA, peer).frames_dropped;
    world.stream(CAMERA, peer, 1, FRAME, 2_000_000);
    assert_eq!(stats(&mut world, CAMERA, peer).frames_dropped, before + 1);

    // What it carries later is found, and what it ceases to carry.
    world.largest = 1200;
    world.stream(CAMERA, peer, 80 * 30, FRAME, 20_000);
    assert_eq!(stats(&mut world, CAMERA, peer).mtu, 1200);
    world.largest = 548;
    until_frames(&mut world, peer, ms(500));
    world.stream(CAMERA, peer, 30, FRAME, 20_000);
    assert_eq!(stats(&mut world, CAMERA, peer).mtu, 548);
    world.largest = 1500;
    world.stream(CAMERA, peer, 62 * 30, FRAME, 20_000);
    assert_eq!(stats(&mut world, CAMERA, peer).mtu, 1472);
    world.largest = 548;
    let took = until_frames(&mut world, peer, ms(1000));
    println!("pictures again after {took:?}");
}

#[test]
fn an_outage_says_nothing_about_sizes() {
    let (mut world, peer, _) = published(Conditions::clean(ms(10)));
    world.stream(CAMERA, peer, 90, FRAME, 20_000);
    world.path.down = true;
    world.stream(CAMERA, peer, 150, FRAME, 20_000);
    world.path.down = false;
    until_frame(&mut world, CAMERA, peer, ms(300));
    world.stream(CAMERA, peer, 30, FRAME, 20_000);
    assert_eq!(stats(&mut world, CAMERA, peer).mtu, 1472);
    // Nor does loss.
    world.path.loss = 0.2;
    world.stream(CAMERA, peer, 900, FRAME, 20_000);
    assert_eq!(stats(&mut world, CAMERA, peer).mtu, 1472);
}

#[test]
fn loss_makes_no_datagram_smaller_than_1200_bytes() {
    let many = (300, FRAME, 20_000);
    let few = (200, ms(500), 1000);
    let cases = [
        (0.4, 1.0, many),
        (0.2, 8.0, many),
        (0.1, 1.0, few),
        (0.2, 1.0, few),
    ];
    for (loss, burst, (count, interval, size)) in cases {
        for seed in 60..80 {
            let mut world = World::new(seed, Conditions::clean(ms(20)));
            world.largest = 1200;
            world.start_relay();
            world.start(CAMERA, Config::default());
            let peer = world.publish(CAMERA, "door");
            world.run(ms(100));
            (world.path.loss, world.path.burst) = (loss, burst);
            world.stream(CAMERA, peer, count, interval, size);
            world.path.loss = 0.0;
            world.stream(CAMERA, peer, 15, FRAME, 20_000);
            let mtu = stats(&mut world, CAMERA, peer).mtu;
            assert_eq!(mtu, 1200, "seed {seed}, {loss} in bursts of {burst}");
        }
    }
}
