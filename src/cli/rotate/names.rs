//! `wardfs rotate --names`: everything that is sealed under the keys of names, sealed anew.

use std::cell::Cell;
use std::io::ErrorKind;

use serde_json::json;

use super::How;
use super::report::Report;
use super::volume_key::settle;
use crate::cli::args::Verbosity;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, warn};
use crate::cli::finding::shown;
use crate::cli::key::session::{Closed, Session};
use crate::cli::output::print;
use crate::cli::unlock::{UnlockArgs, Unlocked};
use crate::crypto::VolumeKeys;
use crate::keys::names;
use crate::store::Disk;
use crate::store::check::finding::Finding;
use crate::store::check::tally::Tally;
use crate::store::disk::Atime;
use crate::store::renaming::{self, Outcome, Pass, Stuck, Watch};
use crate::store::volume::{Locked, VolumeError};
use crate::sys::daemon::raise_open_file_limit;

/// The vault is locked by the caller until this returns.
pub(super) fn run(closed: Closed, unlock: &UnlockArgs, how: How) -> Result<Exit, Failure> {
    let Session {
        vault,
        shown,
        unlocked,
        ..
    } = closed.open_holding_signals(unlock)?;
    if let Err(e) = raise_open_file_limit() {
        log::debug!("the limit of open files stays as it is: {e}");
    }
    let work = Work {
        vault: &vault,
        shown: &shown,
        report: Report::new(how)?,
        names: Cell::new(0),
    };
    work.go(unlocked)
}

struct Work<'a> {
    vault: &'a std::path::Path,
    shown: &'a str,
    report: Report,
    /// That were looked at in this walk.
    names: Cell<u64>,
}

impl Watch for Work<'_> {
    fn advanced(&self, names: u64) {
        self.names.set(self.names.get() + names);
        let names = self.names.get();
        let progress = &self.report.progress;
        if progress.is_shown() {
            progress.tell_before(format!("{names} names"));
        }
        let line = || json!({ "progress": { "names": names } });
        self.report.tell_progress(line);
    }

    fn passed_over(&self, found: Finding) {
        self.report.passed_over(&found);
    }

    fn is_stopped(&self) -> bool {
        self.report.is_stopped()
    }
}

