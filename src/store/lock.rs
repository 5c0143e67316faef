//! A vault is served by one process at a time: an exclusive `flock` on `~wardfs/lock`, with a note of who holds it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::store::layout;

/// Who has a vault mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub host: String,
    pub mountpoint: Option<PathBuf>,
    /// Seconds since 1970.
    pub since: u64,
    /// Whether it is a mount whose content can be rotated meanwhile; not said by one that does not know how to.
    #[serde(default)]
    pub rotation: Option<Rotation>,
}

/// Whether the content of a vault can be rotated while it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rotation {
    Online,
    NoJournal,
    /// It is mounted as a copy of one that was in use.
    Copy,
}

/// The held lock; free again when dropped or when the process ends.
#[derive(Debug)]
pub struct VaultLock {
    _file: Option<File>,
}

/// Why a vault could not be locked.
#[derive(Debug)]
pub enum LockError {
    /// `None` where the holder left no note, as a read-only mount does.
    HeldBy(Option<Holder>),
    Io(io::Error),
}

/// Whether the holder may leave a note in the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    Write,
    /// Of a mount.
    Mount(Rotation),
    /// A read-only mount changes nothing in the vault.
    None,
}

impl VaultLock {
    /// The file that carries the lock of the vault.
    pub fn path(vault: &Path) -> PathBuf {
        layout::lock(vault)
    }

    /// Locks the vault whose root is `vault`.
    pub fn acquire(vault: &Path, mountpoint: Option<&Path>, note: Note) -> Result<Self, LockError> {
        let path = layout::lock(vault);
        let opened = open(&path, note);
        let mut file = match opened {
            // On read-only media without a lock file no one can write either.
            Err(e) if note == Note::None && e.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { _file: None });
            }
            other => other.map_err(LockError::Io)?,
        };
        let locked = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // NFS gives exclusive locks to writers only; a shared one still waits for who writes.
            Err(Errno::BADF) if note == Note::None => {
                flock(&file, FlockOperation::NonBlockingLockShared)
            }
            other => other,
        };
        match locked {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(LockError::HeldBy(read_holder(&mut file))),
            Err(e) => return Err(LockError::Io(e.into())),
        }
        let rotation = match note {
            Note::Mount(rotation) => Some(rotation),
            Note::Write | Note::None => None,
        };
        if note != Note::None {
            write_holder(&mut file, mountpoint, rotation).map_err(LockError::Io)?;
        }
        Ok(Self { _file: Some(file) })
    }

    /// Keeps others from serving the vault while it is only read. Several may do that at once.
    pub fn share(vault: &Path) -> Result<Self, LockError> {
        let mut file = match open(&layout::lock(vault), Note::None) {
            // Without a lock file no one can be serving it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self { _file: None }),
            other => other.map_err(LockError::Io)?,
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(Errno::WOULDBLOCK) => Err(LockError::HeldBy(read_holder(&mut file))),
            Err(e) => Err(LockError::Io(e.into())),
        }
    }

    /// Whether some process holds the vault, and who. `None` if it is free.
    pub fn holder(vault: &Path) -> io::Result<Option<Option<Holder>>> {
        let mut file = match open(&layout::lock(vault), Note::None) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => Ok(Some(read_holder(&mut file))),
            Err(e) => Err(e.into()),
        }
    }
}

/// Opens the lock file, which is made if need be unless for [`Note::None`].
///
/// The vault may have been changed by somebody who wants the note written elsewhere, or the daemon to wait for ever.
fn open(path: &Path, note: Note) -> io::Result<File> {
    let write = note != Note::None;
    let open = |flags| {
        OpenOptions::new()
            .read(true)
            .write(write)
            .create(write)
            .truncate(false)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | flags)
            .open(path)
    };
    // Asking who holds a vault is no access; only its owner may ask so.
    let file = match open(libc::O_NOATIME) {
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => open(0),
        other => other,
    }?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("the lock is not a file"))
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write_holder(
    file: &mut File,
    mountpoint: Option<&Path>,
    rotation: Option<Rotation>,
) -> io::Result<()> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let holder = Holder {
        pid: std::process::id(),
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        mountpoint: mountpoint.map(Path::to_owned),
        since: since.map_or(0, |d| d.as_secs()),
        rotation,
    };
    // In place: a vault on a full disk can still be mounted, and space be made. Without the note it is only less clear
    // who holds it.
    let note = serde_json::to_vec(&holder)?;
    file.rewind()?;
    match file.write_all(&note) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => {
            log::warn!("there is no space for the note of who holds the vault");
            file.set_len(0)
        }
        other => other.and_then(|()| file.set_len(note.len() as u64)),
    }
}
