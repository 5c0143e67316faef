//! The verdict on one chunk: which of its candidates is what it holds.

use crate::content::{Damage, Geometry, run};
use crate::crypto::{ChunkFlags, ChunkMeta, ChunkNo, FileKeys, WriteSeq};
use crate::format::file::{CHUNK_OVERHEAD, NONCE_LEN};
use crate::store::error::{Error, Result};
use crate::store::recovery::view::deaths::Death;
use crate::store::recovery::view::{ImageAt, Limits, Stored, chunk_count};

/// What a chunk turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Authentic: `len` bytes, which [`Judge::plain`] holds.
    Data {
        from_image: bool,
        flags: ChunkFlags,
        len: usize,
        seq: WriteSeq,
    },
    /// Nothing that lives.
    Hole(Option<Death>),
    /// What is in place does not authenticate, and nothing else is there.
    Bad(Option<Death>),
}

pub(super) struct Judge<'a, S> {
    pub(super) stored: &'a mut S,
    keys: &'a FileKeys,
    geometry: Geometry,
    pub(super) limits: Limits,
    /// What is in place, as of the last verdict.
    pub(super) slot: Vec<u8>,
    /// The image, as of the last verdict that it won.
    pub(super) image: Vec<u8>,
    pub(super) plain: Vec<u8>,
    plain_in_place: Vec<u8>,
    /// Images that do not authenticate.
    pub(super) refused: u64,
    /// Something was in place that was durable before.
    pub(super) met_old: bool,
    pub(super) met_new: bool,
}

/// What is in place.
enum InPlace {
    Zero,
    Bad,
    Data(ChunkMeta, usize),
}

impl<'a, S: Stored> Judge<'a, S> {
    pub(super) fn new(
        keys: &'a FileKeys,
        geometry: Geometry,
        limits: Limits,
        stored: &'a mut S,
    ) -> Self {
        Self {
            stored,
            keys,
            geometry,
            limits,
            slot: Vec::new(),
            image: Vec::new(),
            plain: Vec::new(),
            plain_in_place: Vec::new(),
            refused: 0,
            met_old: false,
            met_new: false,
        }
    }

    /// How many chunks the data file has, whole or not.
    pub(super) fn count(&self) -> u64 {
        chunk_count(self.geometry, self.stored.stored_len())
    }

    pub(super) fn read_slot(&mut self, no: u64) -> Result<()> {
        self.stored.slot(no, &mut self.slot)
    }

    /// What chunk `no` holds, of which `image` is the newest image and `death` the last death.
    pub(super) fn chunk(
        &mut self,
        no: u64,
        image: Option<&ImageAt>,
        death: Option<Death>,
    ) -> Result<Found> {
        self.read_slot(no)?;
        let lives = |seq: WriteSeq| death.is_none_or(|d| seq >= d.seq);
        let image = match image.filter(|i| lives(i.seq)) {
            Some(image) => self.open_image(no, image)?,
            None => None,
        };
        if let Some(of_image) = image {
            let len = self.plain.len();
            let found = |from_image, meta: ChunkMeta, len| Found::Data {
                from_image,
                flags: meta.flags,
                len,
                seq: meta.seq,
            };
            if self.slot.get(..self.image.len()) == Some(&self.image[..]) {
                return Ok(found(false, of_image, len));
            }
            let newer = self.peek().is_some_and(|p| p.seq > of_image.seq);
            if newer
                && let InPlace::Data(meta, len) = self.open_in_place(no)
                && meta.seq > of_image.seq
                && lives(meta.seq)
            {
                std::mem::swap(&mut self.plain, &mut self.plain_in_place);
                return Ok(found(false, meta, len));
            }
            return Ok(found(true, of_image, len));
        }
        Ok(match self.open_in_place(no) {
            InPlace::Data(meta, len) if lives(meta.seq) => {
                match meta.seq < self.limits.durable {
                    true => self.met_old = true,
                    false => self.met_new = true,
                }
                std::mem::swap(&mut self.plain, &mut self.plain_in_place);
                Found::Data {
                    from_image: false,
                    flags: meta.flags,
                    len,
                    seq: meta.seq,
                }
            }
            InPlace::Data(..) | InPlace::Zero => Found::Hole(death),
            InPlace::Bad => {
                let new = self.limits.durable..self.limits.unused;
                let is_new = |m: ChunkMeta| new.contains(&m.seq);
                if self.limits.has_keys && lacks_key(self.keys, &self.slot, is_new) {
                    return Err(Error::chunk(ChunkNo(no), Damage::NoKey));
                }
                // The header and the first nonce share a sector: this one was not torn, and tells the file's age.
                self.met_old |= no == 0 && death.is_none() && self.claims_to_be_old();
                Found::Bad(death)
            }
        })
    }

