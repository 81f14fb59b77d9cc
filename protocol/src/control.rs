//! The control channel: messages arrive once and in order.
//!
//! A message is cut into pieces of [`PIECE`] bytes, each with a sequence number; at
//! most [`WINDOW`] are under way, resent until the other side acknowledges them cumulatively.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::Time;
use crate::wire::control::Message;
use crate::wire::item::Item;

/// Bytes of a piece that is sent: what every path carries.
const PIECE: usize = 400;
/// Longest piece taken, in bytes.
pub(crate) const MAX_PIECE: usize = 1000;
/// Pieces under way at once.
pub(crate) const WINDOW: u16 = 8;
/// Longest message taken, in bytes.
const MAX_MESSAGE: usize = WINDOW as usize * MAX_PIECE;
/// Pieces waiting to be sent, at most.
pub(crate) const MAX_WAITING: usize = 256;

struct Piece {
    bytes: Vec<u8>,
    more: bool,
    sent: Option<Time>,
}

/// One end of the control channel.
#[derive(Default)]
pub(crate) struct Control {
    /// Sequence number of the first of `pieces`.
    first: u16,
    pieces: VecDeque<Piece>,
    expected: u16,
    early: BTreeMap<u16, (Vec<u8>, bool)>,
    message: Vec<u8>,
    ack_due: bool,
}

