//! `wardfs rotate` on a mounted vault: the header asks the daemon for it, and the daemon's note tells how far it is.
//! Whether it is done is told by the header alone.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use super::report::Report;
use super::summary::{Numbers, Summary};
use super::{How, RotateArgs, refused, tell_begun};
use crate::cli::args::Verbosity;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, warn};
use crate::cli::key::session::{Closed, Session};
use crate::cli::output::print;
use crate::cli::place;
use crate::crypto::Epoch;
use crate::keys::rotation::{self, Begun, Hands};
use crate::store::check::tally::Tally;
use crate::store::lock::{Holder, Rotation, VaultLock};
use crate::store::rotation::{Note, State, Worst};
use crate::store::volume::{Locked, VolumeError};

/// Between two looks at the note, and at what costs more.
const LOOK: Duration = Duration::from_millis(200);
const LOOK_CLOSER: Duration = Duration::from_secs(1);
/// How long a daemon that does not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether whoever holds the vault can rotate it.
pub(super) fn check_permitted(vault: &Path, note: Option<Holder>) -> Result<(), Failure> {
    let holder = place::holder(vault, note);
    let refused = |why: &str| {
        let message = format!("{} is {why}", vault.display());
        Failure::new(Exit::InUse, message)
    };
    match holder.as_ref().and_then(|holder| holder.rotation) {
        Some(Rotation::Online) => Ok(()),
        Some(Rotation::NoJournal) => Err(refused(
            "mounted without a journal: a power cut while it is rotated could damage its files",
        )
        .advise("Mount it with its journal, or unmount it and rotate it then.")),
        Some(Rotation::Copy) => Err(refused("mounted as a copy of a vault in use")
            .advise("Unmount it, and rotate it then or after a mount without --copy.")),
        None => Err(place::in_use(vault, holder).advise(
            "Only a vault that is mounted for writing, or not mounted, can be rotated: unmount it first, \
             with wardfs umount.",
        )),
    }
}

pub(super) fn pause(
    closed: Closed,
    args: &RotateArgs,
    how: How,
    is_mounted: bool,
) -> Result<Exit, Failure> {
    let mut session = closed.open(&args.unlock)?;
    let record = session.change(|header, key| rotation::pause(header, key).map_err(refused))?;
    if is_mounted {
        wait_for_daemon(&session.vault, record.asked, &|| false)?;
    }
    if how.json {
        let line = json!({ "summary": "paused", "stopped": true });
        print(&format!("{line}\n"))?;
    } else if how.verbosity != Verbosity::Quiet {
        print(&format!(
            "Paused: 'wardfs rotate {}' goes on.\n",
            session.shown
        ))?;
    }
    Ok(Exit::Success)
}

pub(super) fn run(closed: Closed, args: &RotateArgs, how: How) -> Result<Exit, Failure> {
    let mut session = closed.open_holding_signals(&args.unlock)?;
    let report = Report::new(how)?;
    let rate = args.rate.and_then(|mib| u32::try_from(mib).ok());
    let begun = session
        .change(|header, key| rotation::begin(header, key, Hands::Daemon(rate)).map_err(refused))?;
    tell_begun(&begun, how)?;
    let is_stopped = || report.is_stopped();
    wait_for_daemon(&session.vault, begun.record.asked, &is_stopped)?;
    if !how.json && how.verbosity != Verbosity::Quiet {
        print(
            "The daemon encrypts the content anew while the vault is used; Ctrl-C leaves it at that.\n",
        )?;
    }
    let watching = Watching {
        session: &session,
        begun: &begun,
        report: &report,
        since: Instant::now(),
    };
    let (end, note) = watching.run()?;
    watching.tell(end, &note)
}

