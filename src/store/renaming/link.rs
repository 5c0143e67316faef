//! Targets of symbolic links, in the links and in files of their own.

use std::io;

use super::directory::Open;
use super::place::Path;
use super::{Age, Walk, remove, scratch};
use crate::store::backing::{Attr, Backing, Listing, OpenFor, RenameMode, SetTime, Target};
use crate::store::check::finding::Subject;
use crate::store::layout::{META_DIR, TARGETS_DIR};
use crate::store::namespace::far_target;

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
}
