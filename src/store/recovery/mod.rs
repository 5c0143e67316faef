//! What a mount does before anything else: brings every file to what the journal and its own chunks say it held when the
//! last daemon, or its machine, stopped.
//!
//! The order is: read the journal ([`scan`], [`log`]), find each file ([`resolve`]), work out what it holds ([`view`]),
//! write that ([`apply`]), then the new files that have no records ([`fresh`]). Read-only, the views are answered and
//! nothing is written. Nothing of the journal is changed: it can all be done again, and comes to the same, until the
//! caller has the superblock call these turns done with.
//!
//! What holds whatever happens:
//! 1. Nothing that was synced is cut. A chunk that is cut off was written without a record since the last sync of its
//!    file, and did not get to the disk; a sync makes all such chunks durable.
//! 2. A file is only written if its header is that of this volume and the superblock authenticates.
//! 3. An error with one file does not stop the others; it is reported, and [`Recovery::is_complete`] says so.

mod apply;
mod fresh;
mod log;
pub mod report;
mod resolve;
mod scan;
mod source;
pub mod view;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use ::log as logging;

use crate::content::{Buffer, Damage, Geometry, seal_run};
use crate::crypto::{ChunkFlags, ChunkNo, Cipher, FileId, FileKeys, VolumeKeys, WriteSeq};
use crate::format::file::HEADER_LEN;
use crate::format::superblock::Superblock;
use crate::store::backing::{Backing, OpenFor};
use crate::store::error::{Error, Result};

use fresh::Proof;
use log::{FileLog, Log};
use report::{Cut, Failed, Healed, Report, shown};
use resolve::{Entry, Finder};
pub(super) use scan::SEGMENTS;
use scan::Segments;
use source::Source;
use view::{History, Limits, View};

/// Whether the vault is the one that was in use, or a copy that was made of it meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    InPlace,
    /// Inode numbers and change times are other ones, and files may be of different moments.
    Copy,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bytes of a segment that were read.
    Reading { bytes: u64 },
    /// Files of the journal.
    Files { done: usize, of: usize },
}

/// What recovery works on.
pub struct Env<'a, B: Backing> {
    pub backing: &'a B,
    /// `~wardfs/journal`.
    pub journal: &'a B::Dir,
    pub keys: &'a Arc<VolumeKeys>,
    pub cipher: Cipher,
    pub log2_chunk: u8,
    /// As it was on the disk before this mount wrote it; `None` if it is lost.
    pub found: Option<&'a Superblock>,
    pub origin: Origin,
    /// Numbers for chunks that are sealed anew; `None` if nothing may be written.
    pub next_seq: Option<&'a dyn Fn() -> Result<WriteSeq>>,
    pub progress: &'a dyn Fn(Progress),
}

impl<B: Backing> std::fmt::Debug for Env<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env")
            .field("origin", &self.origin)
            .field("writes", &self.next_seq.is_some())
            .finish_non_exhaustive()
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Recovery {
    pub report: Report,
    /// By inode number: what must be laid over a data file that was not written. Read-only, that is every file that
    /// needs it.
    pub views: HashMap<u64, View>,
    /// No turn up to this one may be used again: groups of it may lie in the segments.
    pub last_turn: u64,
}

impl Recovery {
    /// Whether every file was brought to what it should hold. If not, the turns must not be called done with, and the
    /// volume must not be written to: mount it read-only, with the views.
    pub fn is_complete(&self) -> bool {
        self.report.failed.is_empty() && self.report.without_key.is_empty()
    }
}

