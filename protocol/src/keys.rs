//! Keys: the relay's identity, a camera's token and the relay's line for it.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use ring::hkdf;
use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};

use crate::access::check_name;

const TOKEN_PREFIX: &str = "camrelay1.";

/// A relay's private key (X25519, RFC 7748). Text form: 43 characters of base64url.
#[derive(Clone)]
pub struct PrivateKey(pub(crate) [u8; 32]);

/// A public key (X25519, RFC 7748). Text form: 43 characters of base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey(pub(crate) [u8; 32]);

/// What is pasted into a camera: the relay's public key and the camera's secret
/// seed. Text form: `camrelay1.` and 86 characters of base64url.
#[derive(Clone, PartialEq, Eq)]
pub struct CameraToken {
    pub(crate) relay: PublicKey,
    pub(crate) seed: [u8; 32],
}

/// One line of the relay's list of cameras: who a key is and what it may use.
///
/// Text form: `NAMES KEY`, NAMES being camera names separated by commas, or `*`;
/// KEY 86 characters of base64url. A list is lines of these; blank lines and
/// lines starting with `#` are passed over.
#[derive(Clone, PartialEq, Eq)]
pub struct KnownCamera {
    pub(crate) names: Vec<String>,
    pub(crate) public: PublicKey,
    pub(crate) psk: [u8; 32],
}

/// A key, token or line that cannot be read; says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

impl PrivateKey {
    /// The key made of 32 random bytes.
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut dh = DefaultResolver
            .resolve_dh(&DHChoice::Curve25519)
            .expect("the resolver is built with Curve25519");
        dh.set(&self.0);
        let mut public = [0; 32];
        public.copy_from_slice(dh.pubkey());
        PublicKey(public)
    }

    /// The text form, secret.
    pub fn to_text(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.starts_with(TOKEN_PREFIX) {
            return Err(KeyError(
                "this is a camera's token, not the relay's private key".into(),
            ));
        }
        decode(text, "a private key").map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl CameraToken {
    /// A token for a camera of `relay`, of 32 random bytes.
    pub fn new(relay: PublicKey, seed: [u8; 32]) -> Self {
        Self { relay, seed }
    }

    /// The text form, secret.
    pub fn to_text(&self) -> String {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.relay.0);
        bytes[32..].copy_from_slice(&self.seed);
        format!("{TOKEN_PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }

    /// The relay's line for this camera.
    pub fn known_camera(&self, names: Vec<String>) -> KnownCamera {
        KnownCamera {
            names,
            public: self.private().public(),
            psk: self.psk(),
        }
    }

    pub(crate) fn private(&self) -> PrivateKey {
        PrivateKey(self.derive(b"camrelay 1 static"))
    }

    pub(crate) fn psk(&self) -> [u8; 32] {
        self.derive(b"camrelay 1 psk")
    }

    /// HKDF-SHA256 (RFC 5869) of the seed.
    fn derive(&self, info: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"camrelay")
            .extract(&self.seed)
            .expand(&[info], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut out))
            .expect("32 bytes are one block of HKDF-SHA256");
        out
    }
}

impl FromStr for CameraToken {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let body = text.trim().strip_prefix(TOKEN_PREFIX).ok_or_else(|| {
            KeyError(format!(
                "a camera's token starts with '{TOKEN_PREFIX}'; 'launcher keys add' prints one"
            ))
        })?;
        let bytes: [u8; 64] = decode(body, "a camera's token")?;
        let (mut relay, mut seed) = ([0; 32], [0; 32]);
        relay.copy_from_slice(&bytes[..32]);
        seed.copy_from_slice(&bytes[32..]);
        Ok(Self {
            relay: PublicKey(relay),
            seed,
        })
    }
}

