//! The contract: what a volume may show after a crash, given what was done and synced before it.

use std::collections::BTreeMap;

use wardfs::store::backing::Sync;

use crate::disk::Ino;
use crate::history::{Change, FileHistory, History, Tree, Version};
use crate::names;
use crate::observe::Observed;

/// What the backing filesystem promises of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Changes of names get to the disk in order.
    Ordered,
    /// Only what was synced is there for certain.
    Weak,
    /// Whatever a call answered is there: nothing but the process was lost.
    Everything,
}

/// One thing that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub class: &'static str,
    pub text: String,
}

/// A moment in a history: which events had answered.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'h> {
    pub history: &'h History,
    /// Events before this one had answered; this one may be under way.
    pub done: usize,
    pub promise: Promise,
}

impl Moment<'_> {
    /// Whether anything of the event may be there.
    pub fn begun(&self, event: usize) -> bool {
        event <= self.done
    }

    /// Whether the event, a sync, holds.
    pub fn answered(&self, event: usize) -> bool {
        event < self.done
    }

    /// The last moment at which everything was durable.
    pub fn all_synced(&self) -> usize {
        if self.promise == Promise::Everything {
            return self.done;
        }
        let syncs = self.history.all_syncs.iter().copied();
        syncs.filter(|e| self.answered(*e)).max().unwrap_or(0)
    }

    /// The last moment at which the file's content, or with [`Sync::All`] its attributes, was durable.
    fn file_synced(&self, file: &FileHistory, what: Sync) -> usize {
        let counts = |(event, how): &&(usize, Sync)| {
            self.answered(*event) && (what == Sync::Data || *how == Sync::All)
        };
        let own = file.syncs.iter().filter(counts).map(|(e, _)| *e).max();
        own.unwrap_or(0).max(self.all_synced())
    }
}

impl Moment<'_> {
    /// Whether an attribute of this file was durable once.
    pub fn has_synced_xattr(&self, ino: Ino) -> bool {
        let Some(file) = self.history.files.get(&ino) else {
            return true;
        };
        let synced = self.file_synced(file, Sync::All);
        let set =
            |(event, value): &(usize, Option<Vec<u8>>)| *event < synced.max(1) && value.is_some();
        file.xattrs.iter().any(set)
    }
}

/// All that is wrong with what was seen.
pub fn judge(moment: Moment<'_>, seen: &Observed) -> Vec<Problem> {
    let mut problems = Vec::new();
    names::judge(moment, seen, &mut problems);
    for (ino, content) in &seen.files {
        let Some(file) = moment.history.files.get(ino) else {
            problems.push(Problem {
                class: "unknown file",
                text: format!("inode {ino} was never made"),
            });
            continue;
        };
        match content {
            Ok(content) => judge_content(moment, *ino, file, content, &mut problems),
            Err(e) => problems.push(Problem {
                class: match moment.file_synced(file, Sync::Data) > file.made {
                    true => "unreadable file with synced content",
                    false if file.made == 0 => "unreadable file with synced content",
                    false => "unreadable file, never synced",
                },
                text: format!("inode {ino} ({}): {e}", name_of(moment.history, *ino)),
            }),
        }
        judge_xattr(moment, *ino, file, seen, &mut problems);
    }
    problems
}

/// Some name that the inode ever had.
pub fn name_of(history: &History, ino: Ino) -> String {
    let named = |tree: &Tree| {
        let (dir, name) = tree.iter().find(|(_, i)| **i == ino)?.0;
        let text: String = String::from_utf8_lossy(name).chars().take(8).collect();
        Some(format!("{dir}/{text}"))
    };
    let found = history.trees.iter().rev().find_map(|(_, tree)| named(tree));
    found.unwrap_or_else(|| "nameless".into())
}

/// The versions that may be seen: the durable one and all that came after it.
fn candidates<'f>(moment: Moment<'_>, file: &'f FileHistory) -> &'f [Version] {
    let synced = moment.file_synced(file, Sync::Data);
    let durable = file.versions.iter().rposition(|v| v.event < synced.max(1));
    let end = file.versions.partition_point(|v| moment.begun(v.event));
    let begin = durable.unwrap_or(0);
    &file.versions[begin..end.max(begin + 1)]
}

