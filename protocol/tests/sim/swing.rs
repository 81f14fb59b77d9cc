//! One camera on a path that narrows from 20 to 4 Mbit/s and widens again, while other things happen.

use std::time::Duration;

use camrelay_protocol::{Event, Time};
use path_emulator::{Conditions, Rng};

use crate::jpeg::{Jpeg, share};
use crate::sessions::ms;
use crate::world::{CAMERA, RELAY, World};

const FRAME: Duration = Duration::from_nanos(33_333_333);
/// Seconds before, while and after the path is narrow.
const PARTS: [usize; 3] = [10, 25, 25];

/// What else happens, all the time or now and then.
#[derive(Clone, Copy, Debug)]
struct Kicks {
    jitter: Duration,
    loss: f64,
    /// How often in a minute the relay is held up, for 50 to 100 ms.
    held: f64,
}

/// What a viewer saw.
#[derive(Debug)]
struct Seen {
    freeze: Duration,
    /// Frames captured and not shown, while the path is narrow but for its first 2 s, as a share.
    lost: f64,
    /// Seconds after the path got wider until the picture is as good as before.
    back: Option<usize>,
    /// How often a second has less than 0.7 of the one before, from 5 s after a change on.
    falls: usize,
    /// Share of the narrow path that is used, from 5 s on.
    used: f64,
}

fn run(seed: u64, queue: Duration, kicks: Kicks) -> Seen {
    let mut rng = Rng::new(seed);
    let path = |rate| Conditions {
        rate,
        queue,
        jitter: kicks.jitter,
        loss: kicks.loss,
        ..Conditions::clean(ms(10))
    };
    let mut world = World::new(seed, path(20_000_000));
    world.mtu = 1200;
    world.start_relay();
    world.start(CAMERA, Default::default());
    let peer = world.publish(CAMERA, "door");
    world.run(ms(500));
    let begin = world.now;
    let mut encoder = Jpeg::new(120_000.0, 0.7);
    let seconds: usize = PARTS.iter().sum();
    let (mut made, mut came) = (vec![0; seconds + 2], vec![0; seconds + 2]);
    let mut bits = vec![0.0; seconds + 2];
    let second = |at: Time| at.since(begin).as_secs() as usize;
    for number in 0..seconds * 30 {
        let now = world.now;
        let at = number / 30;
        world.path = match at {
            _ if at < PARTS[0] || at >= PARTS[0] + PARTS[1] => path(20_000_000),
            _ => path(4_000_000),
        };
        if rng.chance(kicks.held / 60.0 / 30.0) {
            world.hold(RELAY, ms(50) + ms(50).mul_f64(share(&mut rng)));
        }
        for (host, _, event) in world.events.drain(..) {
            match event {
                Event::TargetBitrate(target) => encoder.target = target,
                Event::Frame(received) if host != crate::world::address(CAMERA) => {
                    let captured = Time::from_nanos(received.frame.dts_offset as u64);
                    came[second(captured)] += 1;
                    bits[second(captured)] += received.frame.data.len() as f64 * 8.0;
                }
                _ => {}
            }
        }
        if let Some(len) = encoder.encode(&mut rng) {
            made[at] += 1;
            let frame = world.frame(1, len);
            world.host(CAMERA).send_frame(now, peer, 0, frame).unwrap();
        }
        world.run(FRAME);
    }
    let freeze = world
        .arrivals
        .windows(2)
        .map(|pair| pair[1].0.since(pair[0].0));
    let (narrow, wide) = (PARTS[0], PARTS[0] + PARTS[1]);
    let sum = |counts: &[i32]| f64::from(counts.iter().sum::<i32>());
    let all = [narrow + 2..wide, wide..seconds - 1]
        .map(|part| (sum(&made[part.clone()]), sum(&came[part])));
    let (made, shown) = (all[0].0 + all[1].0, all[0].1 + all[1].1);
    let falls = (narrow + 5..wide - 1).chain(wide + 5..seconds - 2);
    let before = bits[3..narrow - 1].iter().sum::<f64>() / (narrow - 4) as f64;
    Seen {
        freeze: freeze.max().unwrap(),
        lost: 1.0 - shown / made,
        back: (wide..seconds - 1).position(|at| bits[at] >= 0.95 * before),
        falls: falls.filter(|at| bits[at + 1] < 0.7 * bits[*at]).count(),
        used: bits[narrow + 5..wide - 1].iter().sum::<f64>() / (PARTS[1] - 6) as f64 / 4e6,
    }
}

#[test]
fn pictures_go_on_and_come_back_whatever_else_happens() {
    for queue in [60, 200] {
        for (jitter, loss, held) in [
            (0, 0.0, 0.0),
            (5, 0.0, 0.0),
            (0, 0.01, 0.0),
            (0, 0.0, 12.0),
            (5, 0.02, 12.0),
        ] {
            let kicks = Kicks {
                jitter: ms(jitter),
                loss,
                held,
            };
            let all: Vec<_> = (1..=6).map(|seed| run(seed, ms(queue), kicks)).collect();
            println!("queue {queue} ms, {kicks:?}:");
            for seen in all {
                println!("  {seen:.2?}");
                // Where packets overtake each other, it takes longer to tell what the path carries.
                let freeze = if jitter > 0 { 700 } else { 500 };
                assert!(seen.freeze < ms(freeze));
                assert!(seen.lost < 0.012);
                assert!(seen.back.is_some_and(|seconds| seconds < 15));
                assert!(seen.falls <= 3 && seen.used > 0.6);
            }
        }
    }
}
