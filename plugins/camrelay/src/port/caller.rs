//! The calling side: one session with a relay, through all its reconnections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Weak};
use std::time::Duration;

use camrelay_protocol::{
    Code, Connect, Endpoint, Error, Event, Frame, MAX_CAPS, PeerId, Rejection, Stats, Time,
};

use super::delivery::{Delivery, Notice, Observer};
use super::driver::{Driver, Side};
use super::queue::{Input, Queue};
use super::session::SessionSettings;
use super::streams::Streams;
use super::{CAT, resolve};

/// How long nothing answers before that is told, and the relay's name is looked up again.
const LOOK_UP_AFTER: Duration = Duration::from_secs(3);
/// How long one address of the relay's name is tried before the next one.
const TRY_NEXT_AFTER: Duration = Duration::from_secs(1);
/// What an element sends is measured over this.
const RATE_OVER: Duration = Duration::from_secs(1);

/// One session of a caller.
pub(super) struct Caller {
    driver: Weak<Driver<Self>>,
    settings: SessionSettings,
    link: Link,
    addresses: Addresses,
    /// Elements that send, by stream.
    publishers: BTreeMap<u16, Publishing>,
    /// Elements that receive.
    subscribers: Vec<(Arc<Queue>, Observer)>,
    streams: Streams,
    /// Frames that came before the relay's address was known.
    unsent: u64,
    /// Hears when the session is over.
    ended: Option<SyncSender<()>>,
}

enum Link {
    /// The relay's address is not known yet.
    Unresolved,
    /// Calling, or up.
    Open { peer: PeerId, connected: bool },
    /// Ended on this side; what was handed over still leaves.
    Closing { peer: PeerId },
    /// Over.
    Closed,
}

/// The addresses of the relay.
#[derive(Default)]
struct Addresses {
    known: Vec<SocketAddr>,
    current: usize,
    looking_up: bool,
    /// When to try another one; `None` while connected.
    next_at: Option<Time>,
}

impl Addresses {
    fn next(&self) -> Option<SocketAddr> {
        self.known.get(self.current + 1).copied()
    }

    /// Gives the one that is tried its time.
    fn wait(&mut self, now: Time) {
        self.next_at = Some(match self.next() {
            Some(_) => now + TRY_NEXT_AFTER,
            None => now + LOOK_UP_AFTER,
        });
    }
}

struct Publishing {
    observer: Observer,
    caps: Option<String>,
    ended: bool,
    sent: Sent,
}

/// Bits per second that an element sends.
#[derive(Default)]
struct Sent {
    /// Bytes since then.
    since: Time,
    bytes: u64,
    rate: f64,
}

impl Sent {
    fn take(&mut self, now: Time, bytes: usize) {
        let passed = now.since(self.since);
        if passed >= RATE_OVER {
            // After a pause the first bytes say nothing.
            self.rate = match passed < RATE_OVER * 2 {
                true => self.bytes as f64 * 8.0 / passed.as_secs_f64(),
                false => 0.0,
            };
            (self.since, self.bytes) = (now, 0);
        }
        self.bytes += bytes as u64;
    }
}

impl Caller {
    pub(super) fn new(driver: Weak<Driver<Self>>, settings: SessionSettings) -> Self {
        Self {
            driver,
            settings,
            link: Link::Unresolved,
            addresses: Addresses::default(),
            publishers: BTreeMap::new(),
            subscribers: Vec::new(),
            streams: Streams::default(),
            unsent: 0,
            ended: None,
        }
    }

    /// Calls at once where the address is written out; has the name looked up otherwise.
    pub(super) fn begin(&mut self, endpoint: &mut Endpoint, now: Time) -> Result<(), Error> {
        match resolve::literal(&self.settings.host, self.settings.port) {
            Some(address) => self.call(endpoint, now, address),
            None => {
                self.addresses.next_at = Some(now);
                Ok(())
            }
        }
    }

