//! Holes on the disk: what is not there need not be read, however long it is.

use crate::crypto::ChunkNo;
use crate::store::backing::{Attr, Backing, SeekTo};
use crate::store::volume::Volume;

/// Where the hole ends that chunk `no` of a file lies in: the first chunk from `no` on of which anything is on the disk,
/// at the latest the last one of the file. `no` itself if it lies in none.
pub fn hole_end<B: Backing>(
    volume: &Volume<B>,
    file: &B::File,
    attr: &Attr,
    no: ChunkNo,
) -> ChunkNo {
    if attr.blocks.saturating_mul(512) >= attr.size {
        return no;
    }
    let geometry = volume.geometry();
    let last = geometry.chunk_at_stored(attr.size.saturating_sub(1));
    let at = geometry.stored_start(no);
    let data = match volume.backing().seek(file, SeekTo::Data, at) {
        Ok(Some(data)) => geometry.chunk_at_stored(data),
        Ok(None) => last,
        // Then it is read.
        Err(_) => no,
    };
    data.min(last).max(no)
}

/// The last chunk of which anything is on the disk.
pub fn last_data<B: Backing>(volume: &Volume<B>, file: &B::File, attr: &Attr) -> ChunkNo {
    let geometry = volume.geometry();
    let last = geometry.chunk_at_stored(attr.size.saturating_sub(1));
    if attr.blocks.saturating_mul(512) >= attr.size {
        return last;
    }
    let backing = volume.backing();
    let mut end = 0;
    while let Ok(Some(data)) = backing.seek(file, SeekTo::Data, end) {
        match backing.seek(file, SeekTo::Hole, data) {
            Ok(Some(hole)) if hole > end => end = hole,
            _ => return last,
        }
    }
    geometry.chunk_at_stored(end.saturating_sub(1)).min(last)
}
