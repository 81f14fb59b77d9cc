//! A browser made of str0m as well, behind a path in virtual time.

use super::*;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use path_emulator::{Conditions, Path, Rng};
use str0m::Candidate;
use str0m::media::{Direction, Frequency, KeyframeRequestKind, MediaKind};

use crate::relay::consumer::Offered;

/// The path each way.
const DELAY: Duration = Duration::from_millis(10);
/// The camera: 4 Mbit/s at 30 frames a second, and what its frames take in bytes at the least.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);
const RATE: f64 = 4e6;
const KEY: usize = 100_000;
const DELTA: usize = 14_000;
/// The same of the small rendition, and how long it takes to be there and to make one.
const SMALL_KEY: usize = 20_000;
const SMALL_DELTA: usize = 1_700;
const START_WORKER: Duration = Duration::from_millis(500);
const MAKE: Duration = Duration::from_millis(15);
/// How often it is asked for a key frame at most, and the browser asks for one.
const KEY_INTERVAL: Duration = Duration::from_millis(500);
const PLI_INTERVAL: Duration = Duration::from_millis(200);
/// How much later than before it was narrow a frame may be that is on time again.
const BACK: Duration = Duration::from_millis(200);
/// How long it is looked at then.
const AFTER: Duration = Duration::from_secs(12);
/// How soon after it a viewer is on time again.
const WIDE: Duration = Duration::from_secs(1);
/// And how soon it sees everything.
const ALL: Duration = Duration::from_secs(5);

/// A frame that came out of the path.
struct Seen {
    at: Duration,
    late: Duration,
    /// Nothing that it builds on is missing.
    whole: bool,
}

/// A rendition that frames are taken of.
struct Shown {
    rendition: Rendition,
    consumer: Arc<Consumer>,
}

impl Shown {
    fn new(rendition: Rendition) -> Self {
        Self {
            rendition,
            consumer: Arc::new(Consumer::new(LIMITS, || {})),
        }
    }
}

/// A camera, a sender, a path and a browser, at one time.
struct World {
    begun: Instant,
    now: Instant,
    rng: Rng,
    sender: Sender,
    shown: Shown,
    next: Option<Shown>,
    browser: Rtc,
    there: Path,
    back: Path,
    /// By when it arrives and its number: whether it goes to the browser, and what it is.
    under_way: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    sent: u64,
    is_connected: bool,
    next_frame: Instant,
    /// Frames of the small rendition that are not made yet.
    making: VecDeque<(Instant, Arc<Frame>)>,
    /// When the small rendition is there.
    small_from: Instant,
    /// Of the whole one and the small one.
    wants_key: [bool; 2],
    asked: Option<Instant>,
    /// The browser lacks something that later frames build on.
    broken: Option<Mid>,
    pli: Instant,
    seen: Vec<Seen>,
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 5000))
}

impl World {
    fn new(seed: u64) -> Self {
        gst::init().expect("GStreamer starts");
        let now = Instant::now();
        let crypto = Arc::new(str0m::crypto::from_feature_flags());
        let certificate = crypto.dtls_provider.generate_certificate();
        let certificate = certificate.expect("a certificate");
        let host = |last| Candidate::host(address(last), "udp").expect("a good one");
        let mut browser = Rtc::builder()
            .set_crypto_provider(crypto.clone())
            .build(now);
        browser.add_local_candidate(host(2));
        let mut changes = browser.sdp_api();
        changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = changes.apply().expect("something changed");
        let mut rtc = config(crypto, certificate, RATE).build(now);
        rtc.add_local_candidate(host(1));
        let answer = rtc.sdp_api().accept_offer(offer).expect("a good one");
        let accepted = browser.sdp_api().accept_answer(pending, answer);
        accepted.expect("a good one");
        let shown = Shown::new(Rendition::Whole);
        Self {
            begun: now,
            now,
            rng: Rng::new(seed),
            sender: Sender::new(rtc, shown.consumer.clone(), RATE, now),
            shown,
            next: None,
            browser,
            there: Path::new(Conditions::clean(DELAY), seed),
            back: Path::new(Conditions::clean(DELAY), seed),
            under_way: BTreeMap::new(),
            sent: 0,
            is_connected: false,
            next_frame: now,
            making: VecDeque::new(),
            small_from: now,
            wants_key: [true; 2],
            asked: None,
            broken: None,
            pli: now,
            seen: Vec::new(),
        }
    }

