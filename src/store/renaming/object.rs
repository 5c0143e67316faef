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
use crate::store::renaming::scratch::Spill;
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
        let is_kept = backing.stat(Target::At(tmp, &kept)).is_ok();
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
        attr: &Attr,
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
        self.attributes(Target::At(dir, stored), attr, path, &id)
    }

    /// Attributes of users; `owner` is what they are bound to.
    pub(super) fn attributes(
        &mut self,
        target: Target<'_, B>,
        attr: &Attr,
        path: &Path,
        owner: &dyn Fn() -> io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        if let Some(spill) = self.scratch.spilled.take_if(|spill| spill.ino == attr.ino) {
            self.put_spilled(target, attr, spill)?;
        }
        let mut old = Vec::new();
        match self.backing.list_xattrs(target) {
            Ok(names) => {
                let names = names.split(|b| *b == 0);
                old.extend(
                    names
                        .filter(|n| n.starts_with(SEALED_PREFIX))
                        .map(<[u8]>::to_vec),
                );
            }
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(e) => self.unreadable(Subject::Attribute, path, &e),
        }
        if old.is_empty() {
            return Ok(());
        }
        let owner = match owner() {
            Ok(owner) => owner,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                self.damaged(Subject::Attribute, path, "the file has no whole header");
                return Ok(());
            }
            Err(e) => {
                self.unreadable(Subject::Attribute, path, &e);
                return Ok(());
            }
        };
        let mut replaced = Vec::new();
        let mut attributes = Vec::new();
        for stored in old {
            let value = match self.backing.get_xattr(target, &stored) {
                Ok(value) => value,
                Err(e) => {
                    self.unreadable(Subject::Attribute, path, &e);
                    continue;
                }
            };
            let name = String::from_utf8_lossy(&stored);
            match self.either(|keys| keys.open_xattr(&owner, &name, &value).ok()) {
                None => self.damaged(Subject::Attribute, path, "it does not authenticate"),
                Some((_, Age::New)) => {}
                Some(((name, value), Age::Old)) => {
                    if let Some(new) = self.sealing() {
                        let stored_name = new.xattr_name(&owner, &name).into_bytes();
                        attributes.push((stored_name, new.seal_xattr(&owner, &name, &value)));
                        replaced.push(stored);
                    }
                }
            }
        }
        if replaced.is_empty() {
            return Ok(());
        }
        self.replace(target, attr, replaced, attributes)
    }

    /// The new ones are durable, on their inode or in a file, before the old ones go.
    fn replace(
        &mut self,
        target: Target<'_, B>,
        attr: &Attr,
        old: Vec<Vec<u8>>,
        new: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> io::Result<()> {
        let backing = self.backing;
        match self.set_all(target, attr, &new) {
            Ok(()) => self.sync_object(target)?,
            Err(e) if has_no_room(&e) => {
                for (name, _) in &new {
                    let _ = backing.remove_xattr(target, name);
                }
                let spill = Spill {
                    ino: attr.ino,
                    attributes: new,
                };
                self.scratch.spill(backing, spill)?;
            }
            Err(e) => return Err(e),
        }
        self.writable(target, attr, || {
            old.iter()
                .try_for_each(|name| backing.remove_xattr(target, name))
        })?;
        match self.scratch.spilled.take() {
            Some(spill) => self.put_spilled(target, attr, spill),
            None => Ok(()),
        }
    }

    fn put_spilled(&mut self, target: Target<'_, B>, attr: &Attr, spill: Spill) -> io::Result<()> {
        let backing = self.backing;
        // Of a walk that ended early: those under the old keys may be in the way still.
        let stored = backing.list_xattrs(target)?;
        let is_new = |name: &[u8]| spill.attributes.iter().any(|(new, _)| new == name);
        let old = stored
            .split(|b| *b == 0)
            .filter(|name| name.starts_with(SEALED_PREFIX) && !is_new(name));
        self.writable(target, attr, || {
            old.clone()
                .try_for_each(|name| backing.remove_xattr(target, name))
        })?;
        self.set_all(target, attr, &spill.attributes)?;
        self.sync_object(target)?;
        self.scratch.forget_spill(backing)
    }

    fn set_all(
        &self,
        target: Target<'_, B>,
        attr: &Attr,
        all: &[(Vec<u8>, Vec<u8>)],
    ) -> io::Result<()> {
        self.writable(target, attr, || {
            all.iter()
                .try_for_each(|(name, v)| self.backing.set_xattr(target, name, v, XattrMode::Any))
        })
    }

    /// An owner may have taken the right to write from himself, which attributes need.
    fn writable(
        &self,
        target: Target<'_, B>,
        attr: &Attr,
        op: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        match op() {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            other => return other,
        }
        let mode = self.backing.stat(target)?.mode & 0o7777;
        self.backing.chmod(target, mode | 0o200)?;
        let done = op();
        self.backing.chmod(target, attr.mode & 0o7777)?;
        done
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

fn has_no_room(e: &io::Error) -> bool {
    let full = [libc::ENOSPC, libc::EDQUOT, libc::E2BIG, libc::ERANGE];
    e.raw_os_error().is_some_and(|code| full.contains(&code))
}
