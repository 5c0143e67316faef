//! The chunks of a file that are newer than its backing file: in the journal, and not applied yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::content::Geometry;
use crate::crypto::ChunkNo;
use crate::store::journal::Ticket;
use crate::store::recovery::view::View;

/// Stored chunks by number.
#[derive(Debug, Default)]
pub struct Overlay {
    images: BTreeMap<u64, Image>,
    /// Chunks that read as holes whatever the backing file has there, first → end: only in what recovery found.
    holes: BTreeMap<u64, u64>,
}

/// What lies over a part of the backing file.
#[derive(Debug)]
pub struct Cover {
    pub images: Vec<(u64, Arc<[u8]>)>,
    /// First → end.
    pub holes: Vec<(u64, u64)>,
}

impl Cover {
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && self.holes.is_empty()
    }
}

/// The stored form of a chunk, and the group it came with.
#[derive(Debug, Clone)]
pub struct Image {
    pub stored: Arc<[u8]>,
    pub ticket: Ticket,
}

impl Overlay {
    /// What recovery found, to be shown by a volume that must not be written to.
    pub fn recovered(view: &View) -> Self {
        let image = |stored: &Arc<[u8]>| Image {
            stored: stored.clone(),
            ticket: Ticket::default(),
        };
        Self {
            images: view.chunks.iter().map(|(no, c)| (*no, image(c))).collect(),
            holes: view.holes.clone(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && self.holes.is_empty()
    }

    /// Whether it has any of the chunks `first..=last`.
    pub fn meets(&self, first: ChunkNo, last: ChunkNo) -> bool {
        self.images.range(first.0..=last.0).next().is_some()
    }

    /// Adds an image; answers how many bytes the one had that it replaces.
    pub fn insert(&mut self, no: ChunkNo, image: Image) -> usize {
        self.images
            .insert(no.0, image)
            .map_or(0, |old| old.stored.len())
    }

    /// Drops the chunks `first..end`; answers how many bytes they had.
    pub fn remove(&mut self, first: ChunkNo, end: ChunkNo) -> usize {
        let gone: Vec<u64> = self
            .images
            .range(first.0..end.0)
            .map(|(no, _)| *no)
            .collect();
        gone.iter()
            .filter_map(|no| self.images.remove(no))
            .map(|image| image.stored.len())
            .sum()
    }

    /// Drops an image unless it was replaced since; answers how many bytes it had.
    pub fn applied(&mut self, no: u64, ticket: Ticket) -> usize {
        match self.images.get(&no) {
            Some(image) if image.ticket == ticket => {
                self.images.remove(&no).map_or(0, |i| i.stored.len())
            }
            _ => 0,
        }
    }

    /// All images, in the order of their chunks.
    pub fn snapshot(&self) -> Vec<(u64, Image)> {
        self.images
            .iter()
            .map(|(no, image)| (*no, image.clone()))
            .collect()
    }

    /// What lies over the chunks `first..=last`.
    pub fn range(&self, first: ChunkNo, last: ChunkNo) -> Cover {
        let images = self.images.range(first.0..=last.0);
        let holes = self.holes.range(..=last.0);
        Cover {
            images: images
                .map(|(no, image)| (*no, image.stored.clone()))
                .collect(),
            holes: holes
                .filter(|(_, end)| **end > first.0)
                .map(|(first, end)| (*first, *end))
                .collect(),
        }
    }
}

/// Lays what covers them over `stored`, bytes that were read from offset `off` of the backing file on.
pub fn lay(geometry: Geometry, cover: &Cover, off: u64, stored: &mut [u8]) {
    let len = stored.len() as u64;
    for (first, end) in &cover.holes {
        let place = |no: u64| {
            geometry
                .stored_start(ChunkNo(no))
                .saturating_sub(off)
                .min(len)
        };
        stored[place(*first) as usize..place(*end) as usize].fill(0);
    }
    for (no, image) in &cover.images {
        let begin = geometry.stored_start(ChunkNo(*no));
        let skip = off.saturating_sub(begin) as usize;
        let at = begin.saturating_sub(off) as usize;
        let (Some(image), Some(room)) = (image.get(skip..), stored.get_mut(at..)) else {
            continue;
        };
        let len = image.len().min(room.len());
        room[..len].copy_from_slice(&image[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_holes_are_laid_where_they_overlap_what_was_read() {
        let geometry = Geometry::new(12).expect("in range");
        let chunk = geometry.stored_chunk();
        let cover = Cover {
            images: vec![(1, Arc::from(vec![7; chunk]))],
            holes: vec![(3, 5)],
        };
        // From the middle of chunk 1 to the middle of chunk 3.
        let off = geometry.stored_start(ChunkNo(1)) + 100;
        let mut read = vec![9; 2 * chunk];
        lay(geometry, &cover, off, &mut read);
        assert!(read[..chunk - 100].iter().all(|b| *b == 7));
        assert!(read[chunk - 100..2 * chunk - 100].iter().all(|b| *b == 9));
        assert!(read[2 * chunk - 100..].iter().all(|b| *b == 0));
    }
}
