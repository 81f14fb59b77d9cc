//! Names: who may serve or watch a camera.

use std::net::SocketAddr;
use std::time::Duration;

use super::handshakes::{DEFAULT_LATENCY, refusal};
use super::peers::{Peer, Side};
use super::{Endpoint, Event, PeerId, Role};
use crate::handshake::Caller;
use crate::session::Session;
use crate::wire::control::Message;
use crate::{Accept, Access, Code, LatePolicy, Rejection, Time};

/// After this silence another camera may take a name.
const NAME_FREE_AFTER: Duration = Duration::from_secs(2);

impl Endpoint {
    /// Whether the peer may take up a role, and its caller.
    fn check_role(&self, id: PeerId, role: &Role, remote: SocketAddr) -> Result<Caller, Rejection> {
        let side = self.peers.get(&id).map(|peer| &peer.side);
        let (Some(Side::Listening(listening)), Some(access)) = (side, &self.config.access) else {
            return Err(refusal(Code::UnknownKey));
        };
        match listening.caller {
            Caller::Keyed(key) => {
                let (Role::Publish { camera } | Role::Watch { camera }) = role;
                let known = access.find(key).ok_or_else(|| refusal(Code::UnknownKey))?;
                if !known.may_use(camera) {
                    return Err(Rejection::new(
                        Code::NameNotAllowed,
                        format!(
                            "this key may not use the name '{camera}', only {}",
                            known.names().join(", ")
                        ),
                    ));
                }
            }
            Caller::Anonymous => self.check_stranger(access, role, remote)?,
        }
        Ok(listening.caller)
    }

    /// Whether somebody without a key may take up a role.
    fn check_stranger(
        &self,
        access: &Access,
        role: &Role,
        remote: SocketAddr,
    ) -> Result<(), Rejection> {
        let why = match role {
            Role::Publish { camera } if access.reserves(camera) => {
                format!("the name '{camera}' belongs to a key: give this camera its token")
            }
            Role::Watch { camera } if access.reserves(camera) => {
                format!(
                    "camera '{camera}' has a key: watch it over RTSP or the page, or with a key"
                )
            }
            Role::Watch { .. } if !self.viewers.unwrap_or(Accept::Anyone).allows(remote.ip()) => {
                "this relay asks who watches: use RTSP or its page, or a key".into()
            }
            _ => return Ok(()),
        };
        Err(Rejection::new(Code::SecurityRequired, why))
    }

    /// Ends the sessions that are not allowed, or not what they are for.
    pub(super) fn close_refused(&mut self, now: Time) {
        let refused = self
            .peers
            .iter()
            .filter_map(|(id, peer)| Some((*id, self.refused(*id, peer)?)));
        for (id, reason) in refused.collect::<Vec<_>>() {
            if self.unproved.contains(&id) {
                // Nothing is sent on a session before its caller has proved itself.
                self.remove(id, reason);
                continue;
            }
            let session = self
                .peers
                .get_mut(&id)
                .and_then(|peer| peer.session.as_mut());
            if let Some(session) = session {
                session.send_away(now, reason.clone());
            }
            self.close(now, id, reason);
        }
    }

    /// Why a session is not allowed any more.
    fn refused(&self, id: PeerId, peer: &Peer) -> Option<Rejection> {
        let (Side::Listening(listening), Some(session), Some(access)) =
            (&peer.side, &peer.session, &self.config.access)
        else {
            return None;
        };
        let remote = session.remote();
        let is_accepted = match listening.caller {
            Caller::Anonymous => access.accept.allows(remote.ip()),
            Caller::Keyed(key) => access.find(key).is_some(),
        };
        let checked = listening
            .role
            .as_ref()
            .map_or(Ok(()), |role| self.check_role(id, role, remote).map(drop));
        match checked {
            Err(reason) if is_accepted && listening.caller == Caller::Anonymous => Some(reason),
            Ok(()) if is_accepted => None,
            _ => Some(Rejection::new(
                Code::UnknownKey,
                "the relay does not accept this camera any more: ask for a new token",
            )),
        }
    }

    pub(super) fn register(&mut self, now: Time, id: PeerId, camera: String, latency_ms: u16) {
        let Some(remote) = self
            .peers
            .get(&id)
            .and_then(|p| p.session.as_ref())
            .map(Session::remote)
        else {
            return;
        };
        match self.take_name(now, id, &camera, remote) {
            Ok(replaced) => {
                if let Some(old) = replaced {
                    let before = self.peers.get(&old).and_then(|peer| peer.session.as_ref());
                    let text = match before.is_some_and(|before| before.remote() == remote) {
                        true => "it called anew".into(),
                        false => format!(
                            "another camera took the name '{camera}': give each camera a name of its own"
                        ),
                    };
                    self.close(now, old, Rejection::new(Code::Replaced, text));
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
                        if self.latest.contains(&camera) {
                            session.set_late_policy(LatePolicy::Latest);
                        }
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
    pub(super) fn take_name(
        &self,
        now: Time,
        id: PeerId,
        camera: &str,
        remote: SocketAddr,
    ) -> Result<Option<PeerId>, Rejection> {
        let role = Role::Publish {
            camera: camera.into(),
        };
        let caller = self.check_role(id, &role, remote)?;
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
            && (caller != Caller::Anonymous || session.remote().ip() == remote.ip());
        if same || session.silence(now) >= NAME_FREE_AFTER {
            return Ok(Some(*holder));
        }
        Err(Rejection::new(
            Code::NameInUse,
            format!(
                "a camera at {} uses the name '{camera}': choose another",
                session.remote().ip()
            ),
        ))
    }

    pub(super) fn request_feed(&mut self, now: Time, id: PeerId, camera: String, latency_ms: u16) {
        let session = self.peers.get(&id).and_then(|peer| peer.session.as_ref());
        let Some(remote) = session.map(Session::remote) else {
            return;
        };
        let role = Role::Watch {
            camera: camera.clone(),
        };
        match self.check_role(id, &role, remote) {
            Ok(_) => {
                if let Some(Peer {
                    side: Side::Listening(listening),
                    ..
                }) = self.peers.get_mut(&id)
                {
                    listening.role = Some(role);
                }
                if let Some(session) = self.peers.get_mut(&id).and_then(|p| p.session.as_mut()) {
                    session.set_latency(Duration::from_millis(latency_ms.into()));
                }
                self.event(id, Event::WatchRequested { camera });
            }
            Err(reason) => self.close(now, id, reason),
        }
    }
}
