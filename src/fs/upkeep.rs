//! What a mounted volume does besides answering: committing the journal, applying it, and beginning a new turn.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::fs::Fs;
use crate::fs::error::Result;
use crate::store::backing::Backing;
use crate::store::journal::{Ended, Journal};

/// Files kept open for nothing but what waits to be applied to them; above that it is applied at once.
const LINGERING: usize = 1000;

/// Free bytes of which the journal may take some for itself.
const ROOM: u64 = 256 << 20;

/// Checkpoints, one at a time. A turn that has ended stays here until it is retired.
#[derive(Debug, Default)]
pub struct Checkpoints {
    pending: Mutex<Option<Ended>>,
}

/// Why a checkpoint is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Because {
    SegmentIsFilling,
    Asked,
}

impl<B: Backing> Fs<B> {
    /// Makes durable what is in the journal. To be called every now and then. Answers whether there was anything.
    pub fn commit(&self) -> Result<bool> {
        Ok(self.volume.commit_all()?)
    }

    /// Writes what is committed into the files, so that a copy of the vault has it there. What is overwritten again and
    /// again is written as often as this is called.
    pub fn apply(&self) -> Result<()> {
        let _one = self.checkpoints();
        self.apply_all()?;
        self.files.reap()
    }

    /// Applies the journal and makes everything written so far durable in its place.
    pub fn checkpoint(&self) -> Result<()> {
        self.checkpoint_with(&mut self.checkpoints(), Because::Asked)
    }

    fn checkpoints(&self) -> MutexGuard<'_, Option<Ended>> {
        self.checkpoints
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the turn and applies what it holds, for the volume to be closed. Answers the turn, which is to be retired.
    pub(super) fn end_turn(&self) -> Result<Option<Ended>> {
        let mut pending = self.checkpoints();
        let ended = self.ended_turn(&mut pending)?;
        if ended.is_some() {
            self.apply_all()?;
        }
        Ok(ended)
    }

    /// The turn that ended and is not retired yet, or the current one, ended now if it was used.
    fn ended_turn(&self, pending: &mut Option<Ended>) -> Result<Option<Ended>> {
        let is_used = self.volume.journal().is_some_and(Journal::is_used);
        if pending.is_none() && is_used {
            *pending = self.volume.switch_turn()?;
        }
        Ok(*pending)
    }

    fn checkpoint_with(&self, pending: &mut Option<Ended>, because: Because) -> Result<()> {
        let Some(ended) = self.ended_turn(pending)? else {
            return Ok(());
        };
        self.apply_all()?;
        let was_full = because == Because::SegmentIsFilling && self.has_room();
        self.volume.retire_turn(&ended, was_full)?;
        *pending = None;
        self.files.reap()
    }

    fn apply_all(&self) -> Result<()> {
        let mut done = Ok(());
        for file in self.files.all()? {
            if let Err(e) = file.data.apply(&self.volume) {
                log::error!(
                    "inode {}: what the journal holds of it cannot be applied yet: {e}",
                    file.ino
                );
                done = Err(e.into());
            }
        }
        done
    }

    /// Waits until every change that is under way has ended.
    pub(super) fn quiesce(&self) {
        if let Some(journal) = self.volume.journal() {
            journal.quiesce();
        }
    }

    /// Makes everything durable in its place that is in the journal now, and the turns that hold it free.
    pub(super) fn settle_journal(&self) -> Result<()> {
        let mut pending = self.checkpoints();
        if pending.is_some() {
            self.checkpoint_with(&mut pending, Because::Asked)?;
        }
        self.checkpoint_with(&mut pending, Because::Asked)
    }

    /// Whether the journal may grow: on a disk that is nearly full it is slow, but leaves the space to the files.
    fn has_room(&self) -> bool {
        let space = self.volume.backing().space();
        space.is_ok_and(|s| s.blocks_available.saturating_mul(s.fragment_size.into()) > ROOM)
    }

    /// Called after a write: whoever fills the journal, or the memory for what is to be applied, empties it.
    pub(super) fn relieve(&self) -> Result<()> {
        if let Err(e) = self.try_relieve() {
            // The write itself is in the journal. Who syncs is told if that does not last.
            log::error!("the journal could not be applied, which will be tried again: {e}");
        }
        Ok(())
    }

    /// The same for who can wait until it succeeds.
    pub(super) fn try_relieve(&self) -> Result<()> {
        let Some(journal) = self.volume.journal() else {
            return Ok(());
        };
        let filling = journal.is_filling();
        if !filling && !journal.is_overlay_full() && self.files.lingering() < LINGERING {
            return Ok(());
        }
        let mut pending = self.checkpoints();
        if journal.is_filling() {
            self.checkpoint_with(&mut pending, Because::SegmentIsFilling)
        } else if journal.is_overlay_full() || self.files.lingering() >= LINGERING {
            self.apply_all().and_then(|()| self.files.reap())
        } else {
            Ok(())
        }
    }
}
