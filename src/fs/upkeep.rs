//! What a mounted volume does besides answering: committing the journal, applying it, and beginning a new turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::fs::Fs;
use crate::fs::error::Result;
use crate::store::backing::Backing;
use crate::store::journal::{Ended, Fill, Journal};

/// Files kept open for nothing but what waits to be applied to them; above that it is applied soon.
const LINGERING: usize = 1000;
/// Above that whoever adds another one does it.
const LINGERING_MOST: usize = 2 * LINGERING;

/// Free bytes of which the journal may take some for itself.
const ROOM: u64 = 256 << 20;

/// Checkpoints, one at a time. A turn that has ended stays here until it is retired.
#[derive(Debug, Default)]
pub struct Checkpoints {
    pending: Mutex<Option<Ended>>,
    /// The last one that was due has failed.
    stuck: AtomicBool,
    /// Rings for the thread that makes them, if there is one. A leaf lock.
    bell: Mutex<Option<SyncSender<()>>>,
}

/// How much it presses that what waits is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Press {
    No,
    /// There is time until it is done elsewhere.
    Soon,
    Now,
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

    /// Rings `bell` from now on when [`Fs::relieve`] should be called, instead of leaving it to those who write.
    pub fn attend(&self, bell: SyncSender<()>) {
        *self.bell() = Some(bell);
    }

    /// Nobody listens to the bell any more.
    pub fn unattended(&self) {
        *self.bell() = None;
    }

    fn bell(&self) -> MutexGuard<'_, Option<SyncSender<()>>> {
        self.checkpoints
            .bell
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn press(&self, journal: &Journal<B>) -> Press {
        let (fill, lingering) = (journal.fill(), self.files.lingering());
        if fill == Fill::All || journal.is_overlay_full() || lingering >= LINGERING_MOST {
            Press::Now
        } else if fill == Fill::Half || journal.is_overlay_filling() || lingering >= LINGERING {
            Press::Soon
        } else {
            Press::No
        }
    }

    /// Called before a change that goes into the journal, while none is held: where the journal and the memory are used up
    /// and cannot be emptied, nothing more is taken that would have no place.
    pub(super) fn admit(&self) -> Result<()> {
        // As long as all goes well nobody waits here for those who append.
        if !self.checkpoints.stuck.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.volume.journal() {
            Some(journal) if journal.fill() == Fill::All || journal.is_overlay_full() => {
                self.try_relieve()
            }
            _ => Ok(()),
        }
    }

    /// Called after a write: a journal that fills, or the memory for what is to be applied, is emptied. As long as there is
    /// room the writer does not wait for it.
    pub(super) fn after_write(&self) {
        let Some(journal) = self.volume.journal() else {
            return;
        };
        let press = self.press(journal);
        if press == Press::Now || press == Press::Soon && !self.ring() {
            self.relieve();
        }
    }

    /// Answers whether anybody hears it.
    fn ring(&self) -> bool {
        let unheard = Err(TrySendError::Disconnected(()));
        // If it rings already, that is enough.
        (self.bell().as_ref()).is_some_and(|bell| bell.try_send(()) != unheard)
    }

    /// Empties the journal and the memory for what is to be applied, where they fill.
    pub fn relieve(&self) {
        if let Err(e) = self.try_relieve() {
            // The write itself is in the journal. Who syncs is told if that does not last.
            log::error!("the journal could not be applied, which will be tried again: {e}");
        }
    }

    /// The same for who can wait until it succeeds.
    pub(super) fn try_relieve(&self) -> Result<()> {
        let done = self.empty_what_fills();
        self.checkpoints
            .stuck
            .store(done.is_err(), Ordering::Relaxed);
        done
    }

    fn empty_what_fills(&self) -> Result<()> {
        let Some(journal) = self.volume.journal() else {
            return Ok(());
        };
        if self.press(journal) == Press::No {
            return Ok(());
        }
        let mut pending = self.checkpoints();
        if journal.fill() >= Fill::Half {
            self.checkpoint_with(&mut pending, Because::SegmentIsFilling)
        } else if self.press(journal) > Press::No {
            self.apply_all().and_then(|()| self.files.reap())
        } else {
            Ok(())
        }
    }
}
