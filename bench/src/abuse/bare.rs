//! gst-rtsp-server as its examples have it.

use std::path::Path;

use anyhow::Context;
use gst_rtsp_server::RTSPServer;
use gst_rtsp_server::prelude::*;

use super::FromBare;
use super::picture::{CAMERA, CAPS, DAMAGED, Pictures, SILENT, rounds};
use crate::process::say;
use crate::serve::mount;

/// Serves cameras with the pictures of that folder from within this process, until it is ended.
pub(crate) fn serve(pictures: &Path) -> anyhow::Result<()> {
    gst::init()?;
    let pictures = Pictures::read(pictures)?;
    let server = RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service("0");
    // Of the five that it has else, many who come at once are put off for seconds.
    server.set_backlog(1024);
    let mounts = server.mount_points().context("no mount points")?;
    let caps = CAPS.parse()?;
    let cameras = [CAMERA, DAMAGED, SILENT].map(|name| {
        let text = "appsrc name=source is-live=true format=time do-timestamp=true \
             ! rtpjpegpay name=pay0";
        let (factory, source) = mount(text, &caps);
        mounts.add_factory(&format!("/{name}"), factory);
        (name, source)
    });
    let context = glib::MainContext::default();
    server.attach(Some(&context))?;
    let port = u16::try_from(server.bound_port())?;
    std::thread::spawn(move || {
        rounds(|round| {
            for (name, source) in cameras.iter().filter(|(name, _)| *name != SILENT) {
                source.push(pictures.of(name, round).copy());
            }
            true
        });
    });
    say(&FromBare::Listening { port })?;
    glib::MainLoop::new(Some(&context), false).run();
    Ok(())
}
