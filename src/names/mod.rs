//! Names: plaintext names, link targets and extended attributes ↔ what the backing filesystem stores.
//!
//! The operations are methods of [`NameKeys`]. Reads and writes nothing and knows no content.

pub mod classify;
pub mod directory;
pub mod error;
pub mod link;
pub mod name;
pub mod xattr;

pub use crate::crypto::NameKeys;
pub use classify::{Stored, classify};
pub use error::NameError;
pub use link::target_plain_len;
pub use name::{Opener, SealedName};
