//! What can go wrong with an encrypted object.

use std::io;

use crate::content::Damage;
use crate::crypto::ChunkNo;

pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on the vault failed.
#[derive(Debug)]
pub enum Error {
    /// The backing filesystem refused.
    Io(io::Error),
    /// A chunk, or the file as a whole, is not what wardfs wrote.
    Damaged {
        chunk: Option<ChunkNo>,
        damage: Damage,
    },
    /// A name, link target, attribute or sidecar does not authenticate.
    DamagedName,
    /// A directory with entries has lost its id.
    NoDirId,
    /// The volume is mounted read-only, or has been since a failure.
    ReadOnly,
    /// The journal could not be made durable: nothing can be promised before the next mount.
    JournalFailed,
    /// Beyond the largest file.
    TooLarge,
    /// A name of more than 255 bytes, or an attribute beyond the limits of the backing filesystem.
    NameTooLong,
    /// An argument that no filesystem accepts.
    Invalid,
    /// Not offered by wardfs or by the backing filesystem.
    Unsupported,
    /// The directory is not empty.
    NotEmpty,
}

impl Error {
    /// The operating system's code, where it was the backing filesystem that refused.
    pub fn os(&self) -> Option<i32> {
        match self {
            Self::Io(e) => e.raw_os_error(),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.os() == Some(libc::ENOENT)
    }

    pub(crate) fn chunk(no: ChunkNo, damage: Damage) -> Self {
        Self::Damaged {
            chunk: Some(no),
            damage,
        }
    }

    pub(crate) fn file(damage: Damage) -> Self {
        Self::Damaged {
            chunk: None,
            damage,
        }
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(e) => e.fmt(f),
            Self::Damaged {
                chunk: Some(no),
                damage,
            } => write!(f, "chunk {}: {damage}", no.0),
            Self::Damaged {
                chunk: None,
                damage,
            } => damage.fmt(f),
            Self::DamagedName => f.write_str("a name does not authenticate"),
            Self::NoDirId => f.write_str("a directory has lost its id"),
            Self::ReadOnly => f.write_str("the volume is read-only"),
            Self::JournalFailed => f.write_str("the journal could not be made durable"),
            Self::TooLarge => f.write_str("beyond the largest file"),
            Self::NameTooLong => f.write_str("the name is too long"),
            Self::Invalid => f.write_str("invalid argument"),
            Self::Unsupported => f.write_str("not supported"),
            Self::NotEmpty => f.write_str("the directory is not empty"),
        }
    }
}

impl std::error::Error for Error {}
