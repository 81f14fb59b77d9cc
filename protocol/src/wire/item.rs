//! The items inside a DATA datagram: a kind byte and its fields.

use super::Reader;
use super::feedback::Feedback;
use super::fragment::Fragment;

/// Bytes of a CONTROL item before its piece.
pub(crate) const CONTROL_OVERHEAD: usize = 6;

const PADDING: u8 = 0;
const PING: u8 = 1;
const PONG: u8 = 2;
const CONTROL: u8 = 3;
const CONTROL_ACK: u8 = 4;
const FEEDBACK: u8 = 5;
const FRAGMENT: u8 = 6;
const PATH_CHALLENGE: u8 = 7;
const PATH_RESPONSE: u8 = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// The sender's clock, nanoseconds.
    Ping { sent: u64 },
    /// The ping's clock; then, on the answerer's clock, when it came and when this left.
    Pong {
        sent: u64,
        received: u64,
        answered: u64,
    },
    /// A piece of a control message; `more` pieces of it follow.
    Control {
        sequence: u16,
        more: bool,
        piece: &'a [u8],
    },
    /// All pieces before this sequence number have arrived.
    ControlAck { next: u16 },
    /// What the receiver of media has and lacks.
    Feedback(Feedback),
    /// Shows who answers it that the address it was sent to is the other side's.
    PathChallenge { token: [u8; 8] },
    /// A challenge's token.
    PathResponse { token: [u8; 8] },
    /// One symbol of a frame; always last.
    Fragment {
        fragment: Fragment,
        symbol: &'a [u8],
    },
}

impl Item<'_> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Item::Ping { sent } => {
                out.push(PING);
                out.extend_from_slice(&sent.to_be_bytes());
            }
            Item::Pong {
                sent,
                received,
                answered,
            } => {
                out.push(PONG);
                out.extend_from_slice(&sent.to_be_bytes());
                out.extend_from_slice(&received.to_be_bytes());
                out.extend_from_slice(&answered.to_be_bytes());
            }
            Item::Control {
                sequence,
                more,
                piece,
            } => {
                out.push(CONTROL);
                out.extend_from_slice(&sequence.to_be_bytes());
                out.push((*more).into());
                out.extend_from_slice(&(piece.len() as u16).to_be_bytes());
                out.extend_from_slice(piece);
            }
            Item::ControlAck { next } => {
                out.push(CONTROL_ACK);
                out.extend_from_slice(&next.to_be_bytes());
            }
            Item::Feedback(feedback) => encode_feedback(feedback, usize::MAX, out),
            Item::PathChallenge { token } => {
                out.push(PATH_CHALLENGE);
                out.extend_from_slice(token);
            }
            Item::PathResponse { token } => {
                out.push(PATH_RESPONSE);
                out.extend_from_slice(token);
            }
            Item::Fragment { fragment, symbol } => {
                encode_fragment_head(fragment, out);
                out.extend_from_slice(symbol);
            }
        }
    }
}

/// Fills a datagram up to `end` with padding, which is the last of its items.
pub(crate) fn pad(end: usize, out: &mut Vec<u8>) {
    out.resize(end.max(out.len()), PADDING);
}

/// Appends a FRAGMENT up to its symbol, which the caller appends.
pub(crate) fn encode_fragment_head(fragment: &Fragment, out: &mut Vec<u8>) {
    out.push(FRAGMENT);
    fragment.encode(out);
}

/// Appends a FEEDBACK of at most `room` bytes.
pub(crate) fn encode_feedback(feedback: &Feedback, room: usize, out: &mut Vec<u8>) {
    out.push(FEEDBACK);
    feedback.encode(room.saturating_sub(1), out);
}

/// The items of a datagram's plaintext, in order. Ends at padding; yields an `Err` once, and
/// last, where the bytes are malformed.
pub(crate) struct Items<'a>(Reader<'a>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Items<'a> {
    pub(crate) fn new(plaintext: &'a [u8]) -> Self {
        Self(Reader::new(plaintext))
    }

    fn item(&mut self, kind: u8) -> Option<Item<'a>> {
        let reader = &mut self.0;
        Some(match kind {
            PING => Item::Ping {
                sent: reader.u64()?,
            },
            PONG => Item::Pong {
                sent: reader.u64()?,
                received: reader.u64()?,
                answered: reader.u64()?,
            },
            CONTROL => {
                let sequence = reader.u16()?;
                let more = match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                };
                let len = reader.u16()?;
                Item::Control {
                    sequence,
                    more,
                    piece: reader.take(len.into())?,
                }
            }
            CONTROL_ACK => Item::ControlAck {
                next: reader.u16()?,
            },
            FEEDBACK => Item::Feedback(Feedback::decode(reader)?),
            PATH_CHALLENGE => Item::PathChallenge {
                token: reader.array()?,
            },
            PATH_RESPONSE => Item::PathResponse {
                token: reader.array()?,
            },
            FRAGMENT => {
                let fragment = Fragment::decode(reader)?;
                let symbol = reader.rest();
                (!symbol.is_empty()).then_some(())?;
                Item::Fragment { fragment, symbol }
            }
            _ => return None,
        })
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let kind = self.0.u8()?;
        if kind == PADDING {
            self.0.rest();
            return None;
        }
        let item = self.item(kind).ok_or(Malformed);
        if item.is_err() {
            self.0.rest();
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_follow_each_other() {
        let items = [
            Item::Ping { sent: 1 },
            Item::Pong {
                sent: 1,
                received: 2,
                answered: 3,
            },
            Item::Control {
                sequence: 7,
                more: true,
                piece: b"piece",
            },
            Item::ControlAck { next: 8 },
            Item::Feedback(Feedback::default()),
            Item::PathChallenge { token: [1; 8] },
            Item::PathResponse { token: [2; 8] },
        ];
        let mut bytes = Vec::new();
        for item in &items {
            item.encode(&mut bytes);
        }
        let read: Vec<_> = Items::new(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(read, items);
        bytes.extend_from_slice(&[PADDING, 0xff, 0xff]);
        assert_eq!(Items::new(&bytes).count(), items.len());
    }

    #[test]
    fn malformed_items_end_the_datagram() {
        for wrong in [
            &[99u8][..],
            &[PING, 1, 2, 3],
            &[CONTROL, 0, 0, 2, 0, 0],
            &[CONTROL, 0, 0, 0, 0, 9, 1],
            &[FRAGMENT, 0],
        ] {
            let mut items = Items::new(wrong);
            assert_eq!(items.next(), Some(Err(Malformed)));
            assert_eq!(items.next(), None);
        }
    }
}
