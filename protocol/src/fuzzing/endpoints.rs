//! Honest endpoints, a relay, a camera and a viewer, with an attacker between them.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use super::{Counting, Input, frame};
use crate::{
    Accept, Access, CameraToken, Config, Connect, Endpoint, Event, PeerId, PrivateKey, Role, Time,
};

/// Who somebody is, by his place among the endpoints.
const RELAY: usize = 0;
const CAMERA: usize = 1;
const VIEWER: usize = 2;
/// Datagrams under way, at most.
const MAX_FLIGHTS: usize = 192;
/// Callers in a flood, at most: more than are answered without proof.
const FLOOD: u8 = 80;
/// Floods and hours in one run.
const MAX_LONG: u8 = 3;
const HOUR: Duration = Duration::from_secs(3600);
/// Less than a relay keeps a session for that it hears nothing of.
const SILENCE: Duration = Duration::from_secs(80);
/// Sessions that wait for their callers, at most.
const MAX_UNPROVED: usize = 512;
/// Bytes sent to an address that has not proved itself, for each byte that came from there.
const MAX_AMPLIFICATION: usize = 3;

/// The first messages of callers that never go on, without keys and with the camera's.
static INITS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let tokens = (0..8).map(|number| (number % 2 == 0).then(|| token(CAMERA)));
    let inits = tokens.zip(100..).map(|(token, seed)| {
        let now = Time::from_nanos(1);
        let mut caller = Endpoint::new(Config::default(), Box::new(Counting(seed)));
        call(&mut caller, now, CAMERA, token);
        caller.handle_timeout(now);
        let mut init = Vec::new();
        caller.poll_transmit(now, 1, &mut init).expect("it calls");
        init
    });
    inits.collect()
});

/// A relay, a camera and a viewer with somebody between them who holds back, repeats, changes, moves
/// and makes up datagrams, and others who flood the relay; keys are revoked and allowed again, and
/// grow old, and hosts change their addresses. Nobody is sent much that did not prove his address; who
/// is revoked is not listened to; and once all that is over, pictures come again.
pub fn endpoint(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::new(input.u8() & 1 != 0);
    for _ in 0..256 {
        if input.is_empty() {
            break;
        }
        world.interfere(&mut input);
        world.check();
    }
    world.flights.clear();
    world.allow(true);
    let end = world.now + Duration::from_secs(40);
    let before = world.frames;
    while world.frames[RELAY] == before[RELAY] || world.frames[VIEWER] == before[VIEWER] {
        assert!(world.now < end, "no picture comes any more");
        world.send(3000);
        world.pass(Duration::from_millis(20));
        world.deliver_all();
        world.check();
    }
}

struct Flight {
    from: SocketAddr,
    to: usize,
    datagram: Vec<u8>,
}

struct World {
    now: Time,
    hosts: [Endpoint; 3],
    addresses: [SocketAddr; 3],
    /// What the camera and the viewer call themselves by.
    calls: [Option<PeerId>; 3],
    /// The relay's sessions that want the camera.
    viewers: Vec<PeerId>,
    keyed: bool,
    allowed: bool,
    flights: Vec<Flight>,
    /// Frames that came to each.
    frames: [u64; 3],
    /// How often something was done that takes long.
    long: u8,
    /// Bytes that came from where nobody answers, and that were sent there.
    from_nobody: usize,
    to_nobody: usize,
}

fn address(host: usize) -> SocketAddr {
    ([10, 0, 0, host as u8 + 1], 8000).into()
}

fn attacker_address() -> SocketAddr {
    ([10, 0, 0, 99], 5000).into()
}

fn relay_key() -> PrivateKey {
    PrivateKey::from_random([7; 32])
}

fn token(host: usize) -> CameraToken {
    CameraToken::new(relay_key().public(), [host as u8; 32])
}

fn call(caller: &mut Endpoint, now: Time, host: usize, token: Option<CameraToken>) -> PeerId {
    let camera = "door".into();
    let role = match host {
        VIEWER => Role::Watch { camera },
        _ => Role::Publish { camera },
    };
    let connect = Connect {
        remote: address(RELAY),
        token,
        role,
        latency: Duration::from_millis(120),
        late_policy: Default::default(),
        mtu: 0,
    };
    caller.connect(now, connect).expect("a good name")
}

