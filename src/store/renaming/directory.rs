//! One directory: its id, what it was like before it was changed, and what is left when its entries are sealed anew.

use std::io;

use super::entry::SIDECAR;
use super::place::Path;
use super::tree::batch;
use super::{Age, Result, Walk, remove};
use crate::crypto::DirId;
use crate::names::{Stored, classify};
use crate::store::backing::{Attr, Backing, Listing, OpenFor, RenameMode, Target};
use crate::store::check::finding::Subject;
use crate::store::dir::ID_FILE;

/// A directory while its own entries are sealed anew.
pub(super) struct Open<'d, B: Backing> {
    pub dir: &'d B::Dir,
    pub id: DirId,
    pub path: &'d Path,
    pub attr: Attr,
}

/// What is in a directory besides its entries.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// In the id file.
    file: Option<(DirId, Age)>,
    new_link: Option<DirId>,
    old_link: Option<DirId>,
    pub has_entries: bool,
    long: u64,
    sidecars: u64,
}

impl Seen {
    pub fn id(&self) -> Option<DirId> {
        let file = self.file.map(|(id, _)| id);
        file.or(self.new_link).or(self.old_link)
    }
}

impl<B: Backing> Walk<'_, B> {
    pub(super) fn inspect(&self, dir: &B::Dir) -> io::Result<Seen> {
        let mut seen = Seen::default();
        match self.backing.open(dir, ID_FILE, OpenFor::Read) {
            Ok(file) => {
                let mut record = [0; 64];
                let got = self.backing.read_at(&file, &mut record, 0)?;
                seen.file = self.either(|keys| keys.parse_dir_record(&record[..got]).ok());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        self.backing.list(dir)?.read(&mut |entry| {
            match classify(entry.name) {
                Stored::DirIdLink => {
                    match self.either(|keys| keys.parse_dir_link_name(entry.name).ok()) {
                        Some((id, Age::New)) => seen.new_link = Some(id),
                        Some((id, Age::Old)) => seen.old_link = Some(id),
                        None => {}
                    }
                }
                Stored::Sidecar => seen.sidecars += 1,
                Stored::Short => seen.has_entries = true,
                Stored::Long => {
                    seen.has_entries = true;
                    seen.long += 1;
                }
                _ => {}
            }
            true
        })?;
        Ok(seen)
    }

    pub(super) fn directory(&mut self, open: &mut Open<'_, B>, seen: &Seen) -> Result<()> {
        let id = open.id;
        if self.sealing().is_some()
            && (seen.file != Some((id, Age::New)) || seen.new_link != Some(id))
        {
            self.put_id(open)?;
        }
        self.attributes(Target::Dir(open.dir), open.path, &|| Ok(id.0.to_vec()))?;
        let mut listing = match self.backing.list(open.dir) {
            Ok(listing) => listing,
            Err(e) => {
                self.unreadable(Subject::Directory, open.path, &e);
                return Ok(());
            }
        };
        let mut long = false;
        loop {
            let names = match batch(&mut listing) {
                Ok(names) if names.is_empty() => break,
                Ok(names) => names,
                Err(e) => {
                    self.unreadable(Subject::Directory, open.path, &e);
                    break;
                }
            };
            long |= self.entries(open, &names)?;
            self.watch.advanced(names.len() as u64);
            self.outcome.names += names.len() as u64;
            if self.watch.is_stopped() {
                break;
            }
        }
        if self.sealing().is_some() {
            if long {
                self.backing.sync_dir(open.dir)?;
            }
            let leftovers = seen.old_link.is_some() || seen.sidecars > seen.long;
            if leftovers || long || self.scratch.noted(&id.0).is_some() {
                self.clear_old(open)?;
            }
            self.scratch.restore(self.backing, open.dir, &id.0)?;
        }
        Ok(())
    }

    /// Remembers what the directory was like before it is changed.
    pub(super) fn touch(&mut self, open: &mut Open<'_, B>) -> io::Result<()> {
        self.scratch.note(self.backing, &open.id.0, &open.attr)?;
        let wanted = open.attr.mode & 0o7777 | 0o700;
        if open.attr.mode & 0o7777 != wanted {
            self.backing.chmod(Target::Dir(open.dir), wanted)?;
            open.attr.mode = open.attr.mode & !0o7777 | wanted;
        }
        Ok(())
    }

    /// The id under the new keys, in a file and in the name of a link to it. The old link stays for the time being.
    fn put_id(&mut self, open: &mut Open<'_, B>) -> io::Result<()> {
        self.touch(open)?;
        let Some(new) = self.sealing() else {
            return Ok(());
        };
        let (record, link) = (new.dir_record(&open.id), new.dir_link_name(&open.id));
        let (backing, dir, link) = (self.backing, open.dir, link.as_bytes());
        let like = backing.stat(Target::At(dir, ID_FILE)).ok();
        let made = self
            .scratch
            .file(backing, &record, like.as_ref(), &open.attr)?;
        remove(backing, dir, link)?;
        if backing
            .link((self.scratch.dir(), made), (dir, link))
            .is_err()
        {
            // A filesystem without hard links keeps the id in the name of an empty file.
            drop(backing.create(dir, link, 0o600)?);
        }
        backing.rename(
            (self.scratch.dir(), made),
            (dir, ID_FILE),
            RenameMode::Replace,
        )?;
        backing.sync_dir(dir)
    }

    /// Removes what only the old keys needed: links with the id, and the files of long names whose entries are renamed.
    fn clear_old(&mut self, open: &mut Open<'_, B>) -> io::Result<()> {
        let mut old = Vec::new();
        self.backing.list(open.dir)?.read(&mut |entry| {
            match classify(entry.name) {
                Stored::DirIdLink if self.old.parse_dir_link_name(entry.name).is_ok() => {
                    old.push(entry.name.to_vec());
                }
                Stored::Sidecar => old.push(entry.name.to_vec()),
                _ => {}
            }
            true
        })?;
        for name in old {
            if classify(&name) == Stored::Sidecar && !self.is_left(open, &name)? {
                continue;
            }
            self.touch(open)?;
            remove(self.backing, open.dir, &name)?;
        }
        Ok(())
    }

    /// Whether the file of a long name is sealed under the old keys, and its entry gone.
    fn is_left(&self, open: &Open<'_, B>, sidecar: &[u8]) -> io::Result<bool> {
        let entry = &sidecar[..sidecar.len() - SIDECAR.len()];
        if self.is_there(open.dir, entry)? {
            return Ok(false);
        }
        let opened = self.open_name(open.dir, &open.id, entry)?;
        Ok(matches!(opened, Some((_, Age::Old))))
    }
}
