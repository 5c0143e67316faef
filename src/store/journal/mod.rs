//! The redo journal of a volume that is mounted for writing: appending groups, making them durable together, and turning
//! from one segment to the other.
//!
//! Knows nothing of files: what a group means is for [`crate::store::file`] when it is written and for
//! [`crate::store::recovery`] when it is read.
//!
//! Invariants:
//! 1. A group is in its segment, as far as the kernel is concerned, when [`Journal::append`] returns: killing this
//!    process loses none. It survives a power cut when [`Journal::commit`] has returned for its ticket.
//! 2. The groups of a turn are all durable before the next turn has any.
//! 3. A segment is used again only after its turn was retired in the superblock.
//! 4. A change holds the turn from its first append until the overlay of its file has what it appended: a checkpoint
//!    that begins a new turn finds everything of the old one in the overlays.
//!
//! Locks, in this order: turn, state, flush. None is held by a caller; only the switch of turns holds the first while it
//! waits for the disk.

mod marks;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};

pub use marks::{Marks, Unsynced};

use crate::crypto::{VolumeKeys, WriteSeq};
use crate::format::ids::FileId;
use crate::format::journal::{Draft, Record};
use crate::store::backing::{Backing, OpenFor, Sync, Target};
use crate::store::error::{Error, Result};

/// Bytes that a segment has at first.
pub const SEGMENT_LEN: u64 = 2 << 20;
/// What it grows to under load. A write may go beyond: then the commit also waits for the file's length.
const SEGMENT_MAX: u64 = 32 << 20;
/// Bytes of images in memory from which on they are applied without waiting for the next checkpoint.
const OVERLAY_LIMIT: u64 = 32 << 20;
const OVERLAY_MOST: u64 = 2 * OVERLAY_LIMIT;
const ZEROS: usize = 1 << 18;
/// The segment is read ahead of the groups by half of this at least.
const AHEAD: u64 = 256 << 10;
/// Larger groups fill most of their pages.
const SMALL: usize = 64 << 10;

/// The number of a group since the volume was opened; larger ones come later in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ticket(u64);

/// How much of the current segment is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fill {
    Little,
    /// More than half: time for a checkpoint.
    Half,
    /// More than was preallocated.
    All,
}

/// What a group says, before it has a place in the journal.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub seq: WriteSeq,
    pub file: Option<FileId>,
    pub records: &'a [Record],
    /// The images' bytes, back to back.
    pub data: &'a [u8],
}

/// See the module.
#[derive(Debug)]
pub struct Journal<B: Backing> {
    segments: [B::File; 2],
    /// The current turn. Changes hold it shared.
    turn: RwLock<u64>,
    state: Mutex<State>,
    flush: Mutex<Flush>,
    flushed: Condvar,
    /// A flush has failed: nothing can be promised any more.
    failed: AtomicBool,
    /// Bytes of images in the overlays of all files.
    overlay: AtomicU64,
    /// Everything of this turn and of earlier ones is on the disk.
    retired: AtomicU64,
    pub marks: Marks,
}

#[derive(Debug)]
struct State {
    turn: u64,
    index: u64,
    /// Where the next group goes.
    at: u64,
    /// Up to there the kernel was asked to read the segment.
    read: u64,
    /// Bytes of each segment that are preallocated.
    prepared: [u64; 2],
    appended: Ticket,
    buffer: Vec<u8>,
}

#[derive(Debug, Default)]
struct Flush {
    durable: Ticket,
    running: bool,
    /// Who waits for the one that runs.
    waiting: usize,
}

/// A turn that has ended: what is durable when everything it holds was applied and synced.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub turn: u64,
    /// Everything below was written in this turn or before.
    pub seq: WriteSeq,
    /// Nanoseconds since 1970.
    pub at: i64,
}

