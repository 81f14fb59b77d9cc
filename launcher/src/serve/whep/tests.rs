//! Viewers made of str0m as well, on the loopback address.

use super::*;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use gst::prelude::*;
use str0m::change::SdpAnswer;
use str0m::media::{Direction, KeyframeRequestKind, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Event, Input, Output, Rtc};

use crate::relay::feeds::{Feeds, Listeners};

/// How long anything may take before a test gives up on it.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A camera that sends H.264.
struct Camera {
    feed: Arc<Feed>,
    pipeline: gst::Pipeline,
}

impl Camera {
    fn new(name: &str) -> Self {
        Self::sending(
            name,
            "smpte",
            "openh264enc gop-size=300 ! h264parse config-interval=-1 \
             ! video/x-h264,stream-format=byte-stream,alignment=au",
        )
    }

    fn sending(name: &str, pattern: &str, encode: &str) -> Self {
        gst::init().expect("GStreamer starts");
        let feeds = Feeds::new(Listeners::default());
        let feed = feeds.open(name).expect("there is room");
        let text = format!(
            "videotestsrc is-live=true pattern={pattern} ! video/x-raw,width=320,height=240,framerate=30/1 \
             ! {encode} ! identity name=end"
        );
        let pipeline = gst::parse::launch(&text).expect("good text");
        let pipeline = pipeline.downcast::<gst::Pipeline>().expect("it is one");
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        let sink = feed.stream(0).expect("a stream").sink();
        pipeline.add(&sink).expect("room");
        let end = pipeline.by_name("end").expect("it is there");
        end.link(&sink).expect("they fit");
        pipeline.set_state(gst::State::Playing).expect("it starts");
        let camera = Self { feed, pipeline };
        wait_for(|| camera.stream().start().is_some());
        camera
    }

