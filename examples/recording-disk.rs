//! A disk for tests whose power can be cut: `recording-disk IMAGE DIRECTORY [--lie]`.
//!
//! Mounts a filesystem on DIRECTORY with two files. `disk` has the size and content of IMAGE; a loop device on it is a
//! disk that remembers every write since the last flush. `control` takes one command, `cut SEED TEAR WHEN`: of the
//! writes since the last flush some are kept, some dropped and some torn into pieces of TEAR bytes, chosen by SEED; the
//! rest is taken back out of IMAGE, and from then on every request fails. WHEN is `now`, `flush` (instead of the next
//! flush) or a number of writes that are still to come. Read, `control` says when that was, in nanoseconds of
//! CLOCK_MONOTONIC, and what became of the writes; until then it is empty.
//! With `--lie` the disk acknowledges flushes and does nothing about them. It never touches anything but IMAGE.
//!
//! scripts/crash-real uses it, and says there what it shows.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, SessionACL, WriteFlags,
};

use rustix::time::{ClockId, clock_gettime};

const DISK: INodeNo = INodeNo(2);
const CONTROL: INodeNo = INodeNo(3);
const TTL: Duration = Duration::from_secs(3600);
/// What a disk that lies can lose at most: a cache of this size.
const CACHE: usize = 64 << 20;

/// One write, and what stood there before it.
struct Recorded {
    offset: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

struct Disk {
    image: File,
    len: u64,
    lie: bool,
    /// Since the last flush, in order. The image already holds them.
    writes: Vec<Recorded>,
    bytes: usize,
    /// The power that is going to fail, and when.
    due: Option<(Cut, When)>,
    /// What became of the writes when the power was cut.
    outcome: Option<String>,
}

#[derive(Clone, Copy)]
struct Cut {
    seed: u64,
    tear: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    Flush,
    /// After so many writes.
    Writes(u64),
}

/// splitmix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }
}

/// What a disk may do with the writes it had not been told to flush.
enum Fate {
    Keep,
    Drop,
    /// Only the pieces of which the mask, cycled, has a bit set.
    Tear(u64),
}

/// One fate for each of `count` writes. A disk may have written all, none, those up to some moment, any of them, or all
/// but one; and the one under way is torn.
fn fates(dice: &mut Dice, count: usize) -> (&'static str, Vec<Fate>) {
    let tear = |dice: &mut Dice| match dice.below(3) {
        0 => Fate::Tear(dice.next()),
        // From the front, and from the back.
        1 => Fate::Tear((1 << (1 + dice.below(7))) - 1),
        _ => Fate::Tear(u64::MAX << (1 + dice.below(7))),
    };
    let torn_at = dice.below(count);
    let profile = dice.below(6);
    let mut fate = |number: usize| match profile {
        0 => Fate::Keep,
        1 => Fate::Drop,
        2 if number < torn_at => Fate::Keep,
        2 if number == torn_at => tear(dice),
        2 => Fate::Drop,
        3 if number == torn_at => tear(dice),
        3 => Fate::Keep,
        4 => match dice.below(2) {
            0 => Fate::Keep,
            _ => Fate::Drop,
        },
        _ => match dice.below(3) {
            0 => Fate::Keep,
            1 => Fate::Drop,
            _ => tear(dice),
        },
    };
    let name = [
        "all",
        "none",
        "up to one",
        "all but one",
        "any",
        "any, torn",
    ][profile];
    (name, (0..count).map(&mut fate).collect())
}

impl Disk {
    fn read(&self, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        let end = offset.saturating_add(size.into()).min(self.len);
        let len = usize::try_from(end.saturating_sub(offset)).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        self.image.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut before = vec![0; data.len()];
        self.image.read_exact_at(&mut before, offset)?;
        self.image.write_all_at(data, offset)?;
        self.bytes += data.len();
        self.writes.push(Recorded {
            offset,
            before,
            after: data.to_vec(),
        });
        if self.bytes > CACHE {
            let older = self.writes.len() / 2;
            self.writes.drain(..older);
            self.bytes = self.writes.iter().map(|write| write.after.len()).sum();
        }
        Ok(())
    }

    fn flush(&mut self) {
        if !self.lie {
            self.writes.clear();
            self.bytes = 0;
        }
    }

    /// Before each flush and after each write: whether it is time for the power to fail, and it has.
    fn fails(&mut self, flush: bool) -> io::Result<bool> {
        let Some((cut, when)) = self.due else {
            return Ok(false);
        };
        let now = match when {
            When::Now => true,
            When::Flush => flush,
            When::Writes(0) => true,
            When::Writes(left) if !flush => {
                self.due = Some((cut, When::Writes(left - 1)));
                false
            }
            When::Writes(_) => false,
        };
        if now {
            self.cut(cut)?;
        }
        Ok(now)
    }

    fn cut(&mut self, cut: Cut) -> io::Result<()> {
        let moment = clock_gettime(ClockId::Monotonic);
        let writes = std::mem::take(&mut self.writes);
        for write in writes.iter().rev() {
            self.image.write_all_at(&write.before, write.offset)?;
        }
        let (profile, fates) = fates(&mut Dice(cut.seed), writes.len());
        let (mut kept, mut torn) = (0, 0);
        for (write, fate) in writes.iter().zip(fates) {
            match fate {
                Fate::Keep => {
                    self.image.write_all_at(&write.after, write.offset)?;
                    kept += 1;
                }
                Fate::Drop => {}
                Fate::Tear(mask) => {
                    self.write_torn(write, mask, cut.tear)?;
                    torn += 1;
                }
            }
        }
        let dropped = writes.len() - kept - torn;
        self.outcome = Some(format!(
            "{}{:09} {} unflushed writes ({profile}): {kept} kept, {dropped} dropped, {torn} torn\n",
            moment.tv_sec,
            moment.tv_nsec,
            writes.len()
        ));
        Ok(())
    }

