//! The `stats` of both ends.

mod common;

use std::collections::BTreeSet;

use common::*;
use gst::prelude::*;

/// What both ends have.
const NAMES: [&str; 33] = [
    "packets-sent",
    "packets-received",
    "packets-received-dropped",
    "packets-dropped-by-kernel",
    "bytes-sent",
    "bytes-received",
    "frames-captured",
    "frames-sent",
    "frames-dropped",
    "frames-delivered",
    "frames-lost",
    "frames-late",
    "frames-not-sent",
    "frames-undecodable",
    "parity-sent",
    "repairs-sent",
    "recovered-by-parity",
    "recovered-by-resend",
    "repair-rounds",
    "frame-latency-p50",
    "frame-latency-p95",
    "frame-latency-p99",
    "loss-fraction",
    "clock-skew-ppm",
    "reconnects",
    "rekeys",
    "moves",
    "rtt-ms",
    "queue-delay-ms",
    "target-bitrate",
    "mtu",
    "cipher",
    "connected",
];

fn names(harness: &gst_check::Harness) -> BTreeSet<String> {
    let element = harness.element().unwrap();
    let stats: gst::Structure = element.property("stats");
    stats.fields().map(|name| name.to_string()).collect()
}

#[test]
fn both_ends_have_every_counter_and_count() {
    let mut source = source("camera=door");
    let mut sink = sink(port(&source), "camera=door", "image/jpeg");
    first_frame(&mut sink, &mut source);
    for end in [&sink, &source] {
        let names = names(end);
        let missing = NAMES.iter().filter(|name| !names.contains(**name));
        let missing: Vec<_> = missing.collect();
        assert!(missing.is_empty(), "{missing:?} of {names:?}");
    }
    // The camera hears once a second what became of its frames.
    until("the sink knows what was delivered", || {
        sink.push(buffer(50_000, 1)).unwrap();
        while source.try_pull().is_some() {}
        stat::<u64>(&sink, "frames-delivered") > 0
    });
    for end in [&sink, &source] {
        assert!(stat::<u64>(end, "packets-sent") > 0);
        assert!(stat::<u64>(end, "bytes-received") > 0);
        assert!(stat::<u64>(end, "frames-delivered") > 0);
        assert!(stat::<u64>(end, "frames-captured") > 0);
        for none in ["rekeys", "moves", "reconnects"] {
            assert_eq!(stat::<u64>(end, none), 0, "{none}");
        }
        assert!(stat::<f64>(end, "frame-latency-p50") > 0.0);
        let (p95, p99) = ("frame-latency-p95", "frame-latency-p99");
        assert!(stat::<f64>(end, p95) <= stat::<f64>(end, p99));
        assert!(stat::<f64>(end, "rtt-ms") > 0.0);
        assert!(stat::<u32>(end, "mtu") >= 1200);
        assert!(!stat::<String>(end, "cipher").is_empty());
    }
    assert!(stat::<u64>(&sink, "frames-sent") > 0);
}
