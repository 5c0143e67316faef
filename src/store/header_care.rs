//! Looking after the volume header: its copies as they are, whether a header belongs to a vault, putting one back, and
//! destroying it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, OFlags, fsync, unlinkat};

use crate::crypto::{VolumeKeys, rand};
use crate::format::FormatError;
use crate::format::volume::{MAGIC, MAX_HEADER_LEN, VolumeHeader};
use crate::store::disk::{Atime, Disk};
use crate::store::header;
use crate::store::layout::{self, HEADER, HEADER_BACKUP, LAST_USED, ROTATION, TMP_DIR};
use crate::store::locked::HeaderLock;
use crate::store::meta;
use crate::store::volume::{Locked, VolumeError};

/// One copy as found.
#[derive(Debug)]
pub struct Copy {
    /// In the vault, as `~wardfs/volume`.
    pub path: PathBuf,
    pub bytes: io::Result<Vec<u8>>,
}

impl Copy {
    /// What is in it.
    ///
    /// # Errors
    /// `None` if it cannot be read.
    pub fn header(&self) -> Result<VolumeHeader, Option<FormatError>> {
        let bytes = self.bytes.as_ref().map_err(|_| None)?;
        VolumeHeader::decode(bytes).map_err(Some)
    }
}

/// Both copies, the first one first, whatever state they are in.
pub fn copies(vault: &Path) -> [Copy; 2] {
    [HEADER, HEADER_BACKUP].map(|name| {
        let path = layout::meta(vault).join(name);
        let file = meta::dir(vault).and_then(|dir| meta::file(&dir, name, OFlags::RDONLY, 0));
        let bytes = file.and_then(read_all);
        Copy { path, bytes }
    })
}

/// The bytes of a header outside a vault; at most as much as a header has.
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    File::open(path).and_then(read_all)
}

fn read_all(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_HEADER_LEN as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the tree of the vault was made with these keys: whether they authenticate the id of its root directory.
pub fn tree_belongs_to(vault: &Path, keys: &VolumeKeys) -> io::Result<bool> {
    let mut record = Vec::new();
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(vault.join("~id"))?
        .take(4096)
        .read_to_end(&mut record)?;
    let mut all = std::iter::once(keys.names()).chain(keys.next_names());
    Ok(all.any(|names| names.parse_dir_record(&record).is_ok()))
}

impl Locked {
    /// The vault with a header that is not the one on its disk, to see whether a secret opens it.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    pub fn with_header(vault: &Path, header: VolumeHeader) -> Result<Self, VolumeError> {
        let disk = Disk::open(vault, Atime::Keep);
        let disk = disk.map_err(|e| VolumeError::io("open the vault's directory", e))?;
        let found = header::Found {
            header,
            from_backup: false,
        };
        Ok(Self { disk, found })
    }

    /// Makes both copies hold a header that somebody has verified.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    pub fn put_back(vault: &Path, restored: &VolumeHeader) -> Result<(), VolumeError> {
        let fail = |e| VolumeError::io("open the vault", e);
        let disk = Disk::open(vault, Atime::Keep).map_err(fail)?;
        let lock = |e| VolumeError::io("lock the volume header", e);
        let _lock = HeaderLock::acquire(vault).map_err(lock)?;
        header::write(&disk, restored)
    }

    /// Mends the copy that is damaged or out of date.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    pub fn heal(&self, vault: &Path) -> Result<(), VolumeError> {
        let lock = |e| VolumeError::io("lock the volume header", e);
        let _lock = HeaderLock::acquire(vault).map_err(lock)?;
        header::heal(&self.disk, self.header())
    }
}

/// Overwrites both copies and whatever is left of others, and removes them. Goes on after a failure, and then reports
/// the first.
pub fn destroy(vault: &Path) -> io::Result<()> {
    let dir = meta::dir(vault)?;
    let _lock = HeaderLock::acquire(vault)?;
    let mut first = Ok(());
    let mut destroy = |dir: &OwnedFd, name: &str| match overwrite(dir, name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound && first.is_ok() => first = Err(e),
        _ => {}
    };
    destroy(&dir, HEADER);
    destroy(&dir, HEADER_BACKUP);
    if let Ok(tmp) = meta::dir_in(&dir, TMP_DIR) {
        for entry in Dir::read_from(&tmp)?.flatten() {
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => destroy(&tmp, name),
            }
        }
    }
    // Only notes.
    for note in [LAST_USED, ROTATION] {
        let _ = unlinkat(&dir, note, AtFlags::empty());
    }
    first.and(Ok(fsync(&dir)?))
}

/// Random bytes, then zeros, both on the disk before the name goes. Of what is no file, or has other names too and is no
/// header, only the name goes: it is somebody else's.
fn overwrite(dir: &OwnedFd, name: &str) -> io::Result<()> {
    let opened = meta::file(dir, name, OFlags::RDWR, 0);
    if let Err(e) = &opened
        && e.kind() == io::ErrorKind::PermissionDenied
    {
        return opened.map(drop);
    }
    if let Ok(file) = opened {
        let metadata = file.metadata()?;
        let mut begin = [0; MAGIC.len()];
        let got = file.read_at(&mut begin, 0)?;
        if metadata.nlink() == 1 || begin[..got] == MAGIC {
            let length = metadata.len().min(MAX_HEADER_LEN as u64 + 1);
            let mut noise = vec![0; length as usize];
            rand::fill(&mut noise);
            file.write_all_at(&noise, 0)?;
            file.sync_all()?;
            noise.fill(0);
            file.write_all_at(&noise, 0)?;
            file.sync_all()?;
        }
    }
    Ok(unlinkat(dir, name, AtFlags::empty())?)
}
