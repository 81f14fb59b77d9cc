//! The listening side: cameras by name, and whoever asked for them.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use camrelay_protocol::{Code, Endpoint, Event, MAX_STREAMS, PeerId, Rejection, Time};

use super::delivery::{Delivery, EventSender, Notice};
use super::driver::Side;
use super::feed::{Camera, Feed, Patience, Subscriber};
use super::queue::Queue;
use super::streams::Streams;
use super::{CAT, PortEvent};

/// Events that a receiver may be behind before it is cut off.
const MAX_EVENTS: usize = 1024;

/// The feeds of a listening port.
#[derive(Default)]
pub(super) struct Router {
    feeds: BTreeMap<Arc<str>, Feed>,
    /// Which feed a peer sends or watches.
    peers: HashMap<PeerId, Arc<str>>,
    /// Elements that take the first camera that comes.
    undecided: Vec<Subscriber>,
    receivers: Vec<EventSender>,
}

impl Router {
    /// Adds an element; `camera` is the one that it takes, `None` the first that comes.
    pub(super) fn subscribe(
        &mut self,
        endpoint: &mut Endpoint,
        camera: Option<&str>,
        subscriber: Subscriber,
    ) {
        let mut present = self.feeds.iter().filter(|(_, feed)| feed.camera.is_some());
        let first = present.next().map(|(name, _)| name.clone());
        let Some(name) = camera.map(Arc::from).or(first) else {
            self.undecided.push(subscriber);
            return;
        };
        let feed = self.feeds.entry(name.clone()).or_default();
        feed.subscribers.push(subscriber);
        set_patience(endpoint, &name, feed);
    }

    /// Removes the element with this queue.
    pub(super) fn unsubscribe(&mut self, queue: &Arc<Queue>) {
        let other = |subscriber: &Subscriber| !Arc::ptr_eq(&subscriber.queue, queue);
        self.undecided.retain(other);
        for feed in self.feeds.values_mut() {
            feed.subscribers.retain(other);
        }
        self.feeds.retain(|_, feed| !feed.is_unused());
    }

    /// The peer that sends what this queue takes.
    pub(super) fn peer_of(&self, queue: &Arc<Queue>) -> Option<PeerId> {
        let takes = |one: &Subscriber| Arc::ptr_eq(&one.queue, queue);
        let mut feeds = self.feeds.values();
        let feed = feeds.find(|feed| feed.subscribers.iter().any(takes))?;
        Some(feed.camera.as_ref()?.peer)
    }

    /// A receiver of every event from now on, the cameras that are there already first.
    pub(super) fn events(&mut self) -> Receiver<PortEvent> {
        let mut present = Vec::new();
        for (name, feed) in &self.feeds {
            let Some(camera) = &feed.camera else { continue };
            present.push(PortEvent::CameraAdded {
                camera: name.to_string(),
                remote: camera.remote,
            });
            for (stream, _, caps) in camera.streams.caps() {
                present.push(PortEvent::Caps {
                    camera: name.to_string(),
                    stream,
                    caps: caps.clone(),
                });
            }
        }
        let (sender, receiver) = sync_channel(MAX_EVENTS + present.len());
        let sender = EventSender::new(sender);
        for event in present {
            sender.send(event);
        }
        self.receivers.push(sender);
        receiver
    }

    fn announce(&mut self, event: PortEvent, out: &mut Vec<Delivery>) {
        self.receivers.retain(|receiver| !receiver.is_over());
        for receiver in &self.receivers {
            out.push(Delivery::Event(receiver.clone(), event.clone()));
        }
        for subscriber in self.subscribers() {
            let notice = Notice::Port(event.clone());
            out.push(Delivery::Notice(subscriber.observer.clone(), notice));
        }
    }

    fn subscribers(&self) -> impl Iterator<Item = &Subscriber> {
        let feeds = self.feeds.values();
        feeds
            .flat_map(|feed| &feed.subscribers)
            .chain(&self.undecided)
    }

    fn feed_of(&mut self, peer: PeerId) -> Option<(&Arc<str>, &mut Feed)> {
        let name = self.peers.get(&peer)?;
        Some((name, self.feeds.get_mut(name)?))
    }

    /// The feed that `peer` sends.
    fn sent_by(&mut self, peer: PeerId) -> Option<(&Arc<str>, &mut Feed)> {
        let (name, feed) = self.feed_of(peer)?;
        let sends = feed.camera.as_ref().is_some_and(|one| one.peer == peer);
        sends.then_some((name, feed))
    }

    fn add_camera(
        &mut self,
        endpoint: &mut Endpoint,
        peer: PeerId,
        name: &str,
        remote: SocketAddr,
        out: &mut Vec<Delivery>,
    ) {
        let name: Arc<str> = name.into();
        let feed = self.feeds.entry(name.clone()).or_default();
        feed.subscribers.append(&mut self.undecided);
        let camera = Camera {
            peer,
            remote,
            streams: Streams::default(),
        };
        let old = feed.camera.as_ref().map(|old| old.peer);
        feed.replace_camera(camera);
        set_patience(endpoint, &name, feed);
        self.peers.insert(peer, name.clone());
        if let Some(old) = old {
            self.peers.remove(&old);
            let event = PortEvent::CameraRemoved {
                camera: name.to_string(),
                reason: Rejection::new(Code::Replaced, "the camera came back"),
            };
            self.announce(event, out);
        }
        let camera = name.to_string();
        self.announce(PortEvent::CameraAdded { camera, remote }, out);
    }

