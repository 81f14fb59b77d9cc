//! Cameras that speak camrelay: each one on the port into a feed of its own.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use camrelay_protocol::Rejection;
use gstcamrelay::port::{Port, PortEvent};

use super::branch::{Branch, Origin};
use super::seldom::{Seldom, Verdict};
use crate::relay::feed::Feed;
use crate::relay::feeds::Feeds;
use crate::relay::frame::Codec;

/// Events that wait while a camera's pipelines are built.
const WAITING_EVENTS: usize = 64;
/// How often pipelines are looked after, and so how soon a broken one is started again.
const ROUND: Duration = Duration::from_secs(1);

/// Brings the cameras of a port into feeds until it is dropped.
pub struct Ingest {
    tasks: SyncSender<Task>,
    thread: Option<JoinHandle<()>>,
}

enum Task {
    Event(PortEvent),
    /// Events were missed: those of every camera that is there follow.
    Again,
    Stop,
}

/// What the thread works on.
struct Cameras {
    port: SocketAddr,
    latency: Duration,
    feeds: Arc<Feeds>,
    here: HashMap<String, Camera>,
    refusals: Seldom,
}

struct Camera {
    feed: Arc<Feed>,
    branches: BTreeMap<u16, State>,
}

/// A stream of a camera that is here.
struct State {
    caps: gst::Caps,
    /// `None`: it failed, and is started again in the next round.
    branch: Option<Branch>,
    /// Whether its failing was said since the camera came.
    complained: bool,
}

impl Ingest {
    /// Follows what happens on `port`. `latency` is how long past its travel time
    /// a frame may take.
    pub fn start(port: &Arc<Port>, latency: Duration, feeds: Arc<Feeds>) -> anyhow::Result<Self> {
        let (tasks, todo) = sync_channel(WAITING_EVENTS);
        let sender = tasks.clone();
        let followed = Arc::downgrade(port);
        thread::Builder::new()
            .name("port events".into())
            .spawn(move || {
                while let Some(events) = followed.upgrade().map(|port| port.events()) {
                    // Ends with the port, and when it is too far behind.
                    for event in events {
                        if sender.send(Task::Event(event)).is_err() {
                            return;
                        }
                    }
                    if sender.send(Task::Again).is_err() {
                        return;
                    }
                }
            })
            .context("no thread for the events of the port")?;
        let cameras = Cameras {
            port: port.local_addr(),
            latency,
            feeds,
            here: HashMap::new(),
            refusals: Seldom::default(),
        };
        let thread = thread::Builder::new()
            .name("cameras".into())
            .spawn(move || cameras.run(&todo))
            .context("no thread for the cameras")?;
        Ok(Self {
            tasks,
            thread: Some(thread),
        })
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let _ = self.tasks.send(Task::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread is in the log already.
            let _ = thread.join();
        }
    }
}

