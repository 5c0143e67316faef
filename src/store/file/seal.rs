//! Sealing what a write brings: whole chunks from the caller's buffer, partial ones after their old content was read.

use crate::content::Buffer;
use crate::content::run::seal_run;
use crate::crypto::{ChunkFlags, ChunkNo, WriteSeq};
use crate::format::file::HEADER_LEN;
use crate::store::backing::Backing;
use crate::store::change::Change;
use crate::store::error::Result;
use crate::store::file::DataFile;
use crate::store::file::journaled::Run;
use crate::store::file::placed::Placed;

/// What a write brings, and what it needs to know of the file's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'a> {
    pub data: &'a [u8],
    pub old_last_plain: Option<&'a [u8]>,
    pub final_flags: ChunkFlags,
}

impl<B: Backing> DataFile<B> {
    /// Seals everything that changes, the chunk that is outgrown first.
    pub(super) fn seal_write(
        &self,
        change: &Change<'_, B>,
        p: &Placed,
        write: &Write<'_>,
        seq: WriteSeq,
    ) -> Result<Vec<Run>> {
        let Some(no) = p.outgrown() else {
            return Ok(vec![self.seal_chunks(
                change,
                p,
                write,
                seq,
                Buffer::empty(),
            )?]);
        };
        let outgrown = self.seal_outgrown(change, no, write, seq)?;
        if no.0 + 1 == p.first.0 {
            let image = outgrown.image;
            let all = self.seal_chunks(change, p, write, seq, image)?;
            return Ok(vec![Run { first: no, ..all }]);
        }
        let added = self.seal_chunks(change, p, write, seq, Buffer::empty())?;
        Ok(vec![outgrown, added])
    }

    /// Seals the old last chunk as an inner one.
    pub(super) fn seal_outgrown(
        &self,
        change: &Change<'_, B>,
        no: ChunkNo,
        write: &Write<'_>,
        seq: WriteSeq,
    ) -> Result<Run> {
        let geometry = change.volume.geometry();
        let mut plain = write
            .old_last_plain
            .expect("an extended file has a last chunk")
            .to_vec();
        plain.resize(geometry.chunk_size(), 0);
        let mut run = Run::at(no);
        let flags = ChunkFlags::default();
        let keys = self.keys(change.volume)?;
        seal_run(keys, geometry, no, &plain, seq, flags, &mut run.image);
        Ok(run)
    }

    /// Seals the chunks that the data touches, behind what is in `image`.
    pub(super) fn seal_chunks(
        &self,
        change: &Change<'_, B>,
        p: &Placed,
        write: &Write<'_>,
        seq: WriteSeq,
        image: Buffer,
    ) -> Result<Run> {
        let g = p.geometry;
        let keys = self.keys(change.volume)?;
        let flags_of = |no: ChunkNo| match no == p.new_last {
            true => write.final_flags,
            false => ChunkFlags::default(),
        };
        let mut run = Run {
            image,
            ..Run::at(p.first)
        };
        if p.fresh && p.first.0 == 0 {
            run.image.append(&self.header_bytes());
            run.lead = HEADER_LEN;
        }
        let image = &mut run.image;
        let mut rest = write.data;
        let mut no = p.first;
        while !rest.is_empty() {
            let take = if p.covers(no) {
                let whole = p.whole_chunks(no, rest.len());
                let flags = flags_of(g.chunk_of(g.plain_start(no) + whole as u64 - 1));
                seal_run(keys, g, no, &rest[..whole], seq, flags, image);
                whole
            } else {
                let start = g.plain_start(no);
                let mut plain = match write.old_last_plain {
                    Some(old) if no == p.old_last => old.to_vec(),
                    _ => self.plain_chunk(change.volume, no, p.size)?,
                };
                plain.resize(g.chunk_len(no, p.new_size), 0);
                let skip = p.off.saturating_sub(start) as usize;
                let take = rest.len().min(plain.len() - skip);
                plain[skip..skip + take].copy_from_slice(&rest[..take]);
                seal_run(keys, g, no, &plain, seq, flags_of(no), image);
                take
            };
            rest = &rest[take..];
            no = g.chunk_of(p.end - rest.len() as u64);
        }
        Ok(run)
    }
}
