//! Cameras behind one bottleneck on busy machines: how far apart they settle, and how soon one that
//! lost its share has it back.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use camrelay_protocol::{Event, Time};
use path_emulator::{Conditions, Rng};

use crate::jpeg::{Jpeg, share};
use crate::sessions::ms;
use crate::world::{CAMERA, RELAY, World, address};

const FRAME: Duration = Duration::from_nanos(33_333_333);
const CAMERAS: usize = 3;
const NAMES: [&str; CAMERAS] = [CAMERA, "10.0.0.3:40000", "10.0.0.4:40000"];
const SECONDS: usize = 60;

fn between(rng: &mut Rng, least: Duration, most: Duration) -> Duration {
    least + (most - least).mul_f64(share(rng))
}

/// What happens 30 s after the start.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kick {
    /// For 0.3 s nothing comes through of what the first camera sends.
    Lost,
    /// The relay is held up for so long.
    Held(Duration),
    /// For so long nothing enters the path.
    Stall(Duration),
    /// The path carries so many bits per second from then on.
    Carries(u64),
}

#[derive(Clone, Debug)]
struct Scenario {
    seed: u64,
    rate: u64,
    queue: Duration,
    /// Bits of pictures at quality 50.
    content: f64,
    /// By which power sizes follow the steps of quality.
    power: f64,
    /// How often in a second each thread, the path's included, is held up for 4 to 30 ms.
    busy: f64,
    /// How much longer the path is in the first ten seconds.
    longer: Duration,
    /// When the last camera begins.
    last: Duration,
    kick: Option<Kick>,
    /// Seconds in which the first camera's pictures are dark, and small.
    dark: Range<usize>,
    /// What the cameras' own paths carry, where they do not share one.
    paths: Option<[u64; CAMERAS]>,
    /// By how much the time varies that a picture takes to encode.
    varies: Duration,
}

/// The bench's cameras on machines with nothing else to do.
fn still(seed: u64) -> Scenario {
    Scenario {
        content: 187_000.0,
        power: 0.435,
        busy: 0.0,
        varies: Duration::from_micros(200),
        ..usual(seed)
    }
}

/// Three cameras that could send 11 Mbit/s each, behind 12 Mbit/s.
fn usual(seed: u64) -> Scenario {
    Scenario {
        seed,
        rate: 12_000_000,
        queue: ms(60),
        content: 122_000.0,
        power: 0.7,
        busy: 0.5,
        longer: ms(0),
        last: ms(500),
        kick: None,
        dark: 0..0,
        paths: None,
        varies: ms(2),
    }
}

/// Bits that came in each second of each camera.
struct Came([Vec<f64>; CAMERAS]);

impl Came {
    /// Bits per second of each camera in some of the seconds.
    fn rates(&self, seconds: Range<usize>) -> [f64; CAMERAS] {
        let count = seconds.len() as f64;
        let rate = |camera: &Vec<f64>| camera[seconds.clone()].iter().sum::<f64>() / count;
        self.0.each_ref().map(rate)
    }

    /// Asserts that in the last third the most is no more than so much above the least, and that most
    /// of what the path carries is used.
    fn assert_even(&self, apart: f64, scenario: &Scenario) {
        self.assert_even_in(40..60, apart, scenario);
    }

