//! What can go wrong, in words and codes that cross the wire.

use std::fmt;

/// Why a session, a registration or a feed was refused or ended.
///
/// The numbers cross the wire (`docs/protocol.md`, section "Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum Code {
    /// The other side is done.
    Done = 200,
    /// The key is not on the relay's list, or anonymous sessions are not accepted.
    UnknownKey = 401,
    /// The key may not use this camera name, or the name is malformed.
    NameNotAllowed = 403,
    /// The relay has no camera of that name.
    NoSuchCamera = 404,
    /// The caps are too long or malformed.
    CapsUnsupported = 406,
    /// Another camera uses the name.
    NameInUse = 409,
    /// The camera left.
    Gone = 410,
    /// A frame is larger than the receiver takes.
    FrameTooLarge = 413,
    /// The relay asks for a key.
    SecurityRequired = 426,
    /// Too many sessions or requests.
    TooMany = 429,
    /// The relay has no room.
    Overloaded = 503,
    /// Nothing was heard from the other side.
    PathLost = 504,
    /// The same camera came back on a newer session.
    Replaced = 520,
}

impl Code {
    const ALL: [Self; 13] = [
        Self::Done,
        Self::UnknownKey,
        Self::NameNotAllowed,
        Self::NoSuchCamera,
        Self::CapsUnsupported,
        Self::NameInUse,
        Self::Gone,
        Self::FrameTooLarge,
        Self::SecurityRequired,
        Self::TooMany,
        Self::Overloaded,
        Self::PathLost,
        Self::Replaced,
    ];

    /// The code of that number.
    pub fn from_u16(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u16 == number)
    }

    /// Whether trying again without changing anything can help.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::NoSuchCamera
                | Self::NameInUse
                | Self::Gone
                | Self::TooMany
                | Self::Overloaded
                | Self::PathLost
        )
    }
}

/// A refusal or an end: a code and a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The class of the refusal.
    pub code: Code,
    /// What happened and what to do, at most 200 bytes of UTF-8.
    pub text: String,
}

impl Rejection {
    /// Longest text, in bytes.
    pub const MAX_TEXT: usize = 200;

    /// A refusal with `text` cut to [`Self::MAX_TEXT`] bytes.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        let mut text = text.into();
        let mut end = text.len().min(Self::MAX_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        Self { code, text }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code as u16)
    }
}

/// A call that the endpoint could not carry out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer is gone or never was.
    #[error("no such peer")]
    UnknownPeer,
    /// The camera name is empty, too long or has characters that names may not have.
    #[error(
        "'{0}' is no camera name: use 1 to 64 letters, digits, '-', '_' or '.', starting with a letter or digit"
    )]
    BadName(String),
    /// The stream number is at or above [`crate::MAX_STREAMS`].
    #[error("stream {0} is above the highest, 15")]
    BadStream(u16),
    /// The caps string is longer than [`crate::MAX_CAPS`].
    #[error("the caps are {0} bytes long, more than the 4096 that a stream may have")]
    CapsTooLong(usize),
    /// A frame came for a stream whose caps were not given yet.
    #[error("stream {0} has no caps yet")]
    NoCaps(u16),
    /// The frame is empty.
    #[error("the frame is empty")]
    EmptyFrame,
    /// The frame is larger than the limit.
    #[error("the frame is {size} bytes, more than the limit of {limit}")]
    FrameTooLarge {
        /// Bytes of the frame.
        size: usize,
        /// Largest size taken.
        limit: usize,
    },
}
