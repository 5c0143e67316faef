//! The request handlers: every method of the binding, each on purpose; only `batch_forget` stays as it is there, since
//! fuser 0.18.0 does not export the type of its argument.
//!
//! A panic in one is answered with EIO and makes the volume read-only. ENOSYS is permanent for a connection, so it is
//! answered only where the kernel's own way is the right one: locks (it keeps them itself), access (it checks modes
//! itself), FLUSH (it writes dirty pages back before, and we have nothing to add), bmap and poll.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags,
    PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen,
    ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::content::Buffer;
use crate::fs::errno::errno;
use crate::fs::{self, Caller, Detail, DirEntry, Entry, Existing, Fh, Fs, NewMode, SetAttr};
use crate::fuse::convert::{file_attr, file_type, set_time};
use crate::fuse::seeker::{Job, Seeker};
use crate::store::Disk;
use crate::store::backing::{RenameMode, SeekTo, Sync, XattrMode};

/// The largest READ and WRITE, and so the largest request.
pub const MAX_IO: u32 = 1 << 20;
/// Requests the kernel may have under way in the background: readahead and write-back.
const MAX_BACKGROUND: u16 = 64;

/// What the kernel is asked for, if it has it, each with its reason.
const WANTED: [InitFlags; 7] = [
    // Lookups and listings in one directory run in parallel.
    InitFlags::FUSE_PARALLEL_DIROPS,
    // `ls -l` without a request for each entry, where the kernel sees that pattern.
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    // A link's target needs a decryption.
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_ASYNC_DIO,
    // No request for security.capability before each write; clearing the bits is then up to us.
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    // Inodes are found by number as long as the kernel knows them: an NFS export works.
    InitFlags::FUSE_EXPORT_SUPPORT,
];

/// How long the kernel may remember, and what it may keep.
#[derive(Debug, Clone)]
pub struct Policy {
    pub entry_ttl: Duration,
    pub attr_ttl: Duration,
    pub negative_ttl: Duration,
    pub writeback: bool,
    /// The vault may be changed by others: the kernel must look again.
    pub shared: bool,
    pub acl: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Shell {
    pub fs: Arc<Fs<Disk>>,
    pub policy: Policy,
    pub seeker: Seeker,
}

type Answer<R> = Result<R, Errno>;

fn caller(req: &Request) -> Caller {
    Caller {
        uid: req.uid(),
        gid: req.gid(),
    }
}

/// Runs one operation; a panic makes the volume read-only.
fn run<R>(fs: &Fs<Disk>, ino: INodeNo, op: impl FnOnce(&Fs<Disk>) -> fs::Result<R>) -> Answer<R> {
    match catch_unwind(AssertUnwindSafe(|| op(fs))) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(Errno::from_i32(errno(ino.0, &e))),
        Err(_) => {
            fs.volume()
                .latch_read_only("a request could not be completed because of a defect");
            Err(Errno::EIO)
        }
    }
}

