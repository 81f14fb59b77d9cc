//! What is checked of every request, and said with every answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Extension, RawPathParams, Request, State};
use axum::http::uri::{Authority, PathAndQuery, Uri};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use data_encoding::BASE64;

use super::Site;
use super::answer::Refusal;
use super::router::Need;
use crate::users::{Denied, Login, Right, Users, Visitor};

/// Where a request comes from.
#[derive(Clone, Copy)]
pub struct Remote {
    /// The address of the connection.
    pub address: SocketAddr,
    /// Whether it came over TLS.
    pub secure: bool,
}

impl Remote {
    /// Without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            secure: false,
        }
    }

    /// Over TLS.
    pub fn secure(address: SocketAddr) -> Self {
        Self {
            address,
            secure: true,
        }
    }

    /// Whether others on the network can read along.
    fn can_be_read(&self) -> bool {
        !self.secure && !self.address.ip().to_canonical().is_loopback()
    }

    /// How addresses begin that lead back here.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

/// What a request was sent to.
#[derive(Clone)]
pub struct Asked {
    /// Name and port.
    pub host: Authority,
    /// `http` or `https`.
    pub scheme: &'static str,
}

/// Scripts, styles and connections come from the relay and from nowhere else; nothing
/// is written into the page; nobody frames it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; \
    manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Said with every answer, unless a handler says something else.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// Adds the headers that keep other sites out.
pub fn secure(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
}

/// Asked for under its own name, and by no other site's page.
pub async fn request(
    State(site): State<Arc<Site>>,
    Extension(remote): Extension<Remote>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let host = host(&request)?;
    if !is_own(&host, &site.hosts) {
        let why = format!(
            "this relay is not called {}; use its address, or add the name to hosts of [http]",
            host.host()
        );
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, why));
    }
    if site.tls.is_some() && remote.can_be_read() {
        return Ok(Redirect::permanent(&over_tls(&host, request.uri())).into_response());
    }
    let acts = !matches!(*request.method(), Method::GET | Method::HEAD)
        || request.headers().contains_key(header::UPGRADE);
    if acts
        && let Some(origin) = request.headers().get(header::ORIGIN)
        && !is_same(origin, &host)
    {
        let why = "another site's page may not do this";
        return Err(Refusal::new(StatusCode::FORBIDDEN, why));
    }
    request.extensions_mut().insert(Asked {
        host,
        scheme: remote.scheme(),
    });
    Ok(next.run(request).await)
}

/// The same, over TLS.
fn over_tls(host: &Authority, uri: &Uri) -> String {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    format!("https://{host}{path}")
}

/// Lets in who has what a route needs.
pub async fn right(
    State((site, need)): State<(Arc<Site>, Need)>,
    Extension(remote): Extension<Remote>,
    parameters: RawPathParams,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if need == Need::Nothing {
        return Ok(next.run(request).await);
    }
    let visitor = admit(&site.users, remote.address.ip(), request.headers()).await?;
    let (allowed, what) = match need {
        Need::Nothing => (true, String::new()),
        Need::Any(right) => (visitor.may_any(right), "do this".to_owned()),
        Need::Camera(right) => {
            let camera = parameters.iter().find(|(key, _)| *key == "name");
            let (_, camera) = camera.unwrap_or_default();
            let what = match right {
                Right::View => "see",
                Right::Publish | Right::Admin => "change",
            };
            (
                visitor.may(right, camera),
                format!("{what} camera {camera}"),
            )
        }
    };
    if !allowed {
        let why = match visitor.name() {
            Some(name) => format!("user {name} may not {what}"),
            None => format!("only users of this relay may {what}"),
        };
        return Err(Refusal::new(StatusCode::FORBIDDEN, why));
    }
    request.extensions_mut().insert(visitor);
    Ok(next.run(request).await)
}

/// Who sent a request with these headers.
async fn admit(users: &Arc<Users>, remote: IpAddr, headers: &HeaderMap) -> Result<Visitor, Denied> {
    let Some(login) = headers.get(header::AUTHORIZATION) else {
        return users.admit(remote, None);
    };
    let (name, password) = basic(login).ok_or(Denied::Unknown)?;
    let users = users.clone();
    // A password takes a while to check.
    tokio::task::spawn_blocking(move || {
        let login = Login {
            name: &name,
            password: &password,
        };
        users.admit(remote, Some(login))
    })
    .await
    .unwrap_or(Err(Denied::Busy))
}

