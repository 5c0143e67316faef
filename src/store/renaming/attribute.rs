//! The attributes of users, on files and directories.

use std::io;

use super::place::Path;
use super::scratch::Attributes;
use super::{Age, Walk, sync_file};
use crate::format::file::{FileHeader, HEADER_LEN};
use crate::store::backing::{Backing, OpenFor, Target, XattrMode};
use crate::store::check::finding::Subject;
use crate::store::xattr::SEALED_PREFIX;

impl<B: Backing> Walk<'_, B> {
    pub(super) fn file_attributes(
        &mut self,
        dir: &B::Dir,
        stored: &[u8],
        path: &Path,
    ) -> io::Result<()> {
        let backing = self.backing;
        let id = || {
            let file = backing.open(dir, stored, OpenFor::Read)?;
            let mut header = [0; HEADER_LEN];
            backing.read_at(&file, &mut header, 0)?;
            let header = FileHeader::decode(&header);
            let header = header.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            Ok(header.file_id.0.to_vec())
        };
        self.attributes(Target::At(dir, stored), path, &id)
    }

    /// Attributes of users; `owner` is the id that they are bound to.
    pub(super) fn attributes(
        &mut self,
        target: Target<'_, B>,
        path: &Path,
        owner: &dyn Fn() -> io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        let stored = match self.stored_attributes(target) {
            Ok(stored) => stored,
            Err(e) => {
                self.unreadable(Subject::Attribute, path, &e);
                return Ok(());
            }
        };
        let is_dir = matches!(target, Target::Dir(_));
        if stored.is_empty() && !is_dir && !self.scratch.has_of_files() {
            return Ok(());
        }
        let id = match owner() {
            Ok(id) => id,
            Err(_) if stored.is_empty() => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                self.damaged(Subject::Attribute, path, "the file has no whole header");
                return Ok(());
            }
            Err(e) => {
                self.unreadable(Subject::Attribute, path, &e);
                return Ok(());
            }
        };
        let mut old = Vec::new();
        let mut new = Attributes::new();
        for stored in stored {
            match self.open_attribute(target, &id, &stored) {
                Err(e) => self.unreadable(Subject::Attribute, path, &e),
                Ok(None) => self.damaged(Subject::Attribute, path, "it does not authenticate"),
                Ok(Some((_, Age::New))) => {}
                Ok(Some(((name, value), Age::Old))) => {
                    if let Some(keys) = self.sealing() {
                        let stored_name = keys.xattr_name(&id, &name).into_bytes();
                        new.push((stored_name, keys.seal_xattr(&id, &name, &value)));
                        old.push(stored);
                    }
                }
            }
        }
        if self.sealing().is_none() {
            return Ok(());
        }
        let exchange = Exchange {
            target,
            id: &id,
            old: &old,
        };
        if !old.is_empty() || self.scratch.spilled(&id).is_some() {
            self.exchange_as_owner(&exchange, &new)?;
        }
        self.narrow(&exchange)
    }

    /// The names of sealed attributes.
    fn stored_attributes(&self, target: Target<'_, B>) -> io::Result<Vec<Vec<u8>>> {
        let names = match self.backing.list_xattrs(target) {
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
            other => other?,
        };
        let names = names.split(|b| *b == 0);
        let sealed = names.filter(|name| name.starts_with(SEALED_PREFIX));
        Ok(sealed.map(<[u8]>::to_vec).collect())
    }

    /// Name and value of a stored attribute, and which keys it is sealed under; `None` if under none.
    fn open_attribute(
        &self,
        target: Target<'_, B>,
        id: &[u8],
        stored: &[u8],
    ) -> io::Result<Option<(Plain, Age)>> {
        let value = self.backing.get_xattr(target, stored)?;
        let name = String::from_utf8_lossy(stored);
        Ok(self.either(|keys| keys.open_xattr(id, &name, &value).ok()))
    }

    /// An owner may have taken the right to write from himself, which attributes need. What the mode was is noted before.
    fn exchange_as_owner(
        &mut self,
        exchange: &Exchange<'_, B>,
        new: &Attributes,
    ) -> io::Result<()> {
        match self.exchange(exchange, new) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            other => return other,
        }
        let attr = self.backing.stat(exchange.target)?;
        self.scratch.note(self.backing, exchange.id, &attr)?;
        self.backing
            .chmod(exchange.target, attr.mode & 0o7777 | 0o200)?;
        let done = self.exchange(exchange, new);
        if done.is_err() {
            self.narrow(exchange)?;
        }
        done
    }

    /// Gives a file back the mode that was noted of it. Directories get it back when they are finished.
    fn narrow(&mut self, exchange: &Exchange<'_, B>) -> io::Result<()> {
        let (Some(had), Target::At(..)) = (self.scratch.noted(exchange.id), exchange.target) else {
            return Ok(());
        };
        self.backing.chmod(exchange.target, had.mode)?;
        self.sync_object(exchange.target)?;
        self.scratch.forget_note(self.backing, exchange.id)
    }

    /// The new ones are durable, on their inode or in a file, before the old ones go.
    fn exchange(&mut self, exchange: &Exchange<'_, B>, new: &Attributes) -> io::Result<()> {
        let (backing, target) = (self.backing, exchange.target);
        if let Some(spilled) = self.scratch.spilled(exchange.id) {
            let mut all = spilled.clone();
            all.extend(
                new.iter()
                    .filter(|n| !spilled.iter().any(|s| s.0 == n.0))
                    .cloned(),
            );
            if all.len() > spilled.len() {
                self.scratch.spill(backing, exchange.id, all)?;
            }
        } else {
            match self.set_all(target, new) {
                Ok(()) => self.sync_object(target)?,
                Err(e) if has_no_room(&e) => {
                    for (name, _) in new {
                        let _ = backing.remove_xattr(target, name);
                    }
                    self.scratch.spill(backing, exchange.id, new.clone())?;
                }
                Err(e) => return Err(e),
            }
        }
        exchange
            .old
            .iter()
            .try_for_each(|name| remove_attribute(backing, target, name))?;
        let Some(spilled) = self.scratch.spilled(exchange.id) else {
            return Ok(());
        };
        self.set_all(target, spilled)?;
        self.sync_object(target)?;
        self.scratch.forget_spill(backing, exchange.id)
    }

    fn set_all(&self, target: Target<'_, B>, all: &Attributes) -> io::Result<()> {
        all.iter()
            .try_for_each(|(name, v)| self.backing.set_xattr(target, name, v, XattrMode::Any))
    }

    fn sync_object(&self, target: Target<'_, B>) -> io::Result<()> {
        match target {
            Target::Dir(dir) => self.backing.sync_dir(dir),
            Target::File(file) => sync_file(self.backing, file),
            Target::At(dir, name) => {
                let file = self.backing.open(dir, name, OpenFor::Read)?;
                sync_file(self.backing, &file)
            }
        }
    }
}

/// A name and a value.
type Plain = (Vec<u8>, Vec<u8>);

/// An object whose attributes are replaced, its id, and the stored names of those that go.
struct Exchange<'a, B: Backing> {
    target: Target<'a, B>,
    id: &'a [u8],
    old: &'a [Vec<u8>],
}

fn remove_attribute<B: Backing>(backing: &B, target: Target<'_, B>, name: &[u8]) -> io::Result<()> {
    match backing.remove_xattr(target, name) {
        Err(e) if e.raw_os_error() == Some(libc::ENODATA) => Ok(()),
        other => other,
    }
}

fn has_no_room(e: &io::Error) -> bool {
    let full = [libc::ENOSPC, libc::EDQUOT, libc::E2BIG, libc::ERANGE];
    e.raw_os_error().is_some_and(|code| full.contains(&code))
}
