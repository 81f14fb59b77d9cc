//! Names: who may serve or watch a camera.

use std::net::SocketAddr;
use std::time::Duration;

use super::handshakes::{DEFAULT_LATENCY, refusal};
use super::peers::{Listening, Peer, Side};
use super::{Endpoint, Event, PeerId, Role};
use crate::handshake::Caller;
use crate::session::Session;
use crate::wire::control::Message;
use crate::{Access, Code, LatePolicy, Rejection, Time};

/// After this silence another camera may take a name.
const NAME_FREE_AFTER: Duration = Duration::from_secs(2);

impl Endpoint {
    /// Whether the peer may serve or watch a camera of that name, and its caller.
    pub(super) fn check_camera(&self, id: PeerId, camera: &str) -> Result<Caller, Rejection> {
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
                if let Some(session) = self.peers.get_mut(&id).and_then(|p| p.session.as_mut()) {
                    session.set_latency(Duration::from_millis(latency_ms.into()));
                }
                self.event(id, Event::WatchRequested { camera });
            }
            Err(reason) => self.close(now, id, reason),
        }
    }
}

/// Whether a peer may go on.
pub(super) fn allowed(access: &Access, listening: &Listening, remote: SocketAddr) -> bool {
    match listening.caller {
        Caller::Anonymous => access.accept.allows(remote.ip()),
        Caller::Keyed(key) => access.find(key).is_some_and(|known| match &listening.role {
            Some(Role::Publish { camera } | Role::Watch { camera }) => known.may_use(camera),
            None => true,
        }),
    }
}
