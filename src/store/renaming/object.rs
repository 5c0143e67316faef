//! What hangs on an entry besides its name: the target of a symbolic link, and the attributes of users.

use std::io;

use super::{Age, Open, Path, Walk, remove, scratch};
use crate::format::file::{FileHeader, HEADER_LEN};
use crate::store::backing::{
    Attr, Backing, Listing, OpenFor, RenameMode, SetTime, Target, XattrMode,
};
use crate::store::check::finding::Subject;
use crate::store::layout::{META_DIR, TARGETS_DIR};
use crate::store::namespace::far_target;
use crate::store::renaming::scratch::Attributes;
use crate::store::xattr::SEALED_PREFIX;

/// A link target before it gets its place.
const LINK: &[u8] = b"names-link";
/// The longest sealed target, and more.
const MAX_SEALED_TARGET: usize = 8192;

impl<B: Backing> Walk<'_, B> {
    /// A link cannot be written anew: another one takes its place, with its owner and times. Of a link with several names
    /// the new one is kept at hand, so that they are names of one again.
    pub(super) fn symlink(
        &mut self,
        open: &mut Open<'_, B>,
        stored: &[u8],
        attr: &Attr,
        path: &Path,
    ) -> io::Result<()> {
        let raw = match self.backing.readlink(open.dir, stored) {
            Ok(raw) => raw,
            Err(e) => {
                self.unreadable(Subject::Symlink, path, &e);
                return Ok(());
            }
        };
        if far_target(&raw).is_some() {
            return Ok(());
        }
        let Some((target, age)) = self.either(|keys| keys.open_target(&raw).ok()) else {
            self.damaged(Subject::Symlink, path, "its target does not authenticate");
            return Ok(());
        };
        let Some(new) = self.sealing().filter(|_| age == Age::Old) else {
            return Ok(());
        };
        let sealed = new.seal_target(&target);
        self.touch(open)?;
        let (backing, tmp) = (self.backing, self.scratch.dir());
        remove(backing, tmp, LINK)?;
        let kept = format!("names-link-{}", attr.ino).into_bytes();
        // The last of several names is the only one left.
        let is_kept = self.is_kept(&kept, &target)?;
        let shared = attr.nlink > 1 || is_kept;
        if !is_kept {
            backing.symlink(tmp, LINK, &sealed)?;
            let made = Target::At(tmp, LINK);
            scratch::own_as(backing, made, attr)?;
            backing.set_times(made, SetTime::At(attr.atime), SetTime::At(attr.mtime))?;
        }
        if shared {
            if !is_kept {
                backing.rename((tmp, LINK), (tmp, &kept), RenameMode::Replace)?;
            }
            backing.link((tmp, &kept), (tmp, LINK))?;
        }
        backing.sync_dir(tmp)?;
        backing.rename((tmp, LINK), (open.dir, stored), RenameMode::Replace)
    }

    /// Whether a new link is at hand. In a copy of a vault another one may have the number of an inode that it was called by.
    fn is_kept(&self, kept: &[u8], target: &[u8]) -> io::Result<bool> {
        let raw = match self.backing.readlink(self.scratch.dir(), kept) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let opened = self.new.and_then(|new| new.open_target(&raw).ok());
        Ok(opened.as_deref() == Some(target))
    }

    /// Targets too long for a link of the backing filesystem lie in files of their own.
    pub(super) fn far_targets(&mut self) -> io::Result<()> {
        let meta = self
            .backing
            .open_dir(&self.backing.root()?, META_DIR.as_bytes())?;
        let dir = match self.backing.open_dir(&meta, TARGETS_DIR.as_bytes()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let mut names = Vec::new();
        self.backing.list(&dir)?.read(&mut |entry| {
            if !matches!(entry.name, b"." | b"..") {
                names.push(entry.name.to_vec());
            }
            true
        })?;
        for name in names {
            if self.watch.is_stopped() {
                self.outcome.stopped = true;
                return Ok(());
            }
            self.far_target(&dir, &name)?;
        }
        self.backing.sync_dir(&dir)
    }

    fn far_target(&mut self, dir: &B::Dir, name: &[u8]) -> io::Result<()> {
        let place = [META_DIR.as_bytes(), TARGETS_DIR.as_bytes(), name].join(&b'/');
        let path = Path {
            stored: place,
            plain: Vec::new(),
        };
        let read = || {
            let file = self.backing.open(dir, name, OpenFor::Read)?;
            let mut sealed = vec![0; MAX_SEALED_TARGET];
            let got = self.backing.read_at(&file, &mut sealed, 0)?;
            sealed.truncate(got);
            Ok((sealed, self.backing.stat(Target::File(&file))?))
        };
        let (sealed, attr) = match read() {
            Ok(read) => read,
            Err(e) => {
                let e: io::Error = e;
                self.unreadable(Subject::Target, &path, &e);
                return Ok(());
            }
        };
        let Some((target, age)) = self.either(|keys| keys.open_target(&sealed).ok()) else {
            self.damaged(Subject::Target, &path, "it does not authenticate");
            return Ok(());
        };
        let Some(new) = self.sealing().filter(|_| age == Age::Old) else {
            return Ok(());
        };
        let sealed = new.seal_target(&target);
        let made = self
            .scratch
            .file(self.backing, &sealed, Some(&attr), &attr)?;
        let from = (self.scratch.dir(), made);
        self.backing.rename(from, (dir, name), RenameMode::Replace)
    }

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
            Target::File(file) => super::sync_file(self.backing, file),
            Target::At(dir, name) => {
                let file = self.backing.open(dir, name, OpenFor::Read)?;
                super::sync_file(self.backing, &file)
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
