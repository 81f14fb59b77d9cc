//! The ways out: one folder each, all of them starting at feeds.

pub mod rtsp;
