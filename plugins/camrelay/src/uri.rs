//! `camrelay://host:port/camera?latency=120&stream=0`: one URI for both elements.

use std::net::Ipv6Addr;

use glib::{Uri, UriFlags};

/// The URI scheme.
pub(crate) const SCHEME: &str = "camrelay";

/// A parsed URI. What it leaves out keeps its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CamRelayUri {
    /// Host name or address; IPv6 without brackets.
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) camera: Option<String>,
    /// Parameters in order, not escaped.
    pub(crate) parameters: Vec<(String, String)>,
}

impl CamRelayUri {
    /// Reads a URI.
    ///
    /// # Errors
    /// `GstURIError`, saying what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, glib::Error> {
        let uri = Uri::parse(text, UriFlags::ENCODED_QUERY | UriFlags::ENCODED_PATH)
            .map_err(|error| bad(format!("'{text}' is no URI: {error}")))?;
        if uri.scheme() != SCHEME {
            let text = format!("'{text}' does not start with {SCHEME}://");
            return Err(glib::Error::new(gst::URIError::UnsupportedProtocol, &text));
        }
        let port = u16::try_from(uri.port()).ok();
        let camera = unescape(uri.path().trim_start_matches('/'))?;
        let mut parameters = Vec::new();
        let query = uri.query().unwrap_or_default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.push((unescape(name)?, unescape(value)?));
        }
        let host = uri.host().map(String::from).filter(|host| !host.is_empty());
        if let Some(host) = host
            .as_ref()
            .filter(|host| host.contains(':') && !is_ipv6(host))
        {
            return Err(bad(format!("'{host}' is no IPv6 address")));
        }
        Ok(Self {
            host,
            port,
            camera: Some(camera).filter(|camera| !camera.is_empty()),
            parameters,
        })
    }

    /// Writes the URI.
    pub(crate) fn to_text(&self) -> String {
        let host = self.host.as_deref().map(write_host).unwrap_or_default();
        let mut text = format!("{SCHEME}://{host}");
        if let Some(port) = self.port {
            text += &format!(":{port}");
        }
        if let Some(camera) = &self.camera {
            text += &format!("/{}", escape(camera));
        }
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            text += &format!("{separator}{}={}", escape(name), escape(value));
        }
        text
    }
}

/// A parameter's number within `range`.
///
/// # Errors
/// `GstURIError`, naming the parameter.
pub(crate) fn number(
    name: &str,
    value: &str,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, glib::Error> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (low, high) = range.into_inner();
        bad(format!(
            "'{name}={value}' is no number from {low} to {high}"
        ))
    })
}

/// The error for a parameter that an element does not have.
pub(crate) fn unknown(name: &str, known: &[&str]) -> glib::Error {
    let known = known.join(", ");
    bad(format!(
        "there is no parameter '{name}'; use one of {known}"
    ))
}

/// A `GstURIError` for a URI that cannot be used as it is.
pub(crate) fn bad(text: String) -> glib::Error {
    glib::Error::new(gst::URIError::BadUri, &text)
}

fn is_ipv6(host: &str) -> bool {
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

/// An IPv6 address in brackets, its zone escaped (RFC 6874); a name escaped.
fn write_host(host: &str) -> String {
    match host.split_once('%') {
        _ if !is_ipv6(host) => escape(host),
        Some((address, zone)) => format!("[{address}%25{}]", escape(zone)),
        None => format!("[{host}]"),
    }
}

fn escape(text: &str) -> String {
    Uri::escape_string(text, None, false).into()
}

fn unescape(text: &str) -> Result<String, glib::Error> {
    let bytes = Uri::unescape_bytes(text, None).ok();
    let plain = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    plain
        .filter(|plain| !plain.contains('\0'))
        .ok_or_else(|| bad(format!("'{text}' is escaped wrongly")))
}
