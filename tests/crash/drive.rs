//! Carries a workload out on the filesystem layer, call by call, and keeps its history.

use std::collections::BTreeMap;

use wardfs::fs::{Existing, Fh, Fs, ROOT, SetAttr};
use wardfs::store::backing::{RenameMode, SetTime, Sync, XattrMode};

use crate::disk::{Ino, Plan, SimDisk};
use crate::history::{Change, History, content};
use crate::lab::{self, CALLER, Lab, NEW_DIR, NEW_FILE};
use crate::place::Place;
use crate::step::{Act, After, Handles, Step, Workload};

pub const XATTR: &[u8] = b"user.note";
/// Events whose call failed were never answered.
pub const NEVER: usize = usize::MAX;

/// A workload that was carried out, up to its end or to the first call that failed.
pub struct Run {
    pub disk: SimDisk,
    /// Still open, if it could be.
    pub fs: Option<Fs<SimDisk>>,
    pub history: History,
    /// How long the log was when the volume had been opened.
    pub begin: usize,
    pub failed: Option<String>,
}

struct Driver<'l> {
    lab: &'l Lab,
    disk: SimDisk,
    fs: Option<Fs<SimDisk>>,
    handles: Handles,
    open: BTreeMap<Ino, Fh>,
    history: History,
}

/// Why a workload ends early.
enum Stop {
    /// A step has nothing to work on: this is no workload.
    Senseless,
    Failed(String),
}

type Done<T = ()> = Result<T, Stop>;

/// `None` if the steps make no sense in this order.
pub fn run(lab: &Lab, workload: &Workload, plan: Option<Plan>) -> Option<Run> {
    run_on(lab, lab.disk(), &lab.prepared, workload, plan)
}

/// On a disk that holds what `prepared` begins with.
pub fn run_on(
    lab: &Lab,
    disk: SimDisk,
    prepared: &History,
    workload: &Workload,
    plan: Option<Plan>,
) -> Option<Run> {
    let mut driver = Driver::new(lab, disk, prepared, workload.handles);
    let begin = driver.disk.log_len();
    driver.disk.plan(plan);
    let outcome = workload.steps.iter().try_for_each(|step| driver.step(step));
    let failed = match outcome {
        Ok(()) => None,
        Err(Stop::Senseless) => return None,
        Err(Stop::Failed(why)) => Some(why),
    };
    Some(Run {
        disk: driver.disk,
        fs: driver.fs,
        history: driver.history,
        begin,
        failed,
    })
}

/// The workload without the steps and syncs that make no sense in it.
pub fn sensible(lab: &Lab, workload: &Workload) -> Workload {
    let mut driver = Driver::new(lab, lab.disk(), &lab.prepared, workload.handles);
    let mut steps = Vec::new();
    for step in &workload.steps {
        let mut step = *step;
        match driver.act(&step.act) {
            Err(Stop::Senseless) => continue,
            Err(Stop::Failed(_)) => {
                steps.push(step);
                break;
            }
            Ok(()) => {}
        }
        let synced = step.act.place().map(|p| driver.sync(p, step.after));
        if matches!(synced, Some(Err(Stop::Senseless))) {
            step.after = After::Nothing;
        }
        steps.push(step);
        if workload.handles == Handles::Closed && driver.close_handles().is_err() {
            break;
        }
    }
    Workload {
        handles: workload.handles,
        steps,
    }
}

impl<'l> Driver<'l> {
    fn new(lab: &'l Lab, disk: SimDisk, prepared: &History, handles: Handles) -> Self {
        let fs = lab.open(&disk).expect("it was opened before");
        let mut history = prepared.clone();
        history.events[0].acked_at = disk.log_len();
        Self {
            lab,
            disk,
            fs: Some(fs),
            handles,
            open: BTreeMap::new(),
            history,
        }
    }

    fn fs(&self) -> &Fs<SimDisk> {
        self.fs.as_ref().expect("open but within a reopen")
    }

    /// Ends an event: what the history was told of beforehand was done by this call.
    fn call<T, E: std::fmt::Display>(&mut self, text: String, outcome: Result<T, E>) -> Done<T> {
        match outcome {
            Ok(done) => {
                let acked_at = self.disk.log_len();
                self.history.answered(text, acked_at);
                Ok(done)
            }
            Err(e) => {
                let why = format!("{text}: {e}");
                self.history.answered(text, NEVER);
                Err(Stop::Failed(why))
            }
        }
    }

    /// Looks a path up as the kernel does.
    fn ino(&self, place: Place) -> Done<Ino> {
        let parent = self.parent(place)?;
        let found = self.fs().lookup(parent, place.name());
        let found = found.map_err(|e| Stop::Failed(format!("lookup of {place}: {e}")))?;
        found.map(|entry| entry.attr.ino).ok_or(Stop::Senseless)
    }

