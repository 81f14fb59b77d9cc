//! The relay: cameras come in, viewers watch.
//!
//! Each camera is a [`feed::Feed`] in the table of [`feeds::Feeds`]; the ways in
//! (`ingest`) fill it, the ways out (`serve`) attach to it.

pub mod address;
pub mod consumer;
pub mod feed;
pub mod feeds;
pub mod frame;
pub mod jpeg;
pub mod stream;

use crate::config::Deployment;
use crate::stop::Stop;

/// Runs the relay and the cameras of the deployment until `stop`.
pub fn run(_deployment: &Deployment, _stop: Stop) -> anyhow::Result<()> {
    anyhow::bail!("the relay is not built yet")
}
