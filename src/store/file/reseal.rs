//! Sealing chunks anew, in the volume's current epoch: same plaintext, same flags, same place.

use std::sync::{MutexGuard, TryLockError};

use crate::content::Buffer;
use crate::content::run::{Damage, Opened, Position, open_chunk};
use crate::crypto::{ChunkFlags, ChunkNo};
use crate::format::file::{CHUNK_OVERHEAD, NONCE_LEN};
use crate::store::backing::Backing;
use crate::store::change::Change;
use crate::store::error::{Error, Result};
use crate::store::file::DataFile;
use crate::store::range_lock::{ChunkRange, RangeGuard};

/// What a run of chunks turned out to be. All of it is authentic.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Resealed {
    /// Plaintext bytes that were sealed anew.
    pub resealed: u64,
    /// Plaintext bytes that are not holes.
    pub data: u64,
}

/// Why chunks were not sealed anew.
#[derive(Debug)]
pub enum ResealError {
    /// The file cannot be read, or is damaged; others may be sound.
    Read(Error),
    /// The volume takes no changes any more.
    Write(Error),
}

impl<B: Backing> DataFile<B> {
    /// Seals those of the chunks `first..=last` anew that are not of the current epoch, after all of them were verified.
    /// Holes stay holes, and times as they are.
    ///
    /// # Errors
    /// [`ResealError`]; nothing has changed then.
    pub fn reseal(
        &self,
        change: &Change<'_, B>,
        first: ChunkNo,
        last: ChunkNo,
    ) -> std::result::Result<Resealed, ResealError> {
        let volume = change.volume;
        volume.check_writable().map_err(ResealError::Write)?;
        if self.state().fresh {
            return Ok(Resealed::default());
        }
        self.ensure_last(volume).map_err(ResealError::Read)?;
        let _held = self.lock_unapplied(ChunkRange::new(first, last));
        let (done, old) = self
            .open_old(change, first, last)
            .map_err(ResealError::Read)?;
        if !old.is_empty() {
            self.put_anew(change, &old).map_err(ResealError::Write)?;
        }
        Ok(done)
    }

    /// Opens all of the chunks; answers those of other epochs.
    fn open_old(
        &self,
        change: &Change<'_, B>,
        first: ChunkNo,
        last: ChunkNo,
    ) -> Result<(Resealed, Vec<Old>)> {
        let (volume, size) = (change.volume, self.size());
        let geometry = volume.geometry();
        let end = geometry.last_chunk(size);
        let last = last.min(end);
        let mut done = Resealed::default();
        let mut old = Vec::new();
        if first > last {
            return Ok((done, old));
        }
        let begin = geometry.stored_start(first);
        let stop =
            geometry.stored_start(last) + (geometry.chunk_len(last, size) + CHUNK_OVERHEAD) as u64;
        let mut stored = Buffer::of_len((stop - begin) as usize);
        let got = self.fetch(volume, begin, &mut stored)?;
        let keys = self.keys(volume)?;
        let mut pieces = stored[..got].chunks(geometry.stored_chunk());
        for no in (first.0..=last.0).map(ChunkNo) {
            let piece = pieces.next().unwrap_or_default();
            let position = match no == end {
                true => Position::Last,
                false => Position::Inner,
            };
            let mut plain = vec![0; geometry.chunk_len(no, size)];
            match open_chunk(keys, no, position, piece, &mut plain)
                .map_err(|damage| Error::chunk(no, damage))?
            {
                Opened::Zero if self.may_be_hole(volume, no)? => {}
                Opened::Zero => return Err(Error::chunk(no, Damage::Hole)),
                Opened::Data { sparse } => {
                    done.data += plain.len() as u64;
                    // It has just been authenticated, as a part of the nonce.
                    let meta = piece
                        .first_chunk::<NONCE_LEN>()
                        .and_then(|nonce| keys.peek_meta(nonce));
                    if meta.is_some_and(|meta| meta.epoch == keys.current_epoch()) {
                        continue;
                    }
                    done.resealed += plain.len() as u64;
                    let flags = ChunkFlags {
                        is_final: position == Position::Last,
                        sparse,
                    };
                    old.push(Old { no, plain, flags });
                }
            }
        }
        Ok((done, old))
    }

    /// Locks chunks, and applying. Whoever uses the chunks does not wait until others were applied.
    fn lock_unapplied(&self, range: ChunkRange) -> (RangeGuard<'_>, MutexGuard<'_, ()>) {
        loop {
            let held = self.ranges.exclusive(range);
            match self.applying.try_lock() {
                Ok(alone) => return (held, alone),
                Err(TryLockError::Poisoned(alone)) => return (held, alone.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
            drop(held);
            drop(self.lock_applying());
        }
    }

    fn put_anew(&self, change: &Change<'_, B>, old: &[Old]) -> Result<()> {
        let volume = change.volume;
        let mut batch = self.batch(change)?;
        for chunk in old {
            self.batch_chunk(change, &mut batch, chunk.no, &chunk.plain, chunk.flags)?;
        }
        if self.is_journaled(change) {
            // It goes with the content, and the content is the same.
            let mtime = volume.backing().stat(self.target())?.mtime;
            self.put_sealed_anew(change, batch, mtime)?;
            // Somebody may have written straight to the backing file just now: then the time is his.
            if volume.backing().stat(self.target())?.mtime != mtime {
                self.state().kept = None;
            }
            return Ok(());
        }
        self.keep_mtime(volume, || {
            for (no, image) in batch.images() {
                let at = volume.geometry().stored_start(no);
                self.put(volume, at, image).map_err(|(_, e)| e)?;
            }
            Ok(())
        })
    }
}

/// A chunk of another epoch, opened.
#[derive(Debug)]
struct Old {
    no: ChunkNo,
    plain: Vec<u8>,
    flags: ChunkFlags,
}
