//! Writing a view into its data file.
//!
//! May be interrupted anywhere and done again from the same journal: images and holes come first, the cut last. What the
//! images replace is in the journal, and what a cut takes away was judged to be lost.

use std::io;

use crate::content::Geometry;
use crate::crypto::ChunkNo;
use crate::store::backing::{Allocate, Backing, Target};
use crate::store::error::Result;
use crate::store::recovery::view::View;

/// Written at once at most.
const RUN: usize = 1 << 20;

/// Makes `file` hold what `view` says. It is not yet durable then.
pub fn apply<B: Backing>(
    backing: &B,
    file: &B::File,
    geometry: Geometry,
    view: &View,
) -> Result<()> {
    let mut run = Run {
        backing,
        file,
        at: 0,
        bytes: Vec::new(),
    };
    if let Some(header) = &view.header {
        backing.set_len(file, 0)?;
        run.add(0, &header.encode())?;
    }
    for (no, stored) in &view.chunks {
        run.add(geometry.stored_start(ChunkNo(*no)), stored)?;
    }
    run.flush()?;
    for (first, end) in &view.holes {
        let begin = geometry.stored_start(ChunkNo(*first));
        clear(backing, file, begin, geometry.stored_start(ChunkNo(*end)))?;
    }
    if let Some(size) = view.size {
        let len = geometry.stored_size(size);
        if backing.stat(Target::File(file))?.size != len {
            backing.set_len(file, len)?;
        }
    }
    Ok(())
}

/// Makes what the file has of `begin..end` zeros.
fn clear<B: Backing>(backing: &B, file: &B::File, begin: u64, end: u64) -> Result<()> {
    let end = end.min(backing.stat(Target::File(file))?.size);
    if begin >= end {
        return Ok(());
    }
    if backing
        .allocate(file, Allocate::Punch, begin, end - begin)
        .is_ok()
    {
        return Ok(());
    }
    let zeros = vec![0; RUN.min((end - begin) as usize)];
    let mut at = begin;
    while at < end {
        let len = zeros.len().min((end - at) as usize);
        write(backing, file, at, &zeros[..len])?;
        at += len as u64;
    }
    Ok(())
}

fn write<B: Backing>(backing: &B, file: &B::File, at: u64, bytes: &[u8]) -> io::Result<()> {
    backing.write_at(file, bytes, at).map_err(|(_, e)| e)
}

/// Neighbouring pieces, collected for one write.
struct Run<'a, B: Backing> {
    backing: &'a B,
    file: &'a B::File,
    at: u64,
    bytes: Vec<u8>,
}

impl<B: Backing> Run<'_, B> {
    fn add(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let follows = self.at + self.bytes.len() as u64 == at;
        if !follows || self.bytes.len() + bytes.len() > RUN {
            self.flush()?;
            self.at = at;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.bytes.is_empty() {
            write(self.backing, self.file, self.at, &self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}
