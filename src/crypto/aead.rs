//! The two content ciphers behind one face.
//!
//! Makes no nonces and knows no chunks.

use aws_lc_rs::aead::{Aad, Algorithm, LessSafeKey, Nonce as ShortNonce, UnboundKey};

use crate::crypto::nonce::Nonce;
use crate::crypto::xaes::Xaes256Gcm;
use crate::crypto::xchacha::XChaCha20Poly1305;
use crate::format::file::TAG_LEN;
use crate::format::ids::Cipher;
use crate::sys::secret::SecretBytes;

/// The ciphertext, its tag, the AAD, the nonce or the key is not the one it was sealed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unauthentic;

impl std::fmt::Display for Unauthentic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("does not authenticate")
    }
}

impl std::error::Error for Unauthentic {}

/// One of the content ciphers under one key.
#[derive(Debug)]
pub enum Aead {
    Xaes(Xaes256Gcm),
    XChaCha(XChaCha20Poly1305),
}

impl Aead {
    pub fn new(cipher: Cipher, key: SecretBytes<32>) -> Self {
        match cipher {
            Cipher::Xaes256Gcm => Self::Xaes(Xaes256Gcm::new(&key)),
            Cipher::XChaCha20Poly1305 => Self::XChaCha(XChaCha20Poly1305::new(key)),
        }
    }

    /// Seals `plain` into `out`, which is as long.
    pub fn seal(&self, nonce: &Nonce, aad: &[u8], plain: &[u8], out: &mut [u8]) -> [u8; TAG_LEN] {
        match self {
            Self::Xaes(key) => key.seal(nonce, aad, plain, out),
            Self::XChaCha(key) => key.seal(nonce, aad, plain, out),
        }
    }

    /// Opens `sealed` into `out`, which is as long and zero on failure.
    pub fn open(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), Unauthentic> {
        match self {
            Self::Xaes(key) => key.open(nonce, aad, sealed, tag, out),
            Self::XChaCha(key) => key.open(nonce, aad, sealed, tag, out),
        }
    }
}

/// AES-256-GCM or ChaCha20-Poly1305 under the key that an extended-nonce construction derived for one nonce.
pub(crate) struct Derived {
    key: LessSafeKey,
    nonce: [u8; 12],
}

impl Derived {
    pub(crate) fn new(algorithm: &'static Algorithm, key: &[u8; 32], nonce: [u8; 12]) -> Self {
        let key = UnboundKey::new(algorithm, key).expect("both algorithms take 32 bytes");
        Self {
            key: LessSafeKey::new(key),
            nonce,
        }
    }

    pub(crate) fn seal(self, aad: &[u8], plain: &[u8], out: &mut [u8]) -> [u8; TAG_LEN] {
        assert_eq!(
            plain.len(),
            out.len(),
            "ciphertext is as long as its plaintext"
        );
        let mut tag = [0; TAG_LEN];
        let nonce = ShortNonce::assume_unique_for_key(self.nonce);
        self.key
            .seal_out_of_place_scatter(nonce, Aad::from(aad), plain, out, &[], &mut tag)
            .expect("lengths match and are far below the limit of the mode");
        tag
    }

    pub(crate) fn open(
        self,
        aad: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), Unauthentic> {
        let nonce = ShortNonce::assume_unique_for_key(self.nonce);
        self.key
            .open_separate_gather(nonce, Aad::from(aad), sealed, tag, out)
            .map_err(|_| {
                out.fill(0);
                Unauthentic
            })
    }
}
