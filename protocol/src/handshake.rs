//! The Noise handshake: IKpsk2 with keys, NN without (Noise Protocol Framework, revision 34,
//! section 7.5 and 9).
//!
//! `HANDSHAKE_INIT`: outer header, Noise message 1, MAC under the relay's public key, cookie MAC.
//! `HANDSHAKE_RESP`: outer header, Noise message 2, its payload the responder's session index.

use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher as SnowCipher, Dh, Hash};
use snow::{Builder, HandshakeState};

use crate::cookie::{Init, MacKeys};
use crate::crypto::{Cipher, Keys};
use crate::wire::header::{HEADER_LEN, Header, Kind, SUITE_KEYED};
use crate::{CameraToken, Code, PrivateKey, PublicKey, Random};

const MAX_NOISE_MESSAGE: usize = 256;
const SUITE_CHACHA: u8 = 1;
/// Stands in for the pre-shared key of a caller that is not known, in a refusal.
const NO_PSK: [u8; 32] = [0; 32];

/// What both sides know once the handshake is over.
pub(crate) struct Established {
    pub(crate) keys: Keys,
    pub(crate) local_index: u32,
    pub(crate) remote_index: u32,
}

/// Hands the handshake random bytes that were drawn beforehand from the caller's source.
struct Resolver([u8; 32]);
struct Drawn(Option<[u8; 32]>);

