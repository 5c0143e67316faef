//! What is under way lies in `~wardfs/tmp`: files before they get their names, the attributes of a directory before it is
//! changed, and attributes for which an inode has no room twice.

use std::io;

use crate::store::backing::{Attr, Backing, Kind, Listing, OpenFor, SetTime, Target, Time};
use crate::store::layout::{META_DIR, TMP_DIR};
use crate::store::renaming::{remove, sync_file};

/// Everything here is called so.
const PREFIX: &[u8] = b"names-";
const FILE: &[u8] = b"names-file";
const NOTE: &[u8] = b"names-note";
const SPILL: &[u8] = b"names-attributes";
/// inode u64 | mode u32 | seconds i64 | nanoseconds u32, little-endian
const NOTE_LEN: usize = 24;

pub(super) struct Scratch<B: Backing> {
    dir: B::Dir,
    /// What a walk that ended early has noted.
    found: Option<Attr>,
    /// Attributes of an inode, sealed under the new keys.
    pub spilled: Option<Spill>,
}

#[derive(Debug)]
pub(super) struct Spill {
    pub ino: u64,
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<B: Backing> Scratch<B> {
    pub fn open(backing: &B) -> io::Result<Self> {
        let meta = backing.open_dir(&backing.root()?, META_DIR.as_bytes())?;
        let dir = backing.open_dir(&meta, TMP_DIR.as_bytes())?;
        let found = read(backing, &dir, NOTE)?;
        let spilled = read(backing, &dir, SPILL)?;
        Ok(Self {
            dir,
            found: found.and_then(|bytes| decode_note(&bytes)),
            spilled: spilled.and_then(|bytes| Spill::decode(&bytes)),
        })
    }

    pub fn dir(&self) -> &B::Dir {
        &self.dir
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

    /// The attributes that a directory had before a walk that ended early has changed it.
    pub fn noted(&self, attr: &Attr) -> Option<Attr> {
        let found = self.found.filter(|found| found.ino == attr.ino)?;
        Some(Attr {
            mode: found.mode,
            mtime: found.mtime,
            ..*attr
        })
    }

    /// Notes durably what a directory is like.
    pub fn note(&self, backing: &B, attr: &Attr) -> io::Result<()> {
        let mut bytes = attr.ino.to_le_bytes().to_vec();
        bytes.extend(attr.mode.to_le_bytes());
        bytes.extend(attr.mtime.sec.to_le_bytes());
        bytes.extend(attr.mtime.nsec.to_le_bytes());
        self.write(backing, NOTE, &bytes)
    }

    /// Gives a directory back the mode and time it had, durably.
    pub fn restore(&mut self, backing: &B, dir: &B::Dir, had: Option<Attr>) -> io::Result<()> {
        let Some(had) = had else { return Ok(()) };
        let target = Target::Dir(dir);
        if backing.stat(target)?.mode != had.mode {
            backing.chmod(target, had.mode & 0o7777)?;
        }
        backing.set_times(target, SetTime::Keep, SetTime::At(had.mtime))?;
        backing.sync_dir(dir)
    }

    /// Keeps attributes here while their inode has none of them.
    pub fn spill(&mut self, backing: &B, spill: Spill) -> io::Result<()> {
        self.write(backing, SPILL, &spill.encode())?;
        self.spilled = Some(spill);
        Ok(())
    }

    pub fn forget_spill(&mut self, backing: &B) -> io::Result<()> {
        self.spilled = None;
        remove(backing, &self.dir, SPILL)
    }

    /// Whole and durable, or as it was before.
    fn write(&self, backing: &B, name: &[u8], bytes: &[u8]) -> io::Result<()> {
        remove(backing, &self.dir, FILE)?;
        let file = backing.create(&self.dir, FILE, 0o600)?;
        backing.write_at(&file, bytes, 0).map_err(|(_, e)| e)?;
        sync_file(backing, &file)?;
        let replace = crate::store::backing::RenameMode::Replace;
        backing.rename((&self.dir, FILE), (&self.dir, name), replace)?;
        backing.sync_dir(&self.dir)
    }

    /// Removes everything that walks have left here, durably: a later rotation must not take it for its own.
    pub fn clear(&self, backing: &B) -> io::Result<()> {
        let mut names = Vec::new();
        backing.list(&self.dir)?.read(&mut |entry| {
            if entry.name.starts_with(PREFIX) {
                names.push(entry.name.to_vec());
            }
            true
        })?;
        names
            .iter()
            .try_for_each(|name| remove(backing, &self.dir, name))?;
        backing.sync_dir(&self.dir)
    }
}

/// Owner and group, where they differ: an ordinary user need not and cannot set them.
pub(super) fn own_as<B: Backing>(
    backing: &B,
    target: Target<'_, B>,
    like: &Attr,
) -> io::Result<()> {
    let attr = backing.stat(target)?;
    if (attr.uid, attr.gid) == (like.uid, like.gid) {
        return Ok(());
    }
    backing.chown(target, Some(like.uid), Some(like.gid))
}

fn read<B: Backing>(backing: &B, dir: &B::Dir, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let file = match backing.open(dir, name, OpenFor::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = vec![0; backing.stat(Target::File(&file))?.size as usize];
    let got = backing.read_at(&file, &mut bytes, 0)?;
    bytes.truncate(got);
    Ok(Some(bytes))
}

fn decode_note(bytes: &[u8]) -> Option<Attr> {
    let bytes: &[u8; NOTE_LEN] = bytes.try_into().ok()?;
    let attr = Attr {
        ino: u64::from_le_bytes(bytes[..8].try_into().ok()?),
        mode: u32::from_le_bytes(bytes[8..12].try_into().ok()?),
        mtime: Time {
            sec: i64::from_le_bytes(bytes[12..20].try_into().ok()?),
            nsec: u32::from_le_bytes(bytes[20..].try_into().ok()?),
        },
        ..Attr::default()
    };
    (Kind::of_mode(attr.mode) == Some(Kind::Dir)).then_some(attr)
}

impl Spill {
    /// inode u64, then each name and value with its length, u32, little-endian.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.ino.to_le_bytes().to_vec();
        for part in self
            .attributes
            .iter()
            .flat_map(|(name, value)| [name, value])
        {
            bytes.extend((part.len() as u32).to_le_bytes());
            bytes.extend(part);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (ino, mut rest) = bytes.split_first_chunk()?;
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
        rest.is_empty().then_some(Self {
            ino: u64::from_le_bytes(*ino),
            attributes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spilled_attributes_survive_the_round_trip_and_are_read_whole_or_not_at_all() {
        let pair = |n: u8| (vec![n; 5], vec![n; usize::from(n) * 100]);
        let spill = Spill {
            ino: 7,
            attributes: vec![pair(0), pair(1), pair(9)],
        };
        let bytes = spill.encode();
        let back = Spill::decode(&bytes).expect("our own");
        assert_eq!((back.ino, back.attributes), (7, spill.attributes));
        for len in 0..bytes.len() {
            let cut = Spill::decode(&bytes[..len]);
            assert!(cut.is_none_or(|cut| cut.attributes.len() < 3), "{len}");
        }
    }
}
