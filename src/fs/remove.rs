//! Removing and renaming entries.

use std::sync::Arc;

use crate::format::journal::Record;
use crate::fs::Fs;
use crate::fs::error::{Error, Result};
use crate::store::backing::{Attr, Backing, Kind, RenameMode, Target};
use crate::store::namespace::Replaced;
use crate::store::{Change, Dir};

/// What keeps the inode number of an entry from being given to another object: who makes a file with the number before all
/// that is known by it was forgotten gets the old one's pages and size from the kernel.
#[derive(Debug)]
enum Held<B: Backing> {
    Dir(Arc<Dir<B>>),
    Other(B::Pin),
}

impl<B: Backing> Held<B> {
    fn dir(&self) -> Option<&Dir<B>> {
        match self {
            Self::Dir(dir) => Some(dir),
            Self::Other(_) => None,
        }
    }
}

impl<B: Backing> Fs<B> {
    pub fn unlink(&self, parent: u64, name: &[u8]) -> Result<()> {
        let dir = self.dir(parent)?;
        let removed = self.volume.remove(&dir, name)?;
        let was = removed.attr;
        let last = was.nlink <= 1;
        if last {
            self.note_gone(was.ino)?;
        }
        self.inodes.removed(was.ino, parent, name, last)
    }

    /// The last name of a file was removed.
    fn note_gone(&self, ino: u64) -> Result<()> {
        if let Some(file) = self.files.get(ino)? {
            if let Err(e) = file.data.note_gone(&self.volume.change()) {
                // Recovery would search for it, no more.
                log::debug!("inode {ino}: its end is not in the journal: {e}");
            }
            self.files.removed(ino, &self.volume)?;
        }
        Ok(())
    }

    pub fn rmdir(&self, parent: u64, name: &[u8]) -> Result<()> {
        let dir = self.dir(parent)?;
        let (victim, attr) = self.open_entry(parent, &dir, name)?;
        let victim = victim.dir().ok_or(Error::NotDirectory)?;
        self.volume.remove_dir(&dir, name, victim)?;
        if let Some(journal) = self.volume.journal() {
            journal.marks.removed(attr.ino);
        }
        self.dirs.removed(attr.ino)?;
        self.inodes.removed(attr.ino, parent, name, true)
    }

    pub fn rename(&self, from: (u64, &[u8]), to: (u64, &[u8]), mode: RenameMode) -> Result<()> {
        let moving = self.moves.begin();
        let (old_dir, new_dir) = (self.dir(from.0)?, self.dir(to.0)?);
        let (_, moved) = old_dir.lookup(&self.volume, from.1)?;
        let target = match self.open_entry(to.0, &new_dir, to.1) {
            Err(e) if e.is_not_found() => None,
            other => Some(other?),
        };
        let replaced = target.as_ref().map(|(held, attr)| Replaced {
            attr: *attr,
            dir: held.dir(),
        });
        if from.0 != to.0 {
            // What comes here may have been synced: the id must not be younger on the disk than the entry.
            new_dir.stored_id(&self.volume)?;
            self.make_path_durable(to.0)?;
        }
        let change = self.volume.change();
        if from.0 != to.0 {
            // Files that were written straight may come to light in either.
            self.cover(&change, from.0)?;
            self.cover(&change, to.0)?;
        }
        let exchanged = (mode == RenameMode::Exchange)
            .then(|| target.as_ref().map(|(_, attr)| *attr))
            .flatten();
        if moved.kind() == Kind::Dir || exchanged.is_some_and(|a| a.kind() == Kind::Dir) {
            self.note_moved(&change, from, to)?;
        }
        self.volume
            .rename((&old_dir, from.1), (&new_dir, to.1), mode, replaced)?;
        drop(change);
        moving.note(|| self.stored_path(to.0, Some(to.1)));
        if exchanged.is_some() {
            moving.note(|| self.stored_path(from.0, Some(from.1)));
        }
        drop(moving);
        self.note_renamed(from, to, mode, moved, target)?;
        for attr in std::iter::once(moved).chain(exchanged) {
            self.note_attributes(attr.ino)?;
            if let Some(file) = self.files.get(attr.ino)? {
                file.data.note_place(&self.change_of(attr.ino))?;
            }
        }
        Ok(())
    }

    /// What lies below a directory that is renamed has another path from now on.
    fn note_moved(
        &self,
        change: &Change<'_, B>,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
    ) -> Result<()> {
        if change.journal().is_none_or(|journal| !journal.is_used()) {
            return Ok(());
        }
        let (Some(from), Some(to)) = (
            self.stored_path(from.0, Some(from.1)),
            self.stored_path(to.0, Some(to.1)),
        ) else {
            return Ok(());
        };
        Ok(change.note(Record::Moved { from, to })?)
    }

    /// The inodes are where they are now.
    fn note_renamed(
        &self,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        mode: RenameMode,
        moved: Attr,
        target: Option<(Held<B>, Attr)>,
    ) -> Result<()> {
        match (mode, target) {
            (_, Some((_, other))) if other.ino == moved.ino => Ok(()),
            (RenameMode::Exchange, Some((_, other))) => {
                self.inodes.moved(other.ino, to, from)?;
                self.inodes.moved(moved.ino, from, to)
            }
            (_, target) => {
                if let Some((held, was)) = &target {
                    let is_dir = held.dir().is_some();
                    if is_dir {
                        self.dirs.removed(was.ino)?;
                    }
                    let last = is_dir || was.nlink <= 1;
                    if last && !is_dir {
                        self.note_gone(was.ino)?;
                    }
                    self.inodes.removed(was.ino, to.0, to.1, last)?;
                }
                self.inodes.moved(moved.ino, from, to)
            }
        }
    }

    /// An entry that is to be removed or replaced, held, and its attributes.
    fn open_entry(&self, parent: u64, dir: &Dir<B>, name: &[u8]) -> Result<(Held<B>, Attr)> {
        let (sealed, attr) = dir.lookup(&self.volume, name)?;
        if attr.kind() != Kind::Dir {
            let pin = self.volume.backing().pin(dir.handle(), &sealed.entry)?;
            return Ok((Held::Other(pin), attr));
        }
        let opened = match self.dirs.cached(attr.ino)? {
            Some(open) => open,
            None if self.inodes.parent(attr.ino).is_ok_and(|p| p == parent) => {
                self.dir(attr.ino)?
            }
            None => {
                let handle = self
                    .volume
                    .backing()
                    .open_dir(dir.handle(), &sealed.entry)?;
                Arc::new(Dir::new(handle, attr.ino))
            }
        };
        // What was looked up and what was opened must be one directory.
        let same = self
            .volume
            .backing()
            .stat(Target::Dir(opened.handle()))?
            .ino
            == attr.ino;
        if same {
            Ok((Held::Dir(opened), attr))
        } else {
            Err(Error::Stale)
        }
    }
}
