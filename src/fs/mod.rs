//! POSIX semantics on the encrypted store: inodes, handles, namespace, data and attributes.
//!
//! No FUSE types: everything here can be called without a mount. Inode numbers are the backing filesystem's; the root is
//! [`ROOT`]. Nothing here decides who may do what: the kernel has, by mode and owner, before it asks.
//!
//! Locks, in the order in which they may be taken: moves, checkpoints, turn of the journal (a change), handle table, file table, directory cache, inode shard. Each is held
//! for a table operation only; the locks of [`crate::store`] come below all of them.

mod attr;
mod create;
mod data;
mod dirs;
mod door;
pub mod errno;
pub mod error;
mod files;
mod handles;
mod inodes;
mod listing;
mod moves;
pub mod pace;
mod place;
mod remove;
pub mod rotate;
mod upkeep;
mod xattr;

use std::sync::Arc;

pub use attr::{SetAttr, Space};
pub use create::{Existing, NewMode};
pub use error::{Error, Result};
pub use handles::Fh;
pub use inodes::ROOT;
pub use listing::{Detail, DirEntry};

use crate::fs::dirs::Dirs;
use crate::fs::files::Files;
use crate::fs::handles::Handles;
use crate::fs::inodes::Inodes;
use crate::fs::moves::Moves;
use crate::fs::upkeep::Checkpoints;
use crate::store::backing::{Attr, Backing, Target};
use crate::store::journal::{Journal, Unsynced};
use crate::store::{Dir, Volume};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
}

/// How the filesystem behaves.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Objects belong to the caller who made them. Needs the right to give files away.
    pub own_as_caller: bool,
    /// Access control lists are kept, and default ones applied.
    pub acl: bool,
    /// Directory descriptors kept open beyond those in use.
    pub cached_dirs: usize,
}

/// What the kernel is told of an object.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub attr: Attr,
    pub generation: u64,
}

/// A mounted volume.
#[derive(Debug)]
pub struct Fs<B: Backing> {
    volume: Volume<B>,
    config: Config,
    inodes: Inodes,
    dirs: Dirs<B>,
    files: Files<B>,
    handles: Handles<B>,
    checkpoints: Checkpoints,
    moves: Moves,
    root_ino: u64,
}

impl<B: Backing> Fs<B> {
    pub fn new(volume: Volume<B>, config: Config) -> Result<Self> {
        let root = volume.backing().root()?;
        let root_ino = volume.backing().stat(Target::Dir(&root))?.ino;
        Ok(Self {
            dirs: Dirs::new(Dir::new(root, root_ino), config.cached_dirs),
            volume,
            config,
            inodes: Inodes::default(),
            files: Files::default(),
            handles: Handles::default(),
            checkpoints: Checkpoints::default(),
            moves: Moves::default(),
            root_ino,
        })
    }

    pub fn volume(&self) -> &Volume<B> {
        &self.volume
    }

    /// Inodes that the kernel knows, and handles that programs hold.
    pub fn counts(&self) -> (usize, usize) {
        (self.inodes.len(), self.handles.len())
    }

    /// Completes every file that is still open and marks the volume as left clean.
    pub fn close(&self) -> Result<()> {
        for file in self.files.all()? {
            self.close_data(&file);
        }
        // A journal that has failed is left as it is: the next mount finds in it what can be promised.
        let failed = self.volume.journal().is_some_and(Journal::has_failed);
        let ended = if failed { None } else { self.end_turn()? };
        Ok(self.volume.close(ended.as_ref())?)
    }

    /// Finds an entry. `None` if there is none of that name.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Option<Entry>> {
        if name == b"." || name == b".." {
            return self.lookup_dot(parent, name).map(Some);
        }
        let dir = self.dir(parent)?;
        match self.entry_at(parent, &dir, name) {
            Err(e) if e.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    }

    /// An export over NFS asks for an inode by its number, and for its parent.
    fn lookup_dot(&self, ino: u64, name: &[u8]) -> Result<Entry> {
        let ino = if name == b"." || ino == ROOT {
            ino
        } else {
            self.inodes.parent(ino)?
        };
        let attr = self.getattr(ino)?;
        let generation = match ino {
            ROOT => 0,
            _ => {
                let (place, _) = self.inodes.places(ino)?;
                self.inodes.remember(ino, place.parent, &place.name)?
            }
        };
        Ok(Entry { attr, generation })
    }

    /// Reads the attributes of an entry and counts it as known to the kernel.
    fn entry_at(&self, parent: u64, dir: &Dir<B>, name: &[u8]) -> Result<Entry> {
        let (sealed, attr) = dir.lookup(&self.volume, name)?;
        let attr = self.plain_attr(dir, &sealed.entry, attr)?;
        let generation = self.inodes.remember(attr.ino, parent, name)?;
        Ok(Entry { attr, generation })
    }

    /// The kernel has forgotten `ino` so many times.
    pub fn forget(&self, ino: u64, lookups: u64) -> Result<()> {
        if ino == ROOT {
            Ok(())
        } else {
            self.inodes.forget(ino, lookups)
        }
    }

    /// Calls `op` with the directory and the stored name of `ino`, trying its other names if the first one is not it.
    fn at_place<R>(&self, ino: u64, op: impl Fn(&Dir<B>, &[u8], u64) -> Result<R>) -> Result<R> {
        let (place, others) = self.inodes.places(ino)?;
        let mut outcome = Err(Error::Stale);
        for place in std::iter::once(place).chain(others) {
            let dir = self.dir(place.parent)?;
            let sealed = dir.seal(&self.volume, &place.name)?;
            outcome = op(&dir, &sealed.entry, place.parent);
            match &outcome {
                Err(Error::Stale) => {}
                Err(e) if e.is_not_found() => {}
                _ => return outcome,
            }
        }
        outcome.map_err(|e| if e.is_not_found() { Error::Stale } else { e })
    }

    /// Calls `op` on the object `ino`: through its open file or directory where there is one, else by name.
    fn on_object<R>(
        &self,
        ino: u64,
        op: impl Fn(Target<'_, B>) -> std::io::Result<R>,
    ) -> Result<R> {
        if let Some(file) = self.files.get(ino)? {
            return Ok(op(file.data.target())?);
        }
        if let Some(dir) = self.dirs.cached(ino)? {
            return Ok(op(dir.target())?);
        }
        self.at_place(ino, |dir, entry, _| {
            let target = Target::At(dir.handle(), entry);
            if self.volume.backing().stat(target)?.ino != ino {
                return Err(Error::Stale);
            }
            Ok(op(target)?)
        })
    }

    /// Attributes of a file were changed by name: its next sync has to make them durable.
    fn note_attributes(&self, ino: u64) -> Result<()> {
        if let Some(file) = self.files.get(ino)? {
            file.data.note_attributes();
        } else if let Some(journal) = self.volume.journal() {
            let turn = self.volume.change().turn();
            let attributes = Unsynced {
                turn,
                content: false,
            };
            journal.marks.unsynced(ino, attributes);
        }
        Ok(())
    }

    fn file(&self, fh: Fh) -> Result<Arc<files::OpenFile<B>>> {
        self.handles.file(fh)
    }
}
