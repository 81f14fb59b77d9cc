//! What sessions outlast: NATs that forget, hosts that sleep, relays that restart one after another.

use std::net::SocketAddr;
use std::time::Duration;

use camrelay_protocol::{Config, Event, PeerId, Role, Stats};
use path_emulator::{Conditions, Nat};

use crate::sessions::{ms, until_frame};
use crate::world::{CAMERA, RELAY, World, address};

const FRAME: Duration = Duration::from_nanos(33_333_333);
const VIEWER: &str = "10.0.0.4:40000";
const SECOND_RELAY: &str = "10.0.0.7:8000";
const UPLINK: &str = "10.0.0.1:40000";
const ONE_WAY: Duration = Duration::from_millis(20);
const ROUND_TRIP: Duration = Duration::from_millis(40);
/// NATs forget a UDP mapping after 30 s, many of them (RFC 4787, REQ-5, asks for two minutes).
const FORGETS: Duration = Duration::from_secs(20);
const HOUR: i64 = 3_600_000_000_000;

fn stats(world: &mut World, at: &str, peer: PeerId) -> Stats {
    let now = world.clock(at).at(world.now);
    world.host(at).stats(now, peer).unwrap()
}

/// The relay's own session with the peer that did `what` last.
fn at_relay(world: &World, relay: &str, what: impl Fn(&Event) -> bool) -> PeerId {
    let of = |(at, _, event): &&(SocketAddr, PeerId, Event)| *at == address(relay) && what(event);
    world.events.iter().rfind(of).expect("it happened").1
}

/// A camera that streams to a relay, and a viewer of the relay.
fn world(seed: u64) -> (World, PeerId, PeerId) {
    let mut world = World::new(seed, Conditions::clean(ONE_WAY));
    world.start_relay();
    world.start(CAMERA, Config::default());
    let camera = world.publish(CAMERA, "door");
    world.start(VIEWER, Config::default());
    let role = Role::Watch {
        camera: "door".into(),
    };
    let viewer = world.connect(VIEWER, role);
    (world, camera, viewer)
}

/// Has relays hand on what came: from one to its viewers, or to the next one.
#[derive(Default)]
struct Relays {
    seen: usize,
    /// Viewers, by where they are served from, and what they were told of caps.
    viewers: Vec<(SocketAddr, PeerId)>,
    uplink: Option<PeerId>,
}

impl Relays {
    fn hand_on(&mut self, world: &mut World) {
        let events = world.events.split_off(self.seen.min(world.events.len()));
        for (at, peer, event) in &events {
            match event {
                Event::WatchRequested { .. } => {
                    let now = world.clocks.get(at).map_or(world.now, |c| c.at(world.now));
                    let at_text = at.to_string();
                    let host = world.host(&at_text);
                    host.set_caps(now, *peer, 0, "image/jpeg").unwrap();
                    self.viewers.push((*at, *peer));
                }
                Event::Closed(_) => self.viewers.retain(|viewer| *viewer != (*at, *peer)),
                Event::Frame(received) if *at != address(VIEWER) => {
                    let mut frame = received.frame.clone();
                    for (from, viewer) in self.viewers.iter().filter(|(from, _)| from == at) {
                        let now = world
                            .clocks
                            .get(from)
                            .map_or(world.now, |c| c.at(world.now));
                        frame.capture = now;
                        let from = from.to_string();
                        // One that restarted does not know its viewers.
                        let _ = world.host(&from).send_frame(now, *viewer, 0, frame.clone());
                    }
                    if let Some(uplink) = self.uplink.filter(|_| *at == address(RELAY)) {
                        let now = world.now;
                        world
                            .host(UPLINK)
                            .send_frame(now, uplink, 0, frame)
                            .unwrap();
                    }
                }
                _ => {}
            }
        }
        world.events.extend(events);
        self.seen = world.events.len();
    }

