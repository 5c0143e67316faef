//! Making entries: files, directories, links and special files, with the owner and mode they should have.

use std::sync::Arc;

use crate::fs::error::{Error, Result};
use crate::fs::handles::Fh;
use crate::fs::{Caller, Entry, Fs};
use crate::store::backing::{Attr, Backing, Kind, Target};
use crate::store::{Dir, Error as StoreError};

/// The mode a program asked for and the umask it has.
#[derive(Debug, Clone, Copy)]
pub struct NewMode {
    pub mode: u32,
    pub umask: u32,
}

/// Whether an existing file may be opened instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    Open,
    Refuse,
}

const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
const SPECIAL_BITS: u32 = libc::S_ISUID | libc::S_ISGID;

impl<B: Backing> Fs<B> {
    /// Creates a regular file and opens it.
    pub fn create(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        new: NewMode,
        existing: Existing,
    ) -> Result<(Entry, Fh)> {
        let dir = self.dir(parent)?;
        let mode = self.effective_mode(&dir, new)?;
        let change = self.volume.change();
        match self.volume.create_file(&dir, name, mode & 0o7777) {
            Ok(file) => {
                let target = Target::File(&file);
                let attr = self.adopt(caller, &dir, name, target, mode, |dir, name| {
                    self.volume.remove(dir, name).map(drop)
                })?;
                let opened = self.enter_new_file(&change, &attr, file)?;
                let attr = Attr { size: 0, ..attr };
                let generation = self.inodes.remember(attr.ino, parent, name)?;
                self.inodes.note_opened(attr.ino)?;
                Ok((Entry { attr, generation }, self.handles.add_file(opened)?))
            }
            Err(StoreError::Io(e))
                if existing == Existing::Open && e.raw_os_error() == Some(libc::EEXIST) =>
            {
                drop(change);
                let entry = self.entry_at(parent, &dir, name)?;
                let opened = self.open(entry.attr.ino, libc::O_RDWR);
                if opened.is_err() {
                    self.forget(entry.attr.ino, 1)?;
                }
                Ok((entry, opened?))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Creates a fifo, socket or device node, or a regular file without opening it.
    pub fn mknod(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        new: NewMode,
        rdev: u64,
    ) -> Result<Entry> {
        if Kind::of_mode(new.mode).is_none_or(|k| k == Kind::File) {
            let (entry, fh) = self.create(caller, parent, name, new, Existing::Refuse)?;
            self.release(fh)?;
            return Ok(entry);
        }
        let dir = self.dir(parent)?;
        let mode = self.effective_mode(&dir, new)?;
        self.volume.create_special(&dir, name, mode, rdev)?;
        self.adopt_named(caller, parent, &dir, name, mode)
    }

    pub fn mkdir(&self, caller: Caller, parent: u64, name: &[u8], new: NewMode) -> Result<Entry> {
        let dir = self.dir(parent)?;
        let mode = self.effective_mode(&dir, new)?;
        let change = self.volume.change();
        self.volume.create_dir(&dir, name, mode & 0o7777)?;
        // A directory under a set-group-id one has inherited that bit: only what is asked for is set again.
        let made = self.adopt_named(caller, parent, &dir, name, mode & libc::S_ISUID)?;
        if let Some(journal) = change.journal() {
            journal.marks.made(made.attr.ino, change.turn());
        }
        drop(change);
        if made.attr.mode & libc::S_IRWXU == libc::S_IRWXU {
            // It is made: should this fail, whoever uses the directory will be told.
            let _ = self.keep_new_dir(&dir, name, made.attr.ino);
        }
        Ok(made)
    }

    pub fn symlink(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        target: &[u8],
    ) -> Result<Entry> {
        let dir = self.dir(parent)?;
        self.volume.create_symlink(&dir, name, target)?;
        self.adopt_named(caller, parent, &dir, name, 0)
    }

    pub fn link(&self, ino: u64, parent: u64, name: &[u8]) -> Result<Entry> {
        let to = self.dir(parent)?;
        let moving = self.moves.begin();
        self.at_place(ino, |from, entry, from_ino| {
            if self
                .volume
                .backing()
                .stat(Target::At(from.handle(), entry))?
                .ino
                != ino
            {
                return Err(Error::Stale);
            }
            if from_ino == parent {
                return Ok(self.volume.link((from, entry), (&to, name))?);
            }
            // The file may have been synced: the id must not be younger on the disk than the entry.
            to.stored_id(&self.volume)?;
            self.make_path_durable(parent)?;
            let change = self.volume.change();
            self.cover(&change, parent)?;
            Ok(self.volume.link((from, entry), (&to, name))?)
        })?;
        moving.note(|| self.stored_path(parent, Some(name)));
        drop(moving);
        self.note_attributes(ino)?;
        self.entry_at(parent, &to, name)
    }

    fn adopt_named(
        &self,
        caller: Caller,
        parent: u64,
        dir: &Arc<Dir<B>>,
        name: &[u8],
        mode: u32,
    ) -> Result<Entry> {
        let sealed = dir.seal(&self.volume, name)?;
        let target = Target::At(dir.handle(), &sealed.entry);
        let attr = self.adopt(caller, dir, name, target, mode, |dir, name| {
            let attr = self.volume.backing().stat(target)?;
            match attr.kind() {
                Kind::Dir => Ok(self.volume.backing().rmdir(dir.handle(), &sealed.entry)?),
                _ => self.volume.remove(dir, name).map(drop),
            }
        })?;
        let attr = self.plain_attr(dir, &sealed.entry, attr)?;
        let generation = self.inodes.remember(attr.ino, parent, name)?;
        Ok(Entry { attr, generation })
    }

    /// Gives a new object to the caller, and answers its attributes. What cannot be given (a quota) is removed again.
    fn adopt(
        &self,
        caller: Caller,
        dir: &Dir<B>,
        name: &[u8],
        target: Target<'_, B>,
        mode: u32,
        remove: impl FnOnce(&Dir<B>, &[u8]) -> crate::store::Result<()>,
    ) -> Result<Attr> {
        let backing = self.volume.backing();
        let attr = backing.stat(target)?;
        if !self.config.own_as_caller || (attr.uid, attr.gid) == (caller.uid, caller.gid) {
            return Ok(attr);
        }
        let inherits_group = dir.attr(&self.volume)?.mode & libc::S_ISGID != 0;
        let gid = if inherits_group { attr.gid } else { caller.gid };
        let given = backing
            .chown(target, Some(caller.uid), Some(gid))
            .and_then(|()| {
                // Giving a file away clears these bits.
                match mode & SPECIAL_BITS {
                    0 => Ok(()),
                    bits => backing.chmod(target, attr.mode & 0o7777 | bits),
                }
            });
        if let Err(e) = given {
            remove(dir, name)?;
            return Err(e.into());
        }
        Ok(backing.stat(target)?)
    }

    /// Where access control lists are kept, the kernel leaves the umask to us: a default list takes its place.
    fn effective_mode(&self, dir: &Dir<B>, new: NewMode) -> Result<u32> {
        if !self.config.acl {
            return Ok(new.mode);
        }
        match self.volume.backing().get_xattr(dir.target(), DEFAULT_ACL) {
            Ok(_) => Ok(new.mode),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => {
                Ok(new.mode & !new.umask)
            }
            Err(e) => Err(e.into()),
        }
    }
}
