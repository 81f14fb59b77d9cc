//! A session whose other side has the keys but no manners.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Input, frame};
use crate::crypto::{Cipher, Keys};
use crate::handshake::Established;
use crate::session::{Broken, MAX_RECEIVE_MEMORY, Session, Terms};
use crate::wire::header::{Header, Kind, MAX_PACKET_NUMBER};
use crate::{Code, Rejection, Time};

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
