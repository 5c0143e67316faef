//! The chunks of a file that are newer than its backing file: in the journal, and not applied yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::content::Geometry;
use crate::crypto::ChunkNo;
use crate::store::journal::Ticket;

/// Stored chunks by number. An empty one stands for a hole.
#[derive(Debug, Default)]
pub struct Overlay {
    images: BTreeMap<u64, Image>,
}

/// The stored form of a chunk, and the group it came with.
#[derive(Debug, Clone)]
pub struct Image {
    pub stored: Arc<[u8]>,
    pub ticket: Ticket,
}

impl Overlay {
    /// What recovery found, to be shown by a volume that must not be written to.
    pub fn recovered(chunks: &BTreeMap<u64, Arc<[u8]>>) -> Self {
        let image = |stored: &Arc<[u8]>| Image {
            stored: stored.clone(),
            ticket: Ticket::default(),
        };
        Self {
            images: chunks.iter().map(|(no, c)| (*no, image(c))).collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
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

    /// The images of `first..=last`.
    pub fn range(&self, first: ChunkNo, last: ChunkNo) -> Vec<(u64, Arc<[u8]>)> {
        self.images
            .range(first.0..=last.0)
            .map(|(no, image)| (*no, image.stored.clone()))
            .collect()
    }
}

/// Lays images over `stored`, which was read from offset `off` of the backing file on.
pub fn lay(geometry: Geometry, images: &[(u64, Arc<[u8]>)], off: u64, stored: &mut [u8]) {
    for (no, image) in images {
        let begin = geometry.stored_start(ChunkNo(*no));
        let hole;
        let image = match image.is_empty() {
            true => {
                hole = vec![0; geometry.stored_chunk()];
                &hole[..]
            }
            false => image,
        };
        let (skip, at) = (
            off.saturating_sub(begin) as usize,
            begin.saturating_sub(off) as usize,
        );
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
    fn images_are_laid_where_they_overlap_what_was_read() {
        let geometry = Geometry::new(12).expect("in range");
        let chunk = geometry.stored_chunk();
        let images = vec![(1, Arc::from(vec![7; chunk])), (3, Arc::from(vec![]))];
        // From the middle of chunk 1 to the middle of chunk 3.
        let off = geometry.stored_start(ChunkNo(1)) + 100;
        let mut read = vec![9; 2 * chunk];
        lay(geometry, &images, off, &mut read);
        assert!(read[..chunk - 100].iter().all(|b| *b == 7));
        assert!(read[chunk - 100..2 * chunk - 100].iter().all(|b| *b == 9));
        assert!(read[2 * chunk - 100..].iter().all(|b| *b == 0));
    }
}
