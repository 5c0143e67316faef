//! What is under way lies in `~wardfs/tmp`: files before they get their names, what a directory or file was like before it
//! is changed, and attributes for which an inode has no room twice.
//!
//! Notes and attributes are called by the id of what they belong to, which no other object has, also in a copy of the vault.

use std::collections::BTreeMap;
use std::io;

use data_encoding::BASE64URL_NOPAD;

use crate::crypto::FileId;
use crate::store::backing::{Attr, Backing, Listing, OpenFor, RenameMode, SetTime, Target, Time};
use crate::store::layout::{META_DIR, TMP_DIR};
use crate::store::renaming::{remove, sync_file};

/// Everything here is called so.
const PREFIX: &[u8] = b"names-";
const FILE: &[u8] = b"names-file";
const NOTE: &str = "names-note-";
const SPILL: &str = "names-attributes-";
/// mode u32 | seconds i64 | nanoseconds u32, little-endian
const NOTE_LEN: usize = 16;

pub(super) struct Scratch<B: Backing> {
    dir: B::Dir,
    /// By id: what directories and files were like that are changed, or that a walk which ended early has changed.
    notes: BTreeMap<Vec<u8>, Note>,
    /// By id: attributes that lie here, sealed under the new keys.
    spills: BTreeMap<Vec<u8>, Attributes>,
}

/// What an object was like before it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    /// Permission bits.
    pub mode: u32,
    pub mtime: Time,
}

/// Stored names and sealed values.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

impl<B: Backing> Scratch<B> {
    pub fn open(backing: &B) -> io::Result<Self> {
        let meta = backing.open_dir(&backing.root()?, META_DIR.as_bytes())?;
        let mut scratch = Self {
            dir: backing.open_dir(&meta, TMP_DIR.as_bytes())?,
            notes: BTreeMap::new(),
            spills: BTreeMap::new(),
        };
        for name in scratch.names(backing)? {
            if let Some(id) = id_in(NOTE, &name) {
                let note = Note::decode(&read(backing, &scratch.dir, &name)?);
                scratch.notes.extend(note.map(|note| (id, note)));
            } else if let Some(id) = id_in(SPILL, &name) {
                let spill = decode(&read(backing, &scratch.dir, &name)?);
                scratch.spills.extend(spill.map(|spill| (id, spill)));
            }
        }
        Ok(scratch)
    }

    pub fn dir(&self) -> &B::Dir {
        &self.dir
    }

    /// Whether something is noted or kept of files, which a walk that ended early has left.
    pub fn has_of_files(&self) -> bool {
        let mut ids = self.notes.keys().chain(self.spills.keys());
        ids.any(|id| id.len() == size_of::<FileId>())
    }

    /// Writes a durable file, with the owner and mode of `like`, or else the owner of `parent`; answers its name here.
    pub fn file(
        &self,
        backing: &B,
        content: &[u8],
        like: Option<&Attr>,
        parent: &Attr,
    ) -> io::Result<&'static [u8]> {
        remove(backing, &self.dir, FILE)?;
        let file = backing.create(&self.dir, FILE, 0o600)?;
        backing.write_at(&file, content, 0).map_err(|(_, e)| e)?;
        let target = Target::File(&file);
        own_as(backing, target, like.unwrap_or(parent))?;
        if let Some(like) = like {
            backing.chmod(target, like.mode & 0o7777)?;
        }
        sync_file(backing, &file)?;
        Ok(FILE)
    }

    /// What an object was like before it was changed, by this walk or one that ended early.
    pub fn noted(&self, id: &[u8]) -> Option<Note> {
        self.notes.get(id).copied()
    }

    /// Notes durably what an object is like, unless that is noted.
    pub fn note(&mut self, backing: &B, id: &[u8], attr: &Attr) -> io::Result<()> {
        if self.notes.contains_key(id) {
            return Ok(());
        }
        let note = Note {
            mode: attr.mode & 0o7777,
            mtime: attr.mtime,
        };
        self.write(backing, &called(NOTE, id), &note.encode())?;
        self.notes.insert(id.to_vec(), note);
        Ok(())
    }

    /// What was noted of it, and is so again durably.
    pub fn forget_note(&mut self, backing: &B, id: &[u8]) -> io::Result<()> {
        self.notes.remove(id);
        remove(backing, &self.dir, &called(NOTE, id))
    }

    /// Gives a directory back the mode and time it had, durably.
    pub fn restore(&mut self, backing: &B, dir: &B::Dir, id: &[u8]) -> io::Result<()> {
        let Some(had) = self.noted(id) else {
            return Ok(());
        };
        let target = Target::Dir(dir);
        if backing.stat(target)?.mode & 0o7777 != had.mode {
            backing.chmod(target, had.mode)?;
        }
        backing.set_times(target, SetTime::Keep, SetTime::At(had.mtime))?;
        backing.sync_dir(dir)?;
        self.forget_note(backing, id)
    }

    /// Keeps attributes here, durably, while their inode has none of them.
    pub fn spill(&mut self, backing: &B, id: &[u8], attributes: Attributes) -> io::Result<()> {
        self.write(backing, &called(SPILL, id), &encode(&attributes))?;
        self.spills.insert(id.to_vec(), attributes);
        Ok(())
    }

    pub fn spilled(&self, id: &[u8]) -> Option<&Attributes> {
        self.spills.get(id)
    }

    pub fn forget_spill(&mut self, backing: &B, id: &[u8]) -> io::Result<()> {
        self.spills.remove(id);
        remove(backing, &self.dir, &called(SPILL, id))
    }

    /// Whole and durable, or as it was before.
    fn write(&self, backing: &B, name: &[u8], bytes: &[u8]) -> io::Result<()> {
        remove(backing, &self.dir, FILE)?;
        let file = backing.create(&self.dir, FILE, 0o600)?;
        backing.write_at(&file, bytes, 0).map_err(|(_, e)| e)?;
        sync_file(backing, &file)?;
        let replace = RenameMode::Replace;
        backing.rename((&self.dir, FILE), (&self.dir, name), replace)?;
        backing.sync_dir(&self.dir)
    }

    /// Removes everything that walks have left here, durably: a later rotation must not take it for its own.
    pub fn clear(&self, backing: &B) -> io::Result<()> {
        let names = self.names(backing)?;
        names
            .iter()
            .try_for_each(|name| remove(backing, &self.dir, name))?;
        backing.sync_dir(&self.dir)
    }

    fn names(&self, backing: &B) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        backing.list(&self.dir)?.read(&mut |entry| {
            if entry.name.starts_with(PREFIX) {
                names.push(entry.name.to_vec());
            }
            true
        })?;
        Ok(names)
    }
}

