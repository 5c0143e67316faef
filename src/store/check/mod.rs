//! Checking a vault: every header, name, attribute and chunk; mending what can be mended without guessing; writing out
//! everything that still authenticates.
//!
//! One thread walks the tree and checks names; the others read files. Nothing is printed here: findings go to whoever
//! watches, as they come. A vault that is mounted meanwhile is read as it lies there; what looks damaged is looked at
//! again as long as somebody writes to it.

mod attribute;
pub mod count;
mod directory;
mod file;
pub mod finding;
mod frame;
mod holes;
mod mend;
mod name;
mod node;
mod pool;
mod raw;
pub mod salvage;
pub mod sample;
mod scan;
mod source;
pub mod tally;
mod verdict;
mod view;
mod walk;

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::format::volume::INCOMPATIBLE_JOURNAL;
use crate::store::backing::Backing;
use crate::store::volume::{Volume, VolumeError};

use finding::{Finding, State, Subject, Watch};
use frame::Leftovers;
use node::Place;
use pool::{Closing, Pool};
use salvage::Salvage;
use sample::Sample;
pub use source::Source;
use tally::Tally;

/// How long to wait before another look at what a running mount may be writing.
const PAUSE: Duration = Duration::from_millis(100);
/// How many looks are taken.
const PATIENCE: u32 = 20;
/// In how many looks a file must be the same and damaged, so that it counts as damaged.
const STEADY: u32 = 3;

/// Whether anything is written to the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Look,
    Repair,
}

/// Whether a mount may be writing to the vault meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vault {
    Still,
    Mounted,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    pub mode: Mode,
    pub vault: Vault,
    /// At least one.
    pub threads: usize,
    /// All content, if there is none.
    pub sample: Option<Sample>,
    /// An empty directory to write everything to.
    pub salvage: Option<PathBuf>,
    /// Count ahead how much there is.
    pub count_ahead: bool,
}

/// Why a check did not come to its end.
#[derive(Debug)]
pub enum CheckError {
    Volume(Box<VolumeError>),
    /// The salvage directory could not be written.
    Salvage(io::Error),
}

impl From<VolumeError> for CheckError {
    fn from(e: VolumeError) -> Self {
        Self::Volume(Box::new(e))
    }
}

type Reopen<'a, B> = dyn Fn() -> Option<Volume<B>> + Sync + 'a;

/// A check that is under way.
struct Check<'a, B: Backing> {
    volume: &'a Volume<B>,
    /// Opens the volume again, as its journal is now.
    reopen: &'a Reopen<'a, B>,
    /// The volume as it was when somebody last wanted to see it anew, and since when.
    fresh: Mutex<Option<(Instant, Arc<Volume<B>>)>>,
    /// The volume has a journal.
    journaled: bool,
    plan: &'a Plan,
    watch: &'a dyn Watch<B>,
    tally: &'a Tally,
    salvage: Option<Arc<Salvage>>,
    /// Targets in `~wardfs/targets` that a symbolic link refers to.
    targets: Mutex<HashSet<Vec<u8>>>,
    /// Something could not be read that may refer to targets.
    blind: AtomicBool,
    /// When it began, in seconds since 1970.
    since: i64,
}

/// Checks an unlocked vault.
pub fn run<B: Backing>(
    mut source: Source<'_, B>,
    plan: &Plan,
    watch: &dyn Watch<B>,
    tally: &Tally,
) -> Result<(), CheckError> {
    let mut around = source.inspect(plan.vault)?;
    if plan.vault == Vault::Mounted && !around.is_empty() {
        std::thread::sleep(PAUSE);
        around = source.inspect(plan.vault)?;
    }
    let salvage = match &plan.salvage {
        Some(dir) => Some(Salvage::open(dir).map_err(CheckError::Salvage)?),
        None => None,
    };
    let tell = |finding: Finding| {
        tally.count(finding.state);
        watch.found(&finding);
    };
    if plan.mode == Mode::Look {
        around.drain(..).for_each(tell);
    }
    let volume = source.open(plan, watch)?;
    watch.opened(&volume);
    let reopen = || source.open_again();
    let check = Check {
        volume: &volume,
        reopen: &reopen,
        fresh: Mutex::default(),
        journaled: source.header.incompatible & INCOMPATIBLE_JOURNAL != 0,
        plan,
        watch,
        tally,
        salvage,
        targets: Mutex::default(),
        blind: AtomicBool::new(false),
        since: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs().cast_signed()),
    };
    let fail = |e| VolumeError::io("read the vault", e);
    check.tree().map_err(fail)?;
    check.around_the_tree().map_err(fail)?;
    if let Some(salvage) = &check.salvage {
        salvage.finish().map_err(CheckError::Salvage)?;
    }
    if plan.mode == Mode::Repair {
        let close = volume.close(None);
        close.map_err(|e| VolumeError::io("close the volume", io::Error::other(e.to_string())))?;
        // Opening and closing have written both anew.
        let still = source.inspect(plan.vault)?;
        for mut finding in around {
            let same =
                |f: &Finding| f.stored == finding.stored && finding.detail.starts_with(&f.detail);
            if !still.iter().any(same) {
                finding.state = State::Repaired;
            }
            tell(finding);
        }
    }
    Ok(())
}

