//! The table of sessions at its bounds.

use std::net::Ipv6Addr;

use super::handshakes::{MAX_OF_ADDRESS, PLACES_FOR_KEYS};
use super::peers::ROLE_TIMEOUT;
use super::*;
use crate::crypto::{Cipher, Keys};
use crate::fuzzing::Counting;
use crate::handshake::{Caller, Established};
use crate::session::{Session, Terms};
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
        max_frame_size: 1 << 20,
        secret: [3; 32],
    };
    let side = Side::Listening(Listening {
        caller: Caller::Anonymous,
        proved: true,
        since: NOW,
        role,
    });
    let id = relay.add_peer(side, Some(Session::new(NOW, established, terms)));
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
