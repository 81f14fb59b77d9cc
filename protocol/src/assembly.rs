//! One frame on its way to being whole.

use bytes::Bytes;

use crate::fec;
use crate::fragment::Layout;
use crate::wire::fragment::{
    FLAG_DISCARDABLE, FLAG_REPAIR, Fragment, FrameHeader, MAX_SYMBOL_INDEX,
};

/// Which symbols of one block have come, by number.
#[derive(Clone, Default)]
struct Have([u64; MAX_SYMBOL_INDEX / 64]);

impl Have {
    fn contains(&self, symbol: u16) -> bool {
        self.0[usize::from(symbol / 64)] & 1 << (symbol % 64) != 0
    }

    fn insert(&mut self, symbol: u16) {
        self.0[usize::from(symbol / 64)] |= 1 << (symbol % 64);
    }

    fn count(&self) -> u16 {
        self.0.iter().map(|word| word.count_ones() as u16).sum()
    }

    /// Data symbols below `k` that have not come.
    fn missing(&self, k: u8) -> impl Iterator<Item = u16> + '_ {
        (0..u16::from(k)).filter(|symbol| !self.contains(*symbol))
    }
}

/// What became of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It brings the frame forward.
    New,
    /// It had come before, or its block is whole.
    Duplicate,
    /// It disagrees with the frame's other symbols.
    Inconsistent,
    /// It was the last one needed.
    Whole,
}

/// A frame that is not whole yet.
pub(crate) struct Assembly {
    layout: Layout,
    capture: u32,
    flags: u8,
    code: u8,
    /// The coded bytes, every data symbol at its place, up to the last that came: zeros are written for
    /// gaps alone.
    coded: Vec<u8>,
    have: Vec<Have>,
    /// Parity that its block needs: block, number, symbol.
    parity: Vec<(u8, u16, Vec<u8>)>,
    /// Symbols, of all blocks, still needed.
    lacking: usize,
    /// The last place of a symbol that came.
    last_place: Option<usize>,
    /// Symbols that took part through parity rather than as themselves.
    pub(crate) repaired: bool,
}

impl Assembly {
    pub(crate) fn new(fragment: &Fragment, symbol_len: u16) -> Self {
        let layout = Layout {
            k: fragment.k,
            blocks: fragment.blocks,
            symbol_len,
        };
        Self {
            layout,
            capture: fragment.capture,
            flags: fragment.flags & !FLAG_REPAIR,
            code: fragment.code,
            coded: Vec::with_capacity(layout.coded_len()),
            have: vec![Have::default(); layout.blocks.into()],
            parity: Vec::new(),
            lacking: layout.symbols(),
            last_place: None,
            repaired: false,
        }
    }

    /// Bytes of the data of a frame cut like this.
    pub(crate) fn cost(fragment: &Fragment, symbol_len: usize) -> usize {
        usize::from(fragment.k) * usize::from(fragment.blocks) * symbol_len
    }

    /// Bytes held: of the data, and of parity that is kept until its block is whole.
    pub(crate) fn memory(&self) -> usize {
        self.layout.coded_len() + self.parity.len() * usize::from(self.layout.symbol_len)
    }

    /// Whether no other frame builds on it.
    pub(crate) fn is_discardable(&self) -> bool {
        self.flags & FLAG_DISCARDABLE != 0
    }

    /// Symbols that each block still needs.
    pub(crate) fn deficits(&self) -> Vec<u8> {
        (0..self.layout.blocks)
            .map(|block| self.deficit(block) as u8)
            .collect()
    }

    /// Symbols of all blocks still needed, where those that came are the first ones, without a gap.
    pub(crate) fn lacking_in_order(&self) -> Option<usize> {
        let came = self.layout.symbols().checked_sub(self.lacking)?;
        let in_order = self.last_place.is_some_and(|place| place + 1 == came);
        in_order.then_some(self.lacking)
    }

    /// How many more symbols a block needs.
    fn deficit(&self, block: u8) -> u16 {
        u16::from(self.layout.k).saturating_sub(self.have[usize::from(block)].count())
    }

