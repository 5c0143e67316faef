//! The header of a content file, and the sizes that frame its chunks.
//!
//! ```text
//! off  0  magic "wrdF"   4
//!      4  version        1   1
//!      5  cipher         1   1 XAES-256-GCM, 2 XChaCha20-Poly1305
//!      6  log2_chunk     1   12..=16
//!      7  flags          1   0
//!      8  file id       24   random
//!     32  commitment    32   binds the 32 bytes above to the volume key
//!     64  chunk i at 64 + i * (C + 40): nonce 24 | ciphertext | tag 16
//! ```
//!
//! Knows no keys: whether the commitment holds is checked by [`crate::crypto::VolumeKeys::open_file`].

use crate::format::FormatError;
use crate::format::ids::{Cipher, FileId};

/// Bytes before the first chunk.
pub const HEADER_LEN: usize = 64;
/// Bytes that a stored chunk is longer than its plaintext: nonce and tag.
pub const CHUNK_OVERHEAD: usize = NONCE_LEN + TAG_LEN;
pub const NONCE_LEN: usize = 24;
pub const TAG_LEN: usize = 16;

/// Chunk sizes are powers of two from 4 KiB to 64 KiB.
pub const LOG2_CHUNK: std::ops::RangeInclusive<u8> = 12..=16;

const MAGIC: [u8; 4] = *b"wrdF";
const VERSION: u8 = 1;

/// The first [`HEADER_LEN`] bytes of a content file, written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    pub cipher: Cipher,
    /// Binary logarithm of the chunk size.
    pub log2_chunk: u8,
    pub file_id: FileId,
    pub commitment: [u8; 32],
}

impl FileHeader {
    /// The part that the commitment binds.
    pub fn bound_part(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.cipher.number();
        bytes[6] = self.log2_chunk;
        bytes[8..].copy_from_slice(&self.file_id.0);
        bytes
    }

    /// What the file key depends on besides the file id: version, cipher, chunk size.
    pub fn key_context(&self) -> [u8; 3] {
        [VERSION, self.cipher.number(), self.log2_chunk]
    }

    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..32].copy_from_slice(&self.bound_part());
        bytes[32..].copy_from_slice(&self.commitment);
        bytes
    }

    /// # Errors
    /// Anything that [`FileHeader::encode`] does not write.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, FormatError> {
        let (bound, commitment) = bytes.split_at(32);
        let (fixed, file_id) = bound.split_at(8);
        if fixed[..4] != MAGIC {
            return Err(FormatError::Magic);
        }
        if fixed[4] != VERSION {
            return Err(FormatError::Version {
                needs: fixed[4].into(),
            });
        }
        let cipher = Cipher::from_number(fixed[5]).ok_or(FormatError::Field("cipher"))?;
        let log2_chunk = fixed[6];
        if !LOG2_CHUNK.contains(&log2_chunk) {
            return Err(FormatError::Field("chunk size"));
        }
        if fixed[7] != 0 {
            return Err(FormatError::Features {
                unknown: fixed[7].into(),
            });
        }
        Ok(Self {
            cipher,
            log2_chunk,
            file_id: FileId(file_id.try_into().expect("32 - 8 bytes")),
            commitment: commitment.try_into().expect("64 - 32 bytes"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FileHeader {
        FileHeader {
            cipher: Cipher::XChaCha20Poly1305,
            log2_chunk: 12,
            file_id: FileId([0xf1; 24]),
            commitment: [0xc0; 32],
        }
    }

    #[test]
    fn the_header_is_laid_out_as_the_manual_draws_it() {
        let bytes = header().encode();
        assert_eq!(bytes[..8], *b"wrdF\x01\x02\x0c\x00");
        assert_eq!(bytes[8..32], [0xf1; 24]);
        assert_eq!(bytes[32..], [0xc0; 32]);
        assert_eq!(FileHeader::decode(&bytes), Ok(header()));
    }

    #[test]
    fn what_is_accepted_encodes_to_the_same_bytes() {
        for at in 0..HEADER_LEN {
            for value in 0..=255 {
                let mut bytes = header().encode();
                bytes[at] = value;
                if let Ok(decoded) = FileHeader::decode(&bytes) {
                    assert_eq!(decoded.encode(), bytes);
                }
            }
        }
    }

    #[test]
    fn each_impossible_field_is_named() {
        let with = |at: usize, value: u8| {
            let mut bytes = header().encode();
            bytes[at] = value;
            FileHeader::decode(&bytes)
        };
        assert_eq!(with(0, b'W'), Err(FormatError::Magic));
        assert_eq!(with(4, 2), Err(FormatError::Version { needs: 2 }));
        assert_eq!(with(5, 3), Err(FormatError::Field("cipher")));
        assert_eq!(with(6, 11), Err(FormatError::Field("chunk size")));
        assert_eq!(with(6, 17), Err(FormatError::Field("chunk size")));
        assert_eq!(with(7, 1), Err(FormatError::Features { unknown: 1 }));
    }
}
