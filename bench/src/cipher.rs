//! What encryption costs a frame.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Payload of the packets that a frame is cut into, in bytes.
const PACKET: usize = 1400;
/// Clear bytes in front of each, which are authenticated.
const HEADER: usize = 12;
const FRAMES: u32 = 2000;

/// Time to seal, and to open, a frame of `size` bytes in packets with AES-256-GCM, by the
/// library that camrelay uses.
pub(crate) fn cost(size: usize) -> anyhow::Result<(Duration, Duration)> {
    let failed = |_| anyhow!("AES-256-GCM failed");
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(failed)?);
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let header = [0; HEADER];
    let packets = size.div_ceil(PACKET);
    let sealed_len = PACKET + AES_256_GCM.tag_len();
    let mut frame = vec![0; packets * sealed_len];
    let mut sealing = Duration::ZERO;
    let mut opening = Duration::ZERO;
    for _ in 0..FRAMES {
        let begun = Instant::now();
        for packet in frame.chunks_exact_mut(sealed_len) {
            let (data, place) = packet.split_at_mut(PACKET);
            let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(&header), data);
            place.copy_from_slice(tag.map_err(failed)?.as_ref());
        }
        sealing += begun.elapsed();
        let begun = Instant::now();
        for packet in frame.chunks_exact_mut(sealed_len) {
            key.open_in_place(nonce(), Aad::from(&header), packet)
                .map_err(failed)?;
        }
        opening += begun.elapsed();
        black_box(&mut frame);
    }
    Ok((sealing / FRAMES, opening / FRAMES))
}