impl World {
    fn new(keyed: bool) -> Self {
        let listening = Config {
            identity: Some(relay_key()),
            access: Some(Access::default()),
            ..Config::default()
        };
        let now = Time::from_nanos(1_000_000_000);
        let mut hosts = [listening, Config::default(), Config::default()]
            .into_iter()
            .zip(1..)
            .map(|(config, seed)| Endpoint::new(config, Box::new(Counting(seed))));
        let hosts = std::array::from_fn(|_| hosts.next().expect("there are three"));
        let mut world = Self {
            now,
            hosts,
            addresses: [RELAY, CAMERA, VIEWER].map(address),
            calls: [None; 3],
            viewers: Vec::new(),
            keyed,
            allowed: false,
            flights: Vec::new(),
            frames: [0; 3],
            long: 0,
            from_nobody: 0,
            to_nobody: 0,
        };
        world.allow(true);
        for host in [CAMERA, VIEWER] {
            let token = keyed.then(|| token(host));
            world.calls[host] = Some(call(&mut world.hosts[host], now, host, token));
        }
        if let Some(camera) = world.calls[CAMERA] {
            let told = world.hosts[CAMERA].set_caps(now, camera, 0, "image/jpeg");
            told.expect("good caps");
        }
        world.collect();
        world
    }

    /// Allows both to do what they do, or neither.
    fn allow(&mut self, allowed: bool) {
        self.allowed = allowed;
        let known = [CAMERA, VIEWER].map(|host| token(host).known_camera(vec!["door".into()]));
        let access = Access {
            accept: match allowed && !self.keyed {
                true => Accept::Lan,
                false => Accept::Known,
            },
            known: match allowed && self.keyed {
                true => known.into(),
                false => Vec::new(),
            },
        };
        // What was there before is told before.
        self.collect();
        self.hosts[RELAY].set_access(self.now, access);
        self.collect();
    }

    /// What has to be so at any time.
    fn check(&self) {
        let admissions = self.hosts[RELAY].admissions();
        assert!(admissions.unproved <= MAX_UNPROVED, "{admissions:?}");
        assert!(
            self.to_nobody <= self.from_nobody * MAX_AMPLIFICATION,
            "{} bytes for {}",
            self.to_nobody,
            self.from_nobody
        );
    }

    fn interfere(&mut self, input: &mut Input<'_>) {
        let op = input.u8();
        let count = self.flights.len();
        let caller = if op & 16 == 0 { CAMERA } else { VIEWER };
        match op % 16 {
            0 => self.pass(Duration::from_micros(u64::from(input.u16()) * 64)),
            1 => self.send(usize::from(input.u16()) + 1),
            2 if count > 0 => drop(self.flights.remove(usize::from(input.u8()) % count)),
            3 if count > 0 => {
                // A copy, moved to the attacker's address or not.
                let flight = &self.flights[usize::from(input.u8()) % count];
                let (to, datagram) = (flight.to, flight.datagram.clone());
                let from = if op & 16 == 0 {
                    flight.from
                } else {
                    attacker_address()
                };
                self.flights.push(Flight { from, to, datagram });
            }
            4 if count > 0 => {
                let flight = &mut self.flights[usize::from(input.u8()) % count];
                for _ in 0..=input.u8() % 3 {
                    let at = usize::from(input.u16()) % flight.datagram.len().max(1);
                    if let Some(byte) = flight.datagram.get_mut(at) {
                        *byte ^= input.u8();
                    }
                }
            }
            5 => {
                let len = input.u8().into();
                let (from, to) = match op >> 5 & 3 {
                    0 => (self.addresses[caller], RELAY),
                    1 => (self.addresses[RELAY], caller),
                    2 => (attacker_address(), RELAY),
                    _ => (attacker_address(), caller),
                };
                let datagram = input.bytes(len).to_vec();
                self.flights.push(Flight { from, to, datagram });
            }
            6 => {
                // Another port, or the one before.
                let address = &mut self.addresses[caller];
                address.set_port(address.port() ^ 1);
            }
            7 => self.allow(op & 16 == 0),
            8 if self.may_take_long() => self.flood(usize::from(input.u8() % FLOOD)),
            9 if self.may_take_long() => self.grow_old(),
            _ if count > 0 => self.deliver(usize::from(input.u8()) % count, op & 32 != 0),
            _ => self.pass(Duration::from_millis(10)),
        }
        self.flights.truncate(MAX_FLIGHTS);
    }

    /// Whether something that takes long may be done once more, as inputs are to be many.
    fn may_take_long(&mut self) -> bool {
        self.long = self.long.saturating_add(1);
        self.long <= MAX_LONG
    }

    /// The camera sends a frame.
    fn send(&mut self, len: usize) {
        let frame = frame(self.now, len);
        if let Some(camera) = self.calls[CAMERA] {
            let sent = self.hosts[CAMERA].send_frame(self.now, camera, 0, frame);
            sent.expect("the peer stays");
        }
        self.collect();
    }

    /// Callers who get no answers want to begin so many handshakes.
    fn flood(&mut self, count: usize) {
        for (number, init) in (0..count).zip(INITS.iter().cycle()) {
            let from = ([10, 200, number as u8, 1], 4000).into();
            self.from_nobody += init.len();
            self.hosts[RELAY].handle_datagram(self.now, self.now, from, &mut init.clone());
        }
        self.collect();
    }

