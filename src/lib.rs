//! wardfs: an encrypted filesystem for storage at rest.
//!
//! Each module owns one noun; arrows point down only (`scripts/layers` checks them):
//! `cli` → `fuse` → `fs` → `store` → `content`, `names` → `keys`, `crypto`, `format` → `sys`.

pub mod cli;
pub mod content;
pub mod crypto;
pub mod format;
pub mod fs;
pub mod fuse;
pub mod keys;
pub mod names;
pub mod store;
pub mod sys;
