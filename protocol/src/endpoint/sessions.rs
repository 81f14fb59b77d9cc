//! What sessions receive, and what comes of it.

use std::net::SocketAddr;
use std::time::Duration;

use super::handshakes::RETRY_FORBIDDEN;
use super::peers::{Listening, Peer, RETRY_REFUSED, Side};
use super::{Endpoint, Event, PeerId, Role};
use crate::handshake::Caller;
use crate::reassembly::Output;
use crate::session::{Broken, Happened, MAX_RECEIVE_MEMORY};
use crate::wire::control::Message;
use crate::wire::header::Header;
use crate::{Code, Time};

/// Bytes of incoming frames held by all sessions together, at most.
pub(super) const MAX_TOTAL_MEMORY: usize = 512 << 20;
/// What one may hold is this part of what is free: the more hold much, the less each may, and some
/// is always left (dynamic thresholds; Choudhury and Hahne, IEEE/ACM ToN 6(2), 1998).
const PART_OF_FREE: usize = 4;

impl Endpoint {
    pub(super) fn handle_data(
        &mut self,
        [now, arrived]: [Time; 2],
        from: SocketAddr,
        header: Header,
        datagram: &mut [u8],
    ) {
        let most = MAX_TOTAL_MEMORY.saturating_sub(self.memory) / PART_OF_FREE;
        let peer = self
            .indices
            .get(&header.index)
            .and_then(|id| Some((*id, self.peers.get_mut(id)?)));
        let Some((
            id,
            Peer {
                session: Some(session),
                side,
                unsettled,
                ..
            },
        )) = peer
        else {
            if self.may_have_had(from, header.index) {
                self.reject(now, from, Code::Gone, datagram);
            }
            return;
        };
        if let Side::Listening(Listening {
            caller: Caller::Anonymous,
            ..
        }) = side
            && from != session.remote()
            && self
                .config
                .access
                .as_ref()
                .is_some_and(|access| !access.accept.allows(from.ip()))
        {
            // Who is accepted for an address cannot take the session to where nobody is.
            return;
        }
        let before = session.receive_memory();
        let most = match side {
            Side::Listening(Listening {
                role: Some(Role::Watch { .. }),
                ..
            }) => 0,
            _ => most.min(MAX_RECEIVE_MEMORY),
        };
        let room = most.saturating_sub(before);
        let mut happened = Vec::new();
        let result =
            session.handle_data([now, arrived], from, header, datagram, room, &mut happened);
        self.memory = self.memory - before + session.receive_memory();
        if matches!(result, Ok(false)) {
            return;
        }
        if let Side::Listening(listening) = side
            && !std::mem::replace(&mut listening.proved, true)
        {
            self.unproved.remove(&id);
        }
        if !std::mem::replace(unsettled, true) {
            self.unsettled.push(id);
        }
        self.unsettled_at = now;
        if !happened.is_empty() || result.is_err() {
            self.revive(id);
            self.digest(now, id, happened);
        }
        if result.is_err() {
            self.settle(now, id, Err(Broken));
        }
    }

    /// Whether somebody can have had a session of that index: nobody else is told that there is
    /// none.
    fn may_have_had(&self, from: SocketAddr, index: u32) -> bool {
        match (&self.config.access, &self.marks) {
            (None, _) => false,
            (Some(_), Some(marks)) => marks.made(index),
            (Some(access), None) => access.accept.allows(from.ip()),
        }
    }

    /// Sees to what datagrams led to that came since the last time: once for all of them, as many
    /// come together.
    pub(super) fn settle_all(&mut self) {
        let now = self.unsettled_at;
        while let Some(id) = self.unsettled.pop() {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            peer.unsettled = false;
            let Some(session) = &mut peer.session else {
                continue;
            };
            let before = session.receive_memory();
            let mut happened = Vec::new();
            let polled = session.poll_streams(now, &mut happened);
            self.memory = self.memory - before + session.receive_memory();
            self.revive(id);
            self.tell_bitrate(id);
            self.digest(now, id, happened);
            let result = polled.and_then(|()| self.renew_keys(now, id));
            self.settle(now, id, result);
            self.share_out(now);
        }
    }

    /// Caller: a session thought lost is heard again.
    pub(super) fn revive(&mut self, id: PeerId) {
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

    /// Sender: tells a target that changed.
    fn tell_bitrate(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(session) = &peer.session else {
            return;
        };
        let target = session.target_bitrate();
        let is_news = match (peer.told_bitrate, target) {
            (Some(told), Some(target)) => target.abs_diff(told) * 20 >= told.max(1),
            (told, target) => told != target,
        };
        if is_news {
            peer.told_bitrate = target;
            self.event(id, Event::TargetBitrate(target));
        }
    }

    /// Carries out what a session reported.
    pub(super) fn digest(&mut self, now: Time, id: PeerId, happened: Vec<Happened>) {
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

    pub(super) fn handle_message(&mut self, now: Time, id: PeerId, message: Message) {
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
            (Message::Registered { latency_ms }, Side::Calling(calling)) => {
                calling.accepted = true;
                if let Some(session) = &mut peer.session {
                    session.set_latency(Duration::from_millis(latency_ms.into()));
                }
                self.revive(id);
            }
            (Message::FeedEnd(reason), Side::Calling(_)) => {
                self.event(id, Event::FeedEnded(reason))
            }
            (Message::KeyframeRequest { stream }, _) => {
                self.event(id, Event::KeyframeRequested { stream })
            }
            (Message::Rekey(init), Side::Listening(_)) => {
                let offered = self.offer_keys(id, &init);
                self.settle(now, id, offered);
            }
            (Message::Rekeyed(response), Side::Calling(_)) => {
                let turned = self.turn_keys(now, id, &response);
                self.settle(now, id, turned);
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
    pub(super) fn acknowledge(&mut self, now: Time, id: PeerId) {
        let Some(session) = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.session.as_mut())
        else {
            return;
        };
        let mut datagram = Vec::new();
        if session.has_output(now) && session.write_batch(now, 1, &mut datagram).is_some() {
            let remote = session.remote();
            self.send_loose(remote, datagram);
        }
    }
}