    fn stream(&self) -> Arc<Stream> {
        self.feed.stream(0).expect("a stream")
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// A browser, as far as it matters here.
struct Browser {
    rtc: Rtc,
    socket: UdpSocket,
    frames: u32,
    keys: u32,
    /// Frames in a row of which nothing is missing, nor of what they build on.
    in_a_row: u32,
    path: Option<Narrow>,
}

/// A path that carries no more than so many bits a second.
struct Narrow {
    rate: u32,
    busy: Instant,
    under_way: VecDeque<(Instant, SocketAddr, Vec<u8>)>,
}

impl Narrow {
    /// What the path holds at most.
    const QUEUE: Duration = Duration::from_millis(250);

    /// Takes a datagram, or loses it.
    fn take(&mut self, from: SocketAddr, bytes: &[u8]) {
        let now = Instant::now();
        let begin = self.busy.max(now);
        if begin - now > Self::QUEUE {
            return;
        }
        self.busy =
            begin + Duration::from_secs_f64(bytes.len() as f64 * 8.0 / f64::from(self.rate));
        self.under_way.push_back((self.busy, from, bytes.to_vec()));
    }

    /// The next that has come out.
    fn next(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let (due, ..) = self.under_way.front()?;
        if *due > Instant::now() {
            return None;
        }
        let (_, from, bytes) = self.under_way.pop_front()?;
        Some((from, bytes))
    }
}

impl Browser {
    /// One that made an offer for video, or for sound.
    fn offering(kind: MediaKind) -> (Self, String, str0m::change::SdpPendingOffer) {
        let socket = UdpSocket::bind((LOOPBACK, 0)).expect("a port");
        let crypto = Arc::new(str0m::crypto::from_feature_flags());
        let mut rtc = Rtc::builder()
            .set_crypto_provider(crypto)
            .build(Instant::now());
        let here = socket.local_addr().expect("an address");
        rtc.add_local_candidate(Candidate::host(here, "udp").expect("a good one"));
        let mut changes = rtc.sdp_api();
        changes.add_media(kind, Direction::RecvOnly, None, None, None);
        let (offer, pending) = changes.apply().expect("something changed");
        let browser = Self {
            rtc,
            socket,
            frames: 0,
            keys: 0,
            in_a_row: 0,
            path: None,
        };
        (browser, offer.to_sdp_string(), pending)
    }

    /// One that watches the camera.
    fn watching(whep: &Whep, camera: &Camera) -> (Self, String) {
        let (mut browser, offer, pending) = Self::offering(MediaKind::Video);
        let answer = whep
            .offer(&camera.feed, LOOPBACK, &offer)
            .expect("it is taken");
        let sdp = SdpAnswer::from_sdp_string(&answer.sdp).expect("an answer");
        let accepted = browser.rtc.sdp_api().accept_answer(pending, sdp);
        accepted.expect("a good one");
        (browser, answer.id)
    }

    /// Runs until `done`.
    #[track_caller]
    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(begin.elapsed() < DEADLINE, "after {} frames", self.frames);
            let mut asks = None;
            let due = loop {
                match self.rtc.poll_output().expect("it runs") {
                    Output::Timeout(due) => break due,
                    Output::Transmit(transmit) => {
                        let sent = self
                            .socket
                            .send_to(&transmit.contents, transmit.destination);
                        sent.expect("it is sent");
                    }
                    Output::Event(Event::MediaData(frame)) => {
                        self.frames += 1;
                        self.keys += u32::from(frame.is_keyframe());
                        self.in_a_row = match (frame.contiguous, frame.is_keyframe()) {
                            (true, _) => self.in_a_row + 1,
                            (false, true) => 1,
                            (false, false) => 0,
                        };
                        if self.in_a_row == 0 {
                            asks = Some(frame.mid);
                        }
                    }
                    Output::Event(_) => {}
                }
            };
            if let Some(mut writer) = asks.and_then(|mid| self.rtc.writer(mid)) {
                // Refused where it asked just before.
                let _ = writer.request_keyframe(None, KeyframeRequestKind::Pli);
            }
            let patience = due.saturating_duration_since(Instant::now());
            let most = if self.path.is_some() { 2 } else { 50 };
            let patience = patience.clamp(Duration::from_millis(1), Duration::from_millis(most));
            self.socket
                .set_read_timeout(Some(patience))
                .expect("a time");
            let mut buffer = [0; 2048];
            let received = self.socket.recv_from(&mut buffer).ok();
            let received = received.map(|(length, from)| (from, buffer[..length].to_vec()));
            let received = match (&mut self.path, received) {
                (Some(path), received) => {
                    received.inspect(|(from, bytes)| path.take(*from, bytes));
                    path.next()
                }
                (None, received) => received,
            };
            self.receive(received);
            while let Some(received) = self.path.as_mut().and_then(Narrow::next) {
                self.receive(Some(received));
            }
        }
    }

    fn receive(&mut self, received: Option<(SocketAddr, Vec<u8>)>) {
        let now = Instant::now();
        let destination = self.socket.local_addr().expect("an address");
        let input = match &received {
            Some((source, bytes)) => Input::Receive(
                now,
                Receive {
                    proto: Protocol::Udp,
                    source: *source,
                    destination,
                    contents: bytes.as_slice().try_into().expect("WebRTC"),
                },
            ),
            None => Input::Timeout(now),
        };
        self.rtc.handle_input(input).expect("it is right");
    }
}

#[track_caller]
fn wait_for(done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
}

fn start() -> (tokio::runtime::Runtime, Whep) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let entered = runtime.enter();
    let whep = Whep::start((LOOPBACK, 0).into()).expect("it starts");
    drop(entered);
    (runtime, whep)
}

