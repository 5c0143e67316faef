//! Listings that were read in part, kept for who reads on. The kernel says where it stands with each request, so that
//! one that is not here is opened anew and sought: nothing is lost with it.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::fs::error::{Error, Result};
use crate::store::backing::Backing;

/// Each holds a descriptor.
const KEPT: usize = 16;

/// A listing and the cookie at which it stands.
#[derive(Debug)]
struct Stream<B: Backing> {
    ino: u64,
    at: u64,
    listing: B::Listing,
}

/// See the module. The lock is held for a table operation only.
#[derive(Debug)]
pub struct Streams<B: Backing>(Mutex<VecDeque<Stream<B>>>);

impl<B: Backing> Default for Streams<B> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<B: Backing> Streams<B> {
    /// The listing of directory `ino` that stands at `at`.
    pub fn take(&self, ino: u64, at: u64) -> Result<Option<B::Listing>> {
        let mut kept = self.0.lock().map_err(|_| Error::Poisoned)?;
        let found = kept.iter().position(|s| (s.ino, s.at) == (ino, at));
        Ok(found.and_then(|i| kept.remove(i)).map(|s| s.listing))
    }

    /// Keeps a listing; of too many the oldest goes.
    pub fn keep(&self, ino: u64, at: u64, listing: B::Listing) -> Result<()> {
        let mut kept = self.0.lock().map_err(|_| Error::Poisoned)?;
        kept.push_back(Stream { ino, at, listing });
        let dropped = (kept.len() > KEPT).then(|| kept.pop_front());
        drop(kept);
        drop(dropped);
        Ok(())
    }
}