    /// The same in those seconds.
    fn assert_even_in(&self, seconds: Range<usize>, apart: f64, scenario: &Scenario) {
        let rates = self.rates(seconds);
        println!("{rates:.0?} {scenario:?}");
        let least = rates.iter().copied().fold(f64::MAX, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        assert!(most <= least * (1.0 + apart), "{rates:.0?} {scenario:?}");
        let sum: f64 = rates.iter().sum();
        assert!(sum > 0.8 * scenario.rate as f64, "{rates:.0?} {scenario:?}");
    }
}

/// Runs a minute of it.
fn run(scenario: &Scenario) -> Came {
    let mut rng = Rng::new(scenario.seed);
    let path = Conditions {
        rate: scenario.rate,
        queue: scenario.queue,
        ..Conditions::clean(ms(10))
    };
    let mut world = World::new(scenario.seed, path);
    world.mtu = 1200;
    world.shared = scenario.paths.is_none();
    world.path.delay += scenario.longer;
    world.start_relay();
    let peers = NAMES.map(|at| {
        world.start(at, Default::default());
        world.publish(at, &format!("camera-{}", at.replace([':', '.'], "-")))
    });
    for (at, rate) in NAMES.iter().zip(scenario.paths.into_iter().flatten()) {
        world.rates.insert(address(at), rate);
    }
    world.run(ms(500));
    let begin = world.now;
    let mut encoders = NAMES.map(|_| Jpeg::new(scenario.content, scenario.power));
    // When each camera captures next, and until when each thread is held up: the relay's, the
    // path's and the cameras'.
    let mut next = NAMES.map(|_| begin + between(&mut rng, ms(0), FRAME));
    next[CAMERAS - 1] = next[CAMERAS - 1] + scenario.last;
    let mut held = [begin; CAMERAS + 2];
    // Pictures that are encoded: when they are sent, by whom, when they were captured, how long.
    let mut encoded: BTreeMap<(Time, usize), (Time, usize)> = BTreeMap::new();
    let mut came = Came(NAMES.map(|_| vec![0.0; SECONDS]));
    let mut kick = scenario.kick;
    loop {
        let capturing = (0..CAMERAS).min_by_key(|camera| next[*camera]).unwrap();
        let sending = encoded.first_key_value().map(|((at, _), _)| *at);
        let at = next[capturing].min(sending.unwrap_or(next[capturing]));
        world.run(at.since(world.now));
        let now = world.now;
        let second = now.since(begin).as_secs() as usize;
        if second >= SECONDS {
            return came;
        }
        for (thread, until) in held.iter_mut().enumerate() {
            // Each camera captures and sends 30 times a second.
            let chance = scenario.busy / 60.0 / CAMERAS as f64;
            if *until <= now && rng.chance(chance) {
                let time = between(&mut rng, ms(4), ms(30));
                *until = now + time;
                match thread {
                    0 => world.hold(RELAY, time),
                    1 => world.stalled = now + time,
                    _ => world.hold(NAMES[thread - 2], time),
                }
            }
        }
        if second >= 10 {
            world.path.delay = path.delay;
        }
        match kick.take_if(|_| second >= 30) {
            Some(Kick::Held(time)) => world.hold(RELAY, time),
            Some(Kick::Stall(time)) => world.stalled = now + time,
            Some(Kick::Carries(rate)) => world.path.rate = rate,
            Some(Kick::Lost) => world.deaf = Some((address(NAMES[0]), now + ms(300))),
            None => {}
        }
        for (host, peer, event) in world.events.drain(..) {
            match event {
                Event::TargetBitrate(target) => {
                    let camera = NAMES.iter().position(|name| address(name) == host).unwrap();
                    assert_eq!(peers[camera], peer);
                    encoders[camera].target = target;
                }
                Event::Frame(received) if host == address(RELAY) => {
                    let camera = received.frame.duration.unwrap().as_micros() as usize - 1;
                    came.0[camera][second] += received.frame.data.len() as f64 * 8.0;
                }
                _ => {}
            }
        }
        if sending == Some(at) {
            let ((_, camera), (captured, len)) = encoded.pop_first().unwrap();
            let mut frame = world.frame(1, len);
            frame.capture = captured;
            // Whose it is.
            frame.duration = Some(Duration::from_micros(camera as u64 + 1));
            let host = world.host(NAMES[camera]);
            host.send_frame(now, peers[camera], 0, frame).unwrap();
        } else {
            let is_dark = capturing == 0 && scenario.dark.contains(&second);
            let encoder = &mut encoders[capturing];
            encoder.content = scenario.content * if is_dark { 0.15 } else { 1.0 };
            let takes =
                between(&mut rng, ms(2), ms(2) + scenario.varies) + held[capturing + 2].since(now);
            if let Some(len) = encoder.encode(&mut rng) {
                encoded.insert((now + takes, capturing), (now, len));
            }
            next[capturing] = next[capturing] + FRAME;
        }
    }
}

#[test]
fn cameras_on_busy_machines_settle_at_the_same() {
    for seed in 1..=3 {
        for scenario in [
            usual(seed),
            Scenario {
                busy: 3.0,
                ..usual(seed)
            },
            Scenario {
                last: Duration::from_secs(10),
                ..usual(seed)
            },
        ] {
            run(&scenario).assert_even(0.15, &scenario);
        }
    }
}

#[test]
fn cameras_that_begin_at_once_are_even_20_seconds_later() {
    for seed in 1..=8 {
        let scenario = Scenario {
            last: Duration::ZERO,
            ..still(seed)
        };
        let came = run(&scenario);
        came.assert_even_in(20..30, 0.3, &scenario);
        came.assert_even(0.15, &scenario);
    }
}

#[test]
fn cameras_whose_path_got_shorter_are_even_15_seconds_later() {
    for seed in 1..=8 {
        let scenario = Scenario {
            longer: ms(50),
            ..still(seed)
        };
        run(&scenario).assert_even_in(25..35, 0.15, &scenario);
    }
}

#[test]
fn small_and_large_ones_do_too() {
    for seed in 1..=2 {
        // Pictures of a few packets fill the queue in larger steps.
        for (rate, content, apart) in [(5_000_000, 60_000.0, 0.25), (40_000_000, 400_000.0, 0.15)] {
            let scenario = Scenario {
                rate,
                content,
                ..usual(seed)
            };
            run(&scenario).assert_even(apart, &scenario);
        }
    }
}

#[test]
fn those_with_pictures_of_a_few_packets_are_not_far_apart() {
    for seed in 1..=8 {
        let scenario = Scenario {
            rate: 2_000_000,
            content: 30_000.0,
            ..usual(seed)
        };
        run(&scenario).assert_even(0.5, &scenario);
    }
}

#[test]
fn one_that_sent_little_for_a_while_has_its_share_back_10_seconds_later() {
    for seed in 1..=2 {
        for queue in [30, 60, 200] {
            let scenario = Scenario {
                queue: ms(queue),
                dark: 22..30,
                ..usual(seed)
            };
            run(&scenario).assert_even(0.15, &scenario);
        }
    }
}

#[test]
fn what_holds_one_or_all_up_for_a_moment_is_got_over_10_seconds_later() {
    for seed in 1..=2 {
        let (held, stalls) = (Kick::Held(ms(200)), [60, 150].map(ms).map(Kick::Stall));
        for kick in [Kick::Lost, held, stalls[0], stalls[1]] {
            let scenario = Scenario {
                kick: Some(kick),
                ..usual(seed)
            };
            run(&scenario).assert_even(0.15, &scenario);
        }
    }
}

#[test]
fn one_that_wants_little_leaves_the_rest_to_the_others() {
    for seed in 1..=8 {
        let scenario = Scenario {
            dark: 0..SECONDS,
            ..usual(seed)
        };
        let [little, others @ ..] = run(&scenario).rates(40..60);
        println!("{little:.0} {others:.0?}");
        assert!(little < 2_000_000.0);
        assert!(others.iter().all(|rate| *rate > 4_000_000.0), "{others:?}");
    }
}

#[test]
fn those_on_paths_of_their_own_get_what_these_carry() {
    for seed in 1..=3 {
        let paths = [2_000_000, 4_000_000, 8_000_000];
        let scenario = Scenario {
            paths: Some(paths),
            ..usual(seed)
        };
        let rates = run(&scenario).rates(30..60);
        println!("{rates:.0?}");
        for (rate, carries) in rates.iter().zip(paths) {
            assert!(*rate > 0.8 * carries as f64, "{rate} of {carries}");
        }
    }
}

#[test]
fn those_whose_path_gets_wider_have_it_within_15_seconds() {
    for seed in 1..=4 {
        let scenario = Scenario {
            rate: 6_000_000,
            kick: Some(Kick::Carries(24_000_000)),
            ..usual(seed)
        };
        let rates = run(&scenario).rates(45..60);
        println!("{rates:.0?}");
        assert!(rates.iter().sum::<f64>() > 19_000_000.0, "{rates:.0?}");
    }
}
