//! The only way between a file and its place on the disk: reading, writing, cutting and punching ciphertext.

use crate::content::Buffer;
use crate::content::run;
use crate::crypto::{ChunkFlags, ChunkNo};
use crate::format::file::HEADER_LEN;
use crate::store::backing::{Allocate, Backing};
use crate::store::error::{Error, Result};
use crate::store::file::{DataFile, Last};
use crate::store::volume::Volume;

impl<B: Backing> DataFile<B> {
    /// Reads ciphertext; answers how many bytes there were.
    pub(super) fn fetch(&self, volume: &Volume<B>, off: u64, stored: &mut [u8]) -> Result<usize> {
        Ok(volume.backing().read_at(self.backing_file(), stored, off)?)
    }

    /// Writes ciphertext. The error comes with the number of bytes written before it.
    pub(super) fn put(
        &self,
        volume: &Volume<B>,
        off: u64,
        stored: &[u8],
    ) -> std::result::Result<(), (usize, Error)> {
        volume
            .backing()
            .write_at(self.backing_file(), stored, off)
            .map_err(|(done, e)| (done, e.into()))
    }

    /// Seals and writes the last chunk, with the header if there is none yet, and remembers what it says.
    pub(super) fn put_last(
        &self,
        volume: &Volume<B>,
        no: ChunkNo,
        plain: &[u8],
        force_sparse: bool,
    ) -> Result<()> {
        let mut flags = self.last_flags();
        flags.sparse |= force_sparse;
        self.put_chunk(volume, no, plain, flags)?;
        self.state().last = Some(Last {
            sparse: flags.sparse,
        });
        Ok(())
    }

    /// Seals and writes one chunk, before it the header if there is none yet.
    pub(super) fn put_chunk(
        &self,
        volume: &Volume<B>,
        no: ChunkNo,
        plain: &[u8],
        flags: ChunkFlags,
    ) -> Result<()> {
        let keys = self.keys(volume)?;
        let mut image = Buffer::empty();
        let with_header = self.state().fresh;
        if with_header {
            image.append(&self.header_bytes());
        }
        let seq = volume.next_seq()?;
        run::seal_run(keys, volume.geometry(), no, plain, seq, flags, &mut image);
        let at = volume.geometry().stored_start(no);
        if with_header && no.0 > 0 {
            self.put(volume, at, &image[HEADER_LEN..])
                .map_err(|(_, e)| e)?;
            self.put(volume, 0, &image[..HEADER_LEN])
                .map_err(|(_, e)| e)?;
        } else {
            let at = if with_header { 0 } else { at };
            self.put(volume, at, &image).map_err(|(_, e)| e)?;
        }
        self.state().fresh = false;
        Ok(())
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
}
