//! `wardfs rotate`: a new content key, and all content sealed with it: here, or by the daemon of a mount ([`online`]).

mod kept;
mod names;
mod online;
mod volume_key;

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
use crate::crypto::VolumeKeys;
use crate::format::volume::INCOMPATIBLE_JOURNAL;
use crate::fs::pace::Pace;
use crate::fs::rotate::{Skipped, Walked, Watch};
use crate::fs::{self, Fs};
use crate::keys::rotation::{self, Begun, Hands, RotationError};
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
use volume_key::{How, VolumeKeyArgs};

/// Between two lines of progress in JSON.
const EVERY: Duration = Duration::from_secs(1);
/// How long a wait for the rate may keep a signal waiting.
const NAP: Duration = Duration::from_millis(50);

/// Encrypt all content anew with a new key
///
/// Adds a content key, encrypts every file with it, in place and through the journal, and destroys the old content key
/// when a walk through the whole vault has shown that nothing uses it any more. A mounted vault is rotated by its daemon
/// while it is used; this command watches, and Ctrl-C leaves the daemon at it. A rotation that was interrupted goes on
/// when the command is given again, and one that a daemon has begun also by itself at the next mount.
///
/// With --names, names are encrypted anew instead, with link targets and attributes; with --volume-key, the key of the
/// volume itself is replaced, at once, and nothing is encrypted anew. For both the vault must not be mounted.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs rotate ~/vault
  wardfs rotate /srv/scans --rate 50 --passphrase-file key
  wardfs rotate /srv/scans --json --keyfile key
  wardfs rotate /srv/scans --pause --keyfile key
  wardfs rotate /srv/scans --names --passphrase-file key
  wardfs rotate /srv/scans --volume-key --keep 2=recovery.txt --drop 3

Ends with 0 if nothing uses the old key any more, 27 or 28 if files were passed over because they
are damaged or cannot be read, and 29 if it was stopped, or goes on without this command; the old
key is kept then.")]
pub struct RotateArgs {
    /// The vault's directory
    vault: PathBuf,

    /// Read at most MIB MiB of content each second, and write no more than that
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,

    /// Rotate a vault without a journal: a power cut meanwhile may damage files; with --volume-key, leave no key slot that
    /// a person can open; with --names, pass over what is damaged
    #[arg(long)]
    force: bool,

    /// Let the rotation that is under way in a mount rest, also after the next mount, until it is started again
    #[arg(long, conflicts_with_all = ["rate", "force"])]
    pause: bool,

    /// Print progress, what was passed over, and at last the summary, each as one JSON object on a line of its own
    #[arg(long)]
    json: bool,

    /// Encrypt names, link targets and attributes anew, with a new key of names, and leave the content
    #[arg(long, conflicts_with = "rate")]
    names: bool,

    #[command(flatten)]
    volume_key: VolumeKeyArgs,

    #[command(flatten)]
    unlock: UnlockArgs,
}

pub fn run(args: &RotateArgs, verbosity: Verbosity) -> Result<Exit, Failure> {
    let closed = Closed::find(&args.vault)?;
    let vault = closed.vault.clone();
    // Held until the old keys are wiped, or kept.
    let how = How {
        force: args.force,
        json: args.json,
        verbosity,
    };
    if args.names {
        let _lock = lock_unmounted(&vault)?;
        return names::run(closed, &args.unlock, how);
    }
    if args.volume_key.volume_key {
        let _lock = lock_unmounted(&vault)?;
        return volume_key::run(closed, &args.volume_key, &args.unlock, how);
    }
    let lock = lock(&vault)?;
    if args.pause {
        return online::pause(closed, args, verbosity, lock.is_none());
    }
    let Some(_lock) = lock else {
        return online::run(closed, args, verbosity);
    };
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
    if session.unlocked.opened.keys.next_names().is_some() {
        return Err(Failure::volume(&vault, &VolumeError::NamesUnderWay));
    }
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
        pace: Pace::new(args.rate.map(|mib| mib << 20)),
        begun: Instant::now(),
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

fn lock_unmounted(vault: &Path) -> Result<VaultLock, Failure> {
    VaultLock::acquire(vault, None, Note::Write).map_err(|e| match e {
        LockError::HeldBy(note) => place::in_use(vault, note).advise(
            "Its key can be replaced only while it is not mounted: unmount it first, with wardfs umount.",
        ),
        LockError::Io(e) => Failure::io(format!("lock {}", vault.display()), &e),
    })
}

/// `None` if the vault is mounted by a daemon that can rotate it.
fn lock(vault: &Path) -> Result<Option<VaultLock>, Failure> {
    match VaultLock::acquire(vault, None, Note::Write) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::HeldBy(note)) => online::check_permitted(vault, note).map(|()| None),
        Err(LockError::Io(e)) => Err(Failure::io(format!("lock {}", vault.display()), &e)),
    }
}

