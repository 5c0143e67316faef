//! The ends of files whose writing was interrupted: which chunk is the last one.
//!
//! Only in vaults without a journal: in others that is done by recovery, which knows what was synced. Only for files last
//! changed in a time that the superblock knows as one in which the volume was left unclean, and only
//! from chunks that authenticate. Nothing that authenticates is given up.

use std::io;

use crate::content::Buffer;
use crate::content::run::seal_run;
use crate::crypto::{ChunkFlags, ChunkNo, WriteSeq};
use crate::format::file::CHUNK_OVERHEAD;
use crate::store::backing::{Attr, Backing, OpenFor, SetTime, Sync, Target};
use crate::store::check::Check;
use crate::store::check::file::FileTask;
use crate::store::check::holes::{hole_end, last_data};
use crate::store::check::raw::{Raw, RawChunk};

/// What is to be written so that the file has one end.
struct Plan {
    /// Chunks to be sealed anew, with their flags.
    seal: Vec<(ChunkNo, Vec<u8>, ChunkFlags)>,
    /// The length of the ciphertext file.
    len: u64,
}

impl<B: Backing> Check<'_, B> {
    /// Mends the end of a file; answers whether anything was done.
    pub(super) fn mend_end(&self, task: &FileTask<B>) -> io::Result<bool> {
        if self.journaled {
            return Ok(false);
        }
        let backing = self.volume.backing();
        let file = backing.open(task.node.dir.handle(), &task.stored, OpenFor::ReadWrite)?;
        let attr = backing.stat(Target::File(&file))?;
        if !self.volume.is_crash_leftover(&attr) {
            return Ok(false);
        }
        let Some(raw) = Raw::open(self.volume, &file) else {
            return Ok(false);
        };
        let Some(plan) = self.plan_end(&raw, &file, &attr) else {
            return Ok(false);
        };
        for (no, plain, flags) in &plan.seal {
            let seq = self.volume.next_seq().map_err(io::Error::other)?;
            let mut image = Buffer::empty();
            let geometry = self.volume.geometry();
            seal_run(&raw.keys, geometry, *no, plain, seq, *flags, &mut image);
            let at = geometry.stored_start(*no);
            backing.write_at(&file, &image, at).map_err(|(_, e)| e)?;
        }
        backing.set_len(&file, plan.len)?;
        let mtime = SetTime::At(attr.mtime);
        backing.set_times(Target::File(&file), SetTime::Keep, mtime)?;
        backing.sync(&file, Sync::All)?;
        Ok(true)
    }

    /// `None` where the chunks do not tell, or nothing is wrong with the end.
    fn plan_end(&self, raw: &Raw, file: &B::File, attr: &Attr) -> Option<Plan> {
        let geometry = self.volume.geometry();
        let open = |no| raw.chunk(self.volume, file, no);
        let size = geometry.chunk_size();
        let mut no = last_data(self.volume, file, attr);
        // Behind the last chunk that authenticates there is nothing that anybody could read.
        let last = loop {
            match open(no) {
                Some(chunk) => break chunk,
                None => no.0 = no.0.checked_sub(1)?,
            }
        };
        let end = no;
        let mut seal = Vec::new();
        let mut sparse = last.meta.flags.sparse;
        if !last.meta.flags.is_final {
            if last.plain.len() != size {
                return None;
            }
            sparse = false;
        }
        let mut no = ChunkNo(0);
        while no < end {
            match open(no) {
                Some(inner) if !inner.meta.flags.is_final && inner.plain.len() == size => {}
                Some(inner) => {
                    let plain = outgrown(inner, last.meta.seq, size)?;
                    seal.push((no, plain, ChunkFlags::default()));
                }
                // A hole is one only if the end says so; other damage is not for here.
                None if last.meta.flags.is_final => {
                    let data = hole_end(self.volume, file, attr, no).min(end);
                    if data > no {
                        no = data;
                        continue;
                    }
                }
                None => return None,
            }
            no.0 += 1;
        }
        let len = geometry.stored_start(end) + (last.plain.len() + CHUNK_OVERHEAD) as u64;
        if !last.meta.flags.is_final {
            let flags = ChunkFlags {
                is_final: true,
                sparse,
            };
            seal.insert(0, (end, last.plain, flags));
        }
        (!seal.is_empty() || len != attr.size).then_some(Plan { seal, len })
    }
}

/// The content of an old last chunk that the file has outgrown, filled up with the zeros that follow it. One that is
/// newer than the end was to become the end: what then counts is not for a check to say.
fn outgrown(inner: RawChunk, end: WriteSeq, size: usize) -> Option<Vec<u8>> {
    if inner.meta.seq >= end {
        return None;
    }
    let mut plain = inner.plain;
    plain.resize(size, 0);
    Some(plain)
}
