//! The random source of every port: the system's.

use camrelay_protocol::Random;

/// Draws from the system's random source.
pub(super) struct SystemRandom(());

impl SystemRandom {
    /// Tries the source once, so that drawing from it later cannot fail.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        getrandom::fill(&mut [0; 32])?;
        Ok(Self(()))
    }
}

impl Random for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        getrandom::fill(out).expect("the system's random source, which worked before");
    }
}
