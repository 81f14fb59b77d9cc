//! What a receiver without manners can have a sender send: repairs are bounded by what first flights
//! take, whatever is reported.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::mtu::BASE_MTU;
use super::{Session, Terms};
use crate::Time;
use crate::crypto::{Cipher, Keys};
use crate::fuzzing::frame;
use crate::handshake::Established;
use crate::wire::feedback::{Deficit, Feedback};
use crate::wire::fragment::FLAG_REPAIR;
use crate::wire::header::{Header, Kind};
use crate::wire::item::{Item, Items, encode_feedback};

const STEP: Duration = Duration::from_millis(1);
const ROUND_TRIP: Duration = Duration::from_millis(4);
/// Steps from one frame to the next.
const FRAME: u64 = 33;
const SECOND: u64 = 1000;

/// What a receiver reports.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manners {
    /// Every packet came, and of every frame everything is missing.
    Greedy,
    /// The same, and no packet is ever said to have come.
    GreedyAndBlind,
    /// Nothing came since the first packet, and losses come in bursts.
    Blind,
}

/// A sender with a receiver that has the keys but no manners.
struct Storm {
    now: Time,
    session: Session,
    keys: Keys,
    manners: Manners,
    number: u64,
    /// Reports under way, and when they come.
    reports: VecDeque<(Time, Vec<u8>)>,
    came: Feedback,
    /// Stream and number of each frame seen, and how many blocks it has.
    frames: Vec<(u16, u32, u8)>,
    /// Packets and bytes of first flights, and of repairs.
    first: [u64; 2],
    repairs: [u64; 2],
}

fn remote() -> SocketAddr {
    ([10, 0, 0, 1], 8000).into()
}

impl Storm {
    fn new(manners: Manners) -> Self {
        let now = Time::from_nanos(1_000_000_000);
        let established = Established {
            keys: Keys::new(Cipher::ChaCha20Poly1305, &[2; 32], &[1; 32]),
            local_index: 11,
            remote_index: 22,
        };
        let terms = Terms {
            remote: remote(),
            caller: true,
            mtu: BASE_MTU,
            latency: Duration::from_millis(120),
            max_frame_size: 1 << 20,
            secret: [3; 32],
        };
        let mut session = Session::new(now, established, terms);
        session.set_caps(0, "image/jpeg", 0).unwrap().unwrap();
        Self {
            now,
            session,
            keys: Keys::new(Cipher::ChaCha20Poly1305, &[1; 32], &[2; 32]),
            manners,
            number: 0,
            reports: VecDeque::new(),
            came: Feedback::default(),
            frames: Vec::new(),
            first: [0; 2],
            repairs: [0; 2],
        }
    }

    /// Sends frames of that size for so many milliseconds.
    fn rage(&mut self, millis: u64, size: usize) {
        for milli in 0..millis {
            if milli % FRAME == 0 {
                let frame = frame(self.now, size);
                self.session.send_frame(self.now, 0, frame).unwrap();
            }
            self.session.handle_timeout(self.now);
            let mut answers = Vec::new();
            let mut buffer = Vec::new();
            while self.session.has_output(self.now) {
                buffer.clear();
                let Some(size) = self.session.write_batch(self.now, 16, &mut buffer) else {
                    break;
                };
                for datagram in buffer.chunks_mut(size) {
                    self.take(datagram, &mut answers);
                }
            }
            self.report(&mut answers);
            self.reports.push_back((self.now + ROUND_TRIP, answers));
            self.now = self.now + STEP;
            while let Some((_, items)) = self.reports.pop_front_if(|(at, _)| *at <= self.now) {
                self.answer(&items);
            }
        }
    }

