//! The format: bytes on disk ↔ structs, as the format manual draws them.
//!
//! Pure: no I/O, no clock, no randomness. Every decoder takes hostile bytes and accepts only what its encoder writes.

pub mod error;
pub mod file;
pub mod ids;
pub mod journal;
pub mod key_record;
pub mod keyring;
pub mod mac;
pub mod rotation_record;
pub mod slot;
pub mod superblock;
pub mod volume;

pub use error::FormatError;
