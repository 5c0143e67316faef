//! Directory listings. Cookies are the backing filesystem's, so that a position stays valid while entries come and go.

use crate::fs::error::Result;
use crate::fs::inodes::ROOT;
use crate::fs::{Entry, Fs};
use crate::store::Dir;
use crate::store::backing::{Attr, Backing, Kind, Listing, Target};
use crate::store::dir::PlainEntry;

/// One entry as a listing delivers it.
#[derive(Debug)]
pub struct DirEntry<'a> {
    pub name: &'a [u8],
    pub ino: u64,
    pub kind: Kind,
    /// Where to go on after this entry.
    pub cookie: u64,
    /// For listings with attributes. `.` and `..` are not counted as known to the kernel.
    pub entry: Option<Entry>,
}

/// Whether a listing delivers attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Names,
    Attributes,
}

impl<B: Backing> Fs<B> {
    /// Whether directory `ino` can be opened. Nothing is kept: who reads it says where he stands.
    pub fn opendir(&self, ino: u64) -> Result<()> {
        self.dir(ino).map(drop)
    }

    pub fn fsyncdir(&self, ino: u64) -> Result<()> {
        if self.volume.was_opened_read_only() {
            return Ok(());
        }
        let dir = self.dir(ino)?;
        self.make_path_durable(ino)?;
        Ok(self.volume.backing().sync_dir(dir.handle())?)
    }

    /// Delivers the entries of directory `ino` behind `cookie` until `each` answers that it did not take one.
    pub fn readdir(
        &self,
        ino: u64,
        cookie: u64,
        detail: Detail,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let dir = self.dir(ino)?;
        // From the beginning it is opened anew, so that rewinddir(3) sees what has changed.
        let kept = match cookie {
            0 => None,
            at => self.streams.take(ino, at)?,
        };
        let mut listing = match kept {
            Some(kept) => kept,
            None => {
                let mut listing = self.volume.backing().list(dir.handle())?;
                if cookie != 0 {
                    listing.seek(cookie)?;
                }
                listing
            }
        };
        let mut at = cookie;
        let mut outcome = Ok(());
        dir.read_entries(&self.volume, &mut listing, &mut |found| {
            let next = found.cookie;
            let taken = match self.dir_entry(ino, &dir, detail, &found) {
                Ok(Some(entry)) => {
                    let taken = each(&entry);
                    if let (false, Some(counted)) = (taken, counted(&entry)) {
                        outcome = self.forget(counted, 1);
                    }
                    taken
                }
                Ok(None) => true,
                Err(e) => {
                    outcome = Err(e);
                    false
                }
            };
            if taken {
                at = next;
            }
            taken
        })?;
        // Whoever got nothing has come to the end.
        if at != cookie {
            self.streams.keep(ino, at, listing)?;
        }
        outcome
    }

    /// `None` for an entry that has just gone.
    fn dir_entry<'a>(
        &self,
        parent: u64,
        dir: &Dir<B>,
        detail: Detail,
        found: &PlainEntry<'a>,
    ) -> Result<Option<DirEntry<'a>>> {
        let ino = if found.ino == self.root_ino {
            ROOT
        } else {
            found.ino
        };
        let mut listed = DirEntry {
            name: found.name,
            ino,
            kind: found.kind.unwrap_or(Kind::File),
            cookie: found.cookie,
            entry: None,
        };
        if detail == Detail::Names && found.kind.is_some() {
            return Ok(Some(listed));
        }
        if matches!(found.name, b"." | b"..") {
            let attr = Attr {
                ino,
                mode: libc::S_IFDIR,
                ..Attr::default()
            };
            listed.kind = Kind::Dir;
            listed.entry = (detail == Detail::Attributes).then_some(Entry {
                attr,
                generation: 0,
            });
            return Ok(Some(listed));
        }
        let target = Target::At(dir.handle(), found.stored);
        let attr = match self.volume.backing().stat(target) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            other => self.plain_attr(dir, found.stored, other?)?,
        };
        listed.kind = attr.kind();
        listed.ino = attr.ino;
        if detail == Detail::Attributes {
            let generation = self.inodes.remember(attr.ino, parent, found.name)?;
            listed.entry = Some(Entry { attr, generation });
        }
        Ok(Some(listed))
    }
}

/// The inode that an entry made known to the kernel.
fn counted(entry: &DirEntry<'_>) -> Option<u64> {
    let dots = matches!(entry.name, b"." | b"..");
    entry.entry.as_ref().filter(|_| !dots).map(|e| e.attr.ino)
}
