//! Sealing and opening datagrams: AEAD with the packet number as nonce and the outer header as
//! associated data.

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::wire::header::{HEADER_LEN, TAG_LEN};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cipher {
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Cipher {
    /// The faster one on this machine.
    pub(crate) fn preferred() -> Self {
        #[cfg(target_arch = "x86_64")]
        let aes = std::arch::is_x86_feature_detected!("aes");
        #[cfg(target_arch = "aarch64")]
        let aes = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let aes = false;
        if aes {
            Self::Aes256Gcm
        } else {
            Self::ChaCha20Poly1305
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        }
    }

    fn key(self, bytes: &[u8; 32]) -> LessSafeKey {
        let algorithm = match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        LessSafeKey::new(UnboundKey::new(algorithm, bytes).expect("both ciphers take 32 bytes"))
    }
}

/// The two keys of a session.
pub(crate) struct Keys {
    cipher: Cipher,
    seal: LessSafeKey,
    open: LessSafeKey,
}

impl Keys {
    pub(crate) fn new(cipher: Cipher, seal: &[u8; 32], open: &[u8; 32]) -> Self {
        Self {
            cipher,
            seal: cipher.key(seal),
            open: cipher.key(open),
        }
    }

    pub(crate) fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// Seals the datagram that starts at `start` of `buffer`, its header in place, and appends
    /// the tag.
    pub(crate) fn seal(&self, packet_number: u64, buffer: &mut Vec<u8>, start: usize) {
        let (header, plaintext) = buffer[start..].split_at_mut(HEADER_LEN);
        let tag = self
            .seal
            .seal_in_place_separate_tag(nonce(packet_number), Aad::from(header), plaintext)
            .expect("a datagram is far below the ciphers' length limit");
        buffer.extend_from_slice(tag.as_ref());
    }

    /// Opens a datagram in place; `None` where it is not authentic.
    pub(crate) fn open<'a>(&self, packet_number: u64, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        let (header, sealed) = datagram.split_at_mut_checked(HEADER_LEN)?;
        if sealed.len() < TAG_LEN {
            return None;
        }
        let plaintext = self
            .open
            .open_in_place(nonce(packet_number), Aad::from(header), sealed)
            .ok()?;
        Some(plaintext)
    }
}

fn nonce(packet_number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&packet_number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
            let a = Keys::new(cipher, &[1; 32], &[2; 32]);
            let b = Keys::new(cipher, &[2; 32], &[1; 32]);
            let mut buffer = b"before".to_vec();
            buffer.extend_from_slice(&[9; HEADER_LEN]);
            buffer.extend_from_slice(b"hello");
            a.seal(7, &mut buffer, 6);
            assert_eq!(&buffer[..6], b"before");
            let datagram = &buffer[6..];
            assert_eq!(b.open(7, &mut datagram.to_vec()), Some(&b"hello"[..]));
            assert_eq!(b.open(8, &mut datagram.to_vec()), None);
            for at in 0..datagram.len() {
                let mut changed = datagram.to_vec();
                changed[at] ^= 1;
                assert_eq!(b.open(7, &mut changed), None);
            }
            for cut in 0..datagram.len() {
                assert_eq!(b.open(7, &mut datagram[..cut].to_vec()), None);
            }
        }
    }
}
