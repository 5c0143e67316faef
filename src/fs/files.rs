//! Files in use: one [`DataFile`] per inode, however many handles there are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use crate::fs::Fs;
use crate::fs::error::{Error, Result};
use crate::store::DataFile;
use crate::store::backing::{Attr, Backing, OpenFor, SetTime, Target, Time};

/// A file in use.
#[derive(Debug)]
pub struct OpenFile<B: Backing> {
    pub ino: u64,
    pub data: DataFile<B>,
    /// Leaf lock, held for a few instructions.
    told: Mutex<Option<ToldTime>>,
}

/// The modification time as the kernel last got or set it. With its writeback cache the kernel keeps this time itself
/// and does not expect that pages which it sends later change it.
#[derive(Debug, Clone, Copy)]
struct ToldTime {
    mtime: Time,
    /// Cached pages were written after it, and the backing filesystem has moved the time on.
    moved: bool,
}

impl<B: Backing> OpenFile<B> {
    fn told(&self) -> MutexGuard<'_, Option<ToldTime>> {
        self.told
            .lock()
            .expect("no code that panics runs under this lock")
    }

    /// To be called before the time is set.
    pub(super) fn note_mtime(&self, mtime: SetTime) {
        match mtime {
            SetTime::Keep => {}
            SetTime::Now => *self.told() = None,
            SetTime::At(mtime) => {
                *self.told() = Some(ToldTime {
                    mtime,
                    moved: false,
                })
            }
        }
    }

    /// To be called after the write.
    pub(super) fn note_cached_write(&self) {
        if let Some(told) = self.told().as_mut() {
            told.moved = true;
        }
    }

    pub(super) fn note_direct_write(&self) {
        *self.told() = None;
    }

    /// The time that cached writes have moved on.
    fn take_moved(&self) -> Option<Time> {
        self.told()
            .take_if(|told| told.moved)
            .map(|told| told.mtime)
    }
}

#[derive(Debug)]
struct Counted<B: Backing> {
    file: Arc<OpenFile<B>>,
    users: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Files<B: Backing> {
    open: RwLock<HashMap<u64, Counted<B>>>,
}

impl<B: Backing> Default for Files<B> {
    fn default() -> Self {
        Self {
            open: RwLock::default(),
        }
    }
}

impl<B: Backing> Files<B> {
    /// The file, if it is in use.
    pub fn get(&self, ino: u64) -> Result<Option<Arc<OpenFile<B>>>> {
        let open = self.open.read().map_err(|_| Error::Poisoned)?;
        Ok(open.get(&ino).map(|c| c.file.clone()))
    }

    /// Adds one user, or the file with its first one.
    fn enter(
        &self,
        ino: u64,
        make: impl FnOnce() -> Result<(DataFile<B>, Time)>,
    ) -> Result<Arc<OpenFile<B>>> {
        let mut open = self.open.write().map_err(|_| Error::Poisoned)?;
        if let Some(counted) = open.get_mut(&ino) {
            counted.users += 1;
            return Ok(counted.file.clone());
        }
        let (data, mtime) = make()?;
        let told = Mutex::new(Some(ToldTime {
            mtime,
            moved: false,
        }));
        let file = Arc::new(OpenFile { ino, data, told });
        open.insert(
            ino,
            Counted {
                file: file.clone(),
                users: 1,
            },
        );
        Ok(file)
    }

    fn join(&self, ino: u64) -> Result<Option<Arc<OpenFile<B>>>> {
        let mut open = self.open.write().map_err(|_| Error::Poisoned)?;
        Ok(open.get_mut(&ino).map(|counted| {
            counted.users += 1;
            counted.file.clone()
        }))
    }

    /// Takes one user away unless it is the last. Answers whether it did.
    fn leave_to_others(&self, ino: u64) -> Result<bool> {
        let mut open = self.open.write().map_err(|_| Error::Poisoned)?;
        match open.get_mut(&ino) {
            Some(counted) if counted.users > 1 => {
                counted.users -= 1;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn leave(&self, ino: u64) -> Result<()> {
        let mut open = self.open.write().map_err(|_| Error::Poisoned)?;
        if let Some(counted) = open.get_mut(&ino) {
            counted.users -= 1;
            if counted.users == 0 {
                open.remove(&ino);
            }
        }
        Ok(())
    }

    /// All files in use.
    pub fn all(&self) -> Result<Vec<Arc<OpenFile<B>>>> {
        let open = self.open.read().map_err(|_| Error::Poisoned)?;
        Ok(open.values().map(|c| c.file.clone()).collect())
    }
}

impl<B: Backing> Fs<B> {
    /// Adds a user of the file `ino`. Ends with [`Fs::leave_file`].
    pub(super) fn enter_file(&self, ino: u64, how: OpenFor) -> Result<Arc<OpenFile<B>>> {
        if let Some(file) = self.files.join(ino)? {
            if how == OpenFor::Read || file.data.is_writable() {
                return Ok(file);
            }
            match self.open_backing(ino, how) {
                Ok(opened) => file.data.make_writable(opened),
                Err(e) => {
                    self.leave_file(&file)?;
                    return Err(e);
                }
            }
            return Ok(file);
        }
        let opened = self.open_backing(ino, how)?;
        let volume = &self.volume;
        // Its size is read where no one can be writing to it: whoever writes is in the table.
        let file = self.files.enter(ino, || {
            let attr = volume.backing().stat(Target::File(&opened))?;
            Ok((DataFile::open(volume, opened, how, &attr), attr.mtime))
        })?;
        if how == OpenFor::ReadWrite && !file.data.is_writable() {
            // Someone else opened it for reading in between.
            match self.open_backing(ino, how) {
                Ok(opened) => file.data.make_writable(opened),
                Err(e) => {
                    self.leave_file(&file)?;
                    return Err(e);
                }
            }
        }
        Ok(file)
    }

    /// Adds a file that was just created, with its first user.
    pub(super) fn enter_new_file(&self, attr: &Attr, created: B::File) -> Result<Arc<OpenFile<B>>> {
        self.files.enter(attr.ino, || {
            Ok((DataFile::create(&self.volume, created), attr.mtime))
        })
    }

    /// Ends what [`Fs::enter_file`] began. The last user completes the file first.
    pub(super) fn leave_file(&self, file: &OpenFile<B>) -> Result<()> {
        if self.files.leave_to_others(file.ino)? {
            return Ok(());
        }
        self.volume.close_file(&file.data);
        if let Some(mtime) = file.take_moved() {
            let mtime = SetTime::At(mtime);
            if let Err(e) =
                self.volume
                    .backing()
                    .set_times(file.data.target(), SetTime::Keep, mtime)
            {
                log::warn!(
                    "inode {}: its modification time stays that of its last write: {e}",
                    file.ino
                );
            }
        }
        self.files.leave(file.ino)
    }

    fn open_backing(&self, ino: u64, how: OpenFor) -> Result<B::File> {
        self.at_place(ino, |dir, entry, _| {
            let file = self.volume.backing().open(dir.handle(), entry, how)?;
            let attr = self.volume.backing().stat(Target::File(&file))?;
            if attr.ino == ino {
                Ok(file)
            } else {
                Err(Error::Stale)
            }
        })
    }
}
