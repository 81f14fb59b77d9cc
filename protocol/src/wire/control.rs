//! CONTROL messages: reliable and in order (carried by [`crate::control`]).

use super::{Reader, put_short_text};
use crate::access::check_name;
use crate::stats::{Received, Sent};
use crate::{Code, MAX_CAPS, MAX_STREAMS, Rejection};

const REGISTER: u8 = 1;
const REGISTERED: u8 = 2;
const CAPS: u8 = 3;
const STREAM_END: u8 = 4;
const FEED_REQUEST: u8 = 5;
const FEED_END: u8 = 6;
const KEYFRAME_REQUEST: u8 = 7;
const CLOSE: u8 = 8;
const REKEY: u8 = 9;
const REKEYED: u8 = 10;
const STATS: u8 = 11;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A camera gives its name and the latency that it asks for, in milliseconds.
    Register { camera: String, latency_ms: u16 },
    /// The relay takes the camera, with this latency.
    Registered { latency_ms: u16 },
    /// What a stream is from frame `first` on.
    Caps {
        stream: u16,
        generation: u8,
        first: u32,
        caps: String,
    },
    /// The stream ends before frame `end`.
    StreamEnd { stream: u16, end: u32 },
    /// A viewer wants a camera, with this latency.
    FeedRequest { camera: String, latency_ms: u16 },
    /// There is no such camera now.
    FeedEnd(Rejection),
    /// A key frame is needed.
    KeyframeRequest { stream: u16 },
    /// The session ends.
    Close(Rejection),
    /// The caller wants new keys: a HANDSHAKE_INIT.
    Rekey(Vec<u8>),
    /// The listener has them, too: the HANDSHAKE_RESP.
    Rekeyed(Vec<u8>),
    /// What became of the frames that the other side sent, and of those that this one did.
    Stats(Received, Sent),
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Register { camera, latency_ms } => {
                out.push(REGISTER);
                put_short_text(&mut out, camera);
                out.extend_from_slice(&latency_ms.to_be_bytes());
            }
            Self::Registered { latency_ms } => {
                out.push(REGISTERED);
                out.extend_from_slice(&latency_ms.to_be_bytes());
            }
            Self::Caps {
                stream,
                generation,
                first,
                caps,
            } => {
                out.push(CAPS);
                out.extend_from_slice(&stream.to_be_bytes());
                out.push(*generation);
                out.extend_from_slice(&first.to_be_bytes());
                out.extend_from_slice(caps.as_bytes());
            }
            Self::StreamEnd { stream, end } => {
                out.push(STREAM_END);
                out.extend_from_slice(&stream.to_be_bytes());
                out.extend_from_slice(&end.to_be_bytes());
            }
            Self::FeedRequest { camera, latency_ms } => {
                out.push(FEED_REQUEST);
                put_short_text(&mut out, camera);
                out.extend_from_slice(&latency_ms.to_be_bytes());
            }
            Self::FeedEnd(rejection) => {
                out.push(FEED_END);
                put_rejection(&mut out, rejection);
            }
            Self::KeyframeRequest { stream } => {
                out.push(KEYFRAME_REQUEST);
                out.extend_from_slice(&stream.to_be_bytes());
            }
            Self::Close(rejection) => {
                out.push(CLOSE);
                put_rejection(&mut out, rejection);
            }
            Self::Rekey(handshake) => {
                out.push(REKEY);
                out.extend_from_slice(handshake);
            }
            Self::Rekeyed(handshake) => {
                out.push(REKEYED);
                out.extend_from_slice(handshake);
            }
            Self::Stats(received, sent) => {
                out.push(STATS);
                put_received(&mut out, received);
                out.extend_from_slice(&sent.captured.to_be_bytes());
                out.extend_from_slice(&sent.sent.to_be_bytes());
                out.extend_from_slice(&sent.target.to_be_bytes());
            }
        }
        out
    }

    /// `None` for what is malformed or unknown. Bytes after the fields are passed over, so that
    /// a later version can add some.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        Some(match reader.u8()? {
            REGISTER => {
                let (camera, latency_ms) = name_and_latency(&mut reader)?;
                Self::Register { camera, latency_ms }
            }
            REGISTERED => Self::Registered {
                latency_ms: reader.u16()?,
            },
            CAPS => {
                let stream = stream(&mut reader)?;
                let generation = reader.u8()?;
                let first = reader.u32()?;
                let caps = std::str::from_utf8(reader.rest()).ok()?;
                (caps.len() <= MAX_CAPS).then_some(())?;
                Self::Caps {
                    stream,
                    generation,
                    first,
                    caps: caps.into(),
                }
            }
            STREAM_END => Self::StreamEnd {
                stream: stream(&mut reader)?,
                end: reader.u32()?,
            },
            FEED_REQUEST => {
                let (camera, latency_ms) = name_and_latency(&mut reader)?;
                Self::FeedRequest { camera, latency_ms }
            }
            FEED_END => Self::FeedEnd(rejection(&mut reader)?),
            KEYFRAME_REQUEST => Self::KeyframeRequest {
                stream: stream(&mut reader)?,
            },
            CLOSE => Self::Close(rejection(&mut reader)?),
            REKEY => Self::Rekey(reader.rest().to_vec()),
            REKEYED => Self::Rekeyed(reader.rest().to_vec()),
            STATS => Self::Stats(
                received(&mut reader)?,
                Sent {
                    captured: reader.u64()?,
                    sent: reader.u64()?,
                    target: reader.u64()?,
                },
            ),
            _ => return None,
        })
    }
}

