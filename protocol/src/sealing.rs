//! The datagrams of a frame as sessions seal and open them, for who measures what that costs.

use crate::crypto::{Cipher, Keys};
use crate::fragment::{Layout, symbol_room};
use crate::wire::fragment::FRAGMENT_LEN;
use crate::wire::header::{HEADER_LEN, Header, Kind, TAG_LEN};

/// The datagrams of one frame, without parity, with the cipher that sessions choose here.
pub struct SealedFrame {
    keys: [Keys; 2],
    datagrams: Vec<Vec<u8>>,
    /// The number of the first datagram.
    first: u64,
}

impl SealedFrame {
    /// Of a frame of `size` bytes in datagrams of at most `mtu`, 1200 or more; `None` where that is
    /// too much for a frame.
    pub fn new(size: usize, mtu: u16) -> Option<Self> {
        let layout = Layout::new(size, symbol_room(mtu))?;
        let len = HEADER_LEN + FRAGMENT_LEN + usize::from(layout.symbol_len);
        let cipher = Cipher::preferred();
        let keys = |seal, open| Keys::new(cipher, &[seal; 32], &[open; 32]);
        let mut plain = Vec::with_capacity(len + TAG_LEN);
        plain.resize(len, 7);
        Some(Self {
            keys: [keys(1, 2), keys(2, 1)],
            datagrams: vec![plain; layout.symbols()],
            first: 0,
        })
    }

    /// `AES-256-GCM` or `ChaCha20-Poly1305`.
    pub fn cipher(&self) -> &'static str {
        self.keys[0].cipher().name()
    }

    /// How many datagrams there are, and how long each is, in bytes.
    pub fn shape(&self) -> (usize, usize) {
        let len = self.datagrams.first().map_or(0, Vec::len);
        (self.datagrams.len(), len)
    }

    /// Seals all of them, with numbers of their own.
    pub fn seal(&mut self) {
        for (number, datagram) in (self.first..).zip(&mut self.datagrams) {
            let header = Header {
                kind: Kind::Data,
                suite: 0,
                index: 1,
                packet_number: number,
            };
            datagram[..HEADER_LEN].copy_from_slice(&header.encode());
            self.keys[0].seal(number, datagram, 0);
        }
    }

    /// Opens all of them, for them to be sealed again. Returns whether all were authentic.
    pub fn open(&mut self) -> bool {
        let mut authentic = true;
        for (number, datagram) in (self.first..).zip(&mut self.datagrams) {
            authentic &= self.keys[1].open(number, datagram).is_some();
            datagram.truncate(datagram.len() - TAG_LEN);
        }
        self.first += self.datagrams.len() as u64;
        authentic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_sealed_and_opened_again_and_again() {
        let mut frame = SealedFrame::new(50_000, 1472).unwrap();
        let (count, len) = frame.shape();
        assert!(count * (len - HEADER_LEN - FRAGMENT_LEN) >= 50_000 && len + TAG_LEN <= 1472);
        for _ in 0..3 {
            frame.seal();
            assert_eq!(frame.shape(), (count, len + TAG_LEN));
            assert!(frame.open());
        }
        frame.seal();
        frame.datagrams[1][40] ^= 1;
        assert!(!frame.open());
        assert!(SealedFrame::new(64 << 20, 1472).is_none());
    }
}