    fn parent(&self, place: Place) -> Done<Ino> {
        place.parent().map_or(Ok(ROOT), |dir| self.ino(dir))
    }

    fn file(&self, place: Place) -> Done<Ino> {
        let ino = self.ino(place)?;
        match self.history.files.contains_key(&ino) {
            true => Ok(ino),
            false => Err(Stop::Senseless),
        }
    }

    fn free(&self, place: Place) -> Done<Ino> {
        let parent = self.parent(place)?;
        match self.history.latest_at(place) {
            None => Ok(parent),
            Some(_) => Err(Stop::Senseless),
        }
    }

    fn handle(&mut self, ino: Ino) -> Done<Fh> {
        if let Some(fh) = self.open.get(&ino) {
            return Ok(*fh);
        }
        let fh = self
            .fs()
            .open(ino, libc::O_RDWR)
            .map_err(|e| Stop::Failed(format!("open of inode {ino}: {e}")))?;
        self.open.insert(ino, fh);
        Ok(fh)
    }

    fn close_handles(&mut self) -> Done {
        for (ino, fh) in std::mem::take(&mut self.open) {
            self.fs()
                .release(fh)
                .map_err(|e| Stop::Failed(format!("release of inode {ino}: {e}")))?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Done {
        self.act(&step.act)?;
        if let Some(place) = step.act.place() {
            self.sync(place, step.after)?;
        }
        match self.handles {
            Handles::Kept => Ok(()),
            Handles::Closed => self.close_handles(),
        }
    }

    fn act(&mut self, act: &Act) -> Done {
        let text = act.to_string();
        match *act {
            Act::Create(p) => {
                let dir = self.free(p)?;
                let refuse = Existing::Refuse;
                let made = self.fs().create(CALLER, dir, p.name(), NEW_FILE, refuse);
                // After a failure its number is not known, and it may be there.
                let ino = made
                    .as_ref()
                    .map_or_else(|_| self.lost(dir, p), |m| m.0.attr.ino);
                self.history.makes_file(ino);
                self.enter(dir, p, ino);
                let (_, fh) = self.call(text, made)?;
                self.open.insert(ino, fh);
            }
            Act::Write(p, off, len) => self.write(text, p, off, len)?,
            Act::Append(p, len) => {
                let ino = self.file(p)?;
                let end = self.history.latest_content(ino).len() as u64;
                self.write(text, p, end, len)?;
            }
            Act::Truncate(p, len) => {
                let ino = self.file(p)?;
                let mut data = self.history.latest_content(ino).to_vec();
                let old = data.len() as u64;
                data.resize(len as usize, 0);
                let range = old.min(len)..old.max(len);
                self.history
                    .changes_content(ino, data, range, Change::Resize);
                let set = SetAttr {
                    mode: None,
                    uid: None,
                    gid: None,
                    size: Some(len),
                    atime: SetTime::Keep,
                    mtime: SetTime::Keep,
                };
                let done = self.fs().setattr(CALLER, ino, &set);
                self.call(text, done)?;
            }
            Act::Punch(p, off, len) => {
                let ino = self.file(p)?;
                let fh = self.handle(ino)?;
                let mut data = self.history.latest_content(ino).to_vec();
                let end = (off + len).min(data.len() as u64);
                if off >= end {
                    return Err(Stop::Senseless);
                }
                data[off as usize..end as usize].fill(0);
                self.history
                    .changes_content(ino, data, off..end, Change::Punch);
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                let done = self.fs().fallocate(CALLER, fh, off, len, mode);
                self.call(text, done)?;
            }
            Act::Rename(from, to) => self.rename(text, from, to)?,
            Act::Link(from, to) => {
                let ino = self.file(from)?;
                let dir = self.free(to)?;
                self.enter(dir, to, ino);
                let done = self.fs().link(ino, dir, to.name());
                self.call(text, done)?;
            }
            Act::Unlink(p) => {
                self.file(p)?;
                let dir = self.parent(p)?;
                self.history.changes_tree(|tree| {
                    tree.remove(&(dir, p.name().to_vec()));
                });
                let done = self.fs().unlink(dir, p.name());
                self.call(text, done)?;
            }
            Act::Mkdir(p) => {
                let dir = self.free(p)?;
                let made = self.fs().mkdir(CALLER, dir, p.name(), NEW_DIR);
                let ino = made
                    .as_ref()
                    .map_or_else(|_| self.lost(dir, p), |m| m.attr.ino);
                self.enter(dir, p, ino);
                self.call(text, made)?;
            }
            Act::Rmdir(p) => {
                let victim = self.ino(p)?;
                let dir = self.parent(p)?;
                if self.history.tree().keys().any(|(d, _)| *d == victim) {
                    return Err(Stop::Senseless);
                }
                self.history.changes_tree(|tree| {
                    tree.remove(&(dir, p.name().to_vec()));
                });
                let done = self.fs().rmdir(dir, p.name());
                self.call(text, done)?;
            }
            Act::SetXattr(p) => {
                let ino = self.file(p)?;
                let value = format!("value {}", self.history.next()).into_bytes();
                self.history.changes_xattr(ino, Some(value.clone()));
                let done = self.fs().setxattr(ino, XATTR, &value, XattrMode::Any);
                self.call(text, done)?;
            }
            Act::Sync(p) => {
                self.ino(p)?;
            }
            Act::Commit => {
                let done = lab::commit(self.fs());
                self.call(text, done)?;
            }
            Act::Checkpoint => {
                let done = lab::checkpoint(self.fs());
                self.call(text, done)?;
            }
            Act::Reseal | Act::Rotate => {
                let runs = match act {
                    Act::Reseal => 1,
                    _ => u64::MAX,
                };
                let done = lab::rotate(self.fs(), runs);
                self.call(text, done)?;
            }
            Act::Reopen => {
                self.close_handles()?;
                self.history.syncs_all();
                let closed = self.fs().close();
                self.call(text, closed)?;
                self.fs = None;
                self.open_again()?;
            }
            Act::Kill => {
                self.open.clear();
                self.fs = None;
                self.open_again()?;
            }
        }
        Ok(())
    }

    fn open_again(&mut self) -> Done {
        let opened = self.lab.open(&self.disk);
        self.fs = Some(self.call("open again".into(), opened)?);
        Ok(())
    }

    /// The number of an object whose creation failed, if it is there.
    fn lost(&self, dir: Ino, place: Place) -> Ino {
        let found = self.fs().lookup(dir, place.name());
        found.ok().flatten().map_or(0, |entry| entry.attr.ino)
    }

    fn enter(&mut self, dir: Ino, place: Place, ino: Ino) {
        self.history.changes_tree(|tree| {
            tree.insert((dir, place.name().to_vec()), ino);
        });
    }

    fn write(&mut self, text: String, p: Place, off: u64, len: u64) -> Done {
        let ino = self.file(p)?;
        let fh = self.handle(ino)?;
        let new = content(self.history.next(), off, len as usize);
        let mut data = self.history.latest_content(ino).to_vec();
        let old = data.len() as u64;
        data.resize((off + len).max(old) as usize, 0);
        data[off as usize..(off + len) as usize].copy_from_slice(&new);
        let range = off.min(old)..off + len;
        self.history
            .changes_content(ino, data, range, Change::Write);
        let done = self.fs().write(fh, off, &new);
        self.call(text, done)
    }

    fn rename(&mut self, text: String, from: Place, to: Place) -> Done {
        let moved = self.ino(from)?;
        let (old_dir, new_dir) = (self.parent(from)?, self.parent(to)?);
        let target = self.history.latest_at(to);
        let is_file = |ino| self.history.files.contains_key(&ino);
        if from == to || target.is_some_and(|t| t == moved || is_file(t) != is_file(moved)) {
            return Err(Stop::Senseless);
        }
        // A directory that is replaced must be empty, and none goes below itself.
        let has_entries = |ino| self.history.tree().keys().any(|(d, _)| *d == ino);
        if target.is_some_and(|t| !is_file(t) && has_entries(t)) || to.parent() == Some(from) {
            return Err(Stop::Senseless);
        }
        self.history.changes_tree(|tree| {
            tree.remove(&(old_dir, from.name().to_vec()));
            tree.insert((new_dir, to.name().to_vec()), moved);
        });
        let mode = RenameMode::Replace;
        let done = self
            .fs()
            .rename((old_dir, from.name()), (new_dir, to.name()), mode);
        self.call(text, done)
    }

    fn sync(&mut self, place: Place, after: After) -> Done {
        let what = match after {
            After::Nothing => return Ok(()),
            After::Fsync => Sync::All,
            After::Fdatasync => Sync::Data,
            After::FsyncDir => {
                let dir = self.parent(place)?;
                return self.sync_dir(dir, format!("fsync of the directory of {place}"));
            }
        };
        let text = format!("{what:?} sync of {place}");
        let ino = self.ino(place)?;
        if !self.history.files.contains_key(&ino) {
            return self.sync_dir(ino, text);
        }
        let fh = self.handle(ino)?;
        self.history.syncs_file(ino, what);
        let done = self.fs().fsync(fh, what);
        self.call(text, done)
    }

    fn sync_dir(&mut self, dir: Ino, text: String) -> Done {
        let fh = self
            .fs()
            .opendir(dir)
            .map_err(|e| Stop::Failed(format!("opendir: {e}")))?;
        self.history.syncs_dir(dir);
        let done = self.fs().fsyncdir(fh);
        let _ = self.fs().releasedir(fh);
        self.call(text, done)
    }
}
