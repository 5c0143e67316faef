//! XAES-256-GCM: AES-256-GCM with a 192-bit nonce, as <https://c2sp.org/XAES-256-GCM> specifies it.
//!
//! A CMAC-based counter-mode KDF (NIST SP 800-108r1) turns the key and the first 12 bytes of the nonce into the key of
//! one AES-256-GCM message, whose nonce is the other 12 bytes. Its cost is two blocks of AES and one key setup.

use aws_lc_rs::aead::AES_256_GCM;
use zeroize::Zeroize;

use crate::crypto::aead::{Derived, Unauthentic};
use crate::crypto::aes::Aes256;
use crate::crypto::nonce::Nonce;
use crate::format::file::TAG_LEN;
use crate::sys::secret::SecretBytes;

/// A key of XAES-256-GCM, set up.
#[derive(Debug)]
pub struct Xaes256Gcm {
    aes: Aes256,
    /// The first CMAC subkey.
    k1: SecretBytes<16>,
}

impl Xaes256Gcm {
    pub fn new(key: &SecretBytes<32>) -> Self {
        let aes = Aes256::new(key);
        let k1 = SecretBytes::filled_by(|k1| {
            let mut l = [[0; 16]];
            aes.encrypt(&mut l);
            // Doubling in GF(2^128), without a branch on the secret bit.
            let word = u128::from_be_bytes(l[0]);
            *k1 = ((word << 1) ^ ((word >> 127) * 0x87)).to_be_bytes();
            l.zeroize();
        });
        Self { aes, k1 }
    }

    pub fn seal(&self, nonce: &Nonce, aad: &[u8], plain: &[u8], out: &mut [u8]) -> [u8; TAG_LEN] {
        self.derive(nonce).seal(aad, plain, out)
    }

    /// `out` is zero on failure.
    pub fn open(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), Unauthentic> {
        self.derive(nonce).open(aad, sealed, tag, out)
    }

    fn derive(&self, nonce: &Nonce) -> Derived {
        let (context, short) = nonce.split_at(12);
        let mut halves = [1, 2].map(|counter| {
            let mut block = *self.k1.as_bytes();
            block[1] ^= counter;
            block[2] ^= b'X';
            block[4..]
                .iter_mut()
                .zip(context)
                .for_each(|(b, c)| *b ^= c);
            block
        });
        self.aes.encrypt(&mut halves);
        let key = halves.as_flattened().try_into().expect("two blocks");
        let derived = Derived::new(&AES_256_GCM, key, short.try_into().expect("24 - 12 bytes"));
        halves.zeroize();
        derived
    }
}
