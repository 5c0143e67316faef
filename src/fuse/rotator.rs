//! The thread that rotates the content keys of a mounted volume: it looks whether the header asks for it, takes up the
//! new epoch, seals everything anew, and wipes the old epoch when nothing uses it any more.
//!
//! The header says what is to be done, also after a crash: there is no other channel, and no secret ever passes.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::crypto::{Epoch, HeaderKeys};
use crate::format::rotation_record::RotationRecord;
use crate::fs::Fs;
use crate::fs::pace::Pace;
use crate::fs::rotate::{Skipped, Watch};
use crate::store::check::count;
use crate::store::check::tally::Tally;
use crate::store::disk::Atime;
use crate::store::file::Resealed;
use crate::store::rotation::{FinishError, HeaderWatch, Look, MAX_ERROR, Note, State, Worst};
use crate::store::{Disk, Error};

/// Between two looks at the header.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure to write.
const AGAIN: Duration = Duration::from_secs(30);

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Rotator {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn is_set(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits so long, or until the thread is to end. Answers whether it is.
    fn wait(&self, at_most: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let (stopped, _) = self
            .changed
            .wait_timeout_while(stopped, at_most, |stopped| !*stopped)
            .unwrap_or_else(PoisonError::into_inner);
        *stopped
    }
}

impl Rotator {
    pub fn start(fs: Arc<Fs<Disk>>, vault: PathBuf, keys: HeaderKeys) -> io::Result<Self> {
        // Sealing anew is not using: it leaves access times alone.
        let through = Disk::open(&vault, Atime::Keep)?;
        let stop = Arc::new(Stop::default());
        let worker = Worker {
            fs,
            through,
            header: RefCell::new(HeaderWatch::new(vault, keys)),
            order: Cell::new(None),
            stop: stop.clone(),
            looked: Cell::new(None),
            waits: Cell::new(None),
        };
        let thread = std::thread::Builder::new()
            .name("wardfs-rotate".into())
            .spawn(move || worker.run())?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Rotator {
    fn drop(&mut self) {
        *self
            .stop
            .stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It panics only with a defect, which was logged.
            let _ = thread.join();
        }
    }
}

/// What the header asks for.
#[derive(Debug, Clone, Copy)]
struct Order {
    target: Epoch,
    record: RotationRecord,
}

/// Until when the daemon waits although it could go on.
#[derive(Debug, Clone, Copy)]
enum Waits {
    /// For somebody who asks again.
    Asked(u32),
    Until(Instant),
}

struct Worker {
    fs: Arc<Fs<Disk>>,
    through: Disk,
    header: RefCell<HeaderWatch>,
    order: Cell<Option<Order>>,
    stop: Arc<Stop>,
    looked: Cell<Option<Instant>>,
    waits: Cell<Option<Waits>>,
}

impl Worker {
    fn run(&self) {
        loop {
            if self.look() {
                self.tell_order();
            }
            match self.order.get() {
                Some(order) if self.is_due(order) => self.attempt(order),
                _ => {}
            }
            if self.stop.wait(LOOK) {
                return;
            }
        }
    }

    fn is_due(&self, order: Order) -> bool {
        let record = order.record;
        let waits = match self.waits.get() {
            Some(Waits::Asked(asked)) => asked == record.asked,
            Some(Waits::Until(at)) => Instant::now() < at,
            None => false,
        };
        record.background && !record.paused && !waits && !self.fs.volume().is_read_only()
    }

    /// Looks at the header. Answers whether it asks for anything else than before.
    fn look(&self) -> bool {
        self.looked.set(Some(Instant::now()));
        let seen = match self.header.borrow_mut().look() {
            Ok(Look::Unchanged | Look::Busy) => return false,
            Ok(Look::Changed(seen)) => seen,
            Err(e) => {
                log::error!("the volume header cannot be used, what it asks for is not done: {e}");
                return false;
            }
        };
        let before = self.order.take();
        let is_under_way = seen.is_under_way();
        let (target, record) = (seen.keyring.current, seen.record);
        match self.fs.volume().keys().follow(seen.keyring) {
            Ok(None) => {}
            Ok(Some(epoch)) => log::info!("new content is encrypted with key {}", epoch.0),
            Err(_) => {
                log::error!(
                    "the volume header is not one that came after the one in use, and is not followed: \
                     somebody has put an older one back, or all key numbers were used since the volume was mounted"
                );
                return before.is_some();
            }
        }
        if !is_under_way {
            return before.is_some();
        }
        self.order.set(Some(Order { target, record }));
        before.is_none_or(|before| before.record != record)
    }

    /// While a walk is under way. Answers whether it is to go on.
    fn look_again(&self, attempt: &Attempt<'_>) -> bool {
        if self.looked.get().is_some_and(|at| at.elapsed() < LOOK) {
            return self.order.get().is_some();
        }
        self.look();
        let Some(order) = self.order.get() else {
            return false;
        };
        attempt.pace.set_rate(order.record.rate.map(mib));
        attempt.note(if order.record.paused {
            State::Paused
        } else {
            State::Running
        });
        true
    }

    fn tell_order(&self) {
        let Some(Order { record, .. }) = self.order.get() else {
            return;
        };
        match (record.background, record.paused) {
            (false, _) => {
                log::info!(
                    "a rotation is under way and waits for 'wardfs rotate' to be given again"
                );
                return;
            }
            (true, true) => log::info!("a rotation is under way, and paused"),
            (true, false) => log::info!("the content is encrypted anew"),
        }
        let note = Note {
            asked: record.asked,
            state: if record.paused {
                State::Paused
            } else {
                State::Running
            },
            ..Note::default()
        };
        note.write(self.header.borrow().vault());
    }

    fn attempt(&self, order: Order) {
        self.waits.set(None);
        let attempt = Attempt {
            worker: self,
            tally: Tally::default(),
            pace: Pace::new(order.record.rate.map(mib)),
            resealed: Cell::new(0),
            passed_over: Cell::new(0),
            worst: Cell::new(None),
            error: RefCell::new(None),
            begun: Instant::now(),
        };
        let ended = AtomicBool::new(false);
        let (through, tally) = (&self.through, &attempt.tally);
        let walked = std::thread::scope(|scope| {
            scope.spawn(|| count::count(through, tally, &|| ended.load(Ordering::Relaxed)));
            let walked = self.fs.rotate(through, &attempt, tally);
            ended.store(true, Ordering::Relaxed);
            walked
        });
        let asked = self.order.get().map_or(order, |order| order).record.asked;
        match walked {
            Ok(walked) if walked.is_complete() => {
                attempt.note(State::Complete);
                self.finish(order.target);
            }
            Ok(walked) if walked.stopped => {}
            Ok(walked) => {
                log::warn!(
                    "{} files or directories were not encrypted anew, and the old content key is kept; \
                     'wardfs check' names them",
                    walked.skipped
                );
                self.waits.set(Some(Waits::Asked(asked)));
                attempt.note(State::Incomplete);
            }
            Err(e) => {
                log::error!("the rotation is interrupted, and will be tried again: {e}");
                let text = e.to_string().chars().take(MAX_ERROR).collect();
                *attempt.error.borrow_mut() = Some(text);
                self.waits.set(Some(Waits::Until(Instant::now() + AGAIN)));
                attempt.note(State::Failing);
            }
        }
    }

    /// Until it succeeds: nothing can be sealed in an old epoch any more.
    fn finish(&self, target: Epoch) {
        loop {
            let finished = self.header.borrow_mut().finish(target);
            match finished {
                Ok(wiped) => {
                    log::info!("the rotation is complete; old content keys destroyed: {wiped}");
                    return;
                }
                Err(FinishError::Rotation(e)) => {
                    log::error!("the old content key is kept: {e}");
                    return;
                }
                Err(FinishError::Volume(e)) => {
                    log::debug!("the old content key is not destroyed yet: {e}");
                }
            }
            if self.stop.wait(LOOK) {
                return;
            }
        }
    }
}

fn mib(rate: u32) -> u64 {
    u64::from(rate) << 20
}

/// One walk.
struct Attempt<'w> {
    worker: &'w Worker,
    tally: Tally,
    pace: Pace,
    resealed: Cell<u64>,
    passed_over: Cell<u64>,
    worst: Cell<Option<Worst>>,
    error: RefCell<Option<String>>,
    begun: Instant,
}

impl Watch for Attempt<'_> {
    fn advanced(&self, done: Resealed) {
        self.resealed.set(self.resealed.get() + done.resealed);
        self.pace.advanced(done.data);
        loop {
            let goes_on = self.worker.look_again(self);
            let paused = self.worker.order.get().is_some_and(|o| o.record.paused);
            let early = match paused {
                true => LOOK,
                false => self.pace.early(),
            };
            if !goes_on || early.is_zero() || self.worker.stop.wait(early.min(LOOK)) {
                return;
            }
            if paused {
                self.pace.rested();
            }
        }
    }

    fn skipped(&self, skipped: &Skipped) {
        // In stored names: plaintext ones do not belong into a log.
        log::warn!(
            "{} was not encrypted anew: {}",
            skipped.stored.escape_ascii(),
            skipped.error
        );
        let worst = match skipped.error {
            Error::Io(_) => Worst::Unreadable,
            _ => Worst::Damaged,
        };
        self.passed_over.set(self.passed_over.get() + 1);
        self.worst.set(self.worst.get().max(Some(worst)));
    }

    fn is_stopped(&self) -> bool {
        self.worker.stop.is_set() || !self.worker.look_again(self)
    }
}

impl Attempt<'_> {
    fn note(&self, state: State) {
        let number = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        let counted = self.tally.counted.load(Ordering::Acquire);
        let note = Note {
            asked: self.worker.order.get().map_or(0, |o| o.record.asked),
            state,
            files: number(&self.tally.files),
            read: self.pace.total(),
            resealed: self.resealed.get(),
            done: number(&self.tally.done),
            total: counted.then(|| number(&self.tally.total)),
            bytes_per_second: self.pace.per_second(),
            passed_over: self.passed_over.get(),
            worst: self.worst.get(),
            error: self.error.borrow().clone(),
            seconds: self.begun.elapsed().as_secs(),
        };
        note.write(self.worker.header.borrow().vault());
    }
}
