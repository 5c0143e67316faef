//! Changes to a volume and what makes them last: commits, checkpoints, the end of a mount.

use crate::store::backing::Backing;
use crate::store::change::Change;
use crate::store::error::{Error, Result};
use crate::store::file::DataFile;
use crate::store::journal::{Ended, Journal, Ticket};
use crate::store::superblock::now_ns;
use crate::store::volume::Volume;

/// Whether a volume has a redo journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JournalMode {
    /// What was synced survives a power cut whole.
    #[default]
    Full,
    /// A power cut may tear chunks that are being overwritten.
    Off,
}

impl JournalMode {
    pub const ALL: [Self; 2] = [Self::Full, Self::Off];

    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Off => "off",
        }
    }
}

impl<B: Backing> Volume<B> {
    /// The journal of a volume that is open for writing and has one.
    pub fn journal(&self) -> Option<&Journal<B>> {
        self.journal.as_ref()
    }

    /// Begins a change. It should be short: a checkpoint waits for it.
    pub fn change(&self) -> Change<'_, B> {
        Change::new(self, self.journal())
    }

    /// Makes a group of the journal durable.
    pub fn commit(&self, ticket: Ticket) -> Result<()> {
        match self.journal() {
            Some(journal) => self.latch_on_failure(journal.commit(self.backing(), ticket)),
            None => Ok(()),
        }
    }

    /// Makes everything in the journal durable. Answers whether there was anything that was not.
    pub fn commit_all(&self) -> Result<bool> {
        match self.journal() {
            Some(journal) => self.latch_on_failure(journal.commit_all(self.backing())),
            None => Ok(false),
        }
    }

    fn latch_on_failure<T>(&self, done: Result<T>) -> Result<T> {
        if self.journal().is_some_and(Journal::has_failed) {
            self.latch_read_only(
                "the journal could not be made durable; unmount, look after the disk, and mount again",
            );
        }
        done
    }

    /// Begins a new turn of the journal.
    pub fn switch_turn(&self) -> Result<Option<Ended>> {
        let (Some(journal), Some(sequencer)) = (self.journal(), &self.sequencer) else {
            return Ok(None);
        };
        self.check_writable()?;
        let switched = journal.switch(self.backing(), || sequencer.peek(), now_ns);
        self.latch_on_failure(switched).map(Some)
    }

    /// Everything of a turn that has ended was applied: makes that durable, and the turn's segment free.
    pub fn retire_turn(&self, ended: &Ended, was_full: bool) -> Result<()> {
        let (Some(journal), Some(sequencer)) = (self.journal(), &self.sequencer) else {
            return Ok(());
        };
        self.backing().sync_all()?;
        sequencer.retire(self.backing(), self.keys(), ended)?;
        Ok(journal.retired(self.backing(), ended, was_full)?)
    }

    /// Completes a file that is being closed. A failure is remembered, for there is no one left to tell.
    pub fn close_file(&self, change: &Change<'_, B>, file: &DataFile<B>) {
        if let Err(e) = file.settle(change) {
            self.set_unsettled();
            log::error!("a file could not be completed when it was closed: {e}");
        }
        file.note_closed(change);
    }

    /// Marks the volume as left clean. Called once, when everything is closed, and everything of turn `ended` applied.
    pub fn close(&self, ended: Option<&Ended>) -> Result<()> {
        let Some(sequencer) = &self.sequencer else {
            return Ok(());
        };
        if self.journal().is_some_and(Journal::has_failed) {
            return Err(Error::JournalFailed);
        }
        self.backing().sync_all()?;
        Ok(sequencer.close(self.backing(), self.keys(), ended, self.is_unsettled())?)
    }
}
