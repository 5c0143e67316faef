//! Locks on chunk ranges of one file: readers share, a writer excludes, disjoint ranges do not meet.

use std::sync::{Condvar, Mutex, MutexGuard};

use crate::crypto::ChunkNo;

/// An inclusive range of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRange {
    pub first: ChunkNo,
    pub last: ChunkNo,
}

impl ChunkRange {
    pub fn new(first: ChunkNo, last: ChunkNo) -> Self {
        Self { first, last }
    }

    /// From `first` to the end of any file.
    pub fn from(first: ChunkNo) -> Self {
        Self {
            first,
            last: ChunkNo(u64::MAX),
        }
    }

    fn meets(self, other: Self) -> bool {
        self.first.0 <= other.last.0 && other.first.0 <= self.last.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Shared,
    Exclusive,
}

#[derive(Debug)]
struct Held {
    id: u64,
    range: ChunkRange,
    mode: Mode,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    held: Vec<Held>,
    waiting: usize,
}

/// See the module. The list of held ranges is as long as there are threads in the file, so it is searched linearly.
#[derive(Debug, Default)]
pub struct RangeLock {
    table: Mutex<Table>,
    freed: Condvar,
}

/// A held range; released when dropped.
#[derive(Debug)]
pub struct RangeGuard<'a> {
    lock: &'a RangeLock,
    id: u64,
}

impl RangeLock {
    pub fn shared(&self, range: ChunkRange) -> RangeGuard<'_> {
        self.acquire(range, Mode::Shared)
    }

    pub fn exclusive(&self, range: ChunkRange) -> RangeGuard<'_> {
        self.acquire(range, Mode::Exclusive)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table
            .lock()
            .expect("no code that panics runs under this lock")
    }

    fn acquire(&self, range: ChunkRange, mode: Mode) -> RangeGuard<'_> {
        let mut table = self.table();
        while table
            .held
            .iter()
            .any(|h| h.range.meets(range) && (mode == Mode::Exclusive || h.mode == Mode::Exclusive))
        {
            table.waiting += 1;
            table = self
                .freed
                .wait(table)
                .expect("no code that panics runs under this lock");
            table.waiting -= 1;
        }
        let id = table.next_id;
        table.next_id += 1;
        table.held.push(Held { id, range, mode });
        RangeGuard { lock: self, id }
    }
}

impl Drop for RangeGuard<'_> {
    fn drop(&mut self) {
        let mut table = self.lock.table();
        table.held.retain(|h| h.id != self.id);
        if table.waiting > 0 {
            self.lock.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn range(first: u64, last: u64) -> ChunkRange {
        ChunkRange::new(ChunkNo(first), ChunkNo(last))
    }

    #[test]
    fn readers_share_and_disjoint_writers_do_not_wait() {
        let lock = RangeLock::default();
        let _a = lock.shared(range(0, 9));
        let _b = lock.shared(range(5, 9));
        let _c = lock.exclusive(range(10, 20));
        let _d = lock.exclusive(ChunkRange::from(ChunkNo(21)));
    }

    #[test]
    fn a_writer_waits_for_a_reader_of_the_same_chunk() {
        let lock = RangeLock::default();
        let read_done = AtomicBool::new(false);
        let reader = lock.shared(range(3, 3));
        std::thread::scope(|s| {
            s.spawn(|| {
                let _w = lock.exclusive(range(0, 3));
                assert!(read_done.load(Ordering::SeqCst));
            });
            while lock.table().waiting == 0 {
                std::thread::yield_now();
            }
            read_done.store(true, Ordering::SeqCst);
            drop(reader);
        });
    }
}
