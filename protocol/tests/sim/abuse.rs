//! Strangers, forgers and floods.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use camrelay_protocol::{
    Accept, Access, CameraToken, Code, Config, Connect, Endpoint, Event, PrivateKey, Random, Role,
};

use path_emulator::Conditions;

use crate::sessions::{frame_at, ms, publish_with, rejection, relay_with_key, until_frame};
use crate::world::{CAMERA, LATENCY, RELAY, World, address};

const NEWCOMER: &str = "10.0.0.9:40000";

/// The first handshake message of a caller that is at no address.
pub fn init(number: u64, token: Option<CameraToken>) -> Vec<u8> {
    struct Same(u64);
    impl Random for Same {
        fn fill(&mut self, out: &mut [u8]) {
            for chunk in out.chunks_mut(8) {
                self.0 += 1;
                chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
            }
        }
    }
    let mut caller = Endpoint::new(Config::default(), Box::new(Same(number << 32)));
    let connect = Connect {
        remote: address(RELAY),
        token,
        role: Role::Publish {
            camera: "ghost".into(),
        },
        latency: LATENCY,
        late_policy: Default::default(),
        mtu: 0,
    };
    let now = camrelay_protocol::Time::from_nanos(1);
    caller.connect(now, connect).unwrap();
    caller.handle_timeout(now);
    let mut buffer = Vec::new();
    caller.poll_transmit(now, 1, &mut buffer).expect("it calls");
    buffer
}

/// The address of a caller that does not get what is sent there.
pub fn spoofed(number: u32) -> SocketAddr {
    (Ipv4Addr::from(0x0a80_0000 + number), 4000).into()
}

/// Sends 10 handshakes a millisecond for ten seconds from as many addresses, beside a camera
/// with 30 frames a second; another camera comes in the middle.
fn flood(known: bool) {
    const SECONDS: u64 = 10;
    const PER_MS: u32 = 10;
    let mut world = World::new(20, Conditions::clean(ms(5)));
    let accept = if known { Accept::Known } else { Accept::Lan };
    let token = relay_with_key(&mut world, accept, &["known-1", "known-2"]);
    let names = if known {
        ["known-1", "known-2"]
    } else {
        ["door", "gate"]
    };
    let token = known.then_some(token);
    let peer = publish_with(&mut world, CAMERA, names[0], token.clone());
    until_frame(&mut world, CAMERA, peer, ms(1000));
    world.events.clear();
    let inits: Vec<_> = (0..100).map(|number| init(number, token.clone())).collect();
    let (mut asked, mut sent, mut came) = (0u32, 0u64, None);
    for milli in 0..SECONDS * 1000 {
        for _ in 0..PER_MS {
            let datagram = inits[asked as usize % inits.len()].clone();
            world.inject_from(spoofed(asked), RELAY, datagram);
            asked += 1;
        }
        if milli * 30 / 1000 > sent {
            let (now, frame) = (world.now, world.frame(sent, 20_000));
            world.host(CAMERA).send_frame(now, peer, 0, frame).unwrap();
            sent += 1;
        }
        if milli == 5000 {
            publish_with(&mut world, NEWCOMER, names[1], token.clone());
        }
        world.run(ms(1));
        let admissions = world.host(RELAY).admissions();
        assert!(
            admissions.unproved <= 512 && admissions.sessions <= 514,
            "{admissions:?}"
        );
        let is_there = |(_, _, e): &(_, _, Event)| matches!(e, Event::CameraAdded { camera, .. } if camera == names[1]);
        if came.is_none() && world.events.iter().any(is_there) {
            came = Some(milli - 5000);
        }
    }
    world.run(ms(500));
    let admissions = world.host(RELAY).admissions();
    println!("{asked} asked, {sent} frames, newcomer after {came:?} ms, {admissions:?}");
    assert_eq!(asked, 100_000);
    assert_eq!(
        world.assert_intact(RELAY).len() as u64,
        sent,
        "every frame arrives"
    );
    assert!(came.is_some_and(|after| after < 100), "{came:?}");
    let question = inits[0].len() as u64;
    assert!(world.sent_to_nobody < u64::from(asked) * question * 6 / 10);
    // Strangers without proof cost 100 handshakes a second, whatever they send.
    assert!(
        admissions.answered < 100 * (SECONDS + 2) + 10,
        "{admissions:?}"
    );
    world.run(ms(5000));
    assert_eq!(world.host(RELAY).admissions().unproved, 0);
}

#[test]
fn a_flood_of_handshakes_costs_no_frame_and_keeps_nobody_out() {
    flood(false);
}

#[test]
fn a_flood_by_someone_who_has_seen_a_token_costs_no_frame() {
    flood(true);
}

