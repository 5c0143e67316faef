//! Sealing every chunk of a volume anew, in its current epoch: the walk through the tree, also while it is in use.
//!
//! Names need not be read for this: every regular file that a mount could show is taken, also one whose name is damaged.
//! Epochs are added before and wiped afterwards, by the caller. A file without a name is left: its chunks go with its
//! last user.
//!
//! One thread, one run of chunks at a time: a run is one group of the journal, and whoever uses the file waits for one at
//! most.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::crypto::ChunkNo;
use crate::fs::Fs;
use crate::fs::error::{Error as FsError, Result};
use crate::fs::files::OpenFile;
use crate::fs::moves::Following;
use crate::names::{Stored, classify};
use crate::store::Error;
use crate::store::backing::{Attr, Backing, Kind, Listing, OpenFor, SeekTo, Target};
use crate::store::check::tally::Tally;
use crate::store::file::{ResealError, Resealed};

/// Plaintext bytes that are sealed as one group.
const RUN: u64 = 1 << 20;
/// Entries taken from a listing at once.
const BATCH: usize = 256;

/// Told what a rotation does.
pub trait Watch {
    /// So much was read, and sealed anew, since the last call. May take its time.
    fn advanced(&self, done: Resealed);
    /// What could not be sealed anew, and why.
    fn skipped(&self, skipped: &Skipped);
    /// Whether to stop. What is done so far stays done.
    fn is_stopped(&self) -> bool;
}

/// A file or directory that was passed over: its chunks may be of any epoch.
#[derive(Debug)]
pub struct Skipped {
    /// In the mount; empty where the names cannot be read.
    pub path: Vec<u8>,
    /// In the vault.
    pub stored: Vec<u8>,
    pub kind: Kind,
    pub error: Error,
}

/// What a walk came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Plaintext bytes that were sealed anew.
    pub resealed: u64,
    /// Files and directories that were passed over.
    pub skipped: u64,
    /// It was stopped before its end.
    pub stopped: bool,
}

impl Walked {
    /// Whether it has shown that every chunk is of the current epoch.
    pub fn is_complete(self) -> bool {
        self.skipped == 0 && !self.stopped
    }
}

impl<B: Backing> Fs<B> {
    /// Seals every chunk that is not of the current epoch anew. When all of it was met, everything is durable in its place
    /// when this returns, and the journal holds nothing from before. `through` is the backing filesystem as the walk uses
    /// it: it may be one that leaves access times alone.
    ///
    /// # Errors
    /// Whatever keeps the volume from being written to. It reads as before then.
    pub fn rotate(&self, through: &B, watch: &dyn Watch, tally: &Tally) -> Result<Walked> {
        let mut walk = Walk {
            fs: self,
            through,
            watch,
            tally,
            moves: self.moves.follow(),
            links: HashMap::new(),
            walked: Walked::default(),
        };
        // Who began to seal in another epoch has ended, and made the entry of the file if it was new.
        self.quiesce();
        walk.everything()?;
        if walk.walked.is_complete() {
            self.settle_journal()?;
        }
        Ok(walk.walked)
    }
}

/// A directory that is being listed.
struct Frame<B: Backing> {
    dir: B::Dir,
    listing: B::Listing,
    batch: VecDeque<Vec<u8>>,
    /// In stored names; empty for the root.
    path: Vec<u8>,
}

struct Walk<'a, B: Backing> {
    fs: &'a Fs<B>,
    through: &'a B,
    watch: &'a dyn Watch,
    tally: &'a Tally,
    moves: Following<'a>,
    /// Files with several names that were met: inode → names still to come.
    links: HashMap<u64, u32>,
    walked: Walked,
}

