//! What the kernel knows: inode numbers and where to find them again.
//!
//! An inode number is the backing filesystem's, so it stays the same across mounts. Only the parent and the name are
//! kept, some 80 bytes each, since the kernel may know millions; descriptors are kept by [`crate::fs::dirs`] and
//! [`crate::fs::files`] for what is in use.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use crate::fs::error::{Error, Result};

/// The inode number of the root, by the FUSE protocol.
pub const ROOT: u64 = 1;

const SHARDS: usize = 16;

/// Where an inode was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub parent: u64,
    pub name: Box<[u8]>,
}

#[derive(Debug)]
struct Known {
    place: Place,
    /// How many times the kernel was told of it and did not say it forgot.
    lookups: u32,
    generation: u32,
    /// Its last name was removed: if the number appears again, it is another object.
    gone: bool,
    /// It was opened since the kernel knows it: the kernel may hold pages of its content.
    opened: bool,
}

#[derive(Debug, Default)]
struct Shard {
    known: BTreeMap<u64, Known>,
    /// Further names of hard-linked inodes.
    others: HashMap<u64, Vec<Place>>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Inodes {
    shards: [Mutex<Shard>; SHARDS],
}

impl Inodes {
    fn shard(&self, ino: u64) -> Result<MutexGuard<'_, Shard>> {
        self.shards[ino as usize % SHARDS]
            .lock()
            .map_err(|_| Error::Poisoned)
    }

    /// The kernel is about to be told of `ino`. Answers the generation of the number.
    pub fn remember(&self, ino: u64, parent: u64, name: &[u8]) -> Result<u64> {
        let place = || Place {
            parent,
            name: name.into(),
        };
        let mut shard = self.shard(ino)?;
        let Shard { known, others } = &mut *shard;
        let entry = known.entry(ino).or_insert_with(|| Known {
            place: place(),
            lookups: 0,
            generation: 0,
            gone: false,
            opened: false,
        });
        entry.lookups += 1;
        if entry.gone {
            entry.gone = false;
            entry.opened = false;
            entry.generation += 1;
            entry.place = place();
            others.remove(&ino);
        } else if entry.place.parent != parent || *entry.place.name != *name {
            let new = place();
            let others = others.entry(ino).or_default();
            others.retain(|p| *p != new);
            others.push(std::mem::replace(&mut entry.place, new));
        }
        Ok(entry.generation.into())
    }

    /// The kernel has forgotten `ino` so many times.
    pub fn forget(&self, ino: u64, lookups: u64) -> Result<()> {
        let mut shard = self.shard(ino)?;
        if let Some(entry) = shard.known.get_mut(&ino) {
            entry.lookups = entry
                .lookups
                .saturating_sub(u32::try_from(lookups).unwrap_or(u32::MAX));
            if entry.lookups == 0 {
                shard.known.remove(&ino);
                shard.others.remove(&ino);
            }
        }
        Ok(())
    }

    /// The places of `ino`, the most recent first.
    pub fn places(&self, ino: u64) -> Result<(Place, Vec<Place>)> {
        let shard = self.shard(ino)?;
        let entry = shard
            .known
            .get(&ino)
            .filter(|e| !e.gone)
            .ok_or(Error::Stale)?;
        let others = shard.others.get(&ino).cloned().unwrap_or_default();
        Ok((entry.place.clone(), others))
    }

    /// The file `ino` is opened. Answers whether it is for the first time since the kernel knows it.
    pub fn note_opened(&self, ino: u64) -> Result<bool> {
        let mut shard = self.shard(ino)?;
        let known = shard.known.get_mut(&ino);
        Ok(known.is_some_and(|known| !std::mem::replace(&mut known.opened, true)))
    }

    /// Whether the kernel knows of `ino`, with a name or without.
    pub fn is_known(&self, ino: u64) -> bool {
        self.shard(ino)
            .is_ok_and(|shard| shard.known.contains_key(&ino))
    }

    /// Whether the last name of `ino` was removed.
    pub fn is_gone(&self, ino: u64) -> bool {
        self.shard(ino)
            .is_ok_and(|shard| shard.known.get(&ino).is_some_and(|known| known.gone))
    }

