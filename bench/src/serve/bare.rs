//! gst-rtsp-server with nothing around it: the floor to compare with.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use gst::prelude::*;
use gst_app::AppSrc;
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::{RTSPMediaFactory, RTSPServer};

use super::FromBare;
use crate::many::{Cameras, name, pictures};
use crate::process::say;
use crate::{frame, usage};

/// Serves every camera from within this process, until it is ended.
pub(crate) fn serve_bare(settings: Cameras) -> anyhow::Result<()> {
    usage::raise_file_limit();
    gst::init()?;
    let pictures = pictures(settings.large)?;
    let caps: gst::Caps = settings.caps().parse()?;
    let server = RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service("0");
    server.set_backlog(1024);
    let mounts = server.mount_points().context("no mount points")?;
    let sources: Vec<_> = (0..settings.count)
        .map(|camera| {
            let text = "appsrc name=source is-live=true format=time do-timestamp=true \
                 max-buffers=4 leaky-type=downstream ! rtpjpegpay name=pay0";
            let (factory, source) = mount(text, &caps);
            mounts.add_factory(&format!("/{}", name(camera)), factory);
            source
        })
        .collect();
    let context = glib::MainContext::default();
    server.attach(Some(&context))?;
    let port = u16::try_from(server.bound_port())?;
    std::thread::spawn(move || {
        let interval = 1_000_000_000 / u64::from(settings.fps) / settings.count as u64;
        let mut due = frame::now();
        for round in 0.. {
            for (camera, source) in sources.iter().enumerate() {
                let wait = due.saturating_sub(frame::now());
                std::thread::sleep(Duration::from_nanos(wait));
                due += interval;
                let picture = pictures[(camera + round) % pictures.len()].copy();
                source.push(picture);
            }
        }
    });
    say(&FromBare::Listening { port })?;
    glib::MainLoop::new(Some(&context), false).run();
    Ok(())
}

/// What is mounted for a camera, in gst-launch text with an appsrc `source`, and where its
/// pictures go.
pub(crate) fn mount(text: &str, caps: &gst::Caps) -> (RTSPMediaFactory, Source) {
    let factory = RTSPMediaFactory::new();
    factory.set_launch(&format!("( {text} )"));
    factory.set_shared(true);
    let source = Source::default();
    let (slot, caps) = (source.clone(), caps.clone());
    factory.connect_media_configure(move |_, media| {
        let element = media.element();
        let bin = element.downcast_ref::<gst::Bin>();
        let found = bin
            .and_then(|bin| bin.by_name("source"))
            .and_downcast::<AppSrc>();
        if let Some(source) = &found {
            source.set_caps(Some(&caps));
        }
        *slot.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    });
    (factory, source)
}

/// Where the pictures of a camera go, while somebody watches. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Source(Arc<Mutex<Option<AppSrc>>>);

impl Source {
    /// Takes a picture, unless nobody watches.
    pub(crate) fn push(&self, picture: gst::Buffer) {
        let source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let source = source.clone();
        // A media that is just being stopped takes nothing, either.
        let _ = source.map(|source| source.push_buffer(picture));
    }
}
