//! What a volume must remember between mounts: whether it was left clean, how far its write sequence may have got, and
//! when it was left unclean.
//!
//! Two slots of 4 KiB in one file, written in turn; the newest whose MAC holds counts. The high-water mark of the write
//! sequence is durable before any number below it is used.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use crate::crypto::{VolumeKeys, WriteSeq};
use crate::format::superblock::{MAX_WINDOWS, SUPERBLOCK_LEN, Superblock};
use crate::store::backing::{Backing, OpenFor, Sync, Time};
use crate::store::error::Result;
use crate::store::journal::Ended;
use crate::store::layout::SUPERBLOCK;

/// Numbers reserved at once: 16 million writes between two superblock writes.
const RESERVE: u64 = 1 << 24;
/// File times are coarser than the clock, and a little older.
const CLOCK_SLACK_NS: i64 = 1_000_000_000;

/// The superblock of a volume that is open for writing.
#[derive(Debug)]
pub struct Sequencer<B: Backing> {
    file: B::File,
    next: AtomicU64,
    limit: AtomicU64,
    current: Mutex<Superblock>,
}

/// Loads the newest valid superblock; `None` if there is none.
pub fn load<B: Backing>(
    backing: &B,
    journal: &B::Dir,
    keys: &VolumeKeys,
) -> io::Result<Option<Superblock>> {
    let file = match backing.open(journal, SUPERBLOCK.as_bytes(), OpenFor::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut newest: Option<Superblock> = None;
    for slot in 0..2 {
        let mut bytes = [0; SUPERBLOCK_LEN];
        backing.read_at(&file, &mut bytes, slot * SUPERBLOCK_LEN as u64)?;
        let Ok(found) = Superblock::decode(&bytes, keys.journal_mac_key()) else {
            continue;
        };
        if newest
            .as_ref()
            .is_none_or(|n| n.generation < found.generation)
        {
            newest = Some(found);
        }
    }
    Ok(newest)
}

impl<B: Backing> Sequencer<B> {
    /// Marks the volume as in use. After an unclean stop the time since it was opened then is remembered.
    pub fn open(
        backing: &B,
        journal: &B::Dir,
        keys: &VolumeKeys,
        found: Option<Superblock>,
    ) -> io::Result<Self> {
        let now = now_ns();
        let mut block = found.unwrap_or_else(|| {
            log::warn!("the superblock is missing; starting a new one");
            first_superblock()
        });
        if block.clean {
            block.opened_at = now;
        } else {
            // It stays open since then: what a crash left is not mended before the turns of the journal are retired.
            add_window(&mut block, now);
        }
        block.clean = false;
        let first = block.seq_high_water;
        let name = SUPERBLOCK.as_bytes();
        let file = match backing.open(journal, name, OpenFor::ReadWrite) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                backing.create(journal, name, 0o600)?
            }
            other => other?,
        };
        let sequencer = Self {
            file,
            next: AtomicU64::new(first.0),
            limit: AtomicU64::new(first.0),
            current: Mutex::new(block),
        };
        sequencer.reserve(backing, keys, first.0)?;
        Ok(sequencer)
    }

    /// The next number of the write sequence.
    pub fn next(&self, backing: &B, keys: &VolumeKeys) -> Result<WriteSeq> {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        if seq >= self.limit.load(Ordering::Acquire) {
            self.reserve(backing, keys, seq)?;
        }
        Ok(WriteSeq(seq))
    }

    /// What [`Sequencer::next`] answers next, or a little less.
    pub fn peek(&self) -> WriteSeq {
        WriteSeq(self.next.load(Ordering::Acquire))
    }

    /// Everything written up to the end of a turn of the journal is on the disk.
    pub fn retire(&self, backing: &B, keys: &VolumeKeys, ended: &Ended) -> io::Result<()> {
        let mut current = self.current();
        current.retired_turn = ended.turn;
        current.retired_seq = ended.seq;
        current.opened_at = ended.at;
        self.write(backing, keys, &mut current)
    }

    fn reserve(&self, backing: &B, keys: &VolumeKeys, used: u64) -> io::Result<()> {
        let mut current = self.current();
        if used < self.limit.load(Ordering::Acquire) {
            return Ok(());
        }
        let limit = used + RESERVE;
        if limit > WriteSeq::MAX.0 {
            return Err(io::Error::other(
                "the write sequence of this volume is used up",
            ));
        }
        current.seq_high_water = WriteSeq(limit);
        self.write(backing, keys, &mut current)?;
        self.limit.store(limit, Ordering::Release);
        Ok(())
    }

    /// Marks the volume as left clean, with its last turn of the journal retired. `unsettled` says that a file could not be
    /// completed: it counts as unclean then.
    pub fn close(
        &self,
        backing: &B,
        keys: &VolumeKeys,
        ended: Option<&Ended>,
        unsettled: bool,
    ) -> io::Result<()> {
        let mut current = self.current();
        if let Some(ended) = ended {
            (current.retired_turn, current.retired_seq) = (ended.turn, ended.seq);
        }
        if unsettled {
            add_window(&mut current, now_ns());
        }
        current.clean = true;
        current.seq_high_water = WriteSeq(self.next.load(Ordering::Acquire));
        self.limit.store(0, Ordering::Release);
        // Into both slots: damage to one must not bring back that the volume was in use.
        self.write(backing, keys, &mut current)?;
        self.write(backing, keys, &mut current)
    }

    fn current(&self) -> MutexGuard<'_, Superblock> {
        self.current
            .lock()
            .expect("no code that panics runs under this lock")
    }

    fn write(&self, backing: &B, keys: &VolumeKeys, block: &mut Superblock) -> io::Result<()> {
        write_next(backing, &self.file, keys, block)
    }
}

