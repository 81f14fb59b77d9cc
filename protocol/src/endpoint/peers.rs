//! Peers: their life from the first handshake to the end, and their timers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Connect, Endpoint, Event, PeerId, Role};
use crate::handshake::{Caller, Initiator};
use crate::session::{Broken, Session};
use crate::wire::control::Message;
use crate::{Code, Rejection, Stats, Time};

/// Events waiting for [`Endpoint::poll_event`], at most; then the oldest go.
const MAX_EVENTS: usize = 65_536;
/// How long an unproved session waits.
pub(super) const PROOF_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a session lasts whose caller does not say what for.
pub(super) const ROLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a listener keeps a session that it hears nothing from.
const SESSION_TIMEOUT: Duration = Duration::from_secs(90);
/// Silence after which a caller begins a handshake beside its session.
const RECALL_AFTER: Duration = Duration::from_millis(1500);
/// How long a caller waits after a refusal.
pub(super) const RETRY_REFUSED: Duration = Duration::from_secs(1);

/// The caller's side of a peer.
pub(super) struct Calling {
    pub(super) connect: Connect,
    pub(super) attempt: Option<Initiator>,
    /// A handshake inside the session, for its next keys.
    pub(super) rekey: Option<Initiator>,
    pub(super) attempts: u32,
    /// A cookie was answered since the handshake message was last repeated.
    pub(super) proved: bool,
    /// A refusal was told since then.
    pub(super) warned: bool,
    pub(super) next_attempt: Time,
    /// The relay does not know the session: a handshake is due although it is not silent.
    pub(super) recall: bool,
    pub(super) had_session: bool,
    pub(super) caps: BTreeMap<u16, String>,
    /// `Connected` was told and `Disconnected` was not.
    pub(super) up: bool,
    /// The relay took the registration or the feed request.
    pub(super) accepted: bool,
}

/// The listener's side of a peer.
pub(super) struct Listening {
    pub(super) caller: Caller,
    pub(super) proved: bool,
    pub(super) since: Time,
    pub(super) role: Option<Role>,
}

impl Listening {
    /// When it ends where nothing is made of it.
    fn ends(&self) -> Time {
        self.since
            + match self.proved {
                true => ROLE_TIMEOUT,
                false => PROOF_TIMEOUT,
            }
    }
}

pub(super) enum Side {
    Calling(Box<Calling>),
    Listening(Listening),
}

pub(super) struct Peer {
    pub(super) side: Side,
    pub(super) session: Option<Session>,
    pub(super) scheduled: Option<Time>,
    /// Stands in `ready`.
    pub(super) ready: bool,
    /// Stands in `unsettled`.
    pub(super) unsettled: bool,
    /// The target bitrate told last.
    pub(super) told_bitrate: Option<u64>,
    /// Of earlier sessions.
    pub(super) past: Stats,
}

impl Endpoint {
    pub(super) fn draw(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.random.fill(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    pub(super) fn draw_secret(&mut self) -> [u8; 32] {
        let mut secret = [0; 32];
        self.random.fill(&mut secret);
        secret
    }

    pub(super) fn draw_index(&mut self) -> u32 {
        loop {
            let drawn = self.draw();
            let index = self.marks.as_ref().map_or(drawn, |marks| marks.mark(drawn));
            if index != 0 && !self.indices.contains_key(&index) {
                return index;
            }
        }
    }

    pub(super) fn add_peer(&mut self, side: Side, session: Option<Session>) -> PeerId {
        let id = PeerId(self.next_peer);
        self.next_peer += 1;
        let peer = Peer {
            side,
            session,
            scheduled: None,
            ready: false,
            unsettled: false,
            told_bitrate: None,
            past: Stats::default(),
        };
        self.peers.insert(id, peer);
        id
    }

    pub(super) fn event(&mut self, id: PeerId, event: Event) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back((id, event));
    }

    /// Puts a peer where it belongs among those with something to send and those that wait.
    pub(super) fn touch(&mut self, now: Time, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let mut due = match &peer.side {
            Side::Calling(calling) => calling.wakes(peer.session.as_ref()),
            Side::Listening(listening) => Some(match &peer.session {
                Some(session) if listening.role.is_some() => session.expires(SESSION_TIMEOUT),
                _ => listening.ends(),
            }),
        };
        if let Some(session) = &peer.session {
            let output = session.has_output(now) || session.has_challenge(now);
            if output && !std::mem::replace(&mut peer.ready, true) {
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

    pub(super) fn send_message(&mut self, now: Time, id: PeerId, message: &Message) {
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
    pub(super) fn settle(&mut self, now: Time, id: PeerId, result: Result<(), Broken>) {
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

    pub(super) fn handle_peer_timeout(&mut self, now: Time, id: PeerId) {
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
            if let Some(index) = session.expire_keys(now) {
                self.indices.remove(&index);
            }
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
                Some(Side::Listening(listening)) if listening.role.is_some() => {
                    silence >= SESSION_TIMEOUT
                }
                Some(Side::Listening(listening)) => listening.ends() <= now,
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
    pub(super) fn lose_session(
        &mut self,
        now: Time,
        id: PeerId,
        reason: Rejection,
        retry: Duration,
    ) {
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
            for index in session.indices() {
                self.indices.remove(&index);
            }
            if let Some(rekey) = calling.rekey.take() {
                self.indices.remove(&rekey.index);
            }
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

    pub(super) fn remove(&mut self, id: PeerId, reason: Rejection) {
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        if let Some(at) = peer.scheduled {
            self.timers.remove(&(at, id));
        }
        if let Some(session) = &peer.session {
            for index in session.indices() {
                self.indices.remove(&index);
            }
            self.memory -= session.receive_memory();
        }
        match peer.side {
            Side::Calling(calling) => {
                for handshake in calling.attempt.into_iter().chain(calling.rekey) {
                    self.indices.remove(&handshake.index);
                }
            }
            Side::Listening(listening) if !listening.proved => {
                self.unproved.remove(&id);
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

    pub(super) fn forget_camera(&mut self, id: PeerId, camera: &str, reason: Rejection) {
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
}

impl Calling {
    /// When the next handshake message is due; `None` while the session is well.
    pub(super) fn wakes(&self, session: Option<&Session>) -> Option<Time> {
        match session {
            Some(session) if session.is_closing() => None,
            Some(_) if self.recall => Some(self.next_attempt),
            Some(session) => Some(self.next_attempt.max(session.expires(RECALL_AFTER))),
            None => Some(self.next_attempt),
        }
    }
}

fn unheard() -> Rejection {
    Rejection::new(
        Code::PathLost,
        "nothing is heard from the other side: is it running, and does the network between carry UDP?",
    )
}
