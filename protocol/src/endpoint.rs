//! The state machine of one UDP socket.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::access::check_name;
use crate::handshake::{Caller, Established, Initiator, Responder};
use crate::reassembly::Output;
use crate::session::{Broken, Happened, MAX_RECEIVE_MEMORY, Session};
use crate::wire::control::Message;
use crate::wire::header::{HEADER_LEN, Header, Kind};
use crate::{
    Access, CameraToken, Code, Error, Frame, GapReason, MAX_CAPS, MAX_STREAMS, PrivateKey, Random,
    ReceivedFrame, Rejection, Stats, Time,
};

/// Sessions that a listener keeps, at most.
pub(crate) const MAX_SESSIONS: usize = 4096;
/// Sessions whose caller has not yet proved that it has the keys, at most.
pub(crate) const MAX_UNPROVED: usize = 512;
/// Bytes of incoming frames held by all sessions together, at most.
const MAX_TOTAL_MEMORY: usize = 512 << 20;
/// Handshake answers and rejections waiting to leave, at most.
const MAX_LOOSE: usize = 256;
/// Events waiting for [`Endpoint::poll_event`], at most; then the oldest go.
const MAX_EVENTS: usize = 65_536;
/// Rejections sent a second, at most.
const REJECTS_PER_SECOND: u32 = 200;
/// How long an unproved session waits.
const PROOF_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a listener keeps a session that it hears nothing from.
const SESSION_TIMEOUT: Duration = Duration::from_secs(90);
/// After this silence another camera may take a name.
const NAME_FREE_AFTER: Duration = Duration::from_secs(2);
/// Waiting time between two handshake messages: the first, and the most.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_millis(800);
/// Silence after which a caller begins a handshake beside its session.
const RECALL_AFTER: Duration = Duration::from_millis(1500);
/// How long a caller waits after a refusal.
const RETRY_REFUSED: Duration = Duration::from_secs(1);
const RETRY_FORBIDDEN: Duration = Duration::from_secs(5);
/// The latency where nothing was said.
const DEFAULT_LATENCY: Duration = Duration::from_millis(120);

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

/// The caller's side of a peer.
struct Calling {
    connect: Connect,
    attempt: Option<Initiator>,
    attempts: u32,
    next_attempt: Time,
    /// The relay does not know the session: a handshake is due although it is not silent.
    recall: bool,
    caps: BTreeMap<u16, String>,
    /// `Connected` was told and `Disconnected` was not.
    up: bool,
    /// The relay took the registration or the feed request.
    accepted: bool,
}

/// The listener's side of a peer.
struct Listening {
    caller: Caller,
    proved: bool,
    since: Time,
    role: Option<Role>,
}

enum Side {
    Calling(Box<Calling>),
    Listening(Listening),
}

struct Peer {
    side: Side,
    session: Option<Session>,
    scheduled: Option<Time>,
    /// Stands in `ready`.
    ready: bool,
    /// Of earlier sessions.
    past: Stats,
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
    unproved: usize,
    memory: usize,
    ready: VecDeque<PeerId>,
    timers: BTreeSet<(Time, PeerId)>,
    loose: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<(PeerId, Event)>,
    rejects: (Time, u32),
}

impl Endpoint {
    /// An endpoint that draws its keys and session numbers from `random`.
    pub fn new(config: Config, random: Box<dyn Random>) -> Self {
        Self {
            config,
            random,
            peers: HashMap::new(),
            next_peer: 0,
            indices: HashMap::new(),
            cameras: HashMap::new(),
            latencies: HashMap::new(),
            unproved: 0,
            memory: 0,
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            loose: VecDeque::new(),
            events: VecDeque::new(),
            rejects: (Time::default(), 0),
        }
    }

    /// Changes who may open a session; sessions that are no longer allowed end at once.
    pub fn set_access(&mut self, now: Time, access: Access) {
        let refused: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| match (&peer.side, &peer.session) {
                (Side::Listening(listening), Some(session)) => {
                    !allowed(&access, listening, session.remote)
                }
                _ => false,
            })
            .map(|(id, _)| *id)
            .collect();
        self.config.access = Some(access);
        for id in refused {
            let reason = Rejection::new(
                Code::UnknownKey,
                "the relay does not accept this camera any more: ask for a new token",
            );
            self.close(now, id, reason);
        }
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

