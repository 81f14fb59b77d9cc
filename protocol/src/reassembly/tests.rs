//! Tests of the receiving end of one stream.

use super::*;
use crate::wire::fragment::{FLAG_DISCARDABLE, FLAG_KEY};

/// When reports are sent of a frame of which one of two symbols came, in milliseconds.
fn reports(latency: u64, rtt: u64, rhythm: Rhythm) -> Vec<u64> {
    let ms = Duration::from_millis;
    let mut stream = Reassembly::new(0, ms(latency));
    let fragment = Fragment {
        flags: 0,
        skipped: 0,
        stream: 0,
        sequence: 7,
        capture: 0,
        symbol: 1,
        k: 2,
        first_flight: 2,
        block: 0,
        blocks: 1,
        code: 1,
    };
    let timing = Timing {
        rtt: ms(rtt),
        reorder: Duration::ZERO,
        tail: ms(3),
        jitter: ms(2),
        rhythm,
    };
    let limits = Limits {
        frame: 1000,
        memory: 1000,
    };
    let (begin, mut clock) = (Time::from_nanos(1_000_000_000), Clock::new(ms(latency)));
    clock.observe(begin, 0);
    stream.handle_fragment(begin, &fragment, &[0; 50], 0, limits, timing);
    let mut at = Vec::new();
    while let Some(now) = stream.report_due() {
        let millis = now.since(begin).as_millis() as u64;
        let mut deficits = Vec::new();
        let copies = stream.report(now, &clock, timing, &mut deficits);
        at.extend(std::iter::repeat_n(millis, copies));
        assert_eq!(deficits[0].blocks, [1]);
    }
    at
}

#[test]
fn reports_are_repeated_while_an_answer_could_come_in_time() {
    // A round takes 42 ms and an answer 40 ms.
    let reports = |latency| reports(latency, 40, Rhythm::Singles);
    assert_eq!(reports(120), [0, 5, 42, 43, 45, 49, 57, 73]);
    assert_eq!(reports(90), [0, 5, 42, 43, 45, 49]);
    assert_eq!(reports(50), [0, 1, 3, 7]);
    assert_eq!(reports(30), [0]);
}

#[test]
fn where_losses_are_independent_reports_go_in_pairs() {
    let reports = |latency| reports(latency, 40, Rhythm::Pairs);
    assert_eq!(reports(120), [0, 0, 42, 42, 45, 45, 54, 54]);
    assert_eq!(reports(90), [0, 0, 42, 42, 45, 45]);
    assert_eq!(reports(50), [0, 0, 3, 3]);
    assert_eq!(reports(30), [0, 0]);
}

#[test]
fn where_losses_cluster_reports_go_on() {
    let reports = |latency| reports(latency, 40, Rhythm::Bunches);
    assert_eq!(
        reports(90),
        [
            0, 8, 8, 20, 20, 20, 20, 42, 43, 43, 45, 45, 45, 45, 49, 49, 49, 49
        ]
    );
    assert_eq!(
        reports(60),
        [0, 1, 1, 3, 3, 3, 3, 7, 7, 7, 7, 15, 15, 15, 15]
    );
}

#[test]
fn where_a_queue_may_lose_them_reports_go_on_every_5_ms() {
    let reports = |latency| reports(latency, 40, Rhythm::Steady);
    assert_eq!(
        reports(90),
        [0, 5, 10, 15, 20, 25, 30, 35, 40, 42, 43, 45, 49]
    );
    assert_eq!(reports(60), [0, 1, 3, 7, 12, 17]);
}

