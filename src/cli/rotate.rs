//! `wardfs rotate`: a new content key, and all content sealed with it.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::args::Verbosity;
use super::exit::Exit;
use super::failure::{Failure, warn};
use super::key::session::{Closed, Refused, Session};
use super::output::{iso_time, print};
use super::progress::{self, Progress};
use super::unlock::UnlockArgs;
use super::{finding, place, recovered};
use crate::format::volume::INCOMPATIBLE_JOURNAL;
use crate::fs::rotate::{Skipped, Walked, Watch};
use crate::fs::{self, Fs};
use crate::keys::rotation::{self, Begun, RotationError};
use crate::store::backing::Kind;
use crate::store::check::count;
use crate::store::check::finding::{Finding, State, Subject};
use crate::store::check::tally::Tally;
use crate::store::disk::Atime;
use crate::store::file::Resealed;
use crate::store::lock::{LockError, Note, VaultLock};
use crate::store::volume::{Access, Options, VolumeError};
use crate::store::{Disk, Error, Volume};
use crate::sys::daemon::raise_open_file_limit;
use crate::sys::signals::{self, SignalFd};

/// Between two lines of progress in JSON.
const EVERY: Duration = Duration::from_secs(1);
/// How long a wait for the rate may keep a signal waiting.
const NAP: Duration = Duration::from_millis(50);

/// Encrypt all content anew with a new key
///
/// Adds a content key, encrypts every file with it, in place and through the journal, and destroys the old content key
/// when a walk through the whole vault has shown that nothing uses it any more. The vault must not be mounted. A
/// rotation that was interrupted, by Ctrl-C, kill -9 or a crash, goes on when the command is given again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs rotate ~/vault
  wardfs rotate /srv/scans --rate 50 --passphrase-file key
  wardfs rotate /srv/scans --json --keyfile key

Ends with 0 if nothing uses the old key any more, 27 or 28 if files were passed over because they
are damaged or cannot be read, and 29 if it was stopped; the old key is kept then.")]
pub struct RotateArgs {
    /// The vault's directory
    vault: PathBuf,

    /// Read at most MIB MiB of content each second, and write no more than that
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,

    /// Rotate a vault without a journal: a power cut meanwhile may damage files
    #[arg(long)]
    force: bool,

    /// Print progress, what was passed over, and at last the summary, each as one JSON object on a line of its own
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    unlock: UnlockArgs,
}

pub fn run(args: &RotateArgs, verbosity: Verbosity) -> Result<Exit, Failure> {
    let closed = Closed::find(&args.vault)?;
    let vault = closed.vault.clone();
    // Held until the old keys are wiped, or kept.
    let _lock = lock(&vault)?;
    let has_journal = closed.locked.header().incompatible & INCOMPATIBLE_JOURNAL != 0;
    if !has_journal && !args.force {
        let message = format!(
            "{} was made without a journal: a power cut during the rotation could damage its files",
            vault.display()
        );
        return Err(Failure::new(Exit::Failed, message)
            .advise("With a backup at hand, say --force; or copy the files into a new vault."));
    }
    let mut session = closed.open_holding_signals(&args.unlock)?;
    // Each level of the tree needs some descriptors.
    if let Err(e) = raise_open_file_limit() {
        log::debug!("the limit of open files stays as it is: {e}");
    }
    let (_blocked, stop) =
        signals::block(&signals::TERMINATION).map_err(|e| Failure::io("block signals", &e))?;
    let report = Report {
        progress: Progress::new(verbosity != Verbosity::Quiet && !args.json),
        json: args.json,
        verbosity,
        stop: &stop,
        stopped: Cell::new(false),
        rate: args.rate.map(|mib| mib << 20),
        begun: Instant::now(),
        read: Cell::new(0),
        told: Cell::new(None),
        tally: Tally::default(),
        passed_over: Cell::default(),
        failure: RefCell::default(),
    };
    let done = rotate(&mut session, &report);
    // A signal that came too late for the walk must not end the process before it has said how it ended.
    while matches!(stop.is_pending(), Ok(true)) && stop.wait().is_ok() {}
    done
}

