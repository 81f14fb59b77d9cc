//! One media: the pipeline that all RTSP viewers of a camera share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use gst_rtsp_server::prelude::*;
use gst_rtsp_server::subclass::prelude::*;

use super::mount::Ticket;

glib::wrapper! {
    /// A media that its mount keeps alive, and that tells it when it fails.
    pub struct Media(ObjectSubclass<imp::Media>) @extends gst_rtsp_server::RTSPMedia;
}

impl Media {
    /// Says whose media this is; once, before it is prepared.
    pub fn set_ticket(&self, ticket: Ticket) {
        let _ = self.imp().ticket.set(ticket);
    }
}

mod imp {
    use super::*;

    #[derive(Default)]
    pub struct Media {
        pub(super) ticket: OnceLock<Ticket>,
        /// Whether the mount was given its share of the media.
        held: AtomicBool,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Media {
        const NAME: &'static str = "CamRelayRTSPMedia";
        type Type = super::Media;
        type ParentType = gst_rtsp_server::RTSPMedia;
    }

    impl ObjectImpl for Media {}

    impl RTSPMediaImpl for Media {
        fn handle_message(&self, message: &gst::MessageRef) -> bool {
            let handled = self.parent_handle_message(message);
            if let gst::MessageView::Error(error) = message.view()
                && let Some(ticket) = self.ticket.get()
            {
                ticket.failed(&error.error());
            }
            handled
        }

        fn prepared(&self) {
            self.parent_prepared();
            if let Some(ticket) = self.ticket.get()
                && !self.held.swap(true, Ordering::Relaxed)
                && self.obj().prepare(None).is_ok()
            {
                ticket.hold(&self.obj());
            }
        }
    }
}
