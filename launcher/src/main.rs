//! Runs camrelay deployments described in TOML files.

fn main() -> anyhow::Result<()> {
    gst::init()?;
    gstcamrelay::plugin_register_static()?;
    Ok(())
}
