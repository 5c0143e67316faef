//! From the overlay to the backing file, and both to the disk.

use std::sync::{MutexGuard, PoisonError};

use crate::content::Buffer;
use crate::crypto::ChunkNo;
use crate::store::backing::{Backing, SetTime, Sync, Time};
use crate::store::change::Change;
use crate::store::error::Result;
use crate::store::file::DataFile;
use crate::store::file::overlay::Image;
use crate::store::journal::Ticket;
use crate::store::range_lock::ChunkRange;
use crate::store::volume::Volume;

/// What has to hold of images before they overwrite anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Images {
    /// They are durable in the journal.
    Committed,
    /// Nothing of the file has to survive a power cut yet.
    OfNewFile,
}

/// Images are written in runs of at most so many bytes and one chunk.
const RUN: usize = 1 << 20;

impl<B: Backing> DataFile<B> {
    /// Makes the content durable, and with [`Sync::All`] the attributes.
    ///
    /// The change ends before the disk is waited for.
    pub fn sync(&self, change: Change<'_, B>, what: Sync) -> Result<()> {
        self.settle(&change)?;
        let volume = change.volume;
        let (ticket, failed_before) = {
            // Writes that are under way end first: from here on these chunks must survive.
            let _quiet = self.ranges.shared(ChunkRange::from(ChunkNo(0)));
            let is_new = {
                let mut state = self.state();
                state.turn_state(change.turn());
                state.stable_end.is_none()
            };
            if is_new {
                // All of it gets into the file by one flush, also what is in the journal in case this process dies.
                self.apply_images(volume, Images::OfNewFile, &self.lock_applying())?;
            }
            let mut state = self.state();
            if !state.fresh {
                state.stable_end = Some(state.size);
            }
            let ticket = if is_new {
                Ticket::default()
            } else {
                state.ticket
            };
            (ticket, state.failed_syncs)
        };
        drop(change);
        self.sync_backing(volume, what, failed_before)?;
        volume.commit(ticket)?;
        self.state().undurable_since = None;
        Ok(())
    }

    /// Syncs the backing file, unless nothing has changed in it. Whoever comes while another one syncs waits for that and
    /// shares its error: the kernel tells of a failure only once, and the content may be of either.
    fn sync_backing(&self, volume: &Volume<B>, what: Sync, failed_before: u64) -> Result<()> {
        // It protects no data: only the order of syncs.
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (direct, attributes) = {
            let mut state = self.state();
            if state.failed_syncs != failed_before {
                return Err(std::io::Error::from_raw_os_error(libc::EIO).into());
            }
            let direct = std::mem::replace(&mut state.direct, volume.journal().is_none());
            let attributes = what == Sync::All && std::mem::take(&mut state.attributes);
            (direct, attributes)
        };
        if !direct && !attributes {
            return Ok(());
        }
        volume
            .backing()
            .sync(self.backing_file(), what)
            .map_err(|e| {
                let mut state = self.state();
                state.direct |= direct;
                state.attributes |= attributes;
                state.failed_syncs += 1;
                e.into()
            })
    }

    /// Attributes were changed that the next sync must make durable.
    pub fn note_attributes(&self) {
        self.state().attributes = true;
    }

    /// Whether content waits in the overlay.
    pub fn is_pending(&self) -> bool {
        let state = self.state();
        !state.overlay.is_empty() || state.cut_pending
    }

    /// Writes what is in the overlay to the backing file, after it was committed. What fails stays in the overlay.
    pub fn apply(&self, volume: &Volume<B>) -> Result<()> {
        self.apply_alone(volume, &self.lock_applying())
    }

    /// Forgets the overlay of a file that has no name and no user any more.
    pub fn discard(&self, volume: &Volume<B>) {
        let removed = self.state().overlay.remove(ChunkNo(0), ChunkNo(u64::MAX));
        if let Some(journal) = volume.journal() {
            journal.count_overlay(0, removed as u64);
        }
    }

    pub(super) fn lock_applying(&self) -> MutexGuard<'_, ()> {
        // It protects no data: only the order of writes.
        self.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn apply_alone(&self, volume: &Volume<B>, alone: &MutexGuard<'_, ()>) -> Result<()> {
        self.apply_images(volume, Images::Committed, alone)
    }

    fn apply_images(
        &self,
        volume: &Volume<B>,
        images_are: Images,
        _alone: &MutexGuard<'_, ()>,
    ) -> Result<()> {
        let Some(journal) = volume.journal() else {
            return Ok(());
        };
        let (images, ticket, size, cut, (mtime, kept)) = {
            let state = self.state();
            if state.overlay.is_empty() && !state.cut_pending {
                return Ok(());
            }
            (
                state.overlay.snapshot(),
                state.ticket,
                state.size,
                state.cut_pending,
                (state.mtime, state.kept),
            )
        };
        if images_are == Images::Committed {
            volume.commit(ticket)?;
        }
        self.put_images(volume, &images)?;
        if cut {
            self.cut(volume, size)?;
        }
        if let Some(mtime) = mtime.or(kept) {
            let mtime = SetTime::At(mtime);
            volume
                .backing()
                .set_times(self.target(), SetTime::Keep, mtime)?;
        }
        let mut state = self.state();
        if state.mtime == mtime {
            state.mtime = None;
        }
        state.kept = None;
        let removed: usize = images
            .iter()
            .map(|(no, image)| state.overlay.applied(*no, image.ticket))
            .sum();
        state.home_end = state.home_end.max(size).min(state.size);
        if cut {
            state.cut_pending = false;
        }
        drop(state);
        journal.count_overlay(0, removed as u64);
        Ok(())
    }

    fn put_images(&self, volume: &Volume<B>, images: &[(u64, Image)]) -> Result<()> {
        let geometry = volume.geometry();
        let whole = geometry.stored_chunk();
        let mut rest = images;
        while let Some((first, _)) = rest.first() {
            let first = ChunkNo(*first);
            let mut run = Buffer::empty();
            let mut taken = 0;
            for (i, (no, image)) in rest.iter().enumerate() {
                let follows = *no == first.0 + i as u64 && run.len() == i * whole;
                if !follows || run.len() >= RUN {
                    break;
                }
                run.append(&image.stored);
                taken += 1;
            }
            // Not a change that the next sync has to wait for: the journal has it.
            volume
                .backing()
                .write_at(self.backing_file(), &run, geometry.stored_start(first))
                .map_err(|(_, e)| e)?;
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// Does something to the backing file of which its modification time is to tell nothing.
    pub(super) fn keep_mtime(
        &self,
        volume: &Volume<B>,
        op: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let before = volume.backing().stat(self.target())?;
        op()?;
        let mtime = SetTime::At(before.mtime);
        Ok(volume
            .backing()
            .set_times(self.target(), SetTime::Keep, mtime)?)
    }

    /// Sets the times. While content waits to be applied, its modification time waits with it.
    pub fn set_times(&self, volume: &Volume<B>, atime: SetTime, mtime: SetTime) -> Result<()> {
        let _alone = self.lock_applying();
        let mtime = match mtime {
            SetTime::Keep => SetTime::Keep,
            _ if !self.is_pending() || volume.journal().is_none() => {
                self.state().mtime = None;
                mtime
            }
            _ => {
                let now = Time::now();
                let mut state = self.state();
                state.touched = now;
                state.mtime = Some(match mtime {
                    SetTime::At(time) => time,
                    _ => now,
                });
                SetTime::Keep
            }
        };
        if (atime, mtime) == (SetTime::Keep, SetTime::Keep) {
            return Ok(());
        }
        Ok(volume.backing().set_times(self.target(), atime, mtime)?)
    }
}