    fn time(&self) -> Duration {
        self.now - self.begun
    }

    /// The path carries that share of what the camera sends, and holds so much.
    fn narrow(&mut self, share: f64, queue: Duration) {
        self.there.conditions = Conditions {
            rate: (RATE * share) as u64,
            queue,
            ..Conditions::clean(DELAY)
        };
    }

    /// The path carries everything.
    fn widen(&mut self) {
        self.there.conditions = Conditions::clean(DELAY);
    }

    /// Goes on for that time; the frames that were seen in it.
    fn run(&mut self, time: Duration) -> &[Seen] {
        let before = self.seen.len();
        let end = self.now + time;
        while self.now < end {
            let due = self.flush_sender().min(self.flush_browser());
            let arrives = self.under_way.keys().next().map(|(at, _)| *at);
            let made = self.making.front().map(|(at, _)| *at);
            let due = [arrives, made]
                .into_iter()
                .flatten()
                .fold(due, Instant::min);
            let due = due.min(self.next_frame);
            self.now = due.clamp(self.now, end);
            if self.now >= self.next_frame {
                self.next_frame += INTERVAL;
                self.capture();
            }
            while self.making.front().is_some_and(|(due, _)| *due <= self.now) {
                if let Some((_, frame)) = self.making.pop_front() {
                    self.offer(Rendition::Small, &frame);
                }
            }
            while let Some(first) = self.under_way.first_entry()
                && first.key().0 <= self.now
            {
                let (to_browser, bytes) = first.remove();
                self.deliver(to_browser, bytes);
            }
            self.sender.pass(self.now).expect("it runs");
            let passed = self.browser.handle_input(Input::Timeout(self.now));
            passed.expect("it runs");
        }
        &self.seen[before..]
    }

    /// Goes on until that is what the viewer sees.
    fn until(&mut self, rendition: Rendition) {
        let begun = self.now;
        while self.shown.rendition != rendition {
            assert!(self.now - begun < LONGEST_HOLD * 2, "{rendition:?}");
            self.run(INTERVAL);
        }
    }

    fn deliver(&mut self, to_browser: bool, bytes: Vec<u8>) {
        if to_browser {
            let received = Receive::new(Protocol::Udp, address(1), address(2), &bytes);
            let received = Input::Receive(self.now, received.expect("WebRTC"));
            self.browser.handle_input(received).expect("it is right");
        } else {
            let datagram = Datagram {
                from: address(2),
                to: address(1),
                bytes,
            };
            let is_taken = self.sender.receive(&datagram, self.now);
            is_taken.expect("it is right");
        }
    }

    fn flush_sender(&mut self) -> Instant {
        loop {
            match self.sender.poll(self.now).expect("it runs") {
                Next::Transmit(transmit) => self.send(true, &transmit.contents),
                Next::Connected => self.is_connected = true,
                Next::KeyFrame => self.ask(self.shown.rendition),
                Next::Wanted(rendition) => self.change(rendition),
                Next::Followed => self.shown = self.next.take().expect("it follows"),
                Next::Wait(due) if due > self.now => return due,
                Next::Wait(_) => self.sender.pass(self.now).expect("it runs"),
            }
        }
    }

    fn flush_browser(&mut self) -> Instant {
        loop {
            match self.browser.poll_output().expect("it runs") {
                Output::Timeout(due) => {
                    let writer = self.broken.and_then(|mid| self.browser.writer(mid));
                    let mut writer = writer.filter(|_| self.now - self.pli >= PLI_INTERVAL);
                    if let Some(writer) = &mut writer {
                        self.pli = self.now;
                        // Refused where it asked just before.
                        let _ = writer.request_keyframe(None, KeyframeRequestKind::Pli);
                    }
                    return due;
                }
                Output::Transmit(transmit) => self.send(false, &transmit.contents),
                Output::Event(Event::MediaData(frame)) => {
                    let continues = frame.contiguous && self.broken.is_none();
                    let whole = frame.is_keyframe() || continues;
                    self.broken = (!whole).then_some(frame.mid);
                    let ticks = frame.time.rebase(Frequency::NINETY_KHZ).numer();
                    let captured = Duration::from_nanos(ticks * 100_000 / 9);
                    self.seen.push(Seen {
                        at: self.time(),
                        late: self.time().saturating_sub(captured),
                        whole,
                    });
                }
                Output::Event(_) => {}
            }
        }
    }

