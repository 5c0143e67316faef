//! Nonces: every nonce of the product is made here.
//!
//! A chunk's nonce is `(meta8 XOR mask8) || r16`: `r16` fresh random, `meta8` the [`ChunkMeta`], and `mask8` the first
//! 8 bytes of AES-256 of `r16` under a key of the file. That is the header protection of RFC 9001 §5.4: the mask is a
//! PRF of public random bytes, so a reader of one snapshot learns nothing of the write order, and the AEAD
//! authenticates the meta because it is part of the nonce. Two nonces of a file are equal only if both `r16` and
//! `meta8` are; even with a random generator that repeats, the write sequence keeps them apart.

use crate::crypto::aes::Aes256;
use crate::crypto::rand;
use crate::format::file::NONCE_LEN;
use crate::format::ids::ChunkMeta;
use crate::sys::secret::SecretBytes;

/// A nonce of XAES-256-GCM or XChaCha20-Poly1305.
pub type Nonce = [u8; NONCE_LEN];

/// A random nonce, for records that are sealed at most 2^80 times under one key.
pub fn random() -> Nonce {
    rand::array()
}

/// Hides and shows the meta in the nonces of one file.
#[derive(Debug)]
pub struct NonceMask(Aes256);

impl NonceMask {
    pub fn new(key: &SecretBytes<32>) -> Self {
        Self(Aes256::new(key))
    }

    pub fn nonce(&self, meta: ChunkMeta, r16: &[u8; 16]) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.xor_mask(meta.encode(), r16));
        nonce[8..].copy_from_slice(r16);
        nonce
    }

    /// The 8 bytes of meta that `nonce` claims; not authenticated.
    pub fn unmask(&self, nonce: &Nonce) -> [u8; 8] {
        let (masked, r16) = nonce.split_at(8);
        let masked = masked.try_into().expect("8 bytes");
        self.xor_mask(masked, r16.try_into().expect("24 - 8 bytes"))
    }

    fn xor_mask(&self, meta: [u8; 8], r16: &[u8; 16]) -> [u8; 8] {
        let mut block = [*r16];
        self.0.encrypt(&mut block);
        std::array::from_fn(|i| meta[i] ^ block[0][i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ids::{ChunkFlags, Epoch, WriteSeq};

    #[test]
    fn the_mask_hides_the_meta_and_gives_it_back() {
        let mask = NonceMask::new(&SecretBytes::take(&mut [5; 32]));
        let meta = ChunkMeta {
            seq: WriteSeq(1),
            epoch: Epoch(2),
            flags: ChunkFlags {
                is_final: true,
                sparse: false,
            },
        };
        let nonce = mask.nonce(meta, &[9; 16]);
        assert_eq!(nonce[8..], [9; 16]);
        assert_ne!(nonce[..8], meta.encode());
        assert_eq!(mask.unmask(&nonce), meta.encode());
    }

    #[test]
    fn with_a_repeated_random_part_the_write_sequence_still_separates_nonces() {
        let mask = NonceMask::new(&SecretBytes::take(&mut [5; 32]));
        let at = |seq| {
            let meta = ChunkMeta {
                seq: WriteSeq(seq),
                epoch: Epoch(0),
                flags: ChunkFlags::default(),
            };
            mask.nonce(meta, &[0; 16])
        };
        assert_ne!(at(1), at(2));
    }
}