fn lock(vault: &Path) -> Result<VaultLock, Failure> {
    VaultLock::acquire(vault, None, Note::Write).map_err(|e| match e {
        LockError::HeldBy(note) => place::in_use(vault, note)
            .advise("Only a vault that is not mounted can be rotated: unmount it first, with wardfs umount."),
        LockError::Io(e) => Failure::io(format!("lock {}", vault.display()), &e),
    })
}

fn rotate(session: &mut Session, report: &Report<'_>) -> Result<Exit, Failure> {
    let vault = session.vault.clone();
    let failed = |e| Failure::volume(&vault, &e);
    let begun = session.change(|header, key| rotation::begin(header, key).map_err(refused))?;
    report.begun(&begun)?;
    let Begun { keys, target, .. } = begun;
    let header = session.unlocked.locked.header().clone();
    let disk = Disk::open(&vault, Atime::Keep)
        .map_err(|e| failed(VolumeError::io("open the vault", e)))?;
    let volume = Volume::on(
        disk,
        None,
        Arc::new(keys),
        &header,
        Access::ReadWrite,
        Options::default(),
    )
    .map_err(failed)?;
    if !report.json {
        recovered::print_report(&volume, false, report.verbosity)?;
    } else if !volume.recovered().is_empty() {
        let line = json!({ "recovered": recovered::named(&volume) });
        print(&format!("{line}\n"))?;
    }
    let walked = walk(volume, report).map_err(|e| interrupted(&vault, &e))?;
    let wiped = match walked.is_complete() {
        true => {
            session.change(|header, key| rotation::finish(header, key, target).map_err(refused))?
        }
        false => 0,
    };
    report.end(&session.shown, walked, wiped)
}

/// The walk, with the line at the bottom of the terminal and the count ahead beside it.
fn walk(volume: Volume<Disk>, report: &Report<'_>) -> Result<Walked, fs::Error> {
    let config = fs::Config {
        own_as_caller: false,
        acl: false,
        cached_dirs: 16,
    };
    let fs = Fs::new(volume, config)?;
    let ended = AtomicBool::new(false);
    let stop = || ended.load(Ordering::Relaxed);
    let (progress, tally, backing) = (&report.progress, &report.tally, fs.volume().backing());
    let counts = progress.is_shown() || report.json;
    std::thread::scope(|scope| {
        scope.spawn(|| progress.run(tally));
        if counts {
            scope.spawn(|| count::count(backing, tally, &stop));
        }
        let walked = fs
            .rotate(backing, report, tally)
            .and_then(|walked| fs.close().map(|()| walked));
        ended.store(true, Ordering::Relaxed);
        progress.end();
        walked
    })
}

fn refused(e: RotationError) -> Refused {
    match e {
        RotationError::Unlock(e) => Refused::Volume(VolumeError::Unlock(e)),
        RotationError::NoEpochLeft => Refused::Other(
            Failure::new(
                Exit::Failed,
                format!("no further content key can be added: {e}"),
            )
            .advise("Copy the files into a new vault."),
        ),
        RotationError::OtherEpoch => Refused::Other(
            Failure::new(Exit::Failed, format!("the old content key is kept: {e}"))
                .advise("Start the rotation again."),
        ),
    }
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

/// Prints what happens, and keeps to the rate.
struct Report<'a> {
    progress: Progress,
    json: bool,
    verbosity: Verbosity,
    stop: &'a SignalFd,
    stopped: Cell<bool>,
    /// Bytes per second.
    rate: Option<u64>,
    begun: Instant,
    /// Plaintext bytes.
    read: Cell<u64>,
    /// When progress was told last, in JSON.
    told: Cell<Option<Instant>>,
    tally: Tally,
    /// The worst of what was passed over.
    passed_over: Cell<Option<State>>,
    /// Of printing.
    failure: RefCell<Option<Failure>>,
}

