//! What a `camrelaysrc` is set to, by properties or a URI.

use camrelay_protocol::{Accept, DEFAULT_PORT, LatePolicy, MAX_STREAMS};
use gst::glib;

use crate::keys;
use crate::uri::{self, CamRelayUri};

pub(super) const DEFAULT_ADDRESS: &str = "0.0.0.0";
pub(super) const DEFAULT_HOST: &str = "127.0.0.1";
pub(super) const DEFAULT_LATENCY: u32 = 120;
/// Longest latency, in milliseconds.
pub(super) const MAX_LATENCY: u32 = 60_000;
const URI_PARAMETERS: [&str; 8] = [
    "mode",
    "key",
    "cameras",
    "accept",
    "latency",
    "late-policy",
    "stream",
    "keep-listening",
];

/// Who opens the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstCamRelaySrcMode")]
#[repr(i32)]
pub(crate) enum Mode {
    #[default]
    #[enum_value(name = "Listen for cameras", nick = "listener")]
    Listener,
    #[enum_value(name = "Call a relay", nick = "caller")]
    Caller,
}

/// Who may connect without a known key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstCamRelaySrcAccept")]
#[repr(i32)]
pub(crate) enum Who {
    #[default]
    #[enum_value(name = "Private, link-local and loopback addresses", nick = "lan")]
    Lan,
    #[enum_value(name = "Nobody", nick = "known")]
    Known,
    #[enum_value(name = "Everybody", nick = "anyone")]
    Anyone,
}

impl From<Who> for Accept {
    fn from(who: Who) -> Self {
        match who {
            Who::Lan => Self::Lan,
            Who::Known => Self::Known,
            Who::Anyone => Self::Anyone,
        }
    }
}

/// What becomes of frames that are not whole when a newer one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstCamRelaySrcLatePolicy")]
#[repr(i32)]
pub(crate) enum Late {
    #[default]
    #[enum_value(
        name = "The newer one waits for them, at most their latency",
        nick = "ordered"
    )]
    Ordered,
    #[enum_value(
        name = "They are given up, where the newer one can be decoded without them",
        nick = "latest"
    )]
    Latest,
}

impl From<Late> for LatePolicy {
    fn from(late: Late) -> Self {
        match late {
            Late::Ordered => Self::Ordered,
            Late::Latest => Self::Latest,
        }
    }
}

/// What a `camrelaysrc` is set to.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) mode: Mode,
    pub(super) address: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) camera: Option<String>,
    pub(super) key: Option<String>,
    pub(super) cameras: Option<String>,
    pub(super) accept: Who,
    /// Milliseconds.
    pub(super) latency: u32,
    pub(super) late_policy: Late,
    pub(super) stream: u16,
    pub(super) keep_listening: bool,
    /// What is wrong with the `uri` that was set.
    pub(super) wrong_uri: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            address: DEFAULT_ADDRESS.into(),
            host: DEFAULT_HOST.into(),
            port: DEFAULT_PORT,
            camera: None,
            key: None,
            cameras: None,
            accept: Who::default(),
            latency: DEFAULT_LATENCY,
            late_policy: Late::default(),
            stream: 0,
            keep_listening: true,
            wrong_uri: None,
        }
    }
}

impl Settings {
    /// What a URI says, and of what it does not, what was set before. One with a host calls it,
    /// unless `mode=listener` makes the host the address to listen on; one without a host listens.
    ///
    /// # Errors
    /// `GstURIError`, naming what is wrong.
    pub(super) fn with_uri(&self, text: &str) -> Result<Self, glib::Error> {
        let parsed = CamRelayUri::parse(text)?;
        let mode = match &parsed.host {
            Some(_) => Mode::Caller,
            None => Mode::Listener,
        };
        let mut settings = Self {
            mode,
            port: parsed.port.unwrap_or(DEFAULT_PORT),
            camera: parsed.camera,
            wrong_uri: None,
            ..self.clone()
        };
        for (name, value) in &parsed.parameters {
            match name.as_str() {
                "mode" => settings.mode = by_nick(name, value)?,
                "key" => settings.key = Some(value.clone()),
                "cameras" => settings.cameras = Some(value.clone()),
                "accept" => settings.accept = by_nick(name, value)?,
                "latency" => settings.latency = uri::number(name, value, 0..=MAX_LATENCY)?,
                "late-policy" => settings.late_policy = by_nick(name, value)?,
                "stream" => {
                    let highest = u32::from(MAX_STREAMS) - 1;
                    settings.stream = uri::number(name, value, 0..=highest)? as u16;
                }
                "keep-listening" => {
                    let bad = |_| uri::bad(format!("'{name}={value}' is neither true nor false"));
                    settings.keep_listening = value.parse().map_err(bad)?;
                }
                _ => return Err(uri::unknown(name, &URI_PARAMETERS)),
            }
        }
        if let Some(host) = parsed.host {
            match settings.mode {
                Mode::Caller => settings.host = host,
                Mode::Listener => settings.address = host,
            }
        }
        Ok(settings)
    }

    /// The URI that says the same; a key that is no path is secret and left out.
    pub(super) fn to_uri(&self) -> String {
        let mut parameters = Vec::new();
        let mut add = |name: &str, value: &str| parameters.push((name.into(), value.into()));
        add("mode", &nick(self.mode));
        if let Some(key) = self.key.as_ref().filter(|key| !keys::is_secret(key)) {
            add("key", key);
        }
        let host = match self.mode {
            Mode::Caller => &self.host,
            Mode::Listener => {
                if let Some(cameras) = &self.cameras {
                    add("cameras", cameras);
                }
                add("accept", &nick(self.accept));
                &self.address
            }
        };
        add("latency", &self.latency.to_string());
        if self.late_policy != Late::default() {
            add("late-policy", &nick(self.late_policy));
        }
        add("stream", &self.stream.to_string());
        add("keep-listening", &self.keep_listening.to_string());
        let uri = CamRelayUri {
            host: Some(host.clone()),
            port: Some(self.port),
            camera: self.camera.clone(),
            parameters,
        };
        uri.to_text()
    }
}

fn nick<E: Into<glib::Value>>(value: E) -> String {
    let value: glib::Value = value.into();
    let known = glib::EnumValue::from_value(&value);
    known
        .map(|(_, known)| known.nick().into())
        .unwrap_or_default()
}

fn by_nick<E>(name: &str, nick: &str) -> Result<E, glib::Error>
where
    E: glib::types::StaticType + for<'a> glib::value::FromValue<'a>,
{
    let class = glib::EnumClass::with_type(E::static_type());
    let value = class
        .as_ref()
        .and_then(|class| class.to_value_by_nick(nick));
    let value = value.and_then(|value| value.get().ok());
    value.ok_or_else(|| {
        let nicks = class.iter().flat_map(|class| class.values().iter());
        let nicks: Vec<_> = nicks.map(glib::EnumValue::nick).collect();
        uri::bad(format!("'{name}={nick}' is none of {}", nicks.join(", ")))
    })
}
