//! Cutting frames into symbols of equal size.

use bytes::Bytes;

use crate::wire::fragment::{
    FLAG_DISCARDABLE, FLAG_DISCONT, FLAG_HEADER, FLAG_KEY, FRAGMENT_LEN, FrameHeader,
    MAX_BLOCK_SYMBOLS, MAX_BLOCKS,
};
use crate::wire::header::{HEADER_LEN, TAG_LEN};
use crate::{Frame, FrameFlags};

/// Symbols of one block before a frame is cut into several, so that each keeps room for parity.
const WANTED_BLOCK_SYMBOLS: usize = 128;

/// Bytes of symbol that a datagram of `mtu` bytes carries.
pub(crate) const fn symbol_room(mtu: u16) -> usize {
    mtu as usize - HEADER_LEN - FRAGMENT_LEN - TAG_LEN
}

/// How the coded bytes of a frame (its header, then itself, then zeros) are cut.
///
/// There are `blocks` interleaved blocks of `k` symbols: the symbol at place `p`, counted in
/// symbols from the start of the coded bytes, is symbol `p / blocks` of block `p % blocks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) k: u8,
    pub(crate) blocks: u8,
    /// Bytes.
    pub(crate) symbol_len: u16,
}

impl Layout {
    /// The layout of a frame of `len` bytes with symbols of at most `room` bytes; `None` where
    /// even the most symbols do not hold it.
    pub(crate) fn new(len: usize, room: usize) -> Option<Self> {
        let coded = len + FrameHeader::LEN;
        let symbols = coded.div_ceil(room);
        let blocks = symbols.div_ceil(WANTED_BLOCK_SYMBOLS).min(MAX_BLOCKS);
        let k = symbols.div_ceil(blocks);
        let symbol_len = coded.div_ceil(k * blocks);
        (k <= MAX_BLOCK_SYMBOLS).then_some(Self {
            k: k as u8,
            blocks: blocks as u8,
            symbol_len: symbol_len as u16,
        })
    }

    /// Data symbols of the whole frame.
    pub(crate) fn symbols(self) -> usize {
        usize::from(self.k) * usize::from(self.blocks)
    }

    /// Bytes of all data symbols.
    pub(crate) fn coded_len(self) -> usize {
        self.symbols() * usize::from(self.symbol_len)
    }

    /// The block of the data symbol at `place`, and its index there.
    pub(crate) fn locate(self, place: usize) -> (u8, u16) {
        let blocks = usize::from(self.blocks);
        ((place % blocks) as u8, (place / blocks) as u16)
    }

    /// The place of data symbol `index` of `block`.
    pub(crate) fn place(self, block: u8, index: u16) -> usize {
        usize::from(index) * usize::from(self.blocks) + usize::from(block)
    }
}

/// A frame's bytes as they are coded: header, data, zeros.
#[derive(Clone, Debug)]
pub(crate) struct Coded {
    pub(crate) header: [u8; FrameHeader::LEN],
    pub(crate) data: Bytes,
}

impl Coded {
    /// Shows `len` bytes from `offset` on; copied to `scratch` only where they do not lie in the
    /// frame's own bytes.
    pub(crate) fn read<'a>(
        &'a self,
        offset: usize,
        len: usize,
        scratch: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        let own = offset
            .checked_sub(FrameHeader::LEN)
            .and_then(|at| self.data.get(at..at + len));
        match own {
            Some(bytes) => bytes,
            None => {
                scratch.clear();
                self.write(offset, len, scratch);
                scratch
            }
        }
    }

    /// Appends `len` bytes from `offset` on.
    pub(crate) fn write(&self, offset: usize, len: usize, out: &mut Vec<u8>) {
        let end = out.len() + len;
        if let Some(head) = self.header.get(offset..) {
            out.extend_from_slice(&head[..head.len().min(len)]);
        }
        let missing = end - out.len();
        let from = (offset.max(FrameHeader::LEN) - FrameHeader::LEN).min(self.data.len());
        let to = (from + missing).min(self.data.len());
        out.extend_from_slice(&self.data[from..to]);
        out.resize(end, 0);
    }
}

pub(crate) fn flags_to_wire(flags: FrameFlags) -> u8 {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    bit(flags.key, FLAG_KEY)
        | bit(flags.discardable, FLAG_DISCARDABLE)
        | bit(flags.header, FLAG_HEADER)
        | bit(flags.discont, FLAG_DISCONT)
}

pub(crate) fn flags_from_wire(flags: u8) -> FrameFlags {
    FrameFlags {
        key: flags & FLAG_KEY != 0,
        discardable: flags & FLAG_DISCARDABLE != 0,
        header: flags & FLAG_HEADER != 0,
        discont: flags & FLAG_DISCONT != 0,
    }
}

/// The header that goes before `frame`'s bytes.
pub(crate) fn frame_header(frame: &Frame, caps_generation: u8) -> FrameHeader {
    FrameHeader {
        flags: flags_to_wire(frame.flags),
        caps_generation,
        len: frame.data.len() as u32,
        capture: frame.capture.as_nanos(),
        dts_offset: frame.dts_offset,
        duration: frame
            .duration
            .map_or(0, |d| u32::try_from(d.as_micros()).unwrap_or(u32::MAX)),
        wall: frame.wall.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_equal_and_hold_the_frame() {
        let room = symbol_room(1200);
        assert_eq!(room, 1154);
        for len in [
            1,
            100,
            1120,
            1121,
            50_000,
            230_000,
            231_000,
            1 << 20,
            4 << 20,
        ] {
            let layout = Layout::new(len, room).unwrap();
            assert!(usize::from(layout.symbol_len) <= room);
            assert!(layout.coded_len() >= len + FrameHeader::LEN);
            assert!(
                layout.coded_len() - len - FrameHeader::LEN < layout.symbols().max(1) + 16 * room
            );
            for place in 0..layout.symbols() {
                let (block, index) = layout.locate(place);
                assert!(block < layout.blocks && index < layout.k.into());
                assert_eq!(layout.place(block, index), place);
            }
        }
        assert_eq!(
            Layout::new(1, room).unwrap(),
            Layout {
                k: 1,
                blocks: 1,
                symbol_len: 35
            }
        );
        assert_eq!(Layout::new(16 * 240 * room, room), None);
    }

    #[test]
    fn coded_bytes_are_header_data_zeros() {
        let coded = Coded {
            header: [7; FrameHeader::LEN],
            data: Bytes::from_static(b"abcdef"),
        };
        let mut whole = vec![7; FrameHeader::LEN];
        whole.extend_from_slice(b"abcdef");
        whole.resize(60, 0);
        for len in 1..=60 {
            let mut cut = Vec::new();
            for offset in (0..60).step_by(len) {
                coded.write(offset, len.min(60 - offset), &mut cut);
            }
            assert_eq!(cut, whole, "in pieces of {len}");
        }
    }
}
