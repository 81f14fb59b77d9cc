//! Recorded datagrams that come again: nothing changes but a counter.

use std::net::SocketAddr;
use std::time::Duration;

use camrelay_protocol::{Accept, Access, Admissions, Event, PeerId, Role, Stats};
use path_emulator::Conditions;

use crate::sessions::{ms, publish_with, relay_with_key, until_frame};
use crate::world::{CAMERA, RELAY, World, address};

const FRAME: Duration = Duration::from_nanos(33_333_333);
const VIEWER: &str = "10.0.0.4:40000";
const ELSEWHERE: &str = "10.200.0.1:4000";
const HANDSHAKE_INIT: u8 = 0x11;
const HANDSHAKE_RESP: u8 = 0x12;
const DATA: u8 = 0x14;

/// A camera with a key that streams to a relay, from its first datagram on recorded, as is what the
/// relay sends.
struct Recorded {
    world: World,
    camera: PeerId,
    at_relay: PeerId,
}

impl Recorded {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed, Conditions::clean(ms(10)));
        let token = relay_with_key(&mut world, Accept::Known, &["door"]);
        world.tap = Some(Vec::new());
        world.tap_of_relay = Some(Vec::new());
        world.mtu = 1200;
        let camera = publish_with(&mut world, CAMERA, "door", Some(token));
        until_frame(&mut world, CAMERA, camera, ms(1000));
        world.stream(CAMERA, camera, 30, FRAME, 20_000);
        let at = |(at, _, event): &&(SocketAddr, PeerId, Event)| {
            *at == address(RELAY) && matches!(event, Event::Frame(_))
        };
        let at_relay = world.events.iter().find(at).unwrap().1;
        Self {
            world,
            camera,
            at_relay,
        }
    }

    fn stats(&mut self) -> [Stats; 2] {
        let now = self.world.now;
        [(CAMERA, self.camera), (RELAY, self.at_relay)]
            .map(|(at, peer)| self.world.host(at).stats(now, peer).unwrap())
    }

    /// Everything that came to the relay, and to the camera, so far.
    fn recorded(&self) -> [Vec<Vec<u8>>; 2] {
        [&self.world.tap, &self.world.tap_of_relay].map(|tap| tap.clone().unwrap())
    }

    /// Plays datagrams again to one side, which neither answers nor says anything. Returns how many
    /// belonged to a session.
    fn replay(&mut self, to: &str, from: &str, recorded: &[Vec<u8>]) -> u64 {
        let now = self.world.now;
        let from = address(from);
        let endpoint = self.world.host(to);
        let mut count = 0;
        for datagram in recorded {
            let kind = datagram[0];
            let due = endpoint.poll_timeout();
            endpoint.handle_datagram(now, now, from, &mut datagram.clone());
            let mut answer = Vec::new();
            let answered = endpoint.poll_transmit(now, 16, &mut answer);
            if kind == HANDSHAKE_INIT {
                assert!(answer.len() < datagram.len());
                continue;
            }
            assert_eq!(
                (answered, endpoint.poll_event().is_none()),
                (None, true),
                "{kind:x}"
            );
            assert_eq!(
                endpoint.poll_timeout(),
                due,
                "nothing else is due for {kind:x}"
            );
            count += u64::from(kind == DATA);
        }
        count
    }
}

/// Replays what came to both sides; returns what both count then and counted before.
fn replayed(world: &mut Recorded, recorded: &[Vec<Vec<u8>>; 2], from: [&str; 2]) {
    let [to_relay, to_camera] = recorded;
    let before = world.stats();
    let again = [
        world.replay(CAMERA, from[0], to_camera),
        world.replay(RELAY, from[1], to_relay),
    ];
    for ((after, mut before), again) in world.stats().into_iter().zip(before).zip(again) {
        assert!(again > 0);
        before.packets_received_dropped += again;
        assert_eq!(format!("{after:?}"), format!("{before:?}"));
    }
}

#[test]
fn what_is_played_again_changes_nothing_but_its_counter() {
    for from in [[RELAY, CAMERA], [ELSEWHERE; 2]] {
        let mut world = Recorded::new(60);
        let first = world.recorded();
        let kinds = |side: &[Vec<u8>]| side.iter().map(|datagram| datagram[0]).collect::<Vec<_>>();
        assert!(kinds(&first[0]).contains(&HANDSHAKE_INIT) && kinds(&first[0]).contains(&DATA));
        assert!(kinds(&first[1]).contains(&HANDSHAKE_RESP) && kinds(&first[1]).contains(&DATA));
        // At once; what is under way still comes first.
        world.world.run(ms(50));
        let all = world.recorded();
        replayed(&mut world, &all, from);
        // And when the relay has forgotten one by one what came.
        let sent = world.stats()[0].packets_sent;
        while world.stats()[0].packets_sent < sent + 5000 {
            let camera = world.camera;
            world.world.stream(CAMERA, camera, 30, FRAME, 100_000);
        }
        world.world.run(ms(50));
        replayed(&mut world, &first, from);
        world.world.events.clear();
        let camera = world.camera;
        world.world.stream(CAMERA, camera, 30, FRAME, 20_000);
        world.world.run(ms(100));
        assert_eq!(world.world.assert_intact(RELAY).len(), 30);
        assert_eq!(
            world.stats().map(|stats| (stats.moves, stats.reconnects)),
            [(0, 0); 2]
        );
        assert_eq!(world.world.sent_to_nobody, 0);
    }
}