impl Watch for Report<'_> {
    fn advanced(&self, done: Resealed) {
        self.read.set(self.read.get() + done.data);
        if self.json {
            self.tell_progress();
        }
        let Some(rate) = self.rate else { return };
        let due = Duration::from_secs_f64(self.read.get() as f64 / rate as f64);
        while !self.is_stopped() {
            let early = due.saturating_sub(self.begun.elapsed());
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
        let found = Finding {
            state,
            subject,
            path: skipped.path.clone(),
            stored: skipped.stored.clone(),
            ranges: Vec::new(),
            gaps: Vec::new(),
            detail: format!("was passed over: {}", skipped.error),
        };
        self.passed_over.set(match self.passed_over.get() {
            Some(State::Damaged) => Some(State::Damaged),
            _ => Some(state),
        });
        self.print(&match self.json {
            true => format!("{}\n", finding::json(&found)),
            false => finding::text(&found),
        });
    }

    fn is_stopped(&self) -> bool {
        if !self.stopped.get() && matches!(self.stop.is_pending(), Ok(true)) {
            self.stopped.set(true);
        }
        self.stopped.get()
    }
}

impl Report<'_> {
    fn print(&self, text: &str) {
        if let Err(e) = self.progress.above(|| print(text)) {
            self.failure.borrow_mut().get_or_insert(e);
        }
    }

    fn begun(&self, begun: &Begun) -> Result<(), Failure> {
        let since = iso_time(begun.since);
        if self.json {
            let line = json!({ "rotation": { "resumed": begun.resumed, "key_created": since } });
            return print(&format!("{line}\n"));
        }
        match begun.resumed && self.verbosity != Verbosity::Quiet {
            true => print(&format!(
                "A rotation is under way since {since}; it is finished, and no other is begun.\n"
            )),
            false => Ok(()),
        }
    }

    fn tell_progress(&self) {
        let now = Instant::now();
        if self.told.get().is_some_and(|at| now - at < EVERY) {
            return;
        }
        self.told.set(Some(now));
        let number = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        let total = self
            .tally
            .counted
            .load(Ordering::Acquire)
            .then(|| number(&self.tally.total));
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let rate = self.read.get() as f64 / seconds;
        let done = number(&self.tally.done);
        let left = total.map(|total| total.saturating_sub(done) as f64 / rate.max(1.0));
        let line = json!({ "progress": {
            "files": number(&self.tally.files),
            "bytes": self.read.get(),
            "total": total,
            "bytes_per_second": rate as u64,
            "seconds_left": left.map(|left| left as u64),
        }});
        self.print(&format!("{line}\n"));
    }

    fn outcome(&self, walked: Walked) -> (Exit, &'static str) {
        match self.passed_over.get() {
            Some(State::Damaged) => return (Exit::Damaged, "damaged"),
            Some(_) => return (Exit::Unreadable, "unreadable"),
            None => {}
        }
        if walked.stopped {
            (Exit::Paused, "paused")
        } else {
            (Exit::Success, "complete")
        }
    }

    /// What it comes to.
    fn end(&self, shown: &str, walked: Walked, wiped: usize) -> Result<Exit, Failure> {
        if let Some(e) = self.failure.borrow_mut().take() {
            return Err(e);
        }
        let (exit, result) = self.outcome(walked);
        let took = self.begun.elapsed().as_secs_f64();
        let files = self.tally.files.load(Ordering::Relaxed);
        if self.json {
            let line = json!({
                "summary": result,
                "stopped": walked.stopped,
                "files": files,
                "passed_over": walked.skipped,
                "reencrypted_bytes": walked.resealed,
                "read_bytes": self.read.get(),
                "old_keys_destroyed": wiped,
                "seconds": took,
            });
            print(&format!("{line}\n"))?;
            return Ok(exit);
        }
        if self.verbosity == Verbosity::Quiet {
            return Ok(exit);
        }
        let done = format!(
            "{} of content in {files} files encrypted anew, in {took:.1} s",
            progress::size(walked.resealed)
        );
        print(&match (walked.stopped, walked.skipped) {
            (true, _) => format!("Stopped: {done}; 'wardfs rotate {shown}' goes on.\n"),
            (false, 0) => format!("Rotated {shown}: {done}; the old content key is destroyed.\n"),
            (false, _) => {
                format!("{done}.\nThe old content key is kept, for what was passed over.\n")
            }
        })?;
        if walked.is_complete() {
            warn(
                "backups of the header from before cannot read the content any more; make a new one: \
                 wardfs header backup",
            );
        } else if walked.skipped > 0 {
            warn(format!(
                "when 'wardfs check {shown}' finds nothing damaged any more, 'wardfs rotate {shown}' finishes the rotation"
            ));
        }
        Ok(exit)
    }
}