    fn call(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        remote: SocketAddr,
    ) -> Result<(), Error> {
        let peer = endpoint.connect(
            now,
            Connect {
                remote,
                token: self.settings.token.clone(),
                role: self.settings.role(),
                latency: self.settings.latency,
                late_policy: self.settings.late_policy,
                mtu: self.settings.mtu,
            },
        )?;
        self.link = Link::Open {
            peer,
            connected: false,
        };
        self.addresses.wait(now);
        for (stream, publishing) in &self.publishers {
            if let Some(caps) = &publishing.caps {
                endpoint.set_caps(now, peer, *stream, caps)?;
            }
        }
        Ok(())
    }

    fn is_literal(&self) -> bool {
        resolve::literal(&self.settings.host, self.settings.port).is_some()
    }

    fn peer(&self) -> Option<PeerId> {
        match self.link {
            Link::Open { peer, .. } | Link::Closing { peer } => Some(peer),
            Link::Unresolved | Link::Closed => None,
        }
    }

    /// Whether elements can still join.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.link, Link::Unresolved | Link::Open { .. })
    }

    /// Whether the relay may have answered.
    #[cfg(test)]
    pub(super) fn has_called(&self) -> bool {
        self.peer().is_some()
    }

    /// Adds an element that sends `stream`; `false` where another one does already.
    pub(super) fn publish(&mut self, stream: u16, observer: Observer) -> bool {
        if self.publishers.contains_key(&stream) {
            return false;
        }
        let publishing = Publishing {
            observer,
            caps: None,
            ended: false,
            sent: Sent::default(),
        };
        self.publishers.insert(stream, publishing);
        true
    }

    /// Removes the element that sends `stream`.
    pub(super) fn unpublish(&mut self, endpoint: &mut Endpoint, now: Time, stream: u16) {
        if let Some(publishing) = self.publishers.remove(&stream)
            && !publishing.ended
            && let Some(peer) = self.peer()
        {
            endpoint.end_stream(now, peer, stream);
        }
    }

    /// Says what the frames of a stream are.
    pub(super) fn set_caps(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        stream: u16,
        caps: &str,
    ) -> Result<(), Error> {
        if caps.len() > MAX_CAPS {
            return Err(Error::CapsTooLong(caps.len()));
        }
        if let Some(publishing) = self.publishers.get_mut(&stream) {
            publishing.caps = Some(caps.into());
        }
        match self.peer() {
            Some(peer) => endpoint.set_caps(now, peer, stream, caps),
            None => Ok(()),
        }
    }

    /// Sends a frame, or counts it where nobody can be called yet.
    pub(super) fn send(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        stream: u16,
        frame: Frame,
    ) -> Result<(), Error> {
        if let Some(publishing) = self.publishers.get_mut(&stream) {
            publishing.sent.take(now, frame.data.len());
        }
        match self.peer() {
            Some(peer) => endpoint.send_frame(now, peer, stream, frame),
            None => {
                self.unsent += 1;
                Ok(())
            }
        }
    }

    /// Ends a stream, and with the last one the session. Returns whether `ended` will hear
    /// that the relay has everything.
    pub(super) fn end(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        stream: u16,
        ended: SyncSender<()>,
    ) -> bool {
        let Some(publishing) = self.publishers.get_mut(&stream) else {
            return false;
        };
        publishing.ended = true;
        let Link::Open { peer, connected } = self.link else {
            return false;
        };
        endpoint.end_stream(now, peer, stream);
        if !self.publishers.values().all(|one| one.ended) {
            return false;
        }
        endpoint.close(now, peer, Rejection::new(Code::Done, "the stream ended"));
        self.link = Link::Closing { peer };
        self.ended = connected.then_some(ended);
        connected
    }

    /// Adds an element that receives.
    pub(super) fn subscribe(&mut self, queue: Arc<Queue>, observer: Observer) {
        self.subscribers.push((queue, observer));
    }

    /// Removes the element with this queue.
    pub(super) fn unsubscribe(&mut self, queue: &Arc<Queue>) {
        self.subscribers.retain(|(one, _)| !Arc::ptr_eq(one, queue));
    }

    /// Asks the relay for a key frame.
    pub(super) fn request_keyframe(&self, endpoint: &mut Endpoint, now: Time, stream: u16) {
        if let Some(peer) = self.peer() {
            endpoint.request_keyframe(now, peer, stream);
        }
    }

    /// Counters of the session.
    pub(super) fn stats(&self, endpoint: &Endpoint, now: Time) -> Stats {
        let stats = self.peer().and_then(|peer| endpoint.stats(now, peer));
        let mut stats = stats.unwrap_or_default();
        stats.frames_dropped += self.unsent;
        stats.connected = matches!(
            self.link,
            Link::Open {
                connected: true,
                ..
            }
        );
        stats
    }

    fn tell(&self, notice: &Notice, out: &mut Vec<Delivery>) {
        let publishers = self.publishers.values().map(|one| &one.observer);
        let subscribers = self.subscribers.iter().map(|(_, observer)| observer);
        for observer in publishers.chain(subscribers) {
            out.push(Delivery::Notice(observer.clone(), notice.clone()));
        }
    }

    fn input(
        &self,
        peer: PeerId,
        stream: Option<u16>,
        input: impl Fn() -> Input,
        out: &mut Vec<Delivery>,
    ) {
        for (queue, _) in &self.subscribers {
            if stream.is_none_or(|stream| queue.stream() == stream) {
                out.push(Delivery::Input(queue.clone(), peer, input()));
            }
        }
    }

    /// Goes on trying, unless trying again without changing anything cannot help.
    fn disconnected(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        peer: PeerId,
        reason: Rejection,
        out: &mut Vec<Delivery>,
    ) {
        let Link::Open { connected, .. } = &mut self.link else {
            return;
        };
        *connected = false;
        if reason.code.is_transient() || reason.code == Code::Done {
            // Of silence the session tells when this address was tried for long enough.
            let wait = match reason.code {
                Code::PathLost => Duration::ZERO,
                _ => LOOK_UP_AFTER,
            };
            self.addresses.next_at.get_or_insert(now + wait);
            self.tell(&Notice::Waiting(reason), out);
        } else {
            self.failed(reason.clone(), out);
            endpoint.close(now, peer, reason);
        }
    }

    fn closed(&mut self, reason: Rejection, out: &mut Vec<Delivery>) {
        if let Some(ended) = self.ended.take() {
            // Whoever waited may have been told to stop waiting.
            let _ = ended.try_send(());
        }
        if matches!(self.link, Link::Open { .. }) {
            self.failed(reason, out);
        }
        self.link = Link::Closed;
        self.addresses.next_at = None;
    }

    /// Tells every element that sends what its part of the session's target is: what the others
    /// leave, or its share of what all send where that is more.
    fn share_out(&self, target: Option<u64>, out: &mut Vec<Delivery>) {
        let all: f64 = self.publishers.values().map(|one| one.sent.rate).sum();
        for publishing in self.publishers.values() {
            let own = publishing.sent.rate;
            let part = target.map(|target| {
                let target = target as f64;
                let share = if all > 0.0 {
                    target * own / all
                } else {
                    target
                };
                share.max(target - (all - own)) as u64
            });
            let notice = Notice::TargetBitrate(part);
            out.push(Delivery::Notice(publishing.observer.clone(), notice));
        }
    }

    /// Tells every element that the session is over for good.
    fn failed(&mut self, reason: Rejection, out: &mut Vec<Delivery>) {
        for publishing in self.publishers.values() {
            let notice = Notice::Failed(reason.clone());
            out.push(Delivery::Notice(publishing.observer.clone(), notice));
        }
        for (queue, _) in &self.subscribers {
            out.push(Delivery::Failed(queue.clone(), reason.clone()));
        }
        self.link = Link::Closed;
        self.addresses.next_at = None;
    }

    /// Has the relay's name looked up on a thread of its own.
    fn look_up(&mut self, out: &mut Vec<Delivery>) {
        self.addresses.looking_up = true;
        let looking = LookingUp(self.driver.clone());
        let (host, port) = (self.settings.host.clone(), self.settings.port);
        out.push(Delivery::Task(Box::new(move || {
            resolve::look_up(host, port, move |found| looking.done(found));
        })));
    }

    fn looked_up(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        found: Result<Vec<SocketAddr>, String>,
        out: &mut Vec<Delivery>,
    ) {
        let known = match found {
            Ok(known) => known,
            Err(words) => return self.tell(&Notice::NoAddress(words), out),
        };
        let Some(first) = known.first().copied() else {
            return;
        };
        self.addresses.known = known;
        self.addresses.current = 0;
        match self.link {
            Link::Open {
                peer,
                connected: false,
            } => {
                endpoint.set_remote(now, peer, first);
                self.addresses.wait(now);
            }
            Link::Unresolved => {
                if let Err(error) = self.call(endpoint, now, first) {
                    let reason = Rejection::new(Code::NameNotAllowed, error.to_string());
                    self.failed(reason, out);
                }
            }
            _ => {}
        }
    }
}

