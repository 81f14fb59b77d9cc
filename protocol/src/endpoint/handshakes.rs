//! Handshakes on both sides, and the hints that come instead of answers.

use std::net::SocketAddr;
use std::time::Duration;

use super::gate::{Admission, network};
use super::peers::{Listening, PROOF_TIMEOUT, Peer, RETRY_REFUSED, Side};
use super::{Connect, Endpoint, Event, MAX_SESSIONS, PeerId, Role};
use crate::handshake::{Caller, Established, Finished, Initiator, Responder};
use crate::session::{Session, Terms};
use crate::wire::control::Message;
use crate::wire::header::{HEADER_LEN, Header, Kind};
use crate::{Code, Rejection, Time};

/// Sessions whose caller has not yet proved that it has the keys, at most.
const MAX_UNPROVED: usize = 512;
/// Of all sessions, places that only callers with a key take.
pub(super) const PLACES_FOR_KEYS: usize = 1024;
/// Sessions of one address (IPv6: of one /64) without a key, at most.
pub(super) const MAX_OF_ADDRESS: usize = 1024;
/// Handshake answers and rejections waiting to leave, at most.
const MAX_LOOSE: usize = 256;
/// Of those, places that only answers to handshakes take.
const ANSWERS_ONLY: usize = 64;
/// Bytes of a rejection: its header, a code, and the header that it echoes.
const REJECT_LEN: usize = HEADER_LEN + 2 + HEADER_LEN;
/// Rejections sent a second, at most.
const REJECTS_PER_SECOND: u32 = 200;
/// Waiting time between two handshake messages: the first, and the most.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_millis(800);
/// How long a caller waits after a refusal that only a person can lift.
pub(super) const RETRY_FORBIDDEN: Duration = Duration::from_secs(5);
/// The latency where nothing was said.
pub(super) const DEFAULT_LATENCY: Duration = Duration::from_millis(120);

impl Endpoint {
    /// Caller: begins or repeats a handshake if one is due.
    pub(super) fn call(&mut self, now: Time, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let Side::Calling(calling) = &peer.side else {
            return;
        };
        if calling
            .wakes(peer.session.as_ref())
            .is_none_or(|at| at > now)
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
        (calling.proved, calling.warned) = (false, false);
        calling.next_attempt = now + wait;
        self.indices.insert(index, id);
        self.send_loose(remote, init);
    }

    pub(super) fn send_loose(&mut self, remote: SocketAddr, datagram: Vec<u8>) {
        if self.loose.len() < MAX_LOOSE {
            self.loose.push_back((remote, datagram));
        }
    }

