//! Reading: one fetch of ciphertext for the whole request, opened chunk by chunk into the caller's buffer.

use crate::content::Buffer;
use crate::content::run::{self, Damage, Opened, Position};
use crate::format::file::{CHUNK_OVERHEAD, HEADER_LEN};
use crate::store::backing::Backing;
use crate::store::error::{Error, Result};
use crate::store::file::DataFile;
use crate::store::range_lock::ChunkRange;
use crate::store::volume::Volume;

impl<B: Backing> DataFile<B> {
    /// All of the file will be read soon.
    pub fn will_read(&self, volume: &Volume<B>) {
        let end = volume.geometry().stored_size(self.size());
        volume.backing().will_read(self.backing_file(), 0, end);
    }

    /// Reads plaintext from `off` on until `out` is full or the file ends; answers how many bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`] if any chunk of the range does not authenticate: never short or wrong data.
    pub fn read(&self, volume: &Volume<B>, off: u64, out: &mut [u8]) -> Result<usize> {
        let geometry = volume.geometry();
        let wanted_end = off.saturating_add(out.len() as u64).min(self.size());
        if wanted_end <= off {
            // The kernel may know a longer file and would fill up with zeros: a cut one must say so.
            self.verify_end(volume)?;
            return Ok(0);
        }
        let (first, wanted_last) = (geometry.chunk_of(off), geometry.chunk_of(wanted_end - 1));
        let _held = self.ranges.shared(ChunkRange::new(first, wanted_last));
        let (size, damage) = {
            let state = self.state();
            (state.size, state.damage)
        };
        if let Some(damage) = damage {
            return Err(Error::file(damage));
        }
        let end = wanted_end.min(size);
        if end <= off {
            return Ok(0);
        }
        let last = geometry.chunk_of(end - 1);
        let last_of_file = geometry.last_chunk(size);

        // The first read of a file gets the header and its first chunks in one call.
        let lead = match self.header.get() {
            None if first.0 == 0 => HEADER_LEN,
            _ => 0,
        };
        let stored_end =
            geometry.stored_start(last) + (geometry.chunk_len(last, size) + CHUNK_OVERHEAD) as u64;
        let begin = geometry.stored_start(first) - lead as u64;
        let mut stored = Buffer::of_len((stored_end - begin) as usize);
        let got = self.fetch(volume, begin, &mut stored)?;
        let stored = &stored[..got];
        if lead > 0 {
            self.learn_header(volume, &stored[..HEADER_LEN.min(got)])?;
        }
        let keys = self.keys(volume)?;

        let mut chunks = stored.get(lead..).unwrap_or_default();
        let mut no = first;
        let mut filled = 0;
        while no.0 <= last.0 {
            let len = geometry.chunk_len(no, size);
            let Some((chunk, rest)) = chunks.split_at_checked(len + CHUNK_OVERHEAD) else {
                return Err(Error::chunk(no, Damage::Short));
            };
            chunks = rest;
            let position = if no == last_of_file {
                Position::Last
            } else {
                Position::Inner
            };
            let chunk_start = geometry.plain_start(no);
            let skip = off.saturating_sub(chunk_start) as usize;
            let take = ((end - chunk_start) as usize).min(len) - skip;
            let room = &mut out[filled..filled + take];
            let opened = if take == len {
                run::open_chunk(keys, no, position, chunk, room)
            } else {
                let mut partial = Buffer::of_len(len);
                let opened = run::open_chunk(keys, no, position, chunk, &mut partial);
                room.copy_from_slice(&partial[skip..skip + take]);
                opened
            };
            match opened.map_err(|d| Error::chunk(no, d))? {
                Opened::Zero if !self.may_be_hole(volume, no)? => {
                    return Err(Error::chunk(no, Damage::Hole));
                }
                _ => {}
            }
            filled += take;
            no.0 += 1;
        }
        Ok(filled)
    }
}