    fn send(&mut self, to_browser: bool, bytes: &[u8]) {
        let now = self.time().as_nanos() as u64;
        let path = match to_browser {
            true => &mut self.there,
            false => &mut self.back,
        };
        for arrival in path.send(now, bytes.len()) {
            self.sent += 1;
            let at = self.begun + Duration::from_nanos(arrival);
            self.under_way
                .insert((at, self.sent), (to_browser, bytes.to_vec()));
        }
    }

    /// Has the viewer see that rendition, once there is a frame to begin with.
    fn change(&mut self, rendition: Rendition) {
        self.next = None;
        self.sender.follow(None);
        if self.shown.rendition == rendition {
            return;
        }
        if rendition == Rendition::Small {
            self.small_from = self.now + START_WORKER;
        }
        self.wants_key[rendition as usize] = true;
        let next = Shown::new(rendition);
        self.sender.follow(Some(next.consumer.clone()));
        self.next = Some(next);
    }

    /// Asks for a key frame.
    fn ask(&mut self, rendition: Rendition) {
        if self.asked.is_none_or(|at| self.now - at >= KEY_INTERVAL) {
            self.asked = Some(self.now);
            self.wants_key[rendition as usize] = true;
        }
    }

    fn capture(&mut self) {
        if !self.is_connected {
            return;
        }
        let whole = self.frame(Rendition::Whole, KEY, DELTA);
        self.offer(Rendition::Whole, &whole);
        let is_shown = |shown: &Shown| shown.rendition == Rendition::Small;
        let is_wanted = is_shown(&self.shown) || self.next.as_ref().is_some_and(is_shown);
        if is_wanted && self.now >= self.small_from {
            let small = self.frame(Rendition::Small, SMALL_KEY, SMALL_DELTA);
            self.making.push_back((self.now + MAKE, small));
        }
    }

    /// What the camera or the worker makes now, of those sizes at the least.
    fn frame(&mut self, rendition: Rendition, key_size: usize, size: usize) -> Arc<Frame> {
        let key = std::mem::take(&mut self.wants_key[rendition as usize]);
        let captured = gst::ClockTime::from_nseconds(self.time().as_nanos() as u64);
        let mut frame = Frame::for_test(Codec::H264, captured);
        frame.key = key;
        let least = if key { key_size } else { size };
        let size = least + self.rng.next() as usize % (least / 3);
        frame.buffer = gst::Buffer::from_slice(unit(key, size));
        Arc::new(frame)
    }

    fn offer(&mut self, rendition: Rendition, frame: &Arc<Frame>) {
        let consumers = [Some(&self.shown), self.next.as_ref()].map(|shown| {
            let shown = shown.filter(|shown| shown.rendition == rendition);
            shown.map(|shown| shown.consumer.clone())
        });
        for consumer in consumers.into_iter().flatten() {
            match consumer.offer(frame) {
                Offered::Taken => {}
                Offered::NeedsKey | Offered::Behind => self.ask(rendition),
            }
        }
    }
}

/// An access unit, as far as it matters here.
fn unit(key: bool, size: usize) -> Vec<u8> {
    const PARAMETERS: &[u8] = &[0, 0, 0, 1, 0x67, 66, 0, 31, 0, 0, 0, 1, 0x68, 0xce];
    let (parameters, kind) = if key {
        (PARAMETERS, 0x65)
    } else {
        (&[][..], 0x41)
    };
    let mut unit = parameters.to_vec();
    unit.extend([0, 0, 0, 1, kind]);
    unit.resize(size, 0x55);
    unit
}

