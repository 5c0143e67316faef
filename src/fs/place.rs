//! Where things are, in stored names: for the journal, which must find them again after a crash.

use crate::fs::Fs;
use crate::fs::error::Result;
use crate::fs::files::OpenFile;
use crate::fs::inodes::ROOT;
use crate::store::Change;
use crate::store::backing::Backing;
use crate::store::change::FilePlace;

/// Deeper paths are not stored: recovery then searches.
const DEEPEST: usize = 4096;

impl<B: Backing> Fs<B> {
    /// Begins a change of the file `ino`.
    pub(super) fn change_of(&self, ino: u64) -> Change<'_, B> {
        self.volume.change().at(Box::new(move || {
            let Ok((place, _)) = self.inodes.places(ino) else {
                return match self.inodes.is_gone(ino) {
                    true => FilePlace::Removed,
                    false => FilePlace::Unknown,
                };
            };
            self.stored_path(place.parent, Some(&place.name))
                .map_or(FilePlace::Unknown, FilePlace::Path)
        }))
    }

    /// Begins a change of the file `ino` that was found at `path`, which the kernel need not know.
    pub(super) fn change_found<'p>(&'p self, ino: u64, path: &'p [u8]) -> Change<'p, B> {
        match self.inodes.is_known(ino) {
            true => self.change_of(ino),
            false => {
                let place = || FilePlace::Path(path.to_vec());
                self.volume.change().at(Box::new(place))
            }
        }
    }

    /// The same of a file that is open now.
    pub(super) fn found_change<'p>(
        &'p self,
        file: &OpenFile<B>,
        path: &'p [u8],
    ) -> Result<Change<'p, B>> {
        match self.inodes.is_known(file.ino) {
            true => self.covered_change(file),
            false => Ok(self.change_found(file.ino, path)),
        }
    }

    /// Begins a change of an open file. The directories of a new one are covered, so that it may be written straight.
    pub(super) fn covered_change(&self, file: &OpenFile<B>) -> Result<Change<'_, B>> {
        let change = self.change_of(file.ino);
        if file.data.needs_cover(&change) {
            if let Ok((place, others)) = self.inodes.places(file.ino) {
                for place in std::iter::once(place).chain(others) {
                    self.cover(&change, place.parent)?;
                }
            }
            file.data.set_covered(&change);
        }
        Ok(change)
    }

    /// Covers a directory: of those on its path that were made in this turn, the one above them.
    pub(super) fn cover(&self, change: &Change<'_, B>, ino: u64) -> Result<()> {
        let Some(journal) = change.journal() else {
            return Ok(());
        };
        let mut at = ino;
        while at != ROOT && journal.marks.was_made(at, change.turn()) {
            match self.inodes.parent(at) {
                Ok(parent) => at = parent,
                // It was removed, and what is in it with it.
                Err(_) => return Ok(()),
            }
        }
        Ok(change.cover(self.backing_ino(at), || self.stored_path(at, None))?)
    }

    /// The number of a directory on the backing filesystem.
    fn backing_ino(&self, ino: u64) -> u64 {
        if ino == ROOT { self.root_ino } else { ino }
    }

    /// The path of directory `dir`, and of the entry `name` in it. `None` if it has none, or too long a one.
    pub(super) fn stored_path(&self, dir: u64, name: Option<&[u8]>) -> Option<Vec<u8>> {
        let mut parts = Vec::new();
        let mut at = dir;
        let mut name = name.map(Box::from);
        loop {
            if let Some(name) = name.take() {
                let dir = self.dir(at).ok()?;
                let name: Box<[u8]> = name;
                parts.push(dir.seal(&self.volume, &name).ok()?.entry);
            }
            if at == ROOT {
                break;
            }
            let (place, _) = self.inodes.places(at).ok()?;
            (at, name) = (place.parent, Some(place.name));
            if parts.len() > DEEPEST {
                return None;
            }
        }
        parts.reverse();
        Some(parts.join(&b'/'))
    }
}
