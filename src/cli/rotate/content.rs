//! `wardfs rotate` on a vault that is not mounted: all of its content, sealed anew here.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::report::Report;
use super::summary::{Numbers, Summary};
use super::{How, RotateArgs, open, refused, tell_begun};
use crate::cli::args::Verbosity;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::key::session::{Closed, Session};
use crate::cli::output::print;
use crate::crypto::VolumeKeys;
use crate::format::volume::INCOMPATIBLE_JOURNAL;
use crate::fs::pace::Pace;
use crate::fs::rotate::{Skipped, Walked, Watch};
use crate::fs::{self, Fs};
use crate::keys::rotation::{self, Hands};
use crate::store::backing::Kind;
use crate::store::check::count;
use crate::store::check::finding::{Finding, State, Subject};
use crate::store::check::tally::Tally;
use crate::store::file::Resealed;
use crate::store::volume::VolumeError;
use crate::store::{Disk, Error, Volume};
use crate::sys::daemon::raise_open_file_limit;

/// How long a wait for the rate may keep a signal waiting.
const NAP: Duration = Duration::from_millis(50);

/// The vault is locked by the caller until this returns.
pub(super) fn run(closed: Closed, args: &RotateArgs, how: How) -> Result<Exit, Failure> {
    let vault = closed.vault.clone();
    let has_journal = closed.locked.header().incompatible & INCOMPATIBLE_JOURNAL != 0;
    if !has_journal && !how.force {
        let message = format!(
            "{} was made without a journal: a power cut during the rotation could damage its files",
            vault.display()
        );
        return Err(Failure::new(Exit::Failed, message)
            .advise("With a backup at hand, say --force; or copy the files into a new vault."));
    }
    let mut session = closed.open_holding_signals(&args.unlock)?;
    if session.unlocked.opened.keys.next_names().is_some() {
        return Err(Failure::volume(&vault, &VolumeError::NamesUnderWay));
    }
    // Each level of the tree needs some descriptors.
    if let Err(e) = raise_open_file_limit() {
        log::debug!("the limit of open files stays as it is: {e}");
    }
    let work = Work {
        report: Report::new(how)?,
        pace: Pace::new(args.rate.map(|mib| mib << 20)),
        tally: Tally::default(),
        passed_over: Cell::default(),
    };
    work.go(&mut session)
}

/// Seals, tells, and keeps to the rate.
struct Work {
    report: Report,
    /// Of plaintext bytes.
    pace: Pace,
    tally: Tally,
    /// The worst of what was passed over.
    passed_over: Cell<Option<State>>,
}

impl Watch for Work {
    fn advanced(&self, done: Resealed) {
        self.pace.advanced(done.data);
        self.report.tell_progress(|| self.numbers().json());
        while !self.is_stopped() {
            let early = self.pace.early();
            if early.is_zero() {
                return;
            }
            std::thread::sleep(early.min(NAP));
        }
    }

    fn skipped(&self, skipped: &Skipped) {
        let state = match skipped.error {
            Error::Io(_) => State::Unreadable,
            _ => State::Damaged,
        };
        let subject = match skipped.kind {
            Kind::Dir => Subject::Directory,
            _ => Subject::File,
        };
        self.passed_over.set(match self.passed_over.get() {
            Some(State::Damaged) => Some(State::Damaged),
            _ => Some(state),
        });
        self.report.passed_over(&Finding {
            state,
            subject,
            path: skipped.path.clone(),
            stored: skipped.stored.clone(),
            ranges: Vec::new(),
            gaps: Vec::new(),
            detail: format!("was passed over: {}", skipped.error),
        });
    }

    fn is_stopped(&self) -> bool {
        self.report.is_stopped()
    }
}

