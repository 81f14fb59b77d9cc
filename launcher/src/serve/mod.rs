//! The ways out: one folder each, all of them starting at feeds.

pub mod http;
pub mod rtsp;
#[allow(dead_code, reason = "what asks for it comes next")]
pub mod whep;
