//! The camrelay wire protocol, sans-IO: live frames over UDP.
//!
//! An [`Endpoint`] is a state machine. It owns no socket, thread, clock or
//! random source: the caller hands it datagrams and the time, and takes
//! datagrams, events and the next deadline from it.
//!
//! The normative description of the wire is `docs/protocol.md`.
#![forbid(unsafe_code)]

mod access;
mod assembly;
mod clock;
mod control;
mod cookie;
mod crypto;
mod endpoint;
mod error;
mod fec;
mod fragment;
mod frame;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod keys;
mod loss;
mod parity;
mod rate;
mod reassembly;
mod reorder;
mod replay;
mod sealing;
mod session;
mod stats;
mod time;
#[cfg(test)]
mod vectors;
mod wire;

pub use access::{Accept, Access, check_name as check_camera_name};
pub use endpoint::{Admissions, Config, Connect, Endpoint, Event, PeerId, Role, Transmit};
pub use error::{Code, Error, Rejection};
pub use frame::{Frame, FrameFlags, GapReason, LatePolicy, ReceivedFrame};
pub use keys::{CameraToken, KeyError, KnownCamera, PrivateKey, PublicKey};
#[doc(hidden)]
pub use sealing::SealedFrame;
pub use stats::Stats;
pub use time::{Random, Time};

/// The UDP port of a relay where nothing else is said.
pub const DEFAULT_PORT: u16 = 8000;
/// Longest camera name, in bytes of UTF-8.
pub const MAX_CAMERA_NAME: usize = 64;
/// Streams of one camera (video, audio, …), numbered from 0.
pub const MAX_STREAMS: u16 = 16;
/// Largest frame, in bytes, where nothing else is said (4 MiB).
pub const MAX_FRAME_SIZE: usize = 4 << 20;
/// Longest caps string of a stream, in bytes.
pub const MAX_CAPS: usize = 4096;