    pub(crate) fn add(&mut self, fragment: &Fragment, symbol: &[u8]) -> Added {
        let layout = Layout {
            k: fragment.k,
            blocks: fragment.blocks,
            symbol_len: self.layout.symbol_len,
        };
        let same = layout == self.layout
            && symbol.len() == usize::from(self.layout.symbol_len)
            && fragment.capture == self.capture
            && fragment.flags & !FLAG_REPAIR == self.flags
            && fragment.code == self.code
            && (fragment.code == 1 || fragment.symbol < u16::from(fragment.k));
        if !same {
            return Added::Inconsistent;
        }
        let deficit = self.deficit(fragment.block);
        let have = &mut self.have[usize::from(fragment.block)];
        if deficit == 0 || have.contains(fragment.symbol) {
            return Added::Duplicate;
        }
        have.insert(fragment.symbol);
        let place = layout.place(fragment.block, fragment.symbol);
        self.last_place = self.last_place.max(Some(place));
        if fragment.symbol < u16::from(fragment.k) {
            self.place(fragment.block, fragment.symbol, symbol);
        } else {
            self.parity
                .push((fragment.block, fragment.symbol, symbol.to_vec()));
        }
        if deficit == 1 {
            self.recover(fragment.block);
        }
        self.lacking -= 1;
        if self.lacking == 0 {
            Added::Whole
        } else {
            Added::New
        }
    }

    fn place(&mut self, block: u8, index: u16, symbol: &[u8]) {
        let at = self.layout.place(block, index) * symbol.len();
        if at < self.coded.len() {
            self.coded[at..at + symbol.len()].copy_from_slice(symbol);
        } else {
            self.coded.resize(at, 0);
            self.coded.extend_from_slice(symbol);
        }
    }

    /// Fills a block's missing data symbols from its parity, of which there is exactly enough.
    fn recover(&mut self, block: u8) {
        let missing: Vec<u16> = self.have[usize::from(block)]
            .missing(self.layout.k)
            .collect();
        if missing.is_empty() {
            return;
        }
        self.repaired = true;
        let mut parity = Vec::with_capacity(missing.len());
        self.parity.retain_mut(|(of, number, symbol)| {
            if *of == block {
                parity.push((*number, std::mem::take(symbol)));
            }
            *of != block
        });
        let len = usize::from(self.layout.symbol_len);
        let known = |index| {
            let at = self.layout.place(block, index) * len;
            &self.coded[at..at + len]
        };
        let found = fec::recover(self.layout.k.into(), &missing, parity, known);
        for (index, symbol) in missing.into_iter().zip(found) {
            self.place(block, index, &symbol);
        }
    }

