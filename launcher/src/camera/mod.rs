//! The cameras of this machine: from a source to a relay.

mod choice;
mod packages;
pub mod text;

use std::net::SocketAddr;

use crate::config::Deployment;
use crate::stop::Stop;

/// The relay of this process, for the cameras of its file that name no other.
#[derive(Clone, Debug)]
pub struct OwnRelay {
    /// The address that it listens on, with its real port.
    pub listen: SocketAddr,
    /// A token that it knows for every camera of the file; `None`: anonymous.
    pub key: Option<String>,
}

/// Runs every camera of the deployment until `stop`; no camera's failure ends it.
///
/// `own` is the relay of this process. Without one, a camera that names no
/// relay sends to the address of the deployment's `[relay]`.
pub fn run(_deployment: &Deployment, _own: Option<&OwnRelay>, _stop: &Stop) -> anyhow::Result<()> {
    anyhow::bail!("cameras are not built yet")
}