impl<B: Backing> Journal<B> {
    /// Opens the journal for turn `turn`, later than any that either segment holds. Segments that are missing or short
    /// get their length in written zeros.
    pub fn open(backing: &B, dir: &B::Dir, turn: u64, segment_len: u64) -> io::Result<Self> {
        let mut made = false;
        let mut open = |name: &[u8]| match backing.open(dir, name, OpenFor::ReadWrite) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                made = true;
                backing.create(dir, name, 0o600)
            }
            other => other,
        };
        let segments = [open(b"0")?, open(b"1")?];
        let mut prepared = [0; 2];
        for (file, prepared) in segments.iter().zip(&mut prepared) {
            *prepared = backing.stat(Target::File(file))?.size;
            if *prepared < segment_len {
                prepare(backing, file, *prepared, segment_len)?;
                *prepared = segment_len;
            }
        }
        if made {
            backing.sync_dir(dir)?;
        }
        Ok(Self {
            segments,
            turn: RwLock::new(turn),
            state: Mutex::new(State {
                turn,
                index: 0,
                at: 0,
                read: 0,
                prepared,
                appended: Ticket(0),
                buffer: Vec::new(),
            }),
            flush: Mutex::default(),
            flushed: Condvar::new(),
            failed: AtomicBool::new(false),
            overlay: AtomicU64::new(0),
            retired: AtomicU64::new(turn - 1),
            marks: Marks::default(),
        })
    }

    /// Holds the turn: no checkpoint ends it meanwhile. Not to be taken twice by one thread.
    pub fn hold_turn(&self) -> RwLockReadGuard<'_, u64> {
        self.turn
            .read()
            .expect("no code that panics runs under this lock")
    }

    /// Waits until nobody holds the turn who holds it now.
    pub fn quiesce(&self) {
        drop(
            self.turn
                .write()
                .expect("no code that panics runs under this lock"),
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code that panics runs under this lock")
    }

    fn flush(&self) -> MutexGuard<'_, Flush> {
        self.flush
            .lock()
            .expect("no code that panics runs under this lock")
    }

    /// Appends a group. The caller holds the turn. After an error nothing was appended.
    pub fn append(&self, backing: &B, keys: &VolumeKeys, entry: Entry<'_>) -> Result<Ticket> {
        self.check()?;
        let mut state = self.state();
        let state = &mut *state;
        let group = Draft {
            turn: state.turn,
            index: state.index,
            seq: entry.seq,
            file: entry.file,
            records: entry.records,
            data: entry.data,
        };
        state.buffer.clear();
        group.encode(keys.journal_mac_key(), &mut state.buffer);
        let segment = &self.segments[segment_of(state.turn)];
        if state.at + AHEAD / 2 >= state.read && state.buffer.len() < SMALL {
            // Groups begin and end within a page, and the kernel reads what it keeps of that.
            let from = state.read.max(state.at);
            backing.will_read(segment, from, AHEAD);
            state.read = from + AHEAD;
        }
        backing
            .write_at(segment, &state.buffer, state.at)
            .map_err(|(_, e)| e)?;
        state.at += state.buffer.len() as u64;
        state.index += 1;
        state.appended.0 += 1;
        Ok(state.appended)
    }

    /// Makes the group of `ticket` durable, and with it all before it. Whoever comes first flushes for all who wait.
    ///
    /// # Errors
    /// After a flush has failed nothing can be promised any more: every later call fails too.
    pub fn commit(&self, backing: &B, ticket: Ticket) -> Result<()> {
        let mut flush = self.flush();
        loop {
            if flush.durable >= ticket {
                return Ok(());
            }
            self.check()?;
            if flush.running {
                flush.waiting += 1;
                flush = self
                    .flushed
                    .wait(flush)
                    .expect("no code that panics runs under this lock");
                flush.waiting -= 1;
                continue;
            }
            flush.running = true;
            drop(flush);
            let (reached, segment) = {
                let state = self.state();
                (state.appended, segment_of(state.turn))
            };
            let synced = backing.sync(&self.segments[segment], Sync::Data);
            flush = self.flush();
            flush.running = false;
            match synced {
                Ok(()) => flush.durable = flush.durable.max(reached),
                Err(_) => self.failed.store(true, Ordering::Release),
            }
            // Nobody is there to be woken for most flushes, and a wake-up is a system call.
            if flush.waiting > 0 {
                self.flushed.notify_all();
            }
            synced?;
        }
    }

    /// Makes everything durable that was appended so far. Answers whether there was anything.
    pub fn commit_all(&self, backing: &B) -> Result<bool> {
        let appended = self.state().appended;
        if self.flush().durable >= appended {
            return Ok(false);
        }
        self.commit(backing, appended).map(|()| true)
    }

    /// # Errors
    /// A flush has failed before.
    fn check(&self) -> Result<()> {
        if self.has_failed() {
            return Err(Error::JournalFailed);
        }
        Ok(())
    }

    /// Whether a flush has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Ends the turn, whose groups are durable then, and begins the next one in the other segment. The turn before the
    /// one that ends must have been retired. `seq` answers the next number of the write sequence, `now` the time.
    pub fn switch(
        &self,
        backing: &B,
        seq: impl FnOnce() -> WriteSeq,
        now: impl FnOnce() -> i64,
    ) -> Result<Ended> {
        self.check()?;
        let mut turn = self
            .turn
            .write()
            .expect("no code that panics runs under this lock");
        // Nothing is appended while the turn is held. Not beside a flush that is under way: the kernel tells of a failure
        // only once.
        let appended = self.state().appended;
        self.commit(backing, appended)?;
        let mut state = self.state();
        let ended = Ended {
            turn: state.turn,
            seq: seq(),
            at: now(),
        };
        state.turn += 1;
        state.index = 0;
        (state.at, state.read) = (0, 0);
        *turn = state.turn;
        Ok(ended)
    }

    /// The turn was retired: forgets what it marked, and lets its segment grow if it was full.
    pub fn retired(&self, backing: &B, ended: &Ended, was_full: bool) -> io::Result<()> {
        self.retired.store(ended.turn, Ordering::Release);
        self.marks.forget(ended.turn);
        let segment = segment_of(ended.turn);
        let prepared = self.state().prepared[segment];
        let wanted = (prepared * 2).min(SEGMENT_MAX);
        if was_full && prepared < wanted {
            prepare(backing, &self.segments[segment], prepared, wanted)?;
            self.state().prepared[segment] = wanted;
        }
        Ok(())
    }

    /// The last turn of which everything is on the disk.
    pub fn retired_turn(&self) -> u64 {
        self.retired.load(Ordering::Acquire)
    }

    /// Whether the turn has any group.
    pub fn is_used(&self) -> bool {
        self.state().index > 0
    }

    /// How much of the segment is used.
    pub fn fill(&self) -> Fill {
        let state = self.state();
        let prepared = state.prepared[segment_of(state.turn)];
        match state.at {
            at if at > prepared => Fill::All,
            at if at > prepared / 2 => Fill::Half,
            _ => Fill::Little,
        }
    }

    /// Images were added to the overlay of a file, or left it.
    pub(super) fn count_overlay(&self, added: u64, removed: u64) {
        self.overlay.fetch_add(added, Ordering::Relaxed);
        self.overlay.fetch_sub(removed, Ordering::Relaxed);
    }

    /// Bytes of images in the overlays of all files.
    pub fn overlay_bytes(&self) -> u64 {
        self.overlay.load(Ordering::Relaxed)
    }

    /// Whether the overlays hold so much that it should be applied.
    pub fn is_overlay_filling(&self) -> bool {
        self.overlay_bytes() > OVERLAY_LIMIT
    }

    /// Whether they hold so much that nothing should be added before.
    pub fn is_overlay_full(&self) -> bool {
        self.overlay_bytes() > OVERLAY_MOST
    }
}

fn segment_of(turn: u64) -> usize {
    (turn % 2) as usize
}

/// Writes zeros, so that no later flush has to wait for the file's blocks or length.
fn prepare<B: Backing>(backing: &B, file: &B::File, from: u64, to: u64) -> io::Result<()> {
    let zeros = [0; ZEROS];
    let mut at = from;
    while at < to {
        let piece = (to - at).min(ZEROS as u64) as usize;
        backing
            .write_at(file, &zeros[..piece], at)
            .map_err(|(_, e)| e)?;
        at += piece as u64;
    }
    backing.sync(file, Sync::All)
}
