//! What reads bytes and text from outside.

use std::sync::LazyLock;

use super::{Counting, Input};
use crate::control::Control;
use crate::cookie::MacKeys;
use crate::handshake::{Initiator, Responder};
use crate::time::Time;
use crate::wire::control::Message;
use crate::wire::header::{HEADER_LEN, Header, MAC_LEN};
use crate::wire::item::{Item, Items};
use crate::{CameraToken, KnownCamera, PrivateKey};

static RELAY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::from_random([7; 32]));
static TOKEN: LazyLock<CameraToken> = LazyLock::new(|| CameraToken::new(RELAY.public(), [9; 32]));
static MACS: LazyLock<[MacKeys; 2]> =
    LazyLock::new(|| [None, Some(RELAY.public())].map(MacKeys::new));

/// Datagrams before a session: none makes a side panic, changed ones are refused, and no answer
/// is larger than its question.
pub fn handshake(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.u8();
    let token = (choice & 4 != 0).then_some(&*TOKEN);
    if choice & 3 == 0 {
        let raw = input.0;
        if let Some(header) = Header::decode(raw) {
            assert_eq!(header.encode(), raw[..header.encode().len()]);
        }
        // Not the one below, whose answer a fuzzer finds out from what is compared with it.
        let mut initiator = Initiator::new(token, 11, &mut Counting(3));
        assert!(!initiator.take_cookie(raw));
        assert!(initiator.finish(raw).is_err());
        return;
    }
    let initiator = Initiator::new(token, 11, &mut Counting(1));
    let mut init = initiator.init[..initiator.init.len() - 2 * MAC_LEN].to_vec();
    if choice & 3 == 1 {
        init.truncate(HEADER_LEN);
        init.extend_from_slice(input.bytes(512));
    }
    let honest = init.clone();
    if choice & 3 == 2 {
        change(&mut init, &mut input);
    }
    let macs = &MACS[usize::from(token.is_some())];
    macs.sign(&mut init);
    let Some(read) = macs.read(&init) else {
        assert!(init.len() < HEADER_LEN + 2 * MAC_LEN, "it was signed");
        return;
    };
    assert!(!read.proves(&[1; 16]) && macs.seal(&read, &[1; 16], [2; 12]).len() < init.len());
    let Some(responder) = Responder::read(&read, Some(&RELAY), &mut Counting(2)) else {
        assert!(init.get(..honest.len()) != Some(&honest) || choice & 3 == 1);
        return;
    };
    let Some((mut response, _)) = responder.answer(token.map(CameraToken::psk).as_ref(), 22) else {
        return;
    };
    assert!(response.len() <= init.len());
    let honest = init.get(..honest.len()) == Some(&honest) && choice & 3 != 1;
    let answer = response.clone();
    if choice & 3 == 3 {
        change(&mut response, &mut input);
    }
    let same = honest && response.get(12..) == answer.get(12..);
    assert_eq!(initiator.finish(&response).is_ok(), same);
}

/// Changes a few bytes, or cuts the end off.
fn change(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    for _ in 0..input.u8() % 4 {
        let at = usize::from(input.u16());
        let with = input.u8();
        match bytes.get_mut(at) {
            Some(byte) => *byte ^= with,
            None => bytes.truncate(usize::from(with)),
        }
    }
}

/// The items of a DATA: what is read is written as it was.
pub fn items(data: &[u8]) {
    for item in Items::new(data).flatten() {
        let mut bytes = Vec::new();
        item.encode(&mut bytes);
        let again: Vec<_> = Items::new(&bytes).flatten().collect();
        assert_eq!(again, [item]);
    }
}

/// Control messages, and the channel that carries them over a path that loses, repeats and
/// reorders.
pub fn control(data: &[u8]) {
    if let Some(message) = Message::decode(data) {
        let again = Message::decode(&message.encode());
        assert_eq!(again, Some(message));
    }
    let timeout = std::time::Duration::from_millis(50);
    let mut input = Input(data);
    let (mut a, mut b) = (Control::default(), Control::default());
    let (mut sent, mut got, mut now) = (Vec::new(), Vec::new(), Time::default());
    let mut flights: Vec<Vec<u8>> = Vec::new();
    while !input.is_empty() {
        let op = input.u8();
        match op % 8 {
            0 => {
                let caps = "x".repeat(usize::from(input.u8()) * 16);
                let message = Message::Caps {
                    stream: 0,
                    generation: op,
                    first: 0,
                    caps,
                };
                if a.send(&message).is_ok() {
                    sent.push(message);
                }
            }
            1 => now = now + timeout,
            2 | 3 => {
                let mut bytes = Vec::new();
                a.write(now, timeout, 1154, &mut bytes);
                flights.push(bytes);
            }
            4 if !flights.is_empty() => {
                let at = usize::from(op) % flights.len();
                carry(&flights[at], &mut b, &mut got);
            }
            5 if !flights.is_empty() => {
                carry(&flights.remove(0), &mut b, &mut got);
                let mut bytes = Vec::new();
                b.write(now, timeout, 1154, &mut bytes);
                carry(&bytes, &mut a, &mut Vec::new());
            }
            6 if !flights.is_empty() => drop(flights.remove(0)),
            _ => {
                // The other side says what it likes.
                let sequence = input.u16();
                let mut other = Control::default();
                let _ = other.handle_piece(sequence, op & 8 != 0, input.bytes(op.into()));
                other.handle_ack(sequence);
            }
        }
        flights.truncate(64);
        assert!(got.len() <= sent.len() && got == sent[..got.len()]);
    }
}

fn carry(bytes: &[u8], to: &mut Control, got: &mut Vec<Message>) {
    for item in Items::new(bytes).flatten() {
        match item {
            Item::Control {
                sequence,
                more,
                piece,
            } => got.extend(to.handle_piece(sequence, more, piece).expect("honest")),
            Item::ControlAck { next } => to.handle_ack(next),
            _ => unreachable!("the channel writes nothing else"),
        }
    }
}

/// Keys, tokens and the list of known cameras: what is read is written as it was.
pub fn keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(key) = text.parse::<PrivateKey>() {
        assert_eq!(key.to_text(), text.trim());
    }
    if let Ok(token) = text.parse::<CameraToken>() {
        assert_eq!(token.to_text(), text.trim());
    }
    if let Ok(list) = KnownCamera::parse_list(text) {
        for line in list {
            let again: KnownCamera = line.to_text().parse().expect("its own text");
            assert!(again == line);
            assert!(line.names().iter().all(|name| line.may_use(name)));
        }
    }
}
