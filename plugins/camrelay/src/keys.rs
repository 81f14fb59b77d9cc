//! Keys as properties give them: the text itself or the path of a file that holds it.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use camrelay_protocol::{CameraToken, KeyError, KnownCamera, PrivateKey};

/// Reads a camera's token.
///
/// # Errors
/// A sentence that says what is wrong with which file, never the key itself.
pub(crate) fn camera_token(key: &str) -> Result<CameraToken, String> {
    read(key, "camera token")
}

/// Reads a relay's private key.
///
/// # Errors
/// As [`camera_token`].
pub(crate) fn private_key(key: &str) -> Result<PrivateKey, String> {
    read(key, "private key of a relay")
}

/// Reads a list of known cameras.
///
/// # Errors
/// A sentence that names the file, and the line where one cannot be read.
pub(crate) fn known_cameras(path: &str) -> Result<Vec<KnownCamera>, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read the list of cameras '{path}': {error}"))?;
    KnownCamera::parse_list(&text).map_err(|error| format!("list of cameras '{path}': {error}"))
}

/// Whether `key` is the key itself, which is secret, rather than the path of a file.
pub(crate) fn is_secret(key: &str) -> bool {
    CameraToken::from_str(key).is_ok() || PrivateKey::from_str(key).is_ok()
}

fn read<K: FromStr<Err = KeyError>>(key: &str, what: &str) -> Result<K, String> {
    if let Ok(key) = key.parse() {
        return Ok(key);
    }
    if !Path::new(key).exists() {
        return Err(format!(
            "the key is neither a {what} nor a file that exists"
        ));
    }
    let text = fs::read_to_string(key).map_err(|error| format!("cannot read '{key}': {error}"))?;
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    line.unwrap_or_default()
        .parse()
        .map_err(|error| format!("'{key}' holds no {what}: {error}"))
}
