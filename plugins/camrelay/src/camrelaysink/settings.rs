//! What a `camrelaysink` is set to, by properties or a URI.

use camrelay_protocol::{DEFAULT_PORT, MAX_STREAMS};
use gst::glib;

use crate::keys;
use crate::uri::{self, CamRelayUri};

pub(super) const DEFAULT_HOST: &str = "127.0.0.1";
pub(super) const DEFAULT_LATENCY: u32 = 120;
/// Longest latency, in milliseconds.
pub(super) const MAX_LATENCY: u32 = 60_000;
/// Smallest UDP payload that can be asked for, in bytes: what every IPv6 path carries.
const MIN_MTU: u32 = 1200;
/// Largest UDP payload, in bytes.
pub(super) const MAX_MTU: u32 = 65_507;
const URI_PARAMETERS: [&str; 4] = ["key", "latency", "mtu", "stream"];

/// What a `camrelaysink` is set to.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) camera: Option<String>,
    pub(super) key: Option<String>,
    /// Milliseconds.
    pub(super) latency: u32,
    pub(super) mtu: u16,
    pub(super) stream: u16,
    pub(super) auto_bitrate: bool,
    /// Bits per second; 0 is no bound.
    pub(super) min_bitrate: u32,
    /// See `min_bitrate`.
    pub(super) max_bitrate: u32,
    /// What is wrong with the `uri` that was set.
    pub(super) wrong_uri: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: DEFAULT_HOST.into(),
            port: DEFAULT_PORT,
            camera: None,
            key: None,
            latency: DEFAULT_LATENCY,
            mtu: 0,
            stream: 0,
            auto_bitrate: true,
            min_bitrate: 0,
            max_bitrate: 0,
            wrong_uri: None,
        }
    }
}

impl Settings {
    /// What a URI says, and of what it does not, what was set before.
    ///
    /// # Errors
    /// `GstURIError`, naming what is wrong.
    pub(super) fn with_uri(&self, text: &str) -> Result<Self, glib::Error> {
        let parsed = CamRelayUri::parse(text)?;
        let mut settings = Self {
            host: parsed.host.unwrap_or_else(|| DEFAULT_HOST.into()),
            port: parsed.port.unwrap_or(DEFAULT_PORT),
            camera: parsed.camera,
            wrong_uri: None,
            ..self.clone()
        };
        for (name, value) in &parsed.parameters {
            match name.as_str() {
                "key" => settings.key = Some(value.clone()),
                "latency" => settings.latency = uri::number(name, value, 0..=MAX_LATENCY)?,
                "mtu" => settings.mtu = mtu(uri::number(name, value, 0..=MAX_MTU)?),
                "stream" => {
                    let highest = u32::from(MAX_STREAMS) - 1;
                    settings.stream = uri::number(name, value, 0..=highest)? as u16;
                }
                _ => return Err(uri::unknown(name, &URI_PARAMETERS)),
            }
        }
        Ok(settings)
    }

    /// The URI that says the same; a key that is no path is secret and left out.
    pub(super) fn to_uri(&self) -> String {
        let mut parameters = Vec::new();
        let mut add = |name: &str, value: String| parameters.push((name.to_string(), value));
        if let Some(key) = self.key.as_ref().filter(|key| !keys::is_secret(key)) {
            add("key", key.clone());
        }
        add("latency", self.latency.to_string());
        add("mtu", self.mtu.to_string());
        add("stream", self.stream.to_string());
        let uri = CamRelayUri {
            host: Some(self.host.clone()),
            port: Some(self.port),
            camera: self.camera.clone(),
            parameters,
        };
        uri.to_text()
    }
}

/// The payload to use for what was asked for, in bytes; 0 finds it out.
pub(super) fn mtu(asked: u32) -> u16 {
    match asked {
        0 => 0,
        asked => asked.clamp(MIN_MTU, MAX_MTU) as u16,
    }
}
