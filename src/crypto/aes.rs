//! AES-256 on single blocks: for masking nonces and for deriving keys, never on data.
//!
//! AWS-LC's, because it also seals the chunks, and because a block costs it 20 ns where the `aes` crate, which prepares
//! for many at once, takes 55.

use aws_lc_rs::cipher::{AES_256, EncryptingKey, UnboundCipherKey};

use crate::sys::arena::Locked;
use crate::sys::secret::SecretBytes;

/// An expanded key in locked memory.
#[derive(Debug)]
pub struct Aes256(Locked<EncryptingKey>);

impl Aes256 {
    pub fn new(key: &SecretBytes<32>) -> Self {
        let key = UnboundCipherKey::new(&AES_256, key.as_bytes())
            .and_then(EncryptingKey::ecb)
            .expect("AES-256 takes 32 bytes");
        Self(Locked::new(key))
    }

    /// Encrypts each block by itself.
    pub fn encrypt<const N: usize>(&self, blocks: &mut [[u8; 16]; N]) {
        self.0
            .encrypt(blocks.as_flattened_mut())
            .expect("whole blocks");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 197, appendix C.3.
    #[test]
    fn it_is_aes_256() {
        let key = SecretBytes::filled_by(|key| *key = std::array::from_fn(|i| i as u8));
        let mut blocks = [std::array::from_fn(|i| 0x11 * i as u8); 2];
        Aes256::new(&key).encrypt(&mut blocks);
        let expected = [
            0x8e, 0xa2, 0xb7, 0xca, 0x51, 0x67, 0x45, 0xbf, 0xea, 0xfc, 0x49, 0x90, 0x4b, 0x49,
            0x60, 0x89,
        ];
        assert_eq!(blocks, [expected; 2]);
    }
}
