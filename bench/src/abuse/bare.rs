//! gst-rtsp-server as its examples have it.

use std::str::FromStr;

use anyhow::Context;
use glib::translate::IntoGlib;
use gst_rtsp_server::gst_rtsp::RTSPAuthMethod;
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::{RTSPAuth, RTSPMediaFactory, RTSPServer, RTSPToken};

use super::picture::{
    CAMERA, CUT, DAMAGED, FAILING, FAILS, FILM, FULL, Pictures, SILENT, caps, film, rounds,
};
use super::{Abused, FromBare, USER};
use crate::process::say;
use crate::serve::mount;

/// What the user is to the media.
const ROLE: &str = "viewer";

/// Serves cameras with the pictures of a folder from within this process, until it is ended.
pub(crate) fn serve(settings: &Abused) -> anyhow::Result<()> {
    gst::init()?;
    let pictures = Pictures::read(&settings.pictures)?;
    let server = RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service("0");
    if let Some(backlog) = settings.backlog {
        server.set_backlog(backlog);
    }
    let mounts = server.mount_points().context("no mount points")?;
    let names = [CAMERA, DAMAGED, CUT, FULL, SILENT, FAILING];
    let cameras = names.map(|name| {
        let more = match name {
            CUT => "! jpegparse".to_owned(),
            FAILING => format!("! identity error-after={FAILS}"),
            _ => String::new(),
        };
        let text = format!(
            "appsrc name=source is-live=true format=time do-timestamp=true {more} \
             ! rtpjpegpay name=pay0"
        );
        let caps = gst::Caps::from_str(caps(name)).expect("they are right");
        let (factory, source) = mount(&text, &caps);
        (name, factory, source)
    });
    let shown = RTSPMediaFactory::new();
    shown.set_shared(true);
    shown.set_launch(&format!(
        "( filesrc location=\"{}\" ! qtdemux ! h264parse ! rtph264pay name=pay0 )",
        film(&settings.pictures).display()
    ));
    let factories = cameras.iter().map(|(name, factory, _)| (*name, factory));
    for (name, factory) in factories.chain([(FILM, &shown)]) {
        if settings.users {
            factory.add_role_from_structure(
                &gst::Structure::builder(ROLE)
                    .field("media.factory.access", true)
                    .field("media.factory.construct", true)
                    .build(),
            );
        }
        mounts.add_factory(&format!("/{name}"), factory.clone());
    }
    if settings.users {
        server.set_auth(Some(&auth()));
    }
    let context = glib::MainContext::default();
    server.attach(Some(&context))?;
    let port = u16::try_from(server.bound_port())?;
    std::thread::spawn(move || {
        rounds(|round| {
            for (name, _, source) in cameras.iter().filter(|(name, ..)| *name != SILENT) {
                source.push(pictures.picture(name, round).copy());
            }
            true
        });
    });
    say(&FromBare::Listening { port })?;
    glib::MainLoop::new(Some(&context), false).run();
    Ok(())
}

/// Asks who is there, by either scheme.
fn auth() -> RTSPAuth {
    let (name, password) = USER;
    let auth = RTSPAuth::new();
    // They are flags, for more than one of which the binding has no name.
    auth.set_supported_methods(RTSPAuthMethod::__Unknown(
        RTSPAuthMethod::Basic.into_glib() | RTSPAuthMethod::Digest.into_glib(),
    ));
    let token = RTSPToken::builder()
        .field("media.factory.role", ROLE)
        .build();
    auth.add_basic(&RTSPAuth::make_basic(name, password), &token);
    auth.add_digest(name, password, &token);
    auth
}
