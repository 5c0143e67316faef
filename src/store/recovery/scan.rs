//! Reading the segments of the journal: the groups that count, in the order in which they were written.
//!
//! A segment counts as far as its groups are whole and belong to one life of it; what follows is torn, or of an earlier
//! life. Which groups are done with is told by the superblock.

use std::io;

use crate::format::journal::{GROUP_HEADER_LEN, Group, GroupHeader};
use crate::format::superblock::Superblock;
use crate::store::backing::{Backing, OpenFor, Target};
use crate::store::error::Result;
use crate::store::recovery::Origin;
use crate::store::recovery::log::Log;
use crate::sys::secret::SecretBytes;

/// Read at once; a longer group is read as a whole.
const WINDOW: usize = 4 << 20;
/// The two segments: turn `t` lies in the one of index `t % 2`.
pub const SEGMENTS: [&[u8]; 2] = [b"0", b"1"];

/// The open segments, from which images are read when they are needed.
#[derive(Debug)]
pub struct Segments<B: Backing>([Option<B::File>; 2]);

/// What the segments hold.
#[derive(Debug, Default)]
pub struct Scanned {
    pub log: Log,
    pub groups: u64,
    /// The highest turn of any whole group, whether it counts or not.
    pub highest_turn: u64,
}

/// Where a turn ends and what it is, as its first group says.
#[derive(Debug, Clone, Copy)]
struct Turn {
    number: u64,
    segment: usize,
}

impl<B: Backing> Segments<B> {
    /// Opens what there is; a missing segment has no groups.
    pub fn open(backing: &B, journal: &B::Dir) -> Result<Self> {
        let open = |name| match backing.open(journal, name, OpenFor::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        };
        Ok(Self([open(SEGMENTS[0])?, open(SEGMENTS[1])?]))
    }

    /// Fills `out` from a segment.
    pub fn read(&self, backing: &B, segment: usize, at: u64, out: &mut [u8]) -> Result<()> {
        let file = self.0[segment].as_ref().ok_or_else(gone)?;
        match backing.read_at(file, out, at)? == out.len() {
            true => Ok(()),
            false => Err(gone().into()),
        }
    }

    /// Collects the groups that `found` does not call done with.
    pub fn scan(
        &self,
        backing: &B,
        key: &SecretBytes<32>,
        (found, origin): (&Superblock, Origin),
        progress: &dyn Fn(u64),
    ) -> Result<Scanned> {
        let mut scanned = Scanned::default();
        let mut turns = Vec::new();
        for (segment, file) in self.0.iter().enumerate() {
            let Some(file) = file else { continue };
            let mut window = Window::new(backing, file)?;
            let Some((group, _)) = window.group(0, key)? else {
                continue;
            };
            scanned.highest_turn = scanned.highest_turn.max(group.turn);
            let fits = group.turn % 2 == segment as u64;
            // A file may have been copied before a turn was retired, and the superblock after it.
            let lives = origin == Origin::Copy
                || (group.turn > found.retired_turn && group.turn - found.retired_turn <= 2);
            // A volume that was closed in order has used no number from the mark on: what has a lower one is older.
            let dead = found.clean && group.seq < found.seq_high_water;
            if group.index == 0 && fits && lives && !dead {
                turns.push(Turn {
                    number: group.turn,
                    segment,
                });
            }
        }
        turns.sort_by_key(|t| t.number);
        for turn in turns {
            let Some(file) = &self.0[turn.segment] else {
                continue;
            };
            let mut window = Window::new(backing, file)?;
            let (mut at, mut index) = (0, 0);
            while let Some((group, header)) = window.group(at, key)? {
                if group.turn != turn.number || group.index != index {
                    break;
                }
                let data_at = at + header.data_at() as u64;
                scanned.log.add(&group, turn.segment, data_at);
                scanned.groups += 1;
                index += 1;
                at += header.group_len() as u64;
                if index.is_multiple_of(4096) {
                    progress(at);
                }
            }
        }
        scanned.log.finish();
        Ok(scanned)
    }
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "a segment of the journal became shorter while it was read",
    )
}

/// A piece of a segment in memory.
#[derive(Debug)]
struct Window<'a, B: Backing> {
    backing: &'a B,
    file: &'a B::File,
    /// How long the segment is.
    len: u64,
    bytes: Vec<u8>,
    begin: u64,
}

impl<'a, B: Backing> Window<'a, B> {
    fn new(backing: &'a B, file: &'a B::File) -> io::Result<Self> {
        Ok(Self {
            backing,
            file,
            len: backing.stat(Target::File(file))?.size,
            bytes: Vec::new(),
            begin: 0,
        })
    }

    /// The group that begins at `at`; `None` if there is none that is whole.
    fn group(&mut self, at: u64, key: &SecretBytes<32>) -> Result<Option<(Group, GroupHeader)>> {
        let Some(bytes) = self.piece(at, GROUP_HEADER_LEN)? else {
            return Ok(None);
        };
        let Ok(header) = GroupHeader::decode(bytes) else {
            return Ok(None);
        };
        let Some(bytes) = self.piece(at, header.group_len())? else {
            return Ok(None);
        };
        Ok(Group::decode(bytes, key).ok().map(|group| (group, header)))
    }

    /// `len` bytes from `at` on; `None` if the file has less.
    fn piece(&mut self, at: u64, len: usize) -> Result<Option<&[u8]>> {
        let held = at
            .checked_sub(self.begin)
            .is_some_and(|skip| skip + len as u64 <= self.bytes.len() as u64);
        if !held {
            let left = self.len.saturating_sub(at);
            if left < len as u64 {
                return Ok(None);
            }
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.resize(WINDOW.max(len).min(left as usize), 0);
            let got = self.backing.read_at(self.file, &mut bytes, at)?;
            bytes.truncate(got);
            (self.bytes, self.begin) = (bytes, at);
        }
        let skip = (at - self.begin) as usize;
        Ok(self.bytes.get(skip..skip + len))
    }
}
