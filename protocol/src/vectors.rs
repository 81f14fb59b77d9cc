//! Holds the bytes in `docs/protocol.md` against the code.

use std::collections::BTreeMap;

use crate::cookie::MacKeys;
use crate::crypto::{Cipher, Keys};
use crate::handshake::Initiator;
use crate::wire::control::Message;
use crate::wire::feedback::{Deficit, Feedback};
use crate::wire::fragment::Fragment;
use crate::wire::header::{Header, Kind, MAC_LEN};
use crate::wire::item::{Item, encode_feedback, encode_fragment_head};
use crate::{CameraToken, PrivateKey, Random, fec};

/// The blocks marked `vector`: name and bytes.
fn documented() -> BTreeMap<String, Vec<u8>> {
    let text = include_str!("../../docs/protocol.md");
    let blocks = text.split("```vector ").skip(1);
    blocks
        .map(|block| {
            let (title, rest) = block.split_once('\n').expect("a title");
            let (hex, _) = rest.split_once("```").expect("an end");
            let name = title.split_once(':').expect("a name").0;
            let hex: String = hex.split_whitespace().collect();
            let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes());
            (
                name.to_owned(),
                bytes.unwrap_or_else(|e| panic!("{name}: {e}")),
            )
        })
        .collect()
}

struct Ones;

impl Random for Ones {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(1);
    }
}

fn made() -> BTreeMap<String, Vec<u8>> {
    let mut made = BTreeMap::new();
    let mut add = |name: &str, bytes: Vec<u8>| made.insert(name.to_owned(), bytes);
    let header = |index, packet_number| Header {
        kind: Kind::Data,
        suite: 0,
        index,
        packet_number,
    };
    add(
        "header",
        header(0xa1b2_c3d4, 0x1122_3344_5566).encode().to_vec(),
    );
    let mut initiator = Initiator::with_cipher(None, Cipher::Aes256Gcm, 11, &mut Ones);
    add("handshake-init", initiator.init.clone());
    let macs = MacKeys::new(None);
    let init = macs.read(&initiator.init).expect("its own message");
    let reply = macs.seal(&init, &[2; 16], [3; 12]);
    assert!(initiator.take_cookie(&reply));
    let proof = initiator.init.split_off(initiator.init.len() - MAC_LEN);
    add("cookie-reply", reply);
    add("mac-2", proof);

    let token = CameraToken::new(PrivateKey::from_random([7; 32]).public(), [9; 32]);
    add("key-public", token.private().public().0.to_vec());
    add("key-psk", token.psk().to_vec());

    let mut sealed = header(0x16, 5).encode().to_vec();
    Item::Ping { sent: 1 }.encode(&mut sealed);
    Keys::new(Cipher::Aes256Gcm, &[1; 32], &[2; 32]).seal(5, &mut sealed, 0);
    add("sealed", sealed);

    add(
        "register",
        Message::Register {
            camera: "door".into(),
            latency_ms: 120,
        }
        .encode(),
    );
    let caps = Message::Caps {
        stream: 1,
        generation: 2,
        first: 3,
        caps: "image/jpeg".into(),
    };
    add("caps", caps.encode());

    let fragment = Fragment {
        flags: 1,
        skipped: 7,
        stream: 1,
        sequence: 0x0203_0405,
        capture: 0x0607_0809,
        symbol: 200,
        k: 190,
        first_flight: 195,
        block: 2,
        blocks: 16,
        code: 1,
    };
    let mut bytes = Vec::new();
    encode_fragment_head(&fragment, &mut bytes);
    add("fragment", bytes);

    let mut parity = vec![0; 2];
    for (number, symbol) in (0..).zip([[1, 2], [3, 4], [5, 6]]) {
        fec::add_data(3, &mut parity, number, &symbol);
    }
    add("parity", parity);

    let feedback = Feedback {
        largest: 7,
        age: 8,
        packets: 9,
        bytes: 10,
        loss: 11,
        clustering: 12,
        spread: 13,
        reorder: 14,
        samples: Vec::new(),
        deficits: vec![Deficit {
            stream: 0,
            sequence: 5,
            blocks: vec![2],
        }],
    };
    let mut bytes = Vec::new();
    encode_feedback(&feedback, usize::MAX, &mut bytes);
    add("feedback", bytes);
    made
}

#[test]
fn the_documented_bytes_are_the_codes() {
    let hex = |vectors: BTreeMap<String, Vec<u8>>| -> BTreeMap<String, String> {
        vectors
            .into_iter()
            .map(|(name, bytes)| (name, data_encoding::HEXLOWER.encode(&bytes)))
            .collect()
    };
    assert_eq!(hex(documented()), hex(made()));
}
