//! What leaves a port's core: handed on once its lock was let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use camrelay_protocol::{PeerId, Rejection};

use super::PortEvent;
use super::queue::{Input, Queue};

/// What an element is told beside frames.
#[derive(Clone, Debug)]
pub(crate) enum Notice {
    /// Something happened on a listening port.
    Port(PortEvent),
    /// The session is up.
    Connected,
    /// There is no session, or no camera, for now.
    Waiting(Rejection),
    /// The relay's host name leads nowhere for now; the system's words.
    NoAddress(String),
    /// The session of an element that sends is over for good.
    Failed(Rejection),
    /// A receiver needs a key frame.
    KeyframeRequested,
    /// Bits per second that an element's frames should stay below, where there is a limit.
    TargetBitrate(Option<u64>),
}

/// Takes notices on the port's thread: must neither block nor call back into the port.
pub(crate) type Observer = Arc<dyn Fn(Notice) + Send + Sync>;

/// Where the receiver of [`super::Port::events`] listens. One that is gone, or so far behind
/// that its channel is full, is over and hears nothing more.
#[derive(Clone)]
pub(super) struct EventSender {
    sender: SyncSender<PortEvent>,
    over: Arc<AtomicBool>,
}

impl EventSender {
    pub(super) fn new(sender: SyncSender<PortEvent>) -> Self {
        let over = Arc::default();
        Self { sender, over }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn send(&self, event: PortEvent) {
        if !self.is_over() && self.sender.try_send(event).is_err() {
            self.over.store(true, Ordering::Relaxed);
        }
    }
}

/// One thing to hand on.
pub(super) enum Delivery {
    /// Something for an element's queue.
    Input(Arc<Queue>, PeerId, Input),
    /// Nothing more will come to an element's queue.
    Failed(Arc<Queue>, Rejection),
    /// A notice for an element.
    Notice(Observer, Notice),
    /// An event for the receivers of [`super::Port::events`].
    Event(EventSender, PortEvent),
    /// Work that may take long; starts a thread of its own.
    Task(Box<dyn FnOnce() + Send>),
}

impl Delivery {
    /// Hands it on; returns the peer and stream that must send a key frame for it to be of use.
    pub(super) fn carry_out(self) -> Option<(PeerId, u16)> {
        match self {
            Self::Input(queue, peer, input) => {
                let needs_key = queue.push(input);
                return needs_key.then_some((peer, queue.stream()));
            }
            Self::Failed(queue, reason) => queue.fail(reason),
            Self::Notice(observer, notice) => observer(notice),
            Self::Event(receiver, event) => receiver.send(event),
            Self::Task(task) => task(),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use camrelay_protocol::Code;

    use super::*;

    #[test]
    fn a_receiver_that_is_too_far_behind_is_cut_off() {
        let removed = |camera: &str| PortEvent::CameraRemoved {
            camera: camera.into(),
            reason: Rejection::new(Code::Done, ""),
        };
        let (sender, receiver) = sync_channel(2);
        let sender = EventSender::new(sender);
        for camera in ["a", "b"] {
            sender.send(removed(camera));
        }
        assert!(!sender.is_over());
        sender.send(removed("c"));
        assert!(sender.is_over());
        // It hears all that came before, and nothing after a hole.
        receiver.recv().unwrap();
        sender.send(removed("d"));
        drop(sender);
        let rest: Vec<_> = receiver.iter().collect();
        assert!(matches!(&rest[..], [PortEvent::CameraRemoved { camera, .. }] if camera == "b"));
    }
}
