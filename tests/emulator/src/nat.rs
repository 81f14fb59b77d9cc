//! A NAT that forgets, in virtual or real time.

use std::time::Duration;

/// One inside host's mapping to a port outside. What goes out alone keeps it (RFC 4787, REQ-6, has
/// NATs refresh for that; for what comes in they may).
#[derive(Clone, Copy, Debug)]
pub struct Nat {
    forgets: Duration,
    port: u16,
    last: Option<u64>,
    /// How often the port outside changed.
    pub changes: u32,
}

impl Nat {
    /// A NAT whose ports outside begin at `port`, and which forgets the host's after that silence.
    pub fn new(port: u16, forgets: Duration) -> Self {
        Self {
            forgets,
            port,
            last: None,
            changes: 0,
        }
    }

    /// The port outside from which a datagram leaves at `now` (nanoseconds).
    pub fn leave(&mut self, now: u64) -> u16 {
        if self.last.is_some() && !self.knows(self.port, now) {
            self.port += 1;
            self.changes += 1;
        }
        self.last = Some(now);
        self.port
    }

    /// Whether a datagram to a port outside gets in at `now`.
    pub fn knows(&self, port: u16, now: u64) -> bool {
        let silence = self.last.map(|last| now.saturating_sub(last));
        port == self.port && silence.is_some_and(|silence| silence < self.forgets.as_nanos() as u64)
    }

    /// Forgets the host now, whatever it sent.
    pub fn forget(&mut self) {
        self.port += 1;
        self.changes += 1;
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_keeps_a_mapping_and_nothing_else_does() {
        const SECOND: u64 = 1_000_000_000;
        let mut nat = Nat::new(40_000, Duration::from_secs(20));
        assert!(!nat.knows(40_000, 0), "nothing went out yet");
        for at in [0, 19, 38] {
            assert_eq!(nat.leave(at * SECOND), 40_000);
        }
        assert!(nat.knows(40_000, 57 * SECOND) && !nat.knows(40_001, 57 * SECOND));
        assert!(!nat.knows(40_000, 58 * SECOND));
        assert_eq!((nat.leave(58 * SECOND), nat.changes), (40_001, 1));
        nat.forget();
        assert!(!nat.knows(40_001, 58 * SECOND) && !nat.knows(40_002, 58 * SECOND));
        assert_eq!((nat.leave(58 * SECOND), nat.changes), (40_002, 2));
    }
}