/// What a viewer saw whose path was narrow for a while.
#[derive(Debug)]
struct Outcome {
    /// How long it was narrow.
    narrow: Duration,
    /// Frames in that time, and those of them that were whole.
    frames: usize,
    whole: usize,
    /// How much later than usual they were: the median, and the latest of the second half.
    median: Duration,
    latest: Duration,
    /// When frames were whole and on time again, and stayed so.
    back: Option<Duration>,
    /// When all of them were seen again.
    all: Option<Duration>,
}

/// A viewer whose path is narrow for some 15 s: how long exactly is the seed's, so that it ends
/// anywhere between two key frames.
fn outcome(seed: u64, share: f64, queue: Duration) -> Outcome {
    let mut world = World::new(seed);
    let usual = world.run(Duration::from_secs(4));
    let usual = usual.last().expect("it sees something").late;
    world.narrow(share, queue);
    let narrow = Duration::from_millis(15_000 + seed * 67);
    let seen = world.run(narrow);
    let whole = seen.iter().filter(|seen| seen.whole).count();
    let (frames, half) = (seen.len(), seen.len() / 2);
    let late = |seen: &Seen| seen.late.saturating_sub(usual);
    let latest = seen[half..].iter().map(late).max().unwrap_or_default();
    let mut lates: Vec<_> = seen.iter().map(late).collect();
    lates.sort();
    let median = lates.get(half).copied().unwrap_or_default();
    let wide = world.time();
    world.widen();
    let mut all = (world.shown.rendition == Rendition::Whole).then_some(Duration::ZERO);
    let mut back = None;
    while world.time() < wide + AFTER {
        for seen in world.run(INTERVAL) {
            if !seen.whole || seen.late > usual + BACK {
                back = None;
            } else {
                back.get_or_insert(seen.at - wide);
            }
        }
        match world.shown.rendition {
            Rendition::Whole => _ = all.get_or_insert(world.time() - wide),
            Rendition::Small => all = None,
        }
    }
    Outcome {
        narrow,
        frames,
        whole,
        median,
        latest,
        back,
        all,
    }
}

/// Paths by what they hold and their share of what the camera sends.
const PATHS: [(u64, f64); 8] = [
    (60, 0.3),
    (60, 0.6),
    (100, 0.3),
    (100, 0.6),
    (250, 0.3),
    (250, 0.6),
    (1000, 0.3),
    (1000, 0.6),
];

#[test]
fn a_narrow_path_carries_less_of_every_frame_in_time_and_all_when_it_is_wide() {
    for (queue, share) in PATHS {
        for seed in (0..20).step_by(5) {
            let seen = outcome(seed, share, Duration::from_millis(queue));
            let what = format!("seed {seed}, {queue} ms, {share} of the rate: {seen:?}");
            // It takes a while to find out what the path carries, and to make less of it.
            let rate = seen.whole as f64 / seen.narrow.as_secs_f64();
            assert!(rate > 20.0, "{what}");
            assert!(seen.whole * 4 >= seen.frames * 3, "{what}");
            assert!(seen.median < BACK / 2 && seen.latest < BACK, "{what}");
            assert!(seen.back.is_some_and(|back| back < WIDE), "{what}");
            assert!(seen.all.is_some_and(|all| all < ALL), "{what}");
        }
    }
}

#[test]
fn a_path_that_does_not_carry_the_small_rendition_either_carries_whole_frames() {
    for seed in (0..20).step_by(5) {
        let seen = outcome(seed, 0.1, Duration::from_secs(1));
        let what = format!("seed {seed}: {seen:?}");
        assert!(seen.frames >= 10, "{what}");
        assert!(seen.whole * 4 >= seen.frames * 3, "{what}");
        assert!(seen.back.is_some_and(|back| back < WIDE), "{what}");
    }
}

#[test]
fn a_path_that_fails_again_and_again_is_trusted_less_and_less() {
    let mut world = World::new(1);
    world.run(Duration::from_secs(4));
    let mut held = Vec::new();
    for _ in 0..6 {
        world.narrow(0.3, Duration::from_millis(250));
        world.until(Rendition::Small);
        let begun = world.time();
        world.widen();
        world.until(Rendition::Whole);
        held.push(world.time() - begun);
    }
    assert!(held.is_sorted(), "{held:?}");
    assert!(held[5] > Duration::from_secs(20), "{held:?}");
    assert!(held[5] < LONGEST_HOLD, "{held:?}");
}
