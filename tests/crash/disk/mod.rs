//! A disk in memory that logs every change, so that any state in which a power cut could leave it can be made.
//!
//! It behaves as a local filesystem does: inode numbers are not used twice, removed files live on while they are open,
//! times move with every change.

mod call;
mod image;
mod listing;
mod op;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use wardfs::store::backing::{Target, Time};

pub use image::{BLOCK, Body, Image, Ino, Node, ROOT_INO};
pub use op::{Keep, Logged, Mask, Op, Unplaced};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing.
    Error(i32),
    /// A write does half of its work and fails; another call just fails.
    Short(i32),
    /// A sync does nothing and says it did.
    Swallowed,
}

/// Which call goes wrong. Counted are those that `Fault` can strike.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub fault: Fault,
    pub at: usize,
    /// Later calls go wrong as well.
    pub lasting: bool,
}

/// How a call may fail on a real disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    Read,
    /// Takes space.
    Grow,
    Change,
    Sync,
}

#[derive(Debug)]
struct State {
    image: Image,
    log: Vec<Logged>,
    next_ino: Ino,
    next_cookie: u64,
    /// The last time that was given out, and how many seconds the clock is behind that of the machine.
    clock: Time,
    behind: i64,
    plan: Option<Plan>,
    counted: usize,
    struck: Vec<CallKind>,
}

/// A handle of the disk: a clone is the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
pub struct DirHandle(Ino);

#[derive(Debug)]
pub struct FileHandle(Ino);

fn error<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

impl SimDisk {
    /// A disk with this content, all of it durable, whose clock is so many seconds behind that of the machine.
    pub fn new(image: Image, behind: i64) -> Self {
        let state = State {
            next_ino: image.next_ino(),
            next_cookie: 1 << 20,
            image,
            log: Vec::new(),
            clock: wall_clock(behind),
            behind,
            plan: None,
            counted: 0,
            struck: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// With the clock of the machine, which the volume compares file times with.
    pub fn from_now(image: Image) -> Self {
        Self::new(image, 0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under it")
    }

    pub fn image(&self) -> Image {
        self.state().image.clone()
    }

    pub fn log_len(&self) -> usize {
        self.state().log.len()
    }

    pub fn log(&self) -> Vec<Logged> {
        self.state().log.clone()
    }

    /// From now on calls are counted, and the one that the plan names goes wrong.
    pub fn plan(&self, plan: Option<Plan>) {
        let mut state = self.state();
        state.plan = plan;
        state.counted = 0;
        state.struck.clear();
    }

    /// The calls that went wrong as planned.
    pub fn struck(&self) -> Vec<CallKind> {
        self.state().struck.clone()
    }
}

/// The machine's clock, so many seconds ago.
pub fn wall_clock(ago: i64) -> Time {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    Time {
        sec: now.as_secs() as i64 - ago,
        nsec: now.subsec_nanos(),
    }
}

impl State {
    /// A time later than all before it.
    fn tick(&mut self) -> Time {
        let now = wall_clock(self.behind);
        if now > self.clock {
            self.clock = now;
            return now;
        }
        self.clock.nsec += 1;
        if self.clock.nsec >= 1_000_000_000 {
            self.clock.nsec = 0;
            self.clock.sec += 1;
        }
        self.clock
    }

    fn node(&self, ino: Ino) -> io::Result<&Node> {
        self.image.node(ino).map_or_else(|| error(libc::ESTALE), Ok)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> io::Result<Ino> {
        if self.node(dir)?.entries().is_none() {
            return error(libc::ENOTDIR);
        }
        self.image
            .entry(dir, name)
            .map_or_else(|| error(libc::ENOENT), Ok)
    }

    fn free(&self, dir: Ino, name: &[u8]) -> io::Result<()> {
        if name.len() > 255 {
            return error(libc::ENAMETOOLONG);
        }
        if self.image.entry(dir, name).is_some() {
            return error(libc::EEXIST);
        }
        // A directory that was removed takes no entries.
        if dir != ROOT_INO && self.node(dir)?.nlink == 0 {
            return error(libc::ENOENT);
        }
        Ok(())
    }

    fn target(&self, target: Target<'_, SimDisk>) -> io::Result<Ino> {
        match target {
            Target::At(dir, name) => self.lookup(dir.0, name),
            Target::Dir(dir) => Ok(dir.0),
            Target::File(file) => Ok(file.0),
        }
    }

    /// Does it and logs it.
    fn perform(&mut self, op: Op) {
        let logged = Logged {
            op,
            time: self.tick(),
            cookie: self.next_cookie,
        };
        self.next_cookie += 2;
        self.image.apply(&logged, &Keep::ALL, Unplaced::Kept);
        self.log.push(logged);
    }

    fn make(&mut self, dir: Ino, name: &[u8], mode: u32, body: Body, rdev: u64) -> io::Result<Ino> {
        self.free(dir, name)?;
        let now = self.tick();
        let node = Node {
            rdev,
            ..Node::new(mode, body, now)
        };
        let ino = self.next_ino;
        self.next_ino += 1;
        self.perform(Op::Make {
            dir,
            name: name.to_vec(),
            ino,
            node,
        });
        Ok(ino)
    }

    /// Whether the call goes wrong, as planned. `None` if it does not.
    fn strike(&mut self, kind: CallKind) -> Option<Fault> {
        let plan = self.plan?;
        let counts = match plan.fault {
            Fault::Swallowed => kind == CallKind::Sync,
            Fault::Error(libc::ENOSPC | libc::EDQUOT) => {
                matches!(kind, CallKind::Grow | CallKind::Sync)
            }
            Fault::Error(_) => true,
            Fault::Short(_) => kind == CallKind::Grow,
        };
        if !counts {
            return None;
        }
        let no = self.counted;
        self.counted += 1;
        let hit = no == plan.at || plan.lasting && no > plan.at;
        if hit {
            self.struck.push(kind);
        }
        hit.then_some(plan.fault)
    }

    fn may(&mut self, kind: CallKind) -> io::Result<()> {
        match self.strike(kind) {
            Some(Fault::Error(errno) | Fault::Short(errno)) => error(errno),
            _ => Ok(()),
        }
    }

    /// Whether a sync is to be carried out.
    fn may_sync(&mut self) -> io::Result<bool> {
        match self.strike(CallKind::Sync) {
            Some(Fault::Error(errno) | Fault::Short(errno)) => error(errno),
            Some(Fault::Swallowed) => Ok(false),
            None => Ok(true),
        }
    }
}