    /// Has the camera send a frame each 33 ms for that long, if it is not asleep.
    fn stream(&mut self, world: &mut World, camera: Option<PeerId>, duration: Duration) {
        let end = world.now + duration;
        let step = (duration / 10_000).clamp(ms(1), ms(10));
        let mut next = world.now;
        let mut seed = world.now.as_nanos() / 1000;
        while world.now < end {
            if let Some(camera) = camera.filter(|_| world.now >= next) {
                let mut frame = world.frame(seed, 5000);
                let now = world.clock(CAMERA).at(world.now);
                frame.capture = now;
                world
                    .host(CAMERA)
                    .send_frame(now, camera, 0, frame)
                    .unwrap();
                next = next + FRAME;
                seed += 1;
            }
            self.hand_on(world);
            if world.events.len() > 10_000 {
                world.events.clear();
                self.seen = 0;
            }
            world.run(step);
        }
        self.hand_on(world);
    }

    /// Streams until a frame comes to a host; returns how long that took.
    #[track_caller]
    fn until_frame(
        &mut self,
        world: &mut World,
        camera: PeerId,
        at: &str,
        limit: Duration,
    ) -> Duration {
        let begun = world.now;
        world.events.clear();
        self.seen = 0;
        while world.frames(at).is_empty() {
            let took = world.now.since(begun);
            assert!(took < limit, "no frame at {at} within {limit:?}");
            self.stream(world, Some(camera), ms(10));
        }
        world.now.since(begun)
    }
}

// NATs.

#[test]
fn sessions_without_frames_keep_what_a_nat_knows_of_them() {
    let (mut world, camera, viewer) = world(70);
    let mut relays = Relays::default();
    world.nats.insert(address(CAMERA), Nat::new(1024, FORGETS));
    world.nats.insert(address(VIEWER), Nat::new(2048, FORGETS));
    // The viewer only receives; then the camera has nothing to send for ten minutes.
    relays.until_frame(&mut world, camera, VIEWER, ms(2000));
    relays.stream(&mut world, Some(camera), Duration::from_secs(60));
    relays.stream(&mut world, None, Duration::from_secs(600));
    let took = relays.until_frame(&mut world, camera, VIEWER, ms(2000));
    assert!(took <= ONE_WAY * 2 + ms(20), "{took:?}");
    for host in [CAMERA, VIEWER] {
        assert_eq!(world.nats[&address(host)].changes, 0, "{host}");
    }
    for (at, peer) in [(CAMERA, camera), (VIEWER, viewer)] {
        let stats = stats(&mut world, at, peer);
        assert_eq!((stats.reconnects, stats.connected), (0, true));
    }
}

#[test]
fn a_camera_that_its_nat_forgot_is_found_with_its_next_packet() {
    for (seed, pause) in [(71, 0), (72, 35), (73, 300)] {
        let (mut world, camera, _) = world(seed);
        world.nats.insert(address(CAMERA), Nat::new(1024, FORGETS));
        until_frame(&mut world, CAMERA, camera, ms(1000));
        world.stream(CAMERA, camera, 30, FRAME, 20_000);
        let other = at_relay(&world, RELAY, |event| matches!(event, Event::Frame(_)));
        for round in 1..=3 {
            world.run(Duration::from_secs(pause));
            world.nats.get_mut(&address(CAMERA)).unwrap().forget();
            let took = until_frame(&mut world, CAMERA, camera, ms(1000));
            // Frames came by another port at once; soon so do reports and all else.
            assert!(took < ms(40), "{took:?}");
            world.stream(CAMERA, camera, 10, ms(10), 20_000);
            assert_eq!(stats(&mut world, RELAY, other).moves, round);
            world.events.clear();
            let now = world.now;
            world.host(RELAY).request_keyframe(now, other, 0);
            world.run(ms(100));
            let asked =
                |(_, _, event): &(_, _, Event)| matches!(event, Event::KeyframeRequested { .. });
            assert!(world.events.iter().any(asked), "it is reached");
        }
        assert_eq!(stats(&mut world, CAMERA, camera).reconnects, 0);
    }
}