impl<B: Backing> Walk<'_, B> {
    /// The whole tree, and what moved through it meanwhile.
    fn everything(&mut self) -> Result<()> {
        self.root()?;
        while !self.walked.stopped && !self.moves.is_done() {
            self.moved()?;
        }
        Ok(())
    }

    fn root(&mut self) -> Result<()> {
        let dir = self.through.root()?;
        let listing = self.through.list(&dir)?;
        let root = self.frame(dir, listing, Vec::new());
        self.below(root)
    }

    /// Where something has come to. What is not there any more has moved on, which was noted too, or was removed.
    fn moved(&mut self) -> Result<()> {
        let noted = self.moves.take();
        if noted.lost {
            self.links.clear();
            return self.root();
        }
        for path in noted.paths {
            let mut parts = path.split(|b| *b == b'/');
            let entry = parts.next_back().unwrap_or_default();
            let dir = parts.try_fold(self.through.root()?, |dir, part| {
                self.through.open_dir(&dir, part)
            });
            let Some(dir) = self.found(dir, &path, Kind::Dir) else {
                continue;
            };
            if let Some(frame) = self.entry(&dir, entry, path.clone())? {
                self.below(frame)?;
            }
            if self.walked.stopped {
                break;
            }
        }
        Ok(())
    }

    fn below(&mut self, top: Frame<B>) -> Result<()> {
        let mut open = vec![top];
        while let Some(frame) = open.last_mut() {
            if self.watch.is_stopped() {
                self.walked.stopped = true;
                break;
            }
            match self.next_entry(frame) {
                Some(entry) => {
                    let path = match &frame.path[..] {
                        [] => entry.clone(),
                        dir => [dir, &entry].join(&b'/'),
                    };
                    let deeper = self.entry(&frame.dir, &entry, path)?;
                    open.extend(deeper);
                }
                None => drop(open.pop()),
            }
        }
        Ok(())
    }

    /// What was removed in the meantime is nothing; what cannot be opened is passed over.
    fn found<T>(&mut self, opened: io::Result<T>, path: &[u8], kind: Kind) -> Option<T> {
        match opened {
            Ok(opened) => return Some(opened),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => self.skip(path.to_vec(), kind, e.into()),
        }
        None
    }

    fn frame(&self, dir: B::Dir, listing: B::Listing, path: Vec<u8>) -> Frame<B> {
        Tally::add(&self.tally.directories, 1);
        Frame {
            dir,
            listing,
            batch: VecDeque::new(),
            path,
        }
    }

    fn next_entry(&mut self, frame: &mut Frame<B>) -> Option<Vec<u8>> {
        if frame.batch.is_empty() {
            let batch = &mut frame.batch;
            let read = frame.listing.read(&mut |entry| {
                let wanted = batch.len() < BATCH;
                if wanted && matches!(classify(entry.name), Stored::Short | Stored::Long) {
                    batch.push_back(entry.name.to_vec());
                }
                wanted
            });
            self.found(read, &frame.path, Kind::Dir)?;
        }
        frame.batch.pop_front()
    }

    fn entry(&mut self, dir: &B::Dir, entry: &[u8], path: Vec<u8>) -> Result<Option<Frame<B>>> {
        let stat = self.through.stat(Target::At(dir, entry));
        let Some(attr) = self.found(stat, &path, Kind::File) else {
            return Ok(None);
        };
        match attr.kind() {
            Kind::Dir => {
                let opened = self
                    .through
                    .open_dir(dir, entry)
                    .and_then(|dir| Ok((self.through.list(&dir)?, dir)));
                if let Some((listing, dir)) = self.found(opened, &path, Kind::Dir) {
                    return Ok(Some(self.frame(dir, listing, path)));
                }
            }
            Kind::File if !self.was_met(&attr) => {
                Tally::add(&self.tally.files, 1);
                let before = self.tally.verified.load(Ordering::Relaxed);
                self.file(dir, entry, path)?;
                // Holes, and what chunks have beside their content.
                let told = self.tally.verified.load(Ordering::Relaxed) - before;
                Tally::add(&self.tally.done, attr.size.saturating_sub(told));
            }
            Kind::File => Tally::add(&self.tally.done, attr.size),
            // Link targets are sealed with the keys of names; others have no content.
            _ => {}
        }
        Ok(None)
    }

    /// Whether a file was met under another of its names.
    fn was_met(&mut self, attr: &Attr) -> bool {
        if attr.nlink < 2 {
            return false;
        }
        match self.links.get_mut(&attr.ino) {
            None => {
                self.links.insert(attr.ino, attr.nlink - 1);
                false
            }
            Some(left) => {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.links.remove(&attr.ino);
                }
                true
            }
        }
    }

    fn file(&mut self, dir: &B::Dir, entry: &[u8], path: Vec<u8>) -> Result<()> {
        let opened = self.through.open(dir, entry, OpenFor::ReadWrite);
        let Some(opened) = self.found(opened, &path, Kind::File) else {
            return Ok(());
        };
        let file = match self.fs.enter_found(opened, &path) {
            Ok(file) => file,
            Err(FsError::Store(e)) => {
                self.skip(path, Kind::File, e);
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let done = self.chunks(&file, path);
        self.fs.leave_file(&file)?;
        done
    }

    /// Up to where the file ends now: what it grows by is of the current epoch.
    fn chunks(&mut self, file: &Arc<OpenFile<B>>, path: Vec<u8>) -> Result<()> {
        let geometry = self.fs.volume.geometry();
        let step = (RUN / geometry.chunk_size() as u64).max(1);
        let end = geometry.last_chunk(file.data.size());
        let mut first = ChunkNo(0);
        while first <= end {
            if self.watch.is_stopped() {
                self.walked.stopped = true;
                break;
            }
            let change = self.fs.found_change(file, &path)?;
            let done = file
                .data
                .reseal(&change, first, ChunkNo(first.0 + step - 1));
            drop(change);
            let done = match done {
                Err(ResealError::Write(e)) => return Err(e.into()),
                Err(ResealError::Read(e)) => {
                    self.skip(path, Kind::File, e);
                    break;
                }
                Ok(done) => done,
            };
            first.0 += step;
            // A hole may be far larger than what the disk has.
            if done.data == 0 && first < end {
                let off = geometry.plain_start(first);
                match file.data.seek(&self.fs.volume, SeekTo::Data, off) {
                    Ok(at) => first = at.map_or(end, |at| geometry.chunk_of(at)),
                    Err(e) => {
                        self.skip(path, Kind::File, e);
                        break;
                    }
                }
            }
            self.count(done);
            self.fs.try_relieve()?;
        }
        Ok(())
    }

    fn count(&mut self, done: Resealed) {
        self.walked.resealed += done.resealed;
        Tally::add(&self.tally.verified, done.data);
        Tally::add(&self.tally.done, done.data);
        self.watch.advanced(done);
    }

    fn skip(&mut self, stored: Vec<u8>, kind: Kind, error: Error) {
        self.walked.skipped += 1;
        self.watch.skipped(&Skipped {
            path: self.fs.volume.plain_path(&stored).unwrap_or_default(),
            stored,
            kind,
            error,
        });
    }
}
