//! Where everything that authenticates is written out in plaintext: the salvage directory.
//!
//! Attributes that this machine or user cannot give (owners, some extended attributes) are left out.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::AtFlags;

use crate::content::run::is_zero;
use crate::store::backing::{Attr, Backing, SetTime, Target, XattrMode};
use crate::store::disk::{Atime, Disk};

/// Zeros of this length are left as holes.
const HOLE: usize = 4096;

/// The salvage directory.
#[derive(Debug)]
pub struct Salvage {
    disk: Disk,
    root: OwnedFd,
    failed: Mutex<Option<io::Error>>,
}

/// A directory in it. Its attributes are set when everything in it is written: when this is dropped.
#[derive(Debug)]
pub struct OutDir {
    salvage: Arc<Salvage>,
    dir: OwnedFd,
    attr: Attr,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A file in it that is being written.
#[derive(Debug)]
pub struct OutFile {
    salvage: Arc<Salvage>,
    file: OwnedFd,
}

impl Salvage {
    /// Into `dir`, an empty directory.
    pub fn open(dir: &Path) -> io::Result<Arc<Self>> {
        let disk = Disk::open(dir, Atime::Backing)?;
        Ok(Arc::new(Self {
            root: disk.root()?,
            disk,
            failed: Mutex::new(None),
        }))
    }

    pub fn root(self: &Arc<Self>, attr: Attr) -> io::Result<OutDir> {
        Ok(OutDir {
            dir: self.disk.root()?,
            salvage: Arc::clone(self),
            attr,
            xattrs: Vec::new(),
        })
    }

    /// Whether writing has failed, so that going on is of no use.
    pub fn has_failed(&self) -> bool {
        self.failure().is_some()
    }

    /// Remembers the first failure of writing.
    pub fn note<T>(&self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(done) => Some(done),
            Err(e) => {
                self.failure().get_or_insert(e);
                None
            }
        }
    }

    fn failure(&self) -> std::sync::MutexGuard<'_, Option<io::Error>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// The first one of all the writing.
    pub fn finish(&self) -> io::Result<()> {
        match self.failure().take() {
            Some(e) => Err(e),
            None => self.disk.sync_all(),
        }
    }

    fn dress(&self, target: Target<'_, Disk>, attr: &Attr) -> io::Result<()> {
        // Only root can give files away.
        let _ = self.disk.chown(target, Some(attr.uid), Some(attr.gid));
        self.disk.chmod(target, attr.mode & 0o7777)?;
        let (atime, mtime) = (SetTime::At(attr.atime), SetTime::At(attr.mtime));
        self.disk.set_times(target, atime, mtime)
    }

    fn put_xattrs(&self, target: Target<'_, Disk>, xattrs: &[(Vec<u8>, Vec<u8>)]) {
        for (name, value) in xattrs {
            let _ = self.disk.set_xattr(target, name, value, XattrMode::Any);
        }
    }
}

impl OutDir {
    pub fn salvage(&self) -> &Arc<Salvage> {
        &self.salvage
    }

    pub fn make_dir(&self, name: &[u8], attr: Attr) -> io::Result<OutDir> {
        let disk = &self.salvage.disk;
        disk.mkdir(&self.dir, name, 0o700)?;
        Ok(OutDir {
            dir: disk.open_dir(&self.dir, name)?,
            salvage: Arc::clone(&self.salvage),
            attr,
            xattrs: Vec::new(),
        })
    }

    /// Attributes that the directory is to have in the end.
    pub fn give_xattrs(&mut self, xattrs: Vec<(Vec<u8>, Vec<u8>)>) {
        self.xattrs = xattrs;
    }

    /// A new file of `size` bytes, all of them a hole.
    pub fn make_file(&self, name: &[u8], size: u64) -> io::Result<OutFile> {
        let disk = &self.salvage.disk;
        let file = disk.create(&self.dir, name, 0o600)?;
        disk.set_len(&file, size)?;
        Ok(OutFile {
            salvage: Arc::clone(&self.salvage),
            file,
        })
    }

    pub fn make_symlink(&self, name: &[u8], target: &[u8], attr: &Attr) -> io::Result<()> {
        let disk = &self.salvage.disk;
        disk.symlink(&self.dir, name, target)?;
        let at = Target::At(&self.dir, name);
        let _ = disk.chown(at, Some(attr.uid), Some(attr.gid));
        let (atime, mtime) = (SetTime::At(attr.atime), SetTime::At(attr.mtime));
        disk.set_times(at, atime, mtime)
    }

    /// A fifo, socket or device node; only root can make the latter.
    pub fn make_special(&self, name: &[u8], attr: &Attr) -> io::Result<()> {
        let disk = &self.salvage.disk;
        disk.mknod(&self.dir, name, attr.mode, attr.rdev)?;
        self.salvage.dress(Target::At(&self.dir, name), attr)
    }

    /// Another name for what was written at `path`, relative to the salvage directory.
    pub fn link(&self, path: &[u8], name: &[u8]) -> io::Result<()> {
        let (root, flags) = (&self.salvage.root, AtFlags::empty());
        Ok(rustix::fs::linkat(root, path, &self.dir, name, flags)?)
    }
}

impl OutFile {
    pub fn salvage(&self) -> &Arc<Salvage> {
        &self.salvage
    }

    /// Writes plaintext at `off`; zeros stay holes.
    pub fn write(&self, off: u64, plain: &[u8]) -> io::Result<()> {
        let mut at = 0;
        while at < plain.len() {
            let rest = &plain[at..];
            let data = data_len(rest);
            if data > 0 {
                let done = self
                    .salvage
                    .disk
                    .write_at(&self.file, &rest[..data], off + at as u64);
                done.map_err(|(_, e)| e)?;
            }
            at += data.max(HOLE.min(rest.len()));
        }
        Ok(())
    }

    /// Gives it the owner, mode and times of the original.
    pub fn finish(&self, attr: &Attr, xattrs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
        let target = Target::File(&self.file);
        self.salvage.put_xattrs(target, xattrs);
        self.salvage.dress(target, attr)
    }
}

/// How many bytes there are before the first piece of zeros.
fn data_len(plain: &[u8]) -> usize {
    let pieces = plain.chunks(HOLE);
    let data = pieces.take_while(|p| !is_zero(p));
    data.map(<[u8]>::len).sum()
}

impl Drop for OutDir {
    fn drop(&mut self) {
        let target = Target::Dir(&self.dir);
        self.salvage.put_xattrs(target, &self.xattrs);
        let dressed = self.salvage.dress(target, &self.attr);
        self.salvage.note(dressed);
    }
}
