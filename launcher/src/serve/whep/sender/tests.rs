//! A browser made of str0m as well, behind a path in virtual time.

use super::*;

use std::collections::BTreeMap;
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
/// How often it is asked for a key frame at most, and the browser asks for one.
const KEY_INTERVAL: Duration = Duration::from_millis(500);
const PLI_INTERVAL: Duration = Duration::from_millis(200);
/// How much later than before it was narrow a frame may be that is on time again.
const BACK: Duration = Duration::from_millis(200);
/// How much later frames may be in the second half of a narrow time than in the first.
const LATER: Duration = Duration::from_millis(500);
/// How soon after it a viewer is on time again.
const WIDE: Duration = Duration::from_secs(2);

/// A frame that came out of the path.
struct Seen {
    at: Duration,
    late: Duration,
    /// Nothing that it builds on is missing.
    whole: bool,
}

/// A camera, a sender, a path and a browser, at one time.
struct World {
    begun: Instant,
    now: Instant,
    rng: Rng,
    sender: Sender,
    consumer: Arc<Consumer>,
    browser: Rtc,
    there: Path,
    back: Path,
    /// By when it arrives and its number: whether it goes to the browser, and what it is.
    under_way: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    sent: u64,
    is_connected: bool,
    next_frame: Instant,
    wants_key: bool,
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
        let consumer = Arc::new(Consumer::new(LIMITS, || {}));
        Self {
            begun: now,
            now,
            rng: Rng::new(seed),
            sender: Sender::new(rtc, consumer.clone(), RATE, now),
            consumer,
            browser,
            there: Path::new(Conditions::clean(DELAY), seed),
            back: Path::new(Conditions::clean(DELAY), seed),
            under_way: BTreeMap::new(),
            sent: 0,
            is_connected: false,
            next_frame: now,
            wants_key: true,
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
            let due = arrives.map_or(due, |at| due.min(at)).min(self.next_frame);
            self.now = due.clamp(self.now, end);
            if self.now >= self.next_frame {
                self.next_frame += INTERVAL;
                self.capture();
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
                Next::KeyFrame => self.ask(),
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

    /// Asks the camera for a key frame.
    fn ask(&mut self) {
        if self.asked.is_none_or(|at| self.now - at >= KEY_INTERVAL) {
            self.asked = Some(self.now);
            self.wants_key = true;
        }
    }

    fn capture(&mut self) {
        if !self.is_connected {
            return;
        }
        let key = std::mem::take(&mut self.wants_key);
        let captured = gst::ClockTime::from_nseconds(self.time().as_nanos() as u64);
        let mut frame = Frame::for_test(Codec::H264, captured);
        frame.key = key;
        let least = if key { KEY } else { DELTA };
        let size = least + self.rng.next() as usize % (least / 3);
        frame.buffer = gst::Buffer::from_slice(unit(key, size));
        match self.consumer.offer(&Arc::new(frame)) {
            Offered::Taken => {}
            Offered::NeedsKey | Offered::Behind => self.ask(),
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
    /// Frames while it was narrow, and those of them that were whole.
    frames: usize,
    whole: usize,
    /// How late they were in the first half of that time and in the second, on average.
    late: (Duration, Duration),
    /// When frames were whole and on time again, and stayed so.
    back: Option<Duration>,
}

/// A viewer whose path is narrow for some 15 s: how long exactly is the seed's, so that it ends
/// anywhere between two key frames.
fn outcome(seed: u64, share: f64, queue: Duration) -> Outcome {
    let mut world = World::new(seed);
    let usual = world.run(Duration::from_secs(4));
    let usual = usual.last().expect("it sees something").late;
    world.narrow(share, queue);
    let seen = world.run(Duration::from_millis(15_000 + seed * 67));
    let whole = seen.iter().filter(|seen| seen.whole).count();
    let average = |seen: &[Seen]| {
        let sum: Duration = seen.iter().map(|seen| seen.late).sum();
        sum / seen.len().max(1) as u32
    };
    let (first, second) = seen.split_at(seen.len() / 2);
    let (frames, late) = (seen.len(), (average(first), average(second)));
    let wide = world.time();
    world.widen();
    let mut back = None;
    for seen in world.run(Duration::from_secs(5)) {
        if !seen.whole || seen.late > usual + BACK {
            back = None;
        } else {
            back.get_or_insert(seen.at - wide);
        }
    }
    Outcome {
        frames,
        whole,
        late,
        back,
    }
}

#[test]
fn a_narrow_path_carries_whole_frames_in_time_and_all_when_it_is_wide() {
    // Many releases where it matters most, and how many frames are seen at the least.
    let narrow = (0..20).step_by(2).map(|seed| (seed, 0.3, 9));
    let wider = (0..20).step_by(4).map(|seed| (seed, 0.6, 50));
    for (seed, share, least) in narrow.chain(wider) {
        let seen = outcome(seed, share, Duration::from_millis(250));
        let what = format!("seed {seed}, {share} of the rate: {seen:?}");
        assert!(seen.frames >= least, "{what}");
        // Parts may be missing until it is known what the path carries.
        assert!(seen.whole * 4 >= seen.frames * 3, "{what}");
        assert!(seen.late.1 < seen.late.0 + LATER, "{what}");
        assert!(seen.back.is_some_and(|back| back < WIDE), "{what}");
    }
}
