//! Repair of loss: what share of frames comes in time, how late, for how many extra bytes.

use std::time::Duration;

use camrelay_protocol::Event;
use path_emulator::Conditions;

use crate::world::{CAMERA, RELAY, World};

const FRAME: Duration = Duration::from_nanos(33_333_333);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a run measured.
#[derive(Debug)]
pub struct Measured {
    /// Share of frames delivered within the budget.
    pub on_time: f64,
    /// Delay from capture to delivery, at the median and the 99th percentile.
    pub median: Duration,
    pub p99: Duration,
    /// Bytes sent by the camera beyond the frames' own, as a share of them.
    pub extra: f64,
    /// Parity and repairs, as a share of the other packets.
    pub repair: f64,
}

/// Streams `frames` frames of `len` bytes, one each `interval`, after a warm-up.
pub fn measure(
    seed: u64,
    path: Conditions,
    budget: Duration,
    frames: u64,
    len: usize,
    interval: Duration,
    mtu: u16,
) -> Measured {
    let mut world = World::new(seed, Conditions::clean(path.delay));
    (world.latency, world.mtu) = (budget, mtu);
    world.start_relay();
    world.host(RELAY).set_latency("door", budget);
    world.start(CAMERA, Default::default());
    let peer = world.publish(CAMERA, "door");
    world.run_until(ms(5000), |events| {
        events.iter().any(|(_, _, e)| matches!(e, Event::Connected))
    });
    world.path = path;
    // Frames are let go of as they come: many large ones are much.
    let stream = |world: &mut World, frames| {
        for _ in 0..frames {
            world.stream(CAMERA, peer, 1, interval, len);
            world.events.clear();
        }
        let now = world.now;
        world.host(CAMERA).stats(now, peer).unwrap()
    };
    let before = stream(&mut world, 300);
    world.sent_by_camera = 0;
    let begin = world.now;
    let after = stream(&mut world, frames);
    let sent = world.sent_by_camera;
    let packets = after.packets_sent - before.packets_sent;
    let repair = after.parity_sent - before.parity_sent + after.repairs_sent - before.repairs_sent;
    world.run(ms(1000));
    let mut delays: Vec<Duration> = world
        .arrivals
        .iter()
        .filter(|(_, captured)| *captured >= begin)
        .map(|(at, captured)| at.since(*captured))
        .collect();
    delays.sort_unstable();
    let limit = path.delay + budget + ms(1);
    let in_time = delays.iter().filter(|delay| **delay <= limit).count();
    assert!(delays.len() as u64 <= frames);
    Measured {
        on_time: in_time as f64 / frames as f64,
        median: delays[delays.len() / 2],
        p99: delays[delays.len() * 99 / 100],
        extra: sent as f64 / (frames * len as u64) as f64 - 1.0,
        repair: repair as f64 / (packets - repair) as f64,
    }
}

struct Case {
    name: &'static str,
    path: Conditions,
    budget: u64,
    /// Least share of frames in time, in percent.
    on_time: f64,
    /// Most extra bytes, in percent; headers are some 4 %.
    extra: f64,
}

fn lossy(loss: f64, rtt: u64) -> Conditions {
    Conditions {
        loss,
        ..Conditions::clean(ms(rtt / 2))
    }
}

/// The path of case E.
fn bursts() -> Conditions {
    Conditions {
        burst: 5.0,
        ..lossy(0.05, 40)
    }
}

