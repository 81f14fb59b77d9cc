//! FRAGMENT, one symbol of a frame, and the frame header that the symbols carry.

use super::Reader;

/// Bytes of a FRAGMENT before its symbol, the kind byte included.
pub(crate) const FRAGMENT_LEN: usize = 18;
/// Most blocks of one frame.
pub(crate) const MAX_BLOCKS: usize = 16;
/// Most data symbols of one block; leaves room for parity in GF(2^8).
pub(crate) const MAX_BLOCK_SYMBOLS: usize = 240;
/// Data and parity symbols of one block together, at most.
pub(crate) const MAX_SYMBOL_INDEX: usize = 256;

pub(crate) const FLAG_KEY: u8 = 1;
pub(crate) const FLAG_DISCARDABLE: u8 = 2;
pub(crate) const FLAG_REPAIR: u8 = 4;
pub(crate) const FLAG_HEADER: u8 = 8;
pub(crate) const FLAG_DISCONT: u8 = 16;

/// Which symbol of which frame, and how the frame was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) flags: u8,
    /// Frames of the stream before this one that are not sent; 255 at most.
    pub(crate) skipped: u8,
    /// Below [`crate::MAX_STREAMS`].
    pub(crate) stream: u16,
    pub(crate) sequence: u32,
    /// Low 32 bits of the sender's clock in microseconds.
    pub(crate) capture: u32,
    /// 0 to k-1 data, from k on parity.
    pub(crate) symbol: u16,
    /// Data symbols of each block.
    pub(crate) k: u8,
    /// Symbols of this block in the first flight.
    pub(crate) first_flight: u8,
    /// Which block, below `blocks`.
    pub(crate) block: u8,
    /// How many blocks, 1 to 16.
    pub(crate) blocks: u8,
    /// Erasure code: 0 none, 1 Cauchy GF(2^8).
    pub(crate) code: u8,
}

impl Fragment {
    /// Appends everything but the kind byte and the symbol.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.flags);
        out.push(self.skipped);
        out.push(self.stream as u8);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.capture.to_be_bytes());
        out.extend_from_slice(&self.symbol.to_be_bytes());
        out.push(self.k);
        out.push(self.first_flight);
        out.push(self.block << 4 | (self.blocks - 1));
        out.push(self.code);
    }

    /// Reads what [`Self::encode`] wrote; `None` where it contradicts itself.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let flags = reader.u8()?;
        let skipped = reader.u8()?;
        let stream = u16::from(reader.u8()?);
        let sequence = reader.u32()?;
        let capture = reader.u32()?;
        let symbol = reader.u16()?;
        let k = reader.u8()?;
        let first_flight = reader.u8()?;
        let blocks = reader.u8()?;
        let code = reader.u8()?;
        let fragment = Self {
            flags,
            skipped,
            stream,
            sequence,
            capture,
            symbol,
            k,
            first_flight,
            block: blocks >> 4,
            blocks: (blocks & 15) + 1,
            code,
        };
        let right = stream < crate::MAX_STREAMS
            && (1..=MAX_BLOCK_SYMBOLS).contains(&usize::from(k))
            && usize::from(symbol) < MAX_SYMBOL_INDEX
            && fragment.block < fragment.blocks
            && first_flight >= k
            && code <= 1;
        right.then_some(fragment)
    }
}

/// The head of a frame's coded bytes; protected by the same code as the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// The flags of the fragments, without REPAIR.
    pub(crate) flags: u8,
    pub(crate) caps_generation: u8,
    /// Bytes of the frame itself.
    pub(crate) len: u32,
    /// Capture time on the sender's clock, nanoseconds.
    pub(crate) capture: u64,
    /// Capture time less decode time, nanoseconds.
    pub(crate) dts_offset: i64,
    /// Microseconds; 0 unknown.
    pub(crate) duration: u32,
    /// Capture time in microseconds since the Unix epoch; 0 unknown.
    pub(crate) wall: u64,
}

impl FrameHeader {
    /// Bytes of the header.
    pub(crate) const LEN: usize = 34;

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0] = self.flags;
        out[1] = self.caps_generation;
        out[2..6].copy_from_slice(&self.len.to_be_bytes());
        out[6..14].copy_from_slice(&self.capture.to_be_bytes());
        out[14..22].copy_from_slice(&self.dts_offset.to_be_bytes());
        out[22..26].copy_from_slice(&self.duration.to_be_bytes());
        out[26..34].copy_from_slice(&self.wall.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        Some(Self {
            flags: reader.u8()?,
            caps_generation: reader.u8()?,
            len: reader.u32()?,
            capture: reader.u64()?,
            dts_offset: reader.u64()? as i64,
            duration: reader.u32()?,
            wall: reader.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragment_layout() {
        let fragment = Fragment {
            flags: FLAG_KEY,
            skipped: 7,
            stream: 1,
            sequence: 0x0203_0405,
            capture: 0x0607_0809,
            symbol: 200,
            k: 190,
            first_flight: 195,
            block: 2,
            blocks: 16,
            code: 1,
        };
        let mut bytes = Vec::new();
        fragment.encode(&mut bytes);
        assert_eq!(
            bytes,
            [1, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 200, 190, 195, 0x2f, 1]
        );
        assert_eq!(bytes.len() + 1, FRAGMENT_LEN);
        assert_eq!(Fragment::decode(&mut Reader::new(&bytes)), Some(fragment));
        for cut in 0..bytes.len() {
            assert_eq!(Fragment::decode(&mut Reader::new(&bytes[..cut])), None);
        }
    }

    #[test]
    fn fragments_that_contradict_themselves_are_refused() {
        let right = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 5, 0x00, 0];
        assert!(Fragment::decode(&mut Reader::new(&right)).is_some());
        for (at, value) in [
            (2, 16),    // stream 16
            (11, 1),    // symbol 256
            (13, 0),    // no data symbols
            (13, 241),  // too many
            (14, 4),    // a first flight shorter than the data
            (15, 0x10), // block 1 of 1
            (16, 2),    // an unknown code
        ] {
            let mut wrong = right;
            wrong[at] = value;
            assert_eq!(
                Fragment::decode(&mut Reader::new(&wrong)),
                None,
                "byte {at}"
            );
        }
    }

    #[test]
    fn frame_header_round_trips() {
        let header = FrameHeader {
            flags: FLAG_DISCONT,
            caps_generation: 3,
            len: 50_000,
            capture: 1 << 40,
            dts_offset: -33_000_000,
            duration: 33_333,
            wall: 1_790_000_000_000_000,
        };
        assert_eq!(FrameHeader::decode(&header.encode()), Some(header));
        assert_eq!(FrameHeader::decode(&header.encode()[..33]), None);
    }
}
