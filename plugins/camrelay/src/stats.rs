//! The `stats` property of both elements. Times are in milliseconds.

use camrelay_protocol::Stats;

/// Counters as a structure, by srtsrc's names where they mean the same.
pub(crate) fn structure(stats: &Stats, dropped_by_kernel: u64) -> gst::Structure {
    gst::Structure::builder("application/x-camrelay-statistics")
        .field("packets-sent", stats.packets_sent)
        .field("packets-received", stats.packets_received)
        .field("packets-received-dropped", stats.packets_received_dropped)
        .field("packets-dropped-by-kernel", dropped_by_kernel)
        .field("bytes-sent", stats.bytes_sent)
        .field("bytes-received", stats.bytes_received)
        .field("frames-captured", stats.frames_captured)
        .field("frames-sent", stats.frames_sent)
        .field("frames-dropped", stats.frames_dropped)
        .field("frames-delivered", stats.frames_delivered)
        .field("frames-lost", stats.frames_lost)
        .field("frames-late", stats.frames_late)
        .field("frames-not-sent", stats.frames_not_sent)
        .field("frames-undecodable", stats.frames_undecodable)
        .field("parity-sent", stats.parity_sent)
        .field("repairs-sent", stats.repairs_sent)
        .field("recovered-by-parity", stats.recovered_by_parity)
        .field("recovered-by-resend", stats.recovered_by_resend)
        .field("repair-rounds", stats.repair_rounds)
        .field(
            "frame-latency-p50",
            stats.frame_latency_us[0] as f64 / 1_000.0,
        )
        .field(
            "frame-latency-p95",
            stats.frame_latency_us[1] as f64 / 1_000.0,
        )
        .field(
            "frame-latency-p99",
            stats.frame_latency_us[2] as f64 / 1_000.0,
        )
        .field("loss-fraction", stats.loss_fraction)
        .field("clock-skew-ppm", stats.clock_skew_ppm)
        .field("reconnects", stats.reconnects)
        .field("rekeys", stats.rekeys)
        .field("moves", stats.moves)
        .field("rtt-ms", stats.rtt_us as f64 / 1_000.0)
        .field("queue-delay-ms", stats.queue_delay_us as f64 / 1_000.0)
        .field("target-bitrate", stats.target_bitrate)
        .field("mtu", u32::from(stats.mtu))
        .field("cipher", stats.cipher)
        .field("connected", stats.connected)
        .build()
}