impl KnownCamera {
    /// Whether the key may use `name`.
    pub fn may_use(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == "*" || n == name)
    }

    /// The names the key may use; `*` stands for every name.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The camera's public key.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Reads a whole list; the error names the line.
    ///
    /// # Errors
    /// The first line that is neither blank, a comment nor a [`KnownCamera`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, KeyError> {
        text.lines()
            .enumerate()
            .map(|(number, line)| (number, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(number, line)| {
                line.parse()
                    .map_err(|error| KeyError(format!("line {}: {error}", number + 1)))
            })
            .collect()
    }

    /// The text form of the line, secret.
    pub fn to_text(&self) -> String {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.public.0);
        bytes[32..].copy_from_slice(&self.psk);
        format!(
            "{} {}",
            self.names.join(","),
            BASE64URL_NOPAD.encode(&bytes)
        )
    }
}

impl FromStr for KnownCamera {
    type Err = KeyError;
    fn from_str(line: &str) -> Result<Self, KeyError> {
        let mut words = line.split_whitespace();
        let (Some(names), Some(key), None) = (words.next(), words.next(), words.next()) else {
            return Err(KeyError(
                "expected camera names separated by commas, a space, and a key".into(),
            ));
        };
        let names: Vec<String> = names.split(',').map(str::to_owned).collect();
        if let Some(bad) = names.iter().find(|n| *n != "*" && check_name(n).is_err()) {
            return Err(KeyError(format!("'{bad}' is no camera name")));
        }
        let bytes: [u8; 64] = decode(key, "a camera's key")?;
        let (mut public, mut psk) = ([0; 32], [0; 32]);
        public.copy_from_slice(&bytes[..32]);
        psk.copy_from_slice(&bytes[32..]);
        Ok(Self {
            names,
            public: PublicKey(public),
            psk,
        })
    }
}

fn decode<const N: usize>(text: &str, what: &str) -> Result<[u8; N], KeyError> {
    let wrong = || {
        KeyError(format!(
            "{what} is {} characters of base64url; this has {}",
            (N * 4).div_ceil(3),
            text.chars().count()
        ))
    };
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|error| {
        match text.len() == (N * 4).div_ceil(3) {
            true => KeyError(format!(
                "{what} has a wrong character at position {}",
                error.position + 1
            )),
            false => wrong(),
        }
    })?;
    bytes.try_into().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_key_is_x25519_of_the_base_point() {
        let private = PrivateKey(std::array::from_fn(|i| i as u8));
        assert_eq!(
            data_encoding::HEXLOWER.encode(&private.public().0),
            "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f"
        );
    }

    #[test]
    fn texts_round_trip() {
        let relay = PrivateKey::from_random([7; 32]);
        let again: PrivateKey = relay.to_text().parse().unwrap();
        assert_eq!(again.public(), relay.public());
        let token = CameraToken::new(relay.public(), [9; 32]);
        let again: CameraToken = format!(" {}\n", token.to_text()).parse().unwrap();
        assert!(again == token);
        let line = token.known_camera(vec!["door".into(), "gate".into()]);
        let list = format!("# cameras\n\n{}\n", line.to_text());
        assert!(KnownCamera::parse_list(&list).unwrap() == [line.clone()]);
        assert!(line.may_use("gate") && !line.may_use("roof"));
        assert_eq!(line.public(), token.private().public());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| text.parse::<CameraToken>().err().unwrap().to_string();
        assert!(error("hello").contains("starts with 'camrelay1.'"));
        assert!(error("camrelay1.abc").contains("86 characters of base64url; this has 3"));
        let bad = format!("camrelay1.{}!{}", "A".repeat(10), "A".repeat(75));
        assert!(error(&bad).contains("position 11"));
        let error = KnownCamera::parse_list("#\ndoor\n")
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.starts_with("line 2: expected camera names"),
            "{error}"
        );
        let key = "A".repeat(86);
        let error = KnownCamera::parse_list(&format!("a b c\nno/slash {key}"))
            .err()
            .unwrap();
        assert!(error.to_string().starts_with("line 1"));
    }
}
