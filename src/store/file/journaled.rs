//! Changes to chunks that must not be lost: sealed, appended to the journal, and kept in the overlay until they are
//! applied. The backing file is not touched here.

use std::sync::Arc;

use crate::content::Buffer;
use crate::content::run;
use crate::crypto::{ChunkFlags, ChunkNo, WriteSeq};
use crate::format::file::CHUNK_OVERHEAD;
use crate::format::journal::Record;
use crate::store::backing::{Allocate, Backing, Time};
use crate::store::change::{Change, FilePlace};
use crate::store::error::Result;
use crate::store::file::overlay::Image;
use crate::store::file::{DataFile, Last};
use crate::store::journal::{Journal, Ticket};

/// Space is given out in blocks of so many bytes, or more.
const BLOCK: u64 = 4096;

/// Consecutive sealed chunks.
#[derive(Debug)]
pub(super) struct Run {
    pub first: ChunkNo,
    pub image: Buffer,
    /// Bytes of the file header that the image begins with.
    pub lead: usize,
}

impl Run {
    pub(super) fn at(first: ChunkNo) -> Self {
        Self {
            first,
            image: Buffer::empty(),
            lead: 0,
        }
    }
}

/// A group for the journal under construction: all of it takes effect, or nothing.
#[derive(Debug)]
pub(super) struct Batch {
    seq: WriteSeq,
    records: Vec<Record>,
    data: Vec<u8>,
    last: Option<ChunkFlags>,
}

impl Batch {
    pub(super) fn event(mut self, record: Record) -> Self {
        self.records.push(record);
        self
    }

    /// The sealed chunks of the group.
    pub(super) fn images(&self) -> impl Iterator<Item = (ChunkNo, &[u8])> {
        let mut rest = &self.data[..];
        self.records.iter().filter_map(move |record| match record {
            Record::Image { chunk, len } => {
                let (image, behind) = rest.split_at(*len as usize);
                rest = behind;
                Some((*chunk, image))
            }
            _ => None,
        })
    }
}

impl<B: Backing> DataFile<B> {
    /// An empty group with a write sequence of its own.
    pub(super) fn batch(&self, change: &Change<'_, B>) -> Result<Batch> {
        self.keys(change.volume)?;
        Ok(Batch {
            seq: change.volume.next_seq()?,
            records: Vec::new(),
            data: Vec::new(),
            last: None,
        })
    }

    /// Seals one chunk into the group.
    pub(super) fn batch_chunk(
        &self,
        change: &Change<'_, B>,
        batch: &mut Batch,
        no: ChunkNo,
        plain: &[u8],
        flags: ChunkFlags,
    ) -> Result<()> {
        let volume = change.volume;
        let mut image = Buffer::empty();
        let keys = self.keys(volume)?;
        run::seal_run(
            keys,
            volume.geometry(),
            no,
            plain,
            batch.seq,
            flags,
            &mut image,
        );
        batch.records.push(Record::Image {
            chunk: no,
            len: image.len() as u32,
        });
        batch.data.extend_from_slice(&image);
        if flags.is_final {
            batch.last = Some(flags);
        }
        Ok(())
    }

    /// A group of chunks that are sealed already, with the write sequence `seq`.
    pub(super) fn batch_runs(&self, change: &Change<'_, B>, seq: WriteSeq, runs: &[Run]) -> Batch {
        let whole = change.volume.geometry().stored_chunk();
        let mut batch = Batch {
            seq,
            records: Vec::new(),
            data: Vec::with_capacity(runs.iter().map(|r| r.image.len()).sum()),
            last: None,
        };
        for run in runs {
            for (i, piece) in run.image.chunks(whole).enumerate() {
                batch.records.push(Record::Image {
                    chunk: ChunkNo(run.first.0 + i as u64),
                    len: piece.len() as u32,
                });
            }
            batch.data.extend_from_slice(&run.image);
        }
        batch
    }

    /// Appends the group; its chunks are what the file holds from here on. The caller holds locks on them.
    pub(super) fn put_batch(&self, change: &Change<'_, B>, batch: Batch) -> Result<Ticket> {
        self.put_group(change, batch, None)
    }

    /// The same of chunks with the content that they had, in a file that was modified at `mtime`. The caller also holds
    /// the lock of applying.
    pub(super) fn put_sealed_anew(
        &self,
        change: &Change<'_, B>,
        batch: Batch,
        mtime: Time,
    ) -> Result<Ticket> {
        self.put_group(change, batch, Some(mtime))
    }

