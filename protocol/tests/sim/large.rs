//! Frames that take long to leave: key frames, and pictures at low rates, behind a bottleneck.

use std::time::Duration;

use camrelay_protocol::{Event, FrameFlags, PeerId};
use path_emulator::Conditions;

use crate::sessions::{ms, until_frame};
use crate::world::{CAMERA, RELAY, World};

/// An encoder that keeps to a bitrate from the next frame on, and makes the key frames it is asked
/// for.
struct Encoder {
    rate: u64,
    /// Bits per second, where nothing limits it.
    best: u64,
    /// Whether it follows the target.
    follows: bool,
    /// How many times as large key frames are,
    ratio: f64,
    /// and each how many frames they come.
    gop: u64,
    since_key: u64,
    target: Option<u64>,
    asked: bool,
}

impl Encoder {
    fn new(rate: u64, best: u64, ratio: f64, gop: u64) -> Self {
        Self {
            rate,
            best,
            follows: true,
            ratio,
            gop,
            since_key: gop,
            target: None,
            asked: false,
        }
    }

    fn next(&mut self) -> (usize, bool) {
        let target = self.target.filter(|_| self.follows).unwrap_or(u64::MAX);
        let mean = target.min(self.best) as f64 * 0.9 / 8.0 / self.rate as f64;
        let small = mean / (1.0 + (self.ratio - 1.0) / self.gop as f64);
        let is_key = std::mem::take(&mut self.asked) || self.since_key >= self.gop;
        self.since_key = if is_key { 1 } else { self.since_key + 1 };
        let size = if is_key { small * self.ratio } else { small };
        (size.max(300.0) as usize, is_key)
    }
}

fn published(seed: u64, path: Conditions) -> (World, PeerId) {
    let mut world = World::new(seed, Conditions::clean(path.delay));
    world.start_relay();
    world.start(CAMERA, Default::default());
    let peer = world.publish(CAMERA, "door");
    until_frame(&mut world, CAMERA, peer, ms(1000));
    world.run(ms(500));
    world.path = path;
    world.events.clear();
    world.arrivals.clear();
    (world, peer)
}

/// What came of so many seconds: the share of the frames, and how late they were, in milliseconds:
/// the median and the last.
fn seconds(
    world: &mut World,
    peer: PeerId,
    encoder: &mut Encoder,
    seconds: u64,
) -> (f64, [f64; 2]) {
    let interval = Duration::from_nanos(1_000_000_000 / encoder.rate);
    let begin = world.now;
    let sent = seconds * encoder.rate;
    for number in 0..sent {
        for (_, told, event) in std::mem::take(&mut world.events) {
            match event {
                Event::TargetBitrate(target) if told == peer => encoder.target = target,
                Event::KeyframeRequested { .. } if told == peer => encoder.asked = true,
                _ => {}
            }
        }
        let (len, key) = encoder.next();
        let mut frame = world.frame(number, len);
        frame.flags = FrameFlags { key, ..frame.flags };
        let now = world.now;
        world.host(CAMERA).send_frame(now, peer, 0, frame).unwrap();
        world.run(interval);
    }
    let arrivals = world.arrivals.iter().filter(|(_, at)| *at >= begin);
    let mut late: Vec<f64> = arrivals
        .map(|(came, at)| came.since(*at).as_secs_f64() * 1e3)
        .collect();
    late.sort_by(f64::total_cmp);
    let of = |share: f64| late.get((late.len() as f64 * share) as usize).copied();
    let told = [of(0.5), of(0.99)].map(Option::unwrap_or_default);
    (late.len() as f64 / sent as f64, told)
}

fn behind(rate: u64) -> Conditions {
    Conditions {
        rate,
        queue: ms(60),
        ..Conditions::clean(ms(10))
    }
}

