//! Where a `camrelaysrc` gets its frames from.

use std::sync::Arc;

use camrelay_protocol::Stats;

use crate::port::queue::Queue;
use crate::port::{
    Observer, Patience, Port, PortError, PortSettings, PortSubscription, SessionSettings,
    SessionSubscription,
};

/// Where frames come from.
pub(super) enum Input {
    /// Cameras that call a port of this process.
    Port(PortSubscription),
    /// A relay that this process called.
    Session(SessionSubscription),
}

impl Input {
    /// Opens a listening port, or shares it.
    pub(super) fn listen(
        port: PortSettings,
        camera: Option<&str>,
        stream: u16,
        patience: Patience,
        observer: Observer,
    ) -> Result<Self, PortError> {
        let port = Port::share(port)?;
        let subscription = port.subscribe(camera, stream, patience, observer);
        Ok(Self::Port(subscription))
    }

    /// Calls a relay, or shares the session.
    pub(super) fn call(
        session: SessionSettings,
        stream: u16,
        observer: Observer,
    ) -> Result<Self, PortError> {
        SessionSubscription::new(session, stream, observer).map(Self::Session)
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        match self {
            Self::Port(subscription) => subscription.queue(),
            Self::Session(subscription) => subscription.queue(),
        }
    }

    /// The port that is bound, where this listens.
    pub(super) fn bound_port(&self) -> Option<u16> {
        match self {
            Self::Port(subscription) => Some(subscription.local_addr().port()),
            Self::Session(_) => None,
        }
    }

    /// Datagrams that came and were dropped by the kernel.
    pub(super) fn dropped_by_kernel(&self) -> u64 {
        match self {
            Self::Port(subscription) => subscription.dropped_by_kernel(),
            Self::Session(subscription) => subscription.dropped_by_kernel(),
        }
    }

    /// What to tell the system where it grants too small a receive buffer.
    pub(super) fn advice(&self) -> Option<String> {
        match self {
            Self::Port(subscription) => subscription.advice(),
            Self::Session(subscription) => subscription.advice(),
        }
    }

    /// Counters of the camera's session, with the frames that the element took too slowly.
    pub(super) fn stats(&self) -> Stats {
        let mut stats = match self {
            Self::Port(subscription) => subscription.stats().unwrap_or_default(),
            Self::Session(subscription) => subscription.stats(),
        };
        stats.frames_dropped += self.queue().dropped();
        stats
    }

    pub(super) fn request_keyframe(&self) {
        match self {
            Self::Port(subscription) => subscription.request_keyframe(),
            Self::Session(subscription) => subscription.request_keyframe(),
        }
    }
}
