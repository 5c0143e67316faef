//! Directory listings. Cookies are the backing filesystem's, so that a position stays valid while entries come and go.

use std::sync::Mutex;

use crate::fs::error::{Error, Result};
use crate::fs::handles::{DirHandle, Fh, Stream};
use crate::fs::inodes::ROOT;
use crate::fs::{Entry, Fs};
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
    pub fn opendir(&self, ino: u64) -> Result<Fh> {
        let dir = self.dir(ino)?;
        self.dirs.hold(ino)?;
        let stream = Mutex::new(Stream {
            listing: None,
            at: 0,
        });
        self.handles.add_dir(DirHandle { ino, dir, stream })
    }

    pub fn releasedir(&self, fh: Fh) -> Result<()> {
        let handle = self.handles.remove_dir(fh)?;
        self.dirs.release(handle.ino)
    }

    pub fn fsyncdir(&self, fh: Fh) -> Result<()> {
        if self.volume.was_opened_read_only() {
            return Ok(());
        }
        let handle = self.handles.dir(fh)?;
        self.make_path_durable(handle.ino)?;
        Ok(self.volume.backing().sync_dir(handle.dir.handle())?)
    }

    /// Delivers the entries behind `cookie` until `each` answers that it did not take one.
    pub fn readdir(
        &self,
        fh: Fh,
        cookie: u64,
        detail: Detail,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let handle = self.handles.dir(fh)?;
        let mut stream = handle.stream.lock().map_err(|_| Error::Poisoned)?;
        let Stream { listing, at } = &mut *stream;
        let open = match listing {
            Some(open) if cookie != 0 => {
                if *at != cookie {
                    open.seek(cookie)?;
                }
                open
            }
            // From the beginning it is opened anew, so that rewinddir(3) sees what has changed.
            slot => {
                let open = slot.insert(self.volume.backing().list(handle.dir.handle())?);
                if cookie != 0 {
                    open.seek(cookie)?;
                }
                open
            }
        };
        *at = cookie;
        let mut outcome = Ok(());
        handle.dir.read_entries(&self.volume, open, &mut |found| {
            let next = found.cookie;
            let taken = match self.dir_entry(&handle, detail, &found) {
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
                *at = next;
            }
            taken
        })?;
        outcome
    }

    /// `None` for an entry that has just gone.
    fn dir_entry<'a>(
        &self,
        handle: &DirHandle<B>,
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
        let target = Target::At(handle.dir.handle(), found.stored);
        let attr = match self.volume.backing().stat(target) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            other => self.plain_attr(&handle.dir, found.stored, other?)?,
        };
        listed.kind = attr.kind();
        listed.ino = attr.ino;
        if detail == Detail::Attributes {
            let generation = self.inodes.remember(attr.ino, handle.ino, found.name)?;
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
