//! The files that a deployment names for keys, and what can be wrong with them.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use camrelay_protocol::{CameraToken, KnownCamera, PrivateKey};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The largest key, list or deployment that is read, in bytes: 65,536 known cameras and more.
pub const MAX_FILE: u64 = 16 << 20;

/// The text of a file. The error says what is wrong with it, not which file it is.
pub fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("larger than {} MiB", MAX_FILE >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "no text: it has bytes that are not UTF-8".to_owned())
}

/// The relay's private key. The error is a sentence with the file and what to do.
pub fn relay_key(path: &Path) -> Result<PrivateKey, String> {
    let name = path.display();
    let advice = format!("make the relay's key with: launcher keys relay {name}");
    let text = read_text(path).map_err(|error| format!("'{name}': {error}; {advice}"))?;
    text.trim()
        .parse()
        .map_err(|error| format!("'{name}' holds no relay's key: {error}"))
}

/// The list of known cameras. The error is a sentence with the file and what to do.
pub fn known_cameras(path: &Path) -> Result<Vec<KnownCamera>, String> {
    let name = path.display();
    let advice = format!("add a camera with: launcher keys add --cameras {name} …");
    let text = read_text(path).map_err(|error| format!("'{name}': {error}; {advice}"))?;
    KnownCamera::parse_list(&text)
        .map_err(|error| format!("'{name}' is no list of cameras: {error}"))
}

/// A camera's token. The error is a sentence with the file and what to do.
pub fn camera_token(path: &Path) -> Result<CameraToken, String> {
    let name = path.display();
    let advice = "put the token into it that 'launcher keys add' prints";
    let text = read_text(path).map_err(|error| format!("'{name}': {error}; {advice}"))?;
    text.trim()
        .parse()
        .map_err(|error| format!("'{name}' holds no camera's token: {error}"))
}

/// The certificates in a PEM file, at least one: first the server's own, then those that it
/// builds on. The error is a sentence with the file and what to do.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(read_pem(file)?.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| format!("'{}' holds no certificate in PEM", file.display()))
}

fn read_pem(path: &Path) -> Result<String, String> {
    let advice = "make a certificate and its key with: launcher keys certificate";
    read_text(path).map_err(|error| format!("'{}': {error}; {advice}", path.display()))
}

/// How a server proves itself over TLS: with the certificate and the key in these PEM
/// files. The error is a sentence with the file and what to do.
pub fn tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(read_pem(key)?.as_bytes())
        .map_err(|_| format!("'{}' holds no private key in PEM", key.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            config
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(|error| {
            let (certificate, key) = (certificate.display(), key.display());
            format!("'{certificate}' and '{key}' do not go together: {error}")
        })?;
    Ok(Arc::new(config))
}
