//! Handles that programs hold on files. Directories need none: see [`crate::fs::streams`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use crate::fs::error::{Error, Result};
use crate::fs::files::OpenFile;
use crate::store::backing::Backing;

/// The number of an open handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fh(pub u64);

/// See the module.
#[derive(Debug)]
pub struct Handles<B: Backing> {
    next: AtomicU64,
    open: RwLock<HashMap<Fh, Arc<OpenFile<B>>>>,
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
    pub fn add(&self, file: Arc<OpenFile<B>>) -> Result<Fh> {
        let fh = Fh(self.next.fetch_add(1, Ordering::Relaxed));
        let mut open = self.open.write().map_err(|_| Error::Poisoned)?;
        open.insert(fh, file);
        Ok(fh)
    }

    pub fn file(&self, fh: Fh) -> Result<Arc<OpenFile<B>>> {
        let open = self.open.read().map_err(|_| Error::Poisoned)?;
        open.get(&fh).cloned().ok_or(Error::BadHandle)
    }

    pub fn remove(&self, fh: Fh) -> Result<Arc<OpenFile<B>>> {
        let mut open = self.open.write().map_err(|_| Error::Poisoned)?;
        open.remove(&fh).ok_or(Error::BadHandle)
    }

    pub fn len(&self) -> usize {
        self.open.read().map_or(0, |open| open.len())
    }
}
