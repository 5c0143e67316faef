//! `wardfs check`: whether everything in a vault can be read, mending what is not, and saving what is left.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::args::Verbosity;
use super::exit::Exit;
use super::failure::{Failure, warn};
use super::key::session::{Closed, Traces};
use super::output::print;
use super::progress::{self, Progress};
use super::unlock::{UnlockArgs, Unlocked};
use super::{finding, place, recovered};
use crate::crypto::rand;
use crate::store::check::finding::{Finding, State, Watch};
use crate::store::check::sample::Sample;
use crate::store::check::tally::Tally;
use crate::store::check::{self, CheckError, Mode, Plan, Source, Vault};
use crate::store::disk::Atime;
use crate::store::lock::{LockError, Note, VaultLock};
use crate::store::recovery::Progress as Recovering;
use crate::store::{Disk, Volume};
use crate::sys::daemon::raise_open_file_limit;

const REPORT: &str = "salvage-report";

/// Verify a vault, mend it, or save what is left of it
///
/// Verifies the volume header, every directory, name, link target, extended attribute and chunk, and names what is
/// damaged by its path in the mount, with the bytes that cannot be read, and by its path in the vault. Without
/// --repair nothing is written to the vault, and it may be mounted meanwhile.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs check ~/vault
  wardfs check ~/vault --repair
  wardfs check /srv/scans --salvage /mnt/disk/scans
  wardfs check /srv/archive --sample 1% --json --keyfile key | jq -r 'select(.path).path'

Ends with 0 if the vault is clean, 26 if it is clean now, 27 if something is damaged, and 28 if
nothing is damaged but something could not be read.")]
pub struct CheckArgs {
    /// The vault's directory
    vault: PathBuf,

    /// Mend what can be mended without guessing; the vault must not be mounted
    ///
    /// Directory ids and long names from their second copies, the header, the superblock, the ends of files whose
    /// writing was interrupted; leftovers are removed. Content that authenticates is never removed.
    #[arg(long, conflicts_with_all = ["salvage", "sample"])]
    repair: bool,

    /// Write everything that authenticates to DIR, which is empty or does not exist; what does not is zeros there
    #[arg(long, value_name = "DIR", conflicts_with = "sample")]
    salvage: Option<PathBuf>,

    /// Read a random share of the content, as in 1%; names and directories are checked all
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    sample: Option<f64>,

    /// Take the sample that an earlier check has taken with this seed
    #[arg(long, value_name = "N", requires = "sample")]
    seed: Option<u64>,

    /// Read with N threads, 1 to 64 [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: Option<u64>,

    /// Print each finding, and at last the summary, as one JSON object on a line of its own
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    unlock: UnlockArgs,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|n| n.parse::<f64>().ok());
    match number {
        Some(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err("a share is a percentage above 0% and up to 100%, as in 1%".to_owned()),
    }
}

pub fn run(args: &CheckArgs, verbosity: Verbosity) -> Result<Exit, Failure> {
    let closed = Closed::find(&args.vault)?;
    let vault = closed.vault.clone();
    let failed = |e| Failure::volume(&vault, &e);
    let salvage = match &args.salvage {
        Some(dir) => Some(salvage_place(dir, &vault)?),
        None => None,
    };
    let (lock, state) = lock(&vault, args.repair)?;
    let Unlocked { locked, opened, .. } = closed.open_leaving(Traces::None, &args.unlock)?.unlocked;
    let keys = Arc::new(opened.keys);
    // Each level of the tree needs some descriptors.
    if let Err(e) = raise_open_file_limit() {
        log::debug!("the limit of open files stays as it is: {e}");
    }
    if let Some(dir) = &salvage {
        make_salvage_dir(dir)?;
    }
    let progress = Progress::new(verbosity != Verbosity::Quiet);
    let plan = Plan {
        mode: if args.repair {
            Mode::Repair
        } else {
            Mode::Look
        },
        vault: state,
        threads: threads(args.threads),
        sample: args.sample.map(|share| Sample {
            share,
            // Short enough to be typed, and exact in JSON.
            seed: args
                .seed
                .unwrap_or_else(|| u32::from_le_bytes(rand::array()).into()),
        }),
        salvage: salvage.clone(),
        count_ahead: progress.is_shown(),
    };
    let report = Report {
        progress: &progress,
        json: args.json,
        verbosity,
        mode: plan.mode,
        vault: plan.vault,
        gaps: Mutex::new(salvage.as_ref().map(|_| String::new())),
        failure: Mutex::new(None),
    };
    let tally = Tally::default();
    let begun = Instant::now();
    let checked = std::thread::scope(|scope| {
        scope.spawn(|| progress.run(&tally));
        let source = Source {
            backing: &|| Disk::open(&vault, Atime::Keep),
            lock,
            keys,
            header: locked.header(),
        };
        let checked = check::run(source, &plan, &report, &tally);
        progress.end();
        checked
    });
    checked.map_err(|e| match (e, &salvage) {
        (CheckError::Volume(e), _) => failed(*e),
        (CheckError::Salvage(e), dir) => {
            let dir = dir.as_deref().unwrap_or(Path::new("")).display();
            Failure::io(format!("write to the salvage directory {dir}"), &e)
                .advise("What is in it is not complete.")
        }
    })?;
    report.end(&plan, &tally, begun.elapsed())
}

