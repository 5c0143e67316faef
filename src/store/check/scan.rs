//! Reading the content of a file, block by block, and chunk by chunk where that fails.

use crate::content::Buffer;
use crate::content::run::Damage;
use crate::crypto::ChunkNo;
use crate::store::backing::{Backing, SeekTo};
use crate::store::check::Check;
use crate::store::check::file::OpenFile;
use crate::store::check::finding::{ByteRange, add_range, tidy};
use crate::store::check::holes::hole_end;
use crate::store::check::sample::RUN;
use crate::store::check::tally::Tally;
use crate::store::check::view::View;
use crate::store::error::Error;

/// Plaintext bytes that are read at once.
pub(super) const BLOCK: u64 = 1 << 20;

/// What is wrong with a file.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) damaged: Vec<ByteRange>,
    pub(super) unreadable: Vec<ByteRange>,
    pub(super) gaps: Vec<ByteRange>,
    /// The first reason of each kind; damage without a range is that of a file as a whole.
    pub(super) reason: Option<String>,
    pub(super) refusal: Option<String>,
}

impl Found {
    pub(super) fn is_nothing(&self) -> bool {
        self.reason.is_none() && self.refusal.is_none()
    }

    pub(super) fn add(&mut self, range: ByteRange, error: &Error) {
        let (ranges, reason) = match error {
            Error::Io(_) => (&mut self.unreadable, &mut self.refusal),
            _ => (&mut self.damaged, &mut self.reason),
        };
        if range.start < range.end {
            add_range(ranges, range);
        }
        reason.get_or_insert_with(|| error.to_string());
    }

    pub(super) fn tidy(&mut self) {
        for ranges in [&mut self.damaged, &mut self.unreadable, &mut self.gaps] {
            tidy(ranges);
        }
    }

    /// The parts of the file in which something was found.
    pub(super) fn ranges(&self) -> impl Iterator<Item = ByteRange> {
        self.damaged.iter().chain(&self.unreadable).copied()
    }
}

