//! The state machines: a session whose other side has the keys but no manners, and two honest
//! endpoints with an attacker between them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{Counting, Input};
use crate::crypto::{Cipher, Keys};
use crate::handshake::Established;
use crate::session::{Broken, MAX_RECEIVE_MEMORY, Session, Terms};
use crate::wire::header::{Header, Kind, MAX_PACKET_NUMBER};
use crate::{
    Accept, Access, Code, Config, Connect, Endpoint, Event, Frame, FrameFlags, PeerId, Rejection,
    Role, Time,
};

fn frame(now: Time, len: usize) -> Frame {
    Frame {
        data: Bytes::from(vec![1; len]),
        capture: now,
        dts_offset: 0,
        duration: None,
        wall: None,
        flags: FrameFlags {
            key: true,
            ..FrameFlags::default()
        },
    }
}

/// An authentic peer that says anything: memory stays within its limit.
pub fn session(data: &[u8]) {
    let mut input = Input(data);
    let remote: SocketAddr = ([10, 0, 0, 2], 4000).into();
    let other: SocketAddr = ([10, 0, 0, 3], 4000).into();
    let peer = Keys::new(Cipher::ChaCha20Poly1305, &[1; 32], &[2; 32]);
    let established = Established {
        keys: Keys::new(Cipher::ChaCha20Poly1305, &[2; 32], &[1; 32]),
        local_index: 11,
        remote_index: 22,
    };
    let mut now = Time::from_nanos(1_000_000_000);
    let terms = Terms {
        remote,
        caller: input.u8() & 1 != 0,
        mtu: 0,
        latency: Duration::from_millis(120),
        max_frame_size: 1 << 20,
        secret: [3; 32],
    };
    let mut session = Session::new(now, established, terms);
    let mut number = 0u64;
    while !input.is_empty() {
        let op = input.u8();
        match op % 8 {
            0 => now = now + Duration::from_micros(u64::from(input.u16()) * 8),
            1 => {
                let _ = session.set_caps(0, "image/jpeg", 7);
                let _ = session.send_frame(now, 0, frame(now, usize::from(input.u16()) + 1));
            }
            2 if op > 250 => session.close(now, Rejection::new(Code::Done, "done")),
            3 => {
                let _ = session.request_keyframe(now, u16::from(op >> 3));
            }
            _ => {
                number += match op >> 5 {
                    // From a few to half of all numbers ahead.
                    7 => 1 << (input.u8() % 48),
                    few => u64::from(few),
                };
                if number >= MAX_PACKET_NUMBER {
                    return;
                }
                let len = usize::from(input.u16()) % 1500;
                let header = Header {
                    kind: Kind::Data,
                    suite: 0,
                    index: 11,
                    packet_number: number,
                };
                let mut datagram = header.encode().to_vec();
                datagram.extend_from_slice(input.bytes(len));
                peer.seal(number, &mut datagram, 0);
                let room = MAX_RECEIVE_MEMORY - session.receive_memory();
                let from = if op & 16 == 0 { remote } else { other };
                let mut happened = Vec::new();
                let handled = session.handle_data(
                    [now, now],
                    from,
                    header,
                    &mut datagram,
                    room,
                    &mut happened,
                );
                number += 1;
                if handled == Err(Broken) {
                    return;
                }
            }
        }
        let mut happened = Vec::new();
        session.handle_timeout(now);
        if session.poll_streams(now, &mut happened).is_err() || session.is_over(now).is_some() {
            return;
        }
        let mut buffer = Vec::new();
        while session.write_challenge(now, &mut buffer).is_some() {}
        let mut batches = 0;
        while session.has_output(now) && session.write_batch(now, 16, &mut buffer).is_some() {
            buffer.clear();
            batches += 1;
            assert!(batches < 4096, "output without end");
        }
        assert!(session.receive_memory() <= MAX_RECEIVE_MEMORY);
        let _ = (session.poll_timeout(now), session.stats(now));
    }
}

/// A camera and a relay with somebody between them who holds back, repeats, changes, moves and
/// makes up datagrams; once he is gone, pictures come again.
pub fn endpoint(data: &[u8]) {
    let mut world = World::new();
    let mut input = Input(data);
    for _ in 0..256 {
        if input.is_empty() {
            break;
        }
        world.interfere(&mut input);
    }
    world.flights.clear();
    let end = world.now + Duration::from_secs(30);
    let before = world.frames;
    while world.frames == before {
        assert!(world.now < end, "no picture comes any more");
        let frame = frame(world.now, 3000);
        let (now, peer) = (world.now, world.peer);
        world
            .camera
            .send_frame(now, peer, 0, frame)
            .expect("the peer stays");
        world.pass(Duration::from_millis(20));
        while !world.flights.is_empty() {
            world.deliver(0, false);
        }
    }
}

struct Flight {
    from: SocketAddr,
    to_relay: bool,
    datagram: Vec<u8>,
}

