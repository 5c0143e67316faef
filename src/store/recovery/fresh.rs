//! New files without records: all that is known is the directory in which they were made, and when that began.
//!
//! A file is taken for new if it changed since, and nothing that is older authenticates in it. What was synced is whole,
//! so only what never was is ever cut off.

use std::collections::HashSet;
use std::sync::Arc;

use crate::format::file::{HEADER_LEN, NONCE_LEN};
use crate::store::backing::{Attr, Backing, Kind, Target, Time};
use crate::store::error::{Error, Result};
use crate::store::recovery::log::Cover;
use crate::store::recovery::report::shown;
use crate::store::recovery::resolve::{Child, Entry, join};
use crate::store::recovery::view::History;
use crate::store::recovery::{Origin, Run};

/// File times are coarser than the clock, and a little older.
const SLACK_NS: i64 = 1_000_000_000;

/// How sure it is that a file is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It lies in a directory of which the journal says so.
    Covered,
    /// Only its own chunks can tell.
    None,
}

impl<B: Backing> Run<'_, B> {
    /// Mends the new files in the directories that the journal names.
    pub(super) fn mend_covered(&mut self, covers: &[Cover]) {
        let mut visited = HashSet::new();
        let mut missing = HashSet::new();
        for cover in covers {
            match self.finder.covered(&cover.path, cover.ino) {
                Ok(Some((path, dir))) => self.mend_tree(path, dir, &mut visited),
                Ok(None) => {
                    missing.insert(cover.ino);
                }
                Err(e) => self.failed(&cover.path, &e),
            }
        }
        if missing.is_empty() || self.env.origin == Origin::Copy {
            return;
        }
        let mut found = Vec::new();
        let unseen = self.finder.walk(&mut |_, path, _, children| {
            let dirs = children.iter().filter(|c| c.kind == Kind::Dir);
            let hits = dirs.filter(|c| missing.contains(&c.ino));
            found.extend(hits.map(|c| join(path, &c.name)));
            Ok(())
        });
        self.all_failed(unseen);
        for path in found {
            match self.finder.dir(&path) {
                Ok(Some(dir)) => self.mend_tree(path, dir, &mut visited),
                Ok(None) => {}
                Err(e) => self.failed(&path, &e),
            }
        }
    }

    fn all_failed(&mut self, failed: Vec<(Vec<u8>, Error)>) {
        for (path, e) in failed {
            self.failed(&path, &e);
        }
    }

    /// Goes through a directory and the new ones below it.
    fn mend_tree(&mut self, path: Vec<u8>, dir: Arc<B::Dir>, visited: &mut HashSet<u64>) {
        let mut waiting = vec![(path, dir)];
        while let Some((path, dir)) = waiting.pop() {
            let done = self.mend_dir(&path, &dir, visited);
            let below = done.unwrap_or_else(|e| {
                self.failed(&path, &e);
                Vec::new()
            });
            for path in below {
                match self.finder.dir(&path) {
                    Ok(Some(dir)) => waiting.push((path, dir)),
                    Ok(None) => {}
                    Err(e) => self.failed(&path, &e),
                }
            }
        }
    }

    /// Answers the directories in which new files may be too.
    fn mend_dir(
        &mut self,
        path: &[u8],
        dir: &Arc<B::Dir>,
        visited: &mut HashSet<u64>,
    ) -> Result<Vec<Vec<u8>>> {
        let attr = self.env.backing.stat(Target::Dir(&**dir))?;
        if !visited.insert(attr.ino) {
            return Ok(Vec::new());
        }
        let mut below = Vec::new();
        for child in self.finder.children(dir)? {
            let at = join(path, &child.name);
            if let Err(e) = self.mend_child(path, dir, &child, &mut below) {
                self.failed(&at, &e);
            }
        }
        Ok(below)
    }

    fn mend_child(
        &mut self,
        path: &[u8],
        dir: &Arc<B::Dir>,
        child: &Child,
        below: &mut Vec<Vec<u8>>,
    ) -> Result<()> {
        let backing = self.env.backing;
        match child.kind {
            Kind::Dir => {
                let attr = backing.stat(Target::At(&**dir, &child.name))?;
                if self.env.origin == Origin::Copy || self.is_recent(&attr) {
                    below.push(join(path, &child.name));
                }
            }
            Kind::File if !self.done.contains(&child.ino) => {
                let attr = backing.stat(Target::At(&**dir, &child.name))?;
                if self.is_recent(&attr)
                    && let Some(entry) = self.finder.file_in(dir, path, &child.name)?
                {
                    self.mend_new(&entry, Proof::Covered)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// In a copy: looks at everything that may have changed while it was made.
    pub(super) fn verify_copied(&mut self) {
        let mut recent = Vec::new();
        let mut failed = Vec::new();
        let backing = self.env.backing;
        let (origin, since, done) = (self.env.origin, self.since, &self.done);
        let unseen = self.finder.walk(&mut |_, path, dir, children| {
            for child in children.iter().filter(|c| c.kind == Kind::File) {
                let at = join(path, &child.name);
                match backing.stat(Target::At(&**dir, &child.name)) {
                    Ok(attr) if is_since(since, origin, &attr) && !done.contains(&attr.ino) => {
                        recent.push(at);
                    }
                    Ok(_) => {}
                    Err(e) => failed.push((at, e.into())),
                }
            }
            Ok(())
        });
        self.all_failed(unseen);
        self.all_failed(failed);
        for path in recent {
            let mended = match self.finder.file(&path) {
                Ok(Some(entry)) => self.mend_new(&entry, Proof::None),
                Ok(None) => Ok(()),
                Err(e) => Err(e),
            };
            if let Err(e) = mended {
                self.failed(&path, &e);
            }
        }
    }

    /// A file that changed since the last checkpoint and has no records.
    fn mend_new(&mut self, entry: &Entry<B>, proof: Proof) -> Result<()> {
        if !self.done.insert(entry.attr.ino) {
            return Ok(());
        }
        let (head, got) = self
            .finder
            .head::<{ HEADER_LEN + NONCE_LEN }>(&entry.file)?;
        if is_void(&head[..got]) {
            // Without a proof it may be an old file that the copy has missed.
            if proof == Proof::Covered {
                return self.make_empty(entry);
            }
            // An empty one is taken for what a crash left of a new one, if there was a crash.
            if got > 0 || self.env.found.is_some_and(|found| found.clean) {
                self.report.damaged.push(shown(&entry.path));
            }
            return Ok(());
        }
        let Some(keys) = self.finder.keys(&head[..got]) else {
            // The header is one sector: a crash leaves all of it or nothing.
            self.report.damaged.push(shown(&entry.path));
            return Ok(());
        };
        let nonce = &head[HEADER_LEN..];
        let is_old = got == head.len()
            && nonce.iter().any(|b| *b != 0)
            && nonce
                .first_chunk()
                .and_then(|n| keys.peek_meta(n))
                .is_some_and(|m| m.seq < self.limits.durable);
        let proof = match (is_old, self.env.origin) {
            (true, Origin::InPlace) => return Ok(()),
            // It was there before, and may have been copied in the middle of a change.
            (true, Origin::Copy) => Proof::None,
            (false, _) => proof,
        };
        self.mend(entry, &keys, &History::of_new_file(), proof)
    }

    fn is_recent(&self, attr: &Attr) -> bool {
        is_since(self.since, self.env.origin, attr)
    }
}

/// A copy has change times of its own.
fn is_since(since: i64, origin: Origin, attr: &Attr) -> bool {
    let time = match origin {
        Origin::InPlace => attr.ctime,
        Origin::Copy => attr.mtime,
    };
    nanoseconds(time) >= since
}

fn nanoseconds(time: Time) -> i64 {
    time.sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.nsec.into())
}

/// Whether a file's first bytes are those of one whose header never reached the disk.
pub(super) fn is_void(head: &[u8]) -> bool {
    head.len() < HEADER_LEN || head[..HEADER_LEN].iter().all(|b| *b == 0)
}

/// When the writes began that may be incomplete, in nanoseconds since 1970.
///
/// A mount that began but did not get through its recovery moved `opened_at`; the window that it added still leads back.
pub(super) fn since(opened_at: i64, windows: &[(i64, i64)]) -> i64 {
    let mut begin = opened_at;
    for (from, to) in windows.iter().rev() {
        if *to < begin {
            break;
        }
        begin = begin.min(*from);
    }
    begin.saturating_sub(SLACK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_recovery_does_not_hide_what_was_before_it() {
        let s = SLACK_NS;
        assert_eq!(since(100 * s, &[]), 99 * s);
        assert_eq!(since(100 * s, &[(10 * s, 50 * s)]), 99 * s);
        assert_eq!(
            since(100 * s, &[(10 * s, 50 * s), (60 * s, 100 * s)]),
            59 * s
        );
        assert_eq!(
            since(100 * s, &[(10 * s, 60 * s), (60 * s, 100 * s)]),
            9 * s
        );
        assert_eq!(since(i64::MIN, &[]), i64::MIN);
    }

    #[test]
    fn only_nothing_is_void() {
        assert!(is_void(b"") && is_void(&[0; 80]) && is_void(&[7; 63]));
        assert!(!is_void(&[7; 64]));
    }
}