/// See the module. When this returns and may write, what it wrote is durable.
///
/// # Errors
/// The journal or the tree cannot be read at all. Nothing is lost: try again.
pub fn run<B: Backing>(env: &Env<'_, B>) -> Result<Recovery> {
    let began = Instant::now();
    let segments = Segments::open(env.backing, env.journal)?;
    let stand_in = match env.found {
        Some(_) => None,
        None => stand_in(env, &segments)?,
    };
    let Some(found) = env.found.or(stand_in.as_ref()) else {
        // There never was a journal.
        return Ok(Recovery::default());
    };
    let key = env.keys.journal_mac_key();
    let scanned = segments.scan(env.backing, key, (found, env.origin), &|bytes| {
        (env.progress)(Progress::Reading { bytes })
    })?;
    // At most two turns after the retired one can have begun. The first group of either may be torn, and be followed by
    // whole ones that a new group of the same turn would bring back.
    let last_turn = scanned
        .highest_turn
        .max(found.retired_turn.saturating_add(2));
    let geometry = geometry(env)?;
    let Log {
        files,
        covers,
        moves,
    } = scanned.log;
    let log = Log {
        files: HashMap::new(),
        covers,
        moves,
    };
    let mut run = Run {
        finder: Finder::new(env.backing, env.keys, geometry, env.origin, &log),
        env,
        segments: &segments,
        geometry,
        limits: Limits {
            durable: match (env.origin, found.clean) {
                // Files may have been copied after the volume was opened again.
                (Origin::Copy, true) => found.seq_high_water,
                _ => found.retired_seq,
            },
            unused: match env.origin {
                Origin::InPlace => found.seq_high_water,
                Origin::Copy => WriteSeq::MAX,
            },
            may_be_ahead: env.origin == Origin::Copy,
            // A lost superblock, or one of another moment, may bring back groups from before a rotation.
            has_keys: env.origin == Origin::InPlace && stand_in.is_none(),
        },
        since: fresh::since(found.opened_at, &found.windows),
        reseal_with: found.seq_high_water,
        report: Report {
            groups: scanned.groups,
            no_superblock: stand_in.is_some(),
            ..Report::default()
        },
        views: HashMap::new(),
        done: HashSet::new(),
        wrote: false,
    };
    run.replay(files);
    // Without a superblock nothing tells a file that this crash left from one that somebody has cut.
    if stand_in.is_none() {
        run.mend_covered(&log.covers);
    }
    if env.origin == Origin::Copy {
        run.verify_copied();
    }
    if run.wrote {
        env.backing.sync_all()?;
    }
    let mut report = run.report;
    report.took(began.elapsed());
    Ok(Recovery {
        report,
        views: run.views,
        last_turn,
    })
}

fn geometry<B: Backing>(env: &Env<'_, B>) -> Result<Geometry> {
    Geometry::new(env.log2_chunk).ok_or(Error::Invalid)
}

/// Stands for a superblock that is lost: the last two turns count, which is safe, for a chunk in place that is newer
/// stays; and what was written before the oldest of them is taken to be durable.
fn stand_in<B: Backing>(env: &Env<'_, B>, segments: &Segments<B>) -> Result<Option<Superblock>> {
    let first = segments.first_groups(env.backing, env.keys.journal_mac_key())?;
    let newest = first.iter().map(|(turn, _)| *turn).max().unwrap_or(0);
    let living = first.into_iter().filter(|(turn, _)| turn + 1 >= newest);
    let oldest = living.min_by_key(|(turn, _)| *turn);
    Ok(oldest.map(|(turn, seq)| Superblock {
        retired_turn: turn.saturating_sub(1),
        retired_seq: seq,
        seq_high_water: WriteSeq::MAX,
        opened_at: i64::MIN / 2,
        ..Superblock::default()
    }))
}

/// Recovery under way.
struct Run<'a, B: Backing> {
    env: &'a Env<'a, B>,
    segments: &'a Segments<B>,
    finder: Finder<'a, B>,
    geometry: Geometry,
    limits: Limits,
    /// Files that changed later may be incomplete.
    since: i64,
    /// Numbers chunks that are sealed only for this mount.
    reseal_with: WriteSeq,
    report: Report,
    views: HashMap<u64, View>,
    /// Inode numbers of files that were looked at.
    done: HashSet<u64>,
    wrote: bool,
}

