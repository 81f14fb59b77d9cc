//! A seeded network path, in virtual or real time.
//!
//! [`Path`] is one direction of it. It knows only times, in nanoseconds on any clock, and
//! lengths: a simulation asks it in virtual time, [`Proxy`] in real time, between real sockets.
//! The program `path-emulator` is a proxy to put between a camera and a relay by hand.

mod nat;
mod proxy;
mod text;

use std::time::Duration;

pub use nat::Nat;
pub use proxy::{Counters, Direction, MAX_CLIENTS, MAX_QUEUED, MAX_QUEUED_BYTES, Proxy, Route};

/// A small seeded generator (the constants of Knuth's MMIX).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of that seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(seed);
        rng.next();
        rng
    }

    /// The next 40 random bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        ((self.next() & 0xffff_ffff) as f64) < p * (1u64 << 32) as f64
    }
}

/// What a path does to datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// One-way delay.
    pub delay: Duration,
    /// Added to the delay, uniformly from zero to this; reorders.
    pub jitter: Duration,
    /// Share of datagrams lost.
    pub loss: f64,
    /// Mean length of a run of losses, in datagrams; 0 or 1 for independent losses.
    pub burst: f64,
    /// Share of datagrams that arrive twice.
    pub duplicates: f64,
    /// Bits per second of a bottleneck, IP and UDP headers included; 0 for none.
    pub rate: u64,
    /// How much the bottleneck's queue holds, as time at its rate.
    pub queue: Duration,
    /// Nothing passes.
    pub down: bool,
}

impl Conditions {
    /// A path that only takes time.
    pub fn clean(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }
}

/// Bytes of IPv4 and UDP headers, which a bottleneck carries too.
const HEADERS: u64 = 28;

/// One direction of a path.
#[derive(Clone, Debug)]
pub struct Path {
    /// What it does from now on.
    pub conditions: Conditions,
    rng: Rng,
    /// Inside a run of losses.
    losing: bool,
    /// When the bottleneck has sent what it holds, nanoseconds.
    busy_until: u64,
}

impl Path {
    /// A path whose chances are drawn from `seed`.
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            rng: Rng::new(seed),
            losing: false,
            busy_until: 0,
        }
    }

    /// When a datagram of `len` bytes sent at `now` (nanoseconds) arrives: empty where it is
    /// lost, twice where it is duplicated.
    pub fn send(&mut self, now: u64, len: usize) -> Vec<u64> {
        let Conditions {
            delay,
            jitter,
            duplicates,
            rate,
            queue,
            down,
            ..
        } = self.conditions;
        if down || self.loses() {
            return Vec::new();
        }
        let mut leaves = now;
        let bits = (len as u64 + HEADERS) * 8 * 1_000_000_000;
        if let Some(serialised) = bits.checked_div(rate) {
            let start = self.busy_until.max(now);
            if start - now > queue.as_nanos() as u64 {
                return Vec::new();
            }
            leaves = start + serialised;
            self.busy_until = leaves;
        }
        let copies = 1 + usize::from(self.rng.chance(duplicates));
        let jitter = jitter.as_nanos() as u64;
        let arrives = |_| leaves + delay.as_nanos() as u64 + self.rng.next() % (jitter + 1);
        (0..copies).map(arrives).collect()
    }

    /// A two-state chain (Gilbert) with the wanted share and mean run of losses.
    fn loses(&mut self) -> bool {
        let Conditions { loss, burst, .. } = self.conditions;
        if burst <= 1.0 {
            return self.rng.chance(loss);
        }
        let leave = 1.0 / burst;
        let enter = leave * loss / (1.0 - loss);
        self.losing = self
            .rng
            .chance(if self.losing { 1.0 - leave } else { enter });
        self.losing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn lost(conditions: Conditions) -> Vec<bool> {
        let mut path = Path::new(conditions, 1);
        (0..100_000)
            .map(|n| path.send(n * MS, 1000).is_empty())
            .collect()
    }

    #[test]
    fn losses_come_in_the_wanted_share_and_runs() {
        for (loss, burst) in [(0.05, 1.0), (0.05, 5.0), (0.2, 8.0)] {
            let lost = lost(Conditions {
                loss,
                burst,
                ..Conditions::default()
            });
            let share = lost.iter().filter(|lost| **lost).count() as f64 / lost.len() as f64;
            assert!((share / loss - 1.0).abs() < 0.1, "{share}");
            let runs = lost.chunk_by(|a, b| a == b).filter(|run| run[0]).count() as f64;
            let mean = share * lost.len() as f64 / runs;
            assert!(
                (mean / burst.max(1.0 / (1.0 - loss)) - 1.0).abs() < 0.1,
                "{mean}"
            );
        }
    }

    #[test]
    fn a_bottleneck_serialises_queues_and_drops() {
        let conditions = Conditions {
            rate: 8_000_000,
            queue: Duration::from_millis(5),
            ..Conditions::clean(Duration::from_millis(10))
        };
        let mut path = Path::new(conditions, 1);
        // 972 bytes and headers are 1 ms at 8 Mbit/s.
        let arrivals: Vec<_> = (0..10).map(|_| path.send(0, 972)).collect();
        for (i, arrival) in arrivals.iter().enumerate().take(6) {
            assert_eq!(arrival, &[(11 + i as u64) * MS]);
        }
        assert!(arrivals[6..].iter().all(Vec::is_empty));
        assert_eq!(path.send(100 * MS, 972), [111 * MS]);
    }

    #[test]
    fn the_same_seed_does_the_same() {
        let conditions = Conditions {
            jitter: Duration::from_millis(20),
            loss: 0.1,
            duplicates: 0.1,
            ..Conditions::default()
        };
        let run = || {
            let mut path = Path::new(conditions, 42);
            (0..1000)
                .map(|n| path.send(n * MS, 100))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
        assert!(run().iter().any(|arrivals| arrivals.len() == 2));
    }
}
