//! Repair of other frames than the table's: small and large, rare and frequent, at other losses.

use std::time::Duration;

use path_emulator::Conditions;

use crate::repair::{Measured, measure};

const DELAY: Duration = Duration::from_millis(25);
const BUDGET: Duration = Duration::from_millis(120);
const FRAMES: u64 = 500;
/// Bytes.
const SIZES: [usize; 4] = [5_000, 20_000, 100_000, 400_000];
/// Frames a second.
const RATES: [u64; 3] = [5, 15, 60];

/// What every cell of a table is to reach, in percent.
struct Limits {
    /// Frames in time: all cells together, and each.
    on_time: f64,
    each: f64,
    /// Most repair, for each size.
    repair: [f64; SIZES.len()],
}

/// All sizes and rates at one loss, with datagrams of the size that the path carries.
fn table(loss: f64, burst: f64, limits: Limits) {
    let path = Conditions {
        loss,
        burst,
        ..Conditions::clean(DELAY)
    };
    let (mut short, mut shares) = (Vec::new(), Vec::new());
    for (size, most) in SIZES.into_iter().zip(limits.repair) {
        for rate in RATES {
            let interval = Duration::from_nanos(1_000_000_000 / rate);
            let Measured {
                on_time,
                median,
                p99,
                extra,
                repair,
            } = measure(
                FRAMES + size as u64,
                path,
                BUDGET,
                FRAMES,
                size,
                interval,
                0,
            );
            let line = format!(
                "{:4.1} % in bursts of {burst}, {:3} kB at {rate:2}/s: {:6.2} % in time, median \
                 {:5.1} ms, p99 {:5.1} ms, repair {:5.1} %, extra {:5.1} %",
                loss * 100.0,
                size / 1000,
                on_time * 100.0,
                median.as_secs_f64() * 1e3,
                p99.as_secs_f64() * 1e3,
                repair * 100.0,
                extra * 100.0,
            );
            println!("{line}");
            if on_time * 100.0 < limits.each || repair * 100.0 > most {
                short.push(line);
            }
            shares.push(on_time);
        }
    }
    let all = shares.iter().sum::<f64>() / shares.len() as f64 * 100.0;
    println!("all together {all:.2} % in time");
    assert!(short.is_empty(), "short of the limits: {short:#?}");
    assert!(all >= limits.on_time, "{all} % in time");
}

#[test]
fn little_loss() {
    table(
        0.005,
        1.0,
        Limits {
            on_time: 99.95,
            each: 99.6,
            repair: [10.0, 5.0, 3.0, 3.0],
        },
    );
}

#[test]
fn some_loss() {
    table(
        0.03,
        1.0,
        Limits {
            on_time: 99.95,
            each: 99.6,
            repair: [30.0, 15.0, 8.0, 8.0],
        },
    );
}

#[test]
fn much_loss() {
    table(
        0.15,
        1.0,
        Limits {
            on_time: 99.8,
            each: 99.4,
            repair: [70.0, 40.0, 28.0, 28.0],
        },
    );
}

#[test]
fn short_bursts() {
    table(
        0.03,
        3.0,
        Limits {
            on_time: 99.8,
            each: 99.0,
            repair: [40.0, 20.0, 15.0, 15.0],
        },
    );
}

#[test]
fn long_bursts() {
    table(
        0.05,
        8.0,
        Limits {
            on_time: 99.3,
            each: 97.5,
            repair: [40.0, 20.0, 20.0, 25.0],
        },
    );
}
