//! New keys for a session that goes on: a handshake inside it, begun by its caller.

use super::peers::{Peer, Side};
use super::{Endpoint, PeerId};
use crate::Time;
use crate::handshake::{Caller, Finished, Initiator, Responder};
use crate::session::Broken;
use crate::wire::control::Message;
use crate::wire::header::Header;

impl Endpoint {
    /// Caller: asks for new keys where the old ones have served long enough.
    pub(super) fn renew_keys(&mut self, now: Time, id: PeerId) -> Result<(), Broken> {
        let worn = |peer: &Peer| match (&peer.side, &peer.session) {
            (Side::Calling(calling), Some(session)) => {
                calling.rekey.is_none() && calling.accepted && session.is_worn(now)
            }
            _ => false,
        };
        if !self.peers.get(&id).is_some_and(worn) {
            return Ok(());
        }
        let index = self.draw_index();
        let Some(Peer {
            side: Side::Calling(calling),
            session: Some(session),
            ..
        }) = self.peers.get_mut(&id)
        else {
            return Ok(());
        };
        let token = calling.connect.token.as_ref();
        let rekey = Initiator::new(token, index, &mut *self.random);
        let asked = session.send_message(&Message::Rekey(rekey.init.clone()));
        calling.rekey = Some(rekey);
        self.indices.insert(index, id);
        asked
    }

    /// Listener: answers with keys that are used once the caller has used them.
    pub(super) fn offer_keys(&mut self, id: PeerId, init: &[u8]) -> Result<(), Broken> {
        let index = self.draw_index();
        let keyed = Header::decode(init).ok_or(Broken)?.is_keyed();
        let macs = match keyed {
            true => self.macs.1.as_ref().ok_or(Broken)?,
            false => &self.macs.0,
        };
        let init = macs.read(init).ok_or(Broken)?;
        let identity = self.config.identity.as_ref();
        let responder = Responder::read(&init, identity, &mut *self.random).ok_or(Broken)?;
        let Some(Peer {
            side: Side::Listening(listening),
            session: Some(session),
            ..
        }) = self.peers.get_mut(&id)
        else {
            return Ok(());
        };
        if responder.caller != listening.caller {
            return Err(Broken);
        }
        let access = self.config.access.as_ref();
        let psk = match listening.caller {
            Caller::Anonymous => None,
            Caller::Keyed(key) => Some(
                access
                    .and_then(|access| access.find(key))
                    .ok_or(Broken)?
                    .psk,
            ),
        };
        let (response, next) = responder.answer(psk.as_ref(), index).ok_or(Broken)?;
        session.offer_keys(next)?;
        self.indices.insert(index, id);
        session.send_message(&Message::Rekeyed(response))
    }

    /// Caller: uses the keys that the listener has now, too.
    pub(super) fn turn_keys(
        &mut self,
        now: Time,
        id: PeerId,
        response: &[u8],
    ) -> Result<(), Broken> {
        let Some(Peer {
            side: Side::Calling(calling),
            session: Some(session),
            ..
        }) = self.peers.get_mut(&id)
        else {
            return Ok(());
        };
        let rekey = calling.rekey.take().ok_or(Broken)?;
        let index = rekey.index;
        match rekey.finish(response) {
            Ok(Finished::Established(next)) => {
                session.turn_keys(now, *next);
                Ok(())
            }
            Ok(Finished::Refused(_)) | Err(_) => {
                self.indices.remove(&index);
                Err(Broken)
            }
        }
    }
}
