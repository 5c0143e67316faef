//! Small sealed records: link targets, extended attributes. `nonce 24 | ciphertext | tag 16`, XChaCha20-Poly1305.

use crate::crypto::aead::Unauthentic;
use crate::crypto::nonce;
use crate::crypto::xchacha::XChaCha20Poly1305;
use crate::format::file::{CHUNK_OVERHEAD, NONCE_LEN, TAG_LEN};

/// Bytes that a record is longer than its plaintext.
pub const RECORD_OVERHEAD: usize = CHUNK_OVERHEAD;

/// Seals `plain` under a random nonce.
pub fn seal(key: &XChaCha20Poly1305, aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let nonce = nonce::random();
    let mut record = vec![0; plain.len() + RECORD_OVERHEAD];
    record[..NONCE_LEN].copy_from_slice(&nonce);
    let sealed_end = record.len() - TAG_LEN;
    let tag = key.seal(&nonce, aad, plain, &mut record[NONCE_LEN..sealed_end]);
    record[sealed_end..].copy_from_slice(&tag);
    record
}

/// # Errors
/// [`Unauthentic`], also for what is too short to be a record.
pub fn open(key: &XChaCha20Poly1305, aad: &[u8], record: &[u8]) -> Result<Vec<u8>, Unauthentic> {
    let (nonce, rest) = record.split_first_chunk().ok_or(Unauthentic)?;
    let (sealed, tag) = rest.split_last_chunk().ok_or(Unauthentic)?;
    let mut plain = vec![0; sealed.len()];
    key.open(nonce, aad, sealed, tag, &mut plain)?;
    Ok(plain)
}