impl<B: Backing> Check<'_, B> {
    /// Reads a part of a file, block by block.
    pub(super) fn scan(&self, file: &OpenFile<B>, part: ByteRange) {
        let mut found = Found::default();
        let step = if self.plan.sample.is_some() {
            RUN
        } else {
            BLOCK
        };
        let mut plain = Buffer::of_len(step as usize);
        let mut start = part.start;
        while start < part.end && !self.has_failed() {
            let hole = self.pass_hole(file, ByteRange { start, ..part }, &mut plain, &mut found);
            if hole > start {
                self.count_done(&file.view, start, hole);
                start = hole;
                continue;
            }
            // Steps stay where they are without holes, so that a sample does not depend on them.
            let end = part.end.min((start / step + 1) * step);
            let picked = self
                .plan
                .sample
                .is_none_or(|s| s.picks(file.number, start / RUN));
            if picked {
                let block = ByteRange { start, end };
                self.read(file, &file.view, block, &mut plain, &mut found);
            }
            self.count_done(&file.view, start, end);
            start = end;
        }
        let mut all = file.found();
        all.damaged.append(&mut found.damaged);
        all.unreadable.append(&mut found.unreadable);
        all.gaps.append(&mut found.gaps);
        all.reason = all.reason.take().or(found.reason);
        all.refusal = all.refusal.take().or(found.refusal);
    }

    /// Checks a hole on the disk at the beginning of `range` without reading it; answers where it ends.
    fn pass_hole(
        &self,
        file: &OpenFile<B>,
        range: ByteRange,
        plain: &mut [u8],
        found: &mut Found,
    ) -> u64 {
        let (geometry, view) = (self.volume.geometry(), &file.view);
        let no = geometry.chunk_of(range.start);
        let end = match view.file() {
            Some(stored) => hole_end(self.volume, stored, &view.attr, no),
            None => no,
        };
        let end = geometry.plain_start(end).min(range.end);
        if end <= range.start {
            return range.start;
        }
        if let Ok(data) = view.data.seek(self.volume, SeekTo::Data, range.start) {
            let legal = data.map_or(end, |data| data.min(end));
            if legal > range.start {
                Tally::add(&self.tally.verified, legal - range.start);
                return legal;
            }
        }
        // The file does not say that it has holes: one chunk tells for all of them.
        let len = geometry.chunk_size().min((end - range.start) as usize);
        match view.data.read(self.volume, range.start, &mut plain[..len]) {
            Ok(_) => range.start,
            Err(e) => {
                let hole = ByteRange { end, ..range };
                found.add(hole, &e);
                if file.task.out.is_some() {
                    add_range(&mut found.gaps, hole);
                }
                end
            }
        }
    }

    /// Reads one block, and chunk by chunk where that fails.
    pub(super) fn read(
        &self,
        file: &OpenFile<B>,
        view: &View<B>,
        block: ByteRange,
        plain: &mut [u8],
        found: &mut Found,
    ) {
        let len = (block.end - block.start) as usize;
        let got = view.data.read(self.volume, block.start, &mut plain[..len]);
        if got.as_ref().is_ok_and(|got| *got == len) {
            Tally::add(&self.tally.verified, len as u64);
            self.put(file, block.start, &plain[..len]);
            return;
        }
        let geometry = self.volume.geometry();
        let mut start = block.start;
        while start < block.end {
            let no = geometry.chunk_of(start);
            let end = block.end.min(geometry.plain_start(ChunkNo(no.0 + 1)));
            let range = ByteRange { start, end };
            let len = (end - start) as usize;
            match view.data.read(self.volume, start, &mut plain[..len]) {
                Ok(got) if got == len => {
                    Tally::add(&self.tally.verified, len as u64);
                    self.put(file, start, &plain[..len]);
                }
                Ok(_) => {
                    found.add(range, &Error::chunk(no, Damage::Short));
                    self.rescue(file, no, range, found);
                }
                Err(e) => {
                    found.add(range, &e);
                    self.rescue(file, no, range, found);
                }
            }
            start = end;
        }
    }

    /// Writes to the salvage directory what authenticates of a chunk that a reader does not get.
    pub(super) fn rescue(
        &self,
        file: &OpenFile<B>,
        no: ChunkNo,
        range: ByteRange,
        found: &mut Found,
    ) {
        if file.task.out.is_none() {
            return;
        }
        let chunk = match (&file.raw, file.view.file()) {
            (Some(raw), Some(stored)) => raw.chunk(self.volume, stored, no),
            _ => None,
        };
        let plain = chunk.map_or_else(Vec::new, |c| c.plain);
        let len = plain.len().min((range.end - range.start) as usize);
        self.put(file, range.start, &plain[..len]);
        let start = range.start + len as u64;
        if start < range.end {
            add_range(&mut found.gaps, ByteRange { start, ..range });
        }
    }

    /// As [`Check::rescue`], for a file of which a reader gets nothing.
    pub(super) fn rescue_all(&self, file: &OpenFile<B>) {
        let mut found = Found::default();
        let (geometry, size) = (self.volume.geometry(), file.view.data.size());
        let mut start = 0;
        while start < size && file.task.out.is_some() && !self.has_failed() {
            let no = geometry.chunk_of(start);
            let data = match file.view.file() {
                Some(stored) => hole_end(self.volume, stored, &file.view.attr, no),
                None => no,
            };
            let end = if data > no {
                let end = size.min(geometry.plain_start(data));
                add_range(&mut found.gaps, ByteRange { start, end });
                end
            } else {
                let end = size.min(geometry.plain_start(ChunkNo(no.0 + 1)));
                self.rescue(file, no, ByteRange { start, end }, &mut found);
                end
            };
            start = end;
        }
        Tally::add(&self.tally.done, file.view.attr.size);
        file.found().gaps = found.gaps;
    }

    pub(super) fn put(&self, file: &OpenFile<B>, off: u64, plain: &[u8]) {
        if let Some(out) = &file.task.out
            && out.salvage().note(out.write(off, plain)).is_some()
        {
            Tally::add(&self.tally.salvaged, plain.len() as u64);
        }
    }

    /// Counts stored bytes, the header with the first ones.
    pub(super) fn count_done(&self, view: &View<B>, start: u64, end: u64) {
        let geometry = self.volume.geometry();
        let stored = |off: u64| match off {
            0 => 0,
            _ if off == view.data.size() => view.attr.size,
            _ => geometry.stored_start(geometry.chunk_of(off)),
        };
        // What is still in the journal may be longer than what is in its place.
        let len = stored(end).saturating_sub(stored(start));
        Tally::add(&self.tally.done, len);
    }
}
