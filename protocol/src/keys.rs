//! Keys: the relay's identity, a camera's token and the relay's line for it.

use std::fmt;
use std::str::FromStr;

/// A relay's private key (X25519). Text form: 43 characters of base64url.
#[derive(Clone)]
pub struct PrivateKey(pub(crate) [u8; 32]);

/// A public key (X25519). Text form: 43 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub(crate) [u8; 32]);

/// What is pasted into a camera: the relay's public key and the camera's secret
/// seed. Text form: `camrelay1.` and 86 characters of base64url.
#[derive(Clone)]
pub struct CameraToken {
    pub(crate) relay: PublicKey,
    pub(crate) seed: [u8; 32],
}

/// One line of the relay's list of cameras: who a key is and what it may use.
///
/// Text form: `NAMES KEY`, NAMES being camera names separated by commas, or `*`;
/// KEY 86 characters of base64url. A list is lines of these; blank lines and
/// lines starting with `#` are passed over.
#[derive(Clone)]
pub struct KnownCamera {
    pub(crate) names: Vec<String>,
    pub(crate) public: PublicKey,
    pub(crate) psk: [u8; 32],
}

/// A key, token or line that cannot be read; says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(pub(crate) String);

impl PrivateKey {
    /// The key made of 32 random bytes.
    pub fn from_random(_random: [u8; 32]) -> Self {
        todo!()
    }
    /// The public half.
    pub fn public(&self) -> PublicKey {
        todo!()
    }
    /// The text form, secret.
    pub fn to_text(&self) -> String {
        todo!()
    }
}
impl FromStr for PrivateKey {
    type Err = KeyError;
    fn from_str(_s: &str) -> Result<Self, KeyError> {
        todo!()
    }
}
impl fmt::Display for PublicKey {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
impl CameraToken {
    /// A token for a camera of `relay`, of 32 random bytes.
    pub fn new(_relay: PublicKey, _seed: [u8; 32]) -> Self {
        todo!()
    }
    /// The text form, secret.
    pub fn to_text(&self) -> String {
        todo!()
    }
    /// The relay's line for this camera.
    pub fn known_camera(&self, _names: Vec<String>) -> KnownCamera {
        todo!()
    }
}
impl FromStr for CameraToken {
    type Err = KeyError;
    fn from_str(_s: &str) -> Result<Self, KeyError> {
        todo!()
    }
}
impl KnownCamera {
    /// Whether the key may use `name`.
    pub fn may_use(&self, _name: &str) -> bool {
        todo!()
    }
    /// Reads a whole list; the error names the line.
    pub fn parse_list(_text: &str) -> Result<Vec<Self>, KeyError> {
        todo!()
    }
    /// The text form of the line, secret.
    pub fn to_text(&self) -> String {
        todo!()
    }
}
impl FromStr for KnownCamera {
    type Err = KeyError;
    fn from_str(_s: &str) -> Result<Self, KeyError> {
        todo!()
    }
}
