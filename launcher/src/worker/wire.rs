//! What goes through the worker's pipes: a header in JSON and bytes, each after its
//! length (32 bits, the most significant byte first).

use std::io::{self, ErrorKind, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Largest header, in bytes.
const MAX_HEADER: usize = 4096;
/// Largest body, in bytes: a picture, or the pictures since a key frame.
pub const MAX_BODY: usize = 32 << 20;
/// Units that a placeholder has at most.
pub const MAX_UNITS: usize = 8;

/// What the relay asks for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Encode the pictures that follow as H.264.
    Encode(Encoding),
    /// The body is a JPEG, or the next access unit.
    Picture {
        /// Comes back with what it is encoded to; grows from picture to picture.
        time: u64,
        /// Whether a viewer has to be able to start there.
        key: bool,
    },
    /// Make a placeholder of what is in the body: a JPEG, or the access units since the
    /// last key frame.
    Placeholder(Order),
    /// Do once all that a placeholder of that coding takes.
    Rehearse(Coding),
    /// Make a JPEG of the last of the access units in the body, which begin with a key frame.
    Snapshot(Coding),
    /// Make the JPEG in the body smaller.
    Scale {
        /// Pixels in a line.
        width: u32,
        /// Lines.
        height: u32,
    },
}

/// The H.264 that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoding {
    /// Whether the pictures come as H.264, the first of them a key frame, rather than as JPEGs.
    pub inter: bool,
    /// Pixels in a line, even.
    pub width: u32,
    /// Lines, even.
    pub height: u32,
    /// Bits a second.
    pub bits: u32,
    /// Whether pictures are left out rather than that it takes more bits than that.
    pub strict: bool,
}

/// The placeholder that is asked for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What the body is coded in, and the placeholder has to be.
    pub coding: Coding,
    /// Pixels in a line, where the body is empty.
    pub width: u32,
    /// Lines, where the body is empty.
    pub height: u32,
    /// What to write on the picture.
    pub text: Vec<String>,
}

/// What a placeholder is coded in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coding {
    /// JPEG, from raw video of that format, by GStreamer's name.
    Jpeg(String),
    /// H.264.
    H264,
    /// H.265.
    H265,
}

/// What the worker answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The body is an access unit.
    Unit {
        /// That of the picture.
        time: u64,
        /// Whether a viewer can start there.
        key: bool,
    },
    /// The body is a JPEG, or key frames to be shown in turn; of these sizes.
    Placeholder {
        /// In bytes.
        sizes: Vec<usize>,
    },
    /// It is done.
    Rehearsed,
    /// The body is the JPEG that was asked for.
    Jpeg,
    /// It could not be done.
    Failed {
        /// Why not, in words.
        why: String,
    },
}

/// Writes a message.
pub fn write(to: &mut impl Write, message: &impl Serialize, body: &[u8]) -> io::Result<()> {
    let header = serde_json::to_vec(message)?;
    if header.len() > MAX_HEADER || body.len() > MAX_BODY {
        return Err(io::Error::new(ErrorKind::InvalidInput, "too large"));
    }
    let mut start = Vec::with_capacity(8 + header.len());
    start.extend((header.len() as u32).to_be_bytes());
    start.extend((body.len() as u32).to_be_bytes());
    start.extend(header);
    to.write_all(&start)?;
    to.write_all(body)?;
    to.flush()
}

/// Reads a message; `None` at the end.
pub fn read<M: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<(M, Vec<u8>)>> {
    let mut lengths = [0; 8];
    if from.read(&mut lengths[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut lengths[1..])?;
    let length = |at: usize| {
        let bytes = [0, 1, 2, 3].map(|byte| lengths[at + byte]);
        u32::from_be_bytes(bytes) as usize
    };
    let (header, body) = (length(0), length(4));
    if header > MAX_HEADER || body > MAX_BODY {
        return Err(io::Error::new(ErrorKind::InvalidData, "too large"));
    }
    let mut take = |length: usize| {
        let mut bytes = Vec::new();
        match from.take(length as u64).read_to_end(&mut bytes)? {
            read if read == length => Ok(bytes),
            _ => Err(io::Error::from(ErrorKind::UnexpectedEof)),
        }
    };
    let header = take(header)?;
    Ok(Some((serde_json::from_slice(&header)?, take(body)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let first = Request::Picture {
            time: u64::MAX,
            key: true,
        };
        let second = Request::Placeholder(Order {
            coding: Coding::Jpeg("I420".into()),
            width: 320,
            height: 240,
            text: vec!["door".into()],
        });
        let mut pipe = Vec::new();
        write(&mut pipe, &first, b"picture").expect("it has room");
        write(&mut pipe, &second, b"").expect("it has room");
        let mut rest = pipe.as_slice();
        let mut next = || read::<Request>(&mut rest).expect("it is whole");
        assert_eq!(next(), Some((first, b"picture".to_vec())));
        assert_eq!(next(), Some((second, Vec::new())));
        assert_eq!(next(), None);
        for length in 1..pipe.len() {
            let mut rest = &pipe[..length];
            while let Ok(Some(_)) = read::<Request>(&mut rest) {}
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let sizes = |header: usize, body: usize| {
            let mut pipe = (header as u32).to_be_bytes().to_vec();
            pipe.extend((body as u32).to_be_bytes());
            let error = read::<Request>(&mut pipe.as_slice()).expect_err("it ends");
            error.kind()
        };
        assert_eq!(sizes(MAX_HEADER + 1, 0), ErrorKind::InvalidData);
        assert_eq!(sizes(0, MAX_BODY + 1), ErrorKind::InvalidData);
        assert_eq!(sizes(MAX_HEADER, MAX_BODY), ErrorKind::UnexpectedEof);
        let unit = Reply::Unit {
            time: 0,
            key: false,
        };
        assert!(write(&mut Vec::new(), &unit, &vec![0; MAX_BODY + 1]).is_err());
    }
}
