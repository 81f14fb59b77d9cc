//! How sessions begin, end and come back.

use std::net::SocketAddr;
use std::time::Duration;

use camrelay_protocol::{
    Accept, Access, CameraToken, Code, Config, Connect, Error, Event, PeerId, PrivateKey,
    Rejection, Role,
};

use path_emulator::Conditions;

use crate::world::{CAMERA, LATENCY, RELAY, World, address};

const OTHER: &str = "10.0.0.3:50000";

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub type Told = (SocketAddr, PeerId, Event);

pub fn frame_at(events: &[Told], at: &str) -> bool {
    events
        .iter()
        .any(|(host, _, e)| *host == address(at) && matches!(e, Event::Frame(_)))
}

pub fn rejection(events: &[Told], at: &str) -> Option<Code> {
    events.iter().find_map(|(host, _, event)| match event {
        Event::Disconnected(r) | Event::Refused(r) if *host == address(at) => Some(r.code),
        _ => None,
    })
}

pub fn relay_with_key(world: &mut World, accept: Accept, names: &[&str]) -> CameraToken {
    let identity = PrivateKey::from_random([7; 32]);
    let token = CameraToken::new(identity.public(), [9; 32]);
    let known = vec![token.known_camera(names.iter().map(|n| n.to_string()).collect())];
    let access = Some(Access { accept, known });
    world.start(
        RELAY,
        Config {
            identity: Some(identity),
            access,
            ..Config::default()
        },
    );
    token
}

pub fn publish_with(
    world: &mut World,
    at: &str,
    camera: &str,
    token: Option<CameraToken>,
) -> PeerId {
    world.start(at, Config::default());
    let role = Role::Publish {
        camera: camera.into(),
    };
    let peer = world.connect_with(at, role, token);
    let now = world.now;
    world.host(at).set_caps(now, peer, 0, "image/jpeg").unwrap();
    peer
}

/// Sends frames until one arrives; returns how long that took.
pub fn until_frame(world: &mut World, at: &str, peer: PeerId, limit: Duration) -> Duration {
    world.events.clear();
    let begin = world.now;
    while !frame_at(&world.events, RELAY) {
        assert!(world.now.since(begin) < limit, "no frame within {limit:?}");
        world.stream(at, peer, 1, ms(10), 20_000);
    }
    world.now.since(begin)
}

#[test]
fn a_camera_that_comes_first_waits_for_the_relay() {
    let mut world = World::new(1, Conditions::clean(ms(5)));
    world.start(CAMERA, Config::default());
    let peer = world.publish(CAMERA, "door");
    world.stream(CAMERA, peer, 100, ms(33), 20_000);
    assert!(world.frames(RELAY).is_empty());
    world.start_relay();
    let took = until_frame(&mut world, CAMERA, peer, ms(2000));
    assert!(took < ms(1000), "{took:?}");
}

#[test]
fn a_handshake_succeeds_over_a_path_that_loses_a_third() {
    for seed in 0..20 {
        let path = Conditions {
            loss: 0.33,
            ..Conditions::clean(ms(20))
        };
        let mut world = World::new(seed, path);
        world.start_relay();
        world.start(CAMERA, Config::default());
        world.publish(CAMERA, "door");
        world.run_until(ms(20_000), |events| {
            events.iter().any(|(_, _, e)| matches!(e, Event::Connected))
        });
    }
}

