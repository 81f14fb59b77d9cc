//! GStreamer elements that send and receive live frames over the camrelay protocol.
//!
//! `camrelaysink` sends the frames of a camera to a relay; `camrelaysrc` is the relay's end,
//! or asks a relay for a camera. [`port`] is what both stand on, and what a program that
//! runs a relay uses directly.

mod camrelaysink;
mod camrelaysrc;
mod clocks;
#[cfg(test)]
mod fuzzing;
mod keys;
mod notices;
pub mod port;
mod stats;
mod uri;

use gst::glib;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    camrelaysink::register(plugin)?;
    camrelaysrc::register(plugin)
}

#[allow(missing_docs, reason = "the macro documents nothing that it defines")]
mod plugin {
    use super::plugin_init;

    gst::plugin_define!(
        camrelay,
        env!("CARGO_PKG_DESCRIPTION"),
        plugin_init,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        "MIT/X11",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_REPOSITORY"),
        env!("BUILD_REL_DATE")
    );
}

pub use plugin::plugin_register_static;