impl Side for Caller {
    fn handle(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        peer: PeerId,
        event: Event,
        out: &mut Vec<Delivery>,
    ) {
        match event {
            Event::Connected => {
                if let Link::Open { connected, .. } = &mut self.link {
                    *connected = true;
                }
                self.addresses.next_at = None;
                self.tell(&Notice::Connected, out);
            }
            Event::Disconnected(reason) => self.disconnected(endpoint, now, peer, reason, out),
            Event::Refused(reason) => self.tell(&Notice::Waiting(reason), out),
            Event::Closed(reason) => self.closed(reason, out),
            Event::Caps {
                stream,
                generation,
                caps,
            } => {
                if let Err(why) = self.streams.set_caps(stream, generation, &caps) {
                    gst::warning!(CAT, "stream {stream} is not taken: {why}");
                }
            }
            Event::Frame(received) => {
                let stream = received.stream;
                if let Some(frame) = self.streams.frame(received) {
                    self.input(peer, Some(stream), || Input::Frame(frame.clone()), out);
                }
            }
            Event::Gap {
                stream,
                frames,
                reason,
            } => self.input(peer, Some(stream), || Input::Gap { frames, reason }, out),
            Event::StreamEnded { stream } => {
                self.input(peer, Some(stream), || Input::Ended, out);
            }
            Event::FeedEnded(reason) if reason.code == Code::Gone => {
                self.input(peer, None, || Input::Ended, out);
            }
            Event::FeedEnded(reason) => self.tell(&Notice::Waiting(reason), out),
            Event::KeyframeRequested { stream } => {
                if let Some(publishing) = self.publishers.get(&stream) {
                    let observer = publishing.observer.clone();
                    out.push(Delivery::Notice(observer, Notice::KeyframeRequested));
                }
            }
            Event::TargetBitrate(target) => self.share_out(target, out),
            // The rest is for listeners.
            _ => {}
        }
    }