#[test]
fn the_table_of_conditions() {
    let k = Conditions {
        rate: 16_000_000,
        queue: ms(60),
        ..Conditions::clean(ms(10))
    };
    let jitter = Conditions {
        jitter: ms(15),
        ..Conditions::clean(ms(10))
    };
    let cases = [
        Case {
            name: "A  5 %, 20 ms",
            path: lossy(0.05, 20),
            budget: 60,
            on_time: 99.9,
            extra: 15.0,
        },
        Case {
            name: "B  5 %, 20 ms",
            path: lossy(0.05, 20),
            budget: 120,
            on_time: 99.9,
            extra: 15.0,
        },
        Case {
            name: "C 10 %, 40 ms",
            path: lossy(0.10, 40),
            budget: 120,
            on_time: 99.9,
            extra: 22.5,
        },
        Case {
            name: "D 20 %, 40 ms",
            path: lossy(0.20, 40),
            budget: 250,
            on_time: 99.9,
            extra: 40.0,
        },
        Case {
            name: "E  5 % bursts",
            path: bursts(),
            budget: 120,
            on_time: 99.9,
            extra: 18.0,
        },
        Case {
            name: "F  5 %, 200 ms",
            path: lossy(0.05, 200),
            budget: 250,
            on_time: 99.9,
            extra: 18.2,
        },
        Case {
            name: "G  5 %, 200 ms",
            path: lossy(0.05, 200),
            budget: 150,
            on_time: 99.9,
            extra: 35.0,
        },
        Case {
            name: "H  2 %, 100 ms",
            path: lossy(0.02, 100),
            budget: 120,
            on_time: 99.9,
            extra: 16.0,
        },
        Case {
            name: "I  1 %, 20 ms",
            path: lossy(0.01, 20),
            budget: 20,
            on_time: 99.8,
            extra: 18.0,
        },
        Case {
            name: "J jitter 15 ms",
            path: jitter,
            budget: 40,
            on_time: 99.9,
            extra: 10.0,
        },
        Case {
            name: "K 16 Mbit/s",
            path: k,
            budget: 60,
            on_time: 99.9,
            extra: 10.0,
        },
    ];
    let mut short = Vec::new();
    for case in cases {
        let m = measure(
            53_000,
            case.path,
            ms(case.budget),
            3000,
            50_000,
            FRAME,
            1200,
        );
        let line = format!(
            "{:16} budget {:3} ms: {:6.2} % in time, median {:6.1} ms, p99 {:6.1} ms, extra {:5.1} %",
            case.name,
            case.budget,
            m.on_time * 100.0,
            m.median.as_secs_f64() * 1e3,
            m.p99.as_secs_f64() * 1e3,
            m.extra * 100.0
        );
        println!("{line}");
        let serialisation = match case.path.rate {
            0 => 0.0,
            rate => (1.0 + m.extra) * 50_000.0 * 8.0 / rate as f64,
        };
        let least = case.path.delay + case.path.jitter + Duration::from_secs_f64(serialisation);
        if m.on_time * 100.0 < case.on_time
            || m.extra * 100.0 > case.extra
            || m.median > least + ms(5)
        {
            short.push(line);
        }
    }
    assert!(short.is_empty(), "short of the limits: {short:#?}");
}

#[test]
fn bursts_are_repaired_whenever_they_come() {
    // The first of these once took losses for congestion, and dropped a frame in ten.
    let shares: Vec<f64> = (51_500..51_516)
        .map(|seed| measure(seed, bursts(), ms(120), 1500, 50_000, FRAME, 1200).on_time)
        .collect();
    println!("{shares:.4?}");
    assert!(shares.iter().all(|share| *share >= 0.996), "{shares:.4?}");
    assert!(shares.iter().sum::<f64>() / shares.len() as f64 >= 0.999);
}

#[test]
fn repairs_take_at_most_half_as_much_as_first_flights_however_much_is_lost() {
    let mut shares = Vec::new();
    for (seed, loss) in [(1, 0.6), (2, 0.6), (3, 0.45)] {
        let mut world = World::new(seed, lossy(loss, 20));
        (world.latency, world.mtu) = (ms(500), 1200);
        world.start_relay();
        world.host(RELAY).set_latency("door", ms(500));
        world.start(CAMERA, Default::default());
        let peer = world.publish(CAMERA, "door");
        world.run_until(ms(20_000), |events| {
            events.iter().any(|(_, _, e)| matches!(e, Event::Connected))
        });
        let (mut first, mut most) = (0, 0.0f64);
        let mut before = None;
        for second in 0..20 {
            world.stream(CAMERA, peer, 30, FRAME, 50_000);
            let now = world.now;
            let after = world.host(CAMERA).stats(now, peer).unwrap();
            let repairs = after.repairs_sent;
            first = after.packets_sent - repairs;
            assert!(
                repairs <= first / 2 + 256,
                "{repairs} of {first} after {second} s"
            );
            if let Some((r, f)) = before.replace((repairs, first)) {
                most = most.max((repairs - r) as f64 / (first - f) as f64);
            }
        }
        println!("loss {loss}: {before:?}, {most:.2} at most, {first} packets");
        shares.push(most);
    }
    // It is the bound that keeps them there.
    assert!(shares.iter().any(|share| *share > 0.4), "{shares:?}");
}
