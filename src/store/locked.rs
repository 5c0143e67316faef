//! Changing the header of a vault that somebody has unlocked, also while it is mounted.
//!
//! One process at a time reads, changes and writes: it holds the lock on `~wardfs/volume.lock`. The daemon of a mount
//! looks at the header again only for rotations ([`crate::store::rotation`]).

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::crypto::{HeaderKey, VolumeKey, VolumeKeys};
use crate::format::volume::VolumeHeader;
use crate::keys::header::{self as keyed, Opened};
use crate::keys::rekey::Rekeyed;
use crate::keys::secret::SlotSecret;
use crate::store::header;
use crate::store::layout::HEADER_LOCK;
use crate::store::meta;
use crate::store::rekey::{self, Installed};
use crate::store::volume::{Locked, VolumeError};

/// Held by whoever writes the header; free again when dropped or when the process ends.
#[derive(Debug)]
pub struct HeaderLock {
    _file: File,
}

impl HeaderLock {
    /// Waits until it is free, which takes as long as others write.
    pub fn acquire(vault: &Path) -> io::Result<Self> {
        Self::lock(vault, FlockOperation::LockExclusive)
    }

    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while somebody else holds it.
    pub fn try_acquire(vault: &Path) -> io::Result<Self> {
        Self::lock(vault, FlockOperation::NonBlockingLockExclusive)
    }

    fn lock(vault: &Path, how: FlockOperation) -> io::Result<Self> {
        let dir = meta::dir(vault)?;
        let create = OFlags::RDWR | OFlags::CREATE;
        // Another user, such as root, may have made it; then reading is enough, but on NFS.
        let file = match meta::file(&dir, HEADER_LOCK, create, 0o644) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                meta::file(&dir, HEADER_LOCK, OFlags::RDONLY, 0)
            }
            other => other,
        }?;
        rustix::io::retry_on_intr(|| flock(&file, how))?;
        Ok(Self { _file: file })
    }
}

impl Locked {
    /// Opens one slot, or any, with `secret`, and verifies the header.
    ///
    /// # Errors
    /// [`VolumeError::Unlock`].
    pub fn open_with(&self, slot: Option<u32>, secret: &SlotSecret) -> Result<Opened, VolumeError> {
        keyed::open(self.header(), slot, secret).map_err(VolumeError::Unlock)
    }

    /// Changes the header as it is now on the disk, which must be authentic. Both copies are durable when this returns;
    /// nothing is written if `change` fails.
    ///
    /// # Errors
    /// Those of `change`, and [`VolumeError`].
    pub fn update<T, E: From<VolumeError>>(
        &mut self,
        vault: &Path,
        key: &VolumeKey,
        change: impl FnOnce(&mut VolumeHeader) -> Result<T, E>,
    ) -> Result<T, E> {
        let fail = |e| VolumeError::io("lock the volume header", e);
        let lock = HeaderLock::acquire(vault).map_err(fail)?;
        self.update_under(&lock, key, change)
    }

    /// The same for who holds the lock.
    pub(super) fn update_under<T, E: From<VolumeError>>(
        &mut self,
        _lock: &HeaderLock,
        key: &impl HeaderKey,
        change: impl FnOnce(&mut VolumeHeader) -> Result<T, E>,
    ) -> Result<T, E> {
        let (changed, done) = header::update(&self.disk, key, change)?;
        self.found = header::Found {
            header: changed,
            from_backup: false,
        };
        Ok(done)
    }
    /// Puts the header under another volume key into the place of `seen`; see [`rekey::install`].
    ///
    /// # Errors
    /// [`VolumeError`].
    pub fn install(
        &self,
        vault: &Path,
        seen: &VolumeHeader,
        old: (&VolumeKey, &VolumeKeys),
        new: &Rekeyed,
    ) -> Result<Installed, VolumeError> {
        let fail = |e| VolumeError::io("lock the volume header", e);
        let _lock = HeaderLock::acquire(vault).map_err(fail)?;
        rekey::install(&self.disk, seen, old, new)
    }
}