    fn put_group(
        &self,
        change: &Change<'_, B>,
        mut batch: Batch,
        sealed_anew: Option<Time>,
    ) -> Result<Ticket> {
        let journal = change.journal().expect("asked for before");
        let (turn, geometry) = (change.turn(), change.volume.geometry());
        if !self.state().is_named_in(turn) {
            self.place_records(change, &mut batch.records);
        }
        let header = self.keys(change.volume)?.header();
        let file = Some(header.file_id);
        let ticket = change.append(batch.seq, file, &batch.records, &batch.data)?;
        let (mut added, mut removed) = (0, 0);
        let mut state = self.state();
        state.turn_state(turn).named = true;
        state.kept = match sealed_anew {
            Some(mtime) if state.overlay.is_empty() => Some(mtime),
            Some(_) => state.kept,
            None => None,
        };
        let mut data = &batch.data[..];
        for record in &batch.records {
            match record {
                Record::Image { chunk, len } => {
                    let (stored, rest) = data.split_at(*len as usize);
                    data = rest;
                    added += u64::from(*len);
                    let stored = Arc::from(stored);
                    removed += state.overlay.insert(*chunk, Image { stored, ticket }) as u64;
                }
                Record::Size { size } => {
                    removed += state.resize(geometry, *size) as u64;
                }
                _ => {}
            }
        }
        if let Some(flags) = batch.last {
            state.last = Some(Last {
                sparse: flags.sparse,
            });
        }
        state.ticket = ticket;
        drop(state);
        journal.count_overlay(added, removed);
        Ok(ticket)
    }

    /// Seals one chunk and puts it into the journal.
    pub(super) fn journal_chunk(
        &self,
        change: &Change<'_, B>,
        no: ChunkNo,
        plain: &[u8],
        flags: ChunkFlags,
    ) -> Result<()> {
        let mut batch = self.batch(change)?;
        self.batch_chunk(change, &mut batch, no, plain, flags)?;
        self.put_batch(change, batch).map(drop)
    }

    /// Finds out now whether there is space for chunks that the backing file does not have yet.
    pub(super) fn reserve_home(
        &self,
        change: &Change<'_, B>,
        first: ChunkNo,
        last: ChunkNo,
        last_len: usize,
    ) -> Result<()> {
        let volume = change.volume;
        let geometry = volume.geometry();
        let begin = geometry.stored_start(first);
        let end = geometry.stored_start(last) + (last_len + CHUNK_OVERHEAD) as u64;
        let has_blocks = {
            let state = self.state();
            let stored = geometry.stored_size(state.home_end).max(state.reserved);
            let in_holes = state.sparse_before || !state.gaps.is_empty();
            !in_holes && end <= stored.next_multiple_of(BLOCK)
        };
        if has_blocks {
            return Ok(());
        }
        match volume
            .backing()
            .allocate(self.backing_file(), Allocate::Reserve, begin, end - begin)
        {
            // Where space cannot be reserved, it is found out when the chunks are applied.
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            Err(e) => Err(e.into()),
            Ok(()) => {
                self.state().reserved = end;
                Ok(())
            }
        }
    }

    fn place_records(&self, change: &Change<'_, B>, records: &mut Vec<Record>) {
        let place = change.place();
        if let FilePlace::Removed = place {
            records.push(Record::Gone);
        }
        let retired = change.journal().map_or(0, Journal::retired_turn);
        let durable = self.state().undurable_since.is_none_or(|t| t <= retired);
        let path = match place {
            FilePlace::Path(path) => path,
            FilePlace::Unknown | FilePlace::Removed => Vec::new(),
        };
        let ino = self.ino;
        records.insert(0, Record::Place { ino, durable, path });
    }

    /// The file was renamed: recovery must find it under its new name, if this turn says anything of it.
    pub fn note_place(&self, change: &Change<'_, B>) -> Result<()> {
        if change.journal().is_some() && self.state().is_named_in(change.turn()) {
            let mut batch = self.batch(change)?;
            self.place_records(change, &mut batch.records);
            self.put_batch(change, batch)?;
        }
        Ok(())
    }

    /// The last name of the file was removed: recovery need not look for it.
    pub fn note_gone(&self, change: &Change<'_, B>) -> Result<()> {
        if change.journal().is_some() && self.state().is_named_in(change.turn()) {
            let batch = self.batch(change)?.event(Record::Gone);
            self.put_batch(change, batch)?;
        }
        Ok(())
    }
}
