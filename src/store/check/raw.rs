//! Stored chunks one by one, without asking whether the file as a whole is in order: what salvage and repair look at.

use crate::content::{Buffer, Geometry, run};
use crate::crypto::{ChunkMeta, ChunkNo, FileKeys};
use crate::format::file::{CHUNK_OVERHEAD, FileHeader, HEADER_LEN, TAG_LEN};
use crate::store::backing::Backing;
use crate::store::volume::Volume;

/// The keys of a file whose header is whole.
#[derive(Debug)]
pub struct Raw {
    pub keys: FileKeys,
    geometry: Geometry,
}

/// A chunk that authenticates.
#[derive(Debug)]
pub struct RawChunk {
    pub meta: ChunkMeta,
    pub plain: Vec<u8>,
}

impl Raw {
    /// `None` without a valid header.
    pub fn open<B: Backing>(volume: &Volume<B>, file: &B::File) -> Option<Self> {
        let mut bytes = [0; HEADER_LEN];
        let got = volume.backing().read_at(file, &mut bytes, 0).ok()?;
        let header = FileHeader::decode(&bytes).ok()?;
        if got < HEADER_LEN || header.log2_chunk != volume.log2_chunk() {
            return None;
        }
        let keys = volume.keys().open_file(&header).ok()?;
        Some(Self {
            keys,
            geometry: volume.geometry(),
        })
    }

    /// Chunk `no` as it is stored: full, cut short by the end of the file, or an old last chunk behind which only zeros
    /// follow. `None` if it does not authenticate, and for a hole.
    pub fn chunk<B: Backing>(
        &self,
        volume: &Volume<B>,
        file: &B::File,
        no: ChunkNo,
    ) -> Option<RawChunk> {
        let mut stored = Buffer::of_len(self.geometry.stored_chunk());
        let at = self.geometry.stored_start(no);
        let got = volume.backing().read_at(file, &mut stored, at).ok()?;
        let stored = &stored[..got];
        if got < CHUNK_OVERHEAD || run::is_zero(stored) {
            return None;
        }
        if let Some(chunk) = self.try_open(no, stored) {
            return Some(chunk);
        }
        // Ciphertext is random: it ends with the last byte that is not zero, or a few zeros of the tag after it.
        let data = got - stored.iter().rev().take_while(|b| **b == 0).count();
        (data.max(CHUNK_OVERHEAD)..got.min(data + TAG_LEN + 1))
            .find_map(|len| self.try_open(no, &stored[..len]))
            .filter(|chunk| chunk.meta.flags.is_final)
    }

    fn try_open(&self, no: ChunkNo, stored: &[u8]) -> Option<RawChunk> {
        let mut plain = vec![0; stored.len() - CHUNK_OVERHEAD];
        let meta = self.keys.open(no, stored, &mut plain).ok()?;
        Some(RawChunk { meta, plain })
    }
}