#[test]
fn viewers_watch_and_are_let_go() {
    let camera = Camera::new("door");
    let (runtime, whep) = start();
    let _entered = runtime.enter();
    let (mut browser, id) = Browser::watching(&whep, &camera);
    browser.until(|browser| browser.frames >= 30);
    assert_eq!(camera.feed.viewers().count(Way::WebRtc), 1);
    assert_eq!(camera.stream().consumers(), 1);

    // One that comes later sees a key frame at once, long before the next is due.
    let (mut late, _) = Browser::watching(&whep, &camera);
    late.until(|browser| browser.frames >= 2 && browser.keys >= 1);
    assert_eq!(camera.feed.viewers().count(Way::WebRtc), 2);

    assert!(!whep.end("window", &id), "the session is another camera's");
    assert!(whep.end("door", &id));
    wait_for(|| camera.feed.viewers().count(Way::WebRtc) == 1);
    assert!(!whep.end("door", &id), "it is gone");

    // One that vanishes without a word is let go, too.
    drop(late);
    wait_for(|| camera.feed.viewers().count(Way::WebRtc) == 0 && camera.stream().consumers() == 0);
}

#[test]
fn a_narrow_path_carries_whole_frames_only() {
    let camera = Camera::sending(
        "door",
        "snow",
        "openh264enc bitrate=3000000 gop-size=300 ! h264parse config-interval=-1 \
         ! video/x-h264,stream-format=byte-stream,alignment=au",
    );
    let (runtime, whep) = start();
    let _entered = runtime.enter();
    let (mut browser, _) = Browser::watching(&whep, &camera);
    browser.until(|browser| browser.frames >= 30);
    let rate = camera.stream().rate().bits;
    browser.path = Some(Narrow {
        rate: (rate * 0.3) as u32,
        busy: Instant::now(),
        under_way: VecDeque::new(),
    });
    // It takes a moment to find out; then frames are left out, instead of parts of them all.
    browser.in_a_row = 0;
    browser.until(|browser| browser.in_a_row >= 10);
    let dropped = camera.stream().counts().dropped;
    assert!(dropped > 10, "{dropped} were left out");

    // And it sees all again when the path is wide.
    browser.path = None;
    let frames = || camera.stream().counts().frames;
    let mut seen = (browser.frames, frames());
    let begin = Instant::now();
    while browser.frames - seen.0 < 60 || frames() - seen.1 > 75 {
        assert!(begin.elapsed() < DEADLINE, "it still misses some");
        if browser.frames - seen.0 >= 60 {
            seen = (browser.frames, frames());
        }
        let next = browser.frames + 1;
        browser.until(|browser| browser.frames >= next);
    }
}

#[test]
fn a_camera_of_another_codec_and_offers_of_no_use_are_refused() {
    let camera = Camera::sending("raw", "smpte", "identity");
    let (runtime, whep) = start();
    let _entered = runtime.enter();
    let (_, video, _) = Browser::offering(MediaKind::Video);
    let (_, sound, _) = Browser::offering(MediaKind::Audio);
    let refused = |feed: &Arc<Feed>, offer: &str| whep.offer(feed, LOOPBACK, offer).map(|_| ());
    assert_eq!(
        refused(&camera.feed, &video),
        Err(Refusal::Codec(Codec::Other("video/x-raw".into())))
    );
    let nothing = Feeds::new(Listeners::default());
    let nothing = nothing.open("nothing").expect("there is room");
    assert_eq!(refused(&nothing, &video), Err(Refusal::NotYet));

    let camera = Camera::new("door");
    for offer in [&sound, "", "v=0", &"a".repeat(MAX_OFFER + 1)] {
        let answer = refused(&camera.feed, offer);
        assert!(matches!(answer, Err(Refusal::Offer(_))), "{answer:?}");
    }
    assert_eq!(camera.feed.viewers().count(Way::WebRtc), 0);
}

#[test]
fn there_are_as_many_viewers_as_may_be() {
    let camera = Camera::new("door");
    let (runtime, whep) = start();
    let _entered = runtime.enter();
    let (_, offer, _) = Browser::offering(MediaKind::Video);
    for _ in 0..MAX_VIEWERS {
        whep.offer(&camera.feed, LOOPBACK, &offer)
            .expect("there is room");
    }
    let full = whep.offer(&camera.feed, LOOPBACK, &offer).map(|_| ());
    assert_eq!(full, Err(Refusal::Full));
    // None of them ever sends anything.
    wait_for(|| camera.feed.viewers().count(Way::WebRtc) == 0);
}
