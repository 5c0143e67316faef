//! One encrypted file, open: its keys, its size, and what is known of its last chunk and its holes.
//!
//! Every change keeps the file complete: whenever no call is under way, its last chunk says so (FINAL). All ways to the
//! backing file are in [`home`]. Names, handles and POSIX rules are not here.
//!
//! Invariants:
//! 1. `State::size` changes only under an exclusive range lock from the file's last chunk (the old or the new one,
//!    whichever comes first) to the end.
//! 2. A chunk is read under a shared and written under an exclusive lock on it.
//! 3. The state lock is taken after a range lock and never held across I/O.

mod home;
mod read;
mod resize;
mod seek;
mod write;

pub use resize::Clear;

use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::content::Buffer;
use crate::content::run::{self, Damage, Opened, Position};
use crate::crypto::{ChunkFlags, ChunkNo, FileKeys};
use crate::format::file::{CHUNK_OVERHEAD, FileHeader, HEADER_LEN};
use crate::store::backing::{Attr, Backing, OpenFor, SetTime, Sync, Target};
use crate::store::error::{Error, Result};
use crate::store::gaps::Gaps;
use crate::store::range_lock::{ChunkRange, RangeLock};
use crate::store::volume::Volume;

/// See the module.
#[derive(Debug)]
pub struct DataFile<B: Backing> {
    /// Set at creation: the first descriptor, which may be read-only, and the one opened for writing later.
    first: B::File,
    writable: OnceLock<B::File>,
    first_mode: OpenFor,
    header: OnceLock<(FileHeader, FileKeys)>,
    ranges: RangeLock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Plaintext bytes.
    size: u64,
    /// Whether the ciphertext file has a length that wardfs gives to files.
    length: std::result::Result<(), Damage>,
    /// Nothing is stored yet, not even the header.
    fresh: bool,
    /// What the stored last chunk says; `None` until it was verified.
    last: Option<Last>,
    /// The file had holes before it was opened here.
    sparse_before: bool,
    gaps: Gaps,
    tail: Option<Tail>,
    /// Plaintext bytes that were durable at the last sync, or when the file was opened.
    stable_end: u64,
}

/// The flags of the stored last chunk beyond FINAL.
#[derive(Debug, Clone, Copy)]
struct Last {
    sparse: bool,
}

/// The plaintext of the last chunk, kept so that an append need not read it.
#[derive(Debug)]
struct Tail {
    no: ChunkNo,
    plain: Vec<u8>,
}

/// What [`DataFile::owner_id`] and the attributes need of a file's beginning.
const HEADER_BYTES: usize = HEADER_LEN;

impl<B: Backing> DataFile<B> {
    /// A new, empty file whose backing file was just created. Nothing is written before the first change or settle.
    pub fn create(volume: &Volume<B>, file: B::File) -> Self {
        let header = volume.keys().new_file(volume.cipher(), volume.log2_chunk());
        Self {
            first: file,
            writable: OnceLock::new(),
            first_mode: OpenFor::ReadWrite,
            header: OnceLock::from(header),
            ranges: RangeLock::default(),
            state: Mutex::new(State {
                size: 0,
                length: Ok(()),
                fresh: true,
                last: Some(Last { sparse: false }),
                sparse_before: false,
                gaps: Gaps::default(),
                tail: None,
                stable_end: 0,
            }),
        }
    }

    /// An existing file. Nothing is read before it is needed.
    pub fn open(volume: &Volume<B>, file: B::File, how: OpenFor, attr: &Attr) -> Self {
        if attr.size == 0 && volume.is_crash_leftover(attr) {
            return Self {
                first_mode: how,
                ..Self::create(volume, file)
            };
        }
        let geometry = volume.geometry();
        let plain = geometry.plain_size(attr.size);
        let size = plain.unwrap_or_else(|_| geometry.plain_size_lossy(attr.size));
        Self {
            first: file,
            writable: OnceLock::new(),
            first_mode: how,
            header: OnceLock::new(),
            ranges: RangeLock::default(),
            state: Mutex::new(State {
                size,
                length: plain.map(|_| ()).map_err(|_| Damage::Length),
                fresh: false,
                last: None,
                sparse_before: false,
                gaps: Gaps::default(),
                tail: None,
                stable_end: size,
            }),
        }
    }

