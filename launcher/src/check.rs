//! `launcher check`: what is wrong with a deployment, without running it.

use std::path::Path;

use crate::config::Deployment;

/// Checks the deployment in `path`.
pub fn run(path: &Path) -> anyhow::Result<()> {
    Deployment::load(path)?;
    Ok(())
}
