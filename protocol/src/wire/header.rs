//! The outer header of every datagram, and the messages that are not DATA.

/// Bytes of the outer header.
pub(crate) const HEADER_LEN: usize = 12;
/// Bytes of an AEAD tag.
pub(crate) const TAG_LEN: usize = 16;
/// Bytes of each of the two MACs (HMAC-SHA256) that end a HANDSHAKE_INIT.
pub(crate) const MAC_LEN: usize = 32;
/// Packet numbers have 48 bits.
pub(crate) const MAX_PACKET_NUMBER: u64 = (1 << 48) - 1;

/// The bit of a cipher suite that says that both sides have keys.
pub(crate) const SUITE_KEYED: u8 = 2;

/// The version of the protocol, the high nibble of the first byte.
pub(crate) const VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    HandshakeInit = 1,
    HandshakeResp = 2,
    CookieReply = 3,
    Data = 4,
    Reject = 5,
    Versions = 6,
}

/// The outer header: clear, but authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Cipher suite in a HANDSHAKE_INIT, 0 elsewhere.
    pub(crate) suite: u8,
    /// The session index that the receiver chose; in a HANDSHAKE_INIT the sender's own.
    pub(crate) index: u32,
    /// 48 bits.
    pub(crate) packet_number: u64,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let number = self.packet_number;
        out[0] = VERSION << 4 | self.kind as u8;
        out[1] = self.suite;
        out[2..4].copy_from_slice(&((number >> 32) as u16).to_be_bytes());
        out[4..8].copy_from_slice(&self.index.to_be_bytes());
        out[8..12].copy_from_slice(&(number as u32).to_be_bytes());
        out
    }

    /// Whether a HANDSHAKE_INIT is one of a caller with a key.
    pub(crate) fn is_keyed(self) -> bool {
        self.suite & SUITE_KEYED != 0
    }

    /// `None` for what is no datagram of this version.
    pub(crate) fn decode(datagram: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER_LEN] = datagram.first_chunk()?;
        let kind = match (head[0] >> 4, head[0] & 15) {
            (VERSION, 1) => Kind::HandshakeInit,
            (VERSION, 2) => Kind::HandshakeResp,
            (VERSION, 3) => Kind::CookieReply,
            (VERSION, 4) => Kind::Data,
            (VERSION, 5) => Kind::Reject,
            (VERSION, 6) => Kind::Versions,
            _ => return None,
        };
        let [_, suite, h1, h0, i3, i2, i1, i0, l3, l2, l1, l0] = *head;
        Some(Self {
            kind,
            suite,
            index: u32::from_be_bytes([i3, i2, i1, i0]),
            packet_number: u64::from_be_bytes([0, 0, h1, h0, l3, l2, l1, l0]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let header = Header {
            kind: Kind::Data,
            suite: 0,
            index: 0xa1b2_c3d4,
            packet_number: 0x1122_3344_5566,
        };
        let bytes = header.encode();
        assert_eq!(
            bytes,
            [
                0x14, 0, 0x11, 0x22, 0xa1, 0xb2, 0xc3, 0xd4, 0x33, 0x44, 0x55, 0x66
            ]
        );
        assert_eq!(Header::decode(&bytes), Some(header));
        assert_eq!(Header::decode(&bytes[..11]), None);
        let mut other = bytes;
        for first in [0x04, 0x24, 0x10, 0x17] {
            other[0] = first;
            assert_eq!(Header::decode(&other), None, "{first:#x}");
        }
    }
}
