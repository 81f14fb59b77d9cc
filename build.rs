//! The one build script of the workspace: gives the plugin and the launcher the
//! commit and date that they show as their version.

fn main() {
    gst_plugin_version_helper::info();
}