impl Cameras {
    fn run(mut self, todo: &Receiver<Task>) {
        let mut round = Instant::now() + ROUND;
        loop {
            let wait = round.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                self.look_after();
                round = Instant::now() + ROUND;
                continue;
            }
            match todo.recv_timeout(wait) {
                Ok(Task::Event(event)) => self.handle(event),
                Ok(Task::Again) => {
                    let gone = std::mem::take(&mut self.here);
                    gone.values().for_each(|camera| camera.feed.left());
                }
                Ok(Task::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn handle(&mut self, event: PortEvent) {
        match event {
            PortEvent::CameraAdded { camera, remote } => self.added(camera, remote),
            PortEvent::Caps {
                camera,
                stream,
                caps,
            } => self.caps(&camera, stream, caps),
            PortEvent::CameraRemoved { camera, reason } => self.removed(&camera, &reason),
            PortEvent::CameraRejected {
                camera,
                remote,
                reason,
            } => {
                self.feeds.refuse(&camera, remote, &reason.to_string());
                let said = format!("camera {camera}: {remote} is refused: {reason}");
                match self.refusals.judge(Instant::now(), &said) {
                    Verdict::LeaveOut => tracing::debug!("{said}"),
                    Verdict::Write => tracing::warn!("{said}"),
                    Verdict::WriteAfter(more) => {
                        tracing::warn!("{more} more cameras were refused, the names left out");
                        tracing::warn!("{said}");
                    }
                }
            }
        }
    }

    fn added(&mut self, camera: String, remote: SocketAddr) {
        self.here.remove(&camera);
        match self.feeds.join(&camera) {
            Ok(feed) => {
                tracing::info!("camera {camera}: connected from {remote}");
                let branches = BTreeMap::new();
                self.here.insert(camera, Camera { feed, branches });
            }
            Err(full) => tracing::error!("camera {camera}: from {remote}, is not taken: {full}"),
        }
    }

    fn caps(&mut self, name: &str, number: u16, caps: gst::Caps) {
        let Some(camera) = self.here.get_mut(name) else {
            return;
        };
        let Some(stream) = camera.feed.stream(number) else {
            return;
        };
        stream.announce(&caps);
        let codec = Codec::of(&caps);
        tracing::debug!("camera {name}: stream {number} is {caps}");
        let branch = match camera
            .branches
            .remove(&number)
            .and_then(|state| state.branch)
        {
            // Another size or rate comes through the same pipeline.
            Some(branch) if branch.codec == codec => Some(branch),
            _ => None,
        };
        let mut state = State {
            caps,
            branch,
            complained: false,
        };
        if state.branch.is_none() {
            state.start(self.port, self.latency, &camera.feed, number);
        }
        camera.branches.insert(number, state);
    }

    fn removed(&mut self, name: &str, reason: &Rejection) {
        if let Some(camera) = self.here.remove(name) {
            drop(camera.branches);
            camera.feed.left();
            tracing::info!("camera {name}: gone: {reason}");
        }
    }

    /// Starts again what failed.
    fn look_after(&mut self) {
        for camera in self.here.values_mut() {
            for (number, state) in &mut camera.branches {
                if let Some(failure) = state.branch.as_ref().and_then(Branch::failure) {
                    state.branch = None;
                    state.complain(camera.feed.name(), *number, &failure);
                }
                if state.branch.is_none() {
                    state.start(self.port, self.latency, &camera.feed, *number);
                }
            }
        }
    }
}

impl State {
    fn start(&mut self, port: SocketAddr, latency: Duration, feed: &Arc<Feed>, number: u16) {
        let Some(stream) = feed.stream(number) else {
            return;
        };
        let origin = Origin {
            port,
            latency,
            camera: feed.name(),
            number,
        };
        match Branch::start(&origin, Codec::of(&self.caps), &stream) {
            Ok(branch) => self.branch = Some(branch),
            Err(error) => self.complain(feed.name(), number, &format!("{error:#}")),
        }
    }

    fn complain(&mut self, camera: &str, number: u16, failure: &str) {
        let said = format!(
            "camera {camera}: stream {number} cannot be read, and is tried again: {failure}"
        );
        if std::mem::replace(&mut self.complained, true) {
            tracing::debug!("{said}");
        } else {
            tracing::warn!("{said}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use camrelay_protocol::Access;
    use gst::prelude::*;
    use gstcamrelay::port::PortSettings;

    use crate::relay::consumer::{Consumer, Limits};
    use crate::relay::feed::Presence;
    use crate::relay::feeds::{Event, Listeners};
    use crate::relay::stream::Stream;

    /// What a step may take; only ever reached when a test fails.
    const DEADLINE: Duration = Duration::from_secs(60);

    struct Relay {
        ingest: Option<Ingest>,
        port: Arc<Port>,
        feeds: Arc<Feeds>,
        ready: Receiver<Arc<Stream>>,
    }

    impl Relay {
        fn start() -> Self {
            gst::init().expect("GStreamer starts");
            gstcamrelay::plugin_register_static().expect("the elements load");
            let (sender, ready) = sync_channel(10);
            let mut listeners = Listeners::default();
            listeners.add(move |event| {
                if let Event::Ready(_, stream) = event {
                    sender.send(stream.clone()).expect("the test listens");
                }
            });
            let feeds = Arc::new(Feeds::new(listeners));
            let port = Port::listen(PortSettings {
                address: ([127, 0, 0, 1], 0).into(),
                identity: None,
                access: Access::default(),
            })
            .expect("a free port");
            let ingest = Ingest::start(&port, Duration::from_millis(120), feeds.clone())
                .expect("threads start");
            Self {
                ingest: Some(ingest),
                port,
                feeds,
                ready,
            }
        }

        /// A camera from gst-launch text, which is stopped when it is dropped.
        fn camera(&self, name: &str, text: &str) -> Sender {
            let port = self.port.local_addr().port();
            let sink = format!("camrelaysink host=127.0.0.1 port={port} camera={name}");
            let pipeline = gst::parse::launch(&format!("{text} ! {sink}")).expect("good text");
            pipeline.set_state(gst::State::Playing).expect("it starts");
            Sender(pipeline)
        }

        fn ready(&self) -> Arc<Stream> {
            self.ready.recv_timeout(DEADLINE).expect("a frame comes")
        }
    }

    struct Sender(gst::Element);

    impl Drop for Sender {
        fn drop(&mut self) {
            let _ = self.0.set_state(gst::State::Null);
        }
    }

    fn until(what: &str, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < DEADLINE, "no {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    const JPEG: &str = "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240 \
         ! jpegenc";
    /// Key frames only when somebody asks; and not cut into whole pictures.
    const H264: &str = "videotestsrc is-live=true ! video/x-raw,width=320,height=240 \
         ! openh264enc gop-size=100000";

    #[test]
    fn a_camera_finds_its_feed_again_when_it_returns() {
        let relay = Relay::start();
        let camera = relay.camera("door", JPEG);
        let stream = relay.ready();
        assert_eq!(stream.codec().map(|(codec, _)| codec), Some(Codec::Jpeg));
        let feed = relay.feeds.get("door").expect("it is known");
        assert!(matches!(feed.presence(), Presence::Here { .. }));
        drop(camera);
        until("leaving", || {
            matches!(feed.presence(), Presence::Gone { .. })
        });
        let _again = relay.camera("door", JPEG);
        assert!(Arc::ptr_eq(&relay.ready(), &stream));
        assert!(matches!(feed.presence(), Presence::Here { .. }));
    }

    #[test]
    fn whole_access_units_reach_viewers_and_their_requests_the_encoder() {
        let relay = Relay::start();
        let _camera = relay.camera("door", H264);
        let stream = relay.ready();
        let start = stream.start().expect("it is ready");
        let caps = start.caps.structure(0).expect("fixed caps");
        assert_eq!(caps.get("stream-format"), Ok("byte-stream"));
        assert_eq!(caps.get("alignment"), Ok("au"));
        assert_eq!(start.size(), Some((320, 240)));
        let consumer = Arc::new(Consumer::new(
            Limits {
                frames: 10,
                burst: 10,
                bytes: 1 << 20,
                time: gst::ClockTime::SECOND,
                catch_up: 0,
            },
            || {},
        ));
        let _attachment = stream.attach(consumer.clone());
        until("another key frame", || {
            let _ = consumer.take();
            let newest = stream.start().expect("it is ready");
            stream.request_key();
            newest.captured > start.captured
        });
    }

    #[test]
    fn another_codec_on_the_same_name_is_read_as_such() {
        let relay = Relay::start();
        let camera = relay.camera("door", JPEG);
        relay.ready();
        drop(camera);
        let _camera = relay.camera("door", H264);
        let stream = relay.ready();
        assert_eq!(stream.codec().map(|(codec, _)| codec), Some(Codec::H264));
    }

    #[test]
    fn stops_with_cameras_connected() {
        let mut relay = Relay::start();
        let _camera = relay.camera("door", JPEG);
        let stream = relay.ready();
        drop(relay.ingest.take());
        let counts = stream.counts();
        assert!(counts.frames > 0);
        assert_eq!(stream.counts(), counts, "nothing comes in any more");
    }
}
