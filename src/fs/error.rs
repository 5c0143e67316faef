//! What a filesystem operation can answer instead of success.

use crate::store;

pub type Result<T> = std::result::Result<T, Error>;

/// See the module. Turned into an errno in one place, [`crate::fs::errno`].
#[derive(Debug)]
pub enum Error {
    Store(store::Error),
    /// The inode is not known, or no longer where it was.
    Stale,
    /// The handle is not open.
    BadHandle,
    /// The handle was not opened for this.
    NotOpenFor,
    IsDirectory,
    NotDirectory,
    Invalid,
    Unsupported,
    /// An earlier panic left something locked that must not be trusted.
    Poisoned,
}

impl Error {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Store(e) if e.is_not_found())
    }
}

impl From<store::Error> for Error {
    fn from(e: store::Error) -> Self {
        Self::Store(e)
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Self::Store(e.into())
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(e) => e.fmt(f),
            Self::Stale => f.write_str("the inode is gone"),
            Self::BadHandle => f.write_str("the handle is not open"),
            Self::NotOpenFor => f.write_str("the handle was not opened for this"),
            Self::IsDirectory => f.write_str("is a directory"),
            Self::NotDirectory => f.write_str("is not a directory"),
            Self::Invalid => f.write_str("invalid argument"),
            Self::Unsupported => f.write_str("not supported"),
            Self::Poisoned => f.write_str("an earlier failure left this locked"),
        }
    }
}

impl std::error::Error for Error {}
