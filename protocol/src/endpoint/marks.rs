//! Session indices that a relay knows for its own after a restart: only who can have had a session
//! is told that there is none.

use ring::hmac;

use crate::PrivateKey;

/// Bits of an index that are random; the others follow from them and the relay's key.
const RANDOM: u32 = 0xffff_0000;

pub(super) struct Marks(hmac::Key);

impl Marks {
    pub(super) fn new(identity: &PrivateKey) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &identity.0);
        let key = hmac::sign(&key, b"camrelay 1 index");
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    /// The index that has the upper bits of `drawn`.
    pub(super) fn mark(&self, drawn: u32) -> u32 {
        let random = drawn & RANDOM;
        let tag = hmac::sign(&self.0, &random.to_be_bytes());
        let tag = u16::from_be_bytes([tag.as_ref()[0], tag.as_ref()[1]]);
        random | u32::from(tag)
    }

    /// Whether an index is this relay's.
    pub(super) fn made(&self, index: u32) -> bool {
        self.mark(index) == index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_knows_its_own_indices_and_hardly_any_other() {
        let identity = PrivateKey::from_random([7; 32]);
        let index = Marks::new(&identity).mark(0x1234_5678);
        assert_eq!(index >> 16, 0x1234);
        assert!(Marks::new(&identity).made(index));
        assert!(!Marks::new(&PrivateKey::from_random([8; 32])).made(index));
        let marks = Marks::new(&identity);
        let hits = (0..100_000u32).filter(|i| marks.made(i.wrapping_mul(2_654_435_761)));
        assert!(hits.count() < 10);
    }
}
