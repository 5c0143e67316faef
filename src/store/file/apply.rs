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

/// What is to be applied.
#[derive(Debug)]
struct Work {
    images: Vec<(u64, Image)>,
    size: u64,
    cut: bool,
    /// What has to be durable first.
    ticket: Option<Ticket>,
}

/// Images are written in runs of at most so many bytes and one chunk.
const RUN: usize = 1 << 20;
/// The edges of so many runs are read together.
const READ_AHEAD: usize = 64;
/// A run of few pages is read whole.
const FEW_PAGES: u64 = 16 << 10;

/// Cuts images into runs that lie side by side in the file, where a whole one has `whole` bytes.
fn runs(whole: usize, images: &[(u64, Image)]) -> Vec<&[(u64, Image)]> {
    let most = RUN.div_ceil(whole);
    let side_by_side =
        |a: &(u64, Image), b: &(u64, Image)| a.0 + 1 == b.0 && a.1.stored.len() == whole;
    images
        .chunk_by(side_by_side)
        .flat_map(|run| run.chunks(most))
        .collect()
}

fn len_of(run: &[(u64, Image)]) -> u64 {
    run.iter().map(|(_, image)| image.stored.len() as u64).sum()
}

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
        self.state().is_pending()
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
        let work = {
            let mut state = self.state();
            if !state.is_pending() {
                return Ok(());
            }
            state.applying = state.mtime.take();
            Work {
                images: state.overlay.snapshot(),
                size: state.size,
                cut: state.cut_pending,
                ticket: (images_are == Images::Committed).then_some(state.ticket),
            }
        };
        let done = self
            .put_work(volume, &work)
            .and_then(|()| self.put_mtime(volume));
        let mut state = self.state();
        if done.is_err() {
            state.mtime = state.mtime.or(state.applying);
        }
        state.applying = None;
        done?;
        state.kept = None;
        let removed: usize = work
            .images
            .iter()
            .map(|(no, image)| state.overlay.applied(*no, image.ticket))
            .sum();
        state.home_end = state.home_end.max(work.size).min(state.size);
        if work.cut {
            state.cut_pending = false;
        }
        // A time that was set meanwhile waits for the content written meanwhile, if there is any.
        if !state.is_pending() {
            state.applying = state.mtime.take();
        }
        drop(state);
        journal.count_overlay(0, removed as u64);
        let done = self.put_mtime(volume);
        self.state().applying = None;
        done
    }

    fn put_work(&self, volume: &Volume<B>, work: &Work) -> Result<()> {
        if let Some(ticket) = work.ticket {
            volume.commit(ticket)?;
        }
        self.put_images(volume, work)?;
        if work.cut {
            self.cut(volume, work.size)?;
        }
        Ok(())
    }

    /// Gives the backing file the time that goes with what was applied.
    fn put_mtime(&self, volume: &Volume<B>) -> Result<()> {
        let mtime = {
            let state = self.state();
            state.applying.or(state.kept)
        };
        let Some(mtime) = mtime else {
            return Ok(());
        };
        let mtime = SetTime::At(mtime);
        Ok(volume
            .backing()
            .set_times(self.target(), SetTime::Keep, mtime)?)
    }

    fn put_images(&self, volume: &Volume<B>, work: &Work) -> Result<()> {
        let geometry = volume.geometry();
        for runs in runs(geometry.stored_chunk(), &work.images).chunks(READ_AHEAD) {
            let places = || {
                runs.iter()
                    .map(|run| (geometry.stored_start(ChunkNo(run[0].0)), run))
            };
            if work.ticket.is_some() {
                places().for_each(|(start, run)| self.read_edges(volume, start, len_of(run)));
            }
            for (start, run) in places() {
                let mut bytes = Buffer::empty();
                for (_, image) in *run {
                    bytes.append(&image.stored);
                }
                // Not a change that the next sync has to wait for: the journal has it.
                volume
                    .backing()
                    .write_at(self.backing_file(), &bytes, start)
                    .map_err(|(_, e)| e)?;
            }
        }
        Ok(())
    }

    /// Pages of which a part is kept are read by the kernel when they are written: it is told of many before.
    fn read_edges(&self, volume: &Volume<B>, start: u64, len: u64) {
        let (backing, file) = (volume.backing(), self.backing_file());
        if len <= FEW_PAGES {
            backing.will_read(file, start, len);
        } else {
            backing.will_read(file, start, 1);
            backing.will_read(file, start + len - 1, 1);
        }
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
        // What waits with its content needs no lock: nobody is held up here while that is written.
        let mut mtime = self.defer(volume, mtime);
        let _alone = (mtime != SetTime::Keep).then(|| self.lock_applying());
        mtime = self.defer(volume, mtime);
        if mtime != SetTime::Keep {
            self.state().mtime = None;
        }
        if (atime, mtime) == (SetTime::Keep, SetTime::Keep) {
            return Ok(());
        }
        Ok(volume.backing().set_times(self.target(), atime, mtime)?)
    }

    /// Keeps the modification time for later if content waits. Answers what is left to be set now.
    fn defer(&self, volume: &Volume<B>, mtime: SetTime) -> SetTime {
        let mut state = self.state();
        if mtime == SetTime::Keep || !state.is_pending() || volume.journal().is_none() {
            return mtime;
        }
        let now = Time::now();
        state.touched = now;
        state.mtime = Some(match mtime {
            SetTime::At(time) => time,
            _ => now,
        });
        SetTime::Keep
    }
}
