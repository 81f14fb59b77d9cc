//! Counters of one peer.

/// What became of the frames of a session at its receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) undecodable: u64,
    pub(crate) by_parity: u64,
    pub(crate) by_resend: u64,
    pub(crate) rounds: u64,
    /// Median, 95th and 99th of a hundred.
    pub(crate) latency_us: [u32; 3],
    /// Share of datagrams lost lately, in 65,535ths.
    pub(crate) loss: u16,
    /// What comes, in 4096ths of what comes on average of those that share its bottleneck; 0 where
    /// that is not known.
    pub(crate) share: u16,
}

/// What became of the frames of a session at its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Handed over for sending.
    pub(crate) captured: u64,
    /// Of those, sent.
    pub(crate) sent: u64,
    /// Bits per second to stay below, everything that is sent included; 0 where no limit was met.
    pub(crate) target: u64,
}

impl Received {
    /// Whether any frame came, or was missed.
    pub(crate) fn is_any(&self) -> bool {
        self.delivered + self.lost + self.late + self.undecodable > 0
    }
}

/// Counters of one peer since its first session.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams sent.
    pub packets_sent: u64,
    /// Datagrams received that were authentic and new.
    pub packets_received: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received, authentic and new.
    pub bytes_received: u64,
    /// Datagrams from this peer's session dropped: not authentic, replayed or malformed.
    pub packets_received_dropped: u64,
    /// Frames handed over for sending. Of frames that the other side sends, here and below, as
    /// it told a second ago at the most.
    pub frames_captured: u64,
    /// Frames handed over for sending and sent.
    pub frames_sent: u64,
    /// Frames dropped by this sender: not connected, or its queue was full.
    pub frames_dropped: u64,
    /// Frames delivered whole and in time. Of frames that this side sent, here and below, as the
    /// receiver told a second ago at the most.
    pub frames_delivered: u64,
    /// Frames never completed.
    pub frames_lost: u64,
    /// Frames still arriving when their time was over, or given up for a newer one.
    pub frames_late: u64,
    /// Incoming frames that the other side dropped before or while sending them, and told of.
    pub frames_not_sent: u64,
    /// Whole frames not delivered because a lost one is needed to decode them.
    pub frames_undecodable: u64,
    /// Parity symbols sent in first flights.
    pub parity_sent: u64,
    /// Symbols sent in answer to reports of loss.
    pub repairs_sent: u64,
    /// Frames made whole by their first flight's parity.
    pub recovered_by_parity: u64,
    /// Frames made whole by symbols sent on request.
    pub recovered_by_resend: u64,
    /// Requests for symbols that those took, all together.
    pub repair_rounds: u64,
    /// Time from capture to delivery of the last frames, in microseconds: median, 95th and 99th of
    /// a hundred. The least that the path takes is taken for half of a round trip.
    pub frame_latency_us: [u64; 3],
    /// Bits per second that this sender should stay below; 0 where no limit was met.
    pub target_bitrate: u64,
    /// Time that outgoing datagrams stand in queues on the path, in microseconds.
    pub queue_delay_us: u64,
    /// Share of datagrams with frames lost lately, 0 to 1.
    pub loss_fraction: f64,
    /// How much faster this clock runs than the sender's, in parts per million.
    pub clock_skew_ppm: f64,
    /// Sessions opened after the first.
    pub reconnects: u64,
    /// Times that a session's keys were changed while it went on.
    pub rekeys: u64,
    /// Times that the other side was found at another address.
    pub moves: u64,
    /// Smoothed round-trip time, in microseconds; 0 until measured.
    pub rtt_us: u64,
    /// Largest UDP payload sent, in bytes.
    pub mtu: u16,
    /// `AES-256-GCM` or `ChaCha20-Poly1305`; empty until connected.
    pub cipher: &'static str,
    /// Whether a session is up.
    pub connected: bool,
}

impl Stats {
    /// These counters of past sessions, and those of the current one added.
    pub(crate) fn continued(self, current: Self) -> Self {
        Self {
            packets_sent: self.packets_sent + current.packets_sent,
            packets_received: self.packets_received + current.packets_received,
            bytes_sent: self.bytes_sent + current.bytes_sent,
            bytes_received: self.bytes_received + current.bytes_received,
            packets_received_dropped: self.packets_received_dropped
                + current.packets_received_dropped,
            frames_captured: self.frames_captured + current.frames_captured,
            frames_sent: self.frames_sent + current.frames_sent,
            frames_dropped: self.frames_dropped + current.frames_dropped,
            frames_delivered: self.frames_delivered + current.frames_delivered,
            frames_lost: self.frames_lost + current.frames_lost,
            frames_late: self.frames_late + current.frames_late,
            frames_not_sent: self.frames_not_sent + current.frames_not_sent,
            repair_rounds: self.repair_rounds + current.repair_rounds,
            frames_undecodable: self.frames_undecodable + current.frames_undecodable,
            parity_sent: self.parity_sent + current.parity_sent,
            repairs_sent: self.repairs_sent + current.repairs_sent,
            recovered_by_parity: self.recovered_by_parity + current.recovered_by_parity,
            recovered_by_resend: self.recovered_by_resend + current.recovered_by_resend,
            reconnects: self.reconnects + current.reconnects,
            rekeys: self.rekeys + current.rekeys,
            moves: self.moves + current.moves,
            ..current
        }
    }
}
