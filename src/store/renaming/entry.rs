//! The entries of a directory: short names, long ones with their files, and what hangs on them.

use std::io;

use super::directory::Open;
use super::place::Stuck;
use super::{Age, Result, Walk};
use crate::crypto::DirId;
use crate::names::{Stored, classify};
use crate::store::backing::{Backing, Kind, OpenFor, RenameMode, Target};
use crate::store::check::finding::Subject;

pub(super) const SIDECAR: &[u8] = b".name";

impl<B: Backing> Walk<'_, B> {
    /// Seals the names of some entries anew; answers whether there was a long one among them that changed.
    pub(super) fn entries(&mut self, open: &mut Open<'_, B>, names: &[Vec<u8>]) -> Result<bool> {
        let mut moves = Vec::new();
        let mut long = Vec::new();
        for stored in names {
            let Some((plain, age)) = self.entry(open, stored)? else {
                continue;
            };
            if age == Age::New {
                continue;
            }
            let Some(new) = self.sealing() else {
                continue;
            };
            let sealed = new.seal(&open.id, &plain);
            if let Some(content) = &sealed.sidecar {
                self.touch(open)?;
                let like = self
                    .backing
                    .stat(Target::At(open.dir, &sidecar_of(stored)))
                    .ok();
                let made = self
                    .scratch
                    .file(self.backing, content, like.as_ref(), &open.attr)?;
                let name = sidecar_of(&sealed.entry);
                let (from, to) = ((self.scratch.dir(), made), (open.dir, &name[..]));
                self.backing.rename(from, to, RenameMode::Replace)?;
                long.push(name);
            }
            moves.push((stored, sealed.entry));
        }
        if !long.is_empty() {
            self.backing.sync_dir(open.dir)?;
        }
        for (old, new) in moves {
            if self.is_there(open.dir, &new)? {
                let path = open.path.below(old, None);
                self.damaged(Subject::Name, &path, "another entry has the same name");
                continue;
            }
            self.touch(open)?;
            let (from, to) = ((open.dir, &old[..]), (open.dir, &new[..]));
            self.backing.rename(from, to, RenameMode::Replace)?;
            self.outcome.resealed += 1;
        }
        Ok(!long.is_empty())
    }

    /// Looks at an entry, and seals its target or attributes anew. Answers its name, if it can be opened.
    fn entry(&mut self, open: &mut Open<'_, B>, stored: &[u8]) -> Result<Option<(Vec<u8>, Age)>> {
        let path = open.path.below(stored, None);
        let attr = match self.backing.stat(Target::At(open.dir, stored)) {
            Ok(attr) => attr,
            Err(e) => {
                self.unreadable(Subject::Name, &path, &e);
                return Ok(None);
            }
        };
        let opened = match self.open_name(open.dir, &open.id, stored) {
            Ok(opened) => opened,
            Err(e) => {
                self.unreadable(Subject::NameFile, &path, &e);
                return Ok(None);
            }
        };
        let plain = opened.as_ref().map(|(plain, _)| &plain[..]);
        let path = open.path.below(stored, plain);
        if plain.is_none() {
            self.damaged(Subject::Name, &path, "it does not authenticate");
        }
        match attr.kind() {
            Kind::File => self.file_attributes(open.dir, stored, &path),
            Kind::Symlink => self.symlink(open, stored, &attr, &path),
            // Those of directories come with what is in them.
            _ => Ok(()),
        }
        .map_err(Stuck::at(&path))?;
        Ok(opened)
    }

    /// A name, and which keys it is sealed under; `None` if under none.
    pub(super) fn open_name(
        &self,
        dir: &B::Dir,
        id: &DirId,
        stored: &[u8],
    ) -> io::Result<Option<(Vec<u8>, Age)>> {
        if classify(stored) == Stored::Short {
            return Ok(self.either(|keys| keys.open(id, stored).ok()));
        }
        let file = match self.backing.open(dir, &sidecar_of(stored), OpenFor::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut content = [0; 512];
        let got = self.backing.read_at(&file, &mut content, 0)?;
        Ok(self.either(|keys| keys.open_long(id, stored, &content[..got]).ok()))
    }
}

pub(super) fn sidecar_of(entry: &[u8]) -> Vec<u8> {
    [entry, SIDECAR].concat()
}
