//! A question to a running relay, over HTTP or HTTPS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use axum::body::Body;
use axum::http::{Request, Response, Uri, header};
use data_encoding::BASE64;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
};

use super::HERE;
use crate::config::secrets;

/// What an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes: 1024 cameras and more.
const MAX_ANSWER: usize = 16 << 20;

/// The environment variable that may hold the password of who asks.
const PASSWORD: &str = "CAMRELAY_PASSWORD";

/// A relay that is asked.
pub struct Relay {
    /// Its scheme, name and port, as they are asked for.
    place: String,
    host: String,
    port: u16,
    login: Option<String>,
    tls: Option<TlsConnector>,
}

impl Relay {
    /// The one at that address. With https it must show the certificate in that file,
    /// whoever signed it and whatever names are in it.
    pub fn at(url: &str, certificate: Option<&Path>) -> anyhow::Result<Self> {
        let wrong = || anyhow!("expected an address such as {HERE}, found {url}");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let (tls, usual) = match (uri.scheme_str(), certificate) {
            (Some("http"), _) => (None, 80),
            (Some("https"), Some(file)) => (Some(connector(file)?), 443),
            (Some("https"), None) => bail!(
                "by which certificate is {url} known? Give its file: --certificate FILE, or \
                 the relay's deployment: --config FILE"
            ),
            _ => return Err(wrong()),
        };
        let (login, place) = match authority.as_str().rsplit_once('@') {
            Some((login, place)) if login.contains(':') => (Some(login.to_owned()), place),
            Some((name, place)) => (Some(format!("{name}:{}", password(name)?)), place),
            None => (None, authority.as_str()),
        };
        Ok(Self {
            place: format!("{}://{place}", uri.scheme_str().unwrap_or_default()),
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(usual),
            login,
            tls,
        })
    }

    /// What it answers to a GET of that path.
    pub fn ask(&self, path: &str) -> anyhow::Result<String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let answered = async {
            let answer = tokio::time::timeout(DEADLINE, self.get(path)).await;
            answer.unwrap_or_else(|_| bail!("it takes longer than {} s", DEADLINE.as_secs()))
        };
        let place = &self.place;
        let (status, text) = runtime.block_on(answered).map_err(|error| {
            anyhow!("no relay answers at {place} ({error:#}): does it run, and has it an [http]?")
        })?;
        match status {
            200 => Ok(text),
            401 => {
                let asked = place.replacen("://", "://NAME@", 1);
                match self.login {
                    Some(_) => bail!("the relay at {place} knows no such name and password"),
                    None => {
                        bail!("the relay at {place} wants a login: launcher status --url {asked}")
                    }
                }
            }
            404 => bail!("{place} answers, but is no relay"),
            status => bail!("the relay at {place} answers {status}: {}", text.trim()),
        }
    }

    async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let connection = TcpStream::connect((self.host_alone(), self.port)).await?;
        let answer = match &self.tls {
            None => self.exchange(connection, path).await?,
            Some(tls) => {
                // It is known by its certificate, not by a name.
                let name = ServerName::try_from(self.host_alone().to_owned())?;
                let connection = tls.connect(name, connection).await.map_err(|error| {
                    let shown = error.get_ref().and_then(|inner| inner.downcast_ref());
                    match shown {
                        Some(Error::InvalidCertificate(_)) => anyhow!(
                            "it shows another certificate than the file holds; one that is \
                             newer needs a restart of the relay"
                        ),
                        _ => anyhow!(error),
                    }
                })?;
                self.exchange(connection, path).await?
            }
        };
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), MAX_ANSWER).await;
        let bytes = bytes.context("the answer breaks off, or is too long")?;
        Ok((status, String::from_utf8(bytes.into())?))
    }

    /// The host without what stands around an IPv6 address in addresses.
    fn host_alone(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    async fn exchange(
        &self,
        connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        path: &str,
    ) -> anyhow::Result<Response<Body>> {
        let (mut sender, driver) = http1::handshake(TokioIo::new(connection)).await?;
        // Ends with the answer, or with the runtime.
        tokio::spawn(driver);
        let host = self.place.split("://").nth(1).unwrap_or_default();
        let mut request = Request::get(path).header(header::HOST, host);
        if let Some(login) = &self.login {
            let code = BASE64.encode(login.as_bytes());
            request = request.header(header::AUTHORIZATION, format!("Basic {code}"));
        }
        let answer = sender.send_request(request.body(Body::empty())?).await?;
        Ok(answer.map(Body::new))
    }
}

/// The password of a user, which nobody sees in a list of processes.
fn password(name: &str) -> anyhow::Result<String> {
    if let Ok(password) = std::env::var(PASSWORD) {
        return Ok(password);
    }
    rpassword::prompt_password(format!("Password of {name}: "))
        .with_context(|| format!("nobody can be asked for the password of {name}; set {PASSWORD}"))
}

fn connector(file: &Path) -> anyhow::Result<TlsConnector> {
    let chain = secrets::certificates(file).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(ring::default_provider());
    let known = Known {
        certificate: chain.into_iter().next().context("no certificate")?,
        provider: provider.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(known))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Trusts one certificate.
#[derive(Debug)]
struct Known {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