    /// More than an hour goes by, in which the relay and its callers hear of each other now and then;
    /// what they say at its end is left under way.
    fn grow_old(&mut self) {
        for _ in 0..=HOUR.as_secs() / SILENCE.as_secs() {
            self.deliver_all();
            self.now = self.now + SILENCE;
            // The relay first: callers who hear nothing for a moment begin anew.
            for host in [RELAY, CAMERA, VIEWER] {
                self.hosts[host].handle_timeout(self.now);
                self.collect();
                for _ in 0..self.flights.len() {
                    self.deliver(0, false);
                }
            }
        }
    }

    /// Delivers a datagram, and leaves a copy under way where `keep` says so.
    fn deliver(&mut self, at: usize, keep: bool) {
        let Flight {
            from,
            to,
            mut datagram,
        } = self.flights.remove(at);
        if from == attacker_address() {
            self.from_nobody += datagram.len();
        }
        if keep {
            let datagram = datagram.clone();
            self.flights.push(Flight { from, to, datagram });
        }
        self.hosts[to].handle_datagram(self.now, self.now, from, &mut datagram);
        self.collect();
    }

    fn deliver_all(&mut self) {
        while !self.flights.is_empty() {
            self.deliver(0, false);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..1000 {
            let due = self.hosts.iter().filter_map(Endpoint::poll_timeout).min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            for host in &mut self.hosts {
                host.handle_timeout(self.now);
            }
            self.collect();
        }
        self.now = end;
        self.collect();
    }

    /// Takes what all have to send and to say.
    fn collect(&mut self) {
        let mut buffer = Vec::new();
        for host in [RELAY, CAMERA, VIEWER] {
            while let Some(transmit) = self.hosts[host].poll_transmit(self.now, 16, &mut buffer) {
                let to = self.addresses.iter().position(|to| *to == transmit.remote);
                for datagram in buffer.chunks(transmit.segment_size) {
                    match to {
                        Some(to) => self.flights.push(Flight {
                            from: self.addresses[host],
                            to,
                            datagram: datagram.to_vec(),
                        }),
                        // A host was there a moment ago, or nobody answers.
                        None if transmit.remote.port() >> 1 == 4000 => {}
                        None => self.to_nobody += datagram.len(),
                    }
                }
            }
            while let Some((peer, event)) = self.hosts[host].poll_event() {
                self.take(host, peer, event);
            }
        }
    }

    fn take(&mut self, host: usize, peer: PeerId, event: Event) {
        let now = self.now;
        match event {
            Event::WatchRequested { .. } => {
                let told = self.hosts[host].set_caps(now, peer, 0, "image/jpeg");
                told.expect("it has just asked");
                self.viewers.push(peer);
            }
            Event::Frame(received) => {
                self.frames[host] += 1;
                if host != RELAY {
                    return;
                }
                assert!(self.allowed, "who is revoked is listened to");
                for viewer in &self.viewers {
                    let frame = frame(now, received.frame.data.len());
                    // One that is gone says so a moment later.
                    let _ = self.hosts[RELAY].send_frame(now, *viewer, 0, frame);
                }
            }
            Event::Closed(_) if host == RELAY => self.viewers.retain(|viewer| *viewer != peer),
            Event::Closed(_) => panic!("a caller gave up"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl World {
        /// Has everything arrive for a second, a frame each 20 ms.
        fn go_on(&mut self) {
            for _ in 0..50 {
                self.send(3000);
                self.pass(Duration::from_millis(20));
                self.deliver_all();
                self.check();
            }
        }
    }

    #[test]
    fn keys_grow_old_hosts_move_strangers_flood_and_the_revoked_are_let_in_again() {
        for keyed in [false, true] {
            let mut world = World::new(keyed);
            world.go_on();
            assert!(world.frames[RELAY] > 40 && world.frames[VIEWER] > 30);
            world.grow_old();
            world.go_on();
            world.flood(200);
            assert!(world.hosts[RELAY].admissions().cookies > 0);
            for caller in [CAMERA, VIEWER] {
                let address = &mut world.addresses[caller];
                address.set_port(address.port() ^ 1);
                world.go_on();
                let peer = world.calls[caller].unwrap();
                let stats = world.hosts[caller].stats(world.now, peer).unwrap();
                assert_eq!((stats.rekeys, stats.reconnects), (1, 0), "{caller}");
            }
            let before = world.frames;
            world.allow(false);
            world.go_on();
            assert_eq!(world.frames[RELAY], before[RELAY]);
            world.allow(true);
            for _ in 0..7 {
                world.go_on();
            }
            assert!(world.frames[RELAY] > before[RELAY] && world.frames[VIEWER] > before[VIEWER]);
        }
    }
}