/// The lock that goes with what is to be done. A vault that is mounted can be looked at all the same.
fn lock(vault: &Path, repair: bool) -> Result<(Option<VaultLock>, Vault), Failure> {
    let locked = match repair {
        true => VaultLock::acquire(vault, None, Note::Write),
        false => VaultLock::share(vault),
    };
    match locked {
        Ok(lock) => Ok((Some(lock), Vault::Still)),
        Err(LockError::HeldBy(_)) if !repair => Ok((None, Vault::Mounted)),
        Err(LockError::HeldBy(note)) => Err(place::in_use(vault, note)),
        Err(LockError::Io(e)) => Err(Failure::io(format!("lock {}", vault.display()), &e)),
    }
}

fn threads(told: Option<u64>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    told.map_or_else(cores, |n| n as usize)
}

/// The salvage directory without symbolic links: empty or missing, and not in the vault.
fn salvage_place(typed: &Path, vault: &Path) -> Result<PathBuf, Failure> {
    let shown = typed.display();
    let bad = |message: String| Failure::new(Exit::Usage, message);
    let inside = || {
        bad(format!("the salvage directory {shown} lies in the vault"))
            .advise("Choose a directory outside of it, best on another disk.")
    };
    match fs::read_dir(typed) {
        Ok(mut entries) => {
            let path = fs::canonicalize(typed)
                .map_err(|e| Failure::io(format!("open the salvage directory {shown}"), &e))?;
            if place::is_within(&path, vault) {
                return Err(inside());
            }
            match entries.next() {
                None => Ok(path),
                Some(_) => Err(bad(format!("the salvage directory {shown} is not empty"))
                    .advise("Choose a directory that is empty or does not exist yet.")),
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let name = typed.file_name();
            let parent = match typed.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let (Some(name), Ok(parent)) = (name, fs::canonicalize(parent)) else {
                return Err(bad(format!("there is no place for {shown}"))
                    .advise("The directory in which it is to be made does not exist."));
            };
            if place::is_within(&parent, vault) {
                return Err(inside());
            }
            Ok(parent.join(name))
        }
        Err(e) => Err(Failure::io(
            format!("open the salvage directory {shown}"),
            &e,
        )),
    }
}

fn make_salvage_dir(dir: &Path) -> Result<(), Failure> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Failure::io(
            format!("make the salvage directory {}", dir.display()),
            &e,
        )),
        _ => Ok(()),
    }
}

/// Prints findings as they come, and the summary.
struct Report<'a> {
    progress: &'a Progress,
    json: bool,
    verbosity: Verbosity,
    mode: Mode,
    vault: Vault,
    /// For the report in the salvage directory, if there is one.
    gaps: Mutex<Option<String>>,
    /// Of printing.
    failure: Mutex<Option<Failure>>,
}

impl Watch<Disk> for Report<'_> {
    fn found(&self, found: &Finding) {
        let grave = matches!(
            found.state,
            State::Damaged | State::Unreadable | State::InUse
        );
        if grave && let Some(gaps) = &mut *self.gaps.lock().unwrap_or_else(PoisonError::into_inner)
        {
            gaps.push_str(&finding::gaps(found).unwrap_or_default());
        }
        let text = match self.json {
            true => format!("{}\n", finding::json(found)),
            false if grave || self.verbosity != Verbosity::Quiet => finding::text(found),
            false => return,
        };
        self.print(&text);
    }

    fn recovering(&self, progress: Recovering) {
        self.progress.tell_before(match progress {
            Recovering::Reading { bytes } => {
                format!("reading the journal: {}", progress::size(bytes))
            }
            Recovering::Files { done, of } => format!("files of the journal: {done} of {of}"),
        });
    }

    fn opened(&self, volume: &Volume<Disk>) {
        let report = volume.recovered();
        // The journal of a running mount is as it should be.
        if report.is_empty() || self.vault == Vault::Mounted {
            return;
        }
        let report = recovered::named(volume);
        match self.json {
            true => self.print(&format!("{}\n", json!({ "recovered": report }))),
            false if self.verbosity == Verbosity::Quiet => {}
            false => self.print(&format!(
                "The vault was not closed in order; {}.\n{report}\n",
                match self.mode {
                    Mode::Look => "it is checked as the next mount will put it in order",
                    Mode::Repair => "it was put in order first",
                }
            )),
        }
    }
}

