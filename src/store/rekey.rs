//! Another volume key on the disk.
//!
//! Besides the header one thing hangs on the volume key: the superblock of the journal, whose two slots are authenticated
//! under a key of it. One slot is written under the new key before the header, the other one after it; so whichever header
//! a crash leaves finds a superblock. Nothing else is touched.

use crate::crypto::{VolumeKey, VolumeKeys};
use crate::format::volume::VolumeHeader;
use crate::keys::header::UnlockError;
use crate::keys::rekey::Rekeyed;
use crate::store::backing::Backing;
use crate::store::header;
use crate::store::layout::{JOURNAL_DIR, META_DIR};
use crate::store::superblock::Handover;
use crate::store::volume::VolumeError;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    Done,
    /// Somebody else has changed the header meanwhile; nothing was done.
    Outdated,
}

/// Puts the header of another volume key into the place of `seen`, which it was made from. The volume was closed in
/// order and is held by nobody else, and neither is the header. Durable when this returns.
///
/// # Errors
/// [`VolumeError`]. The volume then opens with the old key or with the new one.
pub fn install<B: Backing>(
    backing: &B,
    seen: &VolumeHeader,
    (old, old_keys): (&VolumeKey, &VolumeKeys),
    new: &Rekeyed,
) -> Result<Installed, VolumeError> {
    let found = header::read(backing)?.header;
    if !found.mac_matches(&old.header_mac_key()) {
        return Err(VolumeError::Unlock(UnlockError::Tampered));
    }
    if found != *seen {
        return Ok(Installed::Outdated);
    }
    let fail = |e| VolumeError::io("write the superblock of the journal", e);
    let journal = || {
        let meta = backing.open_dir(&backing.root()?, META_DIR.as_bytes())?;
        backing.open_dir(&meta, JOURNAL_DIR.as_bytes())
    };
    let journal = journal().map_err(fail)?;
    let handover = Handover::begin(backing, &journal, old_keys, &new.keys).map_err(fail)?;
    header::write(backing, &new.header)?;
    handover.end(backing, &new.keys).map_err(fail)?;
    Ok(Installed::Done)
}