#[test]
fn a_viewer_that_its_nat_forgot_is_found_with_its_next_packet() {
    let (mut world, camera, viewer) = world(74);
    let mut relays = Relays::default();
    world.nats.insert(address(VIEWER), Nat::new(2048, FORGETS));
    relays.until_frame(&mut world, camera, VIEWER, ms(2000));
    for round in 0..3 {
        relays.stream(&mut world, Some(camera), Duration::from_secs(10));
        // Nothing gets in any more; the viewer sends reports of what came last.
        world.nats.get_mut(&address(VIEWER)).unwrap().forget();
        world.run(ONE_WAY);
        let begun = world.now;
        let took = relays.until_frame(&mut world, camera, VIEWER, ms(1000));
        // It misses its frames after 100 ms and says so; a round trip and 100 ms later it has one.
        assert!(
            took < ms(100) + ROUND_TRIP + ms(100) + ms(120),
            "{took:?} in round {round}"
        );
        println!("{took:?} from {begun:?} on");
    }
    let stats = stats(&mut world, VIEWER, viewer);
    assert_eq!((stats.reconnects, stats.connected), (0, true));
}

// Hosts that sleep, and clocks that jump.

#[test]
fn a_relay_that_was_suspended_goes_on() {
    for (asleep, counts) in [(60, false), (60, true), (600, false), (600, true)] {
        let (mut world, camera, _) = world(75);
        let mut relays = Relays::default();
        relays.until_frame(&mut world, camera, VIEWER, ms(2000));
        relays.stream(&mut world, Some(camera), Duration::from_secs(2));
        // The camera goes on all the while.
        let slept = Duration::from_secs(asleep);
        let relay = world.take(RELAY);
        world.stream(CAMERA, camera, asleep * 10, ms(100), 5000);
        world.put(RELAY, relay);
        if !counts {
            world.step(RELAY, -(slept.as_nanos() as i64));
        }
        let took = relays.until_frame(&mut world, camera, VIEWER, ms(5000));
        println!("{asleep} s, its clock counts: {counts}: a frame after {took:?}");
        assert!(took < ms(1500), "{took:?} after {asleep} s");
        relays.goes_on(&mut world, camera);
    }
}

#[test]
fn a_viewer_that_was_suspended_goes_on() {
    for (asleep, counts) in [(60, false), (60, true), (600, false), (600, true)] {
        let (mut world, camera, _) = world(76);
        let mut relays = Relays::default();
        relays.until_frame(&mut world, camera, VIEWER, ms(2000));
        relays.stream(&mut world, Some(camera), Duration::from_secs(2));
        let slept = Duration::from_secs(asleep);
        let viewer = world.take(VIEWER);
        relays.stream(&mut world, Some(camera), slept);
        world.put(VIEWER, viewer);
        if !counts {
            world.step(VIEWER, -(slept.as_nanos() as i64));
        }
        let took = relays.until_frame(&mut world, camera, VIEWER, ms(5000));
        println!("{asleep} s, its clock counts: {counts}: a frame after {took:?}");
        assert!(took < ms(1500), "{took:?} after {asleep} s");
        relays.goes_on(&mut world, camera);
    }
}

#[test]
fn a_relay_whose_clock_jumps_by_an_hour_goes_on() {
    // Forwards: the clock that endpoints are told of is a monotonic one.
    let (mut world, camera, viewer) = world(77);
    let mut relays = Relays::default();
    relays.until_frame(&mut world, camera, VIEWER, ms(2000));
    relays.stream(&mut world, Some(camera), Duration::from_secs(5));
    for _ in 0..2 {
        world.step(RELAY, HOUR);
        let took = relays.until_frame(&mut world, camera, VIEWER, ms(5000));
        println!("a frame after {took:?}");
        assert!(took < ms(1500), "{took:?}");
        relays.goes_on(&mut world, camera);
    }
    // Sessions that nothing was heard of for an hour are over, for all that the relay can tell; what
    // comes at the same moment is heard.
    for (at, peer) in [(CAMERA, camera), (VIEWER, viewer)] {
        assert!(stats(&mut world, at, peer).reconnects <= 2, "{at}");
    }
}

impl Relays {
    /// Asserts that from a few seconds later on nearly every frame comes.
    #[track_caller]
    fn goes_on(&mut self, world: &mut World, camera: PeerId) {
        self.stream(world, Some(camera), Duration::from_secs(5));
        world.events.clear();
        self.seen = 0;
        self.stream(world, Some(camera), Duration::from_secs(10));
        let came = world.frames(VIEWER).len();
        assert!(came >= 290, "{came} of 300");
    }
}

