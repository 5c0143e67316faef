//! What every request handler works with: the filesystem, how long the kernel may remember, and the ways to run an
//! operation and to reply.
//!
//! A panic in an operation is answered with EIO and makes the volume read-only.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{
    Errno, FopenFlags, Generation, INodeNo, Notifier, ReplyEmpty, ReplyEntry, ReplyXattr, Request,
};

use crate::fs::errno::errno;
use crate::fs::{self, Caller, Entry, Fh, Fs};
use crate::fuse::convert::file_attr;
use crate::fuse::seeker::Seeker;
use crate::store::Disk;

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
    /// The way to the kernel outside of replies, once the session exists.
    pub kernel: Arc<OnceLock<Notifier>>,
}

pub type Answer<R> = Result<R, Errno>;

pub fn caller(req: &Request) -> Caller {
    Caller {
        uid: req.uid(),
        gid: req.gid(),
    }
}

/// Runs one operation; a panic makes the volume read-only.
pub fn run<R>(
    fs: &Fs<Disk>,
    ino: INodeNo,
    op: impl FnOnce(&Fs<Disk>) -> fs::Result<R>,
) -> Answer<R> {
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

pub fn empty(answer: Answer<()>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}
impl Shell {
    pub fn run<R>(&self, ino: INodeNo, op: impl FnOnce(&Fs<Disk>) -> fs::Result<R>) -> Answer<R> {
        run(&self.fs, ino, op)
    }

    pub fn entry(&self, answer: Answer<Entry>, reply: ReplyEntry) {
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

    /// Opens a file. A small one's content goes to the kernel's cache with it, so that no READ follows. Where others may
    /// change the vault the kernel is to ask.
    pub fn open_file(&self, ino: INodeNo, flags: i32) -> Answer<Fh> {
        let Some(kernel) = self.kernel.get().filter(|_| !self.policy.shared) else {
            return self.run(ino, |fs| fs.open(ino.0, flags));
        };
        self.run(ino, |fs| {
            fs.open_giving(ino.0, flags, |content| {
                // Without it the kernel reads.
                if let Err(e) = kernel.store(ino, 0, content) {
                    log::debug!("inode {}: the kernel did not take its content: {e}", ino.0);
                }
            })
        })
    }

    pub fn open_flags(&self) -> FopenFlags {
        if self.policy.shared {
            FopenFlags::empty()
        } else {
            FopenFlags::FOPEN_KEEP_CACHE
        }
    }
}

pub fn xattr_reply(answer: Answer<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match answer {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(e) => reply.error(e),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::crypto::Cipher;
    use crate::fs::{Existing, NewMode};
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