    /// Calls a relay, again and again until it answers, and again when the session is lost.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn connect(&mut self, now: Time, connect: Connect) -> Result<PeerId, Error> {
        let (Role::Publish { camera } | Role::Watch { camera }) = &connect.role;
        check_name(camera)?;
        let side = Side::Calling(Box::new(Calling {
            connect,
            attempt: None,
            attempts: 0,
            next_attempt: now,
            recall: false,
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
            Some(session) if accepted => session.send_frame(now, stream, frame)?,
            _ => entry.past.frames_dropped += 1,
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

    /// Takes one datagram from the network. It is decrypted in place.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &mut [u8]) {
        let Some(header) = Header::decode(datagram) else {
            return;
        };
        match header.kind {
            Kind::Data => self.handle_data(now, from, header, datagram),
            Kind::HandshakeInit => self.handle_init(now, from, header, datagram),
            Kind::HandshakeResp => self.handle_response(now, from, header, datagram),
            Kind::Reject => self.handle_reject(now, from, header, datagram),
            Kind::CookieReply | Kind::Versions => {}
        }
    }

    /// Carries out what is due. Call it when [`Self::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Time) {
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
        self.timers.first().map(|(at, _)| *at)
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
            let remote = session.remote;
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
        self.events.pop_front()
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

    // Peers.

    fn draw(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.random.fill(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    fn draw_index(&mut self) -> u32 {
        loop {
            let index = self.draw();
            if index != 0 && !self.indices.contains_key(&index) {
                return index;
            }
        }
    }

    fn add_peer(&mut self, side: Side, session: Option<Session>) -> PeerId {
        let id = PeerId(self.next_peer);
        self.next_peer += 1;
        let peer = Peer {
            side,
            session,
            scheduled: None,
            ready: false,
            past: Stats::default(),
        };
        self.peers.insert(id, peer);
        id
    }

    fn event(&mut self, id: PeerId, event: Event) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back((id, event));
    }

    /// Puts a peer where it belongs among those with something to send and those that wait.
    fn touch(&mut self, now: Time, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let mut due = match &peer.side {
            Side::Calling(calling) => calling.wakes(peer.session.as_ref()),
            Side::Listening(listening) => Some(match &peer.session {
                Some(session) if listening.proved => session.expires(SESSION_TIMEOUT),
                _ => listening.since + PROOF_TIMEOUT,
            }),
        };
        if let Some(session) = &peer.session {
            if session.has_output(now) && !std::mem::replace(&mut peer.ready, true) {
                self.ready.push_back(id);
            }
            let session_due = session
                .poll_timeout(now)
                .max(now + Duration::from_micros(200));
            due = Some(due.map_or(session_due, |due| due.min(session_due)));
        }
        if peer.scheduled != due {
            if let Some(at) = peer.scheduled.take() {
                self.timers.remove(&(at, id));
            }
            peer.scheduled = due;
            if let Some(at) = due {
                self.timers.insert((at, id));
            }
        }
    }

    fn send_message(&mut self, now: Time, id: PeerId, message: &Message) {
        let session = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.session.as_mut());
        if let Some(session) = session {
            let sent = session.send_message(message);
            self.settle(now, id, sent);
        }
    }

    /// Ends a session whose other side broke the rules; otherwise sees to its output.
    fn settle(&mut self, now: Time, id: PeerId, result: Result<(), Broken>) {
        let session = self.peers.get(&id).and_then(|peer| peer.session.as_ref());
        if let Some(reason) = session.and_then(|session| session.is_over(now)) {
            return self.remove(id, reason);
        }
        match result {
            Ok(()) => self.touch(now, id),
            Err(Broken) => {
                let reason = Rejection::new(
                    Code::Overloaded,
                    "the other side does not follow the protocol",
                );
                self.lose_session(now, id, reason, RETRY_REFUSED);
            }
        }
    }

    fn handle_peer_timeout(&mut self, now: Time, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if let Some(session) = &mut peer.session {
            let over = session.is_over(now);
            let silence = session.silence(now);
            let silent = session.is_silent(now);
            let before = session.receive_memory();
            let mut happened = Vec::new();
            session.handle_timeout(now);
            let polled = session.poll_streams(now, &mut happened);
            self.memory = self.memory - before + session.receive_memory();
            self.digest(now, id, happened);
            if let Some(reason) = over {
                self.remove(id, reason);
                return;
            }
            if polled.is_err() {
                return self.settle(now, id, polled);
            }
            let lost = match self.peers.get_mut(&id).map(|peer| &mut peer.side) {
                Some(Side::Listening(listening)) if listening.proved => silence >= SESSION_TIMEOUT,
                Some(Side::Listening(listening)) => now.since(listening.since) >= PROOF_TIMEOUT,
                Some(Side::Calling(calling)) if silent && calling.up => {
                    calling.up = false;
                    self.event(id, Event::Disconnected(unheard()));
                    false
                }
                _ => false,
            };
            if lost {
                self.remove(id, unheard());
                return;
            }
        }
        self.call(now, id);
        self.touch(now, id);
    }

    /// Gives up a peer's session: a listener's peer goes with it, a caller's tries again.
    fn lose_session(&mut self, now: Time, id: PeerId, reason: Rejection, retry: Duration) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Side::Calling(calling) = &mut peer.side else {
            return self.remove(id, reason);
        };
        if let Some(session) = peer.session.take() {
            if session.is_closing() {
                peer.session = Some(session);
                return self.remove(id, reason);
            }
            self.indices.remove(&session.local_index());
            self.memory -= session.receive_memory();
            peer.past = std::mem::take(&mut peer.past).continued(session.stats(now));
        }
        let was_up = std::mem::replace(&mut calling.up, false);
        // A refusal is news even before the session was up; told once for each attempt.
        let refused = calling.attempt.is_some() || !calling.accepted;
        calling.accepted = false;
        calling.attempts = 0;
        calling.next_attempt = now + retry;
        if let Some(attempt) = calling.attempt.take() {
            self.indices.remove(&attempt.index);
        }
        if was_up || refused {
            self.event(id, Event::Disconnected(reason));
        }
        self.touch(now, id);
    }

    fn remove(&mut self, id: PeerId, reason: Rejection) {
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        if let Some(at) = peer.scheduled {
            self.timers.remove(&(at, id));
        }
        if let Some(session) = &peer.session {
            self.indices.remove(&session.local_index());
            self.memory -= session.receive_memory();
        }
        match peer.side {
            Side::Calling(calling) => {
                if let Some(attempt) = calling.attempt {
                    self.indices.remove(&attempt.index);
                }
            }
            Side::Listening(listening) if !listening.proved => {
                self.unproved -= 1;
                return;
            }
            Side::Listening(listening) => {
                if let Some(Role::Publish { camera }) = listening.role {
                    self.forget_camera(id, &camera, reason.clone());
                }
            }
        }
        self.event(id, Event::Closed(reason));
    }

    fn forget_camera(&mut self, id: PeerId, camera: &str, reason: Rejection) {
        if self.cameras.get(camera) == Some(&id) {
            self.cameras.remove(camera);
            self.event(
                id,
                Event::CameraRemoved {
                    camera: camera.into(),
                    reason,
                },
            );
        }
    }

    // Handshakes.

    /// Caller: begins or repeats a handshake if one is due.
    fn call(&mut self, now: Time, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let Side::Calling(calling) = &peer.side else {
            return;
        };
        if !calling
            .wakes(peer.session.as_ref())
            .is_some_and(|at| at <= now)
        {
            return;
        }
        let token = calling.connect.token.clone();
        let index = match &calling.attempt {
            Some(attempt) => attempt.index,
            None => self.draw_index(),
        };
        let fresh = Initiator::new(token.as_ref(), index, &mut *self.random);
        let Some(Peer {
            side: Side::Calling(calling),
            ..
        }) = self.peers.get_mut(&id)
        else {
            return;
        };
        // The same message again: its answer may be under way.
        let attempt = calling.attempt.get_or_insert(fresh);
        let (remote, init) = (calling.connect.remote, attempt.init.clone());
        let wait = (FIRST_RETRY * 2u32.saturating_pow(calling.attempts)).min(LAST_RETRY);
        calling.attempts = (calling.attempts + 1).min(8);
        calling.next_attempt = now + wait;
        self.indices.insert(index, id);
        self.send_loose(remote, init);
    }

    fn send_loose(&mut self, remote: SocketAddr, datagram: Vec<u8>) {
        if self.loose.len() < MAX_LOOSE {
            self.loose.push_back((remote, datagram));
        }
    }

    /// Says, rarely and briefly, that a datagram was refused; echoes its header.
    fn reject(&mut self, now: Time, to: SocketAddr, code: Code, datagram: &[u8]) {
        if now.since(self.rejects.0) >= Duration::from_secs(1) {
            self.rejects = (now, 0);
        }
        let Some(echo) = datagram.get(..HEADER_LEN) else {
            return;
        };
        if self.rejects.1 < REJECTS_PER_SECOND {
            self.rejects.1 += 1;
            let header = Header {
                kind: Kind::Reject,
                suite: 0,
                index: 0,
                packet_number: 0,
            };
            let mut out = header.encode().to_vec();
            out.extend_from_slice(&(code as u16).to_be_bytes());
            out.extend_from_slice(echo);
            self.send_loose(to, out);
        }
    }

    fn handle_init(&mut self, now: Time, from: SocketAddr, _header: Header, datagram: &[u8]) {
        let Some(access) = &self.config.access else {
            return;
        };
        if self.unproved >= MAX_UNPROVED
            || self.peers.len() >= MAX_SESSIONS
            || self.loose.len() >= MAX_LOOSE
        {
            return;
        }
        let responder = Responder::read(datagram, self.config.identity.as_ref(), &mut *self.random);
        let Some(responder) = responder else { return };
        let caller = responder.caller;
        let psk = match caller {
            Caller::Anonymous if access.accept.allows(from.ip()) => None,
            Caller::Anonymous => return self.reject(now, from, Code::SecurityRequired, datagram),
            Caller::Keyed(key) => match access.find(key) {
                Some(known) => Some(known.psk),
                None => return self.reject(now, from, Code::UnknownKey, datagram),
            },
        };
        let index = self.draw_index();
        let Some((response, established)) = responder.answer(psk.as_ref(), index) else {
            return;
        };
        let session = Session::new(
            now,
            from,
            established,
            false,
            0,
            DEFAULT_LATENCY,
            self.config.max_frame_size,
        );
        let side = Side::Listening(Listening {
            caller,
            proved: false,
            since: now,
            role: None,
        });
        let id = self.add_peer(side, Some(session));
        self.unproved += 1;
        self.indices.insert(index, id);
        self.send_loose(from, response);
        // Nothing is sent on a session before its caller has proved itself.
        let expires = now + PROOF_TIMEOUT;
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.scheduled = Some(expires);
            self.timers.insert((expires, id));
        }
    }

