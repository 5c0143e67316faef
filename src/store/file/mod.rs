//! One encrypted file, open: its keys, its size, and what is known of its last chunk and its holes.
//!
//! Every change keeps the file complete: whenever no call is under way, its last chunk says so (FINAL). What changes a
//! chunk that the file has goes through the journal ([`journaled`]) and lies in the [`overlay`] until it is applied
//! ([`apply`]); new chunks, at the end or in holes, are written straight to the backing file ([`home`]). Names, handles
//! and POSIX rules are not here.
//!
//! Invariants:
//! 1. `State::size` changes only under an exclusive range lock from the file's last chunk (the old or the new one,
//!    whichever comes first) to the end.
//! 2. A chunk is read under a shared and written under an exclusive lock on it.
//! 3. The state lock is taken after a range lock and never held across I/O.
//! 4. A chunk in the overlay is what the file holds; the backing file has an older one, or none. It leaves the overlay
//!    only when the backing file has it. A chunk that is stable, which must survive a power cut, gets there only after
//!    its group in the journal was committed.
//! 5. The lock of applying is taken after range locks. It is held while the backing file is overwritten or cut.

mod apply;
mod home;
mod journaled;
mod overlay;
mod placed;
mod read;
mod reseal;
mod resize;
mod seal;
mod seek;
mod undo;
mod write;

pub use reseal::{ResealError, Resealed};
pub use resize::Clear;
pub use write::Route;

use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::content::run::{self, Damage, Opened, Position};
use crate::content::{Buffer, Geometry};
use crate::crypto::{ChunkFlags, ChunkNo, FileKeys};
use crate::format::file::{CHUNK_OVERHEAD, FileHeader, HEADER_LEN};
use crate::store::backing::{Attr, Backing, OpenFor, Target, Time};
use crate::store::change::Change;
use crate::store::error::{Error, Result};
use crate::store::file::overlay::Overlay;
use crate::store::gaps::Gaps;
use crate::store::journal::{Ticket, Unsynced};
use crate::store::range_lock::{ChunkRange, RangeLock};
use crate::store::volume::Volume;

/// A file that has grown by so much when it is closed is not left to the kernel's cache: smaller ones often live for moments.
const SENT_WHEN_CLOSED: u64 = 256 << 10;

/// See the module.
#[derive(Debug)]
pub struct DataFile<B: Backing> {
    /// Inode number on the backing filesystem.
    ino: u64,
    /// Set at creation: the first descriptor, which may be read-only, and the one opened for writing later.
    first: B::File,
    writable: OnceLock<B::File>,
    first_mode: OpenFor,
    header: OnceLock<(FileHeader, FileKeys)>,
    ranges: RangeLock,
    /// Held while the overlay is written to the backing file, or that file cut.
    applying: Mutex<()>,
    /// Held while the backing file is synced. No other lock is taken with it but that of the state.
    syncing: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Plaintext bytes.
    size: u64,
    /// The ciphertext file has a length that wardfs never gives to files.
    damage: Option<Damage>,
    /// Nothing is stored yet, not even the header.
    fresh: bool,
    /// What the stored last chunk says; `None` until it was verified.
    last: Option<Last>,
    /// The file had holes before it was opened here.
    sparse_before: bool,
    gaps: Gaps,
    tail: Option<Tail>,
    /// The chunks of so many plaintext bytes must survive: they were there at the last sync, at the beginning of this
    /// turn, or when the file was opened. `None` for a file that was just made: it has none.
    stable_end: Option<u64>,
    overlay: Overlay,
    /// Plaintext bytes of the backing file: less than `size` while growth waits in the overlay.
    home_end: u64,
    /// Space up to this stored offset was reserved in the backing file.
    reserved: u64,
    /// Up to this stored offset the backing filesystem was asked to begin to write the file.
    sent: u64,
    /// The backing file could not be cut when it should have been.
    cut_pending: bool,
    /// The last group of this file in the journal.
    ticket: Ticket,
    /// The last group that filled holes: a last chunk that denies them must not reach the disk before it.
    filled: Ticket,
    /// The modification time that goes with the overlay. The backing file gets it when it gets the content, so that a
    /// backup that tells by the time what has changed never takes old content for new.
    mtime: Option<Time>,
    /// The same of what is being applied.
    applying: Option<Time>,
    /// The modification time of a backing file of which the overlay has nothing but chunks that were sealed anew.
    kept: Option<Time>,
    /// When `mtime` was set: the change time until then.
    touched: Time,
    turn: InTurn,
    /// The backing file was written to and not synced since.
    direct: bool,
    /// Attributes were changed and not synced since: fdatasync leaves them.
    attributes: bool,
    /// How many syncs of the backing file have failed.
    failed_syncs: u64,
    /// The turn in which the file was made, or last closed with content, while that was not synced.
    undurable_since: Option<u64>,
}