impl Report<'_> {
    fn print(&self, text: &str) {
        if let Err(e) = self.progress.above(|| print(text)) {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(e);
        }
    }

    /// What it comes to.
    fn end(self, plan: &Plan, tally: &Tally, took: Duration) -> Result<Exit, Failure> {
        let (exit, result) = outcome(tally);
        self.progress.above(|| {});
        if let Some(e) = self
            .failure
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
        {
            return Err(e);
        }
        let gaps = self
            .gaps
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let written = match (&plan.salvage, gaps) {
            (Some(dir), Some(gaps)) => Some(write_report(dir, &gaps, tally)?),
            _ => None,
        };
        if self.json {
            print(&format!("{}\n", json_summary(result, plan, tally, took)))?;
        } else if self.verbosity != Verbosity::Quiet {
            print(&summary(plan, tally, took, written.as_deref()))?;
        }
        if plan.vault == Vault::Mounted && tally.of(State::InUse) > 0 && !self.json {
            warn("the vault is mounted; to check what was in use, unmount it first");
        }
        Ok(exit)
    }
}

fn outcome(tally: &Tally) -> (Exit, &'static str) {
    let any = |state| tally.of(state) > 0;
    if any(State::Damaged) {
        (Exit::Damaged, "damaged")
    } else if any(State::Unreadable) {
        (Exit::Unreadable, "unreadable")
    } else if any(State::Repaired) {
        (Exit::Repaired, "repaired")
    } else {
        (Exit::Success, "clean")
    }
}

const STATES: [State; 6] = [
    State::Damaged,
    State::Repaired,
    State::Unreadable,
    State::InUse,
    State::Leftover,
    State::Foreign,
];

fn json_summary(result: &str, plan: &Plan, tally: &Tally, took: Duration) -> serde_json::Value {
    let number = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    let mut summary = json!({
        "summary": result,
        "mounted": plan.vault == Vault::Mounted,
        "files": number(&tally.files),
        "directories": number(&tally.directories),
        "symlinks": number(&tally.symlinks),
        "special": number(&tally.special),
        "verified_bytes": number(&tally.verified),
        "seconds": took.as_secs_f64(),
    });
    for state in STATES {
        summary[state.name()] = json!(tally.of(state));
    }
    if let Some(sample) = plan.sample {
        summary["sample"] = json!(sample.share);
        summary["seed"] = json!(sample.seed);
    }
    if plan.salvage.is_some() {
        summary["salvaged_bytes"] = json!(number(&tally.salvaged));
        summary["missing_bytes"] = json!(number(&tally.lost));
    }
    summary
}

fn summary(plan: &Plan, tally: &Tally, took: Duration, report: Option<&Path>) -> String {
    let number = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    let count = |n, one: &str, many: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    let mut text = format!(
        "Checked {}, {}, {} and {} of content in {:.1} s.\n",
        count(number(&tally.directories), "directory", "directories"),
        count(number(&tally.files), "file", "files"),
        count(number(&tally.symlinks), "symbolic link", "symbolic links"),
        progress::size(number(&tally.verified)),
        took.as_secs_f64(),
    );
    if let Some(Sample { share, seed }) = plan.sample {
        text += &format!("This is a sample of {}% with seed {seed}.\n", share * 100.0);
    }
    if let Some(report) = report {
        text += &format!(
            "Salvaged {}; {} are missing, see {}.\n",
            progress::size(number(&tally.salvaged)),
            progress::size(number(&tally.lost)),
            report.display()
        );
    }
    let found: Vec<String> = STATES
        .into_iter()
        .filter(|state| tally.of(*state) > 0)
        .map(|state| format!("{} {}", tally.of(state), state.name()))
        .collect();
    let found = match &found[..] {
        [] => String::new(),
        found => format!(" ({})", found.join(", ")),
    };
    text += match outcome(tally).0 {
        Exit::Damaged => "The vault is damaged",
        Exit::Unreadable => "Parts of the vault could not be read",
        Exit::Repaired => "The vault is clean now",
        _ => "The vault is clean",
    };
    text + &found + ".\n"
}

/// Writes the report of what is missing, under a name that the salvaged tree does not have.
fn write_report(dir: &Path, gaps: &str, tally: &Tally) -> Result<PathBuf, Failure> {
    let text = format!(
        "Salvaged by wardfs {}: {} bytes written, {} bytes missing.\n\
         A missing byte is a zero in the file here.\n\n{}",
        env!("CARGO_PKG_VERSION"),
        tally.salvaged.load(Ordering::Relaxed),
        tally.lost.load(Ordering::Relaxed),
        if gaps.is_empty() {
            "Nothing is missing.\n"
        } else {
            gaps
        },
    );
    let names = std::iter::once(format!("{REPORT}.txt"))
        .chain((1..1000).map(|n| format!("{REPORT}.{n}.txt")));
    for name in names {
        let path = dir.join(name);
        let made = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        match made {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Failure::io(format!("write {}", path.display()), &e)),
        }
    }
    Err(Failure::new(
        Exit::Failed,
        format!("there is no free name for the report in {}", dir.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage() {
        assert_eq!(parse_share("1%"), Ok(0.01));
        assert_eq!(parse_share("0.5%"), Ok(0.005));
        assert_eq!(parse_share("100%"), Ok(1.0));
        for bad in ["1", "0%", "101%", "-1%", "NaN%", "%", "x%"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
    }
}
