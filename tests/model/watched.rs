//! The real backing filesystem, with every call counted and, where a test wants it, refused.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use wardfs::store::backing::{
    Allocate, Attr, Backing, OpenFor, RenameMode, SeekTo, SetTime, Space, Sync, Target, XattrMode,
};
use wardfs::store::disk::{Disk, DiskListing};

/// What was called, and what is to fail.
#[derive(Debug, Default)]
pub struct Watch {
    counts: Mutex<BTreeMap<&'static str, u64>>,
    refused: Mutex<Option<Refused>>,
    /// A stored name that cannot be opened, and why.
    closed: Mutex<Option<(Vec<u8>, i32)>>,
    written: AtomicU64,
    gate: Mutex<Option<(&'static str, Arc<Gate>)>>,
}

/// Which calls fail, and how.
#[derive(Debug, Clone, Copy)]
struct Refused {
    call: &'static str,
    errno: i32,
    /// So many calls are let through first.
    skip: u32,
    once: bool,
}

/// Holds back every call of one name until it is opened.
#[derive(Debug, Default)]
pub struct Gate {
    /// How many have come, and whether it is open.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().expect("no panic under it");
        state.0 += 1;
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).expect("no panic under it");
        }
    }

    /// Waits until somebody waits for the gate.
    pub fn wait_for_one(&self) {
        let mut state = self.state.lock().expect("no panic under it");
        while state.0 == 0 {
            state = self.changed.wait(state).expect("no panic under it");
        }
    }

    /// How many have come.
    pub fn count(&self) -> usize {
        self.state.lock().expect("no panic under it").0
    }

    pub fn open(&self) {
        self.state.lock().expect("no panic under it").1 = true;
        self.changed.notify_all();
    }
}