#[test]
fn a_handshake_that_is_played_again_takes_a_place_for_some_seconds_and_no_session() {
    let mut world = Recorded::new(61);
    let [to_relay, to_camera] = world.recorded();
    let inits: Vec<_> = to_relay
        .into_iter()
        .filter(|d| d[0] == HANDSHAKE_INIT)
        .collect();
    let answers: Vec<_> = to_camera
        .into_iter()
        .filter(|d| d[0] == HANDSHAKE_RESP)
        .collect();
    assert!(!inits.is_empty() && !answers.is_empty());
    let before = world.stats();
    for _ in 0..10 {
        world.replay(RELAY, CAMERA, &inits);
        world.replay(RELAY, ELSEWHERE, &inits);
        world.replay(CAMERA, RELAY, &answers);
        world.replay(CAMERA, ELSEWHERE, &answers);
    }
    assert_eq!(format!("{:?}", world.stats()), format!("{before:?}"));
    let Admissions {
        sessions, unproved, ..
    } = world.world.host(RELAY).admissions();
    assert_eq!(
        (sessions, unproved),
        (1 + 20 * inits.len(), 20 * inits.len())
    );
    // The camera's own session goes on, and nothing else is there in the end.
    let camera = world.camera;
    world.world.events.clear();
    world.world.stream(CAMERA, camera, 180, FRAME, 20_000);
    world.world.run(ms(100));
    assert_eq!(world.world.assert_intact(RELAY).len(), 180);
    let Admissions {
        sessions, unproved, ..
    } = world.world.host(RELAY).admissions();
    assert_eq!((sessions, unproved), (1, 0));
    let told = |(_, _, event): &&(SocketAddr, PeerId, Event)| !matches!(event, Event::Frame(_));
    assert_eq!(world.world.events.iter().filter(told).count(), 0);
}

#[test]
fn a_viewer_whose_line_is_removed_is_ended_at_once() {
    let mut world = World::new(62, Conditions::clean(ms(10)));
    let token = relay_with_key(&mut world, Accept::Lan, &["door"]);
    world.start(VIEWER, Default::default());
    let role = Role::Watch {
        camera: "door".into(),
    };
    let viewer = world.connect_with(VIEWER, role, Some(token));
    world.run(ms(200));
    let asked = |(_, _, event): &&(SocketAddr, PeerId, Event)| {
        matches!(event, Event::WatchRequested { .. })
    };
    let at_relay = world.events.iter().find(asked).unwrap().1;
    let now = world.now;
    world
        .host(RELAY)
        .set_caps(now, at_relay, 0, "image/jpeg")
        .unwrap();
    world.stream(RELAY, at_relay, 30, FRAME, 20_000);
    assert_eq!(world.frames(VIEWER).len(), 30);
    // What was handed over before and has not left is not his any more.
    for seed in 0..10 {
        let (now, frame) = (world.now, world.frame(seed, 500_000));
        world
            .host(RELAY)
            .send_frame(now, at_relay, 0, frame)
            .unwrap();
    }
    world.events.clear();
    let now = world.now;
    world.tap_of_relay = Some(Vec::new());
    world.host(RELAY).set_access(now, Access::default());
    world.run(ms(100));
    let sent: usize = world
        .tap_of_relay
        .take()
        .unwrap()
        .iter()
        .map(Vec::len)
        .sum();
    assert!(sent < 2000, "{sent} bytes after it was sent away");
    let why = world
        .events
        .iter()
        .find_map(|(at, told, event)| match event {
            Event::Disconnected(reason) if *at == address(VIEWER) && *told == viewer => {
                Some(reason.code)
            }
            _ => None,
        });
    assert_eq!(why, Some(camrelay_protocol::Code::UnknownKey));
    assert_eq!(world.frames(VIEWER).len(), 0);
    let now = world.now;
    assert!(
        world.host(RELAY).stats(now, at_relay).is_none(),
        "the relay has let go"
    );
}