struct World {
    now: Time,
    relay: Endpoint,
    camera: Endpoint,
    peer: PeerId,
    flights: Vec<Flight>,
    frames: u64,
}

fn relay_address() -> SocketAddr {
    ([10, 0, 0, 1], 8000).into()
}

fn camera_address() -> SocketAddr {
    ([10, 0, 0, 2], 4000).into()
}

fn attacker_address() -> SocketAddr {
    ([10, 0, 0, 3], 5000).into()
}

impl World {
    fn new() -> Self {
        let access = Access {
            accept: Accept::Lan,
            known: Vec::new(),
        };
        let listening = Config {
            access: Some(access),
            ..Config::default()
        };
        let now = Time::from_nanos(1_000_000_000);
        let relay = Endpoint::new(listening, Box::new(Counting(1)));
        let mut camera = Endpoint::new(Config::default(), Box::new(Counting(2)));
        let role = Role::Publish {
            camera: "door".into(),
        };
        let connect = Connect {
            remote: relay_address(),
            token: None,
            role,
            latency: Duration::from_millis(120),
            late_policy: Default::default(),
            mtu: 0,
        };
        let peer = camera.connect(now, connect).expect("a good name");
        camera
            .set_caps(now, peer, 0, "image/jpeg")
            .expect("good caps");
        let mut world = Self {
            now,
            relay,
            camera,
            peer,
            flights: Vec::new(),
            frames: 0,
        };
        world.collect();
        world
    }

    fn interfere(&mut self, input: &mut Input<'_>) {
        let op = input.u8();
        let count = self.flights.len();
        match op % 10 {
            0 => self.pass(Duration::from_micros(u64::from(input.u16()) * 64)),
            1 => {
                let frame = frame(self.now, usize::from(input.u16()) + 1);
                let (now, peer) = (self.now, self.peer);
                self.camera
                    .send_frame(now, peer, 0, frame)
                    .expect("the peer stays");
                self.collect();
            }
            2 if count > 0 => drop(self.flights.remove(usize::from(input.u8()) % count)),
            3 if count > 0 => {
                // A copy, moved to the attacker's address or not.
                let flight = &self.flights[usize::from(input.u8()) % count];
                let from = if op & 16 == 0 {
                    flight.from
                } else {
                    attacker_address()
                };
                let copy = Flight {
                    from,
                    to_relay: flight.to_relay,
                    datagram: flight.datagram.clone(),
                };
                self.flights.push(copy);
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
                let (to_relay, from) = match op & 16 {
                    0 => (true, camera_address()),
                    _ => (false, relay_address()),
                };
                let from = if op & 32 == 0 {
                    from
                } else {
                    attacker_address()
                };
                let datagram = input.bytes(len).to_vec();
                self.flights.push(Flight {
                    from,
                    to_relay,
                    datagram,
                });
            }
            _ if count > 0 => self.deliver(usize::from(op / 10) % count, op & 1 != 0),
            _ => self.pass(Duration::from_millis(10)),
        }
        self.flights.truncate(128);
    }

    /// Delivers a datagram, and leaves a copy under way where `keep` says so.
    fn deliver(&mut self, at: usize, keep: bool) {
        let Flight {
            from,
            to_relay,
            mut datagram,
        } = self.flights.remove(at);
        if keep {
            self.flights.push(Flight {
                from,
                to_relay,
                datagram: datagram.clone(),
            });
        }
        let to = if to_relay {
            &mut self.relay
        } else {
            &mut self.camera
        };
        to.handle_datagram(self.now, self.now, from, &mut datagram);
        self.collect();
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..1000 {
            let due = [self.relay.poll_timeout(), self.camera.poll_timeout()];
            let Some(due) = due.into_iter().flatten().min().filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.relay.handle_timeout(self.now);
            self.camera.handle_timeout(self.now);
            self.collect();
        }
        self.now = end;
        self.collect();
    }

    /// Takes what both sides have to send and to say.
    fn collect(&mut self) {
        let mut buffer = Vec::new();
        for (to_relay, from) in [(false, relay_address()), (true, camera_address())] {
            let side = if to_relay {
                &mut self.camera
            } else {
                &mut self.relay
            };
            while let Some(transmit) = side.poll_transmit(self.now, 16, &mut buffer) {
                for datagram in buffer.chunks(transmit.segment_size) {
                    // What goes to the attacker's address is his.
                    if transmit.remote != attacker_address() {
                        self.flights.push(Flight {
                            from,
                            to_relay,
                            datagram: datagram.to_vec(),
                        });
                    }
                }
            }
            while let Some((_, event)) = side.poll_event() {
                self.frames += u64::from(matches!(event, Event::Frame(_)));
                assert!(
                    !matches!(event, Event::Closed(_)) || !to_relay,
                    "the camera gave up"
                );
            }
        }
    }
}
