//! Offsets of a file: plaintext sizes, chunk numbers and where each chunk lies in the ciphertext file.

use crate::crypto::ChunkNo;
use crate::format::file::{CHUNK_OVERHEAD, HEADER_LEN, LOG2_CHUNK};

/// The largest plaintext size, chosen so that every ciphertext offset fits a signed 64-bit offset.
pub const MAX_PLAIN_SIZE: u64 = 1 << 62;

/// A ciphertext length that no plaintext size has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeError {
    /// The length of the ciphertext file in bytes.
    pub stored: u64,
}

impl std::fmt::Display for SizeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no plaintext has a ciphertext of {} bytes", self.stored)
    }
}

/// The chunk size of one file and the arithmetic that follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    log2: u8,
}

impl Geometry {
    /// `log2` is the chunk size as a power of two, in [`LOG2_CHUNK`].
    pub fn new(log2: u8) -> Option<Self> {
        LOG2_CHUNK.contains(&log2).then_some(Self { log2 })
    }

    /// Plaintext bytes of a full chunk.
    pub fn chunk_size(self) -> usize {
        1 << self.log2
    }

    /// Ciphertext bytes of a full chunk.
    pub fn stored_chunk(self) -> usize {
        self.chunk_size() + CHUNK_OVERHEAD
    }

    /// The chunk that holds plaintext byte `off`.
    pub fn chunk_of(self, off: u64) -> ChunkNo {
        ChunkNo(off >> self.log2)
    }

    /// The plaintext offset at which chunk `no` begins.
    pub fn plain_start(self, no: ChunkNo) -> u64 {
        no.0 << self.log2
    }

    /// The ciphertext offset at which chunk `no` begins.
    pub fn stored_start(self, no: ChunkNo) -> u64 {
        HEADER_LEN as u64 + no.0 * self.stored_chunk() as u64
    }

    /// The chunk that holds ciphertext byte `off`; the header counts as part of chunk 0.
    pub fn chunk_at_stored(self, off: u64) -> ChunkNo {
        ChunkNo(off.saturating_sub(HEADER_LEN as u64) / self.stored_chunk() as u64)
    }

    /// The last chunk of a file of `size` plaintext bytes. An empty file has an empty chunk 0.
    pub fn last_chunk(self, size: u64) -> ChunkNo {
        self.chunk_of(size.saturating_sub(1))
    }

    /// Plaintext bytes in chunk `no` of a file of `size` bytes; 0 beyond its end.
    pub fn chunk_len(self, no: ChunkNo, size: u64) -> usize {
        size.saturating_sub(self.plain_start(no))
            .min(self.chunk_size() as u64) as usize
    }

    /// Length of the ciphertext file for `size` plaintext bytes.
    pub fn stored_size(self, size: u64) -> u64 {
        let last = self.last_chunk(size);
        self.stored_start(last) + (self.chunk_len(last, size) + CHUNK_OVERHEAD) as u64
    }

    /// Plaintext size for a ciphertext file of `stored` bytes.
    ///
    /// # Errors
    /// [`SizeError`] for a length that [`Geometry::stored_size`] never yields.
    pub fn plain_size(self, stored: u64) -> Result<u64, SizeError> {
        let error = Err(SizeError { stored });
        let Some(body) = stored.checked_sub(HEADER_LEN as u64) else {
            return error;
        };
        let per_chunk = self.stored_chunk() as u64;
        let (full, rest) = (body / per_chunk, body % per_chunk);
        match rest.checked_sub(CHUNK_OVERHEAD as u64) {
            None if rest == 0 && full > 0 => Ok(full << self.log2),
            Some(0) if full > 0 => error,
            Some(tail) => Ok((full << self.log2) + tail),
            None => error,
        }
    }

    /// A size to show for a ciphertext length that is not valid: whole chunks and what remains.
    pub fn plain_size_lossy(self, stored: u64) -> u64 {
        self.plain_size(stored).unwrap_or_else(|_| {
            let body = stored.saturating_sub(HEADER_LEN as u64);
            let per_chunk = self.stored_chunk() as u64;
            let tail = (body % per_chunk).saturating_sub(CHUNK_OVERHEAD as u64);
            ((body / per_chunk) << self.log2) + tail
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_the_manual() {
        let g = Geometry::new(12).expect("4 KiB is allowed");
        for (plain, stored) in [(0, 104), (1, 105), (4096, 4200), (4097, 4241), (5000, 5144)] {
            assert_eq!(g.stored_size(plain), stored);
            assert_eq!(g.plain_size(stored), Ok(plain));
        }
    }

    #[test]
    fn every_length_maps_to_one_size_or_to_none() {
        for log2 in LOG2_CHUNK {
            let g = Geometry::new(log2).expect("in range");
            let mut next_plain = 0;
            for stored in 0..(3 * g.stored_chunk() as u64 + 200) {
                match g.plain_size(stored) {
                    Ok(plain) => {
                        assert_eq!(plain, next_plain, "stored {stored}");
                        assert_eq!(g.stored_size(plain), stored);
                        next_plain += 1;
                    }
                    Err(e) => assert_eq!(e.stored, stored),
                }
            }
        }
    }

    #[test]
    fn chunk_sizes_outside_the_range_are_refused() {
        assert!(Geometry::new(11).is_none());
        assert!(Geometry::new(17).is_none());
    }

    #[test]
    fn the_largest_file_fits_a_signed_offset() {
        let g = Geometry::new(12).expect("in range");
        assert!(g.stored_size(MAX_PLAIN_SIZE) < i64::MAX as u64);
        assert_eq!(
            g.plain_size(g.stored_size(MAX_PLAIN_SIZE)),
            Ok(MAX_PLAIN_SIZE)
        );
    }
}