/// The other side broke the channel's rules, or does not take what is sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl Control {
    /// Queues a message.
    pub(crate) fn send(&mut self, message: &Message) -> Result<(), Broken> {
        let bytes = message.encode();
        let count = bytes.len().div_ceil(PIECE);
        if self.pieces.len() + count > MAX_WAITING {
            return Err(Broken);
        }
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            self.pieces.push_back(Piece {
                bytes: piece.into(),
                more: i + 1 < count,
                sent: None,
            });
        }
        Ok(())
    }

    /// Whether everything sent was acknowledged.
    pub(crate) fn is_idle(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Takes a piece; returns the messages that it completes. Malformed messages are passed over.
    pub(crate) fn handle_piece(
        &mut self,
        sequence: u16,
        more: bool,
        piece: &[u8],
    ) -> Result<Vec<Message>, Broken> {
        self.ack_due = true;
        let ahead = sequence.wrapping_sub(self.expected);
        if ahead >= WINDOW {
            return Ok(Vec::new());
        }
        if piece.len() > MAX_PIECE {
            return Err(Broken);
        }
        self.early.insert(sequence, (piece.into(), more));
        let mut messages = Vec::new();
        while let Some((piece, more)) = self.early.remove(&self.expected) {
            self.expected = self.expected.wrapping_add(1);
            if self.message.len() + piece.len() > MAX_MESSAGE {
                return Err(Broken);
            }
            self.message.extend_from_slice(&piece);
            if !more {
                messages.extend(Message::decode(&self.message));
                self.message.clear();
            }
        }
        Ok(messages)
    }

    /// Takes an acknowledgement of everything before `next`.
    pub(crate) fn handle_ack(&mut self, next: u16) {
        let acknowledged = usize::from(next.wrapping_sub(self.first));
        let under_way = self
            .pieces
            .iter()
            .take(WINDOW.into())
            .filter(|p| p.sent.is_some())
            .count();
        if acknowledged <= under_way {
            self.pieces.drain(..acknowledged);
            self.first = next;
        }
    }

    /// When a piece or an acknowledgement is due, `timeout` after a piece was last sent.
    pub(crate) fn due(&self, timeout: Duration) -> Option<Time> {
        if self.ack_due {
            return Some(Time::default());
        }
        let window = self.pieces.iter().take(WINDOW.into());
        window
            .map(|piece| piece.sent.map_or(Time::default(), |sent| sent + timeout))
            .min()
    }

    /// Appends what is due to `out`, as long as it stays below `limit` bytes.
    pub(crate) fn write(&mut self, now: Time, timeout: Duration, limit: usize, out: &mut Vec<u8>) {
        if self.ack_due && out.len() + 3 <= limit {
            self.ack_due = false;
            Item::ControlAck {
                next: self.expected,
            }
            .encode(out);
        }
        for (i, piece) in self.pieces.iter_mut().take(WINDOW.into()).enumerate() {
            let due = piece.sent.is_none_or(|sent| sent + timeout <= now);
            let len = crate::wire::item::CONTROL_OVERHEAD + piece.bytes.len();
            if due && out.len() + len <= limit {
                piece.sent = Some(now);
                let sequence = self.first.wrapping_add(i as u16);
                Item::Control {
                    sequence,
                    more: piece.more,
                    piece: &piece.bytes,
                }
                .encode(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::item::Items;

    const TIMEOUT: Duration = Duration::from_millis(50);

    fn caps(len: usize) -> Message {
        Message::Caps {
            stream: 0,
            generation: 1,
            first: 2,
            caps: "x".repeat(len),
        }
    }

    /// Carries what is due from one end to the other; `lose` says which items are lost.
    fn carry(
        now: Time,
        from: &mut Control,
        to: &mut Control,
        mut lose: impl FnMut() -> bool,
    ) -> Vec<Message> {
        let mut got = Vec::new();
        while from.due(TIMEOUT).is_some_and(|due| due <= now) {
            let mut bytes = Vec::new();
            from.write(now, TIMEOUT, 1154, &mut bytes);
            for item in Items::new(&bytes) {
                match item.unwrap() {
                    _ if lose() => {}
                    Item::Control {
                        sequence,
                        more,
                        piece,
                    } => {
                        got.extend(to.handle_piece(sequence, more, piece).unwrap());
                    }
                    Item::ControlAck { next } => to.handle_ack(next),
                    other => panic!("{other:?}"),
                }
            }
        }
        got
    }

    #[test]
    fn everything_arrives_once_and_in_order_over_a_lossy_path() {
        let (mut a, mut b) = (Control::default(), Control::default());
        let mut state = 7u32;
        let mut lose = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24 < 100
        };
        // More pieces than sequence numbers before a wrap would need 65,536; start near the end.
        a.first = u16::MAX - 10;
        b.expected = a.first;
        let sent: Vec<_> = (0..40).map(|i| caps(i * 100)).collect();
        sent.iter().for_each(|message| a.send(message).unwrap());
        let mut got = Vec::new();
        let mut now = Time::default();
        while !a.is_idle() {
            got.extend(carry(now, &mut a, &mut b, &mut lose));
            assert!(carry(now, &mut b, &mut a, &mut lose).is_empty());
            now = now + TIMEOUT;
            assert!(now.as_nanos() < 60_000_000_000, "no progress");
        }
        assert!(got == sent);
    }

    #[test]
    fn queues_are_bounded() {
        let mut a = Control::default();
        for _ in 0..MAX_WAITING {
            a.send(&Message::Registered { latency_ms: 1 }).unwrap();
        }
        assert_eq!(a.send(&Message::Registered { latency_ms: 1 }), Err(Broken));
        let mut b = Control::default();
        assert_eq!(b.handle_piece(WINDOW, false, &[2, 0, 0]), Ok(vec![]));
        assert!(b.early.is_empty());
        assert_eq!(b.handle_piece(0, false, &[0; MAX_PIECE + 1]), Err(Broken));
        let mut c = Control::default();
        for sequence in 0..WINDOW {
            c.handle_piece(sequence, true, &[0; MAX_PIECE]).unwrap();
        }
        assert_eq!(c.handle_piece(WINDOW, true, &[0]), Err(Broken));
    }

    #[test]
    fn an_acknowledgement_of_what_was_not_sent_is_passed_over() {
        let mut a = Control::default();
        a.send(&caps(1)).unwrap();
        a.handle_ack(1);
        assert!(!a.is_idle());
        a.write(Time::default(), TIMEOUT, 1154, &mut Vec::new());
        a.handle_ack(2);
        assert!(!a.is_idle());
        a.handle_ack(1);
        assert!(a.is_idle());
    }
}