#[test]
fn an_end_far_ahead_is_come_to_at_once() {
    let latency = Duration::from_millis(120);
    let mut stream = Reassembly::new(0, latency);
    assert!(stream.handle_caps(0, 7, "image/jpeg".into()));
    let far = (1 << 31) - 2;
    let now = Time::from_nanos(1);
    stream.handle_end(now, 7 + far);
    let mut told = Vec::new();
    stream.poll(now + latency, &Clock::new(latency), |output| {
        told.push(output)
    });
    assert!(matches!(told[0], Output::Caps { .. }));
    assert!(matches!(told[1], Output::Gap { frames, .. } if frames == far));
    assert!(matches!(told[2], Output::Ended) && told.len() == 3);
    assert_eq!(stream.counters.lost, u64::from(far));
}

/// A frame of one byte and one symbol.
fn whole(stream: &mut Reassembly, sequence: u32, flags: u8, capture: u64) -> Outcome {
    let header = FrameHeader {
        flags,
        caps_generation: 0,
        len: 1,
        capture: capture * 1000,
        dts_offset: 0,
        duration: 0,
        wall: 0,
    };
    let mut symbol = header.encode().to_vec();
    symbol.push(0);
    let fragment = Fragment {
        flags,
        k: 1,
        first_flight: 1,
        ..one_of_two(sequence)
    };
    let now = Time::from_nanos(1_000_000_000);
    stream.handle_fragment(now, &fragment, &symbol, capture, LIMITS, TIMING)
}

#[test]
fn times_of_missing_frames_are_told_however_far_numbers_and_captures_jump() {
    let latency = Duration::from_millis(120);
    let mut stream = Reassembly::new(0, latency);
    assert!(stream.handle_caps(0, 7, "image/jpeg".into()));
    assert_eq!(whole(&mut stream, 7, 0, 0), Outcome::Taken);
    stream.poll(Time::default(), &Clock::new(latency), |_| {});
    let (far, late) = ((1 << 31) - 1, 1 << 52);
    assert_eq!(whole(&mut stream, 7 + far, 0, late), Outcome::Taken);
    let mut captures = stream.frames.values().map(|open| open.capture);
    let first = captures.next().unwrap();
    assert!(first > late / 2 && captures.all(|next| first <= next && next <= late));
}

const TIMING: Timing = Timing {
    rtt: Duration::from_millis(20),
    reorder: Duration::from_millis(1),
    tail: Duration::from_millis(3),
    jitter: Duration::from_millis(2),
    rhythm: Rhythm::Singles,
};

const LIMITS: Limits = Limits {
    frame: 1000,
    memory: 1 << 20,
};

/// One symbol of many, of a frame of that number.
fn one_of_two(sequence: u32) -> Fragment {
    Fragment {
        flags: 0,
        skipped: 0,
        stream: 0,
        sequence,
        capture: 0,
        symbol: 0,
        k: 2,
        first_flight: 2,
        block: 0,
        blocks: 1,
        code: 1,
    }
}

#[test]
fn frames_kept_are_few_however_their_numbers_jump() {
    let latency = Duration::from_millis(120);
    let now = Time::from_nanos(1_000_000_000);
    let most = WINDOW as usize;
    for (begun, step) in [
        (false, u32::MAX),
        (false, 1),
        (true, 1),
        (true, 500),
        (true, 1 << 30),
    ] {
        let mut stream = Reassembly::new(0, latency);
        if begun {
            assert!(stream.handle_caps(0, 7, "image/jpeg".into()));
        }
        let mut sequence = 7u32;
        for _ in 0..1000 {
            let fragment = one_of_two(sequence);
            stream.handle_fragment(now, &fragment, &[0], 0, LIMITS, TIMING);
            assert!(stream.frames.len() <= most, "{begun} {step}");
            sequence = sequence.wrapping_add(step);
        }
        assert!(stream.frames.len() > 1 && stream.not_sent.is_empty());
    }
}

