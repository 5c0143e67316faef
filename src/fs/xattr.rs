//! Extended attributes of inodes.

use crate::fs::Fs;
use crate::fs::error::{Error, Result};
use crate::fs::files::OpenFile;
use crate::fs::inodes::ROOT;
use crate::store::backing::{Backing, Kind, OpenFor, SetTime, Target, XattrMode};
use crate::store::xattr::Attributed;

/// Sealed attributes are named so on the backing filesystem; asking for them by that name finds none.
const ACL: &[u8] = b"system.posix_acl_";

impl<B: Backing> Fs<B> {
    pub fn getxattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>> {
        self.check_acl(name)?;
        self.with_attributed(ino, |of| self.volume.get_xattr(of, name))
    }

    pub fn setxattr(&self, ino: u64, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.check_acl(name)?;
        self.with_attributed(ino, |of| self.volume.set_xattr(of, name, value, mode))?;
        self.note_attributes(ino)
    }

    pub fn removexattr(&self, ino: u64, name: &[u8]) -> Result<()> {
        self.check_acl(name)?;
        self.with_attributed(ino, |of| self.volume.remove_xattr(of, name))?;
        self.note_attributes(ino)
    }

    /// Attribute names, each ended by a NUL.
    pub fn listxattr(&self, ino: u64) -> Result<Vec<u8>> {
        let mut listed = self.with_attributed(ino, |of| self.volume.list_xattrs(of))?;
        if !self.config.acl {
            let kept = listed
                .split_inclusive(|b| *b == 0)
                .filter(|n| !n.starts_with(ACL));
            listed = kept.flatten().copied().collect();
        }
        Ok(listed)
    }

    fn check_acl(&self, name: &[u8]) -> Result<()> {
        match name.starts_with(ACL) && !self.config.acl {
            true => Err(Error::Unsupported),
            false => Ok(()),
        }
    }

    /// Calls `op` with the object and with what its sealed attributes are bound to: the id of the file or directory.
    fn with_attributed<R>(
        &self,
        ino: u64,
        op: impl Fn(&Attributed<'_, B>) -> crate::store::Result<R>,
    ) -> Result<R> {
        if ino == ROOT || self.dirs.cached(ino)?.is_some() {
            return self.with_dir_attributed(ino, op);
        }
        if let Some(file) = self.files.get(ino)? {
            let id = || self.id_of_open(&file);
            return Ok(op(&Attributed {
                target: file.data.target(),
                id: &id,
            })?);
        }
        let kind = Kind::of_mode(self.getattr(ino)?.mode);
        if kind == Some(Kind::Dir) {
            return self.with_dir_attributed(ino, op);
        }
        self.at_place(ino, |dir, entry, _| {
            let id = || match kind {
                Some(Kind::File) => self.id_of_closed(ino),
                // The kernel allows no user attributes on links and special files.
                _ => Err(crate::store::Error::Unsupported),
            };
            Ok(op(&Attributed {
                target: Target::At(dir.handle(), entry),
                id: &id,
            })?)
        })
    }

    fn with_dir_attributed<R>(
        &self,
        ino: u64,
        op: impl Fn(&Attributed<'_, B>) -> crate::store::Result<R>,
    ) -> Result<R> {
        let dir = self.dir(ino)?;
        let id = || {
            // Storing the id of an empty directory is no change of the directory.
            let before = dir.attr(&self.volume)?.mtime;
            let id = match self.volume.is_read_only() {
                true => dir.known_id(&self.volume)?,
                false => dir.stored_id(&self.volume)?,
            };
            if dir.attr(&self.volume)?.mtime != before {
                let mtime = SetTime::At(before);
                self.volume
                    .backing()
                    .set_times(dir.target(), SetTime::Keep, mtime)?;
            }
            Ok(id.0.to_vec())
        };
        Ok(op(&Attributed {
            target: dir.target(),
            id: &id,
        })?)
    }

    fn id_of_open(&self, file: &OpenFile<B>) -> crate::store::Result<Vec<u8>> {
        let change = self.covered_change(file).map_err(|e| match e {
            Error::Store(e) => e,
            _ => crate::store::Error::Io(std::io::Error::from_raw_os_error(libc::EIO)),
        })?;
        Ok(file.data.owner_id(&change)?.to_vec())
    }

    fn id_of_closed(&self, ino: u64) -> crate::store::Result<Vec<u8>> {
        let id = || -> Result<Vec<u8>> {
            // What a crash left of a file gets its id first.
            let how = match self.volume.is_read_only() || self.getattr(ino)?.size > 0 {
                true => OpenFor::Read,
                false => OpenFor::ReadWrite,
            };
            let file = self.enter_file(ino, how)?;
            let id = self.id_of_open(&file);
            self.leave_file(&file)?;
            Ok(id?)
        };
        id().map_err(|e| match e {
            Error::Store(e) => e,
            _ => crate::store::Error::Io(std::io::Error::from_raw_os_error(libc::ESTALE)),
        })
    }
}
