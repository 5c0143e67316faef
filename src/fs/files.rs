//! Files in use: one [`DataFile`] per inode, however many handles there are.
//!
//! A file that nobody uses any more lingers while something waits to be applied to it: who opens it then must see that.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use crate::fs::Fs;
use crate::fs::door::{Alone, Door};
use crate::fs::error::{Error, Result};
use crate::store::backing::{Attr, Backing, OpenFor, SetTime, Target, Time};
use crate::store::{Change, DataFile, Volume};

/// A file in use.
#[derive(Debug)]
pub struct OpenFile<B: Backing> {
    pub ino: u64,
    pub data: DataFile<B>,
    /// Leaf lock, held for a few instructions.
    told: Mutex<Option<ToldTime>>,
    door: Arc<Door>,
}

/// How a file is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entrance {
    Shared,
    /// The first user closes the door behind himself.
    Alone,
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
    /// How many users there have been.
    entered: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Files<B: Backing> {
    open: RwLock<HashMap<u64, Counted<B>>>,
    /// Files in `open` without users.
    lingering: AtomicUsize,
}

impl<B: Backing> Default for Files<B> {
    fn default() -> Self {
        Self {
            open: RwLock::default(),
            lingering: AtomicUsize::new(0),
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
    ///
    /// Answers whether it is the first one. Whoever is not has to pass the door.
    fn enter(
        &self,
        ino: u64,
        entrance: Entrance,
        make: impl FnOnce() -> Result<(DataFile<B>, Time)>,
    ) -> Result<(Arc<OpenFile<B>>, bool)> {
        let mut open = self.open.write().map_err(|_| Error::Poisoned)?;
        if let Some(counted) = open.get_mut(&ino) {
            return Ok((self.join_counted(counted), false));
        }
        let (data, mtime) = make()?;
        let told = Mutex::new(Some(ToldTime {
            mtime,
            moved: false,
        }));
        let door = match entrance {
            Entrance::Shared => Door::default(),
            Entrance::Alone => Door::closed(),
        };
        let file = Arc::new(OpenFile {
            ino,
            data,
            told,
            door: Arc::new(door),
        });
        open.insert(
            ino,
            Counted {
                file: file.clone(),
                users: 1,
                entered: 1,
            },
        );
        Ok((file, true))
    }

    fn join(&self, ino: u64) -> Result<Option<Arc<OpenFile<B>>>> {
        let mut open = self.open.write().map_err(|_| Error::Poisoned)?;
        Ok(open.get_mut(&ino).map(|counted| self.join_counted(counted)))
    }

    fn join_counted(&self, counted: &mut Counted<B>) -> Arc<OpenFile<B>> {
        if counted.users == 0 {
            self.lingering.fetch_sub(1, Ordering::Relaxed);
        }
        counted.users += 1;
        counted.entered += 1;
        counted.file.clone()
    }

    /// Takes one user away unless it is the last, who has to close the file first: answers how many there have been then.
    fn leave_to_others(&self, ino: u64) -> Result<Option<u64>> {
        let mut open = self.open.write().map_err(|_| Error::Poisoned)?;
        Ok(match open.get_mut(&ino) {
            Some(counted) if counted.users > 1 => {
                counted.users -= 1;
                None
            }
            Some(counted) => Some(counted.entered),
            None => None,
        })
    }

    /// Takes the last user away, who has closed the file since there had been `entered` of them. Answers whether it did:
    /// not if others came meanwhile, who may have changed the file.
    fn leave(&self, ino: u64, entered: u64) -> Result<bool> {
        let mut open = self.open.write().map_err(|_| Error::Poisoned)?;
        let Some(counted) = open.get_mut(&ino) else {
            return Ok(true);
        };
        if counted.entered != entered {
            return Ok(false);
        }
        counted.users -= 1;
        self.lingering.fetch_add(1, Ordering::Relaxed);
        self.drop_unless_pending(&mut open, ino);
        Ok(true)
    }

    fn drop_unless_pending(&self, open: &mut HashMap<u64, Counted<B>>, ino: u64) {
        if open
            .get(&ino)
            .is_some_and(|c| c.users == 0 && !c.file.data.is_pending())
        {
            open.remove(&ino);
            self.lingering.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets go of the files without users to which everything was applied.
    pub(super) fn reap(&self) -> Result<()> {
        if self.lingering() == 0 {
            return Ok(());
        }
        let mut open = self.open.write().map_err(|_| Error::Poisoned)?;
        let idle: Vec<u64> = open
            .iter()
            .filter(|(_, c)| c.users == 0)
            .map(|(ino, _)| *ino)
            .collect();
        for ino in idle {
            self.drop_unless_pending(&mut open, ino);
        }
        Ok(())
    }

    /// The last name of the file is gone: without users, what waits to be applied to it is of no use.
    pub(super) fn removed(&self, ino: u64, volume: &Volume<B>) -> Result<()> {
        let mut open = self.open.write().map_err(|_| Error::Poisoned)?;
        if let Some(counted) = open.get(&ino)
            && counted.users == 0
        {
            counted.file.data.discard(volume);
            self.drop_unless_pending(&mut open, ino);
        }
        Ok(())
    }

    /// How many files nobody uses.
    pub(super) fn lingering(&self) -> usize {
        self.lingering.load(Ordering::Relaxed)
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
        let (file, _) = self.enter_by(ino, how, Entrance::Shared)?;
        Ok(file)
    }

    /// The same for reading. The first user is alone with the file until he drops what he gets: nobody else opens it or
    /// changes its size before.
    pub(super) fn enter_alone(&self, ino: u64) -> Result<(Arc<OpenFile<B>>, Option<Alone>)> {
        let (file, first) = self.enter_by(ino, OpenFor::Read, Entrance::Alone)?;
        let alone = first.then(|| Alone(file.door.clone()));
        Ok((file, alone))
    }

    fn enter_by(
        &self,
        ino: u64,
        how: OpenFor,
        entrance: Entrance,
    ) -> Result<(Arc<OpenFile<B>>, bool)> {
        let (file, first) = match self.files.join(ino)? {
            Some(file) => (file, false),
            None => {
                let opened = self.open_backing(ino, how)?;
                let change = self.change_of(ino);
                // Its size is read where no one can be writing to it: whoever writes is in the table.
                self.files.enter(ino, entrance, || {
                    let attr = self.volume.backing().stat(Target::File(&opened))?;
                    Ok((DataFile::open(&change, opened, how, &attr), attr.mtime))
                })?
            }
        };
        if !first {
            file.door.pass();
        }
        if how == OpenFor::ReadWrite && !file.data.is_writable() {
            match self.open_backing(ino, how) {
                Ok(opened) => file.data.make_writable(opened),
                Err(e) => {
                    self.leave_file(&file)?;
                    return Err(e);
                }
            }
        }
        Ok((file, first))
    }

    /// Adds a user of a file that was found in the vault, at `path`, and opened for writing. Ends with [`Fs::leave_file`].
    pub(super) fn enter_found(&self, opened: B::File, path: &[u8]) -> Result<Arc<OpenFile<B>>> {
        let ino = self.volume.backing().stat(Target::File(&opened))?.ino;
        let change = self.change_found(ino, path);
        let mut opened = Some(opened);
        // Nobody need wait at the door who changes neither content nor size.
        let (file, _) = self.files.enter(ino, Entrance::Shared, || {
            let opened = opened.take().expect("taken once");
            let attr = self.volume.backing().stat(Target::File(&opened))?;
            let data = DataFile::open(&change, opened, OpenFor::ReadWrite, &attr);
            Ok((data, attr.mtime))
        })?;
        if let Some(opened) = opened.filter(|_| !file.data.is_writable()) {
            file.data.make_writable(opened);
        }
        Ok(file)
    }

    /// Adds a file that was just created, with its first user.
    pub(super) fn enter_new_file(
        &self,
        change: &Change<'_, B>,
        attr: &Attr,
        created: B::File,
    ) -> Result<Arc<OpenFile<B>>> {
        let (file, _) = self.files.enter(attr.ino, Entrance::Shared, || {
            Ok((DataFile::create(change, created, attr.ino), attr.mtime))
        })?;
        Ok(file)
    }

    /// Ends what [`Fs::enter_file`] began. The last user completes the file first.
    pub(super) fn leave_file(&self, file: &OpenFile<B>) -> Result<()> {
        while let Some(entered) = self.files.leave_to_others(file.ino)? {
            self.close_data(file);
            if let Some(mtime) = file.take_moved() {
                let mtime = SetTime::At(mtime);
                if let Err(e) = file.data.set_times(&self.volume, SetTime::Keep, mtime) {
                    log::warn!(
                        "inode {}: its modification time stays that of its last write: {e}",
                        file.ino
                    );
                }
            }
            if self.files.leave(file.ino, entered)? {
                break;
            }
        }
        Ok(())
    }

    /// Completes a file whose last user goes. One that could not yet be written straight may need its directory covered.
    pub(super) fn close_data(&self, file: &OpenFile<B>) {
        match self.covered_change(file) {
            Ok(change) => self.volume.close_file(&change, &file.data),
            Err(_) => self
                .volume
                .close_file(&self.change_of(file.ino), &file.data),
        }
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
