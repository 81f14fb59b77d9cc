//! The ways out: one folder each, all of them starting at feeds.

pub mod http;
pub mod rtsp;
pub mod whep;
