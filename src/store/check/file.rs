//! Content files: header, length, end, attributes and every chunk.
//!
//! A file is read through [`DataFile`], so that it is seen as a mount would see it. Large files are shared out among the
//! threads in parts; the last part to be done reports.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::content::Buffer;
use crate::content::run::Damage;
use crate::crypto::ChunkNo;
use crate::store::backing::{Attr, Backing, OpenFor, Target};
use crate::store::check::attribute::Attributes;
use crate::store::check::finding::{ByteRange, Finding, State, Subject, add_range, tidy};
use crate::store::check::node::{Node, Place};
use crate::store::check::pool::Pool;
use crate::store::check::raw::Raw;
use crate::store::check::salvage::OutFile;
use crate::store::check::sample::{RUN, path_number};
use crate::store::check::tally::Tally;
use crate::store::check::{Check, Mode, PATIENCE, STEADY};
use crate::store::error::Error;
use crate::store::file::DataFile;

/// Plaintext bytes that are read at once.
const BLOCK: u64 = 1 << 20;
/// Plaintext bytes that one thread takes of a large file.
const PART: u64 = 64 << 20;

/// What a thread is given to do.
#[derive(Debug)]
pub enum Task<B: Backing> {
    File(FileTask<B>),
    Part(Arc<OpenFile<B>>, ByteRange),
}

/// A file to check.
#[derive(Debug)]
pub struct FileTask<B: Backing> {
    // Before the directory, whose attributes are set when it is dropped.
    pub out: Option<OutFile>,
    pub node: Arc<Node<B>>,
    pub name: Vec<u8>,
    pub stored: Vec<u8>,
    /// Plaintext bytes, as the walk saw it.
    pub size: u64,
}

/// A file that is being checked.
#[derive(Debug)]
pub struct OpenFile<B: Backing> {
    task: FileTask<B>,
    view: View<B>,
    xattrs: Attributes,
    /// Only for salvage.
    raw: Option<Raw>,
    /// Of the stored path, for the sample.
    number: u64,
    found: Mutex<Found>,
    left: AtomicUsize,
}

/// A file as it was when it was opened.
#[derive(Debug)]
pub(super) struct View<B: Backing> {
    pub data: DataFile<B>,
    pub attr: Attr,
}

/// What is wrong with a file.
#[derive(Debug, Default)]
pub(super) struct Found {
    damaged: Vec<ByteRange>,
    unreadable: Vec<ByteRange>,
    gaps: Vec<ByteRange>,
    /// The first reason of each kind; damage without a range is that of a file as a whole.
    reason: Option<String>,
    refusal: Option<String>,
}

impl Found {
    fn is_nothing(&self) -> bool {
        self.reason.is_none() && self.refusal.is_none()
    }

    fn add(&mut self, range: ByteRange, error: &Error) {
        let (ranges, reason) = match error {
            Error::Io(_) => (&mut self.unreadable, &mut self.refusal),
            _ => (&mut self.damaged, &mut self.reason),
        };
        if range.start < range.end {
            add_range(ranges, range);
        }
        reason.get_or_insert_with(|| error.to_string());
    }

    fn tidy(&mut self) {
        for ranges in [&mut self.damaged, &mut self.unreadable, &mut self.gaps] {
            tidy(ranges);
        }
    }

    /// The parts of the file in which something was found.
    fn ranges(&self) -> impl Iterator<Item = ByteRange> {
        self.damaged.iter().chain(&self.unreadable).copied()
    }
}

impl<B: Backing> View<B> {
    pub(super) fn file(&self) -> Option<&B::File> {
        match self.data.target() {
            Target::File(file) => Some(file),
            _ => None,
        }
    }

    fn whole(&self) -> ByteRange {
        ByteRange {
            start: 0,
            end: self.data.size(),
        }
    }
}

impl<B: Backing> FileTask<B> {
    pub(super) fn place(&self) -> Place<'_, B> {
        Place {
            node: &self.node,
            name: &self.name,
            stored: &self.stored,
        }
    }
}

impl<B: Backing> OpenFile<B> {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Backing> Check<'_, B> {
    /// Opens a file as a mount would: the one place where that is decided.
    pub(super) fn view(&self, task: &FileTask<B>) -> io::Result<View<B>> {
        let backing = self.volume.backing();
        let file = backing.open(task.node.dir.handle(), &task.stored, OpenFor::Read)?;
        let attr = backing.stat(Target::File(&file))?;
        let data = DataFile::open(self.volume, file, OpenFor::Read, &attr);
        Ok(View { data, attr })
    }

