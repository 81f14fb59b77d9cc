//! Refusals: whoever is refused hears why, whatever becomes of single datagrams.

use std::time::Duration;

use camrelay_protocol::{Accept, Access, CameraToken, Code, Config, Event, PrivateKey, Role};
use path_emulator::Conditions;

use crate::abuse::{init, spoofed};
use crate::sessions::{ms, publish_with, relay_with_key, until_frame};
use crate::world::{CAMERA, Mishap, RELAY, World, address};

/// Two handshake messages, the second [`LAST_RETRY`] late, and what is said then.
const SOON: Duration = Duration::from_secs(3);

/// One who is refused.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// Has a key that is not on the list: an authentic HANDSHAKE_RESP says so.
    Key,
    /// Has no key where one is needed: a REJECT says so.
    NoKey,
    /// Uses a name that is not his key's: a CLOSE says so.
    Name,
    /// Uses a name that belongs to a key, without one: a CLOSE says so.
    KeysName,
    /// Wants to watch a camera that is not his key's: a CLOSE says so.
    Feed,
}

const ALL: [Wrong; 5] = [
    Wrong::Key,
    Wrong::NoKey,
    Wrong::Name,
    Wrong::KeysName,
    Wrong::Feed,
];

impl Wrong {
    fn code(self) -> Code {
        match self {
            Self::Key => Code::UnknownKey,
            Self::NoKey | Self::KeysName => Code::SecurityRequired,
            Self::Name | Self::Feed => Code::NameNotAllowed,
        }
    }

    /// Starts a relay, and one who calls it.
    fn begin(self, world: &mut World) {
        let accept = match self {
            Self::KeysName => Accept::Lan,
            _ => Accept::Known,
        };
        let token = relay_with_key(world, accept, &["door"]);
        let unknown = CameraToken::new(PrivateKey::from_random([7; 32]).public(), [8; 32]);
        let (camera, token) = match self {
            Self::Key => ("door", Some(unknown)),
            Self::NoKey | Self::KeysName => ("door", None),
            Self::Name | Self::Feed => ("yard", Some(token)),
        };
        if !matches!(self, Self::Feed) {
            publish_with(world, CAMERA, camera, token);
            return;
        }
        world.start(CAMERA, Config::default());
        let role = Role::Watch {
            camera: camera.into(),
        };
        world.connect_with(CAMERA, role, token);
    }
}

/// How often somebody was told of a refusal with that code.
fn told(world: &World, code: Code) -> usize {
    let refused = |event: &Event| matches!(event, Event::Disconnected(r) | Event::Refused(r) if r.code == code);
    let events = world.events.iter();
    let events = events.filter(|(at, _, event)| *at == address(CAMERA) && refused(event));
    events.count()
}

/// Runs until that is told, and returns how long it took.
#[track_caller]
fn until_told(world: &mut World, code: Code, limit: Duration) -> Duration {
    let begin = world.now;
    while told(world, code) == 0 {
        let took = world.now.since(begin);
        assert!(
            took < limit,
            "not told within {limit:?}: {:?}",
            world.events
        );
        world.run(ms(5));
    }
    world.now.since(begin)
}

#[test]
fn a_refusal_survives_what_happens_to_any_one_datagram() {
    let late = [ms(30), ms(150), ms(900), ms(2500)].map(Mishap::Late);
    let mishaps = [Mishap::Lost, Mishap::Twice].into_iter().chain(late);
    for mishap in mishaps {
        for wrong in ALL {
            for number in 1..=12 {
                let mut world = World::new(number, Conditions::clean(ms(20)));
                world.mishap = Some((number, mishap));
                println!("{wrong:?}: datagram {number} {mishap:?}");
                wrong.begin(&mut world);
                until_told(&mut world, wrong.code(), SOON);
                // It is one refusal, whatever comes late or twice.
                world.run(ms(900));
                assert_eq!(told(&world, wrong.code()), 1);
            }
        }
    }
}

#[test]
fn a_refusal_is_told_soon_over_a_path_that_loses_half_of_all() {
    let mut worst = Duration::ZERO;
    for seed in 0..60 {
        for wrong in ALL {
            let path = Conditions {
                loss: 0.5,
                duplicates: 0.1,
                jitter: ms(30),
                ..Conditions::clean(ms(20))
            };
            let mut world = World::new(seed, path);
            wrong.begin(&mut world);
            let took = until_told(&mut world, wrong.code(), ms(15_000));
            worst = worst.max(took);
        }
    }
    println!("at worst {worst:?}");
}

#[test]
fn a_refusal_is_told_soon_after_an_outage_of_any_length() {
    for tenths in 1..=60 {
        for wrong in ALL {
            let mut world = World::new(
                tenths,
                Conditions {
                    loss: 1.0,
                    ..Conditions::clean(ms(20))
                },
            );
            wrong.begin(&mut world);
            world.run(ms(tenths * 100));
            assert_eq!(told(&world, wrong.code()), 0);
            world.path.loss = 0.0;
            println!("{wrong:?} after {tenths} tenths of a second");
            until_told(&mut world, wrong.code(), ms(1500));
        }
    }
}

#[test]
fn a_refusal_is_told_while_the_relay_answers_only_who_proves_his_address() {
    let relay = PrivateKey::from_random([7; 32]).public();
    let stranger = init(1, Some(CameraToken::new(relay, [9; 32])));
    for seed in 0..10 {
        for wrong in ALL {
            let path = Conditions {
                loss: 0.2,
                ..Conditions::clean(ms(20))
            };
            let mut world = World::new(seed, path);
            wrong.begin(&mut world);
            let begin = world.now;
            let mut asked = 0;
            while told(&world, wrong.code()) == 0 {
                for _ in 0..10 {
                    world.inject_from(spoofed(asked), RELAY, stranger.clone());
                    asked += 1;
                }
                world.run(ms(5));
                let took = world.now.since(begin);
                assert!(took < ms(10_000), "{wrong:?} is not told");
            }
        }
    }
}

#[test]
fn a_camera_that_is_no_longer_accepted_hears_why_although_it_had_a_session() {
    let mut world = World::new(5, Conditions::clean(ms(20)));
    world.start_relay();
    let peer = publish_with(&mut world, CAMERA, "door", None);
    until_frame(&mut world, CAMERA, peer, ms(1000));
    // The relay comes back, and wants keys.
    let access = Access {
        accept: Accept::Known,
        known: Vec::new(),
    };
    world.start(
        RELAY,
        Config {
            access: Some(access),
            ..Config::default()
        },
    );
    world.events.clear();
    until_told(&mut world, Code::SecurityRequired, ms(6000));
}
