//! Deployments: what a TOML file says, checked and typed.

mod error;
mod http;
mod read;
pub mod secrets;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod users;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use camrelay_protocol::Accept;

pub use error::Errors;
pub use source::Source;
pub use table::nearest;

use crate::users::Right;

/// What a TOML file describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The file it was read from.
    pub path: PathBuf,
    /// The relay; `None` where the file has only cameras.
    pub relay: Option<Relay>,
    /// The RTSP server of the relay; only with a relay.
    pub rtsp: Option<Rtsp>,
    /// The HTTP server of the relay; only with a relay.
    pub http: Option<Http>,
    /// Who may watch, with distinct names; without any, those that [`Relay::access`] says.
    pub users: Vec<User>,
    /// The cameras of this machine, with distinct names.
    pub cameras: Vec<Camera>,
}

/// The `[relay]` table: where cameras send their frames to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// The UDP address that cameras send to. With port 0 the system picks one.
    pub listen: SocketAddr,
    /// Who may come without a known key.
    pub accept: Accept,
    /// From where one may watch; where it is left out, from the relay's own network
    /// without users, and from anywhere with them.
    pub access: Option<Audience>,
    /// How long past its travel time a frame may take to arrive.
    pub latency: Duration,
    /// The file of the relay's private key; there when `cameras` is.
    pub key: Option<PathBuf>,
    /// The file that lists the known cameras.
    pub cameras: Option<PathBuf>,
}

/// The `[rtsp]` table: where players connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtsp {
    /// The TCP address that players connect to. With port 0 the system picks one.
    pub listen: SocketAddr,
    /// The first of the two UDP ports that viewers over UDP are sent to from; chosen
    /// where it is left out.
    pub ports: Option<u16>,
    /// How it proves itself to viewers that connect with `rtsps://`; without, none can.
    pub tls: Option<Tls>,
}

/// The keys `certificate` and `private-key` of a server: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The file of the certificate, and of those that it builds on.
    pub certificate: PathBuf,
    /// The file of its key.
    pub private_key: PathBuf,
}

/// The `[http]` table: where browsers connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The TCP address that browsers connect to. With port 0 the system picks one.
    pub listen: SocketAddr,
    /// Names of the relay in addresses that browsers ask for, in lower case. Literal
    /// addresses and `localhost` need not be named.
    pub hosts: Vec<String>,
    /// How it proves itself to browsers that connect with `https://`; without, none can.
    pub tls: Option<Tls>,
}

/// From where one may watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Private, link-local and loopback addresses, and the relay's own.
    Lan,
    /// Every address.
    Anyone,
}

/// One `[[user]]` table: somebody who may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name to log in with.
    pub name: String,
    /// The argon2 hash of the password, `$argon2id$…`.
    pub password: String,
    /// What they may do; at least one.
    pub rights: Vec<Right>,
    /// With which cameras: names, or patterns with `*` and `?`.
    pub cameras: Vec<String>,
}

/// One `[[camera]]` table: a camera of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Camera {
    /// The name it registers with, and the path it is watched at.
    pub name: String,
    /// A device, a URI, a file or gst-launch text.
    pub source: String,
    /// gst-launch text of an encoder; chosen where it is left out.
    pub encode: Option<String>,
    /// `host:port` of its relay; this deployment's own where it is left out.
    pub relay: Option<String>,
    /// The file of its token; anonymous where it is left out.
    pub key: Option<PathBuf>,
    /// How long past its travel time a frame may take to arrive.
    pub latency: Duration,
}

/// Something wrong with a value of a camera, found by a closer look than reading takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key of the value.
    pub key: &'static str,
    /// The byte of the value that it is at.
    pub offset: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Deployment {
    /// Reads and checks a deployment. All that is wrong with the file comes at once.
    pub fn load(path: &Path) -> Result<Self, Errors> {
        Self::load_with(path, |_| Vec::new())
    }

    /// As [`Self::load`], with a closer look at each camera.
    pub fn load_with(path: &Path, look: impl Fn(&Camera) -> Vec<Fault>) -> Result<Self, Errors> {
        let text = secrets::read_text(path).map_err(|error| Errors::of_file(path, error))?;
        read::deployment(path, &text, &look)
    }
}

/// A camera's name, or a sentence about what was expected of one.
pub fn camera_name(text: &str) -> Result<String, String> {
    values::camera_name(text).map_err(|expected| expected.but_found(&format!("'{text}'")))
}
