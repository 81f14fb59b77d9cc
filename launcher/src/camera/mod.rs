//! The cameras of this machine: from a source to a relay.
//!
//! Each camera has a thread of its own that builds its pipeline and watches over it.

mod build;
mod check;
mod choice;
mod dynamic;
mod packages;
mod plan;
mod supervise;
mod text;
mod trouble;
mod voice;

use std::net::SocketAddr;
use std::thread;

use anyhow::Context;

pub use check::faults;

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
pub fn run(deployment: &Deployment, own: Option<&OwnRelay>, stop: &Stop) -> anyhow::Result<()> {
    let plans = plan::plans(deployment, own)?;
    thread::scope(|scope| {
        for plan in &plans {
            thread::Builder::new()
                .name(plan.name.clone())
                .spawn_scoped(scope, || supervise::run(plan, stop))
                .with_context(|| format!("camera {}: no thread for it", plan.name))
                .inspect_err(|_| stop.raise())?;
        }
        Ok(())
    })
}
