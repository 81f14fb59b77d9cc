//! A one-way path with seeded loss, delay, jitter and duplicates.

use std::time::Duration;

use camrelay_protocol::Time;

/// A small seeded generator (Knuth's MMIX constants).
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(seed);
        rng.next();
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        (self.next() & 0xffff_ffff) as f64 / ((1u64 << 32) as f64) < p
    }
}

impl camrelay_protocol::Random for Rng {
    fn fill(&mut self, out: &mut [u8]) {
        out.iter_mut().for_each(|byte| *byte = self.next() as u8);
    }
}

/// What a path does to datagrams.
#[derive(Clone, Debug)]
pub struct Conditions {
    pub delay: Duration,
    /// Added to the delay, uniformly from 0 to this; reorders.
    pub jitter: Duration,
    pub loss: f64,
    pub duplicates: f64,
    /// Nothing passes.
    pub down: bool,
}

impl Conditions {
    pub fn clean(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicates: 0.0,
            down: false,
        }
    }

    /// When the datagram sent at `now` arrives; empty when lost, twice when duplicated.
    pub fn arrivals(&self, now: Time, rng: &mut Rng) -> Vec<Time> {
        if self.down || rng.chance(self.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(rng.chance(self.duplicates));
        (0..copies)
            .map(|_| {
                let jitter = self.jitter.as_nanos() as u64;
                now + self.delay + Duration::from_nanos(rng.next() % (jitter + 1))
            })
            .collect()
    }
}
