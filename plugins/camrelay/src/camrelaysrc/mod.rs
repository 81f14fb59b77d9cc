//! `camrelaysrc`: receives the frames of a camera.

use gst::glib;
use gst::prelude::*;

mod imp;
mod input;
mod settings;

glib::wrapper! {
    pub(crate) struct CamRelaySrc(ObjectSubclass<imp::CamRelaySrc>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object,
        @implements gst::URIHandler;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "camrelaysrc",
        gst::Rank::PRIMARY,
        CamRelaySrc::static_type(),
    )
}
