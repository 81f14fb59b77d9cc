//! Builds the media of one camera.

use std::sync::{Arc, OnceLock};

use anyhow::Context;
use gst::prelude::*;
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::subclass::prelude::*;

use super::media::Media;
use super::mount::Mount;
use super::source::Source;
use crate::relay::frame::Codec;

glib::wrapper! {
    /// The factory behind one camera's URL.
    pub struct Factory(ObjectSubclass<imp::Factory>) @extends gst_rtsp_server::RTSPMediaFactory;
}

impl Factory {
    /// A factory for that mount's camera.
    pub fn new(mount: Arc<Mount>) -> Self {
        let factory: Self = glib::Object::new();
        factory.set_shared(true);
        factory.set_latency(0);
        factory.set_stop_on_disconnect(true);
        factory.set_media_gtype(Media::static_type());
        let _ = factory.imp().mount.set(mount);
        factory
    }
}

/// The payloader for a codec; `None` where RTSP players know none.
fn payloader(codec: &Codec) -> Option<&'static str> {
    Some(match codec {
        Codec::Jpeg => "rtpjpegpay",
        Codec::H264 => "rtph264pay",
        Codec::H265 => "rtph265pay",
        Codec::Opus => "rtpopuspay",
        Codec::Other(_) => return None,
    })
}

/// Whether RTSP players can be given that codec.
pub fn can_carry(codec: &Codec) -> bool {
    payloader(codec).is_some()
}

/// The first payload type of the dynamic range (RFC 3551, section 6).
const DYNAMIC_PAYLOAD_TYPE: u32 = 96;

mod imp {
    use super::*;

    #[derive(Default)]
    pub struct Factory {
        pub(super) mount: OnceLock<Arc<Mount>>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Factory {
        const NAME: &'static str = "CamRelayRTSPMediaFactory";
        type Type = super::Factory;
        type ParentType = gst_rtsp_server::RTSPMediaFactory;
    }

    impl ObjectImpl for Factory {}

    impl Factory {
        /// `appsrc ! payloader` for every stream, the payloaders named pay0, pay1, …
        fn build(&self) -> anyhow::Result<gst::Element> {
            let mount = self.mount.get().expect("set when it was made");
            let layout = mount.layout()?;
            let bin = gst::Bin::new();
            let mut sources = Vec::new();
            for (number, (_, stream, start)) in layout.iter().enumerate() {
                let codec = &start.codec;
                let name = payloader(codec)
                    .with_context(|| format!("there is no payloader for {codec}"))?;
                let payloader = gst::ElementFactory::make(name)
                    .name(format!("pay{number}"))
                    .build()?;
                if *codec != Codec::Jpeg {
                    payloader.set_property("pt", DYNAMIC_PAYLOAD_TYPE + number as u32);
                }
                if codec.is_inter() {
                    payloader.set_property_from_str("aggregate-mode", "zero-latency");
                }
                let (appsrc, source) = Source::new(mount.feed().name(), stream, start.clone());
                bin.add(&appsrc)?;
                bin.add(&payloader)?;
                appsrc.link(&payloader)?;
                sources.push(source);
            }
            mount.built(layout, sources);
            Ok(bin.upcast())
        }
    }

    impl RTSPMediaFactoryImpl for Factory {
        /// One media for all, whatever query a URL carries; another one after a failure.
        fn gen_key(&self, _url: &gst_rtsp::RTSPUrl) -> Option<glib::GString> {
            Some(self.mount.get()?.key().into())
        }

        fn create_element(&self, _url: &gst_rtsp::RTSPUrl) -> Option<gst::Element> {
            self.build()
                .inspect_err(|error| {
                    let mount = self.mount.get().expect("set when it was made");
                    tracing::debug!("camera {}: no RTSP media: {error:#}", mount.feed().name());
                })
                .ok()
        }

        fn create_pipeline(&self, media: &gst_rtsp_server::RTSPMedia) -> Option<gst::Pipeline> {
            let pipeline = self.parent_create_pipeline(media)?;
            // Feeds count time on this clock; frames are late when they come, so
            // they leave at once: sinks add no delay of their own.
            pipeline.use_clock(Some(&gst::SystemClock::obtain()));
            pipeline.set_latency(gst::ClockTime::ZERO);
            Some(pipeline)
        }

        fn configure(&self, media: &gst_rtsp_server::RTSPMedia) {
            self.parent_configure(media);
            if let (Some(media), Some(mount)) = (media.downcast_ref::<Media>(), self.mount.get()) {
                media.set_ticket(mount.ticket());
            }
        }
    }
}