impl<B: Backing> Run<'_, B> {
    /// Brings the files of the journal up to date.
    fn replay(&mut self, files: HashMap<FileId, FileLog>) {
        let mut files: Vec<(FileId, FileLog)> = files.into_iter().collect();
        // Neighbours share their directory's handle, and the order is the same each time.
        files.sort_by(|(a, x), (b, y)| {
            let path = |log: &FileLog| log.places.last().map(|p| p.path.clone());
            path(x).cmp(&path(y)).then(a.cmp(b))
        });
        let of = files.len();
        let mut missing = HashMap::new();
        for (done, (id, log)) in files.into_iter().enumerate() {
            (self.env.progress)(Progress::Files { done, of });
            match self.find(&id, &log) {
                Ok(Some((entry, keys))) => self.replay_file(&entry, &keys, &log),
                Ok(None) => {
                    missing.insert(id, (log, None));
                }
                Err(e) => {
                    missing.insert(id, (log, Some(e)));
                }
            }
        }
        self.replay_missing(missing);
    }

    /// Looks where the journal says that a file was.
    fn find(&mut self, id: &FileId, log: &FileLog) -> Result<Option<(Entry<B>, FileKeys)>> {
        let mut error = None;
        for place in log.places.iter().rev() {
            for path in self.finder.variants(&place.path) {
                match self.finder.file_with_id(&path, id) {
                    Ok(Some(found)) => return Ok(Some(found)),
                    Ok(None) => {}
                    Err(e) => error = Some(e),
                }
            }
        }
        error.map_or(Ok(None), Err)
    }

    /// Looks for files by their inode numbers: first in the directories that the journal names, then everywhere.
    fn replay_missing(&mut self, mut missing: HashMap<FileId, (FileLog, Option<Error>)>) {
        if missing.is_empty() {
            return;
        }
        let places = || missing.values().flat_map(|(log, _)| &log.places);
        let inos: HashSet<u64> = places().map(|p| p.ino).collect();
        let mut near: Vec<Vec<u8>> = places()
            .map(|p| resolve::split(&p.path).0.to_vec())
            .flat_map(|path| self.finder.variants(&path))
            .collect();
        near.sort();
        near.dedup();
        let mut wanted: HashSet<FileId> = missing.keys().copied().collect();
        let mut found = Vec::new();
        // Where something could not be read, any of them may be.
        let mut unseen = None;
        for path in near {
            let searched = self.finder.dir(&path).and_then(|dir| {
                let Some(dir) = dir else { return Ok(()) };
                let children = self.finder.children(&dir)?;
                self.finder.search(
                    (&path, &dir, &children),
                    &inos,
                    &mut wanted,
                    &mut |id, entry, _| found.push((id, entry.path)),
                )
            });
            unseen = unseen.or(searched.err());
        }
        // One that was deleted is not worth going through everything.
        wanted.retain(|id| missing.get(id).is_some_and(|(log, _)| !log.gone));
        if !wanted.is_empty() {
            let failed = self.finder.walk(&mut |finder, path, dir, children| {
                finder.search(
                    (path, dir, children),
                    &inos,
                    &mut wanted,
                    &mut |id, entry, _| found.push((id, entry.path)),
                )
            });
            unseen = unseen.or(failed.into_iter().next().map(|(_, e)| e));
        }
        for (id, path) in found {
            let Some((log, _)) = missing.remove(&id) else {
                continue;
            };
            match self.finder.file_with_id(&path, &id) {
                Ok(Some((entry, keys))) => self.replay_file(&entry, &keys, &log),
                Ok(None) => {}
                Err(e) => self.failed(&path, &e),
            }
        }
        let mut rest: Vec<(FileLog, Option<Error>)> = missing.into_values().collect();
        rest.sort_by(|(a, _), (b, _)| last_path(a).cmp(last_path(b)));
        for (log, error) in rest {
            let unseen = unseen.as_ref().map(|e| {
                let errno = e.os().unwrap_or(libc::EIO);
                Error::from(std::io::Error::from_raw_os_error(errno))
            });
            self.give_up(&log, error.or(unseen));
        }
    }

    /// A file of the journal that is nowhere.
    fn give_up(&mut self, log: &FileLog, error: Option<Error>) {
        let path = last_path(log);
        if log.gone {
            self.report.gone += 1;
        } else if let Some(e) = error {
            self.failed(path, &e);
        } else if !self.was_never_there(log) {
            self.report.orphans.push(shown(path));
        }
    }

    /// Whether a new file's header did not get to the disk; it is empty then.
    fn was_never_there(&mut self, log: &FileLog) -> bool {
        let Some(place) = log.places.last().filter(|_| log.history.fresh) else {
            return false;
        };
        for path in self.finder.variants(&place.path) {
            let Ok(Some(entry)) = self.finder.file(&path) else {
                continue;
            };
            let same = self.env.origin == Origin::Copy || entry.attr.ino == place.ino;
            let void = same
                && self
                    .finder
                    .head::<HEADER_LEN>(&entry.file)
                    .is_ok_and(|(head, got)| fresh::is_void(&head[..got]));
            if void {
                self.done.insert(entry.attr.ino);
                if let Err(e) = self.make_empty(&entry) {
                    self.failed(&path, &e);
                }
                return true;
            }
        }
        false
    }

    fn replay_file(&mut self, entry: &Entry<B>, keys: &FileKeys, log: &FileLog) {
        self.report.in_use.push(shown(&entry.path));
        self.done.insert(entry.attr.ino);
        if let Err(e) = self.mend(entry, keys, &log.history, Proof::Covered) {
            self.failed(&entry.path, &e);
        }
    }

    /// Works out what a file holds and sees to it that it does.
    fn mend(
        &mut self,
        entry: &Entry<B>,
        keys: &FileKeys,
        history: &History,
        proof: Proof,
    ) -> Result<()> {
        let backing = self.env.backing;
        let len = entry.attr.size;
        let mut source = Source::new(backing, &entry.file, self.segments, self.geometry, len);
        let mut next_seq = || match self.env.next_seq {
            Some(next) => next(),
            None => Ok(self.reseal_with),
        };
        let outcome = view::build(
            history,
            keys,
            self.geometry,
            self.limits,
            &mut source,
            &mut next_seq,
        )?;
        self.report.refused_images += outcome.refused;
        let unproven = proof == Proof::None && outcome.cut.is_some() && !outcome.met_new;
        if outcome.damaged || outcome.torn_inside || unproven {
            logging::error!(
                "inode {}: something is wrong that a crash does not explain; that is left as it is",
                entry.attr.ino
            );
            self.report.damaged.push(shown(&entry.path));
        }
        if unproven {
            return Ok(());
        }
        let Some(view) = outcome.view else {
            return Ok(());
        };
        if let Some((from, to)) = outcome.cut {
            self.report.cut.push(Cut {
                path: shown(&entry.path),
                from,
                to,
            });
        }
        self.report.healed.push(Healed {
            path: shown(&entry.path),
            chunks: view.chunks.len() as u64,
        });
        self.settle(entry, view)
    }

    /// A new file of which nothing is on the disk.
    fn make_empty(&mut self, entry: &Entry<B>) -> Result<()> {
        let (header, keys) = self.env.keys.new_file(self.env.cipher, self.env.log2_chunk);
        let flags = ChunkFlags {
            is_final: true,
            sparse: false,
        };
        let seq = match self.env.next_seq {
            Some(next) => next()?,
            None => self.reseal_with,
        };
        let mut sealed = Buffer::empty();
        seal_run(
            &keys,
            self.geometry,
            ChunkNo(0),
            &[],
            seq,
            flags,
            &mut sealed,
        );
        let mut view = View {
            size: Some(0),
            header: Some(header),
            ..View::default()
        };
        view.chunks.insert(0, Arc::from(&sealed[..]));
        self.report.emptied.push(shown(&entry.path));
        self.settle(entry, view)
    }

    /// Writes a view, or keeps it where nothing may be written.
    fn settle(&mut self, entry: &Entry<B>, view: View) -> Result<()> {
        if self.env.next_seq.is_none() {
            self.views.insert(entry.attr.ino, view);
            return Ok(());
        }
        self.wrote = true;
        let backing = self.env.backing;
        let written = backing
            .open(&entry.dir, &entry.name, OpenFor::ReadWrite)
            .map_err(Error::from)
            .and_then(|file| apply::apply(backing, &file, self.geometry, &view));
        if written.is_err() {
            self.views.insert(entry.attr.ino, view);
        }
        written
    }

    fn failed(&mut self, path: &[u8], e: &Error) {
        logging::error!("a file could not be recovered: {e}");
        if let Error::Damaged {
            damage: Damage::NoKey,
            ..
        } = e
        {
            self.report.without_key.push(shown(path));
            return;
        }
        self.report.failed.push(Failed {
            path: shown(path),
            error: e.to_string(),
        });
    }
}

fn last_path(log: &FileLog) -> &[u8] {
    log.places.last().map_or(&[], |p| &p.path)
}