    fn handle_response(&mut self, now: Time, from: SocketAddr, header: Header, datagram: &[u8]) {
        let Some(id) = self.indices.get(&header.index).copied() else {
            return;
        };
        let first = self.draw();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Side::Calling(calling) = &mut peer.side else {
            return;
        };
        let Some(attempt) = calling
            .attempt
            .take_if(|attempt| attempt.index == header.index)
        else {
            return;
        };
        match attempt.finish(datagram) {
            Err(attempt) => calling.attempt = Some(attempt),
            Ok(established) => self.established(now, id, from, established, first),
        }
    }

    /// Caller: a new session replaces the old one, if any, and takes up its role.
    fn established(
        &mut self,
        now: Time,
        id: PeerId,
        from: SocketAddr,
        established: Established,
        first: u32,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Side::Calling(calling) = &mut peer.side else {
            return;
        };
        let Connect { latency, mtu, .. } = calling.connect;
        let mut session = Session::new(
            now,
            from,
            established,
            true,
            mtu,
            latency,
            self.config.max_frame_size,
        );
        let latency_ms = u16::try_from(latency.as_millis()).unwrap_or(u16::MAX);
        let request = match &calling.connect.role {
            Role::Publish { camera } => Message::Register {
                camera: camera.clone(),
                latency_ms,
            },
            Role::Watch { camera } => Message::FeedRequest {
                camera: camera.clone(),
                latency_ms,
            },
        };
        // A watcher is served from its request on; a camera waits until it is registered.
        calling.accepted = matches!(calling.connect.role, Role::Watch { .. });
        calling.attempts = 0;
        calling.recall = false;
        let mut sent = session.send_message(&request);
        for (stream, caps) in &calling.caps {
            if let Ok(result) = session.set_caps(*stream, caps, first) {
                sent = sent.and(result);
            }
        }
        let was_up = std::mem::replace(&mut calling.up, calling.accepted);
        let up = calling.up;
        if let Some(old) = peer.session.replace(session) {
            self.indices.remove(&old.local_index());
            self.memory -= old.receive_memory();
            peer.past = std::mem::take(&mut peer.past).continued(old.stats(now));
            peer.past.reconnects += 1;
        }
        if was_up {
            self.event(
                id,
                Event::Disconnected(Rejection::new(Code::Gone, "the relay was restarted")),
            );
        }
        if up {
            self.event(id, Event::Connected);
        }
        self.settle(now, id, sent);
    }