/// A REJECT that echoes `datagram`.
fn forged(code: Code, datagram: &[u8]) -> Vec<u8> {
    let mut reject = vec![0; 12];
    reject[0] = 0x15;
    reject.extend_from_slice(&(code as u16).to_be_bytes());
    reject.extend_from_slice(&datagram[..12]);
    reject
}

#[test]
fn a_forged_refusal_neither_ends_a_session_nor_prevents_one() {
    let mut world = World::new(21, Conditions::clean(ms(5)));
    let token = relay_with_key(&mut world, Accept::Known, &["door"]);
    world.tap = Some(Vec::new());
    let peer = publish_with(&mut world, CAMERA, "door", Some(token));
    world.run(ms(0));
    let init = world.tap.as_ref().unwrap()[0].clone();
    for code in [Code::UnknownKey, Code::SecurityRequired, Code::Gone] {
        world.inject(RELAY, CAMERA, forged(code, &init));
    }
    until_frame(&mut world, CAMERA, peer, ms(200));

    world.events.clear();
    let mut told = 0;
    for _ in 0..100 {
        let data = world.tap.as_ref().unwrap().last().unwrap().clone();
        for code in [Code::UnknownKey, Code::Gone, Code::Replaced] {
            world.inject(RELAY, CAMERA, forged(code, &data));
        }
        world.stream(CAMERA, peer, 1, ms(33), 20_000);
        told += 1;
    }
    world.run(ms(200));
    assert_eq!(world.frames(RELAY).len(), told);
    let ended = |(at, _, event): &(SocketAddr, _, Event)| {
        *at == address(CAMERA) && matches!(event, Event::Closed(_) | Event::Refused(_))
    };
    assert!(!world.events.iter().any(ended));
}

#[test]
fn who_is_not_wanted_hears_it_and_keeps_asking() {
    // A relay that has its say signed: the camera knows for certain.
    let mut world = World::new(22, Conditions::clean(ms(5)));
    relay_with_key(&mut world, Accept::Known, &["door"]);
    let relay = PrivateKey::from_random([7; 32]).public();
    let unknown = CameraToken::new(relay, [1; 32]);
    publish_with(&mut world, CAMERA, "door", Some(unknown));
    world.run(ms(300));
    let certain = |(_, _, event): &(_, _, Event)| matches!(event, Event::Disconnected(_));
    assert!(world.events.iter().any(certain));

    // Without a key nobody can sign to it: it waits, and gets in when it may.
    let mut world = World::new(22, Conditions::clean(ms(5)));
    relay_with_key(&mut world, Accept::Known, &["door"]);
    let peer = publish_with(&mut world, CAMERA, "gate", None);
    world.run(ms(300));
    assert_eq!(
        rejection(&world.events, CAMERA),
        Some(Code::SecurityRequired)
    );
    assert!(!world.events.iter().any(certain) && !frame_at(&world.events, RELAY));
    let now = world.now;
    let access = Access {
        accept: Accept::Lan,
        known: Vec::new(),
    };
    world.host(RELAY).set_access(now, access);
    until_frame(&mut world, CAMERA, peer, Duration::from_secs(6));
}

#[test]
fn noise_gets_no_answer_or_one_that_is_no_longer() {
    let addresses = [spoofed(1), "8.8.8.8:4000".parse().unwrap()];
    for (keys, accept) in [
        (true, Accept::Known),
        (true, Accept::Lan),
        (false, Accept::Known),
        (false, Accept::Lan),
    ] {
        let mut world = World::new(23, Conditions::clean(ms(0)));
        relay_with_key(&mut world, accept, &["door"]);
        if !keys {
            let access = Some(Access {
                accept,
                known: Vec::new(),
            });
            let config = Config {
                access,
                ..Config::default()
            };
            world.start(RELAY, config);
        }
        let mut answered = 0;
        for number in 0..2000 {
            for from in addresses {
                let len = world.rng.next() as usize % 64;
                let mut noise: Vec<u8> = (0..len).map(|_| world.rng.next() as u8).collect();
                if let Some(first) = noise.first_mut() {
                    *first = 0x10 | (number % 7) as u8;
                }
                let now = world.now;
                let relay = world.host(RELAY);
                relay.handle_datagram(now, now, from, &mut noise);
                let mut answer = Vec::new();
                while relay.poll_transmit(now, 16, &mut answer).is_some() {
                    assert!(answer.len() <= len, "{} bytes for {len}", answer.len());
                    assert_eq!(from, addresses[0], "who may not come hears nothing");
                    answered += 1;
                }
            }
        }
        let may_answer = !keys && accept == Accept::Lan;
        assert_eq!(answered > 0, may_answer, "{keys} {accept:?}: {answered}");
    }
}

