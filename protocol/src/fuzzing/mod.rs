//! The bodies of the fuzz targets: each takes any bytes and panics where a promise is broken.
//!
//! `fuzz/` runs them under libFuzzer; a test here replays the corpus that it found.

mod endpoints;
mod machines;
mod media;
mod parsers;

pub use endpoints::endpoint;
pub use machines::session;
pub use media::{fec, reassembly};
pub use parsers::{control, handshake, items, keys};

use bytes::Bytes;

use crate::{Frame, FrameFlags, Time};

/// Reads what a fuzzer made up; zeros once nothing is left.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    /// At most `len` bytes.
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }
}

/// A key frame of `len` bytes, captured `now`.
pub(crate) fn frame(now: Time, len: usize) -> Frame {
    Frame {
        data: Bytes::from(vec![1; len]),
        capture: now,
        dts_offset: 0,
        duration: None,
        wall: None,
        flags: FrameFlags {
            key: true,
            ..FrameFlags::default()
        },
    }
}

/// Randomness that is the same in every run.
pub(crate) struct Counting(pub(crate) u64);

impl crate::Random for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            // A linear congruential generator (Knuth).
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::replay::{Target, replay};

    const TARGETS: [Target; 8] = [
        ("control", super::control),
        ("endpoint", super::endpoint),
        ("fec", super::fec),
        ("handshake", super::handshake),
        ("items", super::items),
        ("keys", super::keys),
        ("reassembly", super::reassembly),
        ("session", super::session),
    ];

    /// Targets of other crates, which replay them.
    const OTHERS: [&str; 5] = ["caps", "pictures", "requests", "uri", "worker"];

    #[test]
    fn what_the_fuzzer_found_still_passes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        replay(&corpus, &TARGETS);
        let known = TARGETS.map(|(name, _)| name).into_iter().chain(OTHERS);
        let known: Vec<_> = known.collect();
        for folder in std::fs::read_dir(corpus).unwrap() {
            let name = folder.unwrap().file_name();
            assert!(known.iter().any(|known| name == *known), "{name:?}");
        }
    }
}
