//! The state machine of one UDP socket.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{
    Access, CameraToken, Error, Frame, GapReason, PrivateKey, Random, ReceivedFrame, Rejection,
    Stats, Time,
};

/// A peer: for a caller, the other side through all reconnections; for a
/// listener, one session. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u64);

/// How an endpoint behaves.
#[derive(Clone)]
pub struct Config {
    /// The relay's key; without one only anonymous sessions can be accepted.
    pub identity: Option<PrivateKey>,
    /// Who may open a session; `None` for an endpoint that only calls.
    pub access: Option<Access>,
    /// Largest frame taken or sent, in bytes.
    pub max_frame_size: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            identity: None,
            access: None,
            max_frame_size: crate::MAX_FRAME_SIZE,
        }
    }
}

/// What a session is for. One session serves one camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Send this camera's streams to a relay.
    Publish {
        /// The camera's name.
        camera: String,
    },
    /// Receive this camera's streams from a relay.
    Watch {
        /// The camera's name.
        camera: String,
    },
}

/// How to call a relay.
#[derive(Clone)]
pub struct Connect {
    /// The relay's address.
    pub remote: SocketAddr,
    /// The camera's token, or `None` for an anonymous session.
    pub token: Option<CameraToken>,
    /// What for.
    pub role: Role,
    /// How long, beyond the one-way delay, an incoming frame may take to become whole.
    pub latency: Duration,
    /// UDP payload size to use, in bytes; 0 finds it out.
    pub mtu: u16,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Caller: a session is up, for the first time or again.
    Connected,
    /// Caller: the session is lost (or was refused for now); the endpoint goes on trying.
    Disconnected(Rejection),
    /// The session is over for good; the peer is gone.
    Closed(Rejection),
    /// Listener: a camera registered; its caps and frames follow.
    CameraAdded {
        /// Its name.
        camera: String,
        /// Its address.
        remote: SocketAddr,
    },
    /// Listener: a registered camera left, was replaced or was lost. Precedes `Closed`.
    CameraRemoved {
        /// Its name.
        camera: String,
        /// Why.
        reason: Rejection,
    },
    /// Listener: a camera was refused.
    CameraRejected {
        /// The name it asked for.
        camera: String,
        /// Its address.
        remote: SocketAddr,
        /// Why.
        reason: Rejection,
    },
    /// Listener: the peer wants to watch a camera, until `Closed`. Answer with
    /// [`Endpoint::set_caps`] and [`Endpoint::send_frame`] once there is one, and tell
    /// it with [`Endpoint::end_feed`] when there is none.
    WatchRequested {
        /// The camera's name.
        camera: String,
    },
    /// Receiver: what the frames of a stream are from this generation on.
    Caps {
        /// Which stream, from 0.
        stream: u16,
        /// Which generation; frames carry it.
        generation: u8,
        /// Caps as GStreamer writes them.
        caps: String,
    },
    /// Receiver: a frame arrived whole.
    Frame(ReceivedFrame),
    /// Receiver: frames are missing before the next one.
    Gap {
        /// Which stream, from 0.
        stream: u16,
        /// How many.
        frames: u32,
        /// Why.
        reason: GapReason,
    },
    /// Receiver: the sender ended the stream (end of file, camera stopped).
    StreamEnded {
        /// Which stream, from 0.
        stream: u16,
    },
    /// Caller that watches: the relay has no such camera now; the feed starts by
    /// itself when it comes.
    FeedEnded(Rejection),
    /// Sender: a receiver needs a key frame.
    KeyframeRequested {
        /// Which stream, from 0.
        stream: u16,
    },
}

/// A batch of datagrams to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub remote: SocketAddr,
    /// Bytes of each datagram in the buffer but the last, which may be shorter.
    pub segment_size: usize,
}

/// The state machine of one UDP socket: sessions with any number of peers.
pub struct Endpoint {}

impl Endpoint {
    /// An endpoint that draws its keys and session numbers from `random`.
    pub fn new(_config: Config, _random: Box<dyn Random>) -> Self {
        todo!()
    }

    /// Changes who may open a session; sessions that are no longer allowed end at once.
    pub fn set_access(&mut self, _now: Time, _access: Access) {
        todo!()
    }

    /// How long, beyond the one-way delay, frames of this camera may take to become
    /// whole; for cameras that register later too. 120 ms where nothing is said.
    pub fn set_latency(&mut self, _camera: &str, _latency: Duration) {
        todo!()
    }

    /// Calls a relay, again and again until it answers, and again when the session is lost.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn connect(&mut self, _now: Time, _connect: Connect) -> Result<PeerId, Error> {
        todo!()
    }

    /// Caller: the relay's address changed (its name resolved anew).
    pub fn set_remote(&mut self, _now: Time, _peer: PeerId, _remote: SocketAddr) {
        todo!()
    }

    /// Says what the frames of a stream are from now on; starts the stream the first time.
    /// The same caps again are nothing new. Kept and said again after a reconnection.
    ///
    /// # Errors
    /// [`Error::UnknownPeer`], [`Error::BadStream`], [`Error::CapsTooLong`].
    pub fn set_caps(
        &mut self,
        _now: Time,
        _peer: PeerId,
        _stream: u16,
        _caps: &str,
    ) -> Result<(), Error> {
        todo!()
    }

    /// Sends a frame; without a session, or with too many waiting, it is dropped and counted.
    ///
    /// # Errors
    /// [`Error::UnknownPeer`], [`Error::BadStream`], [`Error::NoCaps`],
    /// [`Error::EmptyFrame`], [`Error::FrameTooLarge`].
    pub fn send_frame(
        &mut self,
        _now: Time,
        _peer: PeerId,
        _stream: u16,
        _frame: Frame,
    ) -> Result<(), Error> {
        todo!()
    }

    /// Says that no more frames of this stream will come.
    pub fn end_stream(&mut self, _now: Time, _peer: PeerId, _stream: u16) {
        todo!()
    }

    /// Listener: tells a watching peer that there is no such camera now.
    pub fn end_feed(&mut self, _now: Time, _peer: PeerId, _reason: Rejection) {
        todo!()
    }

    /// Receiver: asks the sender for a key frame; requests close together become one.
    pub fn request_keyframe(&mut self, _now: Time, _peer: PeerId, _stream: u16) {
        todo!()
    }

    /// Ends a session. Frames already handed over are sent first; `Closed` follows once the other
    /// side knows, or soon after.
    pub fn close(&mut self, _now: Time, _peer: PeerId, _reason: Rejection) {
        todo!()
    }

    /// Takes one datagram from the network. It is decrypted in place.
    pub fn handle_datagram(&mut self, _now: Time, _from: SocketAddr, _datagram: &mut [u8]) {
        todo!()
    }

    /// Carries out what is due. Call it when [`Self::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, _now: Time) {
        todo!()
    }

    /// When to call [`Self::handle_timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Time> {
        todo!()
    }

    /// Writes the next batch of datagrams for one remote, of equal size but for the last,
    /// at most `max_segments`, into `buffer` (cleared first). `None`: nothing to send now.
    pub fn poll_transmit(
        &mut self,
        _now: Time,
        _max_segments: usize,
        _buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        todo!()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<(PeerId, Event)> {
        todo!()
    }

    /// Counters of a peer.
    pub fn stats(&self, _peer: PeerId) -> Option<Stats> {
        todo!()
    }
}
