//! A relay with moving test pictures.

use crate::stop::Stop;

/// Runs the demo until `stop`.
pub fn run(_stop: Stop) -> anyhow::Result<()> {
    anyhow::bail!("the demo is not built yet")
}
