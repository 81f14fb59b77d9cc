//! What is counted of a session, and told to its other side.

use std::time::Duration;

use super::{Broken, Session};
use crate::wire::control::Message;
use crate::{Stats, Time};

/// Time between two messages of what became of frames.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

impl Session {
    /// Tells the other side once a second what became of frames.
    pub(super) fn tell_stats(&mut self, now: Time) -> Result<(), Broken> {
        let (at, received_then, sent_then) = self.told;
        // What can wait must not fill a channel that is not emptied.
        if now.since(at) < STATS_INTERVAL || !self.control.is_idle() {
            return Ok(());
        }
        let received = self.receiver.received(self.one_way());
        let sent = self.sender.sent();
        self.told = (now, received, sent);
        let is_news = received.is_any() && received != received_then || sent != sent_then;
        if !is_news {
            return Ok(());
        }
        self.send_message(&Message::Stats(received, sent))
    }

    /// The least that a datagram takes, as far as that can be known.
    fn one_way(&self) -> Duration {
        self.rtt.unwrap_or_default() / 2
    }

    /// Counters, those of the streams included.
    pub(crate) fn stats(&self, now: Time) -> Stats {
        let counters = self.sender.counters;
        let mut sent = counters.sent();
        let mut received = self.receiver.received(self.one_way());
        if let Some((heard, told)) = self.heard {
            if !received.is_any() {
                received = heard;
            }
            if sent.captured == 0 {
                sent = told;
            }
        }
        Stats {
            frames_captured: sent.captured,
            frames_sent: sent.sent,
            frames_dropped: counters.frames_dropped,
            parity_sent: counters.parity_sent,
            repairs_sent: counters.repairs_sent,
            frames_delivered: received.delivered,
            frames_lost: received.lost,
            frames_late: received.late,
            frames_not_sent: self.receiver.counters().not_sent,
            frames_undecodable: received.undecodable,
            recovered_by_parity: received.by_parity,
            recovered_by_resend: received.by_resend,
            repair_rounds: received.rounds,
            frame_latency_us: received.latency_us.map(u64::from),
            target_bitrate: self.sender.target_bitrate().unwrap_or(0),
            queue_delay_us: self.sender.queue_delay().as_micros() as u64,
            loss_fraction: f64::from(received.loss) / 65_535.0,
            clock_skew_ppm: self.receiver.skew_ppm(),
            mtu: self.mtu.size(),
            connected: !self.is_silent(now),
            ..self.stats.clone()
        }
    }
}
