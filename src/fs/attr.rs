//! Attributes: reading them as the plaintext object has them, and changing them.

use crate::fs::error::{Error, Result};
use crate::fs::files::OpenFile;
use crate::fs::inodes::ROOT;
use crate::fs::{Caller, Fs};
use crate::store::Dir;
use crate::store::backing::{Attr, Backing, Kind, OpenFor, SetTime, Target};

pub use crate::store::backing::Space;

const SETUID: u32 = libc::S_ISUID;
const SETGID: u32 = libc::S_ISGID;
const GROUP_EXEC: u32 = libc::S_IXGRP;

/// What a SETATTR changes.
#[derive(Debug, Clone, Copy)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: SetTime,
    pub mtime: SetTime,
}

impl<B: Backing> Fs<B> {
    pub fn getattr(&self, ino: u64) -> Result<Attr> {
        if let Some(file) = self.files.get(ino)? {
            return Ok(file.data.attr(&self.volume)?);
        }
        if let Some(dir) = self.dirs.cached(ino)? {
            return Ok(self.plain_dir_attr(dir.attr(&self.volume)?));
        }
        self.at_place(ino, |dir, entry, _| {
            let attr = self
                .volume
                .backing()
                .stat(Target::At(dir.handle(), entry))?;
            if attr.ino != ino {
                return Err(Error::Stale);
            }
            self.plain_attr(dir, entry, attr)
        })
    }

    /// Attributes of an entry as its plaintext object has them.
    pub(super) fn plain_attr(&self, dir: &Dir<B>, entry: &[u8], attr: Attr) -> Result<Attr> {
        Ok(match attr.kind() {
            Kind::File => match self.files.get(attr.ino)? {
                Some(file) => file.data.plain_attr(attr),
                None => Attr {
                    size: self.volume.plain_size_of(&attr),
                    ..attr
                },
            },
            Kind::Symlink => Attr {
                size: self.volume.target_len(dir, entry, &attr)?,
                ..attr
            },
            Kind::Dir => self.plain_dir_attr(attr),
            _ => attr,
        })
    }

    /// The root has another number, and one subdirectory that is not shown.
    fn plain_dir_attr(&self, attr: Attr) -> Attr {
        if attr.ino == self.root_ino {
            Attr {
                ino: ROOT,
                nlink: attr.nlink.saturating_sub(1).max(2),
                ..attr
            }
        } else {
            attr
        }
    }

    pub fn setattr(&self, caller: Caller, ino: u64, set: &SetAttr) -> Result<Attr> {
        self.volume.check_writable()?;
        if let Some(size) = set.size {
            let file = self.enter_file(ino, OpenFor::ReadWrite)?;
            let done = self.resize(&file, size);
            let done = done.and_then(|()| self.drop_privileges(caller, file.data.target()));
            self.leave_file(&file)?;
            done?;
        }
        if (set.mode, set.uid, set.gid) != (None, None, None) {
            let changed = self.set_permissions(ino, set);
            // Afterwards: a sync or checkpoint that is made meanwhile may not have seen it.
            self.note_attributes(ino)?;
            changed?;
        }
        if (set.atime, set.mtime) != (SetTime::Keep, SetTime::Keep) {
            let changed = self.set_times(ino, set);
            // Who sets times sets both, as a rule. A time of change alone is the kernel's, which follows each write to
            // its cache: no sync of content is to wait for that.
            if set.atime != SetTime::Keep {
                self.note_attributes(ino)?;
            }
            changed?;
        }
        self.getattr(ino)
    }

    fn set_permissions(&self, ino: u64, set: &SetAttr) -> Result<()> {
        let backing = self.volume.backing();
        if let Some(mode) = set.mode {
            self.on_object(ino, |target| backing.chmod(target, mode & 0o7777))?;
        }
        if set.uid.is_some() || set.gid.is_some() {
            self.on_object(ino, |target| backing.chown(target, set.uid, set.gid))?;
        }
        Ok(())
    }

    fn set_times(&self, ino: u64, set: &SetAttr) -> Result<()> {
        let Some(file) = self.files.get(ino)? else {
            let backing = self.volume.backing();
            return self.on_object(ino, |t| backing.set_times(t, set.atime, set.mtime));
        };
        // What completes the file comes before its times.
        file.data.settle(&self.change_of(ino))?;
        file.note_mtime(set.mtime);
        Ok(file.data.set_times(&self.volume, set.atime, set.mtime)?)
    }

    /// Sets the size of an open file. Its modification time moves on even if it had that size, as ftruncate(2) has it.
    pub(super) fn resize(&self, file: &OpenFile<B>, size: u64) -> Result<()> {
        let change = self.covered_change(file)?;
        file.data.set_size(&change, size)?;
        Ok(file
            .data
            .set_times(&self.volume, SetTime::Keep, SetTime::Now)?)
    }

    /// Clears the set-user-id and set-group-id bits, as a change of content by an ordinary user does.
    pub(super) fn drop_privileges(&self, caller: Caller, target: Target<'_, B>) -> Result<()> {
        if caller.uid == 0 {
            return Ok(());
        }
        let backing = self.volume.backing();
        let mode = backing.stat(target)?.mode;
        let mut dropped = mode & !SETUID;
        if mode & GROUP_EXEC != 0 {
            dropped &= !SETGID;
        }
        if dropped != mode {
            backing.chmod(target, dropped & 0o7777)?;
        }
        Ok(())
    }

    pub fn readlink(&self, ino: u64) -> Result<Vec<u8>> {
        self.at_place(ino, |dir, entry, _| {
            if self
                .volume
                .backing()
                .stat(Target::At(dir.handle(), entry))?
                .ino
                != ino
            {
                return Err(Error::Stale);
            }
            Ok(self.volume.read_target(dir, entry)?)
        })
    }

    pub fn statfs(&self) -> Result<Space> {
        Ok(Space {
            name_max: 255,
            ..self.volume.backing().space()?
        })
    }
}