    fn poll(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        out: &mut Vec<Delivery>,
    ) -> Option<Time> {
        let due = self.addresses.next_at?;
        if now < due {
            return Some(due);
        }
        if let Some(peer) = self.peer()
            && let Some(address) = self.addresses.next()
        {
            endpoint.set_remote(now, peer, address);
            self.addresses.current += 1;
            self.addresses.wait(now);
            return self.addresses.next_at;
        }
        if self.peer().is_some() {
            // A relay says nothing to a token that is another's.
            let text = match self.settings.token {
                None => "nothing answers: is the relay running, and does the network carry UDP?",
                Some(_) => {
                    "nothing answers: is the relay running, does the network carry UDP, and is \
                     the token this relay's?"
                }
            };
            self.tell(&Notice::Waiting(Rejection::new(Code::PathLost, text)), out);
        }
        if !self.addresses.looking_up && !self.is_literal() {
            self.look_up(out);
        }
        self.addresses.wait(now);
        self.addresses.next_at
    }

    fn close(&mut self, endpoint: &mut Endpoint, now: Time) {
        self.addresses.next_at = None;
        match self.link {
            Link::Open { peer, .. } => {
                endpoint.close(now, peer, Rejection::new(Code::Done, "it was stopped"));
                self.link = Link::Closing { peer };
            }
            Link::Unresolved => self.link = Link::Closed,
            Link::Closing { .. } | Link::Closed => {}
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.link, Link::Closed)
    }