#[test]
fn a_relay_that_restarts_gets_its_camera_back() {
    let mut world = World::new(2, Conditions::clean(ms(5)));
    world.start_relay();
    world.start(CAMERA, Config::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    world.kill(RELAY);
    world.run(ms(700));
    world.start_relay();
    let took = until_frame(&mut world, CAMERA, peer, ms(2000));
    assert!(took < ms(200), "{took:?}");
    let now = world.now;
    assert_eq!(world.host(CAMERA).stats(now, peer).unwrap().reconnects, 1);
}

#[test]
fn a_camera_that_restarts_takes_its_name_back_at_once() {
    let mut world = World::new(3, Conditions::clean(ms(5)));
    world.start_relay();
    world.start(CAMERA, Config::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    world.kill(CAMERA);
    world.start("10.0.0.2:40001", Config::default());
    let peer = world.publish("10.0.0.2:40001", "door");
    let took = until_frame(&mut world, "10.0.0.2:40001", peer, ms(1000));
    assert!(took < ms(100), "{took:?}");
    let removed = world.events.iter().any(|(_, _, e)| matches!(e, Event::CameraRemoved { reason, .. } if reason.code == Code::Replaced));
    assert!(removed);
}

#[test]
fn who_calls_anew_from_the_same_place_is_not_told_of_another_camera() {
    let mut world = World::new(3, Conditions::clean(ms(5)));
    world.start_relay();
    for _ in 0..2 {
        world.start(CAMERA, Config::default());
        let peer = world.publish(CAMERA, "door");
        world.events.clear();
        until_frame(&mut world, CAMERA, peer, ms(1000));
        world.kill(CAMERA);
    }
    let removed = world.events.iter().find_map(|(_, _, event)| match event {
        Event::CameraRemoved { reason, .. } => Some(reason.text.as_str()),
        _ => None,
    });
    assert_eq!(removed, Some("it called anew"));
}

#[test]
fn a_name_in_use_is_refused_until_its_camera_is_silent() {
    let mut world = World::new(4, Conditions::clean(ms(5)));
    world.start_relay();
    world.start(CAMERA, Config::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    world.start(OTHER, Config::default());
    let second = world.publish(OTHER, "door");
    world.run(ms(500));
    assert_eq!(rejection(&world.events, OTHER), Some(Code::NameInUse));
    world.kill(CAMERA);
    world.run(ms(2500));
    until_frame(&mut world, OTHER, second, ms(2000));
}

#[test]
fn an_outage_of_a_minute_ends_within_300_ms_and_without_a_new_session() {
    for outage in [5, 60] {
        let mut world = World::new(5, Conditions::clean(ms(10)));
        world.start_relay();
        world.start(CAMERA, Config::default());
        let peer = world.publish(CAMERA, "door");
        until_frame(&mut world, CAMERA, peer, ms(1000));
        world.path.down = true;
        world.stream(
            CAMERA,
            peer,
            outage * 30,
            Duration::from_nanos(33_333_333),
            20_000,
        );
        world.path.down = false;
        let took = until_frame(&mut world, CAMERA, peer, ms(2000));
        assert!(took < ms(300), "{took:?} after {outage} s");
        let now = world.now;
        let stats = world.host(CAMERA).stats(now, peer).unwrap();
        assert!(stats.connected && stats.reconnects == 0, "{stats:?}");
    }
}

#[test]
fn a_camera_may_change_its_address() {
    let mut world = World::new(6, Conditions::clean(ms(10)));
    world.start_relay();
    world.start(CAMERA, Config::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    world.move_host(CAMERA, OTHER);
    let took = until_frame(&mut world, OTHER, peer, ms(1000));
    assert!(took < ms(120), "{took:?}");
    let relay_peer = world
        .events
        .iter()
        .find(|(_, _, e)| matches!(e, Event::Frame(_)))
        .unwrap()
        .1;
    world.events.clear();
    let now = world.now;
    world.host(RELAY).request_keyframe(now, relay_peer, 0);
    world.run(ms(100));
    assert!(
        world
            .events
            .iter()
            .any(|(_, _, e)| matches!(e, Event::KeyframeRequested { .. }))
    );
}

#[test]
fn both_sides_say_goodbye() {
    let mut world = World::new(7, Conditions::clean(ms(5)));
    world.start_relay();
    world.start(CAMERA, Config::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    world.events.clear();
    let frame = world.frame(77, 100_000);
    let now = world.now;
    world.host(CAMERA).send_frame(now, peer, 0, frame).unwrap();
    world
        .host(CAMERA)
        .close(now, peer, Rejection::new(Code::Done, "bye"));
    world.run(ms(100));
    assert_eq!(
        world.frames(RELAY).len(),
        1,
        "what was handed over is sent first"
    );
    let told: Vec<_> = world
        .events
        .iter()
        .filter_map(|(at, _, e)| match e {
            Event::CameraRemoved { reason, .. } | Event::Closed(reason) => {
                Some((*at, reason.text.as_str()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [
            (address(RELAY), "bye"),
            (address(RELAY), "bye"),
            (address(CAMERA), "bye")
        ]
    );
    let now = world.now;
    assert!(world.host(CAMERA).stats(now, peer).is_none());
    assert_eq!(world.host(CAMERA).end_stream(now, peer, 0), ());
}

#[test]
fn a_camera_that_the_relay_sends_away_comes_back_and_counts_it() {
    let mut world = World::new(14, Conditions::clean(ms(5)));
    world.start_relay();
    world.start(CAMERA, Config::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    let at_relay = world
        .events
        .iter()
        .find(|(_, _, e)| matches!(e, Event::Frame(_)))
        .unwrap()
        .1;
    let now = world.now;
    world
        .host(RELAY)
        .close(now, at_relay, Rejection::new(Code::Overloaded, "later"));
    world.run(ms(500));
    assert_eq!(rejection(&world.events, CAMERA), Some(Code::Overloaded));
    until_frame(&mut world, CAMERA, peer, ms(2000));
    let now = world.now;
    assert_eq!(world.host(CAMERA).stats(now, peer).unwrap().reconnects, 1);
}

#[test]
fn keys_open_their_names_and_no_others() {
    let mut world = World::new(8, Conditions::clean(ms(5)));
    let token = relay_with_key(&mut world, Accept::Known, &["door"]);
    let peer = publish_with(&mut world, CAMERA, "door", Some(token.clone()));
    until_frame(&mut world, CAMERA, peer, ms(1000));
    publish_with(&mut world, OTHER, "gate", Some(token));
    world.run(ms(200));
    assert_eq!(rejection(&world.events, OTHER), Some(Code::NameNotAllowed));
}

#[test]
fn strangers_are_refused() {
    let mut world = World::new(9, Conditions::clean(ms(5)));
    relay_with_key(&mut world, Accept::Known, &["door"]);
    publish_with(&mut world, CAMERA, "door", None);
    world.run(ms(300));
    assert_eq!(
        rejection(&world.events, CAMERA),
        Some(Code::SecurityRequired)
    );
    let relay = PrivateKey::from_random([7; 32]).public();
    publish_with(
        &mut world,
        OTHER,
        "door",
        Some(CameraToken::new(relay, [1; 32])),
    );
    world.run(ms(300));
    assert_eq!(rejection(&world.events, OTHER), Some(Code::UnknownKey));
    // Somebody anonymous may not take a name that belongs to a key.
    let mut world = World::new(9, Conditions::clean(ms(5)));
    relay_with_key(&mut world, Accept::Lan, &["door"]);
    publish_with(&mut world, CAMERA, "door", None);
    world.run(ms(300));
    assert_eq!(
        rejection(&world.events, CAMERA),
        Some(Code::SecurityRequired)
    );
}

#[test]
fn removing_a_key_ends_its_session() {
    let mut world = World::new(10, Conditions::clean(ms(5)));
    let token = relay_with_key(&mut world, Accept::Lan, &["door"]);
    let peer = publish_with(&mut world, CAMERA, "door", Some(token));
    until_frame(&mut world, CAMERA, peer, ms(1000));
    world.events.clear();
    let now = world.now;
    world.host(RELAY).set_access(now, Access::default());
    world.run(ms(100));
    assert_eq!(rejection(&world.events, CAMERA), Some(Code::UnknownKey));
    assert!(
        world
            .events
            .iter()
            .any(|(_, _, e)| matches!(e, Event::CameraRemoved { .. }))
    );
}

#[test]
fn nothing_comes_of_a_camera_whose_key_is_removed() {
    let mut world = World::new(10, Conditions::clean(ms(5)));
    let token = relay_with_key(&mut world, Accept::Lan, &["door"]);
    let peer = publish_with(&mut world, CAMERA, "door", Some(token));
    until_frame(&mut world, CAMERA, peer, ms(1000));
    // A frame that is whole waits for the one before it, of which nothing came.
    world.path.down = true;
    world.stream(CAMERA, peer, 1, ms(10), 20_000);
    world.path.down = false;
    world.stream(CAMERA, peer, 1, ms(10), 20_000);
    world.events.clear();
    let now = world.now;
    world.host(RELAY).set_access(now, Access::default());
    // It does not hear of it.
    world.path.down = true;
    world.stream(CAMERA, peer, 10, ms(33), 20_000);
    assert_eq!(world.frames(RELAY).len(), 0);
}

#[test]
fn a_name_that_gets_a_key_is_nobody_elses_at_once() {
    let mut world = World::new(10, Conditions::clean(ms(5)));
    let token = relay_with_key(&mut world, Accept::Lan, &["door"]);
    let now = world.now;
    world.host(RELAY).set_access(now, Access::default());
    let stranger = publish_with(&mut world, OTHER, "door", None);
    until_frame(&mut world, OTHER, stranger, ms(1000));
    world.events.clear();
    let known = vec![token.known_camera(vec!["door".into()])];
    let accept = Accept::Lan;
    let now = world.now;
    let access = Access { accept, known };
    world.host(RELAY).set_access(now, access);
    let peer = publish_with(&mut world, CAMERA, "door", Some(token));
    world.run(ms(100));
    assert_eq!(
        rejection(&world.events, OTHER),
        Some(Code::SecurityRequired)
    );
    let took = until_frame(&mut world, CAMERA, peer, ms(1000));
    assert!(took < ms(200), "{took:?}");
}

/// Why somebody at [`OTHER`] may not watch a camera; `None` where he is asked to wait for it.
fn watch(world: &mut World, camera: &str, token: Option<CameraToken>) -> Option<Rejection> {
    world.start(OTHER, Config::default());
    let role = Role::Watch {
        camera: camera.into(),
    };
    world.connect_with(OTHER, role, token);
    world.events.clear();
    world.run(ms(100));
    let asked = |(_, _, event): &Told| matches!(event, Event::WatchRequested { .. });
    let refused = why_not(world);
    assert_eq!(world.events.iter().any(asked), refused.is_none());
    refused
}

fn why_not(world: &World) -> Option<Rejection> {
    world
        .events
        .iter()
        .find_map(|(host, _, event)| match event {
            Event::Disconnected(reason) if *host == address(OTHER) => Some(reason.clone()),
            _ => None,
        })
}

#[test]
fn who_has_no_key_watches_what_the_relay_shows_to_all() {
    let mut world = World::new(10, Conditions::clean(ms(5)));
    let token = relay_with_key(&mut world, Accept::Lan, &["door"]);
    let code = |refused: Option<Rejection>| refused.map(|reason| reason.code);
    let refused = watch(&mut world, "door", None);
    assert_eq!(code(refused), Some(Code::SecurityRequired));
    assert_eq!(watch(&mut world, "door", Some(token.clone())), None);
    let refused = watch(&mut world, "gate", Some(token.clone()));
    assert_eq!(code(refused), Some(Code::NameNotAllowed));
    assert_eq!(watch(&mut world, "gate", None), None);
    // From now on it asks who watches.
    let now = world.now;
    world.host(RELAY).set_viewers(now, Accept::Known);
    world.run(ms(100));
    let words = why_not(&world).expect("he is told").to_string();
    assert!(
        words.contains("asks who watches: use RTSP or its page, or a key"),
        "{words}"
    );
    assert!(watch(&mut world, "gate", None).is_some());
    assert_eq!(watch(&mut world, "door", Some(token)), None);
    let peer = publish_with(&mut world, CAMERA, "gate", None);
    until_frame(&mut world, CAMERA, peer, ms(1000));
}

#[test]
fn noise_from_the_network_changes_nothing() {
    let mut world = World::new(11, Conditions::clean(ms(5)));
    world.start_relay();
    world.start(CAMERA, Config::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    world.events.clear();
    for i in 0..5000u64 {
        let len = (world.rng.next() % 1300) as usize;
        let mut datagram = crate::world::pattern(i, len).to_vec();
        if let Some(first) = datagram.first_mut() {
            *first = 0x10 | (i % 7) as u8;
        }
        world.inject(OTHER, RELAY, datagram.clone());
        world.inject(RELAY, CAMERA, datagram);
        if i % 100 == 0 {
            world.stream(CAMERA, peer, 1, ms(33), 20_000);
        }
    }
    world.run(ms(200));
    assert_eq!(world.frames(RELAY).len(), 50);
}

#[test]
fn sessions_are_bounded() {
    let mut world = World::new(12, Conditions::clean(ms(1)));
    world.start_relay();
    for host in 0..600u32 {
        let at = format!("10.1.{}.{}:4000", host / 250, host % 250 + 1);
        world.start(&at, Config::default());
        world.connect(
            &at,
            Role::Publish {
                camera: format!("c{host}"),
            },
        );
    }
    // Their first messages arrive; the answers do not.
    world.run(ms(0));
    let questions = world.datagrams;
    world.path.down = true;
    world.run(ms(5));
    assert_eq!(questions, 600);
    assert_eq!(
        world.datagrams - questions,
        192,
        "answers waiting at once are bounded"
    );
    world.path.down = false;
    world.run(ms(8000));
    let added = world
        .events
        .iter()
        .filter(|(_, _, e)| matches!(e, Event::CameraAdded { .. }))
        .count();
    assert_eq!(added, 600, "the table of unproved sessions empties again");
}

#[test]
fn a_bad_name_is_refused_where_it_is_given() {
    let mut world = World::new(13, Conditions::clean(ms(1)));
    world.start(CAMERA, Config::default());
    let now = world.now;
    let role = Role::Publish {
        camera: "a/b".into(),
    };
    let connect = Connect {
        remote: address(RELAY),
        token: None,
        role,
        latency: LATENCY,
        late_policy: Default::default(),
        mtu: 0,
    };
    assert_eq!(
        world.host(CAMERA).connect(now, connect),
        Err(Error::BadName("a/b".into()))
    );
}