fn judge_content(
    moment: Moment<'_>,
    ino: Ino,
    file: &FileHistory,
    content: &[u8],
    problems: &mut Vec<Problem>,
) {
    let versions = candidates(moment, file);
    if versions.iter().any(|v| v.content == content) {
        return;
    }
    let mut say = |class, what: String| {
        let name = name_of(moment.history, ino);
        let sizes: Vec<usize> = versions.iter().map(|v| v.content.len()).collect();
        let text = format!("inode {ino} ({name}), legal versions of sizes {sizes:?}: {what}");
        problems.push(Problem { class, text });
    };
    if !legal_size(versions, content.len()) {
        say("size", format!("it has {} bytes", content.len()));
    }
    // Bytes beyond the end of some legal version may be zeros: an extension that got its length only.
    let shortest = versions.iter().map(|v| v.content.len()).min().unwrap_or(0);
    let legal = |at: usize, byte: u8| {
        versions.iter().any(|v| v.content.get(at) == Some(&byte)) || byte == 0 && at >= shortest
    };
    if let Some(at) = (0..content.len()).find(|at| !legal(*at, content[*at])) {
        let all = (at..content.len()).take_while(|at| !legal(*at, content[*at]));
        let older = file
            .versions
            .iter()
            .rev()
            .find(|v| v.event < versions[0].event && v.content.get(at) == Some(&content[at]));
        let (class, what) = match (older, content[at]) {
            (Some(v), _) => ("old content", format!("the content of event {}", v.event)),
            (None, 0) => ("zeros", "zeros".into()),
            (None, _) => ("wrong content", "what was never written there".into()),
        };
        say(
            class,
            format!("{} bytes from {at} on are {what}", all.count()),
        );
    }
    // Bytes that an answered but unsynced write brought are not durable, even where they must be there.
    let stable = Moment {
        promise: Promise::Ordered,
        ..moment
    };
    let stable = candidates(stable, file)[0].content.len();
    let over_stable = |v: &Version| v.range.end <= stable as u64;
    let later = versions.iter().enumerate().skip(1);
    for (i, version) in later.filter(|(_, v)| over_stable(v)) {
        if let Some(at) = torn_at(versions, i, content) {
            let event = &moment.history.events.get(version.event);
            let text = event.map_or("a write", |e| e.text.as_str());
            say(
                "torn write",
                format!("{text} is there in part only, from {at} on"),
            );
        }
    }
}

/// Old and new sizes, and in between for what grows.
fn legal_size(versions: &[Version], size: usize) -> bool {
    let whole = |v: &Version| v.content.len() == size;
    let grows = |pair: &[Version]| (pair[0].content.len()..=pair[1].content.len()).contains(&size);
    versions.iter().any(whole) || versions.windows(2).any(grows)
}

/// Where a write over durable bytes is neither wholly there nor wholly missing. Bytes that other unsynced changes touch
/// as well do not count.
fn torn_at(versions: &[Version], i: usize, content: &[u8]) -> Option<usize> {
    let (before, version) = (&versions[i - 1], &versions[i]);
    let end = version.range.end as usize;
    let stable = versions.iter().all(|v| v.content.len() >= end);
    if version.how != Change::Write || !stable || content.len() < end {
        return None;
    }
    let others: Vec<_> = versions
        .iter()
        .enumerate()
        .skip(1)
        .filter(|(j, _)| *j != i)
        .collect();
    let (mut seen_old, mut seen_new) = (false, false);
    let range = version.range.start as usize..end;
    for (at, byte) in range.clone().zip(&content[range]) {
        let (old, new) = (before.content[at], version.content[at]);
        let shared = others.iter().any(|(_, o)| o.range.contains(&(at as u64)));
        if old == new || shared {
            continue;
        }
        seen_old |= *byte == old;
        seen_new |= *byte == new;
        if seen_old && seen_new {
            return Some(at);
        }
    }
    None
}

fn judge_xattr(
    moment: Moment<'_>,
    ino: Ino,
    file: &FileHistory,
    seen: &Observed,
    problems: &mut Vec<Problem>,
) {
    let synced = moment.file_synced(file, Sync::All);
    let begin = file.xattrs.iter().rposition(|(e, _)| *e < synced.max(1));
    let legal: BTreeMap<usize, &Option<Vec<u8>>> = file
        .xattrs
        .iter()
        .skip(begin.unwrap_or(0))
        .filter(|(e, _)| moment.begun(*e))
        .map(|(e, value)| (*e, value))
        .collect();
    let what = match seen.xattrs.get(&ino) {
        Some(Ok(value)) if legal.values().any(|v| *v == value) || legal.is_empty() => return,
        Some(Ok(None)) => "is missing".to_owned(),
        Some(Ok(Some(_))) => "has an old or unknown value".to_owned(),
        Some(Err(e)) => format!("cannot be read: {e}"),
        None => return,
    };
    let name = name_of(moment.history, ino);
    problems.push(Problem {
        class: "extended attribute",
        text: format!("inode {ino} ({name}): it {what}"),
    });
}
