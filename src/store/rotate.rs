//! Sealing every chunk of a volume anew, in its current epoch: the walk through the tree, and the journal between.
//!
//! Names need not be read for this: every regular file that a mount could show is taken, also one whose name is damaged.
//! Nothing else may write to the volume meanwhile. Epochs are added before and wiped afterwards, by the caller.
//!
//! One thread, one run of chunks at a time: a run is one group of the journal. What waits to be applied is bounded by the
//! journal's own limits and [`WAITING`] open files.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering;

use crate::crypto::ChunkNo;
use crate::names::{Stored, classify};
use crate::store::backing::{Attr, Backing, Kind, Listing, OpenFor, SeekTo, Target};
use crate::store::change::{Change, FilePlace};
use crate::store::check::tally::Tally;
use crate::store::error::{Error, Result};
use crate::store::file::{DataFile, ResealError, Resealed};
use crate::store::journal::{Fill, Journal};
use crate::store::volume::Volume;

/// Plaintext bytes that are sealed as one group.
const RUN: u64 = 1 << 20;
/// Files that are open because something waits to be applied to them.
const WAITING: usize = 64;
/// Free bytes of which the journal may take some for itself.
const ROOM: u64 = 256 << 20;
/// Entries taken from a listing at once.
const BATCH: usize = 256;

/// Told what a rotation does.
pub trait Watch {
    /// So many plaintext bytes of content were read since the last call. May take its time.
    fn advanced(&self, bytes: u64);
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

/// Walks through the volume, which is open for writing, and closes it in order. When this returns, everything is durable
/// and the journal holds nothing any more.
///
/// # Errors
/// Whatever keeps the volume from being written to. It reads as before then, and the next one who opens it puts it in
/// order.
pub fn run<B: Backing>(volume: &Volume<B>, watch: &dyn Watch, tally: &Tally) -> Result<Walked> {
    let mut rotation = Rotation {
        volume,
        watch,
        tally,
        files: Vec::new(),
        links: HashMap::new(),
        walked: Walked::default(),
    };
    rotation.tree()?;
    rotation.checkpoint()?;
    volume.close(None)?;
    Ok(rotation.walked)
}

/// A directory that is being listed.
struct Frame<B: Backing> {
    dir: B::Dir,
    listing: B::Listing,
    batch: VecDeque<Vec<u8>>,
    /// In stored names; empty for the root.
    path: Vec<u8>,
}

struct Rotation<'a, B: Backing> {
    volume: &'a Volume<B>,
    watch: &'a dyn Watch,
    tally: &'a Tally,
    /// Files to which something may be yet to be applied, the one that is worked on last.
    files: Vec<DataFile<B>>,
    /// Files with several names that were met: inode → names still to come.
    links: HashMap<u64, u32>,
    walked: Walked,
}

