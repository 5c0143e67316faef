//! Writing: whole chunks are sealed from the caller's buffer, partial ones after their old content was read, and all of
//! it goes to the disk in one call where it is contiguous.

use crate::content::Buffer;
use crate::content::run::{self, seal_run};
use crate::content::{Geometry, geometry};
use crate::crypto::{ChunkFlags, ChunkNo};
use crate::store::backing::{Allocate, Backing};
use crate::store::error::{Error, Result};
use crate::store::file::{DataFile, Last, State, Tail};
use crate::store::range_lock::{ChunkRange, RangeGuard};
use crate::store::volume::Volume;

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

impl<B: Backing> DataFile<B> {
    /// Writes `data` at plaintext offset `off`, extending the file if need be.
    ///
    /// # Errors
    /// After an error a file that would have grown has its old size and content again.
    pub fn write(&self, volume: &Volume<B>, off: u64, data: &[u8]) -> Result<()> {
        volume.check_writable()?;
        if data.is_empty() {
            return Ok(());
        }
        let end = off.checked_add(data.len() as u64).ok_or(Error::TooLarge)?;
        if end > geometry::MAX_PLAIN_SIZE {
            return Err(Error::TooLarge);
        }
        self.ensure_last(volume)?;
        let (placed, _held) = self.place(volume, off, end);
        self.write_placed(volume, placed, data)
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

    fn write_placed(&self, volume: &Volume<B>, p: Placed, data: &[u8]) -> Result<()> {
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
        let written = self.put_write(volume, &p, data, old_last_plain.as_deref(), final_flags);
        if let Err(e) = written {
            self.undo(volume, &p, old_last_plain.as_deref());
            return Err(e);
        }
        let mut state = self.state();
        state.gaps.remove(ChunkRange::new(p.first, p.last));
        // A write inside the file does not hold its end, which others may have moved meanwhile.
        if p.extends() {
            state.size = p.new_size;
            state.fresh = false;
        }
        if p.last == p.new_last {
            state.last = Some(Last {
                sparse: final_flags.sparse,
            });
            state.tail = new_tail(state.tail.take(), &p, data);
        }
        Ok(())
    }

    /// Seals everything into one image and writes it.
    fn put_write(
        &self,
        volume: &Volume<B>,
        p: &Placed,
        data: &[u8],
        old_last_plain: Option<&[u8]>,
        final_flags: ChunkFlags,
    ) -> Result<()> {
        let g = p.geometry;
        let keys = self.keys(volume)?;
        let seq = volume.next_seq()?;
        let flags_of = |no: ChunkNo| match no == p.new_last {
            true => final_flags,
            false => ChunkFlags::default(),
        };
        let mut image = Buffer::empty();
        let mut image_first = p.first;

        let mut outgrown = Buffer::empty();
        if let Some(no) = p.outgrown() {
            let mut plain = old_last_plain
                .expect("an extended file has a last chunk")
                .to_vec();
            plain.resize(g.chunk_size(), 0);
            let into = if no.0 + 1 == p.first.0 {
                image_first = no;
                &mut image
            } else {
                &mut outgrown
            };
            seal_run(keys, g, no, &plain, seq, ChunkFlags::default(), into);
        }
        let header = (p.fresh && image_first.0 == 0).then(|| self.header_bytes());
        if let Some(header) = header {
            image.append(&header);
        }

        let mut rest = data;
        let mut no = p.first;
        while !rest.is_empty() {
            let take = if p.covers(no) {
                let whole = whole_chunks(p, no, rest.len());
                let flags = flags_of(g.chunk_of(g.plain_start(no) + whole as u64 - 1));
                seal_run(keys, g, no, &rest[..whole], seq, flags, &mut image);
                whole
            } else {
                let start = g.plain_start(no);
                let mut plain = match old_last_plain {
                    Some(old) if no == p.old_last => old.to_vec(),
                    _ => self.plain_chunk(volume, no, p.size)?,
                };
                plain.resize(g.chunk_len(no, p.new_size), 0);
                let skip = p.off.saturating_sub(start) as usize;
                let take = rest.len().min(plain.len() - skip);
                plain[skip..skip + take].copy_from_slice(&rest[..take]);
                seal_run(keys, g, no, &plain, seq, flags_of(no), &mut image);
                take
            };
            rest = &rest[take..];
            no = g.chunk_of(p.end - rest.len() as u64);
        }

        let at = match header {
            Some(_) => 0,
            None => g.stored_start(image_first),
        };
        self.put(volume, at, &image).map_err(|(done, e)| {
            if !p.extends() {
                self.mend_torn(volume, at + done as u64, &image[done..]);
            }
            e
        })?;
        if let Some(no) = p.outgrown().filter(|_| !outgrown.is_empty()) {
            self.put(volume, g.stored_start(no), &outgrown)
                .map_err(|(_, e)| e)?;
        }
        if p.fresh && header.is_none() {
            self.put(volume, 0, &self.header_bytes())
                .map_err(|(_, e)| e)?;
        }
        Ok(())
    }

    /// Gives a file that could not be extended its old end back. Its blocks are still there, so this needs no space.
    fn undo(&self, volume: &Volume<B>, p: &Placed, old_last_plain: Option<&[u8]>) {
        if !p.extends() {
            return;
        }
        self.state()
            .gaps
            .remove(ChunkRange::from(ChunkNo(p.old_last.0 + 1)));
        let undone = match old_last_plain {
            None => {
                self.state().gaps = Default::default();
                volume
                    .backing()
                    .set_len(self.backing_file(), 0)
                    .map_err(Error::from)
            }
            Some(plain) => self
                .put_last(volume, p.old_last, plain, false)
                .and_then(|()| self.cut(volume, p.size)),
        };
        if let Err(e) = undone {
            log::error!("a file could not be given its old end back after a failed write: {e}");
        }
    }

    /// After a write that failed in the middle of a chunk: a chunk that was a hole becomes one again.
    ///
    /// `unwritten` is what did not get to `at`.
    fn mend_torn(&self, volume: &Volume<B>, at: u64, unwritten: &[u8]) {
        let g = volume.geometry();
        let no = g.chunk_at_stored(at);
        let in_chunk = g.stored_start(ChunkNo(no.0 + 1)).saturating_sub(at) as usize;
        if at == g.stored_start(no) || in_chunk == 0 {
            return;
        }
        let mut rest = Buffer::of_len(in_chunk.min(unwritten.len()));
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
