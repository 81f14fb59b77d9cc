//! Frames in pieces, for peers that carry packets: a tiny header says where a piece belongs.

use std::collections::BTreeMap;

/// Bytes of a piece, header included: what SRT carries in a message.
pub(crate) const CHUNK: usize = 1316;
/// Frame number, index, count, and the length of the frame.
const HEADER: usize = 12;
const ROOM: usize = CHUNK - HEADER;
/// Frames in pieces at once, at most; one more makes the oldest lost.
const MAX_OPEN: usize = 64;

/// Appends piece after piece to what `begin` returns for each.
pub(crate) fn cut(number: u32, frame: &[u8], mut piece: impl FnMut(&[u8], &[u8])) {
    let count = frame.len().div_ceil(ROOM) as u16;
    for (index, data) in frame.chunks(ROOM).enumerate() {
        let mut header = [0; HEADER];
        header[0..4].copy_from_slice(&number.to_be_bytes());
        header[4..6].copy_from_slice(&(index as u16).to_be_bytes());
        header[6..8].copy_from_slice(&count.to_be_bytes());
        header[8..12].copy_from_slice(&(frame.len() as u32).to_be_bytes());
        piece(&header, data);
    }
}

/// Joins pieces to frames, in whatever order they come.
#[derive(Default)]
pub(crate) struct Joiner {
    open: BTreeMap<u32, Open>,
    /// Frames up to this number are done with.
    done: Option<u32>,
}

struct Open {
    data: Vec<u8>,
    have: Vec<bool>,
    missing: usize,
}

impl Joiner {
    /// Takes a piece; returns the frame that it makes whole.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let (header, data) = piece.split_at_checked(HEADER)?;
        let u16_at = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
        let u32_at =
            |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap_or([0; 4]));
        let number = u32_at(0);
        let (index, count, len) = (u16_at(4), u16_at(6), u32_at(8) as usize);
        if index >= count || len.div_ceil(ROOM) != count || self.done >= Some(number) {
            return None;
        }
        let open = self.open.entry(number).or_insert_with(|| Open {
            data: vec![0; len],
            have: vec![false; count],
            missing: count,
        });
        let place = open.data.get_mut(index * ROOM..)?.get_mut(..data.len())?;
        if !std::mem::replace(open.have.get_mut(index)?, true) {
            place.copy_from_slice(data);
            open.missing -= 1;
        }
        if open.missing == 0 {
            return self.open.remove(&number).map(|open| open.data);
        }
        if self.open.len() > MAX_OPEN {
            self.done = self.open.pop_first().map(|(number, _)| number);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(number: u32, frame: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        cut(number, frame, |header, data| {
            pieces.push([header, data].concat())
        });
        pieces
    }

    #[test]
    fn a_frame_is_joined_from_pieces_in_any_order() {
        for len in [1, ROOM, ROOM + 1, 50_000] {
            let frame: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let pieces = pieces(3, &frame);
            assert!(pieces.iter().all(|piece| piece.len() <= CHUNK));
            let mut joiner = Joiner::default();
            let twice = pieces.iter().rev().flat_map(|piece| [piece, piece]);
            let whole = twice.filter_map(|piece| joiner.take(piece)).next();
            assert!(whole == Some(frame), "{len}");
        }
    }

    #[test]
    fn frames_that_lack_pieces_are_given_up() {
        let mut joiner = Joiner::default();
        let frame = [7; 5000];
        for number in 0..1000 {
            assert_eq!(joiner.take(&pieces(number, &frame)[0]), None);
        }
        assert_eq!(joiner.open.len(), MAX_OPEN);
        let late = pieces(1, &frame);
        assert!(late.iter().all(|piece| joiner.take(piece).is_none()));
        assert_eq!(joiner.open.len(), MAX_OPEN);
    }
}