fn stream(reader: &mut Reader<'_>) -> Option<u16> {
    reader.u16().filter(|stream| *stream < MAX_STREAMS)
}

fn name_and_latency(reader: &mut Reader<'_>) -> Option<(String, u16)> {
    let camera = reader.short_text()?;
    check_name(camera).ok()?;
    Some((camera.into(), reader.u16()?))
}

fn put_received(out: &mut Vec<u8>, received: &Received) {
    let Received {
        delivered,
        lost,
        late,
        undecodable,
        by_parity,
        by_resend,
        rounds,
        latency_us,
        loss,
        share,
    } = received;
    let counters = [
        delivered,
        lost,
        late,
        undecodable,
        by_parity,
        by_resend,
        rounds,
    ];
    for counter in counters {
        out.extend_from_slice(&counter.to_be_bytes());
    }
    for latency in latency_us {
        out.extend_from_slice(&latency.to_be_bytes());
    }
    out.extend_from_slice(&loss.to_be_bytes());
    out.extend_from_slice(&share.to_be_bytes());
}

fn received(reader: &mut Reader<'_>) -> Option<Received> {
    Some(Received {
        delivered: reader.u64()?,
        lost: reader.u64()?,
        late: reader.u64()?,
        undecodable: reader.u64()?,
        by_parity: reader.u64()?,
        by_resend: reader.u64()?,
        rounds: reader.u64()?,
        latency_us: [reader.u32()?, reader.u32()?, reader.u32()?],
        loss: reader.u16()?,
        share: reader.u16()?,
    })
}

fn put_rejection(out: &mut Vec<u8>, rejection: &Rejection) {
    out.extend_from_slice(&(rejection.code as u16).to_be_bytes());
    put_short_text(out, &rejection.text);
}

fn rejection(reader: &mut Reader<'_>) -> Option<Rejection> {
    let number = reader.u16()?;
    let text = reader.short_text()?;
    // A code of a later version still ends what it ends.
    let code = Code::from_u16(number).unwrap_or(Code::Gone);
    Some(Rejection::new(code, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_is_no_message_whoever_writes_it() {
        for (camera, is_name) in [
            ("door", true),
            ("<script>document.title='evil'</script>", false),
            ("..", false),
            ("a/b", false),
            ("", false),
        ] {
            let camera = camera.to_owned();
            let latency_ms = 120;
            for message in [
                Message::Register {
                    camera: camera.clone(),
                    latency_ms,
                },
                Message::FeedRequest { camera, latency_ms },
            ] {
                let read = Message::decode(&message.encode());
                assert_eq!(read, is_name.then_some(message));
            }
        }
    }

    #[test]
    fn messages_round_trip_and_every_cut_is_refused_or_shorter() {
        let messages = [
            Message::Register {
                camera: "door".into(),
                latency_ms: 120,
            },
            Message::Registered { latency_ms: 120 },
            Message::Caps {
                stream: 15,
                generation: 255,
                first: u32::MAX,
                caps: "image/jpeg".into(),
            },
            Message::StreamEnd { stream: 0, end: 9 },
            Message::FeedRequest {
                camera: "door".into(),
                latency_ms: 0,
            },
            Message::FeedEnd(Rejection::new(Code::NoSuchCamera, "no camera 'x'")),
            Message::KeyframeRequest { stream: 0 },
            Message::Close(Rejection::new(Code::Done, "")),
            Message::Stats(
                Received {
                    delivered: 1,
                    lost: 2,
                    late: 3,
                    undecodable: 4,
                    by_parity: 5,
                    by_resend: 6,
                    rounds: u64::MAX,
                    latency_us: [7, 8, u32::MAX],
                    loss: 65_535,
                    share: 11,
                },
                Sent {
                    captured: 9,
                    sent: u64::MAX,
                    target: 10,
                },
            ),
        ];
        for message in messages {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes).as_ref(), Some(&message));
            for cut in 0..bytes.len() {
                assert_ne!(Message::decode(&bytes[..cut]).as_ref(), Some(&message));
            }
        }
    }

    #[test]
    fn bad_names_streams_and_caps_are_refused() {
        let bad = Message::Register {
            camera: "a/b".into(),
            latency_ms: 0,
        };
        assert_eq!(Message::decode(&bad.encode()), None);
        let bad = Message::KeyframeRequest {
            stream: MAX_STREAMS,
        };
        assert_eq!(Message::decode(&bad.encode()), None);
        let caps = |len| Message::Caps {
            stream: 0,
            generation: 0,
            first: 0,
            caps: "x".repeat(len),
        };
        assert!(Message::decode(&caps(MAX_CAPS).encode()).is_some());
        assert_eq!(Message::decode(&caps(MAX_CAPS + 1).encode()), None);
        assert_eq!(Message::decode(&[0xff]), None);
    }

    #[test]
    fn an_unknown_code_keeps_its_text() {
        let bytes = [CLOSE, 0x7f, 0xff, 2, b'h', b'i'];
        assert_eq!(
            Message::decode(&bytes),
            Some(Message::Close(Rejection::new(Code::Gone, "hi")))
        );
    }
}
