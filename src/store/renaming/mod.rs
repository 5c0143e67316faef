//! Sealing everything anew that is sealed under the keys of names: names, long names, directory ids, link targets and the
//! attributes of users, while nobody else uses the vault.
//!
//! Everything opens under the old keys or under the new ones, never under neither: what is there says what is done, and a
//! walk that ended early is simply walked again. What is written anew is durable before what it replaces goes. Times of
//! directories, which renaming changes, are noted in [`scratch`] before.
//!
//! Parents come before children, and each directory is finished before the next one is begun.

mod attribute;
mod directory;
mod entry;
mod link;
mod place;
mod scratch;
mod tree;

use std::io;

use crate::crypto::{NameKeys, VolumeKeys};
use crate::store::backing::{Backing, Sync, Target};
use crate::store::check::finding::{Finding, State, Subject};
use crate::store::renaming::place::Path;
use crate::store::renaming::scratch::Scratch;

pub use place::Stuck;

/// Told what the walk does.
pub trait Watch {
    /// So many names were looked at since the last call.
    fn advanced(&self, names: u64);
    /// What opens under no key, or cannot be read.
    fn passed_over(&self, found: Finding);
    /// Whether to stop. What is done so far stays done.
    fn is_stopped(&self) -> bool;
}

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Only looks whether everything can be opened.
    Look,
    Seal,
}

/// What a walk came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Names of entries that were looked at.
    pub names: u64,
    /// Names of entries that were sealed anew.
    pub resealed: u64,
    /// What opens under no key: it is lost already.
    pub damaged: u64,
    /// What may open another time.
    pub unreadable: u64,
    /// It was stopped before its end.
    pub stopped: bool,
}

type Result<T> = std::result::Result<T, Stuck>;

/// Walks through the vault. With [`Pass::Seal`] `keys` have next ones, and everything is durable when this returns.
///
/// # Errors
/// Whatever could not be written.
pub fn run<B: Backing>(
    backing: &B,
    keys: &VolumeKeys,
    pass: Pass,
    watch: &dyn Watch,
) -> Result<Outcome> {
    let mut walk = Walk {
        backing,
        old: keys.names(),
        new: keys.next_names(),
        pass,
        watch,
        scratch: Scratch::open(backing)?,
        outcome: Outcome::default(),
    };
    if pass == Pass::Seal {
        // What an earlier walk did before it was killed: this one takes what is there for durable.
        backing.sync_all()?;
    }
    walk.tree()?;
    if !walk.outcome.stopped {
        walk.far_targets()?;
    }
    if pass == Pass::Seal {
        backing.sync_all()?;
        if !walk.outcome.stopped && walk.outcome.unreadable == 0 {
            walk.scratch.clear(backing)?;
        }
    }
    Ok(walk.outcome)
}

/// Under which keys something opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Old,
    New,
}

struct Walk<'a, B: Backing> {
    backing: &'a B,
    old: &'a NameKeys,
    /// `None` before they were added, when everything has to be old.
    new: Option<&'a NameKeys>,
    pass: Pass,
    watch: &'a dyn Watch,
    scratch: Scratch<B>,
    outcome: Outcome,
}

impl<B: Backing> Walk<'_, B> {
    /// What opens under the new keys, or under the old ones.
    fn either<T>(&self, open: impl Fn(&NameKeys) -> Option<T>) -> Option<(T, Age)> {
        let new = self.new.and_then(|keys| Some((open(keys)?, Age::New)));
        new.or_else(|| Some((open(self.old)?, Age::Old)))
    }

    /// The new keys, where something is to be sealed anew.
    fn sealing(&self) -> Option<&NameKeys> {
        self.new.filter(|_| self.pass == Pass::Seal)
    }

    fn is_there(&self, dir: &B::Dir, name: &[u8]) -> io::Result<bool> {
        match self.backing.stat(Target::At(dir, name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|_| true),
        }
    }

    fn damaged(&mut self, subject: Subject, path: &Path, why: impl Into<String>) {
        self.outcome.damaged += 1;
        self.tell(State::Damaged, subject, path, why.into());
    }

    fn unreadable(&mut self, subject: Subject, path: &Path, why: &io::Error) {
        self.outcome.unreadable += 1;
        self.tell(State::Unreadable, subject, path, why.to_string());
    }

    fn tell(&self, state: State, subject: Subject, path: &Path, why: String) {
        self.watch.passed_over(Finding {
            state,
            subject,
            path: path.plain.clone(),
            stored: path.stored.clone(),
            ranges: Vec::new(),
            gaps: Vec::new(),
            detail: format!("was passed over: {why}"),
        });
    }
}

fn remove<B: Backing>(backing: &B, dir: &B::Dir, name: &[u8]) -> io::Result<()> {
    match backing.unlink(dir, name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes what `file` holds durable, with its attributes.
fn sync_file<B: Backing>(backing: &B, file: &B::File) -> io::Result<()> {
    backing.sync(file, Sync::All)
}