    /// Says, rarely and briefly, that a datagram was refused; echoes its header. Never longer than
    /// that datagram.
    pub(super) fn reject(&mut self, now: Time, to: SocketAddr, code: Code, datagram: &[u8]) {
        if now.since(self.rejects.0) >= Duration::from_secs(1) {
            self.rejects = (now, 0);
        }
        let Some(echo) = datagram
            .get(..HEADER_LEN)
            .filter(|_| datagram.len() >= REJECT_LEN)
        else {
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

    pub(super) fn handle_init(
        &mut self,
        now: Time,
        from: SocketAddr,
        header: Header,
        datagram: &[u8],
    ) {
        let Some(access) = &self.config.access else {
            return;
        };
        let keyed = header.is_keyed();
        let macs = if keyed {
            self.macs.1.as_ref()
        } else {
            Some(&self.macs.0)
        };
        let Some((macs, init)) = macs.and_then(|macs| Some((macs, macs.read(datagram)?))) else {
            return;
        };
        if !keyed && !access.accept.allows(from.ip()) {
            return self.reject(now, from, Code::SecurityRequired, datagram);
        }
        if self.loose.len() >= MAX_LOOSE {
            self.admissions.refused += 1;
            return;
        }
        let unproved = self.unproved.len();
        match self
            .gate
            .admit(now, from, &init, unproved, &mut *self.random)
        {
            Admission::Welcome => {}
            Admission::Prove(cookie) if self.loose.len() + ANSWERS_ONLY < MAX_LOOSE => {
                let mut nonce = [0; 12];
                self.random.fill(&mut nonce);
                let reply = macs.seal(&init, &cookie, nonce);
                self.admissions.cookies += 1;
                return self.send_loose(from, reply);
            }
            Admission::Prove(_) | Admission::Refused => {
                self.admissions.refused += 1;
                return;
            }
        }
        let responder = Responder::read(&init, self.config.identity.as_ref(), &mut *self.random);
        let Some(responder) = responder else { return };
        let caller = responder.caller;
        self.admissions.answered += 1;
        let psk = match caller {
            Caller::Anonymous => None,
            Caller::Keyed(key) => match access.find(key) {
                Some(known) => Some(known.psk),
                None => {
                    let refusal = responder.refuse(Code::UnknownKey);
                    return refusal
                        .into_iter()
                        .for_each(|refusal| self.send_loose(from, refusal));
                }
            },
        };
        // Who has the keys proves it within a round trip: the oldest of the others has had most.
        if self.unproved.len() >= MAX_UNPROVED
            && let Some(oldest) = self.unproved.first().copied()
        {
            self.remove(oldest, refusal(Code::TooMany));
        }
        if !self.has_place(caller, from) {
            return self.reject(now, from, Code::TooMany, datagram);
        }
        let index = self.draw_index();
        let Some((response, established)) = responder.answer(psk.as_ref(), index) else {
            return;
        };
        let terms = Terms {
            remote: from,
            caller: false,
            mtu: 0,
            latency: DEFAULT_LATENCY,
            max_frame_size: self.config.max_frame_size,
            secret: self.draw_secret(),
        };
        let session = Session::new(now, established, terms);
        let side = Side::Listening(Listening {
            caller,
            proved: false,
            since: now,
            role: None,
        });
        let id = self.add_peer(side, Some(session));
        self.unproved.insert(id);
        self.indices.insert(index, id);
        self.send_loose(from, response);
        // Nothing is sent on a session before its caller has proved itself.
        let expires = now + PROOF_TIMEOUT;
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.scheduled = Some(expires);
            self.timers.insert((expires, id));
        }
    }

    /// Whether there is a place for one more session: without keys nobody takes the last ones, nor
    /// one address most of the others.
    pub(super) fn has_place(&self, caller: Caller, from: SocketAddr) -> bool {
        if caller != Caller::Anonymous {
            return self.peers.len() < MAX_SESSIONS;
        }
        let same_network = |peer: &&Peer| {
            let remote = peer.session.as_ref().map(Session::remote);
            remote.is_some_and(|remote| network(remote.ip()) == network(from.ip()))
        };
        self.peers.len() < MAX_SESSIONS - PLACES_FOR_KEYS
            && self.peers.values().filter(same_network).count() < MAX_OF_ADDRESS
    }

    /// Takes an answer, from wherever it comes: who answers has what was sent to the relay's address,
    /// so that is where the session is.
    pub(super) fn handle_response(&mut self, now: Time, header: Header, datagram: &[u8]) {
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
            Err(attempt) => calling.attempt = Some(*attempt),
            Ok(Finished::Established(established)) => {
                self.established(now, id, *established, first)
            }
            Ok(Finished::Refused(code)) => {
                self.indices.remove(&header.index);
                self.lose_session(now, id, refusal(code), RETRY_FORBIDDEN);
            }
        }
    }

    /// Caller: repeats its handshake message with the cookie that it is sent, once for each
    /// time that the message was due by itself.
    pub(super) fn handle_cookie(&mut self, header: Header, datagram: &[u8]) {
        let id = self.indices.get(&header.index);
        let Some(Peer {
            side: Side::Calling(calling),
            ..
        }) = id.and_then(|id| self.peers.get_mut(id))
        else {
            return;
        };
        let attempt = calling.attempt.as_mut();
        if let Some(attempt) = attempt.filter(|attempt| attempt.index == header.index)
            && !calling.proved
            && attempt.take_cookie(datagram)
        {
            calling.proved = true;
            let (remote, init) = (calling.connect.remote, attempt.init.clone());
            self.send_loose(remote, init);
        }
    }