impl<B: Backing> Check<'_, B> {
    fn tree(&self) -> io::Result<()> {
        let pool = Pool::new();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..self.plan.threads {
                scope.spawn(|| pool.work(|task| self.work(task, &pool)));
            }
            if self.plan.count_ahead {
                let stop = || ended.load(Ordering::Relaxed);
                scope.spawn(move || count::count(self.volume.backing(), self.tally, &stop));
            }
            let walked = {
                let _closing = Closing(&pool);
                self.walk(&pool)
            };
            ended.store(true, Ordering::Relaxed);
            walked
        })
    }

    /// Leftovers: only of a vault that nobody is using, for there they are work under way.
    fn around_the_tree(&self) -> io::Result<()> {
        if self.is_live() || self.has_failed() {
            return Ok(());
        }
        let how = match self.plan.mode {
            Mode::Look => Leftovers::Name,
            Mode::Repair => Leftovers::Remove,
        };
        let tell = |finding| self.tell(finding);
        frame::recovery(self.volume, &tell);
        frame::segments(self.volume, &tell)?;
        frame::leftovers(self.volume, how, &tell)?;
        if !self.blind.load(Ordering::Relaxed) {
            let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            frame::orphan_targets(self.volume, &|t| targets.contains(t), how, &tell)?;
        }
        Ok(())
    }

    fn tell(&self, finding: Finding) {
        self.tally.count(finding.state);
        self.watch.found(&finding);
    }

    /// The filesystem below does not hand something out.
    fn unreadable(&self, place: &Place<'_, B>, subject: Subject, said: String) {
        self.note_blind();
        self.tell(Finding::at(place, State::Unreadable, subject, said));
    }

    fn note_blind(&self) {
        self.blind.store(true, Ordering::Relaxed);
    }

    fn use_target(&self, id: &[u8]) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.insert(id.to_vec());
    }

    fn is_live(&self) -> bool {
        self.plan.vault == Vault::Mounted
    }

    /// The volume as its journal is at a moment after `since`; as it was at the beginning if that cannot be read.
    fn fresh(&self, since: Instant) -> Option<Arc<Volume<B>>> {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((opened, volume)) = &*fresh
            && *opened > since
        {
            return Some(Arc::clone(volume));
        }
        let opened = Instant::now();
        let volume = Arc::new((self.reopen)()?);
        *fresh = Some((opened, Arc::clone(&volume)));
        Some(volume)
    }

    /// The same check on another view of the volume.
    fn on<'b>(&'b self, volume: &'b Volume<B>) -> Check<'b, B> {
        Check {
            volume,
            reopen: self.reopen,
            fresh: Mutex::default(),
            journaled: self.journaled,
            plan: self.plan,
            watch: self.watch,
            tally: self.tally,
            salvage: self.salvage.clone(),
            targets: Mutex::default(),
            blind: AtomicBool::new(false),
            since: self.since,
        }
    }

    /// Whether this only says that a mount has removed something meanwhile.
    fn has_gone(&self, error: &io::Error) -> bool {
        self.is_live() && error.kind() == io::ErrorKind::NotFound
    }

    /// How often something that looks damaged is looked at again.
    fn patience(&self) -> u32 {
        if self.is_live() { STEADY } else { 0 }
    }

    fn wait(&self) {
        std::thread::sleep(PAUSE);
    }

    /// Whether the salvage directory cannot be written any more.
    fn has_failed(&self) -> bool {
        self.salvage.as_ref().is_some_and(|s| s.has_failed())
    }
}
