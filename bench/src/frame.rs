//! Frames that know their number and when they were sent.

use path_emulator::Rng;

/// Bytes of the stamp at the head of a frame: mark, length, number, time.
pub(crate) const STAMP_LEN: usize = 24;
/// Bytes at the tail that repeat the number.
const TAIL_LEN: usize = 8;
/// Smallest frame, in bytes.
pub(crate) const MIN_FRAME: usize = STAMP_LEN + TAIL_LEN;
const MARK: u32 = 0x0ca3_f4a3;
/// Different contents that frames take in turn.
const CONTENTS: usize = 8;

/// Nanoseconds on the clock that all processes of this machine share.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it writes to `time` alone, and this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Frames of one size whose bytes are drawn from a seed.
pub(crate) struct Frames {
    contents: Vec<Vec<u8>>,
}

impl Frames {
    /// Frames of `size` bytes, at least [`MIN_FRAME`].
    pub(crate) fn new(seed: u64, size: usize) -> Self {
        let mut rng = Rng::new(seed);
        let mut content = || (0..size).map(|_| rng.next() as u8).collect();
        Self {
            contents: (0..CONTENTS).map(|_| content()).collect(),
        }
    }

    /// Frame `number`, stamped with this moment.
    pub(crate) fn stamped(&self, number: u32) -> Vec<u8> {
        let mut frame = self.contents[number as usize % CONTENTS].clone();
        let len = frame.len();
        frame[0..4].copy_from_slice(&MARK.to_be_bytes());
        frame[4..8].copy_from_slice(&(len as u32).to_be_bytes());
        frame[8..16].copy_from_slice(&u64::from(number).to_be_bytes());
        frame[len - TAIL_LEN..].copy_from_slice(&u64::from(number).to_be_bytes());
        frame[16..24].copy_from_slice(&now().to_be_bytes());
        frame
    }
}

/// Number and time of sending (nanoseconds) of a frame that is whole.
pub(crate) fn read(frame: &[u8]) -> Option<(u32, u64)> {
    let u32_at = |at: usize| Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_be_bytes(frame.get(at..at + 8)?.try_into().ok()?));
    let number = u64_at(8)?;
    let whole = frame.len() >= MIN_FRAME
        && u32_at(0)? == MARK
        && u32_at(4)? as usize == frame.len()
        && u64_at(frame.len() - TAIL_LEN)? == number;
    Some((u32::try_from(number).ok().filter(|_| whole)?, u64_at(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_tells_its_number_and_time_while_it_is_whole() {
        let before = now();
        let frame = Frames::new(1, 5000).stamped(7);
        let (number, sent) = read(&frame).unwrap();
        assert_eq!(number, 7);
        assert!((before..=now()).contains(&sent));
        assert_eq!(read(&frame[..4999]), None);
        assert_eq!(read(&frame[..10]), None);
        let mut torn = frame;
        torn[4995..].fill(0);
        assert_eq!(read(&torn), None);
    }
}