/// What holds for one turn of the journal.
#[derive(Debug, Default, Clone, Copy)]
struct InTurn {
    turn: u64,
    /// A group says where the file is.
    named: bool,
    /// The directory is covered: the chunks of a new file may be written straight.
    covered: bool,
}

impl State {
    /// Whether anything waits to be applied.
    fn is_pending(&self) -> bool {
        !self.overlay.is_empty() || self.cut_pending
    }

    /// What holds in `turn`. Everything written before it is stable.
    fn turn_state(&mut self, turn: u64) -> &mut InTurn {
        if self.turn.turn != turn {
            self.turn = InTurn {
                turn,
                ..InTurn::default()
            };
            if !self.fresh {
                self.stable_end = Some(self.size);
            }
        }
        &mut self.turn
    }

    /// The journal has a new size of the file. Answers how many bytes left the overlay.
    fn resize(&mut self, geometry: Geometry, size: u64) -> usize {
        let behind = ChunkNo(geometry.last_chunk(size).0 + 1);
        // Growth that failed may have left more there than the size tells.
        self.cut_pending |= size <= self.size;
        if size <= self.size {
            self.reserved = 0;
        }
        self.home_end = self.home_end.min(size);
        self.size = size;
        self.stable_end = self.stable_end.map(|_| size);
        self.overlay.remove(behind, ChunkNo(u64::MAX))
    }

    /// Whether chunk `no` must survive a power cut.
    fn is_stable(&self, geometry: Geometry, no: ChunkNo) -> bool {
        self.stable_end
            .is_some_and(|end| no <= geometry.last_chunk(end))
    }

    fn is_named_in(&self, turn: u64) -> bool {
        self.turn.turn == turn && self.turn.named
    }
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

impl<B: Backing> DataFile<B> {
    /// A new, empty file whose backing file was just created. Nothing is written before the first change or settle.
    pub fn create(change: &Change<'_, B>, file: B::File, ino: u64) -> Self {
        let volume = change.volume;
        let header = volume.keys().new_file(volume.cipher(), volume.log2_chunk());
        let state = State {
            fresh: true,
            last: Some(Last { sparse: false }),
            direct: true,
            turn: InTurn {
                turn: change.turn(),
                ..InTurn::default()
            },
            undurable_since: Some(change.turn()),
            ..State::default()
        };
        Self {
            header: OnceLock::from(header),
            ..Self::with_state(file, OpenFor::ReadWrite, ino, state)
        }
    }

    /// An existing file. Nothing is read before it is needed.
    pub fn open(change: &Change<'_, B>, file: B::File, how: OpenFor, attr: &Attr) -> Self {
        let volume = change.volume;
        if attr.size == 0 && volume.is_crash_leftover(attr) {
            return Self {
                first_mode: how,
                ..Self::create(change, file, attr.ino)
            };
        }
        let geometry = volume.geometry();
        let view = volume.recovered_view(attr.ino);
        let plain = match view.and_then(|v| v.size) {
            Some(size) => Ok(size),
            None => geometry.plain_size(attr.size).map_err(|_| Damage::Length),
        };
        let size = plain.unwrap_or_else(|_| geometry.plain_size_lossy(attr.size));
        let unsynced = change
            .journal()
            .and_then(|j| j.marks.take_unsynced(attr.ino));
        let state = State {
            size,
            damage: plain.err(),
            stable_end: Some(size),
            home_end: size.min(geometry.plain_size_lossy(attr.size)),
            sent: attr.size,
            overlay: view.map_or_else(Overlay::default, Overlay::recovered),
            turn: InTurn {
                turn: change.turn(),
                ..InTurn::default()
            },
            direct: unsynced.is_some() || change.journal().is_none(),
            attributes: unsynced.is_some(),
            undurable_since: unsynced.filter(|mark| mark.content).map(|mark| mark.turn),
            ..State::default()
        };
        let opened = Self::with_state(file, how, attr.ino, state);
        if let Some(header) = view.and_then(|v| v.header)
            && let Ok(keys) = volume.keys().open_file(&header)
        {
            // The stored one is void.
            let _ = opened.header.set((header, keys));
        }
        opened
    }