    /// Pieces begin where sectors of the disk do, not where the write does.
    fn write_torn(&self, write: &Recorded, mask: u64, tear: usize) -> io::Result<()> {
        let mut at = 0;
        let mut piece = 0;
        while at < write.after.len() {
            let offset = write.offset + at as u64;
            let rest = tear - usize::try_from(offset % tear as u64).unwrap_or(0);
            let end = (at + rest).min(write.after.len());
            if mask >> (piece % 64) & 1 == 1 {
                self.image.write_all_at(&write.after[at..end], offset)?;
            }
            at = end;
            piece += 1;
        }
        Ok(())
    }
}

struct Shell(Mutex<Disk>);

impl Shell {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let (kind, perm, size) = match ino {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            DISK => (FileType::RegularFile, 0o600, self.disk().len),
            _ => (FileType::RegularFile, 0o600, 0),
        };
        FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Shell {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str() {
            Some("disk") => reply.entry(&TTL, &self.attributes(DISK), Generation(0)),
            Some("control") => reply.entry(&TTL, &self.attributes(CONTROL), Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(ino));
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let entries = [(DISK, "disk"), (CONTROL, "control")];
        for (cookie, (ino, name)) in (1..).zip(entries) {
            if cookie > offset && reply.add(ino, cookie, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // The control file has no size to go by.
        let flags = match ino {
            CONTROL => FopenFlags::FOPEN_DIRECT_IO,
            _ => FopenFlags::empty(),
        };
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let disk = self.disk();
        if ino == CONTROL {
            let said = disk.outcome.as_deref().unwrap_or_default().as_bytes();
            let start = usize::try_from(offset).map_or(said.len(), |at| at.min(said.len()));
            return reply.data(&said[start..]);
        }
        if disk.outcome.is_some() {
            return reply.error(Errno::EIO);
        }
        match disk.read(offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(e) => reply.error(e.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut disk = self.disk();
        if disk.outcome.is_some() {
            return reply.error(Errno::EIO);
        }
        let done = if ino == CONTROL {
            match command(data) {
                Some((cut, when)) => {
                    disk.due = Some((cut, when));
                    match when {
                        When::Now => disk.cut(cut),
                        _ => Ok(()),
                    }
                }
                None => Err(io::Error::from(io::ErrorKind::InvalidInput)),
            }
        } else if offset.saturating_add(data.len() as u64) > disk.len {
            return reply.error(Errno::ENOSPC);
        } else {
            let done = disk.write(offset, data);
            match done.and_then(|()| disk.fails(false)) {
                Ok(true) => return reply.error(Errno::EIO),
                Ok(false) => Ok(()),
                Err(e) => Err(e),
            }
        };
        match (done, u32::try_from(data.len())) {
            (Ok(()), Ok(len)) => reply.written(len),
            (Err(e), _) => reply.error(e.into()),
            (_, Err(_)) => reply.error(Errno::EINVAL),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut disk = self.disk();
        if disk.outcome.is_some() {
            return reply.error(Errno::EIO);
        }
        match disk.fails(true) {
            Ok(false) => {
                disk.flush();
                reply.ok();
            }
            Ok(true) => reply.error(Errno::EIO),
            Err(e) => reply.error(e.into()),
        }
    }
}

/// Reads `cut SEED TEAR WHEN`.
fn command(line: &[u8]) -> Option<(Cut, When)> {
    let words: Vec<_> = std::str::from_utf8(line)
        .ok()?
        .split_ascii_whitespace()
        .collect();
    let ["cut", seed, tear, when] = words[..] else {
        return None;
    };
    let cut = Cut {
        seed: seed.parse().ok()?,
        tear: tear.parse().ok().filter(|tear| *tear >= 512)?,
    };
    let when = match when {
        "now" => When::Now,
        "flush" => When::Flush,
        count => When::Writes(count.parse().ok()?),
    };
    Some((cut, when))
}

fn serve(image: &Path, directory: &Path, lie: bool) -> io::Result<()> {
    let image = File::options().read(true).write(true).open(image)?;
    let len = image.metadata()?.len();
    let disk = Disk {
        image,
        len,
        lie,
        writes: Vec::new(),
        bytes: 0,
        due: None,
        outcome: None,
    };
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("recording-disk".to_owned()),
        MountOption::NoDev,
        MountOption::NoSuid,
    ];
    // The loop device asks as the kernel, for whoever writes to the disk.
    config.acl = SessionACL::All;
    Session::new(Shell(Mutex::new(disk)), directory, &config)?.run()
}

fn main() -> ExitCode {
    let mut lie = false;
    let mut places = Vec::new();
    for argument in std::env::args_os().skip(1) {
        if argument == "--lie" {
            lie = true;
        } else {
            places.push(PathBuf::from(argument));
        }
    }
    let [image, directory] = places.as_slice() else {
        eprintln!("usage: recording-disk IMAGE DIRECTORY [--lie]");
        return ExitCode::from(2);
    };
    match serve(image, directory, lie) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!(
                "recording-disk: {} on {}: {e}",
                image.display(),
                directory.display()
            );
            ExitCode::FAILURE
        }
    }
}