impl snow::types::Random for Drawn {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        let bytes = self.0.take().ok_or(snow::Error::Rng)?;
        if out.len() != bytes.len() {
            return Err(snow::Error::Rng);
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn snow::types::Random>> {
        Some(Box::new(Drawn(Some(self.0))))
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn SnowCipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

fn suite(cipher: Cipher, keyed: bool) -> u8 {
    let cipher = match cipher {
        Cipher::Aes256Gcm => 0,
        Cipher::ChaCha20Poly1305 => SUITE_CHACHA,
    };
    cipher | if keyed { SUITE_KEYED } else { 0 }
}

fn builder<'a>(suite: u8, random: &mut dyn Random) -> Option<Builder<'a>> {
    let name = match suite {
        0 => "Noise_NN_25519_AESGCM_SHA256",
        SUITE_CHACHA => "Noise_NN_25519_ChaChaPoly_SHA256",
        SUITE_KEYED => "Noise_IKpsk2_25519_AESGCM_SHA256",
        3 => "Noise_IKpsk2_25519_ChaChaPoly_SHA256",
        _ => return None,
    };
    let params: NoiseParams = name.parse().ok()?;
    let mut drawn = [0; 32];
    random.fill(&mut drawn);
    Some(Builder::with_resolver(params, Box::new(Resolver(drawn))))
}

fn established(
    state: &mut HandshakeState,
    cipher: Cipher,
    initiator: bool,
    local: u32,
    remote: u32,
) -> Established {
    let (to_responder, to_initiator) = state.dangerously_get_raw_split();
    let keys = match initiator {
        true => Keys::new(cipher, &to_responder, &to_initiator),
        false => Keys::new(cipher, &to_initiator, &to_responder),
    };
    Established {
        keys,
        local_index: local,
        remote_index: remote,
    }
}

/// The caller's side, from the first message to the answer.
pub(crate) struct Initiator {
    state: Box<HandshakeState>,
    cipher: Cipher,
    macs: MacKeys,
    psk: Option<[u8; 32]>,
    pub(crate) index: u32,
    pub(crate) init: Vec<u8>,
}

/// How a handshake ended, said by who has the relay's key.
pub(crate) enum Finished {
    Established(Box<Established>),
    /// The relay does not take the caller.
    Refused(Code),
}

impl Initiator {
    pub(crate) fn new(token: Option<&CameraToken>, index: u32, random: &mut dyn Random) -> Self {
        Self::with_cipher(token, Cipher::preferred(), index, random)
    }

    pub(crate) fn with_cipher(
        token: Option<&CameraToken>,
        cipher: Cipher,
        index: u32,
        random: &mut dyn Random,
    ) -> Self {
        let suite = suite(cipher, token.is_some());
        let header = Header {
            kind: Kind::HandshakeInit,
            suite,
            index,
            packet_number: 0,
        }
        .encode();
        let state = Self::start(token, suite, &header, random);
        let (state, message) = state.expect("the parameters are fixed and keys have 32 bytes");
        let mut init = header.to_vec();
        init.extend_from_slice(&message);
        let macs = MacKeys::new(token.map(|token| token.relay));
        macs.sign(&mut init);
        Self {
            state: Box::new(state),
            cipher,
            macs,
            psk: token.map(CameraToken::psk),
            index,
            init,
        }
    }

    fn start(
        token: Option<&CameraToken>,
        suite: u8,
        header: &[u8; HEADER_LEN],
        random: &mut dyn Random,
    ) -> Result<(HandshakeState, Vec<u8>), snow::Error> {
        let secrets = token.map(|token| (token.private(), token.psk(), token.relay));
        let mut builder = builder(suite, random)
            .ok_or(snow::Error::Input)?
            .prologue(header)?;
        if let Some((private, psk, relay)) = &secrets {
            builder = builder
                .local_private_key(&private.0)?
                .remote_public_key(&relay.0)?
                .psk(2, psk)?;
        }
        let mut state = builder.build_initiator()?;
        let mut message = vec![0; MAX_NOISE_MESSAGE];
        let len = state.write_message(&[], &mut message)?;
        message.truncate(len);
        Ok((state, message))
    }

    /// Takes the cookie out of a COOKIE_REPLY; `false` where it is not one to this handshake.
    pub(crate) fn take_cookie(&mut self, reply: &[u8]) -> bool {
        self.macs.take_cookie(&mut self.init, reply)
    }

    /// Reads a HANDSHAKE_RESP; gives the handshake back where that is not authentic.
    pub(crate) fn finish(mut self, datagram: &[u8]) -> Result<Finished, Box<Self>> {
        let Some(message) = datagram.get(HEADER_LEN..) else {
            return Err(Box::new(self));
        };
        let mut payload = [0; MAX_NOISE_MESSAGE];
        // snow leaves its state as it was when a message does not authenticate.
        if let Ok(len) = self.state.read_message(message, &mut payload) {
            let Some(index) = payload[..len].first_chunk() else {
                return Err(Box::new(self));
            };
            let remote = u32::from_be_bytes(*index);
            let (cipher, index) = (self.cipher, self.index);
            let established = established(&mut self.state, cipher, true, index, remote);
            return Ok(Finished::Established(Box::new(established)));
        }
        self.read_refusal(message)
    }

    /// A relay that does not know the caller has no pre-shared key to answer with but zeros.
    fn read_refusal(mut self, message: &[u8]) -> Result<Finished, Box<Self>> {
        let Some(psk) = self.psk else {
            return Err(Box::new(self));
        };
        let mut payload = [0; MAX_NOISE_MESSAGE];
        let read = self
            .state
            .set_psk(2, &NO_PSK)
            .and_then(|()| self.state.read_message(message, &mut payload));
        let code = match read {
            Ok(2) => Code::from_u16(u16::from_be_bytes([payload[0], payload[1]])),
            _ => None,
        };
        match code {
            Some(code) => Ok(Finished::Refused(code)),
            None => {
                // Its length is right: it was taken before.
                let _ = self.state.set_psk(2, &psk);
                Err(Box::new(self))
            }
        }
    }
}

/// Who opened a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Anonymous,
    Keyed(PublicKey),
}

/// A HANDSHAKE_INIT that was read and whose first MAC was right.
pub(crate) struct Responder {
    state: HandshakeState,
    cipher: Cipher,
    remote_index: u32,
    pub(crate) caller: Caller,
}

impl Responder {
    /// Reads a HANDSHAKE_INIT. `None` calls for silence: not ours or malformed.
    pub(crate) fn read(
        init: &Init<'_>,
        identity: Option<&PrivateKey>,
        random: &mut dyn Random,
    ) -> Option<Self> {
        let header = Header::decode(init.head)?;
        let keyed = header.is_keyed();
        let identity = match keyed {
            true => Some(identity?),
            false => None,
        };
        let mut builder = builder(header.suite, random)?.prologue(init.head).ok()?;
        if let Some(identity) = identity {
            builder = builder.local_private_key(&identity.0).ok()?;
        }
        let mut state = builder.build_responder().ok()?;
        let mut payload = [0; MAX_NOISE_MESSAGE];
        state.read_message(init.noise, &mut payload).ok()?;
        let caller = match (keyed, state.get_remote_static()) {
            (true, Some(key)) => Caller::Keyed(PublicKey(key.try_into().ok()?)),
            (false, _) => Caller::Anonymous,
            (true, None) => return None,
        };
        let cipher = match header.suite & SUITE_CHACHA {
            0 => Cipher::Aes256Gcm,
            _ => Cipher::ChaCha20Poly1305,
        };
        Some(Self {
            state,
            cipher,
            remote_index: header.index,
            caller,
        })
    }

    /// Writes the HANDSHAKE_RESP. `psk` is the known camera's, where the caller has a key.
    pub(crate) fn answer(
        mut self,
        psk: Option<&[u8; 32]>,
        index: u32,
    ) -> Option<(Vec<u8>, Established)> {
        let response = self.respond(psk, &index.to_be_bytes())?;
        let established = established(
            &mut self.state,
            self.cipher,
            false,
            index,
            self.remote_index,
        );
        Some((response, established))
    }

    /// Writes a HANDSHAKE_RESP that refuses a caller whose key is not known.
    pub(crate) fn refuse(mut self, code: Code) -> Option<Vec<u8>> {
        self.respond(Some(&NO_PSK), &(code as u16).to_be_bytes())
    }

    fn respond(&mut self, psk: Option<&[u8; 32]>, payload: &[u8]) -> Option<Vec<u8>> {
        if let Some(psk) = psk {
            self.state.set_psk(2, psk).ok()?;
        }
        let mut message = [0; MAX_NOISE_MESSAGE];
        let len = self.state.write_message(payload, &mut message).ok()?;
        let header = Header {
            kind: Kind::HandshakeResp,
            suite: 0,
            index: self.remote_index,
            packet_number: 0,
        };
        let mut response = header.encode().to_vec();
        response.extend_from_slice(&message[..len]);
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::header::MAC_LEN;

    struct Seeded(u8);
    impl Random for Seeded {
        fn fill(&mut self, out: &mut [u8]) {
            for byte in out {
                self.0 = self.0.wrapping_mul(5).wrapping_add(1);
                *byte = self.0;
            }
        }
    }

    fn shake(
        token: Option<&CameraToken>,
        relay: Option<&PrivateKey>,
        psk: Option<&[u8; 32]>,
    ) -> Option<(Established, Established)> {
        let initiator = Initiator::new(token, 11, &mut Seeded(1));
        let responder = read(&initiator.init, relay)?;
        assert_eq!(responder.caller == Caller::Anonymous, token.is_none());
        let init_len = initiator.init.len();
        let (response, there) = responder.answer(psk, 22)?;
        assert!(
            response.len() <= init_len,
            "no answer larger than the question"
        );
        match initiator.finish(&response).ok()? {
            Finished::Established(here) => Some((*here, there)),
            Finished::Refused(_) => None,
        }
    }

    fn read(init: &[u8], relay: Option<&PrivateKey>) -> Option<Responder> {
        let public = Header::decode(init)?
            .is_keyed()
            .then(|| relay.map(PrivateKey::public));
        let macs = MacKeys::new(public.flatten());
        Responder::read(&macs.read(init)?, relay, &mut Seeded(2))
    }

    fn talk(a: &Established, b: &Established) {
        assert_eq!((a.local_index, a.remote_index), (11, 22));
        assert_eq!((b.local_index, b.remote_index), (22, 11));
        for (from, to) in [(a, b), (b, a)] {
            let mut datagram = vec![0; HEADER_LEN];
            datagram.extend_from_slice(b"hi");
            from.keys.seal(5, &mut datagram, 0);
            assert_eq!(to.keys.open(5, &mut datagram), Some(&b"hi"[..]));
        }
    }

    #[test]
    fn anonymous_and_keyed_sides_agree() {
        let (a, b) = shake(None, None, None).unwrap();
        talk(&a, &b);
        let relay = PrivateKey::from_random([3; 32]);
        let (a, b) = shake(None, Some(&relay), None).unwrap();
        talk(&a, &b);
        let token = CameraToken::new(relay.public(), [4; 32]);
        let (a, b) = shake(Some(&token), Some(&relay), Some(&token.psk())).unwrap();
        talk(&a, &b);
    }

    #[test]
    fn wrong_keys_hear_nothing() {
        let relay = PrivateKey::from_random([3; 32]);
        let other = PrivateKey::from_random([5; 32]);
        let token = CameraToken::new(relay.public(), [4; 32]);
        assert!(shake(Some(&token), Some(&other), Some(&token.psk())).is_none());
        assert!(shake(Some(&token), None, None).is_none());
        assert!(shake(Some(&token), Some(&relay), Some(&[0; 32])).is_none());
    }

    #[test]
    fn a_refusal_is_the_relays_own_word() {
        let relay = PrivateKey::from_random([3; 32]);
        let token = CameraToken::new(relay.public(), [4; 32]);
        let initiator = Initiator::new(Some(&token), 11, &mut Seeded(1));
        let responder = read(&initiator.init, Some(&relay)).unwrap();
        let refusal = responder.refuse(Code::UnknownKey).unwrap();
        assert!(refusal.len() <= initiator.init.len());
        let mut forged = refusal.clone();
        *forged.last_mut().unwrap() ^= 1;
        let initiator = *initiator.finish(&forged).err().expect("it is forged");
        let said = initiator.finish(&refusal);
        assert!(matches!(said, Ok(Finished::Refused(Code::UnknownKey))));

        // A forged one first does not keep the true answer out.
        let initiator = Initiator::new(Some(&token), 11, &mut Seeded(1));
        let responder = read(&initiator.init, Some(&relay)).unwrap();
        let (answer, _) = responder.answer(Some(&token.psk()), 22).unwrap();
        let initiator = *initiator.finish(&forged).err().expect("it is forged");
        let said = initiator.finish(&answer);
        assert!(matches!(said, Ok(Finished::Established(_))));
    }

    #[test]
    fn changed_messages_are_refused() {
        let initiator = Initiator::new(None, 11, &mut Seeded(1));
        for at in 0..initiator.init.len() - MAC_LEN {
            let mut changed = initiator.init.clone();
            changed[at] ^= 1;
            assert!(read(&changed, None).is_none(), "byte {at}");
        }
        for cut in 0..initiator.init.len() - 1 {
            assert!(read(&initiator.init[..cut], None).is_none());
        }
        let responder = read(&initiator.init, None).unwrap();
        let (response, _) = responder.answer(None, 22).unwrap();
        let mut initiator = initiator;
        for at in HEADER_LEN..response.len() {
            let mut changed = response.clone();
            changed[at] ^= 1;
            initiator = *initiator.finish(&changed).err().expect("refused");
        }
        assert!(initiator.finish(&response).is_ok());
    }
}
