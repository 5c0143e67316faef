//! What a mount had to put in order first, told to the person at the terminal: with the names of files, which the log of
//! the daemon never has.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::Verbosity;
use super::failure::Failure;
use super::output::{print, print_json, printable};
use crate::store::recovery::Progress;
use crate::store::recovery::report::Report;
use crate::store::{Disk, Volume};

/// Names printed of each kind; --json has all.
const NAMED: usize = 20;

#[derive(Debug, Serialize)]
struct Mounted<'a> {
    vault: &'a Path,
    mountpoint: &'a Path,
    recovered: &'a Report,
}

/// As JSON: what was mounted, and the report.
pub fn print_mounted(
    volume: &Volume<Disk>,
    vault: &Path,
    mountpoint: &Path,
) -> Result<(), Failure> {
    print_json(&Mounted {
        vault,
        mountpoint,
        recovered: &named(volume),
    })
}

/// For people. Nothing if there was nothing to do.
pub fn print_report(
    volume: &Volume<Disk>,
    copy: bool,
    verbosity: Verbosity,
) -> Result<(), Failure> {
    let report = volume.recovered();
    if report.is_empty() {
        return Ok(());
    }
    log::info!("the vault was not closed in order: {report}");
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let report = named(volume);
    let mut text = format!("The vault was not closed in order.\n{report}\n");
    let mut list = |what: &str, paths: Vec<String>| {
        for path in paths.iter().take(NAMED) {
            text += &format!("  {what}: {}\n", printable(path));
        }
        if paths.len() > NAMED {
            text += &format!("  {what}: {} more, see --json\n", paths.len() - NAMED);
        }
    };
    let cut = |c: &crate::store::recovery::report::Cut| {
        format!("{} (from {} to {} bytes)", c.path, c.from, c.to)
    };
    list("cut", report.cut.iter().map(cut).collect());
    list("empty", report.emptied.clone());
    list("damaged", report.damaged.clone());
    let failed = report.failed.iter();
    list(
        "failed",
        failed.map(|f| format!("{}: {}", f.path, f.error)).collect(),
    );
    list("no key", report.without_key.clone());
    list("not found", report.orphans.clone());
    if copy {
        list("was in use", report.in_use.clone());
    }
    print(&text)
}

/// The report with plaintext paths, where they can be read.
pub fn named(volume: &Volume<Disk>) -> Report {
    let mut report = volume.recovered().clone();
    let name = |path: &mut String| {
        if let Some(plain) = volume.plain_path(path.as_bytes()) {
            *path = String::from_utf8_lossy(&plain).into_owned();
        }
    };
    let lists = [
        &mut report.in_use,
        &mut report.emptied,
        &mut report.damaged,
        &mut report.without_key,
        &mut report.orphans,
    ];
    lists.into_iter().flatten().for_each(name);
    report.healed.iter_mut().for_each(|h| name(&mut h.path));
    report.cut.iter_mut().for_each(|c| name(&mut c.path));
    report.failed.iter_mut().for_each(|f| name(&mut f.path));
    report
}

/// Shows on a terminal how far recovery is, once it takes longer than a second.
#[derive(Debug)]
pub struct Shown {
    began: Instant,
    last: Mutex<Option<Instant>>,
}

impl Shown {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            last: Mutex::new(None),
        }
    }

    pub fn show(&self, progress: Progress) {
        const EVERY: Duration = Duration::from_millis(200);
        let mut err = std::io::stderr();
        if self.began.elapsed() < Duration::from_secs(1) || !err.is_terminal() {
            return;
        }
        let Ok(mut last) = self.last.lock() else {
            return;
        };
        if last.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        *last = Some(Instant::now());
        let _ = match progress {
            Progress::Reading { bytes } => {
                write!(err, "\rreading the journal: {} MiB\x1b[K", bytes >> 20)
            }
            Progress::Files { done, of } => {
                write!(err, "\rputting files in order: {done} of {of}\x1b[K")
            }
        };
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.last.lock().is_ok_and(|last| last.is_some()) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