/// Waits until the daemon has seen what it was asked for.
fn wait_for_daemon(vault: &Path, asked: u32, is_stopped: &dyn Fn() -> bool) -> Result<(), Failure> {
    let begun = Instant::now();
    while !is_stopped() && Note::read(vault).is_none_or(|note| !has_seen(&note, asked)) {
        if begun.elapsed() > PATIENCE {
            let message = format!(
                "the daemon that has {} mounted does not answer",
                vault.display()
            );
            return Err(Failure::new(Exit::Failed, message).advise(
                "The header says what was asked for; a daemon does it after the next mount.",
            ));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Whether the daemon has seen this, or what somebody asked for a little later.
fn has_seen(note: &Note, asked: u32) -> bool {
    note.asked.wrapping_sub(asked) < 1000
}

/// Why watching ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    Incomplete,
    Paused,
    Unmounted,
    /// The daemon goes on.
    LeftAlone,
}

struct Watching<'a> {
    session: &'a Session,
    begun: &'a Begun,
    report: &'a Report,
    since: Instant,
}

impl Watching<'_> {
    fn run(&self) -> Result<(End, Note), Failure> {
        let (tally, progress) = (Tally::default(), &self.report.progress);
        std::thread::scope(|scope| {
            scope.spawn(|| progress.run(&tally));
            let ended = self.watch(&tally);
            progress.end();
            ended
        })
    }

    fn watch(&self, tally: &Tally) -> Result<(End, Note), Failure> {
        let vault = &self.session.vault;
        let mut note = Note::default();
        let mut closer = Instant::now();
        let mut has_failed = false;
        loop {
            if let Some(latest) = Note::read(vault) {
                note = latest;
                fill(tally, &note);
            }
            let has_seen = has_seen(&note, self.begun.record.asked);
            match note.state {
                State::Incomplete if has_seen => return Ok((End::Incomplete, note)),
                State::Paused if has_seen => return Ok((End::Paused, note)),
                State::Failing if !has_failed => {
                    has_failed = true;
                    let why = note.error.as_deref().unwrap_or("it does not say why");
                    self.report.progress.above(|| {
                        warn(format!(
                            "the daemon cannot go on, and will try again: {why}"
                        ));
                    });
                }
                _ => {}
            }
            if closer.elapsed() >= LOOK_CLOSER {
                closer = Instant::now();
                let is_mounted = !matches!(VaultLock::holder(vault), Ok(None));
                if self.is_finished()? {
                    return Ok((End::Complete, Note::read(vault).unwrap_or(note)));
                }
                if !is_mounted {
                    return Ok((End::Unmounted, note));
                }
                if self.report.how.json {
                    let numbers = Numbers {
                        files: note.files,
                        read: note.read,
                        done: note.done,
                        total: note.total,
                        per_second: note.bytes_per_second,
                    };
                    print(&format!("{}\n", numbers.json()))?;
                }
            }
            if self.report.is_stopped() {
                return Ok((End::LeftAlone, note));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// By the header, which the daemon changes last.
    fn is_finished(&self) -> Result<bool, Failure> {
        let vault = &self.session.vault;
        let locked = Locked::open(vault).map_err(|e| Failure::volume(vault, &e))?;
        let key = &self.session.unlocked.opened.key;
        let state = rotation::state(locked.header(), key)
            .map_err(|e| Failure::volume(vault, &VolumeError::Unlock(e)))?;
        let target: Epoch = self.begun.target;
        Ok(!state.is_under_way() || state.keyring.current != target)
    }

    fn tell(&self, end: End, note: &Note) -> Result<Exit, Failure> {
        let how = self.report.how;
        let (exit, result) = match (end, note.worst) {
            (End::Complete, _) => (Exit::Success, "complete"),
            (End::Incomplete, Some(Worst::Unreadable)) => (Exit::Unreadable, "unreadable"),
            (End::Incomplete, _) => (Exit::Damaged, "damaged"),
            (End::Paused | End::Unmounted | End::LeftAlone, _) => (Exit::Paused, "paused"),
        };
        let summary = Summary {
            result,
            stopped: exit == Exit::Paused,
            files: note.files,
            passed_over: if end == End::Incomplete {
                note.passed_over
            } else {
                0
            },
            resealed: note.resealed,
            read: note.read,
            wiped: usize::from(end == End::Complete),
            seconds: self.since.elapsed().as_secs_f64(),
        };
        if how.json {
            print(&format!("{}\n", summary.json()))?;
        } else if how.verbosity != Verbosity::Quiet {
            let shown = &self.session.shown;
            summary.tell(
                shown,
                &match end {
                    End::Unmounted => {
                        "the vault was unmounted, and the next mount goes on".to_owned()
                    }
                    End::Paused => {
                        format!("somebody has paused it, and 'wardfs rotate {shown}' goes on")
                    }
                    _ => format!("the daemon goes on; 'wardfs info {shown}' tells how far it is"),
                },
            )?;
        }
        Ok(exit)
    }
}

fn fill(tally: &Tally, note: &Note) {
    tally.files.store(note.files, Ordering::Relaxed);
    tally.done.store(note.done, Ordering::Relaxed);
    if let Some(total) = note.total {
        tally.total.store(total, Ordering::Relaxed);
        tally.counted.store(true, Ordering::Release);
    }
}