// Outages.

#[test]
fn an_outage_of_a_minute_grows_no_memory_on_either_side() {
    // With loss there are frames that are not whole, and repairs.
    let path = Conditions {
        loss: 0.05,
        jitter: ms(5),
        ..Conditions::clean(ONE_WAY)
    };
    let mut world = World::new(79, path);
    world.start_relay();
    world.start(CAMERA, Config::default());
    let camera = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, camera, ms(2000));
    // The most that the camera held of what it sends, and the relay of what comes.
    let most = |world: &mut World, seconds: u64| {
        let mut most = [0; 2];
        for _ in 0..seconds * 30 {
            world.stream(CAMERA, camera, 1, FRAME, 50_000);
            world.events.clear();
            let [_, leaving] = world.host(CAMERA).memory();
            let [coming, _] = world.host(RELAY).memory();
            most = [most[0].max(leaving), most[1].max(coming)];
        }
        most
    };
    let before = most(&mut world, 10);
    world.path.down = true;
    let first = most(&mut world, 5);
    let rest = most(&mut world, 55);
    world.path.down = false;
    let after = most(&mut world, 10);
    println!("before {before:?}, in the outage {first:?}, then {rest:?}, after it {after:?}");
    for side in [0, 1] {
        assert!(before[side] > 0, "it is measured");
        assert!(rest[side] <= first[side], "{rest:?} after {first:?}");
        // Nothing is kept for longer than it can be of use.
        let limit = before[side] * 2;
        assert!(
            first[side] <= limit && after[side] <= limit,
            "{first:?} {after:?}"
        );
    }
}

// Relays one behind the other.

#[test]
fn relays_of_a_chain_are_restarted_in_turn_and_twice() {
    let (mut world, camera, _) = world(78);
    let mut relays = Relays::default();
    // The viewer watches the second relay, to which the first hands on.
    world.kill(VIEWER);
    let start = |world: &mut World, relays: &mut Relays| {
        world.start(UPLINK, Config::default());
        let role = Role::Publish {
            camera: "door".into(),
        };
        let uplink = world.connect_to(SECOND_RELAY, UPLINK, role, None);
        let now = world.now;
        world
            .host(UPLINK)
            .set_caps(now, uplink, 0, "image/jpeg")
            .unwrap();
        relays.uplink = Some(uplink);
    };
    world.start_relay_at(SECOND_RELAY);
    start(&mut world, &mut relays);
    world.start(VIEWER, Config::default());
    let role = Role::Watch {
        camera: "door".into(),
    };
    let viewer = world.connect_to(SECOND_RELAY, VIEWER, role, None);
    relays.until_frame(&mut world, camera, VIEWER, ms(2000));
    for round in 0..2 {
        for (relay, down) in [
            (RELAY, 700),
            (SECOND_RELAY, 700),
            (RELAY, 10_000),
            (SECOND_RELAY, 10_000),
        ] {
            relays.stream(&mut world, Some(camera), Duration::from_secs(3));
            world.kill(relay);
            if relay == RELAY {
                world.kill(UPLINK);
                relays.uplink = None;
            }
            relays.stream(&mut world, Some(camera), ms(down));
            relays.viewers.retain(|(at, _)| *at != address(relay));
            if relay == RELAY {
                world.start_relay();
                start(&mut world, &mut relays);
            } else {
                world.start_relay_at(relay);
            }
            let took = relays.until_frame(&mut world, camera, VIEWER, ms(5000));
            println!("{relay} in round {round}, down for {down} ms: a frame after {took:?}");
            assert!(took < ms(1500), "{took:?}");
            relays.goes_on(&mut world, camera);
        }
    }
    // Each restart of the second relay is one, and each of the first is none.
    assert_eq!(stats(&mut world, VIEWER, viewer).reconnects, 4);
    assert_eq!(stats(&mut world, CAMERA, camera).reconnects, 4);
}
