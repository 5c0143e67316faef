//! What of the tree is not yet on the disk for certain, turn by turn: directories covered, directories made, files
//! written and not synced.
//!
//! By inode number, since that is how the same object is met again. A mark that is missing costs a flush, never data.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

/// See the module.
#[derive(Debug, Default)]
pub struct Marks {
    tables: Mutex<Tables>,
}

/// Inode → the turn of the mark.
#[derive(Debug, Default)]
struct Tables {
    covered: HashMap<u64, u64>,
    made: HashMap<u64, u64>,
    unsynced: HashMap<u64, Unsynced>,
}

/// What the next sync of a file has to make durable.
#[derive(Debug, Clone, Copy)]
pub struct Unsynced {
    pub turn: u64,
    /// Content, and perhaps the file itself; otherwise attributes alone.
    pub content: bool,
}

impl Marks {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables
            .lock()
            .expect("no code that panics runs under this lock")
    }

    /// The directory's Cover record of this turn is durable.
    pub fn cover(&self, dir: u64, turn: u64) {
        self.tables().covered.insert(dir, turn);
    }

    pub fn is_covered(&self, dir: u64, turn: u64) -> bool {
        self.tables().covered.get(&dir) == Some(&turn)
    }

    /// The directory was made in this turn.
    pub fn made(&self, dir: u64, turn: u64) {
        self.tables().made.insert(dir, turn);
    }

    pub fn was_made(&self, dir: u64, turn: u64) -> bool {
        self.tables().made.get(&dir) == Some(&turn)
    }

    /// The directory was removed: its number may come back as another.
    pub fn removed(&self, dir: u64) {
        let mut tables = self.tables();
        tables.made.remove(&dir);
        tables.covered.remove(&dir);
    }

    /// The file was closed with something that was not synced.
    pub fn unsynced(&self, file: u64, mark: Unsynced) {
        let mut tables = self.tables();
        let marked = tables.unsynced.entry(file).or_insert(mark);
        *marked = Unsynced {
            turn: mark.turn,
            content: mark.content || marked.content,
        };
    }

    /// What of the file was not synced; it need not be remembered any longer.
    pub fn take_unsynced(&self, file: u64) -> Option<Unsynced> {
        self.tables().unsynced.remove(&file)
    }

    /// Everything up to the end of `turn` is on the disk.
    pub(super) fn forget(&self, turn: u64) {
        let tables = &mut *self.tables();
        for table in [&mut tables.covered, &mut tables.made] {
            table.retain(|_, marked| *marked > turn);
        }
        tables.unsynced.retain(|_, marked| marked.turn > turn);
    }
}
