//! The relay: cameras come in, viewers watch.

use crate::config::Deployment;
use crate::stop::Stop;

/// Runs the relay and the cameras of the deployment until `stop`.
pub fn run(_deployment: &Deployment, _stop: Stop) -> anyhow::Result<()> {
    anyhow::bail!("the relay is not built yet")
}
