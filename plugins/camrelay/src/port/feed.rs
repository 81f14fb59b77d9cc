//! One camera as a listening port has it: who sends it and who takes it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use camrelay_protocol::{
    Code, Endpoint, GapReason, LatePolicy, PeerId, ReceivedFrame, Rejection, Time,
};

use super::CAT;
use super::delivery::{Delivery, Observer};
use super::queue::{Input, Queue};
use super::streams::Streams;

/// How long an element waits for frames.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) latency: Duration,
    pub(crate) policy: LatePolicy,
}

/// An element that takes a stream.
pub(super) struct Subscriber {
    pub(super) patience: Patience,
    pub(super) queue: Arc<Queue>,
    pub(super) observer: Observer,
}

/// The registered camera.
pub(super) struct Camera {
    pub(super) peer: PeerId,
    pub(super) remote: SocketAddr,
    pub(super) streams: Streams,
}

/// A camera, there or expected, and whoever takes its frames.
#[derive(Default)]
pub(super) struct Feed {
    pub(super) camera: Option<Camera>,
    pub(super) subscribers: Vec<Subscriber>,
    /// Remote peers that take the frames, with one bit for each stream of which a key frame
    /// was sent, so that what follows can be decoded.
    watchers: HashMap<PeerId, u16>,
    /// One bit for each stream whose next frame does not continue the one before.
    broken: u16,
}

impl Feed {
    /// Whether nobody sends or takes it.
    pub(super) fn is_unused(&self) -> bool {
        self.camera.is_none() && self.subscribers.is_empty() && self.watchers.is_empty()
    }

    /// The patience of the most patient of the elements.
    pub(super) fn patience(&self) -> Option<Patience> {
        let all = self.subscribers.iter().map(|one| one.patience);
        all.reduce(|one, other| Patience {
            latency: one.latency.max(other.latency),
            policy: match one.policy {
                LatePolicy::Ordered => LatePolicy::Ordered,
                LatePolicy::Latest => other.policy,
            },
        })
    }

    /// Adds a remote peer, and tells it what there is.
    pub(super) fn add_watcher(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        peer: PeerId,
        name: &str,
    ) {
        self.watchers.insert(peer, 0);
        if let Some(camera) = &self.camera {
            for (stream, text, _) in camera.streams.caps() {
                forward_caps(endpoint, now, peer, stream, text);
            }
        } else {
            let text = format!("there is no camera '{name}' here now");
            endpoint.end_feed(now, peer, Rejection::new(Code::NoSuchCamera, text));
        }
    }

    /// Forgets a remote peer.
    pub(super) fn remove_watcher(&mut self, peer: PeerId) {
        self.watchers.remove(&peer);
    }

    /// Takes the caps of a stream; returns them where they are new.
    ///
    /// # Errors
    /// Why they are refused.
    pub(super) fn take_caps(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        stream: u16,
        generation: u8,
        text: &str,
    ) -> Result<Option<gst::Caps>, String> {
        let Some(camera) = &mut self.camera else {
            return Ok(None);
        };
        let caps = camera.streams.set_caps(stream, generation, text)?;
        for (peer, started) in &mut self.watchers {
            *started &= !(1 << stream);
            forward_caps(endpoint, now, *peer, stream, text);
        }
        Ok(caps)
    }

    /// Hands a frame to everybody, by reference.
    pub(super) fn take_frame(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        received: ReceivedFrame,
        out: &mut Vec<Delivery>,
    ) {
        let Some(camera) = &self.camera else {
            return;
        };
        let stream = received.stream;
        let Some(mut frame) = camera.streams.frame(received) else {
            return;
        };
        frame.frame.flags.discont |= self.broken & (1 << stream) != 0;
        self.broken &= !(1 << stream);
        let flags = frame.frame.flags;
        let mut needs_key = false;
        for (peer, started) in &mut self.watchers {
            if flags.key {
                *started |= 1 << stream;
            } else if *started & (1 << stream) == 0 && !flags.header {
                needs_key = true;
                continue;
            }
            if let Err(error) = endpoint.send_frame(now, *peer, stream, frame.frame.clone()) {
                gst::debug!(CAT, "a viewer misses a frame of stream {stream}: {error}");
            }
        }
        if needs_key {
            endpoint.request_keyframe(now, camera.peer, stream);
        }
        self.tell(stream, || Input::Frame(frame.clone()), out);
    }

    /// Frames of a stream are missing.
    pub(super) fn take_gap(
        &mut self,
        stream: u16,
        frames: u32,
        reason: GapReason,
        out: &mut Vec<Delivery>,
    ) {
        self.broken |= 1 << stream;
        self.tell(stream, || Input::Gap { frames, reason }, out);
    }

    /// Puts an input into the queue of every element that takes `stream`.
    fn tell(&self, stream: u16, input: impl Fn() -> Input, out: &mut Vec<Delivery>) {
        let Some(camera) = &self.camera else {
            return;
        };
        for subscriber in &self.subscribers {
            if subscriber.queue.stream() == stream {
                let queue = subscriber.queue.clone();
                out.push(Delivery::Input(queue, camera.peer, input()));
            }
        }
    }

    /// The camera ended a stream.
    pub(super) fn end_stream(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        stream: u16,
        out: &mut Vec<Delivery>,
    ) {
        for (peer, started) in &mut self.watchers {
            *started &= !(1 << stream);
            endpoint.end_stream(now, *peer, stream);
        }
        self.tell(stream, || Input::Ended, out);
    }

    /// The camera left; every stream of it ends.
    pub(super) fn remove_camera(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        name: &str,
        out: &mut Vec<Delivery>,
    ) {
        for (peer, started) in &mut self.watchers {
            *started = 0;
            let reason = Rejection::new(Code::Gone, format!("camera '{name}' left"));
            endpoint.end_feed(now, *peer, reason);
        }
        if let Some(camera) = self.camera.take() {
            for subscriber in &self.subscribers {
                let queue = subscriber.queue.clone();
                out.push(Delivery::Input(queue, camera.peer, Input::Ended));
            }
        }
    }

    /// The camera came back on another session; its streams start anew.
    pub(super) fn replace_camera(&mut self, camera: Camera) {
        self.camera = Some(camera);
        for started in self.watchers.values_mut() {
            *started = 0;
        }
    }
}

fn forward_caps(endpoint: &mut Endpoint, now: Time, peer: PeerId, stream: u16, text: &str) {
    if let Err(error) = endpoint.set_caps(now, peer, stream, text) {
        gst::debug!(CAT, "a viewer does not get stream {stream}: {error}");
    }
}
