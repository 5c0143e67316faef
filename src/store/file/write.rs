//! Writing: whole chunks are sealed from the caller's buffer, partial ones after their old content was read. What touches
//! stable chunks goes into the journal as one group; everything else goes to the disk, in one call where it is contiguous.

use crate::content::Buffer;
use crate::content::run::{self, seal_run};
use crate::content::{Geometry, geometry};
use crate::crypto::{ChunkFlags, ChunkNo, WriteSeq};
use crate::format::file::HEADER_LEN;
use crate::format::journal::Record;
use crate::store::backing::{Allocate, Backing};
use crate::store::change::Change;
use crate::store::error::{Error, Result};
use crate::store::file::journaled::Run;
use crate::store::file::{DataFile, Last, State, Tail};
use crate::store::range_lock::{ChunkRange, RangeGuard};
use crate::store::volume::Volume;

/// Growth by more than this is written straight behind what is there: it would only be written twice.
const JOURNALED_GROWTH: u64 = 64 << 10;

/// Where a write went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Into the backing file, whose times have moved on.
    Straight,
    Journal,
}

/// One write, placed: what it covers in a file that has `size` bytes before and `new_size` after it.
#[derive(Debug, Clone, Copy)]
struct Placed {
    geometry: Geometry,
    off: u64,
    end: u64,
    size: u64,
    new_size: u64,
    first: ChunkNo,
    last: ChunkNo,
    old_last: ChunkNo,
    new_last: ChunkNo,
    fresh: bool,
}

impl Placed {
    fn new(geometry: Geometry, state: &State, off: u64, end: u64) -> Self {
        let new_size = state.size.max(end);
        Self {
            geometry,
            off,
            end,
            size: state.size,
            new_size,
            first: geometry.chunk_of(off),
            last: geometry.chunk_of(end - 1),
            old_last: geometry.last_chunk(state.size),
            new_last: geometry.last_chunk(new_size),
            fresh: state.fresh,
        }
    }

    fn extends(&self) -> bool {
        self.new_size > self.size
    }

    /// Whether it adds so little that all of it goes through the journal.
    fn grows_little(&self) -> bool {
        (self.new_size - self.size).min(self.end - self.off) <= JOURNALED_GROWTH
    }

    /// The part of the write that lies before `at`, the beginning of a chunk.
    fn before(&self, at: u64) -> Self {
        let end = self.end.min(at);
        Self {
            end,
            last: self.geometry.chunk_of(end.max(self.off + 1) - 1),
            ..*self
        }
    }

    /// The chunks that must not be touched by others meanwhile.
    fn range(&self) -> ChunkRange {
        if self.extends() {
            ChunkRange::from(ChunkNo(self.first.0.min(self.old_last.0)))
        } else {
            ChunkRange::new(self.first, self.last)
        }
    }

    /// The old last chunk, when it lies before the write and so must be filled up and lose its FINAL flag.
    fn outgrown(&self) -> Option<ChunkNo> {
        (!self.fresh && self.old_last.0 < self.first.0).then_some(self.old_last)
    }

    /// The chunks between the old end and the write.
    fn gap(&self) -> Option<ChunkRange> {
        let from = if self.fresh { 0 } else { self.old_last.0 + 1 };
        (self.extends() && from < self.first.0)
            .then(|| ChunkRange::new(ChunkNo(from), ChunkNo(self.first.0 - 1)))
    }

    /// Whether the write replaces all of chunk `no` as it will be.
    fn covers(&self, no: ChunkNo) -> bool {
        let start = self.geometry.plain_start(no);
        let len = self.geometry.chunk_len(no, self.new_size) as u64;
        self.off <= start && start + len <= self.end
    }
}

/// The ways of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In place.
    Straight,
    /// Through the journal.
    Journal,
    /// What is there through the journal, what is added in place.
    Behind,
}

