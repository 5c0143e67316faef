//! What a check finds, one thing at a time.

use crate::store::backing::Backing;
use crate::store::check::node::Place;
use crate::store::recovery;
use crate::store::volume::Volume;

/// What is the matter, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not what wardfs wrote, and not mended.
    Damaged,
    /// It was damaged or left over, and is whole again or gone.
    Repaired,
    /// The filesystem below did not hand it out, so nothing is known of it.
    Unreadable,
    /// A trace of an interrupted operation; it harms nobody.
    Leftover,
    /// Not of wardfs.
    Foreign,
    /// A running mount was writing it all the time.
    InUse,
}

impl State {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Repaired => "repaired",
            Self::Unreadable => "unreadable",
            Self::Leftover => "leftover",
            Self::Foreign => "foreign",
            Self::InUse => "in-use",
        }
    }
}

/// What it is that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Header,
    Superblock,
    Journal,
    Directory,
    DirectoryId,
    Name,
    NameFile,
    Symlink,
    Target,
    Attribute,
    File,
    Temporary,
}

impl Subject {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "volume header",
            Self::Superblock => "superblock",
            Self::Journal => "journal",
            Self::Directory => "directory",
            Self::DirectoryId => "directory id",
            Self::Name => "name",
            Self::NameFile => "name file",
            Self::Symlink => "symbolic link",
            Self::Target => "link target",
            Self::Attribute => "extended attribute",
            Self::File => "file",
            Self::Temporary => "temporary file",
        }
    }
}

/// Plaintext bytes from `start` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    pub start: u64,
    pub end: u64,
}

/// Ranges kept one by one.
const RANGES: usize = 1 << 16;

/// Adds a range behind the others; one that begins where the last one ends, or in it, is joined to it. So is one too
/// many, with what lies between.
pub fn add_range(ranges: &mut Vec<ByteRange>, new: ByteRange) {
    let full = ranges.len() >= RANGES;
    match ranges.last_mut() {
        Some(last) if new.start >= last.start && (full || new.start <= last.end) => {
            last.end = last.end.max(new.end);
        }
        _ => ranges.push(new),
    }
}

/// Puts ranges in order and joins those that touch or overlap.
pub fn tidy(ranges: &mut Vec<ByteRange>) {
    ranges.sort_by_key(|r| r.start);
    let all = std::mem::take(ranges);
    for range in all {
        add_range(ranges, range);
    }
}

/// One line of a report.
#[derive(Debug, Clone)]
pub struct Finding {
    pub state: State,
    pub subject: Subject,
    /// In the mount, relative to it; empty for what is not in the tree.
    pub path: Vec<u8>,
    /// In the vault, relative to it.
    pub stored: Vec<u8>,
    /// Of a file: which bytes a reader does not get.
    pub ranges: Vec<ByteRange>,
    /// Of a file that was salvaged: which bytes are zeros in its copy although they may not have been.
    pub gaps: Vec<ByteRange>,
    /// What it is about, in words.
    pub detail: String,
}

impl Finding {
    /// Something of the vault that is not in the tree.
    pub fn of_vault(
        state: State,
        subject: Subject,
        stored: &str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            state,
            subject,
            path: Vec::new(),
            stored: stored.as_bytes().to_vec(),
            ranges: Vec::new(),
            gaps: Vec::new(),
            detail: detail.into(),
        }
    }

    /// It was never synced, and a crash explains it.
    pub(super) fn crash_left(&mut self) {
        self.state = State::Leftover;
        self.detail += "; a crash left it so, before it was synced";
    }

    pub(super) fn at<B: Backing>(
        place: &Place<'_, B>,
        state: State,
        subject: Subject,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            state,
            subject,
            path: place.path(),
            stored: place.stored_path(),
            ranges: Vec::new(),
            gaps: Vec::new(),
            detail: detail.into(),
        }
    }
}

/// Who is told of findings, from several threads.
pub trait Watch<B: Backing>: Sync {
    fn found(&self, finding: &Finding);
    /// How far the journal is read, and files are put in order, before the check.
    fn recovering(&self, progress: recovery::Progress);
    /// The vault is open; what recovery found is known.
    fn opened(&self, volume: &Volume<B>);
}
