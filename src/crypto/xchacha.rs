//! XChaCha20-Poly1305 as draft-irtf-cfrg-xchacha-03 specifies it: HChaCha20, then ChaCha20-Poly1305 (RFC 8439).

use aws_lc_rs::aead::CHACHA20_POLY1305;
use chacha20::{R20, hchacha};
use zeroize::Zeroize;

use crate::crypto::aead::{Derived, Unauthentic};
use crate::crypto::nonce::Nonce;
use crate::format::file::TAG_LEN;
use crate::sys::secret::SecretBytes;

/// A key of XChaCha20-Poly1305.
#[derive(Debug)]
pub struct XChaCha20Poly1305(SecretBytes<32>);

impl XChaCha20Poly1305 {
    pub fn new(key: SecretBytes<32>) -> Self {
        Self(key)
    }

    pub fn seal(&self, nonce: &Nonce, aad: &[u8], plain: &[u8], out: &mut [u8]) -> [u8; TAG_LEN] {
        derive(&self.0, nonce).seal(aad, plain, out)
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
        derive(&self.0, nonce).open(aad, sealed, tag, out)
    }
}

fn derive(key: &SecretBytes<32>, nonce: &Nonce) -> Derived {
    let (context, short) = nonce.split_at(16);
    let context = context.try_into().expect("16 bytes");
    let mut subkey = hchacha::<R20>(key.as_bytes().into(), context);
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(short);
    let derived = Derived::new(&CHACHA20_POLY1305, &subkey.0, nonce);
    subkey.zeroize();
    derived
}
