//! A path of a capacity and a sender that follows its target.

use std::collections::VecDeque;

use super::*;
use crate::wire::feedback::Sample;

/// A path of `capacity` bits per second with 20 ms of delay; the sender follows its target,
/// at most `wanted`. Returns the target and the queue delay at the end of each second.
fn run(seconds: u64, wanted: f64, capacity: impl Fn(u64) -> f64) -> Vec<(f64, Duration)> {
    let (mut rate, mut out) = (Rate::default(), Vec::new());
    let (mut busy, mut bytes, mut number) = (0f64, 0u32, 0u64);
    let mut arrived: VecDeque<(f64, u64, u32)> = VecDeque::new();
    for tick in 0..seconds * 1000 {
        let now = Time::from_nanos(1_000_000_000 + tick * 1_000_000);
        let seconds = tick as f64 / 1000.0;
        let target = rate.target().map_or(wanted, |t| wanted.min(t as f64));
        let size = target / 8000.0;
        rate.on_sent(now, number, size as usize);
        busy = busy.max(seconds) + size * 8.0 / capacity(tick / 1000);
        arrived.push_back((busy + 0.02, number, size as u32));
        number += 1;
        if tick % 25 == 24 {
            let (mut samples, mut largest) = (Vec::new(), 0);
            while let Some((at, n, size)) = arrived.pop_front_if(|(at, ..)| *at <= seconds - 0.02) {
                bytes = bytes.wrapping_add(size);
                samples.push((n, (at * 1e6) as u32));
                largest = n;
            }
            let last = samples.split_off(samples.len().saturating_sub(8));
            let feedback = Feedback {
                largest,
                bytes,
                packets: largest as u32,
                samples: last
                    .iter()
                    .map(|(n, arrival)| Sample {
                        back: (largest - n) as u16,
                        arrival: *arrival,
                    })
                    .collect(),
                ..Feedback::default()
            };
            rate.on_feedback(
                now,
                &feedback,
                Duration::from_millis(40),
                Duration::from_millis(120),
            );
        }
        if tick % 1000 == 999 {
            out.push((target, rate.queue_delay()));
        }
    }
    out
}

#[test]
fn a_clear_path_sets_no_limit() {
    let out = run(20, 10e6, |_| 100e6);
    let clear =
        |(target, queue): &(f64, Duration)| *target == 10e6 && *queue < Duration::from_millis(5);
    assert!(out.iter().all(clear), "{out:?}");
}

#[test]
fn a_bottleneck_is_met_and_its_queue_drained() {
    let out = run(30, 10e6, |_| 4e6);
    for (target, queue) in &out[4..] {
        assert!((2.4e6..4.6e6).contains(target), "{out:?}");
        assert!(*queue < Duration::from_millis(150), "{out:?}");
    }
}

/// Frames of one packet, one each `interval`, each of which comes the later for `held`; asserts that
/// no limit is set. Reports are 10 ms on their way, and those that leave at once come one by one.
fn no_limit_is_met(frames: u32, interval: Duration, held: impl Fn(u32) -> Duration) {
    let mut rate = Rate::default();
    let begin = Time::from_nanos(1_000_000_000);
    for frame in 0..frames {
        let sent = begin + interval * frame;
        rate.on_sent(sent, frame.into(), 9000);
        let arrival = sent + Duration::from_millis(10) + held(frame);
        let feedback = Feedback {
            largest: frame.into(),
            packets: frame + 1,
            bytes: (frame + 1) * 9000,
            samples: vec![Sample {
                back: 0,
                arrival: arrival.low_micros(),
            }],
            ..Feedback::default()
        };
        let told = arrival + Duration::from_millis(10) + Duration::from_micros(100) * (frame % 4);
        let rtt = Duration::from_millis(20);
        rate.on_feedback(told, &feedback, rtt, rtt);
        assert_eq!(rate.target(), None, "frame {frame}");
    }
}

#[test]
fn a_receiver_held_up_once_is_no_congestion() {
    let held = |frame| Duration::from_millis(if frame == 50 { 80 } else { 0 });
    no_limit_is_met(100, Duration::from_millis(200), held);
}

#[test]
fn a_path_that_stands_still_for_a_moment_is_no_congestion() {
    let interval = Duration::from_nanos(33_333_333);
    // What is sent for 130 ms comes 130 ms after the first of it, all at once.
    no_limit_is_met(60, interval, |frame| match frame {
        40..44 => Duration::from_millis(130) - interval * (frame - 40),
        _ => Duration::ZERO,
    });
}

#[test]
fn the_rate_comes_back() {
    let out = run(40, 10e6, |second| {
        if (10..20).contains(&second) {
            3e6
        } else {
            30e6
        }
    });
    assert_eq!(out[9].0, 10e6);
    assert!(out[13].0 < 3.2e6, "{out:?}");
    assert!(out[34].0 > 9e6, "{out:?}");
}

#[test]
fn a_burst_after_a_while_without_reports_is_no_congestion() {
    let mut rate = Rate::default();
    let (mut number, mut came) = (0u64, 0u32);
    for frame in 0..60u64 {
        // 30 frames a second of 40 packets each. No report of frames 30 to 39 comes; of two frames
        // after that a burst takes half.
        let sent = Time::from_nanos(1_000_000_000 + frame * 33_333_333);
        for packet in 0..40u64 {
            let lost = matches!(frame, 41 | 42) && (16..38).contains(&packet);
            rate.on_sent(sent, number, 1200);
            number += 1;
            came += u32::from(!lost);
        }
        if (30..40).contains(&frame) {
            continue;
        }
        let feedback = Feedback {
            largest: number - 1,
            packets: came,
            bytes: came * 1200,
            samples: vec![Sample {
                back: 0,
                arrival: sent.low_micros() + 20_000,
            }],
            ..Feedback::default()
        };
        rate.on_feedback(
            sent + Duration::from_millis(40),
            &feedback,
            Duration::from_millis(40),
            Duration::from_millis(120),
        );
        assert_eq!(rate.target(), None, "frame {frame}");
    }
}
