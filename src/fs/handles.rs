//! Handles that programs hold on files and directories.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crate::fs::error::{Error, Result};
use crate::fs::files::OpenFile;
use crate::store::Dir;
use crate::store::backing::Backing;

/// The number of an open handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fh(pub u64);

/// An open directory: where its listing stands.
#[derive(Debug)]
pub struct DirHandle<B: Backing> {
    pub ino: u64,
    pub dir: Arc<Dir<B>>,
    pub stream: Mutex<Stream<B>>,
}

/// A listing, opened at the first read, and the cookie at which it stands.
#[derive(Debug)]
pub struct Stream<B: Backing> {
    pub listing: Option<B::Listing>,
    pub at: u64,
}

#[derive(Debug)]
enum Handle<B: Backing> {
    File(Arc<OpenFile<B>>),
    Dir(Arc<DirHandle<B>>),
}

/// See the module.
#[derive(Debug)]
pub struct Handles<B: Backing> {
    next: AtomicU64,
    open: RwLock<HashMap<Fh, Handle<B>>>,
}

impl<B: Backing> Default for Handles<B> {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(1),
            open: RwLock::default(),
        }
    }
}

impl<B: Backing> Handles<B> {
    fn add(&self, handle: Handle<B>) -> Result<Fh> {
        let fh = Fh(self.next.fetch_add(1, Ordering::Relaxed));
        self.open
            .write()
            .map_err(|_| Error::Poisoned)?
            .insert(fh, handle);
        Ok(fh)
    }

    pub fn add_file(&self, file: Arc<OpenFile<B>>) -> Result<Fh> {
        self.add(Handle::File(file))
    }

    pub fn add_dir(&self, dir: DirHandle<B>) -> Result<Fh> {
        self.add(Handle::Dir(Arc::new(dir)))
    }

    pub fn file(&self, fh: Fh) -> Result<Arc<OpenFile<B>>> {
        match self.open.read().map_err(|_| Error::Poisoned)?.get(&fh) {
            Some(Handle::File(file)) => Ok(file.clone()),
            _ => Err(Error::BadHandle),
        }
    }

    pub fn dir(&self, fh: Fh) -> Result<Arc<DirHandle<B>>> {
        match self.open.read().map_err(|_| Error::Poisoned)?.get(&fh) {
            Some(Handle::Dir(dir)) => Ok(dir.clone()),
            _ => Err(Error::BadHandle),
        }
    }

    pub fn remove_file(&self, fh: Fh) -> Result<Arc<OpenFile<B>>> {
        match self.open.write().map_err(|_| Error::Poisoned)?.remove(&fh) {
            Some(Handle::File(file)) => Ok(file),
            _ => Err(Error::BadHandle),
        }
    }

    pub fn remove_dir(&self, fh: Fh) -> Result<Arc<DirHandle<B>>> {
        match self.open.write().map_err(|_| Error::Poisoned)?.remove(&fh) {
            Some(Handle::Dir(dir)) => Ok(dir),
            _ => Err(Error::BadHandle),
        }
    }

    pub fn len(&self) -> usize {
        self.open.read().map_or(0, |open| open.len())
    }
}