/// Name and password of RFC 7617, section 2.
fn basic(value: &HeaderValue) -> Option<(String, String)> {
    let (scheme, code) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(code.trim().as_bytes()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// The name and port that a request asks for, as RFC 9112, section 3.2, has it.
fn host(request: &Request) -> Result<Authority, Refusal> {
    let refusal = || {
        let why = "a request has to say once, in Host, what it asks for";
        Refusal::new(StatusCode::BAD_REQUEST, why)
    };
    let mut values = request.headers().get_all(header::HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(refusal());
    };
    let host = Authority::try_from(value.as_bytes()).map_err(|_| refusal())?;
    match request.uri().authority() {
        Some(target) if *target != host => Err(refusal()),
        _ if host.as_str().contains('@') => Err(refusal()),
        _ if host.port_u16().is_none() && host.as_str() != host.host() => Err(refusal()),
        _ => Ok(host),
    }
}

/// Whether a page of another site could not have this name for itself: an address,
/// this machine, or a name of the relay.
fn is_own(host: &Authority, hosts: &[String]) -> bool {
    let name = host.host().trim_end_matches('.').to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || address.parse::<IpAddr>().is_ok() || hosts.contains(&name)
}

/// Whether a page comes from the name and port that it asks for.
fn is_same(origin: &HeaderValue, host: &Authority) -> bool {
    let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
    origin.is_some_and(|(scheme, origin)| {
        let default = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        Authority::try_from(origin).is_ok_and(|origin| {
            let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
            origin.host().eq_ignore_ascii_case(host.host()) && port(&origin) == port(host)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(text: &'static str) -> Authority {
        Authority::from_static(text)
    }

    #[test]
    fn what_others_can_read_goes_over_tls() {
        let lan = ([192, 168, 1, 5], 4000).into();
        assert!(Remote::plain(lan).can_be_read());
        assert!(!Remote::secure(lan).can_be_read());
        let mapped = "[::ffff:127.0.0.1]:4000".parse().expect("an address");
        assert!(!Remote::plain(mapped).can_be_read());

        let host = authority("10.0.0.1:8080");
        for (asked, there) in [
            (
                "/cameras/door/snapshot.jpg?a=b",
                "https://10.0.0.1:8080/cameras/door/snapshot.jpg?a=b",
            ),
            ("http://10.0.0.1:8080/", "https://10.0.0.1:8080/"),
        ] {
            assert_eq!(over_tls(&host, &asked.parse().expect("a URI")), there);
        }
    }

    #[test]
    fn names_of_its_own() {
        let hosts = ["cams.example.org".to_owned()];
        for host in [
            "127.0.0.1:8080",
            "192.168.1.10",
            "[::1]:8080",
            "[fe80::1]",
            "localhost",
            "LOCALHOST:1",
            "cams.example.org",
            "Cams.Example.Org.:8080",
        ] {
            assert!(is_own(&authority(host), &hosts), "{host}");
        }
        for host in [
            "evil.example",
            "example.org",
            "x.cams.example.org",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "1",
        ] {
            assert!(!is_own(&authority(host), &hosts), "{host}");
        }
    }

    #[test]
    fn pages_of_its_own() {
        for (origin, host) in [
            ("http://10.0.0.1:8080", "10.0.0.1:8080"),
            ("http://door", "door:80"),
            ("https://door:443", "DOOR"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            let value = HeaderValue::from_static(origin);
            assert!(is_same(&value, &authority(host)), "{origin} {host}");
        }
        for (origin, host) in [
            ("null", "10.0.0.1:8080"),
            ("http://10.0.0.1", "10.0.0.1:8080"),
            ("http://10.0.0.2:8080", "10.0.0.1:8080"),
            ("http://evil.example", "10.0.0.1"),
            ("file://10.0.0.1", "10.0.0.1"),
        ] {
            let value = HeaderValue::from_static(origin);
            assert!(!is_same(&value, &authority(host)), "{origin} {host}");
        }
    }

    #[test]
    fn names_and_passwords() {
        let decode = |text: &str| basic(&HeaderValue::from_str(text).expect("a header"));
        let ann = ("ann".to_owned(), "pass:word".to_owned());
        assert_eq!(decode("Basic YW5uOnBhc3M6d29yZA=="), Some(ann.clone()));
        assert_eq!(decode("bASIC YW5uOnBhc3M6d29yZA=="), Some(ann));
        for wrong in ["", "Basic", "Basic !", "Basic YW5u", "Bearer YW5uOng="] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
