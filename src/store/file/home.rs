//! The only way between a file and its place on the disk: reading, writing, cutting and punching ciphertext. What is read
//! has the overlay laid over it.

use crate::content::Buffer;
use crate::content::run;
use crate::crypto::{ChunkFlags, ChunkNo};
use crate::format::file::HEADER_LEN;
use crate::store::backing::{Allocate, Backing};
use crate::store::change::Change;
use crate::store::error::{Error, Result};
use crate::store::file::{DataFile, Last, overlay};
use crate::store::volume::Volume;

impl<B: Backing> DataFile<B> {
    /// Reads ciphertext; answers how many bytes there were. The caller holds a lock on the chunks.
    pub(super) fn fetch(&self, volume: &Volume<B>, off: u64, stored: &mut [u8]) -> Result<usize> {
        let geometry = volume.geometry();
        let end = off + stored.len() as u64;
        // First the images: what leaves the overlay from here on is in the backing file already.
        let (cover, home, size, is_cut) = {
            let state = self.state();
            let last = geometry.chunk_at_stored(end.saturating_sub(1));
            let cover = state.overlay.range(geometry.chunk_at_stored(off), last);
            (cover, state.home_end, state.size, !state.cut_pending)
        };
        let covers_all = |image: &[u8]| {
            off >= HEADER_LEN as u64
                && image.len() == stored.len()
                && off == geometry.stored_start(geometry.chunk_at_stored(off))
        };
        if let [(_, image)] = &cover.images[..]
            && covers_all(image)
        {
            stored.copy_from_slice(image);
            return Ok(stored.len());
        }
        let mut got = volume.backing().read_at(self.backing_file(), stored, off)?;
        let there = geometry
            .stored_size(size)
            .saturating_sub(off)
            .min(stored.len() as u64) as usize;
        if home >= size && (cover.is_empty() || got < there) {
            return Ok(got);
        }
        // The backing file is yet to grow: what it lacks are holes and images.
        got = got.min(there);
        if !is_cut {
            // It was to be cut before, and has something there that is gone.
            let known = geometry.stored_size(home).saturating_sub(off);
            got = got.min(known.min(there as u64) as usize);
        }
        stored[got..].fill(0);
        overlay::lay(geometry, &cover, off, stored);
        Ok(there)
    }

    /// Writes ciphertext. The error comes with the number of bytes written before it.
    pub(super) fn put(
        &self,
        volume: &Volume<B>,
        off: u64,
        stored: &[u8],
    ) -> std::result::Result<(), (usize, Error)> {
        self.state().direct = true;
        volume
            .backing()
            .write_at(self.backing_file(), stored, off)
            .map_err(|(done, e)| (done, e.into()))
    }

    /// Has what was added to the file, if that is `least` bytes or more, be written to the disk from now on: whoever syncs
    /// it later waits for little.
    pub(super) fn send_off(&self, volume: &Volume<B>, least: u64) {
        let (from, len) = {
            let mut state = self.state();
            let end = volume.geometry().stored_size(state.home_end);
            let from = state.sent.min(end);
            if end - from < least {
                return;
            }
            state.sent = end;
            (from, end - from)
        };
        let file = self.backing_file();
        volume.backing().start_write_back(file, from, len);
    }

    /// Replaces the last chunk, with the header before it if there is none yet, and remembers what it says.
    pub(super) fn put_last(
        &self,
        change: &Change<'_, B>,
        no: ChunkNo,
        plain: &[u8],
        force_sparse: bool,
    ) -> Result<()> {
        let mut flags = self.last_flags();
        flags.sparse |= force_sparse;
        self.put_chunk(change, no, plain, flags)?;
        self.state().last = Some(Last {
            sparse: flags.sparse,
        });
        Ok(())
    }

    /// Replaces one chunk: straight in a file of which nothing is stored yet, else through the journal.
    pub(super) fn put_chunk(
        &self,
        change: &Change<'_, B>,
        no: ChunkNo,
        plain: &[u8],
        flags: ChunkFlags,
    ) -> Result<()> {
        match self.is_journaled(change) {
            true => self.journal_chunk(change, no, plain, flags),
            false => self.put_straight(change, no, plain, flags),
        }
    }

    /// Seals and writes one chunk, before it the header if there is none yet.
    fn put_straight(
        &self,
        change: &Change<'_, B>,
        no: ChunkNo,
        plain: &[u8],
        flags: ChunkFlags,
    ) -> Result<()> {
        let volume = change.volume;
        let keys = self.keys(volume)?;
        let mut image = Buffer::empty();
        let with_header = self.state().fresh;
        if with_header && no.0 == 0 {
            image.append(&self.header_bytes());
        } else if with_header {
            self.put(volume, 0, &self.header_bytes())
                .map_err(|(_, e)| e)?;
        }
        let at = match image.is_empty() {
            true => volume.geometry().stored_start(no),
            false => 0,
        };
        let seq = volume.next_seq()?;
        run::seal_run(keys, volume.geometry(), no, plain, seq, flags, &mut image);
        if let Err((_, e)) = self.put(volume, at, &image) {
            if with_header && let Err(e) = volume.backing().set_len(self.backing_file(), 0) {
                log::error!("a new file that could not be written was not emptied again: {e}");
            }
            return Err(e);
        }
        self.state().fresh = false;
        Ok(())
    }

    /// Whether what the file has is only changed through the journal.
    pub(super) fn is_journaled(&self, change: &Change<'_, B>) -> bool {
        change.journal().is_some() && !self.state().fresh
    }

    pub(super) fn header_bytes(&self) -> [u8; HEADER_LEN] {
        self.header
            .get()
            .expect("a fresh file has its header from creation")
            .0
            .encode()
    }

    /// Cuts the backing file to the length of `size` plaintext bytes.
    pub(super) fn cut(&self, volume: &Volume<B>, size: u64) -> Result<()> {
        let stored = volume.geometry().stored_size(size);
        Ok(volume.backing().set_len(self.backing_file(), stored)?)
    }

    /// Reserves, punches or zeroes the stored places of the chunks `first..end`.
    pub(super) fn allocate_chunks(
        &self,
        volume: &Volume<B>,
        how: Allocate,
        first: ChunkNo,
        end: ChunkNo,
    ) -> Result<()> {
        let geometry = volume.geometry();
        let begin = geometry.stored_start(first);
        let len = geometry.stored_start(end) - begin;
        Ok(volume
            .backing()
            .allocate(self.backing_file(), how, begin, len)?)
    }

    /// Writes zeros over the stored places of the chunks `first..end`: how a hole is stored where there are none.
    pub(super) fn put_zeros(&self, volume: &Volume<B>, first: ChunkNo, end: ChunkNo) -> Result<()> {
        let zeros = vec![0; volume.geometry().stored_chunk()];
        for no in first.0..end.0 {
            self.put(volume, volume.geometry().stored_start(ChunkNo(no)), &zeros)
                .map_err(|(_, e)| e)?;
        }
        Ok(())
    }
}