fn empty(answer: Answer<()>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

impl Shell {
    fn run<R>(&self, ino: INodeNo, op: impl FnOnce(&Fs<Disk>) -> fs::Result<R>) -> Answer<R> {
        run(&self.fs, ino, op)
    }

    fn entry(&self, answer: Answer<Entry>, reply: ReplyEntry) {
        match answer {
            Ok(e) => reply.entry_with_ttls(
                &self.policy.attr_ttl,
                &self.policy.entry_ttl,
                &file_attr(&e.attr),
                Generation(e.generation),
            ),
            Err(e) => reply.error(e),
        }
    }

    fn open_flags(&self) -> FopenFlags {
        if self.policy.shared {
            FopenFlags::empty()
        } else {
            FopenFlags::FOPEN_KEEP_CACHE
        }
    }
}

impl fuser::Filesystem for Shell {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = WANTED.to_vec();
        if self.policy.writeback {
            wanted.push(InitFlags::FUSE_WRITEBACK_CACHE);
        }
        wanted.push(match self.policy.shared {
            true => InitFlags::FUSE_AUTO_INVAL_DATA,
            false => InitFlags::FUSE_EXPLICIT_INVAL_DATA,
        });
        if self.policy.acl {
            wanted.extend([InitFlags::FUSE_POSIX_ACL, InitFlags::FUSE_DONT_MASK]);
        }
        for flag in wanted {
            if let Err(missing) = config.add_capabilities(flag) {
                log::info!("the kernel does not offer {missing:?}");
            }
        }
        // Both are within the limits of the binding.
        let _ = config.set_max_write(MAX_IO);
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn destroy(&mut self) {}

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.run(parent, |fs| fs.lookup(parent.0, name.as_bytes())) {
            Ok(Some(found)) => self.entry(Ok(found), reply),
            Ok(None) if self.policy.negative_ttl.is_zero() => reply.error(Errno::ENOENT),
            Ok(None) => {
                let nothing = file_attr(&Default::default());
                reply.entry(&self.policy.negative_ttl, &nothing, Generation(0));
            }
            Err(e) => reply.error(e),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        // FORGET has no reply; a failure is logged where it happens.
        let _ = self.run(ino, |fs| fs.forget(ino.0, nlookup));
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.run(ino, |fs| fs.getattr(ino.0)) {
            Ok(attr) => reply.attr(&self.policy.attr_ttl, &file_attr(&attr)),
            Err(e) => reply.error(e),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (set_time(atime), set_time(mtime));
        let set = SetAttr {
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
        };
        match self.run(ino, |fs| fs.setattr(caller(req), ino.0, &set)) {
            Ok(attr) => reply.attr(&self.policy.attr_ttl, &file_attr(&attr)),
            Err(e) => reply.error(e),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.run(ino, |fs| fs.readlink(ino.0)) {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(e),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let new = NewMode { mode, umask };
        let made = self.run(parent, |fs| {
            fs.mknod(caller(req), parent.0, name.as_bytes(), new, rdev.into())
        });
        self.entry(made, reply);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let new = NewMode { mode, umask };
        let made = self.run(parent, |fs| {
            fs.mkdir(caller(req), parent.0, name.as_bytes(), new)
        });
        self.entry(made, reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(
            self.run(parent, |fs| fs.unlink(parent.0, name.as_bytes())),
            reply,
        );
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(
            self.run(parent, |fs| fs.rmdir(parent.0, name.as_bytes())),
            reply,
        );
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        let made = self.run(parent, |fs| {
            fs.symlink(caller(req), parent.0, link_name.as_bytes(), target)
        });
        self.entry(made, reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            f if f.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            _ => return reply.error(Errno::EINVAL),
        };
        let (from, to) = (
            (parent.0, name.as_bytes()),
            (newparent.0, newname.as_bytes()),
        );
        empty(self.run(parent, |fs| fs.rename(from, to, mode)), reply);
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let made = self.run(ino, |fs| fs.link(ino.0, newparent.0, newname.as_bytes()));
        self.entry(made, reply);
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.run(ino, |fs| fs.open(ino.0, flags.0)) {
            Ok(fh) => reply.opened(FileHandle(fh.0), self.open_flags()),
            Err(e) => reply.error(e),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut data = Buffer::of_len(size.min(MAX_IO) as usize);
        match self.run(ino, |fs| fs.read(Fh(fh.0), offset, &mut data)) {
            Ok(got) => reply.data(&data[..got]),
            Err(e) => reply.error(e),
        }
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.run(ino, |fs| {
            if self.policy.writeback && write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
                fs.write_cached(Fh(fh.0), offset, data)?;
            } else {
                fs.write(Fh(fh.0), offset, data)?;
            }
            if write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
                fs.drop_file_privileges(caller(req), Fh(fh.0))?;
            }
            Ok(())
        });
        match written {
            Ok(()) => reply.written(data.len() as u32),
            Err(e) => reply.error(e),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.run(ino, |fs| fs.release(Fh(fh.0))), reply);
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let what = if datasync { Sync::Data } else { Sync::All };
        empty(self.run(ino, |fs| fs.fsync(Fh(fh.0), what)), reply);
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let flags = match self.policy.shared {
            true => FopenFlags::empty(),
            false => FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE,
        };
        match self.run(ino, |fs| fs.opendir(ino.0)) {
            Ok(fh) => reply.opened(FileHandle(fh.0), flags),
            Err(e) => reply.error(e),
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut add = |e: &DirEntry<'_>| {
            let name = OsStr::from_bytes(e.name);
            !reply.add(INodeNo(e.ino), e.cookie, file_type(e.kind), name)
        };
        match self.run(ino, |fs| {
            fs.readdir(Fh(fh.0), offset, Detail::Names, &mut add)
        }) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let ttl = self.policy.entry_ttl.min(self.policy.attr_ttl);
        let mut add = |e: &DirEntry<'_>| {
            let Some(entry) = &e.entry else {
                return true;
            };
            let name = OsStr::from_bytes(e.name);
            let generation = Generation(entry.generation);
            !reply.add(
                INodeNo(e.ino),
                e.cookie,
                name,
                &ttl,
                &file_attr(&entry.attr),
                generation,
            )
        };
        match self.run(ino, |fs| {
            fs.readdir(Fh(fh.0), offset, Detail::Attributes, &mut add)
        }) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn releasedir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        empty(self.run(ino, |fs| fs.releasedir(Fh(fh.0))), reply);
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.run(ino, |fs| fs.fsyncdir(Fh(fh.0))), reply);
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.run(ino, Fs::statfs) {
            Ok(s) => reply.statfs(
                s.blocks,
                s.blocks_free,
                s.blocks_available,
                s.files,
                s.files_free,
                s.block_size,
                s.name_max,
                s.fragment_size,
            ),
            Err(e) => reply.error(e),
        }
    }

    fn setxattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            0 => XattrMode::Any,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => return reply.error(Errno::EINVAL),
        };
        empty(
            self.run(ino, |fs| fs.setxattr(ino.0, name.as_bytes(), value, mode)),
            reply,
        );
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        xattr_reply(
            self.run(ino, |fs| fs.getxattr(ino.0, name.as_bytes())),
            size,
            reply,
        );
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        xattr_reply(self.run(ino, |fs| fs.listxattr(ino.0)), size, reply);
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(
            self.run(ino, |fs| fs.removexattr(ino.0, name.as_bytes())),
            reply,
        );
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let existing = match flags & libc::O_EXCL {
            0 => Existing::Open,
            _ => Existing::Refuse,
        };
        let new = NewMode { mode, umask };
        let made = self.run(parent, |fs| {
            fs.create(caller(req), parent.0, name.as_bytes(), new, existing)
        });
        match made {
            Ok((entry, fh)) => reply.created(
                &self.policy.entry_ttl.min(self.policy.attr_ttl),
                &file_attr(&entry.attr),
                Generation(entry.generation),
                FileHandle(fh.0),
                self.open_flags(),
            ),
            Err(e) => reply.error(e),
        }
    }

    fn getlk(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn setlk(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, _req: &Request, _ino: INodeNo, _blocksize: u32, _idx: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let done = self.run(ino, |fs| {
            fs.fallocate(caller(req), Fh(fh.0), offset, length, mode)
        });
        empty(done, reply);
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let to = match whence {
            libc::SEEK_DATA => SeekTo::Data,
            libc::SEEK_HOLE => SeekTo::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(from) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        let fs = self.fs.clone();
        let answer = move |reply: ReplyLseek| match run(&fs, ino, |fs| fs.seek(Fh(fh.0), from, to))
        {
            Ok(Some(found)) => reply.offset(found as i64),
            Ok(None) => reply.error(Errno::ENXIO),
            Err(e) => reply.error(e),
        };
        let dirty = self.run(ino, |fs| fs.may_have_dirty_pages(Fh(fh.0)));
        if self.policy.writeback && dirty.unwrap_or(true) {
            self.seeker.send(Job {
                ino,
                reply,
                answer: Box::new(answer),
            });
        } else {
            answer(reply);
        }
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        // The reply counts in 32 bits; the caller goes on from there.
        let len = len.min(u64::from(MAX_IO) * 64);
        let (from, to) = ((Fh(fh_in.0), offset_in), (Fh(fh_out.0), offset_out));
        match self.run(ino_in, |fs| fs.copy_range(caller(req), from, to, len)) {
            Ok(done) => reply.written(done as u32),
            Err(e) => reply.error(e),
        }
    }
}

fn xattr_reply(answer: Answer<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match answer {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(e) => reply.error(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Cipher;
    use crate::keys::kdf::Argon2Params;
    use crate::keys::secret::SlotSecret;
    use crate::store::disk::Atime;
    use crate::store::lock::{Note, VaultLock};
    use crate::store::upkeep::JournalMode;
    use crate::store::volume::{self, Access, InitParams, Locked, Options, Volume};
    use crate::sys::secret::SecretVec;

    struct Dir(std::path::PathBuf);

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn filesystem(dir: &Path) -> Fs<Disk> {
        let secret = SlotSecret::new(Some(SecretVec::from(&b"p"[..])), None).expect("a secret");
        let params = InitParams {
            cipher: Cipher::XChaCha20Poly1305,
            chunk_size: 4096,
            label: String::new(),
            kdf: Argon2Params {
                memory_kib: Argon2Params::MIN_MEMORY_KIB,
                time: 1,
                lanes: 1,
            },
            journal: JournalMode::Full,
        };
        volume::init(dir, &params, &secret).expect("made");
        let locked = Locked::open(dir).expect("a vault");
        let (_, keys) = locked.unlock(&secret).expect("its secret");
        let lock = VaultLock::acquire(dir, None, Note::Write).expect("free");
        let (header, atime) = (locked.header(), Atime::Backing);
        let volume = Volume::open(
            dir,
            lock,
            keys,
            header,
            (Access::ReadWrite, atime),
            Options::default(),
        )
        .expect("opens");
        let config = fs::Config {
            own_as_caller: false,
            acl: false,
            cached_dirs: 16,
        };
        Fs::new(volume, config).expect("has a root")
    }

    #[test]
    fn a_panic_is_answered_with_eio_and_allows_reading_only() {
        let dir = std::env::temp_dir().join(format!("wardfs-panic-{}", std::process::id()));
        let dir = Dir(dir);
        let fs = filesystem(&dir.0);
        let caller = Caller { uid: 0, gid: 0 };
        let new = NewMode {
            mode: 0o600,
            umask: 0,
        };
        let create = |name: &'static [u8]| {
            run(&fs, INodeNo(1), |fs| {
                let (entry, fh) = fs.create(caller, 1, name, new, Existing::Refuse)?;
                fs.write(fh, 0, b"before")?;
                fs.release(fh)?;
                Ok(entry.attr.ino)
            })
        };
        let ino = create(b"file").expect("created");
        let panicked: Answer<()> = run(&fs, INodeNo(1), |_| panic!("on purpose"));
        assert_eq!(panicked.err().map(|e| e.code()), Some(libc::EIO));

        assert_eq!(create(b"other").err().map(|e| e.code()), Some(libc::EROFS));
        let read = run(&fs, INodeNo(ino), |fs| {
            let fh = fs.open(ino, libc::O_RDONLY)?;
            let mut data = [0; 16];
            let got = fs.read(fh, 0, &mut data)?;
            fs.release(fh)?;
            Ok(data[..got].to_vec())
        });
        assert_eq!(read.ok().as_deref(), Some(&b"before"[..]));
    }
}
