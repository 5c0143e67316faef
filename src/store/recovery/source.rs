//! A data file as recovery reads it: chunk by chunk in ascending order, a quarter of a MiB at once, without its holes.

use crate::content::Geometry;
use crate::crypto::ChunkNo;
use crate::store::backing::{Backing, SeekTo};
use crate::store::error::Result;
use crate::store::recovery::scan::Segments;
use crate::store::recovery::view::{ImageAt, Stored};

const WINDOW: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub struct Source<'a, B: Backing> {
    backing: &'a B,
    file: &'a B::File,
    segments: &'a Segments<B>,
    geometry: Geometry,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
    /// A range of the file that is known to have no hole.
    data: std::ops::Range<u64>,
}

impl<'a, B: Backing> Source<'a, B> {
    /// `file` has `len` bytes.
    pub fn new(
        backing: &'a B,
        file: &'a B::File,
        segments: &'a Segments<B>,
        geometry: Geometry,
        len: u64,
    ) -> Self {
        Self {
            backing,
            file,
            segments,
            geometry,
            len,
            window: Vec::new(),
            window_at: 0,
            data: 0..0,
        }
    }
}

impl<B: Backing> Stored for Source<'_, B> {
    fn stored_len(&self) -> u64 {
        self.len
    }

    fn slot(&mut self, no: u64, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let begin = self.geometry.stored_start(ChunkNo(no));
        let wanted = self.geometry.stored_chunk() as u64;
        let len = wanted.min(self.len.saturating_sub(begin)) as usize;
        let held = begin
            .checked_sub(self.window_at)
            .is_some_and(|skip| skip + len as u64 <= self.window.len() as u64);
        if !held {
            self.window.resize(WINDOW, 0);
            let got = self.backing.read_at(self.file, &mut self.window, begin)?;
            self.window.truncate(got);
            self.window_at = begin;
        }
        let skip = (begin - self.window_at) as usize;
        let rest = self.window.get(skip..).unwrap_or_default();
        out.extend_from_slice(&rest[..len.min(rest.len())]);
        Ok(())
    }

    fn next_data(&mut self, no: u64) -> Result<u64> {
        let begin = self.geometry.stored_start(ChunkNo(no));
        if begin >= self.len {
            return Ok(u64::MAX);
        }
        if self.data.contains(&begin) {
            return Ok(no);
        }
        // A filesystem that cannot tell has no holes.
        let Ok(found) = self.backing.seek(self.file, SeekTo::Data, begin) else {
            self.data = begin..u64::MAX;
            return Ok(no);
        };
        let Some(found) = found else {
            return Ok(u64::MAX);
        };
        let end = self.backing.seek(self.file, SeekTo::Hole, found);
        self.data = found..end.ok().flatten().unwrap_or(self.len);
        Ok(self.geometry.chunk_at_stored(found).0.max(no))
    }

    fn image(&mut self, image: &ImageAt, out: &mut Vec<u8>) -> Result<()> {
        out.resize(image.len as usize, 0);
        self.segments
            .read(self.backing, image.segment, image.at, out)
    }
}
