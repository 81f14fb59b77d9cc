//! Frames: the code and the reassembly.

use std::time::Duration;

use super::Input;
use crate::Time;
use crate::clock::Clock;
use crate::fec::{add_data, recover};
use crate::reassembly::{Limits, Output, Reassembly, Rhythm, Timing};
use crate::wire::fragment::Fragment;

/// Any k symbols give the block back.
pub fn fec(data: &[u8]) {
    let mut input = Input(data);
    let k = u16::from(input.u8() % 48) + 1;
    let len = usize::from(input.u8() % 32) + 1;
    let mut lost = Vec::new();
    let mut numbers: Vec<u16> = Vec::new();
    for _ in 0..k {
        let symbol = u16::from(input.u8()) % k;
        let parity = k + u16::from(input.u8()) % (256 - k);
        if !lost.contains(&symbol) && !numbers.contains(&parity) {
            lost.push(symbol);
            numbers.push(parity);
        }
    }
    lost.sort_unstable();
    let symbols: Vec<Vec<u8>> = (0..k)
        .map(|_| {
            let mut symbol = input.bytes(len).to_vec();
            symbol.resize(len, 0x5a);
            symbol
        })
        .collect();
    let parity = numbers
        .iter()
        .map(|number| {
            let mut out = vec![0; len];
            for (data, symbol) in (0..k).zip(&symbols) {
                add_data(*number, &mut out, data, symbol);
            }
            (*number, out)
        })
        .collect();
    let found = recover(k, &lost, parity, |data| {
        assert!(!lost.contains(&data), "it is missing");
        &symbols[usize::from(data)]
    });
    for (number, symbol) in lost.iter().zip(found) {
        assert_eq!(symbol, symbols[usize::from(*number)]);
    }
}

/// Fragments in any order and of any making: memory stays within its limit, and every frame
/// that is handed over was announced.
pub fn reassembly(data: &[u8]) {
    const MEMORY: usize = 1 << 20;
    let mut input = Input(data);
    let mut now = Time::from_nanos(1_000_000_000);
    let latency = Duration::from_millis(120);
    let mut clock = Clock::new(latency);
    let mut stream = Reassembly::new(0, latency);
    let (mut base, mut told) = (input.u32(), 0u64);
    let timing = Timing {
        rtt: Duration::from_millis(20),
        reorder: Duration::from_millis(1),
        tail: Duration::from_millis(3),
        jitter: Duration::from_millis(2),
        rhythm: Rhythm::Bunches,
    };
    while !input.is_empty() {
        let op = input.u8();
        match op % 8 {
            0 => now = now + Duration::from_micros(u64::from(input.u16()) * 8),
            1 => {
                let first = base.wrapping_add(input.u8().into());
                if !stream.handle_caps(op >> 3, first, "image/jpeg".into()) {
                    return;
                }
            }
            2 => stream.handle_end(now, base.wrapping_add(input.u8().into())),
            3 if op >> 3 == 31 => base = base.wrapping_add(input.u32()),
            3 => base = base.wrapping_add(input.u8().into()),
            _ => {
                let len = usize::from(input.u8() % 64) + 1;
                let sequence = base.wrapping_add(input.u8() as i8 as u32);
                let k = input.u8().clamp(1, 240);
                let blocks = (op >> 3 & 3) + 1;
                let fragment = Fragment {
                    flags: op >> 5,
                    skipped: if op & 16 == 0 { 0 } else { op },
                    stream: 0,
                    sequence,
                    capture: base.wrapping_mul(33_000).wrapping_add(input.u32()),
                    symbol: input.u8().into(),
                    k,
                    first_flight: k.saturating_add(op & 1),
                    block: input.u8() % blocks,
                    blocks,
                    code: op & 1,
                };
                let mut symbol = input.bytes(len).to_vec();
                symbol.resize(len, 0);
                let capture = clock.extend(fragment.capture);
                clock.observe(now, capture);
                let limits = Limits {
                    frame: 1 << 16,
                    memory: MEMORY - stream.memory(),
                };
                stream.handle_fragment(now, &fragment, &symbol, capture, limits, timing);
            }
        }
        assert!(stream.memory() <= MEMORY);
        let mut deficits = Vec::new();
        if stream.report_due().is_some_and(|due| due <= now) {
            stream.report(now, &clock, timing, &mut deficits);
        }
        stream.poll(now, &clock, |output| match output {
            Output::Frame(frame) => {
                assert!(told > 0, "a frame without caps");
                assert!(!frame.frame.data.is_empty());
            }
            Output::Caps { .. } => told += 1,
            Output::Gap { frames, .. } => assert!(frames > 0),
            Output::Ended => {}
        });
        let _ = stream.poll_timeout(&clock);
    }
}
