//! What a rotation tells while it is under way, and whether somebody wants it to stop.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::How;
use crate::cli::args::Verbosity;
use crate::cli::failure::Failure;
use crate::cli::finding;
use crate::cli::output::print;
use crate::cli::progress::Progress;
use crate::store::check::finding::Finding;
use crate::sys::signals::{self, Blocked, SignalFd};

/// Between two lines of progress in JSON.
const EVERY: Duration = Duration::from_secs(1);

/// See the module. Until it is dropped, signals that would end the process only ask it to stop.
pub(super) struct Report {
    pub how: How,
    pub progress: Progress,
    begun: Instant,
    /// When progress was told last, in JSON.
    told: Cell<Option<Instant>>,
    /// Of printing.
    failure: RefCell<Option<Failure>>,
    stopped: Cell<bool>,
    // Before the guard: signals are let through again when nobody waits for them here.
    signal: SignalFd,
    _blocked: Blocked,
}

impl Report {
    pub fn new(how: How) -> Result<Self, Failure> {
        let (blocked, signal) =
            signals::block(&signals::TERMINATION).map_err(|e| Failure::io("block signals", &e))?;
        Ok(Self {
            how,
            progress: Progress::new(how.verbosity != Verbosity::Quiet && !how.json),
            begun: Instant::now(),
            told: Cell::new(None),
            failure: RefCell::default(),
            stopped: Cell::new(false),
            signal,
            _blocked: blocked,
        })
    }

    pub fn is_stopped(&self) -> bool {
        if !self.stopped.get() && matches!(self.signal.is_pending(), Ok(true)) {
            self.stopped.set(true);
        }
        self.stopped.get()
    }

    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// A line in JSON, now and then: there may be more to tell than anybody reads.
    pub fn tell_progress(&self, progress: impl FnOnce() -> Value) {
        let now = Instant::now();
        if self.how.json && self.told.get().is_none_or(|at| now - at >= EVERY) {
            self.told.set(Some(now));
            self.print(&format!("{}\n", progress()));
        }
    }

    pub fn passed_over(&self, found: &Finding) {
        self.print(&match self.how.json {
            true => format!("{}\n", finding::json(found)),
            false => finding::text(found),
        });
    }

    fn print(&self, text: &str) {
        if let Err(e) = self.progress.above(|| print(text)) {
            self.failure.borrow_mut().get_or_insert(e);
        }
    }

    /// # Errors
    /// The first one of all the printing.
    pub fn check_printed(&self) -> Result<(), Failure> {
        self.failure.borrow_mut().take().map_or(Ok(()), Err)
    }
}

impl Drop for Report {
    /// A signal that came too late must not end the process before it has said how it ended.
    fn drop(&mut self) {
        while matches!(self.signal.is_pending(), Ok(true)) && self.signal.wait().is_ok() {}
    }
}
