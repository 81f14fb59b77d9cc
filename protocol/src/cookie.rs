//! The two MACs of a HANDSHAKE_INIT and the cookie that the second one proves: only who gets
//! what is sent to an address has its cookie (as WireGuard, section 5.4.7 of its paper).

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::{digest, hmac};

use crate::PublicKey;
use crate::wire::header::{HEADER_LEN, Header, Kind, MAC_LEN, TAG_LEN};

/// What a caller proves its address with.
pub(crate) type Cookie = [u8; 16];

const NONCE_LEN: usize = 12;
/// Bytes of a COOKIE_REPLY, fewer than any HANDSHAKE_INIT has.
pub(crate) const COOKIE_REPLY_LEN: usize = HEADER_LEN + NONCE_LEN + size_of::<Cookie>() + TAG_LEN;

/// The keys that follow from a relay's public key, or from its having none: who does not know
/// it hears nothing.
pub(crate) struct MacKeys {
    first: hmac::Key,
    reply: hmac::Key,
}

fn key(label: &[u8], relay: Option<PublicKey>) -> hmac::Key {
    let mut input = label.to_vec();
    input.extend_from_slice(&relay.map_or([0; 32], |key| key.0));
    let key = digest::digest(&digest::SHA256, &input);
    hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
}

impl MacKeys {
    pub(crate) fn new(relay: Option<PublicKey>) -> Self {
        Self {
            first: key(b"camrelay 1 mac", relay),
            reply: key(b"camrelay 1 cookie", relay),
        }
    }

    /// Appends both MACs to a HANDSHAKE_INIT, the second one empty.
    pub(crate) fn sign(&self, init: &mut Vec<u8>) {
        let mac = hmac::sign(&self.first, init);
        init.extend_from_slice(mac.as_ref());
        init.extend_from_slice(&[0; MAC_LEN]);
    }

    /// Cuts a HANDSHAKE_INIT up; `None` where its first MAC is wrong.
    pub(crate) fn read<'a>(&self, datagram: &'a [u8]) -> Option<Init<'a>> {
        let (proved, proof) = datagram.split_at_checked(datagram.len().checked_sub(MAC_LEN)?)?;
        let (signed, mac) = proved.split_at_checked(proved.len().checked_sub(MAC_LEN)?)?;
        hmac::verify(&self.first, signed, mac).ok()?;
        let (head, noise) = signed.split_first_chunk()?;
        Some(Init {
            head,
            noise,
            mac,
            proved,
            proof,
        })
    }

    /// One key for each HANDSHAKE_INIT, so that a cookie is of use only to who sent it or sees it.
    fn reply_key(&self, mac: &[u8]) -> LessSafeKey {
        let key = hmac::sign(&self.reply, mac);
        LessSafeKey::new(
            UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).expect("HMAC-SHA256 has 32 bytes"),
        )
    }

    /// The COOKIE_REPLY to `init`.
    pub(crate) fn seal(&self, init: &Init<'_>, cookie: &Cookie, nonce: [u8; 12]) -> Vec<u8> {
        let index = Header::decode(init.head).map_or(0, |header| header.index);
        let header = Header {
            kind: Kind::CookieReply,
            suite: 0,
            index,
            packet_number: 0,
        };
        let mut reply = Vec::with_capacity(COOKIE_REPLY_LEN);
        reply.extend_from_slice(&header.encode());
        reply.extend_from_slice(&nonce);
        let mut sealed = *cookie;
        let tag = self
            .reply_key(init.mac)
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(header.encode()),
                &mut sealed,
            )
            .expect("a cookie is far below the cipher's length limit");
        reply.extend_from_slice(&sealed);
        reply.extend_from_slice(tag.as_ref());
        reply
    }

    /// Puts the cookie of a COOKIE_REPLY to it into a HANDSHAKE_INIT; `false` where it is none.
    pub(crate) fn take_cookie(&self, init: &mut [u8], reply: &[u8]) -> bool {
        let Some((proved, proof)) = init.split_last_chunk_mut::<MAC_LEN>() else {
            return false;
        };
        let opened = proved.last_chunk::<MAC_LEN>().and_then(|mac| {
            let (head, rest) = reply.split_first_chunk::<HEADER_LEN>()?;
            let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
            let mut sealed = sealed.to_vec();
            let opened = self.reply_key(mac).open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(head),
                &mut sealed,
            );
            Cookie::try_from(&*opened.ok()?).ok()
        });
        if let Some(cookie) = opened {
            proof.copy_from_slice(second(&cookie, proved).as_ref());
        }
        opened.is_some()
    }
}

fn second(cookie: &Cookie, proved: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, cookie), proved)
}

/// A HANDSHAKE_INIT whose first MAC is right.
pub(crate) struct Init<'a> {
    /// The outer header.
    pub(crate) head: &'a [u8; HEADER_LEN],
    /// The Noise message.
    pub(crate) noise: &'a [u8],
    mac: &'a [u8],
    proved: &'a [u8],
    proof: &'a [u8],
}

impl Init<'_> {
    /// Whether its second MAC shows that the caller has the cookie.
    pub(crate) fn proves(&self, cookie: &Cookie) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, cookie);
        hmac::verify(&key, self.proved, self.proof).is_ok()
    }

    /// Whether there is a second MAC.
    pub(crate) fn has_proof(&self) -> bool {
        self.proof.iter().any(|byte| *byte != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(keys: &MacKeys) -> Vec<u8> {
        let header = Header {
            kind: Kind::HandshakeInit,
            suite: 0,
            index: 11,
            packet_number: 0,
        };
        let mut init = header.encode().to_vec();
        init.extend_from_slice(&[5; 32]);
        keys.sign(&mut init);
        init
    }

    #[test]
    fn a_cookie_serves_who_knows_the_question() {
        let keys = MacKeys::new(None);
        let mut sent = init(&keys);
        let question = sent.clone();
        let read = keys.read(&question).unwrap();
        assert!(!read.has_proof() && !read.proves(&[7; 16]));
        let reply = keys.seal(&read, &[7; 16], [1; 12]);
        assert_eq!(reply.len(), COOKIE_REPLY_LEN);
        assert!(reply.len() < question.len());
        assert_eq!(Header::decode(&reply).unwrap().index, 11);

        let mut other = init(&keys);
        other[20] ^= 1;
        other.truncate(other.len() - 2 * MAC_LEN);
        keys.sign(&mut other);
        assert!(!keys.take_cookie(&mut other, &reply), "another question");
        let relay = MacKeys::new(Some(PublicKey([1; 32])));
        assert!(!relay.take_cookie(&mut sent, &reply), "another relay");
        for at in 0..reply.len() {
            let mut changed = reply.clone();
            changed[at] ^= 1;
            assert!(!keys.take_cookie(&mut sent, &changed), "byte {at}");
            assert!(!keys.take_cookie(&mut sent, &reply[..at]), "cut at {at}");
        }
        assert_eq!(sent, question);

        assert!(keys.take_cookie(&mut sent, &reply));
        let read = keys.read(&sent).unwrap();
        assert!(read.has_proof() && read.proves(&[7; 16]) && !read.proves(&[8; 16]));
    }
}