#[test]
fn frames_not_sent_are_kept_once_however_often_that_is_told() {
    let latency = Duration::from_secs(60);
    let now = Time::from_nanos(1_000_000_000);
    for begun in [false, true] {
        let mut stream = Reassembly::new(0, latency);
        if begun {
            assert!(stream.handle_caps(0, 280, "image/jpeg".into()));
        }
        let mut clock = Clock::new(latency);
        clock.observe(now, 0);
        let mut most = 0;
        for round in 0..10_000u32 {
            // Its one symbol is no frame, so that it opens one each time it comes.
            let fragment = Fragment {
                k: 1,
                first_flight: 1,
                skipped: round as u8,
                ..one_of_two(300 + round / 100)
            };
            stream.handle_fragment(now, &fragment, &[0; 50], 0, LIMITS, TIMING);
            most = most.max(stream.not_sent.len());
            stream.poll(now, &clock, |_| {});
        }
        assert!(
            (1..=WINDOW as usize + 255).contains(&most),
            "{begun}: {most}"
        );
    }
}

#[test]
fn frames_of_no_stream_go_some_seconds_after_their_deadline() {
    let latency = Duration::from_millis(120);
    let mut stream = Reassembly::new(0, latency);
    let begin = Time::from_nanos(1_000_000_000);
    let mut clock = Clock::new(latency);
    clock.observe(begin, 0);
    for number in 7..10 {
        let fragment = one_of_two(number);
        stream.handle_fragment(begin, &fragment, &[0; 50], 0, LIMITS, TIMING);
    }
    let until = begin + latency + CAPS_PATIENCE;
    assert_eq!(stream.poll_timeout(&clock), Some(until));
    stream.poll(until - Duration::from_nanos(1), &clock, |_| {});
    assert!(stream.memory() > 0);
    stream.poll(until, &clock, |_| {});
    assert_eq!((stream.memory(), stream.poll_timeout(&clock)), (0, None));
}

#[test]
fn parity_that_is_kept_counts_and_stays_within_the_room_there_is() {
    let now = Time::from_nanos(1_000_000_000);
    let mut stream = Reassembly::new(0, Duration::from_millis(120));
    let fragment = |symbol| Fragment {
        symbol,
        k: 8,
        first_flight: 8,
        ..one_of_two(7)
    };
    let mut add = |symbol, room| {
        let limits = Limits {
            memory: room,
            ..LIMITS
        };
        let outcome = stream.handle_fragment(now, &fragment(symbol), &[1; 50], 0, limits, TIMING);
        (outcome, stream.memory())
    };
    // Eight symbols of data, and one of parity beside them where there is room.
    assert_eq!(add(8, 399), (Outcome::NoRoom, 0));
    assert_eq!(add(8, 449), (Outcome::NoRoom, 400));
    assert_eq!(add(8, 50), (Outcome::Taken, 450));
    assert_eq!(add(8, 50), (Outcome::Duplicate, 450));
    assert_eq!(add(9, 49), (Outcome::NoRoom, 450));
    for symbol in 0..6 {
        assert_eq!(add(symbol, 0), (Outcome::Taken, 450));
    }
    assert_eq!(
        add(10, 50),
        (Outcome::Inconsistent, 0),
        "whole, and no frame"
    );
}

#[test]
fn nothing_is_undecodable_for_want_of_a_frame_that_none_builds_on() {
    for (flags, delivered) in [(FLAG_DISCARDABLE, 2), (0, 1)] {
        let latency = Duration::from_millis(120);
        let mut stream = Reassembly::new(0, latency);
        assert!(stream.handle_caps(0, 7, "video/x-h264".into()));
        let begin = Time::from_nanos(1_000_000_000);
        let mut clock = Clock::new(latency);
        clock.observe(begin, 0);
        assert_eq!(whole(&mut stream, 7, FLAG_KEY, 0), Outcome::Taken);
        let fragment = Fragment {
            flags,
            ..one_of_two(8)
        };
        stream.handle_fragment(begin, &fragment, &[0; 50], 0, LIMITS, TIMING);
        assert_eq!(whole(&mut stream, 9, 0, 0), Outcome::Taken);
        stream.poll(begin + latency * 2, &clock, |_| {});
        assert_eq!(stream.counters.delivered, delivered);
    }
}