    fn with_state(file: B::File, how: OpenFor, ino: u64, state: State) -> Self {
        Self {
            ino,
            first: file,
            writable: OnceLock::new(),
            first_mode: how,
            header: OnceLock::new(),
            ranges: RangeLock::default(),
            applying: Mutex::default(),
            syncing: Mutex::default(),
            state: Mutex::new(state),
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

    /// The open backing file, for attributes.
    pub fn target(&self) -> Target<'_, B> {
        Target::File(self.backing_file())
    }

    /// Attributes as the plaintext file has them.
    pub fn attr(&self, volume: &Volume<B>) -> Result<Attr> {
        let attr = volume.backing().stat(self.target())?;
        Ok(self.plain_attr(attr))
    }

    /// The same from those of the backing file.
    pub fn plain_attr(&self, attr: Attr) -> Attr {
        let state = self.state();
        let waiting = state.mtime.or(state.applying).or(state.kept);
        let mtime = waiting.unwrap_or(attr.mtime);
        Attr {
            size: state.size,
            mtime,
            ctime: attr.ctime.max(state.touched),
            ..attr
        }
    }

    /// The file id, to which its extended attributes are bound.
    pub fn owner_id(&self, change: &Change<'_, B>) -> Result<[u8; 24]> {
        self.settle(change)?;
        if self.state().fresh {
            return Err(Error::ReadOnly);
        }
        Ok(self.keys(change.volume)?.header().file_id.0)
    }

    /// Writes what completes the file: the header of an empty new one, and the last chunk's SPARSE flag.
    ///
    /// Keeps the modification time.
    pub fn settle(&self, change: &Change<'_, B>) -> Result<()> {
        let volume = change.volume;
        if !self.needs_settling() || !self.is_writable() || volume.check_writable().is_err() {
            return Ok(());
        }
        let _all = self.ranges.exclusive(ChunkRange::from(ChunkNo(0)));
        if !self.needs_settling() {
            return Ok(());
        }
        let size = self.size();
        let last = volume.geometry().last_chunk(size);
        let plain = self.plain_chunk(volume, last, size)?;
        self.keep_mtime(volume, || self.put_last(change, last, &plain, false))
    }

    /// Whether [`DataFile::settle`] has something to do.
    pub(super) fn needs_settling(&self) -> bool {
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
            let mut bytes = [0; HEADER_LEN];
            let got = volume
                .backing()
                .read_at(self.backing_file(), &mut bytes, 0)?;
            self.learn_header(volume, &bytes[..got])?;
        }
        Ok(&self.header.get().expect("set above").1)
    }

    fn learn_header(&self, volume: &Volume<B>, bytes: &[u8]) -> Result<()> {
        let damaged = || Error::file(Damage::Header);
        let bytes: &[u8; HEADER_LEN] = bytes.try_into().map_err(|_| damaged())?;
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
            let (size, known, damage) = {
                let state = self.state();
                (state.size, state.last, state.damage)
            };
            if let Some(last) = known {
                return Ok(last);
            }
            if let Some(damage) = damage {
                return Err(Error::file(damage));
            }
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

    /// Its last user has gone. What was not synced is remembered, for whoever opens it next.
    pub fn note_closed(&self, change: &Change<'_, B>) {
        self.send_off(change.volume, SENT_WHEN_CLOSED);
        let (unsynced, content) = {
            let state = self.state();
            let unsynced = state.direct || state.attributes;
            (unsynced, state.undurable_since.is_some())
        };
        if let Some(journal) = change.journal()
            && unsynced
        {
            let turn = change.turn();
            journal.marks.unsynced(self.ino, Unsynced { turn, content });
        }
    }

    /// Whether its directory must be covered before it is written to in this turn.
    pub fn needs_cover(&self, change: &Change<'_, B>) -> bool {
        let mut state = self.state();
        let covered = state.turn_state(change.turn()).covered;
        change.journal().is_some() && state.stable_end.is_none() && !covered
    }

    /// Its directories are covered in this turn.
    pub fn set_covered(&self, change: &Change<'_, B>) {
        self.state().turn_state(change.turn()).covered = true;
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
