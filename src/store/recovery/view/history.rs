//! What the journal tells of one file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::content::Geometry;
use crate::crypto::WriteSeq;

/// Where the journal holds an image.
#[derive(Debug, Clone, Copy)]
pub struct ImageAt {
    pub seq: WriteSeq,
    pub segment: usize,
    pub at: u64,
    pub len: u32,
}

/// What happened to a file, as far as the journal tells.
#[derive(Debug, Default)]
pub struct History {
    /// All of its chunks may have been written without records.
    pub fresh: bool,
    /// The newest of each chunk.
    pub(super) images: BTreeMap<u64, ImageAt>,
    pub(super) ends: Vec<End>,
    pub(super) punches: Vec<Punch>,
}

/// The file had this size from there on.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) seq: WriteSeq,
    pub(super) size: u64,
    /// Direct chunks may follow.
    pub(super) extends: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Punch {
    pub(super) seq: WriteSeq,
    pub(super) first: u64,
    pub(super) end: u64,
}

impl History {
    /// One of which nothing is known but that it is new.
    pub fn of_new_file() -> Self {
        Self {
            fresh: true,
            ..Self::default()
        }
    }

    pub fn image(&mut self, no: u64, image: ImageAt) {
        match self.images.entry(no) {
            Entry::Occupied(mut kept) => {
                if kept.get().seq <= image.seq {
                    kept.insert(image);
                }
            }
            Entry::Vacant(free) => {
                free.insert(image);
            }
        }
    }

    pub fn resized(&mut self, seq: WriteSeq, size: u64) {
        self.ends.push(End {
            seq,
            size,
            extends: false,
        });
    }

    pub fn extends(&mut self, seq: WriteSeq, stable: u64) {
        self.ends.push(End {
            seq,
            size: stable,
            extends: true,
        });
    }

    pub fn punched(&mut self, seq: WriteSeq, first: u64, end: u64) {
        self.punches.push(Punch { seq, first, end });
    }

    /// Whether the journal tells nothing of the content.
    pub(super) fn is_bare(&self) -> bool {
        self.images.is_empty() && self.ends.is_empty() && self.punches.is_empty()
    }

    /// Called once after the last event.
    pub fn finish(&mut self) {
        self.ends.sort_by_key(|e| e.seq);
        self.punches.sort_by_key(|p| p.seq);
    }

    /// The first chunk that may have been written without a record; `u64::MAX` if there is none. `fresh` says that all may.
    pub(super) fn direct_from(&self, geometry: Geometry, fresh: bool) -> u64 {
        if fresh {
            return 0;
        }
        let first_after = |e: &End| e.size.div_ceil(geometry.chunk_size() as u64);
        let extensions = self.ends.iter().filter(|e| e.extends);
        extensions.map(first_after).min().unwrap_or(u64::MAX)
    }
}
