//! The state machine of one UDP socket.

mod cameras;
mod gate;
mod handshakes;
mod marks;
mod peers;
mod rekey;
mod sessions;
mod sharing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use self::gate::Gate;
use self::marks::Marks;
use self::peers::{Listening, Peer, Side};
use crate::access::check_name;
use crate::cookie::MacKeys;
use crate::session::Session;
use crate::wire::control::Message;
use crate::wire::header::{Header, Kind};
use crate::{
    Accept, Access, CameraToken, Error, Frame, GapReason, LatePolicy, MAX_CAPS, MAX_STREAMS,
    PrivateKey, Random, ReceivedFrame, Rejection, Stats, Time,
};

/// Sessions that a listener keeps, at most.
const MAX_SESSIONS: usize = 4096;

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
    /// What becomes of incoming frames that are not whole when a newer one is.
    pub late_policy: LatePolicy,
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
    /// Caller: a refusal that nobody signed, so that it may be forged; the endpoint goes on
    /// trying, a little later.
    Refused(Rejection),
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
    /// Sender: the bitrate to stay below, in bits per second, changed by a twentieth or more;
    /// `None`: no limit is known.
    TargetBitrate(Option<u64>),
    /// Sender: a key frame is needed, by the receiver or because frames had to be dropped.
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

/// What a listening endpoint did about those who want to begin a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admissions {
    /// Handshakes answered.
    pub answered: u64,
    /// Callers asked to prove their address first.
    pub cookies: u64,
    /// Handshakes met with silence because there were too many.
    pub refused: u64,
    /// Sessions now, those included that are not proved yet.
    pub sessions: usize,
    /// Sessions now whose caller has not proved that it has the keys.
    pub unproved: usize,
}

/// The state machine of one UDP socket: sessions with any number of peers.
pub struct Endpoint {
    config: Config,
    random: Box<dyn Random>,
    peers: HashMap<PeerId, Peer>,
    next_peer: u64,
    indices: HashMap<u32, PeerId>,
    cameras: HashMap<String, PeerId>,
    latencies: HashMap<String, Duration>,
    /// Cameras whose newest frame counts alone.
    latest: HashSet<String>,
    /// Sessions whose caller has not proved that it has the keys, the oldest first.
    unproved: BTreeSet<PeerId>,
    gate: Gate,
    /// Who may watch without a key, of those that are accepted without one; `None`: all.
    viewers: Option<Accept>,
    /// What session indices are marked with, where the relay has a key.
    marks: Option<Marks>,
    /// Of callers without keys, and of those that know this relay's.
    macs: (MacKeys, Option<MacKeys>),
    admissions: Admissions,
    memory: usize,
    ready: VecDeque<PeerId>,
    /// Peers of which datagrams came, and when, whose consequences are not seen to yet.
    unsettled: Vec<PeerId>,
    unsettled_at: Time,
    timers: BTreeSet<(Time, PeerId)>,
    loose: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<(PeerId, Event)>,
    rejects: (Time, u32),
    /// When cameras were last told of their shares.
    shared_out: Time,
}

impl Endpoint {
    /// An endpoint that draws its keys and session numbers from `random`.
    pub fn new(config: Config, random: Box<dyn Random>) -> Self {
        let relay = config.identity.as_ref().map(PrivateKey::public);
        Self {
            macs: (MacKeys::new(None), relay.map(|key| MacKeys::new(Some(key)))),
            viewers: None,
            marks: config.identity.as_ref().map(Marks::new),
            config,
            random,
            peers: HashMap::new(),
            next_peer: 0,
            indices: HashMap::new(),
            cameras: HashMap::new(),
            latencies: HashMap::new(),
            latest: HashSet::new(),
            unproved: BTreeSet::new(),
            gate: Gate::new(),
            admissions: Admissions::default(),
            memory: 0,
            ready: VecDeque::new(),
            unsettled: Vec::new(),
            unsettled_at: Time::default(),
            timers: BTreeSet::new(),
            loose: VecDeque::new(),
            events: VecDeque::new(),
            rejects: (Time::default(), 0),
            shared_out: Time::default(),
        }
    }

    /// Changes who may open a session; sessions that are no longer allowed end at once.
    pub fn set_access(&mut self, now: Time, access: Access) {
        self.config.access = Some(access);
        self.close_refused(now);
    }

    /// Changes who may watch without a key, of those that are accepted without one: all, where
    /// nothing is said. Sessions that are no longer allowed end at once.
    pub fn set_viewers(&mut self, now: Time, viewers: Accept) {
        self.viewers = Some(viewers);
        self.close_refused(now);
    }

    /// How long, beyond the one-way delay, frames of this camera may take to become
    /// whole; for cameras that register later too. 120 ms where nothing is said.
    pub fn set_latency(&mut self, camera: &str, latency: Duration) {
        if self.latencies.len() < MAX_SESSIONS || self.latencies.contains_key(camera) {
            self.latencies.insert(camera.into(), latency);
        }
        let session = self
            .cameras
            .get(camera)
            .and_then(|id| self.peers.get_mut(id));
        if let Some(session) = session.and_then(|peer| peer.session.as_mut()) {
            session.set_latency(latency);
        }
    }

