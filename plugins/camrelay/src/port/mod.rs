//! UDP ports and the sessions on them, shared by elements and the program around them.
//!
//! A [`Port`] listens for cameras and viewers; a session calls a relay. Either is one socket
//! and one thread that drives a [`camrelay_protocol::Endpoint`]. Streaming threads hand frames
//! over and take them from queues; they never wait for the network.
//!
//! Lock order: the registry of ports or sessions, then the core of one port. Queues,
//! observers and event receivers are reached with no lock held.

mod arrival;
mod caller;
pub(crate) mod caps;
pub(crate) mod clock;
mod delivery;
mod driver;
mod error;
mod events;
mod feed;
mod listener;
pub(crate) mod queue;
mod random;
mod resolve;
mod router;
mod session;
mod socket;
mod streams;
mod waiter;

use std::sync::LazyLock;

pub(crate) use delivery::{Notice, Observer};
pub use error::PortError;
pub use events::PortEvent;
pub(crate) use feed::Patience;
pub(crate) use listener::PortSubscription;
pub use listener::{Port, PortSettings};
pub(crate) use session::{Direction, Publisher, SessionSettings, SessionSubscription};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "camrelayport",
        gst::DebugColorFlags::empty(),
        Some("UDP ports of camrelay elements"),
    )
});
