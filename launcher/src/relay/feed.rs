//! A camera as the relay has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::feeds::{Event, Listeners};
use super::stream::Stream;

/// Whether a camera is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It sends, or is about to.
    Here {
        /// When it came.
        since: Instant,
    },
    /// It left; its feed stays for the viewers that wait for it.
    Gone {
        /// When it left.
        since: Instant,
    },
}

/// One named camera inside the relay: its streams, and whether it is here.
///
/// Every way in ends in a feed and every way out starts at one. A feed stays
/// when its camera leaves, and a camera that returns finds the same feed.
pub struct Feed {
    name: Arc<str>,
    listeners: Arc<Listeners>,
    presence: Mutex<Presence>,
    streams: Mutex<BTreeMap<u16, Arc<Stream>>>,
}

impl Feed {
    pub(super) fn new(name: &str, listeners: Arc<Listeners>) -> Self {
        Self {
            name: name.into(),
            listeners,
            presence: Mutex::new(Presence::Here {
                since: Instant::now(),
            }),
            streams: Mutex::default(),
        }
    }

    /// The camera's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the camera is here.
    pub fn presence(&self) -> Presence {
        self.lock_presence().clone()
    }

    /// The streams by number.
    pub fn streams(&self) -> Vec<(u16, Arc<Stream>)> {
        let streams = self.lock_streams();
        streams
            .iter()
            .map(|(number, stream)| (*number, stream.clone()))
            .collect()
    }

    /// The stream of that number, made where there is none yet; `None` for a
    /// number at or above [`camrelay_protocol::MAX_STREAMS`].
    pub fn stream(self: &Arc<Self>, number: u16) -> Option<Arc<Stream>> {
        if number >= camrelay_protocol::MAX_STREAMS {
            return None;
        }
        let mut streams = self.lock_streams();
        let stream = streams
            .entry(number)
            .or_insert_with(|| Arc::new(Stream::new(Arc::downgrade(self), self.name.clone())));
        Some(stream.clone())
    }

    /// The camera came, for the first time or again.
    pub fn joined(&self) {
        *self.lock_presence() = Presence::Here {
            since: Instant::now(),
        };
        for (_, stream) in self.streams() {
            stream.restart();
        }
    }

    /// The camera left.
    pub fn left(&self) {
        *self.lock_presence() = Presence::Gone {
            since: Instant::now(),
        };
    }

    pub(super) fn tell(&self, event: &Event) {
        self.listeners.tell(event);
    }

    fn lock_presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_streams(&self) -> MutexGuard<'_, BTreeMap<u16, Arc<Stream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
