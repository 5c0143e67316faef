//! Truncation both ways, preallocation, and holes.

use crate::content::geometry;
use crate::crypto::{ChunkFlags, ChunkNo};
use crate::store::backing::{Allocate, Backing};
use crate::store::error::{Error, Result};
use crate::store::file::{DataFile, Last};
use crate::store::range_lock::{ChunkRange, RangeGuard};
use crate::store::volume::Volume;

/// Whether a range that is cleared keeps its reserved space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clear {
    Punch,
    ZeroRange,
}

impl<B: Backing> DataFile<B> {
    /// Sets the plaintext size. What is added reads as zeros.
    pub fn set_size(&self, volume: &Volume<B>, new: u64) -> Result<()> {
        volume.check_writable()?;
        if new > geometry::MAX_PLAIN_SIZE {
            return Err(Error::TooLarge);
        }
        let damaged = match self.ensure_last(volume) {
            // Whoever throws all of the content away may do so whatever it has become.
            Err(Error::Damaged { .. }) if new == 0 => true,
            other => other.map(|_| false)?,
        };
        let (size, _held) = self.lock_ends(volume, new);
        if damaged {
            return self.shrink(volume, size, 0);
        }
        match new.cmp(&size) {
            std::cmp::Ordering::Less => self.shrink(volume, size, new),
            std::cmp::Ordering::Greater => self.grow(volume, size, new),
            // The times change even so, as ftruncate(2) has it.
            std::cmp::Ordering::Equal if self.state().fresh => Ok(()),
            std::cmp::Ordering::Equal => self.cut(volume, size),
        }
    }

    /// Locks from the old or the new last chunk on, whichever is first; answers the size then.
    fn lock_ends(&self, volume: &Volume<B>, new: u64) -> (u64, RangeGuard<'_>) {
        let geometry = volume.geometry();
        loop {
            let size = self.size();
            let first = geometry.last_chunk(size.min(new));
            let held = self.ranges.exclusive(ChunkRange::from(first));
            if self.size() == size {
                return (size, held);
            }
        }
    }

    fn shrink(&self, volume: &Volume<B>, size: u64, new: u64) -> Result<()> {
        let geometry = volume.geometry();
        let last = geometry.last_chunk(new);
        let before = match new {
            0 => Vec::new(),
            _ => self.plain_chunk(volume, last, size)?,
        };
        let kept = &before[..before.len().min(geometry.chunk_len(last, new))];
        let holes = {
            let mut state = self.state();
            let holes = (state.gaps.clone(), state.sparse_before);
            state.gaps.remove(ChunkRange::from(last));
            if new == 0 {
                state.sparse_before = false;
            }
            holes
        };
        let done = self
            .put_last(volume, last, kept, false)
            .and_then(|()| self.cut(volume, new));
        if let Err(e) = done {
            {
                let mut state = self.state();
                (state.gaps, state.sparse_before) = holes;
            }
            if new > 0 {
                self.restore(volume, last, &before, size);
            }
            return Err(e);
        }
        let mut state = self.state();
        state.size = new;
        state.length = Ok(());
        state.stable_end = state.stable_end.min(new);
        state.tail = None;
        Ok(())
    }

    /// Gives chunk `no` back what it held before the file could not be cut there.
    fn restore(&self, volume: &Volume<B>, no: ChunkNo, plain: &[u8], size: u64) {
        let put = match no == volume.geometry().last_chunk(size) {
            true => self.put_last(volume, no, plain, false),
            false => self.put_chunk(volume, no, plain, ChunkFlags::default()),
        };
        let restored = put.or_else(|e| match self.may_be_hole(volume, no) {
            // On a full disk a hole cannot become a stored chunk of zeros.
            Ok(true) if plain.iter().all(|b| *b == 0) => {
                self.allocate_chunks(volume, Allocate::Punch, no, ChunkNo(no.0 + 1))
            }
            _ => Err(e),
        });
        if let Err(e) = restored {
            log::error!("chunk {} was not restored after a failed cut: {e}", no.0);
        }
    }

