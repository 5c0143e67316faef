//! Steps of workloads, and their text, from which a workload can be repeated.

use std::fmt;
use std::str::FromStr;

use crate::place::Place;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Create(Place),
    Write(Place, u64, u64),
    Append(Place, u64),
    Truncate(Place, u64),
    Punch(Place, u64, u64),
    Rename(Place, Place),
    Link(Place, Place),
    Unlink(Place),
    Mkdir(Place),
    Rmdir(Place),
    SetXattr(Place),
    /// Nothing but the sync that follows.
    Sync(Place),
    Commit,
    Checkpoint,
    Reopen,
    /// The process dies, and the volume is opened again at once.
    Kill,
    /// The first chunks of a rotation are sealed anew.
    Reseal,
    /// All that there is, up to where the old key may be wiped.
    Rotate,
}

/// What is synced after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Nothing,
    Fsync,
    Fdatasync,
    FsyncDir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub act: Act,
    pub after: After,
}

/// Whether a file stays open between the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handles {
    Kept,
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    pub handles: Handles,
    pub steps: Vec<Step>,
}

impl Act {
    /// The place whose object or directory a sync after it concerns.
    pub fn place(&self) -> Option<Place> {
        match *self {
            Self::Create(p)
            | Self::Write(p, ..)
            | Self::Append(p, _)
            | Self::Truncate(p, _)
            | Self::Punch(p, ..)
            | Self::Rename(_, p)
            | Self::Link(_, p)
            | Self::Unlink(p)
            | Self::Mkdir(p)
            | Self::Rmdir(p)
            | Self::SetXattr(p)
            | Self::Sync(p) => Some(p),
            Self::Commit
            | Self::Checkpoint
            | Self::Reopen
            | Self::Kill
            | Self::Reseal
            | Self::Rotate => None,
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(p) => write!(f, "create {p}"),
            Self::Write(p, off, len) => write!(f, "write {p} {off} {len}"),
            Self::Append(p, len) => write!(f, "append {p} {len}"),
            Self::Truncate(p, len) => write!(f, "truncate {p} {len}"),
            Self::Punch(p, off, len) => write!(f, "punch {p} {off} {len}"),
            Self::Rename(a, b) => write!(f, "rename {a} {b}"),
            Self::Link(a, b) => write!(f, "link {a} {b}"),
            Self::Unlink(p) => write!(f, "unlink {p}"),
            Self::Mkdir(p) => write!(f, "mkdir {p}"),
            Self::Rmdir(p) => write!(f, "rmdir {p}"),
            Self::SetXattr(p) => write!(f, "setxattr {p}"),
            Self::Sync(p) => write!(f, "sync {p}"),
            Self::Commit => f.write_str("commit"),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Reopen => f.write_str("reopen"),
            Self::Kill => f.write_str("kill"),
            Self::Reseal => f.write_str("reseal"),
            Self::Rotate => f.write_str("rotate"),
        }
    }
}

impl FromStr for Act {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |word: &str| word.parse::<u64>().map_err(|e| format!("{word}: {e}"));
        Ok(match words[..] {
            ["create", p] => Self::Create(p.parse()?),
            ["write", p, off, len] => Self::Write(p.parse()?, number(off)?, number(len)?),
            ["append", p, len] => Self::Append(p.parse()?, number(len)?),
            ["truncate", p, len] => Self::Truncate(p.parse()?, number(len)?),
            ["punch", p, off, len] => Self::Punch(p.parse()?, number(off)?, number(len)?),
            ["rename", a, b] => Self::Rename(a.parse()?, b.parse()?),
            ["link", a, b] => Self::Link(a.parse()?, b.parse()?),
            ["unlink", p] => Self::Unlink(p.parse()?),
            ["mkdir", p] => Self::Mkdir(p.parse()?),
            ["rmdir", p] => Self::Rmdir(p.parse()?),
            ["setxattr", p] => Self::SetXattr(p.parse()?),
            ["sync", p] => Self::Sync(p.parse()?),
            ["commit"] => Self::Commit,
            ["checkpoint"] => Self::Checkpoint,
            ["reopen"] => Self::Reopen,
            ["kill"] => Self::Kill,
            ["reseal"] => Self::Reseal,
            ["rotate"] => Self::Rotate,
            _ => return Err(format!("no step is called {text}")),
        })
    }
}

const AFTERS: [(After, &str); 4] = [
    (After::Nothing, ""),
    (After::Fsync, "fsync"),
    (After::Fdatasync, "fdatasync"),
    (After::FsyncDir, "fsyncdir"),
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.act)?;
        match AFTERS.iter().find(|(after, _)| *after == self.after) {
            Some((_, word)) if !word.is_empty() => write!(f, ", {word}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (act, word) = text.split_once(',').unwrap_or((text, ""));
        let after = AFTERS
            .iter()
            .find(|(_, w)| *w == word.trim())
            .ok_or_else(|| format!("no sync is called {word}"))?;
        Ok(Self {
            act: act.parse()?,
            after: after.0,
        })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.handles {
            Handles::Kept => "kept",
            Handles::Closed => "closed",
        })?;
        for step in &self.steps {
            write!(f, "; {step}")?;
        }
        Ok(())
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(';').map(str::trim);
        let handles = match parts.next() {
            Some("kept") => Handles::Kept,
            Some("closed") => Handles::Closed,
            other => return Err(format!("kept or closed, not {other:?}")),
        };
        let steps = parts
            .filter(|p| !p.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { handles, steps })
    }
}
