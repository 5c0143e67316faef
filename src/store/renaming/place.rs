//! Where a walk is, and where it could not go on.

use std::{fmt, io};

/// Where something lies: in the vault, and, as far as its names can be read, in the mount.
#[derive(Debug, Clone, Default)]
pub(super) struct Path {
    pub stored: Vec<u8>,
    pub plain: Vec<u8>,
}

impl Path {
    pub fn below(&self, stored: &[u8], plain: Option<&[u8]>) -> Self {
        let join = |dir: &[u8], name: &[u8]| match dir {
            [] => name.to_vec(),
            dir => [dir, name].join(&b'/'),
        };
        Self {
            stored: join(&self.stored, stored),
            plain: plain.map_or_else(Vec::new, |name| join(&self.plain, name)),
        }
    }
}

/// Where a walk could not go on, and why. What is there opens as before.
#[derive(Debug)]
pub struct Stuck {
    /// In the mount; empty at its root, and where the name could not be read.
    pub path: Vec<u8>,
    pub source: io::Error,
}

impl Stuck {
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self {
            path: path.plain.clone(),
            source,
        }
    }

    /// At this object, if not at one in it.
    pub(super) fn within(self, path: &Path) -> Self {
        match self.path.is_empty() {
            true => Self::at(path)(self.source),
            false => self,
        }
    }
}

impl From<io::Error> for Stuck {
    fn from(source: io::Error) -> Self {
        Self::at(&Path::default())(source)
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl std::error::Error for Stuck {}
