//! Content files: header, length, end, attributes and every chunk.
//!
//! Files are read as a mount would see them ([`view`](super::view)). Large files are shared out among the
//! threads in parts; the last part to be done reports.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::backing::Backing;
use crate::store::check::Check;
use crate::store::check::attribute::Attributes;
use crate::store::check::finding::{ByteRange, Finding, State, Subject, add_range};
use crate::store::check::node::{Node, Place};
use crate::store::check::pool::Pool;
use crate::store::check::raw::Raw;
use crate::store::check::salvage::OutFile;
use crate::store::check::sample::{RUN, path_number};
use crate::store::check::scan::Found;
use crate::store::check::tally::Tally;
use crate::store::check::view::View;

/// Plaintext bytes that one thread takes of a large file, at least.
const PART: u64 = 64 << 20;
/// The most parts of a file.
const PARTS: u64 = 1024;

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
    pub(super) task: FileTask<B>,
    pub(super) view: View<B>,
    pub(super) xattrs: Attributes,
    /// Only for salvage.
    pub(super) raw: Option<Raw>,
    /// Of the stored path, for the sample.
    pub(super) number: u64,
    pub(super) found: Mutex<Found>,
    left: AtomicUsize,
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
    pub(super) fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Backing> Check<'_, B> {
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
        let part = PART * whole.end.div_ceil(PART * PARTS).max(1);
        let parts: Vec<ByteRange> = (0..whole.end.div_ceil(part))
            .map(|i| ByteRange {
                start: i * part,
                end: whole.end.min((i + 1) * part),
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

    /// Whether no part of the file belongs to the sample.
    fn is_left_out(&self, view: &View<B>, number: u64) -> bool {
        let runs = view.data.size().div_ceil(RUN).max(1);
        self.plan
            .sample
            .is_some_and(|s| !(0..runs).any(|no| s.picks(number, no)))
    }
}
