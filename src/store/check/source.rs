//! The vault as a check opens it: once for the check, and again where a running mount has changed it meanwhile.

use std::io;
use std::sync::Arc;

use crate::crypto::VolumeKeys;
use crate::format::volume::VolumeHeader;
use crate::store::backing::Backing;
use crate::store::check::finding::{Finding, Watch};
use crate::store::check::{Mode, PAUSE, Plan, STEADY, Vault, frame};
use crate::store::lock::VaultLock;
use crate::store::upkeep::JournalMode;
use crate::store::volume::{Access, Options, Volume, VolumeError};

/// An unlocked vault.
pub struct Source<'a, B: Backing> {
    /// Opens its directory, each time anew.
    pub backing: &'a (dyn Fn() -> io::Result<B> + Sync),
    /// `None` only for a vault that is mounted elsewhere.
    pub lock: Option<VaultLock>,
    pub keys: Arc<VolumeKeys>,
    pub header: &'a VolumeHeader,
}

impl<B: Backing> std::fmt::Debug for Source<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("lock", &self.lock)
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl<B: Backing> Source<'_, B> {
    fn backing(&self) -> Result<B, VolumeError> {
        (self.backing)().map_err(|e| VolumeError::io("open the vault", e))
    }

    /// Looks at the header copies and the superblock.
    pub(super) fn inspect(&self, vault: Vault) -> Result<Vec<Finding>, VolumeError> {
        frame::inspect(&self.backing()?, &self.keys, self.header, vault)
            .map_err(|e| VolumeError::io("read ~wardfs", e))
    }

    /// Opens the volume, which takes the lock.
    pub(super) fn open(
        &mut self,
        plan: &Plan,
        watch: &dyn Watch<B>,
    ) -> Result<Volume<B>, VolumeError> {
        let progress = |progress| watch.recovering(progress);
        let options = Options {
            // Nothing that a check writes needs a journal.
            journal: JournalMode::Off,
            progress: &progress,
            ..Options::default()
        };
        let access = match plan.mode {
            Mode::Look => Access::ReadOnly,
            Mode::Repair => Access::ReadWrite,
        };
        let mut lock = self.lock.take();
        let mut tries = STEADY;
        loop {
            let (keys, backing) = (Arc::clone(&self.keys), self.backing()?);
            match Volume::on(backing, lock.take(), keys, self.header, access, options) {
                // A running mount may have begun a new segment while the old one was read.
                Err(_) if plan.vault == Vault::Mounted && tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Opens it once more, for reading.
    pub(super) fn open_again(&self) -> Option<Volume<B>> {
        let (keys, options) = (Arc::clone(&self.keys), Options::default());
        let backing = self.backing().ok()?;
        Volume::on(backing, None, keys, self.header, Access::ReadOnly, options).ok()
    }
}