fn called(what: &str, id: &[u8]) -> Vec<u8> {
    [what, &BASE64URL_NOPAD.encode(id)].concat().into_bytes()
}

fn id_in(what: &str, name: &[u8]) -> Option<Vec<u8>> {
    let id = name.strip_prefix(what.as_bytes())?;
    BASE64URL_NOPAD.decode(id).ok()
}

/// Owner and group, where they differ: an ordinary user need not set them, and cannot set a group that he is not in.
pub(super) fn own_as<B: Backing>(
    backing: &B,
    target: Target<'_, B>,
    like: &Attr,
) -> io::Result<()> {
    let attr = backing.stat(target)?;
    if (attr.uid, attr.gid) == (like.uid, like.gid) {
        return Ok(());
    }
    match backing.chown(target, Some(like.uid), Some(like.gid)) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && attr.uid == like.uid => Ok(()),
        other => other,
    }
}

fn read<B: Backing>(backing: &B, dir: &B::Dir, name: &[u8]) -> io::Result<Vec<u8>> {
    let file = backing.open(dir, name, OpenFor::Read)?;
    let mut bytes = vec![0; backing.stat(Target::File(&file))?.size as usize];
    let got = backing.read_at(&file, &mut bytes, 0)?;
    bytes.truncate(got);
    Ok(bytes)
}

impl Note {
    fn encode(self) -> Vec<u8> {
        let mut bytes = self.mode.to_le_bytes().to_vec();
        bytes.extend(self.mtime.sec.to_le_bytes());
        bytes.extend(self.mtime.nsec.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; NOTE_LEN] = bytes.try_into().ok()?;
        let mode = u32::from_le_bytes(bytes[..4].try_into().ok()?);
        let mtime = Time {
            sec: i64::from_le_bytes(bytes[4..12].try_into().ok()?),
            nsec: u32::from_le_bytes(bytes[12..].try_into().ok()?),
        };
        (mode <= 0o7777).then_some(Self { mode, mtime })
    }
}

/// Each name and value with its length, u32, little-endian.
fn encode(attributes: &Attributes) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in attributes.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend((part.len() as u32).to_le_bytes());
        bytes.extend(part);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Attributes> {
    let mut rest = bytes;
    let mut part = || {
        let (len, after) = rest.split_first_chunk()?;
        let (part, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        rest = after;
        Some(part.to_vec())
    };
    let mut attributes = Vec::new();
    while let Some(name) = part() {
        attributes.push((name, part()?));
    }
    rest.is_empty().then_some(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spilled_attributes_survive_the_round_trip_and_are_read_whole_or_not_at_all() {
        let pair = |n: u8| (vec![n; 5], vec![n; usize::from(n) * 100]);
        let attributes = vec![pair(0), pair(1), pair(9)];
        let bytes = encode(&attributes);
        assert_eq!(decode(&bytes), Some(attributes));
        for len in 0..bytes.len() {
            let cut = decode(&bytes[..len]);
            assert!(cut.is_none_or(|cut| cut.len() < 3), "{len}");
        }
    }

    #[test]
    fn a_note_survives_the_round_trip() {
        let note = Note {
            mode: 0o1750,
            mtime: Time { sec: -5, nsec: 7 },
        };
        assert_eq!(Note::decode(&note.encode()), Some(note));
        assert_eq!(Note::decode(&note.encode()[1..]), None);
    }

    #[test]
    fn the_name_of_a_note_tells_whose_it_is() {
        let name = called(NOTE, &[0xfb; 24]);
        assert_eq!(id_in(NOTE, &name), Some(vec![0xfb; 24]));
        assert_eq!(id_in(SPILL, &name), None);
    }
}