fn rotate(session: &mut Session, report: &Report<'_>) -> Result<Exit, Failure> {
    let vault = session.vault.clone();
    let failed = |e| Failure::volume(&vault, &e);
    // Put in order with the keys as they are: a new one must not hide that an older header was put back.
    let header = session.unlocked.locked.header().clone();
    let unlocked = |e| failed(VolumeError::Unlock(e));
    let state = rotation::state(&header, &session.unlocked.opened.key).map_err(unlocked)?;
    let keys = VolumeKeys::new(&session.unlocked.opened.key, state.keyring);
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
    tell_begun(&begun, report.json, report.verbosity)?;
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

fn tell_begun(begun: &Begun, json: bool, verbosity: Verbosity) -> Result<(), Failure> {
    let since = iso_time(begun.since);
    if json {
        let line = json!({ "rotation": { "resumed": begun.resumed, "key_created": since } });
        return print(&format!("{line}\n"));
    }
    match begun.resumed && verbosity != Verbosity::Quiet {
        true => print(&format!(
            "A rotation is under way since {since}; it is finished, and no other is begun.\n"
        )),
        false => Ok(()),
    }
}

/// How far a rotation is.
struct Numbers {
    files: u64,
    /// Plaintext bytes.
    read: u64,
    /// Bytes of the vault.
    done: u64,
    total: Option<u64>,
    per_second: u64,
}

impl Numbers {
    fn json(&self) -> String {
        let left = self.total.map(|total| total.saturating_sub(self.done));
        let line = json!({ "progress": {
            "files": self.files,
            "bytes": self.read,
            "total": self.total,
            "bytes_per_second": self.per_second,
            "seconds_left": left.map(|left| left / self.per_second.max(1)),
        }});
        format!("{line}\n")
    }
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
        RotationError::NotUnderWay => Refused::Other(Failure::new(
            Exit::Failed,
            format!("there is nothing to pause: {e}"),
        )),
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

/// Prints what happens, and keeps to the rate.
struct Report<'a> {
    progress: Progress,
    json: bool,
    verbosity: Verbosity,
    stop: &'a SignalFd,
    stopped: Cell<bool>,
    /// Of plaintext bytes.
    pace: Pace,
    begun: Instant,
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
        self.pace.advanced(done.data);
        if self.json {
            self.tell_progress();
        }
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
        let progress = Numbers {
            files: number(&self.tally.files),
            read: self.pace.total(),
            done: number(&self.tally.done),
            total,
            per_second: self.pace.per_second(),
        };
        self.print(&progress.json());
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
        let summary = Summary {
            result,
            stopped: walked.stopped,
            files: self.tally.files.load(Ordering::Relaxed),
            passed_over: walked.skipped,
            resealed: walked.resealed,
            read: self.pace.total(),
            wiped,
            seconds: self.begun.elapsed().as_secs_f64(),
        };
        match (self.json, self.verbosity) {
            (true, _) => print(&summary.json())?,
            (false, Verbosity::Quiet) => {}
            (false, _) => {
                let stopped = format!("'wardfs rotate {shown}' goes on");
                summary.tell(shown, &stopped)?;
            }
        }
        Ok(exit)
    }
}

/// What a rotation came to.
struct Summary {
    result: &'static str,
    stopped: bool,
    files: u64,
    passed_over: u64,
    resealed: u64,
    read: u64,
    wiped: usize,
    seconds: f64,
}

impl Summary {
    fn json(&self) -> String {
        let line = json!({
            "summary": self.result,
            "stopped": self.stopped,
            "files": self.files,
            "passed_over": self.passed_over,
            "reencrypted_bytes": self.resealed,
            "read_bytes": self.read,
            "old_keys_destroyed": self.wiped,
            "seconds": self.seconds,
        });
        format!("{line}\n")
    }

    /// For people. `stopped` says what follows where it was stopped.
    fn tell(&self, shown: &str, stopped: &str) -> Result<(), Failure> {
        let done = format!(
            "{} of content in {} files encrypted anew, in {:.1} s",
            progress::size(self.resealed),
            self.files,
            self.seconds
        );
        print(&match (self.stopped, self.passed_over) {
            (true, _) => format!("Stopped: {done}; {stopped}.\n"),
            (false, 0) => format!("Rotated {shown}: {done}; the old content key is destroyed.\n"),
            (false, _) => {
                format!("{done}.\nThe old content key is kept, for what was passed over.\n")
            }
        })?;
        if !self.stopped && self.passed_over == 0 {
            warn(
                "backups of the header from before cannot read the content any more; make a new one: \
                 wardfs header backup",
            );
        } else if self.passed_over > 0 {
            warn(format!(
                "when 'wardfs check {shown}' finds nothing damaged any more, 'wardfs rotate {shown}' finishes the rotation"
            ));
        }
        Ok(())
    }
}