impl Work<'_> {
    fn go(&self, unlocked: Unlocked) -> Result<Exit, Failure> {
        let failed = |e| Failure::volume(self.vault, &e);
        let (opened, how) = (unlocked.opened, self.report.how);
        // Opening it may have left a note in the header.
        let mut locked = Locked::open(self.vault).map_err(failed)?;
        if opened.keys.next_names().is_none() {
            let keys = settle(self.vault, &locked, opened.keys, how)?;
            let seen = self.walk(&keys, Pass::Look)?;
            if seen.stopped {
                return self.end(seen, false);
            }
            if seen.unreadable > 0 || (seen.damaged > 0 && !how.force) {
                return self.refuse(seen);
            }
        }
        let key = &opened.key;
        let begun = locked.update(self.vault, key, |header| {
            names::begin(header, key).map_err(VolumeError::Unlock)
        });
        let begun = begun.map_err(failed)?;
        self.tell_begun(begun.resumed)?;
        let walked = self.walk(&begun.keys, Pass::Seal)?;
        let lost_only = walked.damaged == 0 || how.force;
        let complete = !walked.stopped && walked.unreadable == 0 && lost_only;
        if complete {
            let finish = locked.update(self.vault, key, |header| {
                names::finish(header, key).map_err(VolumeError::Unlock)
            });
            finish.map_err(failed)?;
        }
        self.end(walked, complete)
    }

    fn walk(&self, keys: &VolumeKeys, pass: Pass) -> Result<Outcome, Failure> {
        let stuck = |e: Stuck| match pass {
            Pass::Look => self.not_begun(&e),
            Pass::Seal => self.interrupted(&e),
        };
        let disk = Disk::open(self.vault, Atime::Keep).map_err(|e| stuck(e.into()))?;
        self.names.set(0);
        let progress = &self.report.progress;
        let tally = Tally::default();
        std::thread::scope(|scope| {
            scope.spawn(|| progress.run(&tally));
            let walked = renaming::run(&disk, keys, pass, self);
            if pass == Pass::Seal {
                progress.end();
            }
            walked
        })
        .map_err(stuck)
    }

    fn not_begun(&self, stuck: &Stuck) -> Failure {
        let vault = self.vault.display();
        let message = format!("the names of {vault} are left as they are: {stuck}");
        Failure::new(Exit::Failed, message)
    }

    fn interrupted(&self, stuck: &Stuck) -> Failure {
        let mut message = format!(
            "the rotation of the names of {} was interrupted",
            self.vault.display()
        );
        if !stuck.path.is_empty() {
            message += &format!(" at {}", shown(&stuck.path));
        }
        message += &format!(": {stuck}");
        let remedy = match stuck.source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "Make room on the filesystem of the vault, a few megabytes"
            }
            ErrorKind::PermissionDenied => "Let the owner of that object, or root, go on",
            _ => "Mend the cause",
        };
        Failure::new(Exit::NamesUnderWay, message).advise(format!(
            "Nothing is lost. {remedy}; then wardfs rotate --names goes on. The vault cannot be mounted before."
        ))
    }

    fn tell_begun(&self, resumed: bool) -> Result<(), Failure> {
        let how = self.report.how;
        if how.json {
            let line = json!({ "rotation": { "names": true, "resumed": resumed } });
            return print(&format!("{line}\n"));
        }
        match resumed && how.verbosity != Verbosity::Quiet {
            true => print(
                "The names are being encrypted anew since an earlier run; it is finished, and no other is begun.\n",
            ),
            false => Ok(()),
        }
    }

    /// Nothing was changed yet.
    fn refuse(&self, seen: Outcome) -> Result<Exit, Failure> {
        let exit = match seen.damaged {
            0 => Exit::Unreadable,
            _ => Exit::Damaged,
        };
        let message = format!(
            "the names of {} are left as they are: {} could not be opened",
            self.vault.display(),
            seen.damaged + seen.unreadable
        );
        Err(Failure::new(exit, message).advise(
            "Mend or remove what was named (wardfs check --repair); --force passes over what is damaged.",
        ))
    }

    fn end(&self, walked: Outcome, finished: bool) -> Result<Exit, Failure> {
        self.report.check_printed()?;
        let (exit, result) = if walked.damaged > 0 {
            (Exit::Damaged, "damaged")
        } else if walked.unreadable > 0 {
            (Exit::Unreadable, "unreadable")
        } else if walked.stopped {
            (Exit::Paused, "paused")
        } else {
            (Exit::Success, "complete")
        };
        let (how, shown) = (self.report.how, self.shown);
        let took = self.report.seconds();
        if how.json {
            let line = json!({
                "summary": result,
                "stopped": walked.stopped,
                "names": walked.names,
                "reencrypted_names": walked.resealed,
                "passed_over": walked.damaged + walked.unreadable,
                "old_keys_destroyed": u8::from(finished),
                "seconds": took,
            });
            return print(&format!("{line}\n")).map(|()| exit);
        }
        if how.verbosity == Verbosity::Quiet {
            return Ok(exit);
        }
        let done = format!("{} names encrypted anew, in {took:.1} s", walked.resealed);
        print(&if finished {
            format!("Rotated the names of {shown}: {done}; the old key of names is destroyed.\n")
        } else if walked.stopped {
            format!("Stopped: {done}; 'wardfs rotate --names {shown}' goes on.\n")
        } else {
            format!("{done}.\nThe old key of names is kept, for what was passed over.\n")
        })?;
        if finished {
            warn(
                "backups of the header from before cannot read the names any more; make a new one: wardfs header backup",
            );
        } else if !walked.stopped {
            warn(format!(
                "the vault cannot be mounted before 'wardfs rotate --names {shown}' has gone through; --force passes over \
                 what is damaged"
            ));
        }
        Ok(exit)
    }
}