impl<B: Backing> Rotation<'_, B> {
    fn tree(&mut self) -> Result<()> {
        let backing = self.volume.backing();
        let dir = backing.root()?;
        let listing = backing.list(&dir)?;
        let mut open = vec![self.frame(dir, listing, Vec::new())];
        while let Some(frame) = open.last_mut() {
            if self.watch.is_stopped() {
                self.walked.stopped = true;
                break;
            }
            match self.next_entry(frame) {
                Some(entry) => {
                    let deeper = self.entry(frame, &entry)?;
                    open.extend(deeper);
                }
                None => drop(open.pop()),
            }
        }
        Ok(())
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
            if let Err(e) = read {
                self.skip(frame.path.clone(), Kind::Dir, e.into());
                return None;
            }
        }
        frame.batch.pop_front()
    }

    fn entry(&mut self, frame: &Frame<B>, entry: &[u8]) -> Result<Option<Frame<B>>> {
        let backing = self.volume.backing();
        let path = match &frame.path[..] {
            [] => entry.to_vec(),
            dir => [dir, entry].join(&b'/'),
        };
        let attr = match backing.stat(Target::At(&frame.dir, entry)) {
            Ok(attr) => attr,
            Err(e) => {
                self.skip(path, Kind::File, e.into());
                return Ok(None);
            }
        };
        match attr.kind() {
            Kind::Dir => {
                let opened = backing
                    .open_dir(&frame.dir, entry)
                    .and_then(|dir| Ok((backing.list(&dir)?, dir)));
                match opened {
                    Ok((listing, dir)) => return Ok(Some(self.frame(dir, listing, path))),
                    Err(e) => self.skip(path, Kind::Dir, e.into()),
                }
            }
            Kind::File if !self.was_met(&attr) => {
                Tally::add(&self.tally.files, 1);
                let before = self.tally.verified.load(Ordering::Relaxed);
                self.file(&frame.dir, entry, path)?;
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
        match self.open(dir, entry) {
            Ok(file) => self.files.push(file),
            Err(e) => {
                self.skip(path, Kind::File, e.into());
                return Ok(());
            }
        }
        let geometry = self.volume.geometry();
        let step = (RUN / geometry.chunk_size() as u64).max(1);
        let mut first = ChunkNo(0);
        while let Some(file) = self.files.last() {
            if self.watch.is_stopped() {
                self.walked.stopped = true;
                return Ok(());
            }
            let end = geometry.last_chunk(file.size());
            if first > end {
                return Ok(());
            }
            let change = self.change(&path);
            match file.reseal(&change, first, ChunkNo(first.0 + step - 1)) {
                Err(ResealError::Write(e)) => return Err(e),
                Err(ResealError::Read(e)) => {
                    drop(change);
                    self.skip(path, Kind::File, e);
                    return Ok(());
                }
                Ok(done) => {
                    drop(change);
                    first.0 += step;
                    // A hole may be far larger than what the disk has.
                    if done.data == 0 && first < end {
                        let off = geometry.plain_start(first);
                        match file.seek(self.volume, SeekTo::Data, off) {
                            Ok(at) => first = at.map_or(end, |at| geometry.chunk_of(at)),
                            Err(e) => {
                                self.skip(path, Kind::File, e);
                                return Ok(());
                            }
                        }
                    }
                    self.count(done);
                    self.relieve()?;
                }
            }
        }
        Ok(())
    }

    fn open(&self, dir: &B::Dir, entry: &[u8]) -> io::Result<DataFile<B>> {
        let backing = self.volume.backing();
        let file = backing.open(dir, entry, OpenFor::ReadWrite)?;
        let attr = backing.stat(Target::File(&file))?;
        let change = self.volume.change();
        Ok(DataFile::open(&change, file, OpenFor::ReadWrite, &attr))
    }

    fn change<'p>(&'p self, path: &'p [u8]) -> Change<'p, B> {
        let place = || FilePlace::Path(path.to_vec());
        self.volume.change().at(Box::new(place))
    }

    fn count(&mut self, done: Resealed) {
        self.walked.resealed += done.resealed;
        Tally::add(&self.tally.verified, done.data);
        Tally::add(&self.tally.done, done.data);
        self.watch.advanced(done.data);
    }

    fn skip(&mut self, stored: Vec<u8>, kind: Kind, error: Error) {
        self.walked.skipped += 1;
        self.watch.skipped(&Skipped {
            path: self.volume.plain_path(&stored).unwrap_or_default(),
            stored,
            kind,
            error,
        });
    }

    /// Keeps the journal, the overlays and the open files within their bounds.
    fn relieve(&mut self) -> Result<()> {
        let journal = self.volume.journal();
        if journal.is_some_and(|j| j.fill() >= Fill::Half) {
            return self.checkpoint();
        }
        if self.files.len() > WAITING || journal.is_some_and(Journal::is_overlay_filling) {
            self.apply()?;
        }
        Ok(())
    }

    /// Applies everything, makes it durable, and frees the journal.
    fn checkpoint(&mut self) -> Result<()> {
        if !self.volume.journal().is_some_and(Journal::is_used) {
            return self.apply();
        }
        let ended = self.volume.switch_turn()?;
        self.apply()?;
        if let Some(ended) = ended {
            self.volume.retire_turn(&ended, self.has_room())?;
        }
        Ok(())
    }

    /// Whether the journal may grow: on a disk that is nearly full a rotation is slow, but needs no space.
    fn has_room(&self) -> bool {
        let space = self.volume.backing().space();
        space.is_ok_and(|s| s.blocks_available.saturating_mul(s.fragment_size.into()) > ROOM)
    }

    /// Applies everything and closes all files but the one that is worked on.
    fn apply(&mut self) -> Result<()> {
        self.volume.commit_all()?;
        for file in &self.files {
            file.apply(self.volume)?;
        }
        let done = self.files.len().saturating_sub(1);
        self.files.drain(..done);
        Ok(())
    }
}
