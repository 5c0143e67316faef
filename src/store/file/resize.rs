//! Truncation both ways, preallocation, and holes.

use std::sync::MutexGuard;

use crate::content::geometry;
use crate::crypto::{ChunkFlags, ChunkNo};
use crate::format::journal::Record;
use crate::store::backing::{Allocate, Backing};
use crate::store::change::Change;
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

/// Whether a file may get this size.
fn check_size<B: Backing>(volume: &Volume<B>, new: u64) -> Result<()> {
    volume.check_writable()?;
    match new > geometry::MAX_PLAIN_SIZE {
        true => Err(Error::TooLarge),
        false => Ok(()),
    }
}

impl<B: Backing> DataFile<B> {
    /// Sets the plaintext size. What is added reads as zeros.
    pub fn set_size(&self, change: &Change<'_, B>, new: u64) -> Result<()> {
        let volume = change.volume;
        check_size(volume, new)?;
        let damaged = match self.ensure_last(volume) {
            // Whoever throws all of the content away may do so whatever it has become.
            Err(Error::Damaged { .. }) if new == 0 => true,
            other => other.map(|_| false)?,
        };
        let (size, _held) = self.lock_ends(volume, new);
        if damaged {
            return self.shrink(change, size, 0);
        }
        match new.cmp(&size) {
            std::cmp::Ordering::Less => self.shrink(change, size, new),
            std::cmp::Ordering::Greater => self.grow(change, size, new),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// The same of a file that is shorter, whoever else makes it longer meanwhile.
    pub fn extend(&self, change: &Change<'_, B>, new: u64) -> Result<()> {
        check_size(change.volume, new)?;
        self.ensure_last(change.volume)?;
        let (size, _held) = self.lock_ends(change.volume, new);
        match new > size {
            true => self.grow(change, size, new),
            false => Ok(()),
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

    fn shrink(&self, change: &Change<'_, B>, size: u64, new: u64) -> Result<()> {
        let volume = change.volume;
        let last = volume.geometry().last_chunk(new);
        let before = match new {
            0 => Vec::new(),
            _ => self.plain_chunk(volume, last, size)?,
        };
        let kept = &before[..before.len().min(volume.geometry().chunk_len(last, new))];
        if self.is_journaled(change) {
            // It may have been a hole.
            self.reserve_home(change, last, last, kept.len())?;
        }
        let holes = {
            let mut state = self.state();
            let holes = (state.gaps.clone(), state.sparse_before);
            state.gaps.remove(ChunkRange::from(last));
            if new == 0 {
                state.sparse_before = false;
            }
            holes
        };
        // What lies before the cut is kept, whatever happens.
        let done = match self.is_journaled(change) {
            true => self.cut_back(change, new, kept),
            false => self.cut_straight(change, last, &before, kept, (size, new)),
        };
        let mut state = self.state();
        if let Err(e) = done {
            (state.gaps, state.sparse_before) = holes;
            return Err(e);
        }
        state.size = new;
        state.damage = None;
        state.tail = None;
        Ok(())
    }

    fn cut_straight(
        &self,
        change: &Change<'_, B>,
        last: ChunkNo,
        before: &[u8],
        kept: &[u8],
        (size, new): (u64, u64),
    ) -> Result<()> {
        self.put_last(change, last, kept, false)
            .and_then(|()| self.cut(change.volume, new))
            .inspect_err(|_| {
                if new > 0 {
                    self.restore(change, last, before, size);
                }
            })?;
        self.state().home_end = new;
        Ok(())
    }

    /// Ends the file at `size`, where its last chunk holds `plain`, through the journal. The caller holds the lock from
    /// that chunk on.
    pub(super) fn cut_back(&self, change: &Change<'_, B>, size: u64, plain: &[u8]) -> Result<()> {
        let volume = change.volume;
        let alone = self.lock_applying();
        let mut batch = self.batch(change)?;
        let last = volume.geometry().last_chunk(size);
        self.batch_chunk(change, &mut batch, last, plain, self.last_flags())?;
        self.put_batch(change, batch.event(Record::Size { size }))?;
        self.apply_now(change, &alone)
    }

    /// After a group that cuts or punches: the backing file follows at once, so that what is written straight later does
    /// not meet what was there before. It has happened even if that fails now: it is tried again at the checkpoint.
    fn apply_now(&self, change: &Change<'_, B>, alone: &MutexGuard<'_, ()>) -> Result<()> {
        let ticket = self.state().ticket;
        change.volume.commit(ticket)?;
        if let Err(e) = self.apply_alone(change.volume, alone) {
            log::warn!("a file could not be cut yet, which will be tried again: {e}");
        }
        Ok(())
    }

    /// Gives chunk `no` back what it held before the file could not be cut there.
    fn restore(&self, change: &Change<'_, B>, no: ChunkNo, plain: &[u8], size: u64) {
        let volume = change.volume;
        let put = match no == volume.geometry().last_chunk(size) {
            true => self.put_last(change, no, plain, false),
            false => self.put_chunk(change, no, plain, ChunkFlags::default()),
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

    fn grow(&self, change: &Change<'_, B>, size: u64, new: u64) -> Result<()> {
        let volume = change.volume;
        let geometry = volume.geometry();
        let (old_last, new_last) = (geometry.last_chunk(size), geometry.last_chunk(new));
        let was_fresh = self.state().fresh;
        let old_plain = self.plain_chunk(volume, old_last, size)?;
        let gap_from = if was_fresh { 0 } else { old_last.0 + 1 };
        if gap_from < new_last.0 {
            let gap = ChunkRange::new(ChunkNo(gap_from), ChunkNo(new_last.0 - 1));
            self.state().gaps.add(gap);
        }
        let mut plain = old_plain.clone();
        plain.resize(geometry.chunk_len(old_last, new), 0);
        let last = match old_last == new_last {
            true => plain.clone(),
            false => vec![0; geometry.chunk_len(new_last, new)],
        };
        let outgrown = (old_last != new_last && !was_fresh).then_some((old_last, &plain[..]));
        let journaled = self.is_journaled(change);
        let done = match journaled {
            true => self.grow_journaled(change, new, outgrown, (new_last, &last)),
            false => self.grow_straight(change, outgrown, (new_last, &last)),
        };
        if let Err(e) = done {
            self.state()
                .gaps
                .remove(ChunkRange::from(ChunkNo(gap_from)));
            if !journaled {
                let restored = self.put_last(change, old_last, &old_plain, false);
                self.cut(volume, size).and(restored)?;
            }
            return Err(e);
        }
        let mut state = self.state();
        if !journaled {
            state.home_end = new;
        }
        state.size = new;
        state.tail = None;
        Ok(())
    }

    fn grow_straight(
        &self,
        change: &Change<'_, B>,
        outgrown: Option<(ChunkNo, &[u8])>,
        (last, plain): (ChunkNo, &[u8]),
    ) -> Result<()> {
        if let Some((no, plain)) = outgrown {
            self.put_chunk(change, no, plain, ChunkFlags::default())?;
        }
        self.put_last(change, last, plain, false)
    }

    fn grow_journaled(
        &self,
        change: &Change<'_, B>,
        size: u64,
        outgrown: Option<(ChunkNo, &[u8])>,
        (last, plain): (ChunkNo, &[u8]),
    ) -> Result<()> {
        let mut batch = self.batch(change)?;
        if let Some((no, plain)) = outgrown {
            self.reserve_home(change, no, no, plain.len())?;
            self.batch_chunk(change, &mut batch, no, plain, ChunkFlags::default())?;
        }
        self.reserve_home(change, last, last, plain.len())?;
        self.batch_chunk(change, &mut batch, last, plain, self.last_flags())?;
        self.put_batch(change, batch.event(Record::Size { size }))
            .map(drop)
    }

    /// Reserves disk space for a plaintext range without changing the size.
    pub fn reserve(&self, change: &Change<'_, B>, off: u64, len: u64) -> Result<()> {
        let volume = change.volume;
        volume.check_writable()?;
        let end = off.checked_add(len).ok_or(Error::TooLarge)?;
        if end > geometry::MAX_PLAIN_SIZE {
            return Err(Error::TooLarge);
        }
        self.settle(change)?;
        let geometry = volume.geometry();
        let (first, last) = (geometry.chunk_of(off), geometry.last_chunk(end));
        self.allocate_chunks(volume, Allocate::Reserve, first, ChunkNo(last.0 + 1))
    }

    /// Makes a plaintext range read as zeros without changing the size.
    pub fn clear(&self, change: &Change<'_, B>, how: Clear, off: u64, len: u64) -> Result<()> {
        let volume = change.volume;
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
        let holes = (first_hole < end_hole).then_some((first_hole, end_hole));
        let zeroed = match holes {
            None => self.zeroed(volume, off, end)?,
            Some((first, behind)) => {
                let mut zeroed = self.zeroed(volume, off, geometry.plain_start(first).max(off))?;
                zeroed.extend(self.zeroed(volume, geometry.plain_start(behind), end)?);
                zeroed
            }
        };
        match self.is_journaled(change) {
            true => self.clear_journaled(change, how, zeroed, holes),
            false => self.clear_straight(change, how, zeroed, holes),
        }
    }

    fn clear_straight(
        &self,
        change: &Change<'_, B>,
        how: Clear,
        zeroed: Vec<(ChunkNo, Vec<u8>)>,
        holes: Option<(ChunkNo, ChunkNo)>,
    ) -> Result<()> {
        let volume = change.volume;
        let size = self.size();
        let last = volume.geometry().last_chunk(size);
        if let Some((first, end)) = holes {
            if !self.state().last.is_some_and(|l| l.sparse) {
                // First the permission to have holes, then the holes.
                let plain = self.plain_chunk(volume, last, size)?;
                self.put_last(change, last, &plain, true)?;
            }
            self.add_holes(first, end);
            self.punch(volume, how, first, end)?;
        }
        for (no, plain) in zeroed {
            if no == last {
                let sparse = self.state().last.is_some_and(|l: Last| l.sparse);
                self.put_last(change, no, &plain, sparse)?;
                self.state().tail = None;
            } else {
                self.put_chunk(change, no, &plain, ChunkFlags::default())?;
                self.state().gaps.remove(ChunkRange::new(no, no));
            }
        }
        Ok(())
    }

    /// The same as one group. Chunks that become holes do so in the backing file once it is durable.
    fn clear_journaled(
        &self,
        change: &Change<'_, B>,
        how: Clear,
        zeroed: Vec<(ChunkNo, Vec<u8>)>,
        holes: Option<(ChunkNo, ChunkNo)>,
    ) -> Result<()> {
        let volume = change.volume;
        let size = self.size();
        let last = volume.geometry().last_chunk(size);
        let alone = self.lock_applying();
        let mut batch = self.batch(change)?;
        let was_sparse = self.state().last.is_some_and(|l| l.sparse);
        let sparse = was_sparse || holes.is_some();
        let last_flags = ChunkFlags {
            is_final: true,
            sparse,
        };
        if sparse != was_sparse && zeroed.iter().all(|(no, _)| *no != last) {
            let plain = self.plain_chunk(volume, last, size)?;
            self.batch_chunk(change, &mut batch, last, &plain, last_flags)?;
        }
        for (no, plain) in &zeroed {
            let flags = if *no == last {
                last_flags
            } else {
                ChunkFlags::default()
            };
            self.reserve_home(change, *no, *no, plain.len())?;
            self.batch_chunk(change, &mut batch, *no, plain, flags)?;
        }
        if let Some((first, end)) = holes {
            batch = batch.event(Record::Punch { first, end });
        }
        self.put_batch(change, batch)?;
        {
            let mut state = self.state();
            state.tail = None;
            for (no, _) in &zeroed {
                state.gaps.remove(ChunkRange::new(*no, *no));
            }
        }
        let Some((first, end)) = holes else {
            return Ok(());
        };
        self.add_holes(first, end);
        self.apply_now(change, &alone)?;
        self.keep_mtime(volume, || {
            self.punch(volume, how, first, end).or_else(|e| {
                log::warn!("holes are written as zeros: {e}");
                self.put_zeros(volume, first, end)
            })
        })
    }

    fn add_holes(&self, first: ChunkNo, end: ChunkNo) {
        let holes = ChunkRange::new(first, ChunkNo(end.0 - 1));
        self.state().gaps.add(holes);
    }

    fn punch(&self, volume: &Volume<B>, how: Clear, first: ChunkNo, end: ChunkNo) -> Result<()> {
        match how {
            Clear::Punch => self.allocate_chunks(volume, Allocate::Punch, first, end),
            Clear::ZeroRange => self
                .allocate_chunks(volume, Allocate::Zero, first, end)
                .or_else(|e| match e.os() {
                    Some(libc::EOPNOTSUPP) => {
                        self.allocate_chunks(volume, Allocate::Punch, first, end)
                    }
                    _ => Err(e),
                }),
        }
    }

    /// The chunks of a range inside the file with that range zeroed. The caller holds a lock on them.
    fn zeroed(&self, volume: &Volume<B>, off: u64, end: u64) -> Result<Vec<(ChunkNo, Vec<u8>)>> {
        let geometry = volume.geometry();
        let size = self.size();
        let mut chunks = Vec::new();
        let mut at = off;
        while at < end {
            let no = geometry.chunk_of(at);
            let start = geometry.plain_start(no);
            let mut plain = self.plain_chunk(volume, no, size)?;
            let to = plain.len().min((end - start) as usize);
            plain[(at - start) as usize..to].fill(0);
            chunks.push((no, plain));
            at = start + to as u64;
        }
        Ok(chunks)
    }
}