    fn grow(&self, volume: &Volume<B>, size: u64, new: u64) -> Result<()> {
        let geometry = volume.geometry();
        let (old_last, new_last) = (geometry.last_chunk(size), geometry.last_chunk(new));
        let was_fresh = self.state().fresh;
        let old_plain = self.plain_chunk(volume, old_last, size)?;
        let mut plain = old_plain.clone();
        plain.resize(geometry.chunk_len(old_last, new), 0);
        if old_last == new_last {
            self.put_last(volume, new_last, &plain, false)?;
        } else {
            let gap_from = if was_fresh { 0 } else { old_last.0 + 1 };
            let gap = ChunkRange::new(ChunkNo(gap_from), ChunkNo(new_last.0.saturating_sub(1)));
            if gap.first.0 < new_last.0 {
                self.state().gaps.add(gap);
            }
            let zeros = vec![0; geometry.chunk_len(new_last, new)];
            let done = self
                .put_last(volume, new_last, &zeros, false)
                .and_then(|()| {
                    if was_fresh {
                        return Ok(());
                    }
                    self.put_chunk(volume, old_last, &plain, ChunkFlags::default())
                });
            if let Err(e) = done {
                self.state()
                    .gaps
                    .remove(ChunkRange::from(ChunkNo(gap_from)));
                let restored = self.put_last(volume, old_last, &old_plain, false);
                self.cut(volume, size).and(restored)?;
                return Err(e);
            }
        }
        let mut state = self.state();
        state.size = new;
        state.tail = None;
        Ok(())
    }

    /// Reserves disk space for a plaintext range without changing the size.
    pub fn reserve(&self, volume: &Volume<B>, off: u64, len: u64) -> Result<()> {
        volume.check_writable()?;
        let end = off.checked_add(len).ok_or(Error::TooLarge)?;
        if end > geometry::MAX_PLAIN_SIZE {
            return Err(Error::TooLarge);
        }
        self.settle(volume)?;
        let geometry = volume.geometry();
        let (first, last) = (geometry.chunk_of(off), geometry.last_chunk(end));
        self.allocate_chunks(volume, Allocate::Reserve, first, ChunkNo(last.0 + 1))
    }

    /// Makes a plaintext range read as zeros without changing the size.
    pub fn clear(&self, volume: &Volume<B>, how: Clear, off: u64, len: u64) -> Result<()> {
        volume.check_writable()?;
        self.ensure_last(volume)?;
        let geometry = volume.geometry();
        let chunk = geometry.chunk_size() as u64;
        let _held = self
            .ranges
            .exclusive(ChunkRange::from(geometry.chunk_of(off)));
        let size = self.size();
        let end = off.saturating_add(len).min(size);
        if off >= end {
            return Ok(());
        }
        // The last chunk is always stored, and so are chunks that keep some of their bytes.
        let last = geometry.last_chunk(size);
        let first_hole = ChunkNo(off.div_ceil(chunk));
        let end_hole = ChunkNo((end >> chunk.trailing_zeros()).min(last.0));
        if first_hole.0 >= end_hole.0 {
            return self.zero_stored(volume, off, end);
        }
        if !self.state().last.is_some_and(|l| l.sparse) {
            // First the permission to have holes, then the holes.
            let plain = self.plain_chunk(volume, last, size)?;
            self.put_last(volume, last, &plain, true)?;
        }
        self.state()
            .gaps
            .add(ChunkRange::new(first_hole, ChunkNo(end_hole.0 - 1)));
        let punched = match how {
            Clear::Punch => self.allocate_chunks(volume, Allocate::Punch, first_hole, end_hole),
            Clear::ZeroRange => self
                .allocate_chunks(volume, Allocate::Zero, first_hole, end_hole)
                .or_else(|e| match e.os() {
                    Some(libc::EOPNOTSUPP) => {
                        self.allocate_chunks(volume, Allocate::Punch, first_hole, end_hole)
                    }
                    _ => Err(e),
                }),
        };
        punched?;
        self.zero_stored(volume, off, geometry.plain_start(first_hole).max(off))?;
        self.zero_stored(volume, geometry.plain_start(end_hole), end)
    }

    /// Overwrites a range inside the file with sealed zeros. The caller holds a lock on it.
    fn zero_stored(&self, volume: &Volume<B>, off: u64, end: u64) -> Result<()> {
        let geometry = volume.geometry();
        let size = self.size();
        let last = geometry.last_chunk(size);
        let mut at = off;
        while at < end {
            let no = geometry.chunk_of(at);
            let start = geometry.plain_start(no);
            let mut plain = self.plain_chunk(volume, no, size)?;
            let to = plain.len().min((end - start) as usize);
            plain[(at - start) as usize..to].fill(0);
            if no == last {
                let sparse = self.state().last.is_some_and(|l: Last| l.sparse);
                self.put_last(volume, no, &plain, sparse)?;
                self.state().tail = None;
            } else {
                self.put_chunk(volume, no, &plain, ChunkFlags::default())?;
                self.state().gaps.remove(ChunkRange::new(no, no));
            }
            at = start + to as u64;
        }
        Ok(())
    }
}
