//! Where things lie in a vault.

use std::path::{Path, PathBuf};

/// Everything that is not the encrypted tree.
pub const META_DIR: &str = "~wardfs";
pub const HEADER: &str = "volume";
pub const HEADER_BACKUP: &str = "volume.bak";
pub const JOURNAL_DIR: &str = "journal";
pub const SUPERBLOCK: &str = "superblock";
pub const TMP_DIR: &str = "tmp";
pub const TARGETS_DIR: &str = "targets";
pub const LOCK: &str = "lock";
/// Carries the lock of whoever writes the volume header.
pub const HEADER_LOCK: &str = "volume.lock";
/// When each key slot opened the vault last.
pub const LAST_USED: &str = "used";

/// How far a rotation under a mount is.
pub const ROTATION: &str = "rotation";

pub fn meta(vault: &Path) -> PathBuf {
    vault.join(META_DIR)
}

pub fn lock(vault: &Path) -> PathBuf {
    meta(vault).join(LOCK)
}
