//! A camera behind a bottleneck: its bitrate follows what the path carries.

use std::time::Duration;

use camrelay_protocol::{Event, PeerId};
use path_emulator::Conditions;

use crate::world::{CAMERA, World, address};

const FRAME: Duration = Duration::from_nanos(33_333_333);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An encoder that makes nine tenths of the target, with the next frame, and no more than its best.
struct Encoder {
    target: u64,
    best: u64,
}

impl Encoder {
    fn frame_len(&self) -> usize {
        (((self.target as f64 * 0.9) as u64).min(self.best) / 8 / 30).max(1500) as usize
    }
}

fn start(path: Conditions, cameras: &[&str]) -> (World, Vec<PeerId>) {
    let mut world = World::new(1, path);
    world.mtu = 1200;
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
    for delay in [2, 10, 40] {
        narrow_and_widen(ms(delay), ms(60));
    }
}

#[test]
fn a_queue_longer_than_the_budget_is_drained() {
    // What stands in such a queue comes too late, and has to leave it before anything is on time.
    for delay in [2, 10, 40] {
        narrow_and_widen(ms(delay), ms(200));
    }
}

#[test]
fn a_queue_too_short_for_a_frame_is_no_trap() {
    narrow_and_widen(ms(10), ms(30));
}

fn narrow_and_widen(delay: Duration, queue: Duration) {
    let path = |rate| Conditions {
        rate,
        queue,
        ..Conditions::clean(delay)
    };
    let (mut world, peers) = start(path(20_000_000), &[CAMERA]);
    let mut encoder = Encoder {
        target: u64::MAX,
        best: 12_000_000,
    };
    follow(&mut world, peers[0], &mut encoder, 5);
    // At the most one is under way.
    assert!(world.arrivals.len() >= 149);

    world.path = path(4_000_000);
    let before = world.arrivals.len();
    let narrow = follow(&mut world, peers[0], &mut encoder, 20);
    println!("4 Mbit/s: {narrow:?}");
    let freeze = longest_freeze(&world, before - 1);
    println!("longest freeze: {freeze:?}");
    assert!(freeze < ms(500), "a freeze of {freeze:?}");
    let settled = world
        .arrivals
        .iter()
        .filter(|(at, _)| world.now.since(*at) <= Duration::from_secs(18))
        .count();
    assert!(settled >= 18 * 30 * 99 / 100, "{settled} of 540 frames");
    assert!(
        narrow[4..]
            .iter()
            .all(|rate| (2_500_000..4_000_000).contains(rate))
    );
    let falls = narrow[4..]
        .windows(2)
        .filter(|pair| pair[1] * 100 < pair[0] * 85);
    assert!(falls.count() <= 4, "the rate flaps");

    world.path = path(20_000_000);
    let wide = follow(&mut world, peers[0], &mut encoder, 20);
    println!("20 Mbit/s: {wide:?}");
    assert!(
        wide[15..].iter().all(|rate| *rate >= 11_900_000),
        "back within 15 s"
    );
}

#[test]
fn cameras_behind_one_bottleneck_get_the_same() {
    share([FRAME / 3; 3]);
}

#[test]
fn it_does_not_matter_whose_frames_come_first() {
    for [first, second] in [[0, 0], [3, 6], [6, 13], [8, 0], [8, 8], [10, 3], [16, 16]] {
        share([ms(first), ms(second), FRAME - ms(first + second)]);
    }
}

/// Three cameras, each of which captures so long before the next one.
fn share(gaps: [Duration; 3]) {
    let names = [CAMERA, "10.0.0.3:40000", "10.0.0.4:40000"];
    let (mut world, peers) = start(bottleneck(12_000_000, ms(60)), &names);
    world.shared = true;
    let mut targets = [u64::MAX; 3];
    // The third begins when the others have it all.
    let mut sums = [0; 3];
    for number in 0..30 * 60u64 {
        for (host, _, event) in world.events.drain(..) {
            if let Event::TargetBitrate(target) = event
                && let Some(at) = names.iter().position(|name| address(name) == host)
            {
                targets[at] = target.unwrap_or(u64::MAX);
            }
        }
        for (at, name) in names.iter().enumerate() {
            if at < 2 || number > 300 {
                let encoder = Encoder {
                    target: targets[at],
                    best: 12_000_000,
                };
                let len = encoder.frame_len();
                if number >= 30 * 40 {
                    sums[at] += len as u64 * 8;
                }
                let frame = world.frame(number, len);
                let now = world.now;
                let host = world.host(name);
                host.send_frame(now, peers[at], 0, frame).unwrap();
            }
            world.run(gaps[at]);
        }
        if number % 30 == 0 {
            println!("{number}: {targets:?}");
        }
    }
    let rates = sums.map(|sum| sum / 20);
    println!("{rates:?}");
    let (least, most) = (rates.iter().min().unwrap(), rates.iter().max().unwrap());
    assert!(most * 100 <= least * 115, "{rates:?}");
    assert!(rates.iter().sum::<u64>() > 9_000_000, "{rates:?}");
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

#[test]
fn pictures_are_back_soon_after_an_outage_and_as_good() {
    for seconds in [2, 5, 60] {
        let path = bottleneck(20_000_000, ms(60));
        let (mut world, peers) = start(path, &[CAMERA]);
        let mut encoder = Encoder {
            target: u64::MAX,
            best: 8_000_000,
        };
        follow(&mut world, peers[0], &mut encoder, 3);
        world.path.down = true;
        follow(&mut world, peers[0], &mut encoder, seconds);
        world.path.down = false;
        let (before, up) = (world.arrivals.len(), world.now);
        let rates = follow(&mut world, peers[0], &mut encoder, 4);
        let back = world.arrivals[before].0.since(up);
        println!("{seconds} s: a frame {back:?} after its end, {rates:?}");
        assert!(back < ms(300), "{back:?} after {seconds} s");
        assert!(rates[1..].iter().all(|rate| *rate > 7_900_000), "{rates:?}");
    }
}

#[test]
fn a_relay_that_is_held_up_is_no_long_path() {
    let round_trip = |stamps| {
        let path = bottleneck(20_000_000, ms(60));
        let (mut world, peers) = start(path, &[CAMERA]);
        let mut encoder = Encoder {
            target: u64::MAX,
            best: 8_000_000,
        };
        // It has a tenth of its processor's time.
        (world.held_up, world.stamps) = (Some((ms(90), ms(80))), stamps);
        let rates = follow(&mut world, peers[0], &mut encoder, 20);
        assert!(rates.iter().all(|rate| *rate > 7_900_000), "{rates:?}");
        let now = world.now;
        let stats = world.host(CAMERA).stats(now, peers[0]).unwrap();
        println!("told when datagrams came: {stamps}: {} us", stats.rtt_us);
        stats.rtt_us
    };
    assert!(round_trip(true) < 25_000);
    // Without, what is read late looks as if it came late.
    assert!(round_trip(false) > 35_000);
}