    fn handle_reject(&mut self, now: Time, from: SocketAddr, _header: Header, datagram: &[u8]) {
        let Some(&[c1, c0]) = datagram.get(HEADER_LEN..HEADER_LEN + 2) else {
            return;
        };
        let Some(echo) = datagram.get(HEADER_LEN + 2..).and_then(Header::decode) else {
            return;
        };
        let Some(code) = Code::from_u16(u16::from_be_bytes([c1, c0])) else {
            return;
        };
        // A hint, not proof: the echo shows that it comes from someone who sees our packets; it
        // may hasten a handshake or delay one, and does not end a session.
        match echo.kind {
            Kind::HandshakeInit => {
                let Some(id) = self.indices.get(&echo.index).copied() else {
                    return;
                };
                let Some(peer) = self.peers.get(&id) else {
                    return;
                };
                let Side::Calling(calling) = &peer.side else {
                    return;
                };
                let ours = calling.connect.remote == from
                    && calling
                        .attempt
                        .as_ref()
                        .is_some_and(|attempt| attempt.index == echo.index);
                if ours && peer.session.is_none() {
                    let retry = if code.is_transient() {
                        RETRY_REFUSED
                    } else {
                        RETRY_FORBIDDEN
                    };
                    self.lose_session(now, id, refusal(code), retry);
                }
            }
            Kind::Data => {
                let found = self.peers.iter_mut().find_map(|(id, peer)| {
                    match (&mut peer.side, &peer.session) {
                        (Side::Calling(calling), Some(session))
                            if session.remote == from && session.remote_index() == echo.index =>
                        {
                            Some((*id, calling, session.is_closing()))
                        }
                        _ => None,
                    }
                });
                match found {
                    Some((id, _, true)) => {
                        self.remove(id, Rejection::new(Code::Done, "the relay is gone"))
                    }
                    Some((id, calling, false)) if calling.attempt.is_none() => {
                        calling.next_attempt = now;
                        calling.attempts = 0;
                        calling.recall = true;
                        self.call(now, id);
                        self.touch(now, id);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    // Sessions.

    fn handle_data(&mut self, now: Time, from: SocketAddr, header: Header, datagram: &mut [u8]) {
        let room = MAX_TOTAL_MEMORY.saturating_sub(self.memory);
        let peer = self
            .indices
            .get(&header.index)
            .and_then(|id| Some((*id, self.peers.get_mut(id)?)));
        let Some((
            id,
            Peer {
                session: Some(session),
                ..
            },
        )) = peer
        else {
            // Only one who can have had a session is told that there is none.
            if self.config.access.is_some() {
                self.reject(now, from, Code::Gone, datagram);
            }
            return;
        };
        let before = session.receive_memory();
        let room = room.min(MAX_RECEIVE_MEMORY.saturating_sub(before));
        let mut happened = Vec::new();
        let result = session.handle_data(
            now,
            from,
            header.packet_number,
            datagram,
            room,
            &mut happened,
        );
        self.memory = self.memory - before + session.receive_memory();
        if matches!(result, Ok(false)) {
            return;
        }
        if let Some(Peer {
            side: Side::Listening(listening),
            ..
        }) = self.peers.get_mut(&id)
        {
            if !std::mem::replace(&mut listening.proved, true) {
                self.unproved -= 1;
            }
        }
        self.revive(id);
        self.digest(now, id, happened);
        self.settle(now, id, result.map(|_| ()));
    }

    /// Caller: a session thought lost is heard again.
    fn revive(&mut self, id: PeerId) {
        let Some(Peer {
            side: Side::Calling(calling),
            session: Some(_),
            ..
        }) = self.peers.get_mut(&id)
        else {
            return;
        };
        if calling.accepted && !calling.up {
            calling.up = true;
            self.event(id, Event::Connected);
        }
    }

    /// Carries out what a session reported.
    fn digest(&mut self, now: Time, id: PeerId, happened: Vec<Happened>) {
        for happened in happened {
            match happened {
                Happened::Stream { stream, output } => {
                    let event = match output {
                        Output::Caps { generation, caps } => Event::Caps {
                            stream,
                            generation,
                            caps,
                        },
                        Output::Frame(frame) => Event::Frame(frame),
                        Output::Gap { frames, reason } => Event::Gap {
                            stream,
                            frames,
                            reason,
                        },
                        Output::Ended => Event::StreamEnded { stream },
                    };
                    self.event(id, event);
                }
                Happened::Message(message) => self.handle_message(now, id, message),
            }
        }
    }

    fn handle_message(&mut self, now: Time, id: PeerId, message: Message) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        match (message, &mut peer.side) {
            (Message::Register { camera, latency_ms }, Side::Listening(listening))
                if listening.role.is_none() =>
            {
                self.register(now, id, camera, latency_ms);
            }
            (Message::FeedRequest { camera, latency_ms }, Side::Listening(listening))
                if listening.role.is_none() =>
            {
                self.request_feed(now, id, camera, latency_ms);
            }
            (Message::Registered { latency_ms: _ }, Side::Calling(calling)) => {
                calling.accepted = true;
                self.revive(id);
            }
            (Message::FeedEnd(reason), Side::Calling(_)) => {
                self.event(id, Event::FeedEnded(reason))
            }
            (Message::KeyframeRequest { stream }, _) => {
                self.event(id, Event::KeyframeRequested { stream })
            }
            (Message::Close(reason), Side::Listening(_)) => {
                self.acknowledge(now, id);
                self.remove(id, reason);
            }
            (Message::Close(reason), Side::Calling(_)) => {
                self.acknowledge(now, id);
                let retry = if reason.code.is_transient() || reason.code == Code::Done {
                    RETRY_REFUSED
                } else {
                    RETRY_FORBIDDEN
                };
                self.lose_session(now, id, reason, retry);
            }
            // The rest has no meaning from that side.
            _ => {}
        }
    }

    /// Sends what acknowledges a CLOSE before the session goes.
    fn acknowledge(&mut self, now: Time, id: PeerId) {
        let Some(session) = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.session.as_mut())
        else {
            return;
        };
        let mut datagram = Vec::new();
        if session.has_output(now) && session.write_batch(now, 1, &mut datagram).is_some() {
            let remote = session.remote;
            self.send_loose(remote, datagram);
        }
    }

    /// Whether the peer may serve or watch a camera of that name, and its caller.
    fn check_camera(&self, id: PeerId, camera: &str) -> Result<Caller, Rejection> {
        let side = self.peers.get(&id).map(|peer| &peer.side);
        let (Some(Side::Listening(listening)), Some(access)) = (side, &self.config.access) else {
            return Err(refusal(Code::UnknownKey));
        };
        match listening.caller {
            Caller::Keyed(key) => match access.find(key) {
                None => Err(refusal(Code::UnknownKey)),
                Some(known) if known.may_use(camera) => Ok(listening.caller),
                Some(known) => Err(Rejection::new(
                    Code::NameNotAllowed,
                    format!(
                        "this key may not use the name '{camera}', only {}",
                        known.names().join(", ")
                    ),
                )),
            },
            Caller::Anonymous => Ok(listening.caller),
        }
    }

    fn register(&mut self, now: Time, id: PeerId, camera: String, latency_ms: u16) {
        let Some(remote) = self
            .peers
            .get(&id)
            .and_then(|p| p.session.as_ref())
            .map(|s| s.remote)
        else {
            return;
        };
        match self.take_name(now, id, &camera, remote) {
            Ok(replaced) => {
                if let Some(old) = replaced {
                    self.close(now, old, Rejection::new(
                        Code::Replaced,
                        format!("another camera took the name '{camera}': give each camera a name of its own"),
                    ));
                }
                let asked = Duration::from_millis(latency_ms.into());
                let latency = asked.max(
                    self.latencies
                        .get(&camera)
                        .copied()
                        .unwrap_or(DEFAULT_LATENCY),
                );
                if let Some(peer) = self.peers.get_mut(&id) {
                    if let Side::Listening(listening) = &mut peer.side {
                        listening.role = Some(Role::Publish {
                            camera: camera.clone(),
                        });
                    }
                    if let Some(session) = &mut peer.session {
                        session.set_latency(latency);
                    }
                }
                self.cameras.insert(camera.clone(), id);
                self.event(id, Event::CameraAdded { camera, remote });
                let latency_ms = u16::try_from(latency.as_millis()).unwrap_or(u16::MAX);
                self.send_message(now, id, &Message::Registered { latency_ms });
            }
            Err(reason) => {
                self.event(
                    id,
                    Event::CameraRejected {
                        camera,
                        remote,
                        reason: reason.clone(),
                    },
                );
                self.close(now, id, reason);
            }
        }
    }

    /// Whether the peer may have the name, and who has it now and must go.
    fn take_name(
        &self,
        now: Time,
        id: PeerId,
        camera: &str,
        remote: SocketAddr,
    ) -> Result<Option<PeerId>, Rejection> {
        let caller = self.check_camera(id, camera)?;
        let known = self.config.access.iter().flat_map(|access| &access.known);
        let reserved = known
            .flat_map(|known| known.names())
            .any(|name| name == camera);
        if caller == Caller::Anonymous && reserved {
            return Err(Rejection::new(
                Code::SecurityRequired,
                format!("the name '{camera}' belongs to a key: give this camera its token"),
            ));
        }
        let Some(holder) = self.cameras.get(camera) else {
            return Ok(None);
        };
        let Some(Peer {
            side: Side::Listening(listening),
            session: Some(session),
            ..
        }) = self.peers.get(holder)
        else {
            return Ok(None);
        };
        let same = listening.caller == caller
            && (caller != Caller::Anonymous || session.remote.ip() == remote.ip());
        if same || session.silence(now) >= NAME_FREE_AFTER {
            return Ok(Some(*holder));
        }
        Err(Rejection::new(
            Code::NameInUse,
            format!(
                "a camera at {} uses the name '{camera}': choose another",
                session.remote.ip()
            ),
        ))
    }

    fn request_feed(&mut self, now: Time, id: PeerId, camera: String, _latency_ms: u16) {
        match self.check_camera(id, &camera) {
            Ok(_) => {
                if let Some(Peer {
                    side: Side::Listening(listening),
                    ..
                }) = self.peers.get_mut(&id)
                {
                    listening.role = Some(Role::Watch {
                        camera: camera.clone(),
                    });
                }
                self.event(id, Event::WatchRequested { camera });
            }
            Err(reason) => self.close(now, id, reason),
        }
    }
}

impl Calling {
    /// When the next handshake message is due; `None` while the session is well.
    fn wakes(&self, session: Option<&Session>) -> Option<Time> {
        match session {
            Some(session) if session.is_closing() => None,
            Some(_) if self.recall => Some(self.next_attempt),
            Some(session) => Some(self.next_attempt.max(session.expires(RECALL_AFTER))),
            None => Some(self.next_attempt),
        }
    }
}

fn allowed(access: &Access, listening: &Listening, remote: SocketAddr) -> bool {
    match listening.caller {
        Caller::Anonymous => access.accept.allows(remote.ip()),
        Caller::Keyed(key) => access.find(key).is_some_and(|known| match &listening.role {
            Some(Role::Publish { camera } | Role::Watch { camera }) => known.may_use(camera),
            None => true,
        }),
    }
}

fn unheard() -> Rejection {
    Rejection::new(
        Code::PathLost,
        "nothing is heard from the other side: is it running, and does the network between carry UDP?",
    )
}

/// The sentence for a refusal that came without one.
fn refusal(code: Code) -> Rejection {
    let text = match code {
        Code::UnknownKey => {
            "the relay does not know this camera's key: add it with 'launcher keys add'"
        }
        Code::SecurityRequired => {
            "the relay accepts no camera without a key from this address: give the camera a token"
        }
        Code::TooMany => "the relay is busy: too many requests",
        Code::Overloaded => "the relay has no room for more",
        _ => "the relay refused",
    };
    Rejection::new(code, text)
}
