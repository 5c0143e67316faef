//! Where the bytes of a write lie: the chunks it touches, replaces, outgrows and leaves out.
//!
//! Arithmetic alone; what is done about it is for [`super::write`] and [`super::seal`].

use crate::content::Geometry;
use crate::crypto::ChunkNo;
use crate::store::file::State;
use crate::store::range_lock::ChunkRange;

/// Growth by more than this is written straight behind what is there: it would only be written twice.
const JOURNALED_GROWTH: u64 = 64 << 10;

/// One write, placed: what it covers in a file that has `size` bytes before and `new_size` after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub geometry: Geometry,
    pub off: u64,
    pub end: u64,
    pub size: u64,
    pub new_size: u64,
    pub first: ChunkNo,
    pub last: ChunkNo,
    pub old_last: ChunkNo,
    pub new_last: ChunkNo,
    pub fresh: bool,
}

impl Placed {
    pub fn new(geometry: Geometry, state: &State, off: u64, end: u64) -> Self {
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

    pub fn extends(&self) -> bool {
        self.new_size > self.size
    }

    /// Whether it adds so little that all of it goes through the journal.
    pub fn grows_little(&self) -> bool {
        (self.new_size - self.size).min(self.end - self.off) <= JOURNALED_GROWTH
    }

    /// The part of the write that lies before `at`, the beginning of a chunk.
    pub fn before(&self, at: u64) -> Self {
        let end = self.end.min(at);
        Self {
            end,
            last: self.geometry.chunk_of(end.max(self.off + 1) - 1),
            ..*self
        }
    }

    /// The chunks that must not be touched by others meanwhile.
    pub fn range(&self) -> ChunkRange {
        if self.extends() {
            ChunkRange::from(ChunkNo(self.first.0.min(self.old_last.0)))
        } else {
            ChunkRange::new(self.first, self.last)
        }
    }

    /// The old last chunk, when it lies before the write and so must be filled up and lose its FINAL flag.
    pub fn outgrown(&self) -> Option<ChunkNo> {
        (!self.fresh && self.old_last.0 < self.first.0).then_some(self.old_last)
    }

    /// The chunks between the old end and the write.
    pub fn gap(&self) -> Option<ChunkRange> {
        let from = if self.fresh { 0 } else { self.old_last.0 + 1 };
        (self.extends() && from < self.first.0)
            .then(|| ChunkRange::new(ChunkNo(from), ChunkNo(self.first.0 - 1)))
    }

    /// Whether the write replaces all of chunk `no` as it will be.
    pub fn covers(&self, no: ChunkNo) -> bool {
        let start = self.geometry.plain_start(no);
        let len = self.geometry.chunk_len(no, self.new_size) as u64;
        self.off <= start && start + len <= self.end
    }

    /// How many of the next `available` bytes, which begin with chunk `no`, form chunks that the write replaces as a whole.
    /// It replaces chunk `no`.
    pub fn whole_chunks(&self, no: ChunkNo, available: usize) -> usize {
        let size = self.geometry.chunk_size();
        let full = available / size * size;
        let rest_is_whole = full < available && self.covers(ChunkNo(no.0 + (full / size) as u64));
        if rest_is_whole { available } else { full }
    }
}
