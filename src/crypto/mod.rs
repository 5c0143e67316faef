//! Keys and what is done with them: the key schedule, nonces, and the sealing of chunks and records.
//!
//! [`schedule`] is the whole key schedule. Does no I/O and knows neither names nor files: only chunks, by number.

pub mod aead;
pub mod aes;
pub mod chunk;
pub mod cpu;
pub mod hkdf;
pub mod nonce;
pub mod rand;
pub mod record;
pub mod schedule;
pub mod volume;
pub mod xaes;
pub mod xchacha;

pub use crate::format::ids::{
    ChunkFlags, ChunkMeta, ChunkNo, Cipher, DirId, Epoch, FileId, VolumeId, WriteSeq,
};
pub use crate::format::mac;
pub use chunk::{ChunkError, FileKeys};
pub use schedule::{HeaderKey, HeaderKeys, NameKeys, VolumeKey};
pub use volume::{HeaderMismatch, NotAhead, VolumeKeys};
