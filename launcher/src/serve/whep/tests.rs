//! Viewers made of str0m as well, on the loopback address.

use super::*;

use std::net::Ipv4Addr;
use std::time::Duration;

use gst::prelude::*;
use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Event, Input, Output};

use crate::relay::feeds::{Feeds, Listeners};

/// How long anything may take before a test gives up on it.
const DEADLINE: Duration = Duration::from_secs(30);
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
            "openh264enc gop-size=300 ! h264parse config-interval=-1 \
             ! video/x-h264,stream-format=byte-stream,alignment=au",
        )
    }

    fn sending(name: &str, encode: &str) -> Self {
        gst::init().expect("GStreamer starts");
        let feeds = Feeds::new(Listeners::default());
        let feed = feeds.open(name).expect("there is room");
        let text = format!(
            "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 \
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
                    }
                    Output::Event(_) => {}
                }
            };
            let patience = due.saturating_duration_since(Instant::now());
            let patience = patience.clamp(Duration::from_millis(1), Duration::from_millis(50));
            self.socket
                .set_read_timeout(Some(patience))
                .expect("a time");
            let mut buffer = [0; 2048];
            let now = Instant::now();
            let input = match self.socket.recv_from(&mut buffer) {
                Ok((length, source)) => Input::Receive(
                    now,
                    Receive {
                        proto: Protocol::Udp,
                        source,
                        destination: self.socket.local_addr().expect("an address"),
                        contents: buffer[..length].try_into().expect("WebRTC"),
                    },
                ),
                Err(_) => Input::Timeout(now),
            };
            self.rtc.handle_input(input).expect("it is right");
        }
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
fn a_camera_of_another_codec_and_offers_of_no_use_are_refused() {
    let camera = Camera::sending("raw", "identity");
    let (runtime, whep) = start();
    let _entered = runtime.enter();
    let (_, video, _) = Browser::offering(MediaKind::Video);
    let (_, sound, _) = Browser::offering(MediaKind::Audio);
    let refused = |feed: &Feed, offer: &str| whep.offer(feed, LOOPBACK, offer).map(|_| ());
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
