//! Finding the files and directories that the journal names: by path, also across renames that may or may not have
//! become durable, by inode number, and at last by going through the whole tree.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use crate::content::Geometry;
use crate::crypto::{FileId, FileKeys, VolumeKeys};
use crate::format::file::{FileHeader, HEADER_LEN};
use crate::names::{Stored, classify};
use crate::store::backing::{Attr, Backing, Kind, Listing, OpenFor, Target};
use crate::store::error::{Error, Result};
use crate::store::recovery::Origin;
use crate::store::recovery::log::Log;

/// Handles kept open at most.
const DIRS_KEPT: usize = 128;
/// Paths tried at most for one that was recorded: each rename of a directory above it doubles them.
const VARIANTS: usize = 32;

/// A regular file as found, open for reading.
#[derive(Debug)]
pub struct Entry<B: Backing> {
    pub dir: Arc<B::Dir>,
    pub name: Vec<u8>,
    pub path: Vec<u8>,
    pub file: B::File,
    pub attr: Attr,
}

/// A directory of the tree: its path and handle.
pub type At<B> = (Vec<u8>, Arc<<B as Backing>::Dir>);
/// Is told of a directory and of what is in it.
pub type Visit<'v, F, B> =
    &'v mut dyn FnMut(&F, &[u8], &Arc<<B as Backing>::Dir>, &[Child]) -> Result<()>;

/// One entry of a directory.
#[derive(Debug)]
pub struct Child {
    pub name: Vec<u8>,
    pub ino: u64,
    pub kind: Kind,
}

/// See the module.
#[derive(Debug)]
pub struct Finder<'a, B: Backing> {
    backing: &'a B,
    keys: &'a Arc<VolumeKeys>,
    geometry: Geometry,
    origin: Origin,
    renamed: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    dirs: HashMap<Vec<u8>, Arc<B::Dir>>,
}

impl<'a, B: Backing> Finder<'a, B> {
    pub fn new(
        backing: &'a B,
        keys: &'a Arc<VolumeKeys>,
        geometry: Geometry,
        origin: Origin,
        log: &Log,
    ) -> Self {
        let mut renamed: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
        // Forwards, and back again: a rename may not have become durable.
        for (from, to) in &log.moves {
            renamed.entry(from.clone()).or_default().push(to.clone());
            renamed.entry(to.clone()).or_default().push(from.clone());
        }
        Self {
            backing,
            keys,
            geometry,
            origin,
            renamed,
            dirs: HashMap::new(),
        }
    }

    /// The paths at which something recorded under `path` may be, the most likely first.
    pub fn variants(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut found = vec![path.to_vec()];
        let mut known: HashSet<Vec<u8>> = found.iter().cloned().collect();
        let mut next = 0;
        while next < found.len() && found.len() < VARIANTS && !self.renamed.is_empty() {
            let path = found[next].clone();
            next += 1;
            let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/');
            let ends: Vec<usize> = slashes.map(|(at, _)| at).chain([path.len()]).collect();
            for end in ends {
                for other in self.renamed.get(&path[..end]).into_iter().flatten() {
                    let variant = [other, &path[end..]].concat();
                    if known.insert(variant.clone()) {
                        found.push(variant);
                    }
                }
            }
        }
        found.truncate(VARIANTS);
        found
    }

    /// Opens a directory of the tree; `None` if there is none at this path.
    pub fn dir(&mut self, path: &[u8]) -> Result<Option<Arc<B::Dir>>> {
        if let Some(dir) = self.dirs.get(path) {
            return Ok(Some(Arc::clone(dir)));
        }
        let opened = if path.is_empty() {
            self.backing.root()?
        } else {
            let (above, name) = split(path);
            if !is_entry(name) {
                return Ok(None);
            }
            let Some(parent) = self.dir(above)? else {
                return Ok(None);
            };
            match self.backing.open_dir(&parent, name) {
                Err(e) if is_absent(&e) => return Ok(None),
                other => other?,
            }
        };
        if self.dirs.len() >= DIRS_KEPT {
            self.dirs.clear();
        }
        let opened = Arc::new(opened);
        self.dirs.insert(path.to_vec(), Arc::clone(&opened));
        Ok(Some(opened))
    }

    /// The directory recorded with this inode number, at one of its paths.
    pub fn covered(&mut self, path: &[u8], ino: u64) -> Result<Option<At<B>>> {
        for variant in self.variants(path) {
            if let Some(dir) = self.dir(&variant)? {
                let attr = self.backing.stat(Target::Dir(&*dir))?;
                if attr.ino == ino || self.origin == Origin::Copy {
                    return Ok(Some((variant, dir)));
                }
            }
        }
        Ok(None)
    }

    /// The regular file at `path`.
    pub fn file(&mut self, path: &[u8]) -> Result<Option<Entry<B>>> {
        let (above, name) = split(path);
        match self.dir(above)? {
            Some(dir) => self.file_in(&dir, above, name),
            None => Ok(None),
        }
    }

    /// The regular file `name` of a directory that is open.
    pub fn file_in(
        &self,
        dir: &Arc<B::Dir>,
        above: &[u8],
        name: &[u8],
    ) -> Result<Option<Entry<B>>> {
        if !is_entry(name) {
            return Ok(None);
        }
        let attr = match self.backing.stat(Target::At(&**dir, name)) {
            Err(e) if is_absent(&e) => return Ok(None),
            other => other?,
        };
        if attr.kind() != Kind::File {
            return Ok(None);
        }
        let file = self.backing.open(dir, name, OpenFor::Read)?;
        Ok(Some(Entry {
            dir: Arc::clone(dir),
            name: name.to_vec(),
            path: join(above, name),
            attr: self.backing.stat(Target::File(&file))?,
            file,
        }))
    }

