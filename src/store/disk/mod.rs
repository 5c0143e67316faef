//! The real backing filesystem: one system call per operation, relative to directory descriptors, never following links.
//!
//! A signal never ends a call early: reads and writes are repeated, the other calls are not interruptible on disk
//! filesystems. An owner may keep his own file unreadable (mode 0200, 0000); the kernel has then already decided that
//! he may do what he asks, so the mode is widened for the moment of the open.

mod listing;

use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{
    self, Advice, AtFlags, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat,
    Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::store::backing::{
    Allocate, Attr, Backing, OpenFor, RenameMode, SeekTo, SetTime, Space, Sync, Target, Time,
    XattrMode,
};

pub use listing::DiskListing;

/// Whether reading may change access times on the backing filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atime {
    /// As the backing filesystem's own mount options have it.
    Backing,
    /// Never: for `noatime` and read-only mounts.
    Keep,
}

/// A directory of the real filesystem.
#[derive(Debug)]
pub struct Disk {
    root: OwnedFd,
    atime: Atime,
    /// Held while a mode is widened for a moment, so that no one takes the widened mode for the real one.
    widening: Mutex<()>,
}

impl Disk {
    /// # Errors
    /// Those of opening a directory.
    pub fn open(root: &Path, atime: Atime) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(root.as_os_str().as_bytes(), flags, Mode::empty())?;
        Ok(Self {
            root,
            atime,
            widening: Mutex::new(()),
        })
    }

    /// Opens so that access times stay, where they are to.
    fn quietly(
        &self,
        flags: OFlags,
        open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>,
    ) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if self.atime == Atime::Keep {
            match open(flags | OFlags::NOATIME) {
                Err(Errno::PERM) => {}
                other => return other,
            }
        }
        open(flags)
    }

    fn open_quietly(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        flags: OFlags,
    ) -> rustix::io::Result<OwnedFd> {
        self.quietly(flags | OFlags::NOFOLLOW, |flags| {
            fs::openat(dir, name, flags, Mode::empty())
        })
    }

    /// Calls `op`, and where the owner may list his own directory but not search it, again with that right for a moment:
    /// a listing needs what lies behind the names.
    fn searching<R>(
        &self,
        dir: &OwnedFd,
        op: impl Fn() -> rustix::io::Result<R>,
    ) -> rustix::io::Result<R> {
        self.as_owner(dir, Mode::XUSR, op)
    }

    /// Calls `op`, and where the owner's own mode bits forbid it, again with `widened` bits for a moment.
    fn as_owner<R>(
        &self,
        of: &OwnedFd,
        widened: Mode,
        mut op: impl FnMut() -> rustix::io::Result<R>,
    ) -> rustix::io::Result<R> {
        match op() {
            Err(Errno::ACCESS) => {}
            other => return other,
        }
        let _alone = self.widening.lock().unwrap_or_else(PoisonError::into_inner);
        let stat = fs::fstat(of)?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        let own = stat.st_uid == rustix::process::geteuid().as_raw();
        let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        if !own || link || mode.contains(widened) {
            return op();
        }
        let path = magic_path(of);
        fs::chmod(path.as_str(), mode | widened)?;
        let outcome = op();
        fs::chmod(path.as_str(), mode)?;
        outcome
    }

    /// Opens, and where the owner's own mode bits forbid it, opens with `widened` bits for a moment.
    fn open_as_owner(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        flags: OFlags,
        widened: Mode,
    ) -> io::Result<OwnedFd> {
        match self.searching(dir, || self.open_quietly(dir, name, flags)) {
            Err(Errno::ACCESS) => {}
            other => return Ok(other?),
        }
        // Not by its name: the owner may not be allowed to search the directory either.
        let pinned = self.pin(dir, name)?;
        let path = magic_path(&pinned);
        Ok(self.as_owner(&pinned, widened, || {
            self.quietly(flags, |flags| fs::open(path.as_str(), flags, Mode::empty()))
        })?)
    }

    /// A descriptor that only names the object.
    fn pin(&self, dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.searching(dir, || fs::openat(dir, name, flags, Mode::empty()))
    }

    /// A path that names exactly the object of `target`, for calls that have no `*at` form.
    fn with_path<R>(
        &self,
        target: Target<'_, Self>,
        mut call: impl FnMut(&str) -> rustix::io::Result<R>,
    ) -> io::Result<R> {
        match target {
            Target::Dir(fd) | Target::File(fd) => Ok(call(&magic_path(fd))?),
            Target::At(dir, name) => Ok(call(&magic_path(&self.pin(dir, name)?))?),
        }
    }
}

fn magic_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn attr(stat: &Stat) -> Attr {
    let time = |sec, nsec| Time {
        sec,
        nsec: nsec as u32,
    };
    Attr {
        ino: stat.st_ino,
        dev: stat.st_dev,
        mode: stat.st_mode,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
    }
}

fn timespec(time: SetTime) -> Timespec {
    match time {
        SetTime::Keep => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        SetTime::Now => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        SetTime::At(t) => Timespec {
            tv_sec: t.sec,
            tv_nsec: t.nsec.into(),
        },
    }
}