impl Watch {
    /// The calls since the last time this was asked, as `name*count` in alphabetical order.
    pub fn take(&self) -> String {
        let counts = std::mem::take(&mut *self.counts.lock().expect("no panic under it"));
        counts
            .iter()
            .map(|(name, n)| format!("{name}*{n}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// From now on calls of this name fail.
    pub fn refuse(&self, call: &'static str, errno: i32) {
        self.refuse_as(Refused {
            call,
            errno,
            skip: 0,
            once: false,
        });
    }

    /// After `skip` more calls of this name, one fails.
    pub fn refuse_one(&self, call: &'static str, errno: i32, skip: u32) {
        self.refuse_as(Refused {
            call,
            errno,
            skip,
            once: true,
        });
    }

    fn refuse_as(&self, refused: Refused) {
        *self.refused.lock().expect("no panic under it") = Some(refused);
    }

    /// Whether a refusal waits for its call.
    pub fn is_refusing(&self) -> bool {
        self.refused.lock().expect("no panic under it").is_some()
    }

    /// From now on files of this stored name cannot be opened.
    pub fn refuse_to_open(&self, name: &[u8], errno: i32) {
        *self.closed.lock().expect("no panic under it") = Some((name.to_vec(), errno));
    }

    pub fn refuse_nothing(&self) {
        *self.refused.lock().expect("no panic under it") = None;
    }

    /// Bytes written to files so far.
    pub fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// From now on calls of this name wait for the gate to open.
    pub fn hold(&self, call: &'static str) -> Arc<Gate> {
        let gate = Arc::<Gate>::default();
        *self.gate.lock().expect("no panic under it") = Some((call, gate.clone()));
        gate
    }

    fn called(&self, name: &'static str) -> io::Result<()> {
        *self
            .counts
            .lock()
            .expect("no panic under it")
            .entry(name)
            .or_default() += 1;
        let gate = self.gate.lock().expect("no panic under it").clone();
        if let Some((_, gate)) = gate.filter(|(held, _)| *held == name) {
            gate.pass();
        }
        let mut refused = self.refused.lock().expect("no panic under it");
        match refused.as_mut().filter(|r| r.call == name) {
            None => Ok(()),
            Some(r) if r.skip > 0 => {
                r.skip -= 1;
                Ok(())
            }
            Some(r) => {
                let error = io::Error::from_raw_os_error(r.errno);
                refused.take_if(|r| r.once);
                Err(error)
            }
        }
    }
}

#[derive(Debug)]
pub struct Watched {
    pub disk: Disk,
    pub watch: Arc<Watch>,
}

fn inner(target: Target<'_, Watched>) -> Target<'_, Disk> {
    match target {
        Target::At(dir, name) => Target::At(dir, name),
        Target::Dir(dir) => Target::Dir(dir),
        Target::File(file) => Target::File(file),
    }
}

type At<'a> = (&'a OwnedFd, &'a [u8]);

impl Backing for Watched {
    type Dir = OwnedFd;
    type File = OwnedFd;
    type Listing = DiskListing;
    type Pin = OwnedFd;

    fn root(&self) -> io::Result<OwnedFd> {
        self.disk.root()
    }
    fn open_dir(&self, parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
        self.watch.called("open_dir")?;
        self.disk.open_dir(parent, name)
    }
    fn list(&self, dir: &OwnedFd) -> io::Result<DiskListing> {
        self.watch.called("list")?;
        self.disk.list(dir)
    }
    fn sync_dir(&self, dir: &OwnedFd) -> io::Result<()> {
        self.watch.called("sync_dir")?;
        self.disk.sync_dir(dir)
    }
    fn create(&self, dir: &OwnedFd, name: &[u8], mode: u32) -> io::Result<OwnedFd> {
        self.watch.called("create")?;
        self.disk.create(dir, name, mode)
    }
    fn open(&self, dir: &OwnedFd, name: &[u8], how: OpenFor) -> io::Result<OwnedFd> {
        self.watch.called("open")?;
        let closed = self.watch.closed.lock().expect("no panic under it");
        match &*closed {
            Some((closed, errno)) if closed == name => Err(io::Error::from_raw_os_error(*errno)),
            _ => self.disk.open(dir, name, how),
        }
    }
    fn pin(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
        self.watch.called("pin")?;
        self.disk.pin(dir, name)
    }
    fn read_at(&self, file: &OwnedFd, buf: &mut [u8], off: u64) -> io::Result<usize> {
        self.watch.called("read_at")?;
        self.disk.read_at(file, buf, off)
    }
    fn will_read(&self, file: &OwnedFd, off: u64, len: u64) {
        // A hint cannot be refused.
        let _ = self.watch.called("will_read");
        self.disk.will_read(file, off, len);
    }
    fn write_at(&self, file: &OwnedFd, buf: &[u8], off: u64) -> Result<(), (usize, io::Error)> {
        self.watch.called("write_at").map_err(|e| (0, e))?;
        let len = buf.len() as u64;
        self.watch.written.fetch_add(len, Ordering::Relaxed);
        self.disk.write_at(file, buf, off)
    }
    fn set_len(&self, file: &OwnedFd, len: u64) -> io::Result<()> {
        self.watch.called("set_len")?;
        self.disk.set_len(file, len)
    }
    fn sync(&self, file: &OwnedFd, what: Sync) -> io::Result<()> {
        self.watch.called("sync")?;
        self.disk.sync(file, what)
    }
    fn allocate(&self, file: &OwnedFd, how: Allocate, off: u64, len: u64) -> io::Result<()> {
        self.watch.called("allocate")?;
        self.disk.allocate(file, how, off, len)
    }
    fn start_write_back(&self, file: &OwnedFd, off: u64, len: u64) {
        if self.watch.called("start_write_back").is_ok() {
            self.disk.start_write_back(file, off, len);
        }
    }
    fn seek(&self, file: &OwnedFd, to: SeekTo, off: u64) -> io::Result<Option<u64>> {
        self.watch.called("seek")?;
        self.disk.seek(file, to, off)
    }
    fn mkdir(&self, dir: &OwnedFd, name: &[u8], mode: u32) -> io::Result<()> {
        self.watch.called("mkdir")?;
        self.disk.mkdir(dir, name, mode)
    }
    fn mknod(&self, dir: &OwnedFd, name: &[u8], mode: u32, rdev: u64) -> io::Result<()> {
        self.watch.called("mknod")?;
        self.disk.mknod(dir, name, mode, rdev)
    }
    fn symlink(&self, dir: &OwnedFd, name: &[u8], target: &[u8]) -> io::Result<()> {
        self.watch.called("symlink")?;
        self.disk.symlink(dir, name, target)
    }
    fn readlink(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<Vec<u8>> {
        self.watch.called("readlink")?;
        self.disk.readlink(dir, name)
    }
    fn link(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.watch.called("link")?;
        self.disk.link(from, to)
    }
    fn rename(&self, from: At<'_>, to: At<'_>, mode: RenameMode) -> io::Result<()> {
        self.watch.called("rename")?;
        self.disk.rename(from, to, mode)
    }
    fn unlink(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
        self.watch.called("unlink")?;
        self.disk.unlink(dir, name)
    }
    fn rmdir(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
        self.watch.called("rmdir")?;
        self.disk.rmdir(dir, name)
    }
    fn stat(&self, target: Target<'_, Self>) -> io::Result<Attr> {
        self.watch.called("stat")?;
        self.disk.stat(inner(target))
    }
    fn chmod(&self, target: Target<'_, Self>, mode: u32) -> io::Result<()> {
        self.watch.called("chmod")?;
        self.disk.chmod(inner(target), mode)
    }
    fn chown(
        &self,
        target: Target<'_, Self>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> io::Result<()> {
        self.watch.called("chown")?;
        self.disk.chown(inner(target), uid, gid)
    }
    fn set_times(
        &self,
        target: Target<'_, Self>,
        atime: SetTime,
        mtime: SetTime,
    ) -> io::Result<()> {
        self.watch.called("set_times")?;
        self.disk.set_times(inner(target), atime, mtime)
    }
    fn get_xattr(&self, target: Target<'_, Self>, name: &[u8]) -> io::Result<Vec<u8>> {
        self.watch.called("get_xattr")?;
        self.disk.get_xattr(inner(target), name)
    }
    fn set_xattr(
        &self,
        target: Target<'_, Self>,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> io::Result<()> {
        self.watch.called("set_xattr")?;
        self.disk.set_xattr(inner(target), name, value, mode)
    }
    fn remove_xattr(&self, target: Target<'_, Self>, name: &[u8]) -> io::Result<()> {
        self.watch.called("remove_xattr")?;
        self.disk.remove_xattr(inner(target), name)
    }
    fn list_xattrs(&self, target: Target<'_, Self>) -> io::Result<Vec<u8>> {
        self.watch.called("list_xattrs")?;
        self.disk.list_xattrs(inner(target))
    }
    fn space(&self) -> io::Result<Space> {
        self.watch.called("space")?;
        self.disk.space()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.watch.called("sync_all")?;
        self.disk.sync_all()
    }
}