    /// The first bytes of a file, as many as it has.
    pub fn head<const N: usize>(&self, file: &B::File) -> Result<([u8; N], usize)> {
        let mut head = [0; N];
        let got = self.backing.read_at(file, &mut head, 0)?;
        Ok((head, got))
    }

    /// The keys of a file whose header authenticates.
    pub fn keys(&self, head: &[u8]) -> Option<FileKeys> {
        let header = FileHeader::decode(head.first_chunk::<HEADER_LEN>()?).ok()?;
        let fits = 1 << header.log2_chunk == self.geometry.chunk_size();
        fits.then(|| self.keys.open_file(&header).ok()).flatten()
    }

    /// The file at `path` if it is the one with this id.
    pub fn file_with_id(
        &mut self,
        path: &[u8],
        id: &FileId,
    ) -> Result<Option<(Entry<B>, FileKeys)>> {
        let Some(entry) = self.file(path)? else {
            return Ok(None);
        };
        Ok(self
            .identify(&entry)?
            .filter(|keys| keys.header().file_id == *id)
            .map(|keys| (entry, keys)))
    }

    fn identify(&self, entry: &Entry<B>) -> Result<Option<FileKeys>> {
        let (head, got) = self.head::<HEADER_LEN>(&entry.file)?;
        Ok(self.keys(&head[..got]))
    }

    /// What is in a directory, without what is not of the tree.
    pub fn children(&self, dir: &B::Dir) -> Result<Vec<Child>> {
        let mut found = Vec::new();
        self.backing.list(dir)?.read(&mut |entry| {
            if is_entry(entry.name) {
                found.push((entry.name.to_vec(), entry.ino, entry.kind));
            }
            true
        })?;
        let mut children = Vec::with_capacity(found.len());
        for (name, ino, kind) in found {
            let kind = match kind {
                Some(kind) => kind,
                None => match self.backing.stat(Target::At(dir, &name)) {
                    Err(e) if is_absent(&e) => continue,
                    other => other?.kind(),
                },
            };
            children.push(Child { name, ino, kind });
        }
        Ok(children)
    }

    /// Calls `each` for the directories of the tree, from the root down, with what is in them. Answers where that failed:
    /// it does not stop the walk.
    pub fn walk(&mut self, each: Visit<'_, Self, B>) -> Vec<(Vec<u8>, Error)> {
        let mut failed = Vec::new();
        let mut waiting = vec![Vec::new()];
        while let Some(path) = waiting.pop() {
            let opened = self.dir(&path).and_then(|dir| match dir {
                Some(dir) => Ok(Some((self.children(&dir)?, dir))),
                None => Ok(None),
            });
            let (children, dir) = match opened {
                Ok(Some(opened)) => opened,
                Ok(None) => continue,
                Err(e) => {
                    failed.push((path, e));
                    continue;
                }
            };
            let visited = each(self, &path, &dir, &children);
            let dirs = children.iter().filter(|c| c.kind == Kind::Dir);
            waiting.extend(dirs.map(|c| join(&path, &c.name)));
            failed.extend(visited.err().map(|e| (path, e)));
        }
        failed
    }

    /// Looks for the files of `wanted` in one directory; takes out what it finds and calls `each` for it.
    ///
    /// `inos` are the inode numbers that they may have; in a copy these mean nothing, and every file is looked at.
    ///
    /// # Errors
    /// A file could not be read. The others have been looked at.
    pub fn search(
        &self,
        (path, dir, children): (&[u8], &Arc<B::Dir>, &[Child]),
        inos: &HashSet<u64>,
        wanted: &mut HashSet<FileId>,
        each: &mut dyn FnMut(FileId, Entry<B>, FileKeys),
    ) -> Result<()> {
        let mut done = Ok(());
        for child in children.iter().filter(|c| c.kind == Kind::File) {
            if wanted.is_empty() {
                break;
            }
            if self.origin == Origin::InPlace && !inos.contains(&child.ino) {
                continue;
            }
            let found = self.file_in(dir, path, &child.name).and_then(|entry| {
                let keys = entry.as_ref().map(|entry| self.identify(entry));
                Ok(entry.zip(keys.transpose()?.flatten()))
            });
            match found {
                Ok(Some((entry, keys))) if wanted.remove(&keys.header().file_id) => {
                    each(keys.header().file_id, entry, keys);
                }
                Ok(_) => {}
                Err(e) => done = Err(e),
            }
        }
        done
    }
}

/// The path of the directory, and the name in it.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

pub fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    match above.is_empty() {
        true => name.to_vec(),
        false => [above, b"/", name].concat(),
    }
}

/// Whether a stored name is one of the tree's own; nothing else is ever opened.
fn is_entry(name: &[u8]) -> bool {
    matches!(classify(name), Stored::Short | Stored::Long)
}

/// Whether an error says that there is no such object here.
fn is_absent(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart_and_put_together() {
        for (path, above, name) in [("a", "", "a"), ("a/b", "a", "b"), ("a/b/c", "a/b", "c")] {
            let parts = (above.as_bytes(), name.as_bytes());
            assert_eq!(split(path.as_bytes()), parts);
            assert_eq!(join(parts.0, parts.1), path.as_bytes());
        }
    }
}
