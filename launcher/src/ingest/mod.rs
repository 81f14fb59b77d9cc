//! The ways in: one file each, all of them ending in feeds.

mod branch;
pub mod camrelay;
mod seldom;
