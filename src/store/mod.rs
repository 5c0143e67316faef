//! Encrypted objects on the backing directory: the volume, its files and directories, and the rules by which they
//! become durable.
//!
//! Everything here works on stored objects and plaintext names; POSIX semantics, inodes and handles are in `fs`.

pub mod backing;
pub mod change;
pub mod check;
pub mod dir;
pub mod disk;
pub mod error;
pub mod file;
mod gaps;
pub mod header;
pub mod header_care;
pub mod journal;
pub mod last_used;
mod layout;
pub mod lock;
pub mod locked;
mod meta;
pub mod namespace;
mod new_vault;
mod path;
mod range_lock;
pub mod recovery;
pub mod rekey;
pub mod renaming;
pub mod rotation;
mod superblock;
pub mod upkeep;
pub mod volume;
pub mod xattr;

pub use change::Change;
pub use dir::Dir;
pub use disk::Disk;
pub use error::{Error, Result};
pub use file::DataFile;
pub use volume::Volume;