    fn remove_camera(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        peer: PeerId,
        reason: Rejection,
        out: &mut Vec<Delivery>,
    ) {
        // One that was replaced is forgotten already.
        let Some((name, feed)) = self.sent_by(peer) else {
            return;
        };
        feed.remove_camera(endpoint, now, name, out);
        let camera = name.to_string();
        self.forget(peer);
        self.announce(PortEvent::CameraRemoved { camera, reason }, out);
    }

    fn forget(&mut self, peer: PeerId) {
        if let Some((_, feed)) = self.feed_of(peer) {
            feed.remove_watcher(peer);
        }
        if let Some(name) = self.peers.remove(&peer)
            && self.feeds.get(&name).is_some_and(Feed::is_unused)
        {
            self.feeds.remove(&name);
        }
    }

    fn take_caps(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        peer: PeerId,
        (stream, generation, text): (u16, u8, &str),
        out: &mut Vec<Delivery>,
    ) {
        let Some((name, feed)) = self.sent_by(peer) else {
            return;
        };
        match feed.take_caps(endpoint, now, stream, generation, text) {
            Ok(Some(caps)) => {
                let camera = name.to_string();
                let event = PortEvent::Caps {
                    camera,
                    stream,
                    caps,
                };
                self.announce(event, out);
            }
            Ok(None) => {}
            Err(why) => {
                gst::warning!(CAT, "camera '{name}' is refused: stream {stream}, {why}");
                let reason = Rejection::new(Code::CapsUnsupported, why);
                endpoint.close(now, peer, reason);
            }
        }
    }
}

impl Side for Router {
    fn handle(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        peer: PeerId,
        event: Event,
        out: &mut Vec<Delivery>,
    ) {
        match event {
            Event::CameraAdded { camera, remote } => {
                self.add_camera(endpoint, peer, &camera, remote, out);
            }
            Event::CameraRemoved { reason, .. } => {
                self.remove_camera(endpoint, now, peer, reason, out);
            }
            Event::CameraRejected {
                camera,
                remote,
                reason,
            } => {
                let event = PortEvent::CameraRejected {
                    camera,
                    remote,
                    reason,
                };
                self.announce(event, out);
            }
            Event::WatchRequested { camera } => {
                let name: Arc<str> = camera.into();
                self.peers.insert(peer, name.clone());
                let feed = self.feeds.entry(name.clone()).or_default();
                feed.add_watcher(endpoint, now, peer, &name);
            }
            Event::Caps {
                stream,
                generation,
                caps,
            } => self.take_caps(endpoint, now, peer, (stream, generation, &caps), out),
            Event::Frame(received) if received.stream < MAX_STREAMS => {
                if let Some((_, feed)) = self.sent_by(peer) {
                    feed.take_frame(endpoint, now, received, out);
                }
            }
            Event::Gap {
                stream,
                frames,
                reason,
            } if stream < MAX_STREAMS => {
                if let Some((_, feed)) = self.sent_by(peer) {
                    feed.take_gap(stream, frames, reason, out);
                }
            }
            Event::StreamEnded { stream } if stream < MAX_STREAMS => {
                if let Some((_, feed)) = self.sent_by(peer) {
                    feed.end_stream(endpoint, now, stream, out);
                }
            }
            Event::KeyframeRequested { stream } => {
                if let Some((_, feed)) = self.feed_of(peer)
                    && let Some(camera) = &feed.camera
                    && camera.peer != peer
                {
                    endpoint.request_keyframe(now, camera.peer, stream);
                }
            }
            Event::Closed(reason) => {
                self.remove_camera(endpoint, now, peer, reason, out);
                self.forget(peer);
            }
            // The rest is for callers.
            _ => {}
        }
    }

    fn close(&mut self, endpoint: &mut Endpoint, now: Time) {
        for peer in self.peers.keys() {
            let reason = Rejection::new(Code::Gone, "the relay stopped");
            endpoint.close(now, *peer, reason);
        }
        self.receivers.clear();
    }

    fn is_closed(&self) -> bool {
        self.peers.is_empty()
    }

    fn fail(&mut self, out: &mut Vec<Delivery>) {
        let reason = Rejection::new(Code::Overloaded, "the port's thread ended; see the log");
        for subscriber in self.subscribers() {
            let queue = subscriber.queue.clone();
            out.push(Delivery::Failed(queue, reason.clone()));
        }
        self.receivers.clear();
    }
}
/// Tells the endpoint how long the elements wait for frames of a camera.
fn set_patience(endpoint: &mut Endpoint, name: &str, feed: &Feed) {
    if let Some(Patience { latency, policy }) = feed.patience() {
        endpoint.set_latency(name, latency);
        endpoint.set_late_policy(name, policy);
    }
}
