//! The way through all directories: parents before children, each finished before the next one is begun.

use std::collections::VecDeque;
use std::io;

use super::directory::Open;
use super::place::Path;
use super::{Result, Walk};
use crate::crypto::DirId;
use crate::names::{Stored, classify};
use crate::store::backing::{Backing, Kind, Listing, Target};
use crate::store::check::finding::Subject;

/// Entries taken from a listing at once.
const BATCH: usize = 256;

/// A directory whose subdirectories are being walked through.
struct Frame<B: Backing> {
    dir: B::Dir,
    id: Option<DirId>,
    listing: B::Listing,
    batch: VecDeque<Vec<u8>>,
    path: Path,
}

impl<B: Backing> Walk<'_, B> {
    pub(super) fn tree(&mut self) -> Result<()> {
        let mut frames = Vec::new();
        frames.extend(self.enter(self.backing.root()?, Path::default())?);
        while let Some(frame) = frames.last_mut() {
            if self.watch.is_stopped() {
                self.outcome.stopped = true;
                break;
            }
            let Some(name) = self.next_entry(frame) else {
                frames.pop();
                continue;
            };
            let target = Target::At(&frame.dir, &name);
            if self.backing.stat(target).map(|attr| attr.kind()).ok() != Some(Kind::Dir) {
                continue;
            }
            let plain = frame
                .id
                .and_then(|id| self.open_name(&frame.dir, &id, &name).ok()?)
                .map(|(plain, _)| plain);
            let path = frame.path.below(&name, plain.as_deref());
            match self.backing.open_dir(&frame.dir, &name) {
                Ok(dir) => {
                    let deeper = self.enter(dir, path)?;
                    frames.extend(deeper);
                }
                Err(e) => self.unreadable(Subject::Directory, &path, &e),
            }
        }
        Ok(())
    }

    fn next_entry(&mut self, frame: &mut Frame<B>) -> Option<Vec<u8>> {
        if frame.batch.is_empty() {
            match batch(&mut frame.listing) {
                Ok(names) => frame.batch = names.into(),
                Err(e) => self.unreadable(Subject::Directory, &frame.path, &e),
            }
        }
        frame.batch.pop_front()
    }

    /// Seals what is in a directory anew, and gives what is needed to go through its subdirectories.
    fn enter(&mut self, dir: B::Dir, path: Path) -> Result<Option<Frame<B>>> {
        let looked = self
            .backing
            .stat(Target::Dir(&dir))
            .and_then(|attr| Ok((attr, self.inspect(&dir)?)));
        let (attr, seen) = match looked {
            Ok(looked) => looked,
            Err(e) => {
                self.unreadable(Subject::Directory, &path, &e);
                return Ok(None);
            }
        };
        let id = seen.id();
        match id {
            Some(id) => {
                let mut open = Open {
                    dir: &dir,
                    id,
                    path: &path,
                    attr,
                };
                self.directory(&mut open, &seen)
                    .map_err(|e| e.within(&path))?;
            }
            None if seen.has_entries => {
                let why = "it is lost, and with it the names in the directory";
                self.damaged(Subject::DirectoryId, &path, why);
            }
            None => {}
        }
        match self.backing.list(&dir) {
            Ok(listing) => Ok(Some(Frame {
                dir,
                id,
                listing,
                batch: VecDeque::new(),
                path,
            })),
            Err(e) => {
                self.unreadable(Subject::Directory, &path, &e);
                Ok(None)
            }
        }
    }
}

/// The next entries of the tree; empty at the end.
pub(super) fn batch<L: Listing>(listing: &mut L) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    listing.read(&mut |entry| {
        let wanted = names.len() < BATCH;
        if wanted && matches!(classify(entry.name), Stored::Short | Stored::Long) {
            names.push(entry.name.to_vec());
        }
        wanted
    })?;
    Ok(names)
}