    /// Whether a descriptor for writing is there.
    pub fn is_writable(&self) -> bool {
        self.first_mode == OpenFor::ReadWrite || self.writable.get().is_some()
    }

    /// Adds a descriptor for writing to a file that was opened for reading.
    pub fn make_writable(&self, file: B::File) {
        // A second opener that came to the same idea closes its descriptor here.
        let _ = self.writable.set(file);
    }

    /// Plaintext bytes.
    pub fn size(&self) -> u64 {
        self.state().size
    }

    /// Plaintext bytes that are durable.
    pub fn stable_end(&self) -> u64 {
        self.state().stable_end
    }

    /// The open backing file, for attributes.
    pub fn target(&self) -> Target<'_, B> {
        Target::File(self.backing_file())
    }

    /// Attributes as the plaintext file has them.
    pub fn attr(&self, volume: &Volume<B>) -> Result<Attr> {
        let attr = volume.backing().stat(self.target())?;
        Ok(Attr {
            size: self.size(),
            ..attr
        })
    }

    /// The file id, to which its extended attributes are bound.
    pub fn owner_id(&self, volume: &Volume<B>) -> Result<[u8; 24]> {
        self.settle(volume)?;
        if self.state().fresh {
            return Err(Error::ReadOnly);
        }
        self.keys(volume)?;
        let (header, _) = self.header.get().expect("set by keys()");
        Ok(header.file_id.0)
    }

    /// Writes what completes the file: the header of an empty new one, and the last chunk's SPARSE flag.
    ///
    /// Keeps the modification time.
    pub fn settle(&self, volume: &Volume<B>) -> Result<()> {
        if !self.needs_settling() || !self.is_writable() || volume.check_writable().is_err() {
            return Ok(());
        }
        let _all = self.ranges.exclusive(ChunkRange::from(ChunkNo(0)));
        if !self.needs_settling() {
            return Ok(());
        }
        let before = volume.backing().stat(self.target())?;
        let size = self.size();
        let last = volume.geometry().last_chunk(size);
        let plain = self.plain_chunk(volume, last, size)?;
        self.put_last(volume, last, &plain, false)?;
        let mtime = SetTime::At(before.mtime);
        volume
            .backing()
            .set_times(self.target(), SetTime::Keep, mtime)?;
        Ok(())
    }

    /// Makes the content durable, and with [`Sync::All`] the attributes.
    pub fn sync(&self, volume: &Volume<B>, what: Sync) -> Result<()> {
        self.settle(volume)?;
        let size = self.size();
        volume.backing().sync(self.backing_file(), what)?;
        let mut state = self.state();
        state.stable_end = size.min(state.size);
        Ok(())
    }

    fn needs_settling(&self) -> bool {
        let state = self.state();
        let marked_without_need =
            state.last.is_some_and(|l| l.sparse) && !state.sparse_before && state.gaps.is_empty();
        state.fresh || marked_without_need
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code that panics runs under this lock")
    }

    fn backing_file(&self) -> &B::File {
        self.writable.get().unwrap_or(&self.first)
    }

    /// The file's keys; reads and verifies the header at the first call.
    fn keys(&self, volume: &Volume<B>) -> Result<&FileKeys> {
        if self.header.get().is_none() {
            let mut bytes = [0; HEADER_BYTES];
            let got = volume
                .backing()
                .read_at(self.backing_file(), &mut bytes, 0)?;
            self.learn_header(volume, &bytes[..got])?;
        }
        Ok(&self.header.get().expect("set above").1)
    }

    fn learn_header(&self, volume: &Volume<B>, bytes: &[u8]) -> Result<()> {
        let damaged = || Error::file(Damage::Header);
        let bytes: &[u8; HEADER_BYTES] = bytes.try_into().map_err(|_| damaged())?;
        let header = FileHeader::decode(bytes).map_err(|_| damaged())?;
        if header.log2_chunk != volume.log2_chunk() {
            return Err(damaged());
        }
        let keys = volume.keys().open_file(&header).map_err(|_| damaged())?;
        // Two readers may both get here; they learned the same.
        let _ = self.header.set((header, keys));
        Ok(())
    }

    /// Verifies that the file ends where it did.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it was cut or extended.
    pub fn verify_end(&self, volume: &Volume<B>) -> Result<()> {
        self.ensure_last(volume).map(drop)
    }

    /// Verifies the last chunk once, and learns whether the file has holes. The caller holds no exclusive range.
    fn ensure_last(&self, volume: &Volume<B>) -> Result<Last> {
        loop {
            let (size, known, length) = {
                let state = self.state();
                (state.size, state.last, state.length)
            };
            if let Some(last) = known {
                return Ok(last);
            }
            length.map_err(Error::file)?;
            let no = volume.geometry().last_chunk(size);
            let _held = self.ranges.shared(ChunkRange::new(no, no));
            if self.size() != size {
                continue;
            }
            let mut plain = vec![0; volume.geometry().chunk_len(no, size)];
            let opened = self.open_stored(volume, no, Position::Last, &mut plain)?;
            let last = Last {
                sparse: matches!(opened, Opened::Data { sparse: true }),
            };
            let mut state = self.state();
            if state.last.is_none() {
                state.sparse_before = last.sparse;
                state.last = Some(last);
                state.tail = Some(Tail { no, plain });
            }
            return Ok(last);
        }
    }

    /// Whether stored zeros may stand for chunk `no`.
    fn may_be_hole(&self, volume: &Volume<B>, no: ChunkNo) -> Result<bool> {
        if self.state().gaps.contains(no) {
            return Ok(true);
        }
        self.ensure_last(volume)?;
        Ok(self.state().sparse_before)
    }

    /// Reads and opens one stored chunk. The caller holds a lock on it.
    fn open_stored(
        &self,
        volume: &Volume<B>,
        no: ChunkNo,
        position: Position,
        plain: &mut [u8],
    ) -> Result<Opened> {
        let keys = self.keys(volume)?;
        let mut stored = Buffer::of_len(plain.len() + CHUNK_OVERHEAD);
        let got = self.fetch(volume, volume.geometry().stored_start(no), &mut stored)?;
        run::open_chunk(keys, no, position, &stored[..got], plain).map_err(|d| Error::chunk(no, d))
    }

    /// The plaintext of chunk `no` of a file of `size` bytes, empty beyond its end. The caller holds a lock on it.
    fn plain_chunk(&self, volume: &Volume<B>, no: ChunkNo, size: u64) -> Result<Vec<u8>> {
        let mut plain = vec![0; volume.geometry().chunk_len(no, size)];
        {
            let state = self.state();
            if let Some(tail) = state.tail.as_ref().filter(|t| t.no == no) {
                return Ok(tail.plain.clone());
            }
            if plain.is_empty() || state.fresh {
                return Ok(plain);
            }
        }
        let position = match no == volume.geometry().last_chunk(size) {
            true => Position::Last,
            false => Position::Inner,
        };
        let opened = self.open_stored(volume, no, position, &mut plain)?;
        if opened == Opened::Zero && !self.may_be_hole(volume, no)? {
            return Err(Error::chunk(no, Damage::Hole));
        }
        Ok(plain)
    }

    /// The flags for the last chunk as the holes known now demand.
    fn last_flags(&self) -> ChunkFlags {
        let state = self.state();
        ChunkFlags {
            is_final: true,
            sparse: state.sparse_before || !state.gaps.is_empty(),
        }
    }
}
