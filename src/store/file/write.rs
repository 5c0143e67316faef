//! Writing: what touches stable chunks goes into the journal as one group; everything else goes to the disk, in one call
//! where it is contiguous.
//!
//! A write is [`placed`](super::placed), takes one of the ways here, on which it is [`seal`](super::seal)ed, and if it fails
//! it is [`undo`](super::undo)ne.

use crate::content::{Buffer, geometry};
use crate::crypto::{ChunkFlags, ChunkNo};
use crate::format::journal::Record;
use crate::store::backing::Backing;
use crate::store::change::Change;
use crate::store::error::{Error, Result};
use crate::store::file::placed::Placed;
use crate::store::file::seal::Write;
use crate::store::file::{DataFile, Last, Tail};
use crate::store::range_lock::{ChunkRange, RangeGuard};
use crate::store::volume::Volume;

/// So much of a growing file is left to the kernel's cache before the disk gets it.
const SENT_AT_ONCE: u64 = 4 << 20;

/// Where a write went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Into the backing file, whose times have moved on.
    Straight,
    Journal,
}

/// The ways of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// In place.
    Straight,
    /// Through the journal.
    Journal,
    /// What is there through the journal, what is added in place.
    Behind,
}

impl<B: Backing> DataFile<B> {
    /// Writes `data` at plaintext offset `off`, extending the file if need be.
    ///
    /// # Errors
    /// After an error a file that would have grown has its old size and content again.
    pub fn write(&self, change: &Change<'_, B>, off: u64, data: &[u8]) -> Result<Route> {
        let volume = change.volume;
        volume.check_writable()?;
        if data.is_empty() {
            return Ok(Route::Journal);
        }
        let end = off.checked_add(data.len() as u64).ok_or(Error::TooLarge)?;
        if end > geometry::MAX_PLAIN_SIZE {
            return Err(Error::TooLarge);
        }
        self.ensure_last(volume)?;
        let (placed, _held) = self.place(volume, off, end);
        self.write_placed(change, placed, data)
    }

    /// Locks what a write touches. The size may change until the lock is held: then it is placed anew.
    fn place(&self, volume: &Volume<B>, off: u64, end: u64) -> (Placed, RangeGuard<'_>) {
        loop {
            let placed = Placed::new(volume.geometry(), &self.state(), off, end);
            let held = self.ranges.exclusive(placed.range());
            let now = Placed::new(volume.geometry(), &self.state(), off, end);
            if now.range() == placed.range() {
                return (now, held);
            }
        }
    }

    fn write_placed(&self, change: &Change<'_, B>, p: Placed, data: &[u8]) -> Result<Route> {
        let volume = change.volume;
        let old_last_plain = match p.extends() && !p.fresh {
            true => Some(self.plain_chunk(volume, p.old_last, p.size)?),
            false => None,
        };
        let final_flags = {
            let mut state = self.state();
            if let Some(gap) = p.gap() {
                state.gaps.add(gap);
            }
            // They stay gaps until the write has succeeded: chunks that it fills in part are read as holes first.
            let written = ChunkRange::new(p.first, p.last);
            let sparse = state.sparse_before || !state.gaps.is_within(written);
            ChunkFlags {
                is_final: true,
                sparse,
            }
        };
        let write = Write {
            data,
            old_last_plain: old_last_plain.as_deref(),
            final_flags,
        };
        let way = self.way(change, &p);
        let written = match way {
            Way::Straight => self.put_straight_write(change, &p, &write),
            Way::Journal => self.put_journaled(change, &p, &write),
            Way::Behind => self.put_behind(change, &p, &write),
        };
        if let Err(e) = written {
            self.undo(change, &p, way, old_last_plain.as_deref());
            return Err(e);
        }
        let mut state = self.state();
        if way != Way::Journal {
            // The backing file's own time has moved on.
            (state.mtime, state.applying, state.kept) = (None, None, None);
        }
        // What fills them in place is no more durable by a flush of the journal.
        if way == Way::Journal && !state.gaps.is_empty() {
            state.filled = state.ticket;
        }
        state.gaps.remove(ChunkRange::new(p.first, p.last));
        // A write inside the file does not hold its end, which others may have moved meanwhile.
        if p.extends() {
            state.size = p.new_size;
            state.fresh = false;
            if way == Way::Straight {
                state.home_end = p.new_size;
            }
        }
        if p.last == p.new_last {
            state.last = Some(Last {
                sparse: final_flags.sparse,
            });
            state.tail = new_tail(state.tail.take(), &p, data);
        }
        drop(state);
        Ok(match way {
            Way::Journal => Route::Journal,
            Way::Straight | Way::Behind => {
                self.send_off(volume, SENT_AT_ONCE);
                Route::Straight
            }
        })
    }

