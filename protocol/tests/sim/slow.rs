//! Cameras behind bottlenecks so slow that a picture takes as long as ten others elsewhere.

use std::time::Duration;

use camrelay_protocol::{Event, Time};
use path_emulator::{Conditions, Rng};

use crate::jpeg::{Jpeg, share};
use crate::sessions::ms;
use crate::world::{CAMERA, RELAY, World, address};

const FRAME: Duration = Duration::from_nanos(33_333_333);
const NAMES: [&str; 3] = [CAMERA, "10.0.0.3:40000", "10.0.0.4:40000"];
const SECONDS: u64 = 60;
const DELAY: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug)]
struct Scenario {
    seed: u64,
    cameras: usize,
    rate: u64,
    /// Bits of pictures at quality 50.
    content: f64,
    latency: Duration,
}

#[derive(Default)]
struct Camera {
    /// Bits that came in each second.
    came: Vec<f64>,
    frames: usize,
    encoded: usize,
    /// How much longer than over an empty path each took.
    waited: Vec<Duration>,
}

impl Camera {
    fn rate(&self) -> f64 {
        self.came[20..].iter().sum::<f64>() / (SECONDS - 20) as f64
    }
}

fn run(scenario: &Scenario) -> Vec<Camera> {
    let mut rng = Rng::new(scenario.seed);
    let path = Conditions {
        rate: scenario.rate,
        queue: ms(200),
        ..Conditions::clean(DELAY)
    };
    let mut world = World::new(scenario.seed, path);
    world.mtu = 1200;
    world.shared = true;
    world.latency = scenario.latency;
    world.start_relay();
    let names = &NAMES[..scenario.cameras];
    let mut cameras: Vec<_> = names
        .iter()
        .map(|at| {
            world.start(at, Default::default());
            let peer = world.publish(at, &format!("camera-{}", at.replace([':', '.'], "-")));
            (peer, Jpeg::new(scenario.content, 0.7), Camera::default())
        })
        .collect();
    world.run(ms(500));
    let begin = world.now;
    let mut next: Vec<_> = names
        .iter()
        .map(|_| begin + FRAME.mul_f64(share(&mut rng)))
        .collect();
    loop {
        let capturing = (0..names.len()).min_by_key(|at| next[*at]).unwrap();
        world.run(next[capturing].since(world.now));
        let now = world.now;
        next[capturing] = next[capturing] + FRAME;
        let second = now.since(begin).as_secs();
        for (_, _, camera) in &mut cameras {
            camera.came.resize(second as usize + 1, 0.0);
        }
        for (host, _, event) in world.events.drain(..) {
            match event {
                Event::TargetBitrate(target) => {
                    let at = names.iter().position(|name| address(name) == host);
                    cameras[at.unwrap()].1.target = target;
                }
                Event::Frame(received) if host == address(RELAY) => {
                    let at = received.frame.duration.unwrap().as_micros() as usize - 1;
                    let camera = &mut cameras[at].2;
                    let bits = received.frame.data.len() as f64 * 8.0;
                    camera.came[second as usize] += bits;
                    if second >= 20 {
                        camera.frames += 1;
                        let captured = Time::from_nanos(received.frame.dts_offset as u64);
                        let least = DELAY + Duration::from_secs_f64(bits / scenario.rate as f64);
                        camera
                            .waited
                            .push(now.since(captured).saturating_sub(least));
                    }
                }
                _ => {}
            }
        }
        if second >= SECONDS {
            for (_, _, camera) in &mut cameras {
                camera.came.truncate(SECONDS as usize);
                camera.waited.sort();
            }
            return cameras.into_iter().map(|(_, _, camera)| camera).collect();
        }
        let (peer, encoder, camera) = &mut cameras[capturing];
        let Some(len) = encoder.encode(&mut rng) else {
            continue;
        };
        camera.encoded += usize::from(second >= 20);
        let mut frame = world.frame(1, len);
        frame.duration = Some(Duration::from_micros(capturing as u64 + 1));
        let host = world.host(names[capturing]);
        host.send_frame(now, *peer, 0, frame).unwrap();
    }
}

#[test]
fn one_alone_uses_most_of_a_slow_path_and_its_queue_stays_short() {
    for (content, latency) in [
        (15_000.0, 120),
        (30_000.0, 120),
        (60_000.0, 120),
        (60_000.0, 400),
        (200_000.0, 400),
        (400_000.0, 1000),
    ] {
        for rate in [300_000, 500_000, 700_000, 1_000_000] {
            let scenario = Scenario {
                seed: 1,
                cameras: 1,
                rate,
                content,
                latency: ms(latency),
            };
            let camera = run(&scenario).remove(0);
            let used = camera.rate() / rate as f64;
            let median = camera.waited[camera.waited.len() / 2];
            println!("{scenario:?}: {used:.2}, {median:?} longer");
            assert!(used >= 0.6, "{used:.2} {scenario:?}");
            assert!(median < ms(60), "{median:?} {scenario:?}");
            // Where one picture takes 0.2 s of 0.4, some wait for too long.
            let few = if content == 200_000.0 { 20 } else { 100 };
            let missing = camera.encoded.abs_diff(camera.frames);
            assert!(missing * few <= camera.encoded, "{missing} {scenario:?}");
        }
    }
}

#[test]
fn three_that_share_a_slow_path_settle_at_the_same() {
    for (rate, content, latency) in [
        (1_500_000, 30_000.0, 120),
        (1_500_000, 60_000.0, 400),
        (3_000_000, 60_000.0, 120),
    ] {
        let mut apart = Vec::new();
        for seed in 1..=8 {
            let scenario = Scenario {
                seed,
                cameras: 3,
                rate,
                content,
                latency: ms(latency),
            };
            let cameras = run(&scenario);
            let rates: Vec<_> = cameras.iter().map(Camera::rate).collect();
            println!("{rates:.0?} {scenario:?}");
            let least = rates.iter().copied().fold(f64::MAX, f64::min);
            let most = rates.iter().copied().fold(0.0, f64::max);
            apart.push(most / least);
            let sum: f64 = rates.iter().sum();
            assert!(sum > 0.75 * rate as f64, "{rates:.0?} {scenario:?}");
        }
        // One whose pictures always come right after those of the others has less.
        apart.sort_by(f64::total_cmp);
        println!("{apart:.2?}");
        assert!(apart[6] <= 1.25 && apart[7] <= 1.6, "{apart:.2?}");
    }
}
