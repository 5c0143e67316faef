//! How far a check or a rotation is, and what it has found so far, as numbers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::store::check::finding::State;

/// Counts that grow while a check runs.
#[derive(Debug, Default)]
pub struct Tally {
    pub files: AtomicU64,
    pub directories: AtomicU64,
    pub symlinks: AtomicU64,
    /// Fifos, sockets and device nodes.
    pub special: AtomicU64,
    /// Plaintext bytes that were verified.
    pub verified: AtomicU64,
    /// Plaintext bytes written to the salvage directory.
    pub salvaged: AtomicU64,
    /// Plaintext bytes that are gaps there.
    pub lost: AtomicU64,
    /// Stored bytes that are done with.
    pub done: AtomicU64,
    /// Stored bytes found by the one who counts ahead.
    pub total: AtomicU64,
    /// Whether `total` is complete.
    pub counted: AtomicBool,
    states: [AtomicU64; 6],
}

impl Tally {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn count(&self, state: State) {
        Self::add(&self.states[state as usize], 1);
    }

    /// How many findings there are of this kind.
    pub fn of(&self, state: State) -> u64 {
        self.states[state as usize].load(Ordering::Relaxed)
    }
}