    /// Which way a write goes. What has been acknowledged is never overwritten in place: not even the death of this
    /// process in the middle of it may lose that.
    fn way(&self, change: &Change<'_, B>, p: &Placed) -> Way {
        if change.journal().is_none() || p.fresh {
            return Way::Straight;
        }
        let mut state = self.state();
        state.turn_state(change.turn());
        let untouched = state.gaps.has_all(ChunkRange::new(p.first, p.last))
            && !state.is_stable(p.geometry, p.first)
            && !state.overlay.meets(p.first, p.last)
            && !state.cut_pending;
        if untouched && !p.extends() {
            return Way::Straight;
        }
        // New chunks at the end of a file that was never synced are not worth being written twice, however few.
        let only_grows = p.first > p.old_last && !state.is_stable(p.geometry, p.old_last);
        let little = p.grows_little() && !only_grows;
        match p.extends() && !little && !state.cut_pending {
            true => Way::Behind,
            false => Way::Journal,
        }
    }

    /// All of it as one group in the journal.
    fn put_journaled(&self, change: &Change<'_, B>, p: &Placed, write: &Write<'_>) -> Result<()> {
        let may_lack_blocks = p.extends() || {
            let state = self.state();
            state.sparse_before || !state.gaps.is_empty()
        };
        if may_lack_blocks {
            if let Some(no) = p.outgrown() {
                self.reserve_home(change, no, no, p.geometry.chunk_size())?;
            }
            // What lies between is a hole, and stays one.
            let last_len = p.geometry.chunk_len(p.last, p.new_size);
            self.reserve_home(change, p.first, p.last, last_len)?;
        }
        let seq = change.volume.next_seq()?;
        let runs = self.seal_write(change, p, write, seq)?;
        let mut batch = self.batch_runs(change, seq, &runs);
        if p.extends() {
            batch = batch.event(Record::Size { size: p.new_size });
        }
        self.put_batch(change, batch).map(drop)
    }

    /// The chunks that it changes go through the journal, which says that the file grows; what is added is written straight
    /// behind them. If they are stable, that has to be durable first.
    fn put_behind(&self, change: &Change<'_, B>, p: &Placed, write: &Write<'_>) -> Result<()> {
        let volume = change.volume;
        let geometry = p.geometry;
        let border = geometry.plain_start(ChunkNo(p.old_last.0 + 1));
        self.reserve_home(change, p.old_last, p.old_last, geometry.chunk_size())?;
        let seq = volume.next_seq()?;
        let changed = if p.off < border {
            let part = p.before(border);
            let data = &write.data[..(part.end - part.off) as usize];
            let write = Write { data, ..*write };
            self.seal_chunks(change, &part, &write, seq, Buffer::empty())?
        } else {
            self.seal_outgrown(change, p.old_last, write, seq)?
        };
        let batch = self
            .batch_runs(change, seq, &[changed])
            .event(Record::Extends { stable: p.size });
        let ticket = self.put_batch(change, batch)?;
        let first = {
            let state = self.state();
            match state.is_stable(geometry, p.old_last) {
                true => ticket,
                false => state.filled,
            }
        };
        let added = || {
            volume.commit(first)?;
            let off = p.off.max(border);
            let first = geometry.chunk_of(off);
            let data = &write.data[(off - p.off) as usize..];
            let (rest, write) = (Placed { off, first, ..*p }, Write { data, ..*write });
            let seq = volume.next_seq()?;
            let run = self.seal_chunks(change, &rest, &write, seq, Buffer::empty())?;
            self.put(volume, geometry.stored_start(first), &run.image)
                .map_err(|(_, e)| e)
        };
        if let Err(e) = added() {
            let plain = write
                .old_last_plain
                .expect("an extended file has a last chunk");
            self.cut_back(change, p.size, plain)?;
            return Err(e);
        }
        self.state().home_end = p.new_size;
        Ok(())
    }

    fn put_straight_write(
        &self,
        change: &Change<'_, B>,
        p: &Placed,
        write: &Write<'_>,
    ) -> Result<()> {
        let volume = change.volume;
        let seq = volume.next_seq()?;
        let runs = self.seal_write(change, p, write, seq)?;
        if p.fresh && p.first.0 > 0 {
            self.put(volume, 0, &self.header_bytes())
                .map_err(|(_, e)| e)?;
        }
        for run in &runs {
            let at = volume.geometry().stored_start(run.first) - run.lead as u64;
            self.put(volume, at, &run.image).map_err(|(done, e)| {
                if !p.extends() {
                    self.mend_torn(volume, at + done as u64, &run.image[done..]);
                }
                e
            })?;
        }
        Ok(())
    }
}

/// The last chunk's plaintext after a write that reached it.
fn new_tail(old: Option<Tail>, p: &Placed, data: &[u8]) -> Option<Tail> {
    let start = p.geometry.plain_start(p.last);
    let from = p.off.max(start);
    let piece = &data[(from - p.off) as usize..];
    if p.covers(p.last) {
        let mut plain = old.map(|t| t.plain).unwrap_or_default();
        plain.clear();
        plain.extend_from_slice(piece);
        return Some(Tail { no: p.last, plain });
    }
    let mut tail = old.filter(|t| t.no == p.last)?;
    tail.plain
        .resize(p.geometry.chunk_len(p.last, p.new_size), 0);
    let skip = (from - start) as usize;
    tail.plain[skip..skip + piece.len()].copy_from_slice(piece);
    Some(tail)
}
