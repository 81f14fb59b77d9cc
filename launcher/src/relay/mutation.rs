//! Mutations for tests, the same on every run.

/// xorshift64*: enough to choose mutations.
pub struct Mutation(u64);

impl Mutation {
    /// With a fixed seed.
    pub fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    /// Changes, removes or cuts off bytes at one to three places; at least 4 stay.
    pub fn apply(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(3) {
            let position = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[position] = self.below(256) as u8,
                1 => bytes[position] = [0, 1, 0x7f, 0xff, 0xda, 0xdb][self.below(6)],
                2 if bytes.len() > 4 => drop(bytes.remove(position)),
                _ => bytes.truncate(position.max(4)),
            }
        }
    }
}