/// What a write brings, and what it needs to know of the file's end.
#[derive(Debug, Clone, Copy)]
struct Write<'a> {
    data: &'a [u8],
    old_last_plain: Option<&'a [u8]>,
    final_flags: ChunkFlags,
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
            (state.mtime, state.kept) = (None, None);
        }
        if !state.gaps.is_empty() {
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
        Ok(match way {
            Way::Journal => Route::Journal,
            Way::Straight | Way::Behind => Route::Straight,
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

    /// Seals everything that changes, the chunk that is outgrown first.
    fn seal_write(
        &self,
        change: &Change<'_, B>,
        p: &Placed,
        write: &Write<'_>,
        seq: WriteSeq,
    ) -> Result<Vec<Run>> {
        let Some(no) = p.outgrown() else {
            return Ok(vec![self.seal_chunks(
                change,
                p,
                write,
                seq,
                Buffer::empty(),
            )?]);
        };
        let outgrown = self.seal_outgrown(change, no, write, seq)?;
        if no.0 + 1 == p.first.0 {
            let image = outgrown.image;
            let all = self.seal_chunks(change, p, write, seq, image)?;
            return Ok(vec![Run { first: no, ..all }]);
        }
        let added = self.seal_chunks(change, p, write, seq, Buffer::empty())?;
        Ok(vec![outgrown, added])
    }

    /// Seals the old last chunk as an inner one.
    fn seal_outgrown(
        &self,
        change: &Change<'_, B>,
        no: ChunkNo,
        write: &Write<'_>,
        seq: WriteSeq,
    ) -> Result<Run> {
        let geometry = change.volume.geometry();
        let mut plain = write
            .old_last_plain
            .expect("an extended file has a last chunk")
            .to_vec();
        plain.resize(geometry.chunk_size(), 0);
        let mut run = Run::at(no);
        let flags = ChunkFlags::default();
        let keys = self.keys(change.volume)?;
        seal_run(keys, geometry, no, &plain, seq, flags, &mut run.image);
        Ok(run)
    }

    /// Seals the chunks that the data touches, behind what is in `image`.
    fn seal_chunks(
        &self,
        change: &Change<'_, B>,
        p: &Placed,
        write: &Write<'_>,
        seq: WriteSeq,
        image: Buffer,
    ) -> Result<Run> {
        let g = p.geometry;
        let keys = self.keys(change.volume)?;
        let flags_of = |no: ChunkNo| match no == p.new_last {
            true => write.final_flags,
            false => ChunkFlags::default(),
        };
        let mut run = Run {
            image,
            ..Run::at(p.first)
        };
        if p.fresh && p.first.0 == 0 {
            run.image.append(&self.header_bytes());
            run.lead = HEADER_LEN;
        }
        let image = &mut run.image;
        let mut rest = write.data;
        let mut no = p.first;
        while !rest.is_empty() {
            let take = if p.covers(no) {
                let whole = whole_chunks(p, no, rest.len());
                let flags = flags_of(g.chunk_of(g.plain_start(no) + whole as u64 - 1));
                seal_run(keys, g, no, &rest[..whole], seq, flags, image);
                whole
            } else {
                let start = g.plain_start(no);
                let mut plain = match write.old_last_plain {
                    Some(old) if no == p.old_last => old.to_vec(),
                    _ => self.plain_chunk(change.volume, no, p.size)?,
                };
                plain.resize(g.chunk_len(no, p.new_size), 0);
                let skip = p.off.saturating_sub(start) as usize;
                let take = rest.len().min(plain.len() - skip);
                plain[skip..skip + take].copy_from_slice(&rest[..take]);
                seal_run(keys, g, no, &plain, seq, flags_of(no), image);
                take
            };
            rest = &rest[take..];
            no = g.chunk_of(p.end - rest.len() as u64);
        }
        Ok(run)
    }

    /// Gives a file that could not be extended its old end back. Its blocks are still there, so this needs no space.
    fn undo(&self, change: &Change<'_, B>, p: &Placed, way: Way, old_last: Option<&[u8]>) {
        if !p.extends() {
            return;
        }
        self.state()
            .gaps
            .remove(ChunkRange::from(ChunkNo(p.old_last.0 + 1)));
        let undone = match (way, old_last) {
            // What is not in the journal has not happened, and who writes behind it has tidied up.
            (Way::Journal | Way::Behind, _) => Ok(()),
            (Way::Straight, None) => {
                self.state().gaps = Default::default();
                change
                    .volume
                    .backing()
                    .set_len(self.backing_file(), 0)
                    .map_err(Error::from)
            }
            (Way::Straight, Some(plain)) => self
                .put_last(change, p.old_last, plain, false)
                .and_then(|()| self.cut(change.volume, p.size)),
        };
        if let Err(e) = undone {
            log::error!("a file could not be given its old end back after a failed write: {e}");
        }
    }

    /// After a write that failed in the middle of a chunk: the rest of the chunk is tried once more, and if that cannot be
    /// written either, a chunk that was a hole becomes one again.
    ///
    /// `unwritten` is what did not get to `at`.
    fn mend_torn(&self, volume: &Volume<B>, at: u64, unwritten: &[u8]) {
        let g = volume.geometry();
        let no = g.chunk_at_stored(at);
        let in_chunk = g.stored_start(ChunkNo(no.0 + 1)).saturating_sub(at) as usize;
        if at == g.stored_start(no) || in_chunk == 0 {
            return;
        }
        let unwritten = &unwritten[..in_chunk.min(unwritten.len())];
        if self.put(volume, at, unwritten).is_ok() {
            return;
        }
        let mut rest = Buffer::of_len(unwritten.len());
        let was_hole = self
            .fetch(volume, at, &mut rest)
            .is_ok_and(|got| got > 0 && run::is_zero(&rest[..got]));
        if was_hole && self.may_be_hole(volume, no).unwrap_or(false) {
            let end = ChunkNo(no.0 + 1);
            if let Err(e) = self.allocate_chunks(volume, Allocate::Punch, no, end) {
                log::error!("chunk {} was torn by a failed write: {e}", no.0);
            }
        }
    }
}

/// How many of the next `available` bytes, which begin with chunk `no`, form chunks that the write replaces as a whole.
/// It replaces chunk `no`.
fn whole_chunks(p: &Placed, no: ChunkNo, available: usize) -> usize {
    let size = p.geometry.chunk_size();
    let full = available / size * size;
    let rest_is_whole = full < available && p.covers(ChunkNo(no.0 + (full / size) as u64));
    if rest_is_whole { available } else { full }
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
