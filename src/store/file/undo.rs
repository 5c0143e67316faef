//! After a write that failed: the file is what it was.

use crate::content::Buffer;
use crate::content::run;
use crate::crypto::ChunkNo;
use crate::store::backing::{Allocate, Backing};
use crate::store::change::Change;
use crate::store::error::Error;
use crate::store::file::DataFile;
use crate::store::file::placed::Placed;
use crate::store::file::write::Way;
use crate::store::range_lock::ChunkRange;
use crate::store::volume::Volume;

impl<B: Backing> DataFile<B> {
    /// Gives a file that could not be extended its old end back. Its blocks are still there, so this needs no space.
    pub(super) fn undo(
        &self,
        change: &Change<'_, B>,
        p: &Placed,
        way: Way,
        old_last: Option<&[u8]>,
    ) {
        if !p.extends() {
            return;
        }
        self.state()
            .gaps
            .remove(ChunkRange::from(ChunkNo(p.old_last.0 + 1)));
        let undone = match (way, old_last) {
            // What is not in the journal has not happened, and who writes behind it has tidied up.
            (Way::Journal | Way::Behind, _) => Ok(()),
            (Way::Straight, None) => {
                self.state().gaps = Default::default();
                change
                    .volume
                    .backing()
                    .set_len(self.backing_file(), 0)
                    .map_err(Error::from)
            }
            (Way::Straight, Some(plain)) => self
                .put_last(change, p.old_last, plain, false)
                .and_then(|()| self.cut(change.volume, p.size)),
        };
        if let Err(e) = undone {
            log::error!("a file could not be given its old end back after a failed write: {e}");
        }
    }

    /// After a write that failed in the middle of a chunk: the rest of the chunk is tried once more, and if that cannot be
    /// written either, a chunk that was a hole becomes one again.
    ///
    /// `unwritten` is what did not get to `at`.
    pub(super) fn mend_torn(&self, volume: &Volume<B>, at: u64, unwritten: &[u8]) {
        let g = volume.geometry();
        let no = g.chunk_at_stored(at);
        let in_chunk = g.stored_start(ChunkNo(no.0 + 1)).saturating_sub(at) as usize;
        if at == g.stored_start(no) || in_chunk == 0 {
            return;
        }
        let unwritten = &unwritten[..in_chunk.min(unwritten.len())];
        if self.put(volume, at, unwritten).is_ok() {
            return;
        }
        let mut rest = Buffer::of_len(unwritten.len());
        let was_hole = self
            .fetch(volume, at, &mut rest)
            .is_ok_and(|got| got > 0 && run::is_zero(&rest[..got]));
        if was_hole && self.may_be_hole(volume, no).unwrap_or(false) {
            let end = ChunkNo(no.0 + 1);
            if let Err(e) = self.allocate_chunks(volume, Allocate::Punch, no, end) {
                log::error!("chunk {} was torn by a failed write: {e}", no.0);
            }
        }
    }
}