    fn fail(&mut self, out: &mut Vec<Delivery>) {
        let reason = "the session's thread ended; see the log";
        self.failed(Rejection::new(Code::Overloaded, reason), out);
    }
}

/// A look-up under way; another may begin once this one is dropped.
struct LookingUp(Weak<Driver<Caller>>);

impl LookingUp {
    fn done(self, found: Result<Vec<SocketAddr>, String>) {
        if let Some(driver) = self.0.upgrade() {
            driver.tell(|caller, endpoint, now, out| caller.looked_up(endpoint, now, found, out));
        }
    }
}

impl Drop for LookingUp {
    fn drop(&mut self) {
        if let Some(driver) = self.0.upgrade() {
            driver.read(|caller, _, _| caller.addresses.looking_up = false);
        }
    }
}

#[cfg(test)]
mod tests {
    use camrelay_protocol::{Config, LatePolicy};

    use super::super::random::SystemRandom;
    use super::super::session::Direction;
    use super::*;

    fn seconds(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    /// Where the caller's datagrams go now.
    fn called(endpoint: &mut Endpoint, now: Time) -> Option<SocketAddr> {
        endpoint.handle_timeout(now);
        let mut buffer = Vec::new();
        let mut last = None;
        while let Some(transmit) = endpoint.poll_transmit(now, 1, &mut buffer) {
            last = Some(transmit.remote);
        }
        last
    }

    #[test]
    fn every_address_of_a_name_is_tried_and_the_name_looked_up_again() {
        let settings = SessionSettings {
            direction: Direction::Publish,
            host: "relay.test".into(),
            port: 8000,
            camera: "door".into(),
            token: None,
            latency: Duration::ZERO,
            late_policy: LatePolicy::default(),
            mtu: 0,
        };
        let random = SystemRandom::new().unwrap();
        let mut endpoint = Endpoint::new(Config::default(), Box::new(random));
        let mut caller = Caller::new(Weak::new(), settings);
        let (four, six): (SocketAddr, SocketAddr) = (
            "192.0.2.1:8000".parse().unwrap(),
            "[2001:db8::1]:8000".parse().unwrap(),
        );
        let mut out = Vec::new();
        let looks_up = |out: &mut Vec<Delivery>| {
            let found = out.iter().any(|one| matches!(one, Delivery::Task(_)));
            out.clear();
            found
        };
        caller.begin(&mut endpoint, seconds(0)).unwrap();
        caller.poll(&mut endpoint, seconds(0), &mut out);
        assert!(looks_up(&mut out));
        caller.addresses.looking_up = false;
        caller.looked_up(&mut endpoint, seconds(0), Ok(vec![four, six]), &mut out);
        assert_eq!(called(&mut endpoint, seconds(0)), Some(four));

        let due = caller.poll(&mut endpoint, seconds(0), &mut out);
        assert_eq!(due, Some(seconds(1)));
        caller.poll(&mut endpoint, seconds(1), &mut out);
        assert_eq!(called(&mut endpoint, seconds(1)), Some(six));
        let due = caller.poll(&mut endpoint, seconds(1), &mut out);
        assert_eq!(due, Some(seconds(4)));
        assert!(!looks_up(&mut out));
        caller.poll(&mut endpoint, seconds(4), &mut out);
        assert!(looks_up(&mut out));
        caller.addresses.looking_up = false;
        caller.looked_up(&mut endpoint, seconds(4), Ok(vec![four, six]), &mut out);
        assert_eq!(called(&mut endpoint, seconds(4)), Some(four));

        // A session that falls silent was tried for long enough.
        let peer = caller.peer().unwrap();
        caller.handle(&mut endpoint, seconds(5), peer, Event::Connected, &mut out);
        let silent = Rejection::new(Code::PathLost, "nothing is heard");
        let event = Event::Disconnected(silent);
        caller.handle(&mut endpoint, seconds(9), peer, event, &mut out);
        caller.poll(&mut endpoint, seconds(9), &mut out);
        assert_eq!(called(&mut endpoint, seconds(9)), Some(six));
    }
}