/// Writes the next generation into the slot of the one before the last, durably.
fn write_next<B: Backing>(
    backing: &B,
    file: &B::File,
    keys: &VolumeKeys,
    block: &mut Superblock,
) -> io::Result<()> {
    block.generation += 1;
    let bytes = block.encode(keys.journal_mac_key());
    let slot = (block.generation % 2) * SUPERBLOCK_LEN as u64;
    backing.write_at(file, &bytes, slot).map_err(|(_, e)| e)?;
    backing.sync(file, Sync::Data)
}

/// The superblock of a volume that was closed in order, on its way from one volume key to another: one slot is valid under
/// each.
#[derive(Debug)]
pub struct Handover<B: Backing> {
    file: B::File,
    block: Superblock,
}

impl<B: Backing> Handover<B> {
    /// Writes one slot under `new`; the newest one stays valid under `old`.
    pub fn begin(
        backing: &B,
        journal: &B::Dir,
        old: &VolumeKeys,
        new: &VolumeKeys,
    ) -> io::Result<Self> {
        let found = load(backing, journal, old)?.filter(|block| block.clean);
        let unclean = || io::Error::other("the volume was not closed in order");
        let mut block = found.ok_or_else(unclean)?;
        let file = backing.open(journal, SUPERBLOCK.as_bytes(), OpenFor::ReadWrite)?;
        write_next(backing, &file, new, &mut block)?;
        Ok(Self { file, block })
    }

    /// Writes the other slot, when nobody needs the old key any more.
    pub fn end(mut self, backing: &B, new: &VolumeKeys) -> io::Result<()> {
        write_next(backing, &self.file, new, &mut self.block)
    }
}

/// The state of a volume that was never mounted. Numbers begin with the time, so that a volume whose superblock was lost
/// goes on above what it has used.
pub fn first_superblock() -> Superblock {
    let seconds = (now_ns() / 1_000_000_000).max(0) as u64;
    Superblock {
        generation: 0,
        clean: true,
        seq_high_water: WriteSeq(seconds << 15),
        opened_at: 0,
        retired_turn: 0,
        retired_seq: WriteSeq(0),
        windows: Vec::new(),
    }
}

/// Writes the superblock of a new volume.
pub fn create<B: Backing>(
    backing: &B,
    journal: &B::Dir,
    keys: &VolumeKeys,
    journaled: bool,
) -> io::Result<()> {
    let file = backing.create(journal, SUPERBLOCK.as_bytes(), 0o600)?;
    let mut first = first_superblock();
    if journaled {
        first.retired_seq = first.seq_high_water;
    }
    let bytes = first.encode(keys.journal_mac_key());
    for slot in 0..2 {
        let at = slot * SUPERBLOCK_LEN as u64;
        backing.write_at(&file, &bytes, at).map_err(|(_, e)| e)?;
    }
    backing.sync(&file, Sync::All)?;
    backing.sync_dir(journal)
}

/// The times in which what a crash can leave of a file may have come about.
#[derive(Debug)]
pub struct UncleanTimes {
    windows: Vec<(i64, i64)>,
    /// When this began; what is younger is covered once a file could not be completed.
    since: i64,
}

impl UncleanTimes {
    /// As the superblock `found` at the beginning of a mount tells.
    pub fn new(found: &Superblock) -> Self {
        let now = now_ns();
        let mut windows = found.windows.clone();
        if !found.clean {
            windows.push((found.opened_at - CLOCK_SLACK_NS, now));
        }
        Self {
            windows,
            since: now - CLOCK_SLACK_NS,
        }
    }

    /// Whether a file time lies in one of them. `unsettled` says that this mount had to leave a file incomplete.
    pub fn covers(&self, time: Time, unsettled: bool) -> bool {
        let ns = time
            .sec
            .saturating_mul(1_000_000_000)
            .saturating_add(time.nsec.into());
        (unsettled && ns >= self.since)
            || self
                .windows
                .iter()
                .any(|(begin, end)| (*begin..=*end).contains(&ns))
    }
}

/// Remembers the time since the volume was opened as unclean. Of too many, the oldest two become one.
fn add_window(block: &mut Superblock, now: i64) {
    if block.windows.len() == MAX_WINDOWS {
        let (begin, _) = block.windows.remove(0);
        block.windows[0].0 = begin;
    }
    block.windows.push((block.opened_at - CLOCK_SLACK_NS, now));
}

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}
