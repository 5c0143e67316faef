//! The operating system: the only module with unsafe code.
//!
//! Knows nothing of vaults, formats or keys.

pub mod arena;
pub mod daemon;
pub mod fd;
pub mod holders;
pub mod mount;
pub mod secret;
pub mod signals;
pub mod terminal;