    /// Reads and opens an image into `self.image` and `self.plain`; `None` if it is not what was written.
    fn open_image(&mut self, no: u64, image: &ImageAt) -> Result<Option<ChunkMeta>> {
        let fits = (CHUNK_OVERHEAD..=self.geometry.stored_chunk()).contains(&(image.len as usize));
        if fits {
            self.stored.image(image, &mut self.image)?;
            self.plain.resize(self.image.len() - CHUNK_OVERHEAD, 0);
            let opened = self.keys.open(ChunkNo(no), &self.image, &mut self.plain);
            if let Some(meta) = opened.ok().filter(|m| m.seq == image.seq) {
                return Ok(Some(meta));
            }
        }
        let own = |m: ChunkMeta| m.seq == image.seq;
        if fits && self.limits.has_keys && lacks_key(self.keys, &self.image, own) {
            return Err(Error::chunk(ChunkNo(no), Damage::NoKey));
        }
        self.refused += 1;
        Ok(None)
    }

    /// What the nonce in place claims.
    fn peek(&self) -> Option<ChunkMeta> {
        let nonce: &[u8; NONCE_LEN] = self.slot.first_chunk()?;
        self.keys.peek_meta(nonce)
    }

    /// Whether the nonce in place is not one that was written since what is durable.
    fn claims_to_be_old(&self) -> bool {
        let Some(nonce) = self.slot.first_chunk::<NONCE_LEN>() else {
            return false;
        };
        let new = self.limits.durable..self.limits.unused;
        !run::is_zero(nonce) && self.peek().is_none_or(|p| !new.contains(&p.seq))
    }

    /// Opens what is in place into `self.plain_in_place`.
    fn open_in_place(&mut self, no: u64) -> InPlace {
        if run::is_zero(&self.slot) {
            return InPlace::Zero;
        }
        let Some(whole) = self.slot.len().checked_sub(CHUNK_OVERHEAD) else {
            return InPlace::Bad;
        };
        if let Some(meta) = self.open_short(no, whole) {
            return InPlace::Data(meta, whole);
        }
        // A new end was written, and the file not yet cut behind it. Its length is not known.
        let ends = self
            .peek()
            .is_some_and(|p| p.flags.is_final && p.seq < self.limits.unused);
        if ends {
            for len in 0..whole {
                if let Some(meta) = self.open_short(no, len) {
                    return InPlace::Data(meta, len);
                }
            }
        }
        InPlace::Bad
    }

    fn open_short(&mut self, no: u64, len: usize) -> Option<ChunkMeta> {
        self.plain_in_place.resize(len, 0);
        let stored = &self.slot[..len + CHUNK_OVERHEAD];
        self.keys
            .open(ChunkNo(no), stored, &mut self.plain_in_place)
            .ok()
    }
}

/// Whether a chunk that does not authenticate was sealed with a key that the header lacks. Its nonce alone says so: it
/// counts only if it also names a write sequence that fits, which one of damaged bytes does not.
fn lacks_key(keys: &FileKeys, stored: &[u8], fits: impl Fn(ChunkMeta) -> bool) -> bool {
    let nonce: Option<&[u8; NONCE_LEN]> = stored.first_chunk();
    nonce.is_some_and(|nonce| keys.peek_meta(nonce).is_some_and(fits) && keys.lacks_key_of(nonce))
}