    /// The directory in which `ino` was last seen.
    pub fn parent(&self, ino: u64) -> Result<u64> {
        let shard = self.shard(ino)?;
        shard
            .known
            .get(&ino)
            .map(|e| e.place.parent)
            .ok_or(Error::Stale)
    }

    /// A name of `ino` is gone; with `last`, the inode itself.
    pub fn removed(&self, ino: u64, parent: u64, name: &[u8], last: bool) -> Result<()> {
        let mut shard = self.shard(ino)?;
        let Shard { known, others } = &mut *shard;
        let Some(entry) = known.get_mut(&ino) else {
            return Ok(());
        };
        let is = |p: &Place| p.parent == parent && *p.name == *name;
        if let Some(list) = others.get_mut(&ino) {
            list.retain(|p| !is(p));
            if is(&entry.place)
                && let Some(next) = list.pop()
            {
                entry.place = next;
            }
            if list.is_empty() {
                others.remove(&ino);
            }
        }
        entry.gone |= last;
        Ok(())
    }

    /// A name of `ino` has become another.
    pub fn moved(&self, ino: u64, from: (u64, &[u8]), to: (u64, &[u8])) -> Result<()> {
        let mut shard = self.shard(ino)?;
        let Shard { known, others } = &mut *shard;
        let new = Place {
            parent: to.0,
            name: to.1.into(),
        };
        let is_old = |p: &Place| p.parent == from.0 && *p.name == *from.1;
        let Some(entry) = known.get_mut(&ino) else {
            return Ok(());
        };
        if is_old(&entry.place) {
            entry.place = new;
        } else if let Some(place) = others
            .get_mut(&ino)
            .and_then(|list| list.iter_mut().find(|p| is_old(p)))
        {
            *place = new;
        }
        Ok(())
    }

    /// How many inodes the kernel knows.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|s| s.lock().map_or(0, |s| s.known.len()))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(parent: u64, name: &[u8]) -> Place {
        Place {
            parent,
            name: name.into(),
        }
    }

    #[test]
    fn an_inode_is_known_until_every_lookup_is_forgotten() {
        let inodes = Inodes::default();
        inodes.remember(10, ROOT, b"a").expect("not poisoned");
        inodes.remember(10, ROOT, b"a").expect("not poisoned");
        inodes.forget(10, 1).expect("not poisoned");
        assert_eq!(inodes.places(10).expect("known").0, place(ROOT, b"a"));
        inodes.forget(10, 1).expect("not poisoned");
        assert!(inodes.places(10).is_err());
        assert_eq!(inodes.len(), 0);
    }

    #[test]
    fn a_reused_number_gets_another_generation() {
        let inodes = Inodes::default();
        assert_eq!(inodes.remember(10, ROOT, b"a").expect("ok"), 0);
        inodes.removed(10, ROOT, b"a", true).expect("ok");
        assert!(inodes.places(10).is_err());
        assert_eq!(inodes.remember(10, ROOT, b"b").expect("ok"), 1);
        assert_eq!(inodes.places(10).expect("known").0, place(ROOT, b"b"));
    }

    #[test]
    fn a_hard_link_is_found_under_the_name_that_remains() {
        let inodes = Inodes::default();
        inodes.remember(10, ROOT, b"a").expect("ok");
        inodes.remember(10, 7, b"b").expect("ok");
        inodes.removed(10, 7, b"b", false).expect("ok");
        assert_eq!(
            inodes.places(10).expect("known"),
            (place(ROOT, b"a"), vec![])
        );
    }

    #[test]
    fn a_rename_moves_the_name_that_it_names() {
        let inodes = Inodes::default();
        inodes.remember(10, ROOT, b"a").expect("ok");
        inodes.remember(10, ROOT, b"b").expect("ok");
        inodes.moved(10, (ROOT, b"a"), (9, b"c")).expect("ok");
        assert_eq!(
            inodes.places(10).expect("known"),
            (place(ROOT, b"b"), vec![place(9, b"c")])
        );
    }
}
