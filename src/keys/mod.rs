//! Key slots: from what a person or a key manager holds to the keys of a volume.
//!
//! Asks nobody for a secret and writes no header: `cli` and `store` do.

pub mod header;
pub mod kdf;
pub mod kind;
#[cfg(test)]
mod lab;
pub mod names;
pub mod printed;
pub mod rekey;
pub mod rotation;
pub mod secret;
pub mod slot;
pub mod slots;
