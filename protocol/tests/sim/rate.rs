//! A camera behind a bottleneck: its bitrate follows what the path carries.

use std::time::Duration;

use camrelay_protocol::{Event, PeerId};
use path_emulator::Conditions;

use crate::world::{CAMERA, World};

const FRAME: Duration = Duration::from_nanos(33_333_333);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An encoder that follows the target at once, between these bitrates.
struct Encoder {
    target: u64,
    best: u64,
}

impl Encoder {
    fn frame_len(&self) -> usize {
        (self.target.min(self.best) / 8 / 30).max(1500) as usize
    }
}

fn start(path: Conditions, cameras: &[&str]) -> (World, Vec<PeerId>) {
    let mut world = World::new(1, path);
    world.start_relay();
    let peers = cameras
        .iter()
        .map(|at| {
            world.start(at, Default::default());
            world.publish(at, &format!("camera-{}", at.replace([':', '.'], "-")))
        })
        .collect();
    world.run(ms(500));
    (world, peers)
}

/// Streams one camera for `seconds`; returns the bitrate of each second's frames.
fn follow(world: &mut World, peer: PeerId, encoder: &mut Encoder, seconds: u64) -> Vec<u64> {
    let mut rates = Vec::new();
    let mut seed = 0;
    for _ in 0..seconds {
        let mut sum = 0;
        for _ in 0..30 {
            for (_, told, event) in world.events.drain(..) {
                if let (true, Event::TargetBitrate(target)) = (told == peer, event) {
                    encoder.target = target.unwrap_or(u64::MAX);
                }
            }
            let len = encoder.frame_len();
            sum += len as u64 * 8;
            let frame = world.frame(seed, len);
            seed += 1;
            let now = world.now;
            world.host(CAMERA).send_frame(now, peer, 0, frame).unwrap();
            world.run(FRAME);
        }
        rates.push(sum);
    }
    rates
}

fn bottleneck(rate: u64, queue: Duration) -> Conditions {
    Conditions {
        rate,
        queue,
        ..Conditions::clean(ms(10))
    }
}

/// The longest time between two frames handed over, from `since` on.
fn longest_freeze(world: &World, since: usize) -> Duration {
    let arrivals = &world.arrivals[since..];
    arrivals
        .windows(2)
        .map(|pair| pair[1].0.since(pair[0].0))
        .max()
        .unwrap()
}

#[test]
fn a_bottleneck_that_narrows_and_widens_is_followed() {
    narrow_and_widen(ms(60), ms(500));
}

#[test]
fn a_queue_longer_than_the_budget_is_drained() {
    // What stands in such a queue comes too late, and has to leave it before anything is on time.
    narrow_and_widen(ms(200), ms(650));
}

fn narrow_and_widen(queue: Duration, longest: Duration) {
    let (mut world, peers) = start(bottleneck(20_000_000, queue), &[CAMERA]);
    let mut encoder = Encoder {
        target: u64::MAX,
        best: 12_000_000,
    };
    follow(&mut world, peers[0], &mut encoder, 5);
    assert_eq!(world.arrivals.len(), 150);

    world.path = bottleneck(4_000_000, queue);
    let before = world.arrivals.len();
    let narrow = follow(&mut world, peers[0], &mut encoder, 20);
    println!("4 Mbit/s: {narrow:?}");
    let freeze = longest_freeze(&world, before);
    assert!(freeze < longest, "a freeze of {freeze:?}");
    // What is lost after the first two seconds is lost at the bottleneck's brim, which the rate
    // touches again and again to find it.
    let settled = world
        .arrivals
        .iter()
        .filter(|(at, _)| world.now.since(*at) <= Duration::from_secs(18))
        .count();
    assert!(settled >= 18 * 30 * 97 / 100, "{settled} of 540 frames");
    assert!(
        narrow[4..]
            .iter()
            .all(|rate| (1_500_000..4_000_000).contains(rate))
    );
    let late = world
        .arrivals
        .iter()
        .rev()
        .take(500)
        .map(|(at, captured)| at.since(*captured))
        .max();
    println!("longest delay: {late:?}");

    world.path = bottleneck(20_000_000, queue);
    let wide = follow(&mut world, peers[0], &mut encoder, 20);
    println!("20 Mbit/s: {wide:?}");
    assert!(
        wide[15..].iter().all(|rate| *rate >= 11_900_000),
        "back within 15 s"
    );
}

#[test]
fn a_camera_that_does_not_follow_loses_whole_frames_and_gains_no_delay() {
    let (mut world, peers) = start(bottleneck(4_000_000, ms(200)), &[CAMERA]);
    for seed in 0..600 {
        let frame = world.frame(seed, 50_000);
        let now = world.now;
        world
            .host(CAMERA)
            .send_frame(now, peers[0], 0, frame)
            .unwrap();
        world.run(FRAME);
    }
    let recent: Vec<_> = world
        .arrivals
        .iter()
        .filter(|(at, _)| world.now.since(*at) < Duration::from_secs(10))
        .collect();
    let worst = recent
        .iter()
        .map(|(at, captured)| at.since(*captured))
        .max()
        .unwrap();
    println!("{} frames in 10 s, worst delay {worst:?}", recent.len());
    assert!(recent.len() >= 50, "{}", recent.len());
    assert!(worst < ms(10 + 120 + 200), "{worst:?}");
    let now = world.now;
    let stats = world.host(CAMERA).stats(now, peers[0]).unwrap();
    assert!(stats.frames_dropped > 200, "{stats:?}");
}