#[test]
fn a_camera_hears_at_once_that_a_relay_with_keys_was_restarted() {
    let mut world = World::new(24, Conditions::clean(ms(5)));
    let token = relay_with_key(&mut world, Accept::Known, &["door"]);
    let peer = publish_with(&mut world, CAMERA, "door", Some(token));
    until_frame(&mut world, CAMERA, peer, ms(1000));
    relay_with_key(&mut world, Accept::Known, &["door"]);
    let took = until_frame(&mut world, CAMERA, peer, ms(2000));
    assert!(took < ms(500), "{took:?}");
}

#[test]
fn strangers_without_proof_take_few_places_for_some_seconds_and_keep_nobody_out() {
    /// Places that strangers take at most, and for how long.
    const PLACES: u32 = 64;
    const FOR: Duration = Duration::from_secs(5);
    for known in [false, true] {
        let mut world = World::new(25, Conditions::clean(ms(5)));
        let accept = if known { Accept::Known } else { Accept::Lan };
        let token = relay_with_key(&mut world, accept, &["door"]);
        let token = known.then_some(token);
        let name = if known { "door" } else { "gate" };
        let mut asked = 0;
        let mut ask = |world: &mut World| {
            let before = world.sent_to_nobody;
            let question = init(asked.into(), token.clone());
            world.inject_from(spoofed(asked), RELAY, question.clone());
            asked += 1;
            world.run(ms(0));
            let answer = world.sent_to_nobody - before;
            assert!(answer < question.len() as u64, "{answer} bytes");
        };
        // No load: a few, and slowly, all the same.
        for number in 0..PLACES {
            ask(&mut world);
            world.run(ms(20));
            let admissions = world.host(RELAY).admissions();
            assert_eq!(
                (admissions.answered, admissions.cookies),
                (u64::from(number) + 1, 0)
            );
            assert_eq!(admissions.unproved as u32, number + 1);
        }
        ask(&mut world);
        let admissions = world.host(RELAY).admissions();
        assert_eq!(
            (admissions.answered, admissions.cookies),
            (u64::from(PLACES), 1)
        );
        // Who gets what is sent to his address comes in, a round trip later.
        let peer = publish_with(&mut world, CAMERA, name, token.clone());
        let took = until_frame(&mut world, CAMERA, peer, ms(1000));
        assert!(took < ms(60), "{took:?}");
        // Whatever goes on meanwhile, strangers have no more places than that.
        for _ in 0..2000 {
            ask(&mut world);
            world.run(ms(10));
            let admissions = world.host(RELAY).admissions();
            assert!(admissions.unproved as u32 <= PLACES, "{admissions:?}");
        }
        let answered = world.host(RELAY).admissions().answered;
        // 20 s and what came before.
        assert!(answered <= u64::from(PLACES) * 6 + 1, "{answered}");
        // Nor are they told that they are not wanted any more.
        let (now, sent) = (world.now, world.sent_to_nobody);
        assert!(world.host(RELAY).admissions().unproved > 0);
        let access = Access {
            accept: Accept::Known,
            known: Vec::new(),
        };
        world.host(RELAY).set_access(now, access);
        world.run(FOR);
        let admissions = world.host(RELAY).admissions();
        assert_eq!((admissions.unproved, admissions.sessions), (0, 0));
        assert_eq!(world.sent_to_nobody, sent);
    }
}

#[test]
fn an_answer_that_comes_from_elsewhere_leads_nobody_there() {
    for known in [false, true] {
        let mut world = World::new(26, Conditions::clean(ms(5)));
        let accept = if known { Accept::Known } else { Accept::Lan };
        let token = relay_with_key(&mut world, accept, &["door"]);
        let (name, token) = match known {
            true => ("door", Some(token)),
            false => ("gate", None),
        };
        world.tap_of_relay = Some(Vec::new());
        let peer = publish_with(&mut world, CAMERA, name, token);
        while world.tap_of_relay.iter().all(Vec::is_empty) {
            world.run(ms(1));
        }
        // Somebody who sees the answer is sooner with it.
        let answer = world.tap_of_relay.take().unwrap().remove(0);
        world.inject_from(spoofed(7), CAMERA, answer);
        until_frame(&mut world, CAMERA, peer, ms(200));
        world.events.clear();
        world.stream(CAMERA, peer, 30, ms(33), 20_000);
        world.run(ms(100));
        assert_eq!(world.sent_to_nobody, 0);
        assert!(world.assert_intact(RELAY).len() >= 30);
    }
}