    fn take(&mut self, datagram: &mut [u8], answers: &mut Vec<u8>) {
        let len = datagram.len() as u64;
        let number = Header::decode(datagram).unwrap().packet_number;
        let keys = &self.keys;
        let plaintext = keys.open(number, datagram).expect("it is authentic");
        // The rate is left alone: nothing seems to be lost on the way.
        self.came.packets += 1;
        self.came.bytes += len as u32;
        if self.manners == Manners::Greedy || number == 0 {
            self.came.largest = number;
        }
        for item in Items::new(plaintext).flatten() {
            match item {
                Item::Ping { sent } => Item::Pong {
                    sent,
                    received: sent,
                    answered: sent,
                }
                .encode(answers),
                Item::Control { sequence, .. } => {
                    Item::ControlAck { next: sequence + 1 }.encode(answers)
                }
                Item::Fragment { fragment, .. } => {
                    let repair = fragment.flags & FLAG_REPAIR != 0;
                    let sum = if repair {
                        &mut self.repairs
                    } else {
                        &mut self.first
                    };
                    sum[0] += 1;
                    sum[1] += len;
                    let frame = (fragment.stream, fragment.sequence, fragment.blocks);
                    if self.frames.last() != Some(&frame) && !repair {
                        self.frames.push(frame);
                    }
                }
                _ => {}
            }
        }
    }

    fn report(&mut self, out: &mut Vec<u8>) {
        let mut feedback = self.came.clone();
        match self.manners {
            Manners::Blind => feedback.clustering = u16::MAX,
            Manners::Greedy | Manners::GreedyAndBlind => {
                let newest = self.frames.iter().rev().take(8);
                feedback.deficits = newest
                    .map(|(stream, sequence, blocks)| Deficit {
                        stream: *stream,
                        sequence: *sequence,
                        blocks: vec![u8::MAX; (*blocks).into()],
                    })
                    .collect();
            }
        }
        encode_feedback(&feedback, 1000, out);
    }

    fn answer(&mut self, items: &[u8]) {
        let header = Header {
            kind: Kind::Data,
            suite: 0,
            index: 11,
            packet_number: self.number,
        };
        let mut datagram = header.encode().to_vec();
        datagram.extend_from_slice(items);
        self.keys.seal(self.number, &mut datagram, 0);
        self.number += 1;
        let mut happened = Vec::new();
        let taken = self.session.handle_data(
            [self.now, self.now],
            remote(),
            header,
            &mut datagram,
            0,
            &mut happened,
        );
        assert_eq!(taken, Ok(true));
    }
}

/// Repairs that may leave at once, and the largest datagram that carries one.
const AT_ONCE: u64 = 256;

/// Rages for 20 s; returns repairs as a share of first flights, by packets, after 10 of them.
#[track_caller]
fn rage(manners: Manners, size: usize) -> f64 {
    let mut storm = Storm::new(manners);
    storm.rage(10 * SECOND, size);
    let half = (storm.first, storm.repairs);
    storm.rage(10 * SECOND, size);
    println!(
        "{manners:?}, {size}: {:?} and {:?} repairs",
        storm.first, storm.repairs
    );
    let datagram = u64::from(BASE_MTU);
    for ((first, repairs), limit) in storm.first.iter().zip(storm.repairs).zip([1, datagram]) {
        assert!(
            repairs <= first / 2 + AT_ONCE * limit,
            "{manners:?}, frames of {size}"
        );
    }
    // And not only in the long run.
    let (first, repairs) = (storm.first[0] - half.0[0], storm.repairs[0] - half.1[0]);
    assert!(first > 1000, "frames go on: {first}");
    repairs as f64 / first as f64
}

#[test]
fn who_asks_for_everything_again_and_again_gets_half_of_it_again() {
    for manners in [Manners::Greedy, Manners::GreedyAndBlind] {
        for size in [200_000, 50_000, 5000] {
            let share = rage(manners, size);
            // It is the bound that keeps it there.
            assert!(
                (0.45..0.52).contains(&share),
                "{manners:?}, {size}: {share}"
            );
        }
    }
}

#[test]
fn probes_count_as_repairs() {
    // Each probe of a small frame is all of it, where losses cluster.
    let share = rage(Manners::Blind, 8000);
    assert!((0.45..0.52).contains(&share), "{share}");
}
