//! The table of sessions at its bounds.

use std::net::Ipv6Addr;

use super::handshakes::{MAX_OF_ADDRESS, PLACES_FOR_KEYS};
use super::peers::ROLE_TIMEOUT;
use super::sessions::MAX_TOTAL_MEMORY;
use super::*;
use crate::crypto::{Cipher, Keys};
use crate::fuzzing::Counting;
use crate::handshake::{Caller, Established};
use crate::session::{Session, Terms};
use crate::wire::fragment::Fragment;
use crate::wire::header::{Header, Kind};
use crate::wire::item::encode_fragment_head;
use crate::{Accept, PublicKey};

const NOW: Time = Time::from_nanos(1_000_000_000);

fn relay() -> Endpoint {
    let access = Access {
        accept: Accept::Anyone,
        known: Vec::new(),
    };
    let config = Config {
        access: Some(access),
        ..Config::default()
    };
    Endpoint::new(config, Box::new(Counting(1)))
}

/// A session of a caller without a key that has proved itself.
fn add(relay: &mut Endpoint, remote: SocketAddr, role: Option<Role>) -> PeerId {
    let established = Established {
        keys: Keys::new(Cipher::Aes256Gcm, &[1; 32], &[2; 32]),
        local_index: relay.draw_index(),
        remote_index: 1,
    };
    let terms = Terms {
        remote,
        caller: false,
        mtu: 0,
        latency: Duration::from_millis(120),
        max_frame_size: 4 << 20,
        secret: [3; 32],
    };
    let side = Side::Listening(Listening {
        caller: Caller::Anonymous,
        proved: true,
        since: NOW,
        role,
    });
    let index = established.local_index;
    let id = relay.add_peer(side, Some(Session::new(NOW, established, terms)));
    relay.indices.insert(index, id);
    relay.touch(NOW, id);
    id
}

/// An address of the network with this number.
fn address(network: u16, host: u16) -> SocketAddr {
    (
        Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host),
        4000,
    )
        .into()
}

#[test]
fn neither_one_address_nor_all_without_keys_fill_the_table() {
    let mut relay = relay();
    let keyed = Caller::Keyed(PublicKey([1; 32]));
    for host in 0..MAX_OF_ADDRESS {
        assert!(relay.has_place(Caller::Anonymous, address(0, 1)), "{host}");
        add(&mut relay, address(0, host as u16), None);
    }
    assert!(!relay.has_place(Caller::Anonymous, address(0, 1)));
    assert!(relay.has_place(Caller::Anonymous, address(1, 1)));
    for more in MAX_OF_ADDRESS..MAX_SESSIONS {
        let place = relay.has_place(Caller::Anonymous, address(99, 1));
        assert_eq!(place, more < MAX_SESSIONS - PLACES_FOR_KEYS, "{more}");
        assert!(relay.has_place(keyed, address(0, 1)));
        add(&mut relay, address(more as u16, 1), None);
    }
    assert!(!relay.has_place(keyed, address(99, 1)));
}

#[test]
fn a_session_that_is_for_nothing_ends_although_it_is_heard() {
    let mut relay = relay();
    let watch = Role::Watch {
        camera: "door".into(),
    };
    let [idle, watching] = [None, Some(watch)].map(|role| add(&mut relay, address(1, 1), role));
    relay.handle_timeout(NOW + ROLE_TIMEOUT - Duration::from_nanos(1));
    assert!(relay.peers.contains_key(&idle));
    relay.handle_timeout(NOW + ROLE_TIMEOUT);
    assert!(!relay.peers.contains_key(&idle) && relay.peers.contains_key(&watching));
}

/// Begins frame `number` of this many blocks of 200 symbols; returns the bytes then held for the
/// peer.
fn begin_frame(relay: &mut Endpoint, id: PeerId, number: u32, blocks: u8) -> usize {
    let session = relay.peers[&id].session.as_ref().unwrap();
    let (index, remote) = (session.indices().next().unwrap(), session.remote());
    let header = Header {
        kind: Kind::Data,
        suite: 0,
        index,
        packet_number: number.into(),
    };
    let fragment = Fragment {
        flags: 0,
        skipped: 0,
        stream: 0,
        sequence: number,
        capture: 0,
        symbol: 0,
        k: 200,
        first_flight: 200,
        block: 0,
        blocks,
        code: 1,
    };
    let mut datagram = header.encode().to_vec();
    encode_fragment_head(&fragment, &mut datagram);
    datagram.resize(datagram.len() + 1000, 0);
    Keys::new(Cipher::Aes256Gcm, &[2; 32], &[1; 32]).seal(number.into(), &mut datagram, 0);
    relay.handle_datagram(NOW, NOW, remote, &mut datagram);
    let session = relay.peers[&id].session.as_ref().unwrap();
    session.receive_memory()
}

#[test]
fn those_who_hold_much_leave_room_for_others() {
    let mut relay = relay();
    let publish = Role::Publish {
        camera: "door".into(),
    };
    let greedy: Vec<PeerId> = (0..64)
        .map(|host| add(&mut relay, address(1, host), Some(publish.clone())))
        .collect();
    for number in 0..20 {
        for id in &greedy {
            begin_frame(&mut relay, *id, number, 15);
        }
    }
    assert!(relay.memory > MAX_TOTAL_MEMORY * 8 / 10 && relay.memory < MAX_TOTAL_MEMORY);
    let camera = add(&mut relay, address(2, 1), Some(publish));
    for number in 0..4 {
        let held = begin_frame(&mut relay, camera, number, 2);
        assert_eq!(held, 400_000 * (number as usize + 1));
    }
    // Nobody else but who sends pictures has any.
    let watch = Role::Watch {
        camera: "door".into(),
    };
    let viewer = add(&mut relay, address(3, 1), Some(watch));
    assert_eq!(begin_frame(&mut relay, viewer, 0, 1), 0);
}
