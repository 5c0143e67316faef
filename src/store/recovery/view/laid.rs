//! What lies over a data file: the size, the chunks and the holes that it should have.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::crypto::ChunkNo;
use crate::format::file::FileHeader;

/// What must be laid over a data file to read it, and be written into it to mend it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The plaintext size, if it is not what the data file's length says. What the data file has behind it is to be cut;
    /// what it lacks up to it is a hole.
    pub size: Option<u64>,
    /// Chunk number → stored bytes.
    pub chunks: BTreeMap<u64, Arc<[u8]>>,
    /// Chunks that are holes although the data file has something there: first → end.
    pub holes: BTreeMap<u64, u64>,
    /// The data file's header is void: this one stands for it, and all of the content is in `chunks`.
    pub header: Option<FileHeader>,
}

/// What a view says of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Laid<'a> {
    /// These stored bytes.
    Stored(&'a [u8]),
    Hole,
    /// What the data file has.
    InPlace,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lengths = self.chunks.iter().map(|(no, bytes)| (no, bytes.len()));
        f.debug_struct("View")
            .field("size", &self.size)
            .field("chunks", &lengths.collect::<Vec<_>>())
            .field("holes", &self.holes)
            .field("header", &self.header.is_some())
            .finish()
    }
}

impl View {
    pub fn chunk(&self, no: ChunkNo) -> Laid<'_> {
        if let Some(bytes) = self.chunks.get(&no.0) {
            return Laid::Stored(bytes);
        }
        match self.holes.range(..=no.0).next_back() {
            Some((_, end)) if no.0 < *end => Laid::Hole,
            _ => Laid::InPlace,
        }
    }

    pub(super) fn add_hole(&mut self, no: u64) {
        if let Some((_, end)) = self.holes.range_mut(..=no).next_back()
            && *end >= no
        {
            *end = (*end).max(no + 1);
            return;
        }
        self.holes.insert(no, no + 1);
    }

    /// Forgets everything behind chunk `last`.
    pub(super) fn keep_through(&mut self, last: u64) {
        self.chunks.split_off(&(last + 1));
        self.holes.split_off(&(last + 1));
        if let Some((_, end)) = self.holes.iter_mut().next_back() {
            *end = (*end).min(last + 1);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.size.is_none() && self.chunks.is_empty() && self.holes.is_empty()
    }

    /// Chunk `no`, the last one of any in the view, is no hole.
    pub(super) fn remove_last_hole(&mut self, no: u64) {
        if let Some((first, end)) = self.holes.iter_mut().next_back()
            && *end == no + 1
        {
            *end = no;
            if *first == no {
                self.holes.remove(&no);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_answers_chunk_by_chunk() {
        let mut view = View::default();
        view.chunks.insert(2, Arc::from(&[1u8, 2][..]));
        for no in [4, 5, 6, 9] {
            view.add_hole(no);
        }
        assert_eq!(view.holes, BTreeMap::from([(4, 7), (9, 10)]));
        assert_eq!(view.chunk(ChunkNo(2)), Laid::Stored(&[1, 2]));
        assert_eq!(view.chunk(ChunkNo(6)), Laid::Hole);
        assert_eq!(view.chunk(ChunkNo(7)), Laid::InPlace);
        view.keep_through(5);
        assert_eq!(view.holes, BTreeMap::from([(4, 6)]));
        view.remove_last_hole(5);
        view.remove_last_hole(4);
        assert!(view.holes.is_empty());
    }
}
