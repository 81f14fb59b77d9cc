//! `camrelaysink`: sends the frames of a camera to a relay.

use gst::glib;
use gst::prelude::*;

mod encoder;
mod imp;
mod settings;

glib::wrapper! {
    pub(crate) struct CamRelaySink(ObjectSubclass<imp::CamRelaySink>)
        @extends gst_base::BaseSink, gst::Element, gst::Object,
        @implements gst::URIHandler;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "camrelaysink",
        gst::Rank::PRIMARY,
        CamRelaySink::static_type(),
    )
}
