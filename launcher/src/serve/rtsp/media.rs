//! One media: the pipeline that all RTSP viewers of a camera share.

use std::sync::OnceLock;

use gst_rtsp_server::subclass::prelude::*;

use super::mount::Ticket;

glib::wrapper! {
    /// A media that tells its mount when it fails and when it ends.
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

        fn unprepare(&self) -> Result<(), gst::LoggableError> {
            // From here on gst-rtsp-server 1.22 would still hand this media to
            // the next viewer, and then refuse to start it.
            if let Some(ticket) = self.ticket.get() {
                ticket.retire();
            }
            self.parent_unprepare()
        }
    }
}
