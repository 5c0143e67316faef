//! The rotation of a volume that is mounted: what the header says of it, which the daemon looks at again and again, and
//! a note in `~wardfs/rotation` of how far it is.
//!
//! What is done is in the header alone, and authenticated. The note is for people: it has numbers, no names, and nothing
//! depends on it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::crypto::{Epoch, HeaderKeys};
use crate::keys::rotation::{self, RotationError};
use crate::store::backing::{Backing, Target, Time};
use crate::store::disk::{Atime, Disk};
use crate::store::header;
use crate::store::layout::{HEADER, META_DIR, ROTATION};
use crate::store::locked::HeaderLock;
use crate::store::meta;
use crate::store::volume::{Locked, VolumeError};

/// Characters of an error in the note.
pub const MAX_ERROR: usize = 150;

/// The note has always this length, so that it never has to be cut.
const NOTE_LEN: usize = 1024;

/// What tells one header from another: inode, length, modification and change time.
type Stamp = (u64, u64, Time, Time);

/// The header of a mounted volume.
#[derive(Debug)]
pub struct HeaderWatch {
    vault: PathBuf,
    keys: HeaderKeys,
    seen: Option<Stamp>,
}

/// What a look at the header shows.
#[derive(Debug)]
pub enum Look {
    Unchanged,
    /// Somebody is writing it.
    Busy,
    /// It says so now, and durably.
    Changed(rotation::State),
}

/// Why a rotation is not finished.
#[derive(Debug)]
pub enum FinishError {
    Rotation(RotationError),
    Volume(VolumeError),
}

impl From<VolumeError> for FinishError {
    fn from(e: VolumeError) -> Self {
        Self::Volume(e)
    }
}

impl std::fmt::Display for FinishError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rotation(e) => e.fmt(f),
            Self::Volume(e) => e.fmt(f),
        }
    }
}

impl HeaderWatch {
    pub fn new(vault: PathBuf, keys: HeaderKeys) -> Self {
        Self {
            vault,
            keys,
            seen: None,
        }
    }

    pub fn vault(&self) -> &Path {
        &self.vault
    }

    /// # Errors
    /// The header cannot be read, or is not authentic; it is read again when it has changed once more.
    pub fn look(&mut self) -> Result<Look, VolumeError> {
        let stamp = self.stamp()?;
        if self.seen == Some(stamp) {
            return Ok(Look::Unchanged);
        }
        // Who writes it holds the lock until both copies are durable.
        let _lock = match HeaderLock::try_acquire(&self.vault) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Look::Busy),
            other => other.map_err(|e| VolumeError::io("lock the volume header", e))?,
        };
        self.seen = Some(self.stamp()?);
        let locked = Locked::open(&self.vault)?;
        let state = rotation::state(locked.header(), &self.keys).map_err(VolumeError::Unlock)?;
        if state.is_under_way() {
            header::settle(&locked.disk, locked.header())?;
            self.seen = Some(self.stamp()?);
        }
        Ok(Look::Changed(state))
    }

    /// Wipes all epochs but `target` from the header; answers how many. See [`rotation::finish`].
    ///
    /// # Errors
    /// [`FinishError`]. The header is then as it was.
    pub fn finish(&mut self, target: Epoch) -> Result<usize, FinishError> {
        let lock = HeaderLock::try_acquire(&self.vault)
            .map_err(|e| VolumeError::io("lock the volume header", e))?;
        let mut locked = Locked::open(&self.vault)?;
        locked.update_under(&lock, &self.keys, |header| {
            rotation::finish(header, &self.keys, target).map_err(FinishError::Rotation)
        })
    }

    fn stamp(&self) -> Result<Stamp, VolumeError> {
        let stat = || -> io::Result<Stamp> {
            let disk = Disk::open(&self.vault, Atime::Keep)?;
            let meta = disk.open_dir(&disk.root()?, META_DIR.as_bytes())?;
            let attr = disk.stat(Target::At(&meta, HEADER.as_bytes()))?;
            Ok((attr.ino, attr.size, attr.mtime, attr.ctime))
        };
        match stat() {
            // Then the second copy counts.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Stamp::default()),
            other => other.map_err(|e| VolumeError::io("look at the volume header", e)),
        }
    }
}

/// What the daemon does with the rotation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Sealing chunks anew.
    #[default]
    Running,
    Paused,
    /// It was through, but some files were passed over; it begins again when it is asked to.
    Incomplete,
    /// It cannot write, and will try again.
    Failing,
    Complete,
}

/// The worst of what was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Worst {
    Unreadable,
    Damaged,
}

/// How far the rotation is. Plaintext bytes, but for `done` and `total`, which are bytes of the vault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What the daemon has seen last of [`crate::format::rotation_record::RotationRecord::asked`].
    pub asked: u32,
    pub state: State,
    pub files: u64,
    pub read: u64,
    pub resealed: u64,
    pub done: u64,
    /// `None` as long as it is not counted.
    pub total: Option<u64>,
    pub bytes_per_second: u64,
    pub passed_over: u64,
    pub worst: Option<Worst>,
    /// Why it is failing.
    pub error: Option<String>,
    pub seconds: u64,
}

impl Note {
    /// `None` if there is none, somebody else wrote it, or it is being written.
    pub fn read(vault: &Path) -> Option<Self> {
        let text = meta::note(vault, ROTATION, NOTE_LEN as u64).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// In place: who reads it may find it half written, and reads again. A failure does not matter.
    pub fn write(&self, vault: &Path) {
        let write = || -> io::Result<()> {
            let mut text = serde_json::to_vec(self)?;
            text.resize(NOTE_LEN - 1, b' ');
            text.push(b'\n');
            let file: File = meta::file(
                &meta::dir(vault)?,
                ROTATION,
                OFlags::RDWR | OFlags::CREATE,
                0o600,
            )?;
            file.write_all_at(&text, 0)
        };
        if let Err(e) = write() {
            log::debug!("how far the rotation is is not noted: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_note_fits() {
        let note = Note {
            asked: u32::MAX,
            state: State::Incomplete,
            files: u64::MAX,
            read: u64::MAX,
            resealed: u64::MAX,
            done: u64::MAX,
            total: Some(u64::MAX),
            bytes_per_second: u64::MAX,
            passed_over: u64::MAX,
            worst: Some(Worst::Unreadable),
            error: Some("\u{20ac}".repeat(MAX_ERROR)),
            seconds: u64::MAX,
        };
        let text = serde_json::to_vec(&note).expect("numbers");
        assert!(text.len() < NOTE_LEN, "{}", text.len());
    }
}