    /// The header and the bytes of a whole frame; `None` where the header contradicts the rest.
    pub(crate) fn finish(self) -> Option<(FrameHeader, Bytes)> {
        let header = FrameHeader::decode(&self.coded)?;
        let end = FrameHeader::LEN.checked_add(header.len as usize)?;
        if header.len == 0 || end > self.coded.len() || header.flags != self.flags {
            return None;
        }
        Some((header, Bytes::from(self.coded).slice(FrameHeader::LEN..end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fragment::Coded;

    fn cut(len: usize, room: usize, parity: u16) -> (Bytes, Vec<(Fragment, Vec<u8>)>) {
        let data: Bytes = (0..len).map(|i| (i * 7 + i / 256) as u8).collect();
        let layout = Layout::new(len, room).unwrap();
        let header = FrameHeader {
            flags: 1,
            caps_generation: 0,
            len: len as u32,
            capture: 5,
            dts_offset: 0,
            duration: 0,
            wall: 0,
        };
        let coded = Coded {
            header: header.encode(),
            data: data.clone(),
        };
        let size = usize::from(layout.symbol_len);
        let fragment = |block, symbol| Fragment {
            flags: 1,
            skipped: 0,
            stream: 0,
            sequence: 0,
            capture: 5,
            symbol,
            k: layout.k,
            first_flight: layout.k,
            block,
            blocks: layout.blocks,
            code: 1,
        };
        let mut symbols = Vec::new();
        for place in 0..layout.symbols() {
            let (block, index) = layout.locate(place);
            let mut symbol = Vec::new();
            coded.write(place * size, size, &mut symbol);
            symbols.push((fragment(block, index), symbol));
        }
        let data_symbols = symbols.clone();
        for block in 0..layout.blocks {
            for number in 0..parity {
                let number = number + u16::from(layout.k);
                let mut symbol = vec![0; size];
                for (data, bytes) in data_symbols.iter().filter(|(f, _)| f.block == block) {
                    fec::add_data(number, &mut symbol, data.symbol, bytes);
                }
                symbols.push((fragment(block, number), symbol));
            }
        }
        (data, symbols)
    }

    fn assemble<'a>(symbols: impl IntoIterator<Item = &'a (Fragment, Vec<u8>)>) -> Option<Bytes> {
        let mut assembly: Option<Assembly> = None;
        for (fragment, symbol) in symbols {
            let a = assembly.get_or_insert_with(|| Assembly::new(fragment, symbol.len() as u16));
            if a.add(fragment, symbol) == Added::Whole {
                return assembly?.finish().map(|(_, data)| data);
            }
        }
        None
    }

    #[test]
    fn frames_of_all_sizes_come_back_in_any_order() {
        for len in [1, 1000, 50_000, 500_000] {
            let (data, symbols) = cut(len, 1154, 0);
            assert_eq!(assemble(&symbols), Some(data.clone()));
            assert_eq!(assemble(symbols.iter().rev()), Some(data));
            assert_eq!(assemble(&symbols[1..]), None);
        }
    }

    #[test]
    fn parity_stands_in_for_what_is_missing_in_each_block() {
        let (data, symbols) = cut(500_000, 1154, 3);
        let layout = Layout::new(500_000, 1154).unwrap();
        assert!(layout.blocks > 1);
        // The first three symbols of every block are lost.
        let kept = symbols.iter().filter(|(f, _)| f.symbol > 2);
        assert_eq!(assemble(kept), Some(data));
        let kept = symbols.iter().filter(|(f, _)| f.symbol > 3 || f.block == 1);
        assert_eq!(assemble(kept), None);
    }

    #[test]
    fn what_disagrees_is_left_out() {
        let (data, symbols) = cut(5000, 1154, 1);
        let mut assembly = Assembly::new(&symbols[0].0, symbols[0].1.len() as u16);
        let (right, bytes) = &symbols[0];
        for wrong in [
            Fragment {
                k: right.k + 1,
                first_flight: right.k + 1,
                ..*right
            },
            Fragment {
                capture: 6,
                ..*right
            },
            Fragment { flags: 2, ..*right },
            Fragment { code: 0, ..*right },
            Fragment {
                blocks: 2,
                ..*right
            },
        ] {
            assert_eq!(assembly.add(&wrong, bytes), Added::Inconsistent);
        }
        assert_eq!(assembly.add(right, &bytes[1..]), Added::Inconsistent);
        assert_eq!(assembly.add(right, bytes), Added::New);
        assert_eq!(assembly.add(right, bytes), Added::Duplicate);
        for (fragment, bytes) in &symbols[1..usize::from(right.k)] {
            assembly.add(fragment, bytes);
        }
        let (fragment, bytes) = symbols.last().unwrap();
        assert_eq!(assembly.add(fragment, bytes), Added::Duplicate);
        assert_eq!(assembly.finish().unwrap().1, data);
    }

    #[test]
    fn a_header_that_lies_about_the_length_is_refused() {
        let (_, mut symbols) = cut(10, 1154, 0);
        for len in [0u32, 11, u32::MAX] {
            symbols[0].1[2..6].copy_from_slice(&len.to_be_bytes());
            assert_eq!(assemble(&symbols), None, "{len}");
        }
    }
}