/// Streams over a path that changes: seconds, and bits per second of the bottleneck. Returns the share
/// of the frames that came in each part.
fn shares(what: &str, path: Conditions, encoder: &mut Encoder, parts: [(u64, u64); 4]) -> [f64; 4] {
    let (mut world, peer) = published(1, path);
    let came = parts.map(|(time, rate)| {
        world.path.rate = rate;
        seconds(&mut world, peer, encoder, time)
    });
    let text = came.map(|(share, [median, last])| {
        format!("{:5.1} % {median:4.0} {last:4.0} ms", share * 100.0)
    });
    println!("{what}: {}", text.join(" | "));
    came.map(|(share, _)| share)
}

const WIDE: u64 = 20_000_000;

#[test]
fn key_frames_many_times_as_large_as_others_come_and_what_builds_on_them() {
    for (rate, loss) in [(1_000_000, 0.0), (4_000_000, 0.0), (4_000_000, 0.02)] {
        for (ratio, gop) in [(3.0, 60), (5.0, 60), (10.0, 60), (5.0, 300), (20.0, 300)] {
            let path = Conditions {
                loss,
                ..behind(rate)
            };
            let what = format!("{rate} bit/s, {loss} lost, keys {ratio} times as large, GOP {gop}");
            let mut encoder = Encoder::new(30, 6_000_000, ratio, gop);
            let parts = [(10, rate), (20, rate), (10, WIDE), (20, WIDE)];
            let came = shares(&what, path, &mut encoder, parts);
            let least = if loss == 0.0 { 0.95 } else { 0.6 };
            assert!(came[1] >= least && came[3] >= 0.99, "{what}: {came:?}");
        }
    }
}

#[test]
fn pictures_come_at_low_rates_although_each_takes_longer_than_the_latency() {
    for rate in [500_000, 4_000_000] {
        for fps in [1, 2, 5, 10, 15] {
            for follows in [true, false] {
                let best = if follows { 6_000_000 } else { rate * 8 / 10 };
                let mut encoder = Encoder::new(fps, best, 1.0, 1);
                encoder.follows = follows;
                let what = format!("{rate} bit/s, {fps}/s, follows: {follows}");
                let parts = [(10, rate), (20, rate), (10, WIDE), (20, WIDE)];
                let came = shares(&what, behind(rate), &mut encoder, parts);
                // One that does not follow takes three quarters of the path as it is.
                let least = if follows { 0.9 } else { 0.5 };
                assert!(came[1] >= least && came[3] >= 0.95, "{what}: {came:?}");
            }
        }
    }
}

#[test]
fn pictures_that_nothing_makes_smaller_come_again_after_a_narrow_path() {
    for (fps, len) in [
        (1, 60_000),
        (2, 60_000),
        (5, 60_000),
        (30, 20_000),
        (30, 50_000),
    ] {
        let mut encoder = Encoder::new(fps, len * 8 * fps * 10 / 9, 1.0, 1);
        encoder.follows = false;
        let what = format!("{len} bytes at {fps}/s");
        let parts = [(10, WIDE), (5, 500_000), (10, WIDE), (30, WIDE)];
        let came = shares(&what, behind(WIDE), &mut encoder, parts);
        assert!(came[0] > 0.99 && came[3] >= 0.95, "{what}: {came:?}");
    }
}

#[test]
fn without_latency_frames_come_although_they_leave_in_halves() {
    for latency in [0, 1, 3] {
        for len in [3000, 50_000, 200_000] {
            let mut world = World::new(1, Conditions::clean(ms(20)));
            world.latency = ms(latency);
            world.start_relay();
            world.host(RELAY).set_latency("door", ms(latency));
            world.start(CAMERA, Default::default());
            let peer = world.publish(CAMERA, "door");
            until_frame(&mut world, CAMERA, peer, ms(1000));
            world.run(ms(500));
            world.arrivals.clear();
            world.stream(CAMERA, peer, 60, ms(33), len);
            world.run(ms(200));
            assert_eq!(world.arrivals.len(), 60, "{latency} ms, {len} bytes");
        }
    }
}