    /// What becomes of frames of this camera that are not whole when a newer one is; for cameras
    /// that register later too.
    pub fn set_late_policy(&mut self, camera: &str, policy: LatePolicy) {
        let latest = policy == LatePolicy::Latest;
        if !latest {
            self.latest.remove(camera);
        } else if self.latest.len() < MAX_SESSIONS {
            self.latest.insert(camera.into());
        }
        let session = self
            .cameras
            .get(camera)
            .and_then(|id| self.peers.get_mut(id));
        if let Some(session) = session.and_then(|peer| peer.session.as_mut()) {
            session.set_late_policy(policy);
        }
    }

    /// Calls a relay, again and again until it answers, and again when the session is lost.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn connect(&mut self, now: Time, connect: Connect) -> Result<PeerId, Error> {
        let (Role::Publish { camera } | Role::Watch { camera }) = &connect.role;
        check_name(camera)?;
        let side = Side::Calling(Box::new(peers::Calling {
            connect,
            attempt: None,
            rekey: None,
            attempts: 0,
            proved: false,
            warned: false,
            next_attempt: now,
            recall: false,
            had_session: false,
            caps: BTreeMap::new(),
            up: false,
            accepted: false,
        }));
        let id = self.add_peer(side, None);
        self.touch(now, id);
        Ok(id)
    }

    /// Caller: the relay's address changed (its name resolved anew).
    pub fn set_remote(&mut self, now: Time, peer: PeerId, remote: SocketAddr) {
        let Some(Peer {
            side: Side::Calling(calling),
            ..
        }) = self.peers.get_mut(&peer)
        else {
            return;
        };
        if calling.connect.remote != remote {
            calling.connect.remote = remote;
            calling.next_attempt = now;
            calling.attempts = 0;
            self.touch(now, peer);
        }
    }

    /// Says what the frames of a stream are from now on; starts the stream the first time.
    /// The same caps again are nothing new. Kept and said again after a reconnection.
    ///
    /// # Errors
    /// [`Error::UnknownPeer`], [`Error::BadStream`], [`Error::CapsTooLong`].
    pub fn set_caps(
        &mut self,
        now: Time,
        peer: PeerId,
        stream: u16,
        caps: &str,
    ) -> Result<(), Error> {
        if stream >= MAX_STREAMS {
            return Err(Error::BadStream(stream));
        }
        if caps.len() > MAX_CAPS {
            return Err(Error::CapsTooLong(caps.len()));
        }
        let first = self.draw();
        let entry = self.peers.get_mut(&peer).ok_or(Error::UnknownPeer)?;
        if let Side::Calling(calling) = &mut entry.side {
            calling.caps.insert(stream, caps.into());
        }
        if let Some(session) = &mut entry.session {
            let sent = session.set_caps(stream, caps, first)?;
            self.settle(now, peer, sent);
        }
        Ok(())
    }

    /// Sends a frame; without a session, or with too many waiting, it is dropped and counted.
    ///
    /// # Errors
    /// [`Error::UnknownPeer`], [`Error::BadStream`], [`Error::NoCaps`],
    /// [`Error::EmptyFrame`], [`Error::FrameTooLarge`].
    pub fn send_frame(
        &mut self,
        now: Time,
        peer: PeerId,
        stream: u16,
        frame: Frame,
    ) -> Result<(), Error> {
        let entry = self.peers.get_mut(&peer).ok_or(Error::UnknownPeer)?;
        let (size, limit) = (frame.data.len(), self.config.max_frame_size);
        if stream >= MAX_STREAMS {
            return Err(Error::BadStream(stream));
        }
        if size == 0 {
            return Err(Error::EmptyFrame);
        }
        if size > limit {
            return Err(Error::FrameTooLarge { size, limit });
        }
        let accepted = match &entry.side {
            Side::Calling(calling) if !calling.caps.contains_key(&stream) => {
                return Err(Error::NoCaps(stream));
            }
            Side::Calling(calling) => calling.accepted,
            Side::Listening(_) => true,
        };
        match &mut entry.session {
            Some(session) if accepted => {
                if session.send_frame(now, stream, frame)? {
                    self.event(peer, Event::KeyframeRequested { stream });
                }
            }
            _ => {
                entry.past.frames_captured += 1;
                entry.past.frames_dropped += 1;
            }
        }
        self.touch(now, peer);
        Ok(())
    }

    /// Says that no more frames of this stream will come.
    pub fn end_stream(&mut self, now: Time, peer: PeerId, stream: u16) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        if let Side::Calling(calling) = &mut entry.side {
            calling.caps.remove(&stream);
        }
        if let Some(session) = &mut entry.session {
            let sent = session.end_stream(stream);
            self.settle(now, peer, sent);
        }
    }

    /// Listener: tells a watching peer that there is no such camera now.
    pub fn end_feed(&mut self, now: Time, peer: PeerId, reason: Rejection) {
        self.send_message(now, peer, &Message::FeedEnd(reason));
    }

    /// Receiver: asks the sender for a key frame; requests close together become one.
    pub fn request_keyframe(&mut self, now: Time, peer: PeerId, stream: u16) {
        let session = self
            .peers
            .get_mut(&peer)
            .and_then(|peer| peer.session.as_mut());
        if let Some(session) = session {
            let sent = session.request_keyframe(now, stream);
            self.settle(now, peer, sent);
        }
    }

    /// Ends a session. Frames already handed over are sent first; `Closed` follows once the other
    /// side knows, or soon after.
    pub fn close(&mut self, now: Time, peer: PeerId, reason: Rejection) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        match &mut entry.session {
            Some(session) => {
                session.close(now, reason.clone());
                if let Side::Listening(Listening {
                    role: Some(Role::Publish { camera }),
                    ..
                }) = &entry.side
                {
                    let camera = camera.clone();
                    self.forget_camera(peer, &camera, reason);
                }
                self.touch(now, peer);
            }
            None => self.remove(peer, reason),
        }
    }

    /// Takes one datagram, which is decrypted in place. It `arrived` from the network before `now`,
    /// where it was not read at once: the path is judged by that. Of many that are at hand all are to
    /// be taken before anything is polled.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        arrived: Time,
        from: SocketAddr,
        datagram: &mut [u8],
    ) {
        let Some(header) = Header::decode(datagram) else {
            return;
        };
        match header.kind {
            Kind::Data => self.handle_data([now, arrived], from, header, datagram),
            Kind::HandshakeInit => self.handle_init(now, from, header, datagram),
            Kind::HandshakeResp => self.handle_response(now, header, datagram),
            Kind::Reject => self.handle_reject(now, from, header, datagram),
            Kind::CookieReply => self.handle_cookie(header, datagram),
            Kind::Versions => {}
        }
    }

    /// Carries out what is due. Call it when [`Self::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.settle_all();
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.scheduled = None;
                self.handle_peer_timeout(now, id);
            }
        }
    }

    /// When to call [`Self::handle_timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Time> {
        if !self.unsettled.is_empty() {
            return Some(self.unsettled_at);
        }
        self.timers.first().map(|(at, _)| *at)
    }

    /// Until when datagrams that come may wait to be read without harm, as far as can be told:
    /// a frame is coming packet by packet, lacks many still, and nothing else is to be expected.
    /// `None`: read what comes at once. What is due by [`Self::poll_timeout`] remains so.
    pub fn poll_lull(&self) -> Option<Time> {
        let mut sessions = self
            .peers
            .values()
            .map(|peer| peer.session.as_ref()?.lull());
        let first = sessions.next()??;
        sessions.try_fold(first, |least, one| Some(least.min(one?)))
    }

    /// Writes the next batch of datagrams for one remote, of equal size but for the last,
    /// at most `max_segments`, into `buffer` (cleared first). `None`: nothing to send now.
    pub fn poll_transmit(
        &mut self,
        now: Time,
        max_segments: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        buffer.clear();
        self.settle_all();
        if let Some((remote, datagram)) = self.loose.pop_front() {
            buffer.extend_from_slice(&datagram);
            return Some(Transmit {
                remote,
                segment_size: datagram.len(),
            });
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            peer.ready = false;
            let Some(session) = &mut peer.session else {
                continue;
            };
            if let Some(remote) = session.write_challenge(now, buffer) {
                self.touch(now, id);
                return Some(Transmit {
                    remote,
                    segment_size: buffer.len(),
                });
            }
            let remote = session.remote();
            let written = session.write_batch(now, max_segments.max(1), buffer);
            self.touch(now, id);
            if let Some(segment_size) = written {
                return Some(Transmit {
                    remote,
                    segment_size,
                });
            }
        }
        None
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<(PeerId, Event)> {
        self.settle_all();
        self.events.pop_front()
    }

    /// Bytes of frames held: of those that come, and of those that leave or may have to leave again.
    pub fn memory(&self) -> [usize; 2] {
        let sessions = self.peers.values().filter_map(|peer| peer.session.as_ref());
        [self.memory, sessions.map(Session::send_memory).sum()]
    }

    /// Whether [`Self::poll_event`] has something to tell.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.unsettled.is_empty()
    }

    /// Whether every session that was closed has said so to its other side.
    pub fn has_said_goodbye(&self) -> bool {
        let sessions = self.peers.values().filter_map(|peer| peer.session.as_ref());
        let mut closing = sessions.filter(|session| session.is_closing());
        closing.all(Session::has_said_close)
    }

    /// What a listening endpoint did about those who want to begin a session.
    pub fn admissions(&self) -> Admissions {
        Admissions {
            sessions: self.peers.len(),
            unproved: self.unproved.len(),
            ..self.admissions
        }
    }

    /// Counters of a peer.
    pub fn stats(&self, now: Time, peer: PeerId) -> Option<Stats> {
        let peer = self.peers.get(&peer)?;
        let current = peer.session.as_ref().map(|session| session.stats(now));
        Some(match current {
            Some(current) => peer.past.clone().continued(current),
            None => peer.past.clone(),
        })
    }
}