    /// Does one task.
    pub(super) fn work(&self, task: Task<B>, pool: &Pool<Task<B>>) {
        if self.has_failed() {
            return;
        }
        match task {
            Task::File(task) => self.check_file(task, pool),
            Task::Part(file, part) => {
                self.scan(&file, part);
                if file.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.finish(&file);
                }
            }
        }
    }

    fn check_file(&self, task: FileTask<B>, pool: &Pool<Task<B>>) {
        let view = match self.view(&task) {
            Ok(view) => view,
            Err(e) if self.has_gone(&e) => return,
            Err(e) => return self.tell_unopened(&task, &e),
        };
        let number = path_number(&task.place().stored_path());
        if self.is_left_out(&view, number) {
            return Tally::add(&self.tally.done, view.attr.size);
        }
        let (found, id) = self.look_at_frame(&view);
        let target = view.data.target();
        let xattrs = self.check_xattrs(&task.place(), target, id.as_ref().map(|id| &id[..]));
        let raw = match (&task.out, view.file()) {
            (Some(_), Some(file)) => Raw::open(self.volume, file),
            _ => None,
        };
        let whole = view.whole();
        let open = Arc::new(OpenFile {
            raw,
            xattrs,
            number,
            left: AtomicUsize::new(1),
            found: Mutex::new(found),
            task,
            view,
        });
        let bad_as_a_whole = id.is_none() && !open.found().is_nothing();
        if bad_as_a_whole || id.is_some() && !open.view.has_valid_length(self) {
            self.rescue_all(&open);
            return self.finish(&open);
        }
        let parts: Vec<ByteRange> = (0..whole.end.div_ceil(PART))
            .map(|i| ByteRange {
                start: i * PART,
                end: whole.end.min((i + 1) * PART),
            })
            .collect();
        match &parts[..] {
            [] => self.finish(&open),
            [only] => {
                self.scan(&open, *only);
                self.finish(&open);
            }
            _ => {
                open.left.store(parts.len(), Ordering::Release);
                let parts = parts.into_iter().rev();
                pool.push_parts(parts.map(|part| Task::Part(Arc::clone(&open), part)));
            }
        }
    }

    fn tell_unopened(&self, task: &FileTask<B>, error: &io::Error) {
        let mut whole = Vec::new();
        add_range(
            &mut whole,
            ByteRange {
                start: 0,
                end: task.size,
            },
        );
        let said = format!("it cannot be opened: {error}");
        let mut finding = Finding {
            ranges: whole.clone(),
            ..Finding::at(&task.place(), State::Unreadable, Subject::File, said)
        };
        if task.out.is_some() {
            Tally::add(&self.tally.lost, task.size);
            finding.gaps = whole;
        }
        self.tell(finding);
    }

    /// Header, length and end. Answers the file id, if the file has one.
    fn look_at_frame(&self, view: &View<B>) -> (Found, Option<[u8; 24]>) {
        let mut found = Found::default();
        if view.is_new(self) {
            return (found, None);
        }
        let id = match view.data.owner_id(self.volume) {
            Ok(id) => id,
            Err(e) => {
                found.add(view.whole(), &e);
                return (found, None);
            }
        };
        if !view.has_valid_length(self) {
            found.add(view.whole(), &Error::file(Damage::Length));
        } else if let Err(e) = view.data.verify_end(self.volume) {
            let size = view.data.size();
            let last = self.volume.geometry().last_chunk(size);
            let start = self.volume.geometry().plain_start(last);
            found.add(ByteRange { start, end: size }, &e);
        }
        (found, Some(id))
    }

    /// Whether no part of the file belongs to the sample.
    fn is_left_out(&self, view: &View<B>, number: u64) -> bool {
        let runs = view.data.size().div_ceil(RUN).max(1);
        self.plan
            .sample
            .is_some_and(|s| !(0..runs).any(|no| s.picks(number, no)))
    }

    /// Reads a part of a file, block by block.
    fn scan(&self, file: &OpenFile<B>, part: ByteRange) {
        let mut found = Found::default();
        let step = if self.plan.sample.is_some() {
            RUN
        } else {
            BLOCK
        };
        let mut plain = Buffer::of_len(step as usize);
        let mut start = part.start;
        while start < part.end && !self.has_failed() {
            let end = part.end.min(start + step);
            let picked = self
                .plan
                .sample
                .is_none_or(|s| s.picks(file.number, start / RUN));
            if picked {
                let block = ByteRange { start, end };
                self.read(file, &file.view, block, &mut plain, &mut found);
            }
            self.count_done(&file.view, start, end);
            start = end;
        }
        let mut all = file.found();
        all.damaged.append(&mut found.damaged);
        all.unreadable.append(&mut found.unreadable);
        all.gaps.append(&mut found.gaps);
        all.reason = all.reason.take().or(found.reason);
        all.refusal = all.refusal.take().or(found.refusal);
    }

    /// Reads one block, and chunk by chunk where that fails.
    fn read(
        &self,
        file: &OpenFile<B>,
        view: &View<B>,
        block: ByteRange,
        plain: &mut [u8],
        found: &mut Found,
    ) {
        let len = (block.end - block.start) as usize;
        let got = view.data.read(self.volume, block.start, &mut plain[..len]);
        if got.as_ref().is_ok_and(|got| *got == len) {
            Tally::add(&self.tally.verified, len as u64);
            self.put(file, block.start, &plain[..len]);
            return;
        }
        let geometry = self.volume.geometry();
        let mut start = block.start;
        while start < block.end {
            let no = geometry.chunk_of(start);
            let end = block.end.min(geometry.plain_start(ChunkNo(no.0 + 1)));
            let range = ByteRange { start, end };
            let len = (end - start) as usize;
            match view.data.read(self.volume, start, &mut plain[..len]) {
                Ok(got) if got == len => {
                    Tally::add(&self.tally.verified, len as u64);
                    self.put(file, start, &plain[..len]);
                }
                Ok(_) => {
                    found.add(range, &Error::chunk(no, Damage::Short));
                    self.rescue(file, no, range, found);
                }
                Err(e) => {
                    found.add(range, &e);
                    self.rescue(file, no, range, found);
                }
            }
            start = end;
        }
    }

    /// Writes to the salvage directory what authenticates of a chunk that a reader does not get.
    fn rescue(&self, file: &OpenFile<B>, no: ChunkNo, range: ByteRange, found: &mut Found) {
        if file.task.out.is_none() {
            return;
        }
        let chunk = match (&file.raw, file.view.file()) {
            (Some(raw), Some(stored)) => raw.chunk(self.volume, stored, no),
            _ => None,
        };
        let plain = chunk.map_or_else(Vec::new, |c| c.plain);
        let len = plain.len().min((range.end - range.start) as usize);
        self.put(file, range.start, &plain[..len]);
        let start = range.start + len as u64;
        if start < range.end {
            add_range(&mut found.gaps, ByteRange { start, ..range });
        }
    }

    /// As [`Check::rescue`], for a file of which a reader gets nothing.
    fn rescue_all(&self, file: &OpenFile<B>) {
        let mut found = Found::default();
        let (geometry, size) = (self.volume.geometry(), file.view.data.size());
        let mut start = 0;
        while start < size && file.task.out.is_some() && !self.has_failed() {
            let no = geometry.chunk_of(start);
            let end = size.min(geometry.plain_start(ChunkNo(no.0 + 1)));
            self.rescue(file, no, ByteRange { start, end }, &mut found);
            start = end;
        }
        Tally::add(&self.tally.done, file.view.attr.size);
        file.found().gaps = found.gaps;
    }

    fn put(&self, file: &OpenFile<B>, off: u64, plain: &[u8]) {
        if let Some(out) = &file.task.out
            && out.salvage().note(out.write(off, plain)).is_some()
        {
            Tally::add(&self.tally.salvaged, plain.len() as u64);
        }
    }

    /// Counts stored bytes, the header with the first ones.
    fn count_done(&self, view: &View<B>, start: u64, end: u64) {
        let geometry = self.volume.geometry();
        let stored = |off: u64| match off {
            0 => 0,
            _ if off == view.data.size() => view.attr.size,
            _ => geometry.stored_start(geometry.chunk_of(off)),
        };
        Tally::add(&self.tally.done, stored(end) - stored(start));
    }

    /// Everything was read: reports, after another look or repair where something was found.
    fn finish(&self, file: &OpenFile<B>) {
        let mut found = std::mem::take(&mut *file.found());
        found.tidy();
        let mut state = State::Damaged;
        if self.is_live() && !found.is_nothing() {
            match self.look_again(file, found) {
                Some((settled, still)) => (state, found) = (settled, still),
                None => return,
            }
        }
        let size = file.view.data.size();
        if let Some(out) = &file.task.out {
            let gaps = found.gaps.iter().map(|g| g.end - g.start).sum();
            Tally::add(&self.tally.lost, gaps);
            out.salvage()
                .note(out.finish(&file.view.attr, &file.xattrs));
        }
        if let Some(reason) = found.reason {
            let mut finding = Finding {
                ranges: found.damaged,
                gaps: std::mem::take(&mut found.gaps),
                ..Finding::at(&file.task.place(), state, Subject::File, reason)
            };
            if self.plan.mode == Mode::Repair && state == State::Damaged {
                self.mend(&file.task, &mut finding, size);
            }
            self.tell(finding);
        }
        if let Some(refusal) = found.refusal {
            let state = match state {
                State::Damaged => State::Unreadable,
                other => other,
            };
            self.tell(Finding {
                ranges: found.unreadable,
                gaps: found.gaps,
                ..Finding::at(&file.task.place(), state, Subject::File, refusal)
            });
        }
    }

    fn mend(&self, task: &FileTask<B>, finding: &mut Finding, size: u64) {
        match self.mend_end(task) {
            Ok(false) => {}
            Ok(true) if self.is_whole_now(task, &finding.ranges) => {
                finding.state = State::Repaired;
                let new = self.view(task).map_or(size, |v| v.data.size());
                finding.detail += &format!("; mended, it has {new} bytes");
            }
            Ok(true) => finding.detail += "; its end was mended, but not all of it",
            Err(e) => finding.detail += &format!("; it could not be mended: {e}"),
        }
    }

    /// Whether the end and these ranges, as far as they are still in the file, can be read.
    fn is_whole_now(&self, task: &FileTask<B>, ranges: &[ByteRange]) -> bool {
        let Ok(view) = self.view(task) else {
            return false;
        };
        let (found, _) = self.look_at_frame(&view);
        found.is_nothing() && self.reads(&view, ranges.iter().copied())
    }

    fn reads(&self, view: &View<B>, ranges: impl Iterator<Item = ByteRange>) -> bool {
        let mut plain = Buffer::of_len(BLOCK as usize);
        for range in ranges {
            let mut start = range.start;
            let stop = range.end.min(view.data.size());
            while start < stop {
                let len = (stop - start).min(BLOCK) as usize;
                match view.data.read(self.volume, start, &mut plain[..len]) {
                    Ok(got) if got == len => start += len as u64,
                    _ => return false,
                }
            }
        }
        true
    }

    /// What a running mount was writing at that moment is looked at again a little later.
    ///
    /// `None` if it has gone. Damage is what stays the same while nobody writes to the file.
    fn look_again(&self, file: &OpenFile<B>, mut found: Found) -> Option<(State, Found)> {
        let mut attr = file.view.attr;
        let mut steady = 0;
        for _ in 0..PATIENCE {
            self.wait();
            let view = match self.view(&file.task) {
                Ok(view) => view,
                Err(e) if self.has_gone(&e) => return None,
                Err(_) => return Some((State::Damaged, found)),
            };
            let (frame, _) = self.look_at_frame(&view);
            if frame.is_nothing() && self.reads(&view, found.ranges()) {
                self.put_again(file, &view, &mut found);
                return Some((
                    State::Damaged,
                    Found {
                        gaps: found.gaps,
                        ..Found::default()
                    },
                ));
            }
            let same = (attr.ino, attr.size, attr.mtime, attr.ctime)
                == (
                    view.attr.ino,
                    view.attr.size,
                    view.attr.mtime,
                    view.attr.ctime,
                );
            steady = if same { steady + 1 } else { 0 };
            if steady == STEADY {
                return Some((State::Damaged, found));
            }
            attr = view.attr;
        }
        Some((State::InUse, found))
    }

    /// Writes to the salvage directory what could be read at last.
    fn put_again(&self, file: &OpenFile<B>, view: &View<B>, found: &mut Found) {
        if file.task.out.is_none() {
            return;
        }
        let mut still = Found::default();
        let mut plain = Buffer::of_len(BLOCK as usize);
        for gap in &found.gaps {
            let mut start = gap.start;
            let stop = gap.end.min(view.data.size());
            while start < stop {
                let end = stop.min(start + BLOCK);
                self.read(file, view, ByteRange { start, end }, &mut plain, &mut still);
                start = end;
            }
        }
        found.gaps = still.gaps;
    }
}

impl<B: Backing> View<B> {
    /// An empty ciphertext file that is an empty file: what a crash left of it, or a running mount has not begun to
    /// write.
    fn is_new(&self, check: &Check<'_, B>) -> bool {
        let just_made = check.is_live() && self.attr.mtime.sec >= check.since - 1;
        self.attr.size == 0 && (just_made || check.volume.is_crash_leftover(&self.attr))
    }

    fn has_valid_length(&self, check: &Check<'_, B>) -> bool {
        let geometry = check.volume.geometry();
        geometry.plain_size(self.attr.size).is_ok()
    }
}
