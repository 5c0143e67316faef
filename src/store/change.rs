//! A change to the volume under way: it belongs to one turn of the journal, which lasts until the change has ended.

use std::sync::RwLockReadGuard;

use crate::crypto::WriteSeq;
use crate::format::ids::FileId;
use crate::format::journal::Record;
use crate::store::backing::Backing;
use crate::store::error::Result;
use crate::store::journal::{Entry, Journal, Ticket};
use crate::store::volume::Volume;

/// Tells where a file is.
pub type PlaceOf<'a> = Box<dyn Fn() -> FilePlace + 'a>;

/// What is known of the place of a file.
#[derive(Debug)]
pub enum FilePlace {
    Unknown,
    /// Its last name was removed.
    Removed,
    /// The path of its entry in stored names.
    Path(Vec<u8>),
}

/// See the module. One thread holds at most one.
pub struct Change<'a, B: Backing> {
    pub volume: &'a Volume<B>,
    turn: Option<RwLockReadGuard<'a, u64>>,
    place: Option<PlaceOf<'a>>,
}

impl<B: Backing> std::fmt::Debug for Change<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change")
            .field("turn", &self.turn())
            .finish()
    }
}

impl<'a, B: Backing> Change<'a, B> {
    pub(super) fn new(volume: &'a Volume<B>, journal: Option<&'a Journal<B>>) -> Self {
        Self {
            volume,
            turn: journal.map(Journal::hold_turn),
            place: None,
        }
    }

    /// The change is one of a file, whose place can be asked for.
    pub fn at(mut self, place: PlaceOf<'a>) -> Self {
        self.place = Some(place);
        self
    }

    /// Where the file is: for its first group in a turn.
    pub(super) fn place(&self) -> FilePlace {
        self.place
            .as_ref()
            .map_or(FilePlace::Unknown, |place| place())
    }

    /// The turn, 0 where there is no journal.
    pub fn turn(&self) -> u64 {
        self.turn.as_ref().map_or(0, |turn| **turn)
    }

    /// The journal, where there is one.
    pub fn journal(&self) -> Option<&'a Journal<B>> {
        self.volume.journal()
    }

    /// Appends a group to the journal, which there is.
    pub(super) fn append(
        &self,
        seq: WriteSeq,
        file: Option<FileId>,
        records: &[Record],
        data: &[u8],
    ) -> Result<Ticket> {
        let journal = self.journal().expect("asked for before");
        let entry = Entry {
            seq,
            file,
            records,
            data,
        };
        journal.append(self.volume.backing(), self.volume.keys(), entry)
    }

    /// Appends a record about directories, if there is a journal.
    pub fn note(&self, record: Record) -> Result<()> {
        if self.journal().is_some() {
            self.append(self.volume.next_seq()?, None, &[record], &[])?;
        }
        Ok(())
    }

    /// Lets files in directory `dir`, which lies at `path`, be written without records for the rest of the turn.
    pub fn cover(&self, dir: u64, path: impl FnOnce() -> Option<Vec<u8>>) -> Result<()> {
        let Some(journal) = self.journal() else {
            return Ok(());
        };
        if journal.marks.is_covered(dir, self.turn()) {
            return Ok(());
        }
        // A directory without a name takes its files with it.
        let Some(path) = path() else { return Ok(()) };
        let record = Record::Cover { ino: dir, path };
        let ticket = self.append(self.volume.next_seq()?, None, &[record], &[])?;
        self.volume.commit(ticket)?;
        journal.marks.cover(dir, self.turn());
        Ok(())
    }
}