impl Work {
    fn go(&self, session: &mut Session) -> Result<Exit, Failure> {
        let (vault, how) = (session.vault.clone(), self.report.how);
        // Put in order with the keys as they are: a new one must not hide that an older header was put back.
        let header = session.unlocked.locked.header().clone();
        let key = &session.unlocked.opened.key;
        let state = rotation::state(&header, key)
            .map_err(|e| Failure::volume(&vault, &VolumeError::Unlock(e)))?;
        let keys = Arc::new(VolumeKeys::new(key, state.keyring));
        let volume = open(&vault, &keys, &header, how)?;
        let begun = session.change(|header, key| {
            let begun = rotation::begin(header, key, Hands::Own).map_err(refused)?;
            let state = rotation::state(header, key).map_err(|e| refused(e.into()))?;
            Ok((begun, state.keyring))
        });
        let followed = begun.and_then(|(begun, keyring)| {
            let followed = volume.keys().follow(keyring);
            followed.map_err(|_| changed_meanwhile()).map(|_| begun)
        });
        let begun = match followed {
            Ok(begun) => begun,
            Err(e) => {
                // Nothing was written. Why it did not begin says more than a failure now.
                let _ = volume.close(None);
                return Err(e);
            }
        };
        let target = begun.target;
        tell_begun(&begun, how)?;
        let walked = self.walk(volume).map_err(|e| interrupted(&vault, &e))?;
        let wiped = match walked.is_complete() {
            true => session
                .change(|header, key| rotation::finish(header, key, target).map_err(refused))?,
            false => 0,
        };
        self.end(&session.shown, walked, wiped)
    }

    /// The walk, with the line at the bottom of the terminal and the count ahead beside it.
    fn walk(&self, volume: Volume<Disk>) -> Result<Walked, fs::Error> {
        let config = fs::Config {
            own_as_caller: false,
            acl: false,
            cached_dirs: 16,
        };
        let fs = Fs::new(volume, config)?;
        let ended = AtomicBool::new(false);
        let stop = || ended.load(Ordering::Relaxed);
        let (progress, tally) = (&self.report.progress, &self.tally);
        let backing = fs.volume().backing();
        let counts = progress.is_shown() || self.report.how.json;
        std::thread::scope(|scope| {
            scope.spawn(|| progress.run(tally));
            if counts {
                scope.spawn(|| count::count(backing, tally, &stop));
            }
            let walked = fs
                .rotate(backing, self, tally)
                .and_then(|walked| fs.close().map(|()| walked));
            ended.store(true, Ordering::Relaxed);
            progress.end();
            walked
        })
    }

    fn numbers(&self) -> Numbers {
        let number = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let is_counted = self.tally.counted.load(Ordering::Acquire);
        Numbers {
            files: number(&self.tally.files),
            read: self.pace.total(),
            done: number(&self.tally.done),
            total: is_counted.then(|| number(&self.tally.total)),
            per_second: self.pace.per_second(),
        }
    }

    fn outcome(&self, walked: Walked) -> (Exit, &'static str) {
        match self.passed_over.get() {
            Some(State::Damaged) => (Exit::Damaged, "damaged"),
            Some(_) => (Exit::Unreadable, "unreadable"),
            None if walked.stopped => (Exit::Paused, "paused"),
            None => (Exit::Success, "complete"),
        }
    }

    /// What it comes to.
    fn end(&self, shown: &str, walked: Walked, wiped: usize) -> Result<Exit, Failure> {
        self.report.check_printed()?;
        let (exit, result) = self.outcome(walked);
        let summary = Summary {
            result,
            stopped: walked.stopped,
            files: self.tally.files.load(Ordering::Relaxed),
            passed_over: walked.skipped,
            resealed: walked.resealed,
            read: self.pace.total(),
            wiped,
            seconds: self.report.seconds(),
        };
        let how = self.report.how;
        if how.json {
            print(&format!("{}\n", summary.json()))?;
        } else if how.verbosity != Verbosity::Quiet {
            summary.tell(shown, &format!("'wardfs rotate {shown}' goes on"))?;
        }
        Ok(exit)
    }
}

fn changed_meanwhile() -> Failure {
    let message = "the content keys were changed by somebody else just now";
    Failure::new(Exit::Failed, message).advise("Start the rotation again.")
}

fn interrupted(vault: &Path, error: &fs::Error) -> Failure {
    let message = format!(
        "the rotation of {} was interrupted: {error}",
        vault.display()
    );
    Failure::new(Exit::Failed, message).advise(
        "Nothing is lost, and the vault can be used. When the cause is mended, wardfs rotate goes on.",
    )
}