    /// Caller: a new session replaces the old one, if any, and takes up its role.
    pub(super) fn established(
        &mut self,
        now: Time,
        id: PeerId,
        established: Established,
        first: u32,
    ) {
        let secret = self.draw_secret();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Side::Calling(calling) = &mut peer.side else {
            return;
        };
        let Connect {
            remote,
            latency,
            mtu,
            ..
        } = calling.connect;
        let terms = Terms {
            remote,
            caller: true,
            mtu,
            latency,
            max_frame_size: self.config.max_frame_size,
            secret,
        };
        let mut session = Session::new(now, established, terms);
        session.set_late_policy(calling.connect.late_policy);
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
        let again = std::mem::replace(&mut calling.had_session, true);
        let mut sent = session.send_message(&request);
        for (stream, caps) in &calling.caps {
            if let Ok(result) = session.set_caps(*stream, caps, first) {
                sent = sent.and(result);
            }
        }
        let was_up = std::mem::replace(&mut calling.up, calling.accepted);
        let up = calling.up;
        if let Some(rekey) = calling.rekey.take() {
            self.indices.remove(&rekey.index);
        }
        if let Some(old) = peer.session.replace(session) {
            for index in old.indices() {
                self.indices.remove(&index);
            }
            self.memory -= old.receive_memory();
            peer.past = std::mem::take(&mut peer.past).continued(old.stats(now));
        }
        peer.past.reconnects += u64::from(again);
        if was_up {
            self.event(
                id,
                Event::Disconnected(Rejection::new(
                    Code::Gone,
                    "the relay was restarted, or nothing of it was heard for long",
                )),
            );
        }
        if up {
            self.event(id, Event::Connected);
        }
        self.settle(now, id, sent);
    }

    pub(super) fn handle_reject(
        &mut self,
        now: Time,
        from: SocketAddr,
        _header: Header,
        datagram: &[u8],
    ) {
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
        // may hasten a handshake or delay one, and ends nothing.
        match echo.kind {
            Kind::HandshakeInit => self.handle_refusal(now, from, echo.index, code),
            Kind::Data => self.handle_unknown(now, from, echo.index),
            _ => {}
        }
    }

    /// The relay may not want us: ask less often, but take its answer if there is one. Whose
    /// session is heard has better to go by.
    fn handle_refusal(&mut self, now: Time, from: SocketAddr, index: u32, code: Code) {
        let Some(id) = self.indices.get(&index).copied() else {
            return;
        };
        let Some(Peer {
            side: Side::Calling(calling),
            ..
        }) = self.peers.get_mut(&id)
        else {
            return;
        };
        let attempt = calling.attempt.as_ref();
        let ours = !calling.up && attempt.is_some_and(|attempt| attempt.index == index);
        if !ours || calling.connect.remote != from || std::mem::replace(&mut calling.warned, true) {
            return;
        }
        let wait = match code.is_transient() {
            true => RETRY_REFUSED,
            false => RETRY_FORBIDDEN,
        };
        calling.next_attempt = now + wait;
        self.event(id, Event::Refused(refusal(code)));
        self.touch(now, id);
    }

    /// The relay may not know the session: begin another beside it.
    fn handle_unknown(&mut self, now: Time, from: SocketAddr, index: u32) {
        let found =
            self.peers
                .iter_mut()
                .find_map(|(id, peer)| match (&mut peer.side, &peer.session) {
                    (Side::Calling(calling), Some(session))
                        if session.remote() == from && session.remote_index() == index =>
                    {
                        Some((*id, calling, session))
                    }
                    _ => None,
                });
        match found {
            Some((id, _, session)) if session.has_said_close() => {
                self.remove(id, Rejection::new(Code::Done, "the relay is gone"));
            }
            Some((id, calling, session)) if calling.attempt.is_none() && !session.is_closing() => {
                calling.next_attempt = now;
                calling.attempts = 0;
                calling.recall = true;
                self.call(now, id);
                self.touch(now, id);
            }
            _ => {}
        }
    }
}

/// The sentence for a refusal that came without one.
pub(super) fn refusal(code: Code) -> Rejection {
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
