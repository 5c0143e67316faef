//! SEEK_DATA and SEEK_HOLE.
//!
//! Stored chunks do not fill whole disk blocks, so a hole on the disk says that the chunks inside are holes, but a hole
//! of the file may share its first and last block with its neighbours. Those are told by their zero nonce.

use crate::content::run::{self, Damage};
use crate::crypto::ChunkNo;
use crate::store::backing::{Backing, SeekTo};
use crate::store::error::{Error, Result};
use crate::store::file::DataFile;
use crate::store::range_lock::ChunkRange;
use crate::store::volume::Volume;

/// Zero chunks looked at one by one before the rest of a stored region counts as data.
const PROBES: u32 = 64;

impl<B: Backing> DataFile<B> {
    /// The next plaintext offset at or after `off` that holds data, or lies in a hole; the end of the file is a hole.
    /// `None` when `off` is at or beyond the end, or only a hole follows.
    pub fn seek(&self, volume: &Volume<B>, to: SeekTo, off: u64) -> Result<Option<u64>> {
        let geometry = volume.geometry();
        self.verify_end(volume)?;
        self.apply(volume)?;
        let _held = self.ranges.shared(ChunkRange::from(ChunkNo(0)));
        let size = self.size();
        if off >= size {
            return Ok(None);
        }
        let without_holes = {
            let state = self.state();
            // What a read-only mount recovered in memory is told as data throughout.
            !state.overlay.is_empty() || (!state.sparse_before && state.gaps.is_empty())
        };
        if without_holes {
            // Zeros that somebody put on the disk are no holes: a read refuses them.
            return Ok(Some(if to == SeekTo::Data { off } else { size }));
        }
        let last = geometry.last_chunk(size);
        let mut no = geometry.chunk_of(off);
        let mut probes = PROBES;
        // The last chunk is always stored.
        while no.0 < last.0 {
            let start = geometry.stored_start(no);
            let found = volume.backing().seek(self.backing_file(), to, start)?;
            no = match (to, found) {
                (_, None) => last,
                (_, Some(at)) => geometry.chunk_at_stored(at).max(no),
            };
            if no.0 >= last.0 {
                break;
            }
            let hole = self.is_hole(volume, no)?;
            if hole && !self.may_be_hole(volume, no)? {
                return Err(Error::chunk(no, Damage::Hole));
            }
            if (to == SeekTo::Hole) == hole {
                return Ok(Some(off.max(geometry.plain_start(no))));
            }
            probes -= 1;
            if probes == 0 && to == SeekTo::Data {
                return Ok(Some(off.max(geometry.plain_start(no))));
            }
            no.0 += 1;
        }
        Ok(Some(match to {
            SeekTo::Data => off.max(geometry.plain_start(last)),
            SeekTo::Hole => size,
        }))
    }

    fn is_hole(&self, volume: &Volume<B>, no: ChunkNo) -> Result<bool> {
        let mut stored = [0; 24];
        let got = self.fetch(volume, volume.geometry().stored_start(no), &mut stored)?;
        Ok(got == stored.len() && run::is_zero(&stored))
    }
}
