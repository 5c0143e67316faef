//! Runs of consecutive chunks: sealing plaintext into one buffer, opening one buffer into plaintext.

use crate::content::{Buffer, Geometry};
use crate::crypto::{ChunkFlags, ChunkNo, FileKeys, WriteSeq, rand};
use crate::format::file::CHUNK_OVERHEAD;

/// Why a stored chunk cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The AEAD refused it: changed, moved, from another file, or torn.
    Unauthentic,
    /// As above, and it names an epoch that the keyring does not have.
    NoKey,
    /// It is the last chunk but does not say so: the file was cut here.
    Cut,
    /// It says it is the last chunk but others follow.
    Extended,
    /// It is all zero although the file has no holes.
    Hole,
    /// It is shorter than any chunk.
    Short,
    /// The file has no valid header.
    Header,
    /// The length of the ciphertext file is impossible.
    Length,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unauthentic => "does not authenticate",
            Self::NoKey => {
                "does not authenticate, and names a content key that the volume header does not have: \
                 was an older header put back? wardfs header restore brings the newest one"
            }
            Self::Cut => "the file was cut here",
            Self::Extended => "a last chunk stands in the middle of the file",
            Self::Hole => "is zeroed, but the file has no holes",
            Self::Short => "is incomplete",
            Self::Header => "the file header is damaged",
            Self::Length => "the file has an impossible length",
        })
    }
}

/// Where an opened chunk stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    Inner,
    Last,
}

/// What a stored chunk turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// Authentic data.
    Data { sparse: bool },
    /// All zero as stored: a hole, if the file may have holes.
    Zero,
}

/// Seals `plain` as consecutive chunks from `first` on and appends them to `out`.
///
/// All chunks but the last one of `plain` must be full. `last` are the flags of that last chunk; the others have none.
pub fn seal_run(
    keys: &FileKeys,
    geometry: Geometry,
    first: ChunkNo,
    plain: &[u8],
    seq: WriteSeq,
    last: ChunkFlags,
    out: &mut Buffer,
) {
    let size = geometry.chunk_size();
    let chunks = plain.len().div_ceil(size).max(1);
    let mut random = [[0u8; 16]; 64];
    let mut rest = out.grow(plain.len() + chunks * CHUNK_OVERHEAD);
    for i in 0..chunks {
        if i % random.len() == 0 {
            let wanted = (chunks - i).min(random.len());
            rand::fill(random[..wanted].as_flattened_mut());
        }
        let piece = &plain[i * size..((i + 1) * size).min(plain.len())];
        let flags = if i + 1 == chunks {
            last
        } else {
            ChunkFlags::default()
        };
        let (slot, tail) = rest.split_at_mut(piece.len() + CHUNK_OVERHEAD);
        let no = ChunkNo(first.0 + i as u64);
        keys.seal(no, seq, flags, &random[i % random.len()], piece, slot);
        rest = tail;
    }
}

/// Opens one stored chunk into `out`, whose length is the plaintext length.
///
/// # Errors
/// The [`Damage`]; `out` is then zero.
pub fn open_chunk(
    keys: &FileKeys,
    no: ChunkNo,
    position: Position,
    stored: &[u8],
    out: &mut [u8],
) -> Result<Opened, Damage> {
    if stored.len() != out.len() + CHUNK_OVERHEAD {
        out.fill(0);
        return Err(Damage::Short);
    }
    if is_zero(stored) {
        out.fill(0);
        return match position {
            Position::Inner => Ok(Opened::Zero),
            Position::Last => Err(Damage::Hole),
        };
    }
    let meta = keys.open(no, stored, out).map_err(|_| {
        match stored.first_chunk().is_some_and(|n| keys.lacks_key_of(n)) {
            true => Damage::NoKey,
            false => Damage::Unauthentic,
        }
    })?;
    let damage = match (position, meta.flags.is_final) {
        (Position::Inner, false) | (Position::Last, true) => {
            return Ok(Opened::Data {
                sparse: meta.flags.sparse,
            });
        }
        (Position::Inner, true) => Damage::Extended,
        (Position::Last, false) => Damage::Cut,
    };
    out.fill(0);
    Err(damage)
}

/// Whether all bytes are zero. Sealed chunks fail at the first word, so this costs nothing for data.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|w| u128::from_ne_bytes(*w) == 0) && rest.iter().all(|b| *b == 0)
}