impl Backing for Disk {
    type Dir = OwnedFd;
    type File = OwnedFd;
    type Listing = DiskListing;
    type Pin = OwnedFd;

    fn root(&self) -> io::Result<OwnedFd> {
        self.root.try_clone()
    }

    fn open_dir(&self, parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        self.open_as_owner(parent, name, flags, Mode::RWXU)
    }

    fn list(&self, dir: &OwnedFd) -> io::Result<DiskListing> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = match self.open_quietly(dir, b".", flags) {
            // Going to `.` needs the right to search, which listing does not.
            Err(Errno::ACCESS) => self.as_owner(dir, Mode::RUSR, || {
                let path = magic_path(dir);
                fs::open(path.as_str(), flags | OFlags::CLOEXEC, Mode::empty())
            })?,
            other => other?,
        };
        Ok(DiskListing::new(fd))
    }

    fn sync_dir(&self, dir: &OwnedFd) -> io::Result<()> {
        Ok(fs::fsync(dir)?)
    }

    fn create(&self, dir: &OwnedFd, name: &[u8], mode: u32) -> io::Result<OwnedFd> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(dir, name, flags, Mode::from_raw_mode(mode))?)
    }

    fn open(&self, dir: &OwnedFd, name: &[u8], how: OpenFor) -> io::Result<OwnedFd> {
        let (flags, widened) = match how {
            OpenFor::Read => (OFlags::RDONLY, Mode::RUSR),
            OpenFor::ReadWrite => (OFlags::RDWR, Mode::RUSR | Mode::WUSR),
        };
        // A vault that someone else writes to may hold a fifo or a link where a file was: never wait on it or follow it.
        let fd = self
            .open_as_owner(dir, name, flags | OFlags::NONBLOCK, widened)
            .map_err(|e| match e.raw_os_error() {
                Some(libc::ELOOP | libc::EISDIR | libc::ENXIO) => Errno::IO.into(),
                _ => e,
            })?;
        match FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(fd),
            _ => Err(Errno::IO.into()),
        }
    }

    fn pin(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(dir, name, flags, Mode::empty())?)
    }

    fn read_at(&self, file: &OwnedFd, buf: &mut [u8], off: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match rustix::io::pread(file, &mut buf[done..], off + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    fn will_read(&self, file: &OwnedFd, off: u64, len: u64) {
        let _ = fs::fadvise(file, off, NonZero::new(len), Advice::WillNeed);
    }

    fn write_at(&self, file: &OwnedFd, buf: &[u8], off: u64) -> Result<(), (usize, io::Error)> {
        let mut done = 0;
        while done < buf.len() {
            match rustix::io::pwrite(file, &buf[done..], off + done as u64) {
                Ok(0) => return Err((done, Errno::NOSPC.into())),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err((done, e.into())),
            }
        }
        Ok(())
    }

    fn set_len(&self, file: &OwnedFd, len: u64) -> io::Result<()> {
        Ok(fs::ftruncate(file, len)?)
    }

    fn sync(&self, file: &OwnedFd, what: Sync) -> io::Result<()> {
        let synced = match what {
            Sync::Data => fs::fdatasync(file),
            Sync::All => fs::fsync(file),
        };
        Ok(synced?)
    }

    fn allocate(&self, file: &OwnedFd, how: Allocate, off: u64, len: u64) -> io::Result<()> {
        let mode = match how {
            Allocate::Reserve => FallocateFlags::empty(),
            Allocate::Punch => FallocateFlags::PUNCH_HOLE,
            Allocate::Zero => FallocateFlags::ZERO_RANGE,
        };
        Ok(fs::fallocate(
            file,
            mode | FallocateFlags::KEEP_SIZE,
            off,
            len,
        )?)
    }

    fn start_write_back(&self, file: &OwnedFd, off: u64, len: u64) {
        // Linux begins to write the range at once, and drops what of it is clean: reading it again is what the mount's own
        // cache is for. A failure shows when the file is synced.
        let _ = fs::fadvise(file, off, NonZero::new(len), Advice::DontNeed);
    }

    fn seek(&self, file: &OwnedFd, to: SeekTo, off: u64) -> io::Result<Option<u64>> {
        let from = match to {
            SeekTo::Data => fs::SeekFrom::Data(off),
            SeekTo::Hole => fs::SeekFrom::Hole(off),
        };
        match fs::seek(file, from) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NXIO) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn mkdir(&self, dir: &OwnedFd, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(fs::mkdirat(dir, name, Mode::from_raw_mode(mode))?)
    }

    fn mknod(&self, dir: &OwnedFd, name: &[u8], mode: u32, rdev: u64) -> io::Result<()> {
        let file_type = FileType::from_raw_mode(mode);
        Ok(fs::mknodat(
            dir,
            name,
            file_type,
            Mode::from_raw_mode(mode),
            rdev,
        )?)
    }

    fn symlink(&self, dir: &OwnedFd, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(fs::symlinkat(target, dir, name)?)
    }

    fn readlink(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<Vec<u8>> {
        let target = self.searching(dir, || fs::readlinkat(dir, name, Vec::new()))?;
        Ok(target.into_bytes())
    }

    fn link(&self, from: (&OwnedFd, &[u8]), to: (&OwnedFd, &[u8])) -> io::Result<()> {
        Ok(fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty())?)
    }

    fn rename(
        &self,
        from: (&OwnedFd, &[u8]),
        to: (&OwnedFd, &[u8]),
        mode: RenameMode,
    ) -> io::Result<()> {
        let flags = match mode {
            RenameMode::Replace => return Ok(fs::renameat(from.0, from.1, to.0, to.1)?),
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Exchange => RenameFlags::EXCHANGE,
        };
        Ok(fs::renameat_with(from.0, from.1, to.0, to.1, flags)?)
    }

    fn unlink(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
        Ok(fs::unlinkat(dir, name, AtFlags::empty())?)
    }

    fn rmdir(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
        Ok(fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
    }

    fn stat(&self, target: Target<'_, Self>) -> io::Result<Attr> {
        let stat = match target {
            Target::At(dir, name) => {
                self.searching(dir, || fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?
            }
            Target::Dir(fd) | Target::File(fd) => fs::fstat(fd)?,
        };
        Ok(attr(&stat))
    }

    fn chmod(&self, target: Target<'_, Self>, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match target {
            Target::Dir(fd) | Target::File(fd) => Ok(fs::fchmod(fd, mode)?),
            at => self.with_path(at, |path| fs::chmod(path, mode)),
        }
    }

    fn chown(
        &self,
        target: Target<'_, Self>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> io::Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        let given = match target {
            Target::At(dir, name) => fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
            Target::Dir(fd) | Target::File(fd) => fs::fchown(fd, uid, gid),
        };
        Ok(given?)
    }

    fn set_times(
        &self,
        target: Target<'_, Self>,
        atime: SetTime,
        mtime: SetTime,
    ) -> io::Result<()> {
        let times = Timestamps {
            last_access: timespec(atime),
            last_modification: timespec(mtime),
        };
        let set = match target {
            Target::At(dir, name) => fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW),
            Target::Dir(fd) | Target::File(fd) => fs::futimens(fd, &times),
        };
        Ok(set?)
    }

    fn get_xattr(&self, target: Target<'_, Self>, name: &[u8]) -> io::Result<Vec<u8>> {
        grow(|buf| match target {
            Target::Dir(fd) | Target::File(fd) => {
                Ok(self.as_owner(fd, Mode::RUSR, || fs::fgetxattr(fd, name, &mut *buf))?)
            }
            Target::At(dir, at) => {
                let pinned = self.pin(dir, at)?;
                let path = magic_path(&pinned);
                let get = || fs::getxattr(path.as_str(), name, &mut *buf);
                Ok(self.as_owner(&pinned, Mode::RUSR, get)?)
            }
        })
    }

    fn set_xattr(
        &self,
        target: Target<'_, Self>,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> io::Result<()> {
        let flags = match mode {
            XattrMode::Any => XattrFlags::empty(),
            XattrMode::Create => XattrFlags::CREATE,
            XattrMode::Replace => XattrFlags::REPLACE,
        };
        match target {
            Target::Dir(fd) | Target::File(fd) => Ok(fs::fsetxattr(fd, name, value, flags)?),
            at => self.with_path(at, |path| fs::setxattr(path, name, value, flags)),
        }
    }

    fn remove_xattr(&self, target: Target<'_, Self>, name: &[u8]) -> io::Result<()> {
        match target {
            Target::Dir(fd) | Target::File(fd) => Ok(fs::fremovexattr(fd, name)?),
            at => self.with_path(at, |path| fs::removexattr(path, name)),
        }
    }

    fn list_xattrs(&self, target: Target<'_, Self>) -> io::Result<Vec<u8>> {
        grow(|buf| match target {
            Target::Dir(fd) | Target::File(fd) => Ok(fs::flistxattr(fd, buf)?),
            at => self.with_path(at, |path| fs::listxattr(path, &mut *buf)),
        })
    }

    fn space(&self) -> io::Result<Space> {
        let s = fs::fstatvfs(self.root.as_fd())?;
        Ok(Space {
            block_size: s.f_bsize as u32,
            fragment_size: s.f_frsize as u32,
            blocks: s.f_blocks,
            blocks_free: s.f_bfree,
            blocks_available: s.f_bavail,
            files: s.f_files,
            files_free: s.f_ffree,
            name_max: s.f_namemax as u32,
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(fs::syncfs(&self.root)?)
    }
}

/// Calls an xattr read with a growing buffer. 64 KiB is the kernel's limit for values and lists.
fn grow(read: impl Fn(&mut [u8]) -> io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; 512];
    loop {
        match read(&mut buf) {
            Ok(n) => {
                buf.truncate(n);
                return Ok(buf);
            }
            Err(e) if e.raw_os_error() == Some(libc::ERANGE) && buf.len() < 65536 => {
                buf.resize(65536, 0);
            }
            Err(e) => return Err(e),
        }
    }
}
