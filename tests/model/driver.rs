//! The filesystem layer driven by path, as the kernel drives it: looking up, opening, forgetting.

use std::cell::RefCell;

use wardfs::crypto::Cipher;
use wardfs::fs::errno::errno;
use wardfs::fs::{Caller, Detail, Entry, Existing, Fh, Fs, NewMode, ROOT, SetAttr};
use wardfs::store::backing::SetTime;

use crate::lab::Lab;
use crate::watched::Watched;

pub const CALLER: Caller = Caller { uid: 0, gid: 0 };
pub const KEEP: SetAttr = SetAttr {
    mode: None,
    uid: None,
    gid: None,
    size: None,
    atime: SetTime::Keep,
    mtime: SetTime::Keep,
};

pub type Path = Vec<Vec<u8>>;
pub type Answer<T> = Result<T, i32>;

pub fn new_mode(mode: u32) -> NewMode {
    NewMode { mode, umask: 0 }
}

/// Both ciphers, the smallest and the largest chunk.
pub const KINDS: [(Cipher, u32); 3] = [
    (Cipher::Xaes256Gcm, 4096),
    (Cipher::XChaCha20Poly1305, 4096),
    (Cipher::Xaes256Gcm, 65536),
];

pub struct Driver<'l> {
    lab: &'l Lab,
    fs: Option<Fs<Watched>>,
    /// One for every time an inode was told.
    known: RefCell<Vec<u64>>,
}

pub fn ok<T>(outcome: wardfs::fs::Result<T>) -> Answer<T> {
    outcome.map_err(|e| errno(0, &e))
}

impl<'l> Driver<'l> {
    pub fn new(lab: &'l Lab) -> Self {
        Self {
            lab,
            fs: Some(lab.open()),
            known: RefCell::default(),
        }
    }

    pub fn fs(&self) -> &Fs<Watched> {
        self.fs.as_ref().expect("open but within reopen()")
    }

    /// Closes the volume cleanly and opens it again. No handle may be open.
    pub fn reopen(&mut self) {
        self.forget_all();
        assert_eq!(self.fs().counts(), (0, 0), "inodes known and handles open");
        self.fs().close().expect("complete");
        self.fs = None;
        self.fs = Some(self.lab.open());
    }

    /// Ends without closing anything, and opens the volume again.
    pub fn kill(&mut self) {
        self.known.borrow_mut().clear();
        self.fs = None;
        self.fs = Some(self.lab.open());
    }

    pub fn told(&self, entry: &Entry) -> u64 {
        self.known.borrow_mut().push(entry.attr.ino);
        entry.attr.ino
    }

    /// As the kernel does when memory is short.
    pub fn forget_all(&self) {
        for ino in self.known.take() {
            self.fs().forget(ino, 1).expect("not poisoned");
        }
    }

    pub fn lookup(&self, parent: u64, name: &[u8]) -> Answer<Option<u64>> {
        Ok(ok(self.fs().lookup(parent, name))?.map(|entry| self.told(&entry)))
    }

    pub fn ino(&self, path: &[Vec<u8>]) -> Answer<u64> {
        let mut ino = ROOT;
        for name in path {
            ino = self.lookup(ino, name)?.ok_or(libc::ENOENT)?;
        }
        Ok(ino)
    }

    /// The parent's inode number and the name.
    pub fn at<'p>(&self, path: &'p [Vec<u8>]) -> Answer<(u64, &'p [u8])> {
        let (name, parent) = path.split_last().expect("not the root");
        Ok((self.ino(parent)?, name))
    }

    pub fn create(&self, path: &[Vec<u8>]) -> Answer<(u64, Fh)> {
        let (parent, name) = self.at(path)?;
        let made = self.fs().create(
            CALLER,
            parent,
            name,
            new_mode(libc::S_IFREG | 0o600),
            Existing::Refuse,
        );
        let (entry, fh) = ok(made)?;
        Ok((entry.attr.ino, fh))
    }

    /// A handle and the inode number, which stays known until [`Self::close`].
    pub fn open(&self, path: &[Vec<u8>], flags: i32) -> Answer<(u64, Fh)> {
        let ino = self.ino(path)?;
        let fh = ok(self.fs().open(ino, flags))?;
        let mut known = self.known.borrow_mut();
        let at = known.iter().rposition(|k| *k == ino).expect("just told");
        known.swap_remove(at);
        Ok((ino, fh))
    }

    pub fn close(&self, (ino, fh): (u64, Fh)) {
        self.fs().release(fh).expect("open");
        self.fs().forget(ino, 1).expect("not poisoned");
    }

    pub fn set_size(&self, ino: u64, size: u64) -> Answer<()> {
        ok(self.fs().setattr(
            CALLER,
            ino,
            &SetAttr {
                size: Some(size),
                ..KEEP
            },
        ))
        .map(drop)
    }

    pub fn read_all(&self, fh: Fh, size: usize) -> Answer<Vec<u8>> {
        // More than there is, to see that it ends there.
        let mut data = vec![0xee; size + 100];
        let got = ok(self.fs().read(fh, 0, &mut data))?;
        data.truncate(got);
        Ok(data)
    }

    pub fn names(&self, ino: u64, detail: Detail) -> Answer<Vec<Vec<u8>>> {
        let fh = ok(self.fs().opendir(ino))?;
        let mut names = Vec::new();
        let mut cookie = 0;
        loop {
            let before = names.len();
            ok(self.fs().readdir(fh, cookie, detail, &mut |entry| {
                // A reply takes a few entries only.
                if names.len() == before + 5 {
                    return false;
                }
                cookie = entry.cookie;
                names.push(entry.name.to_vec());
                if let Some(told) = entry
                    .entry
                    .as_ref()
                    .filter(|_| !matches!(entry.name, b"." | b".."))
                {
                    self.told(told);
                }
                true
            }))?;
            if names.len() == before {
                break;
            }
        }
        ok(self.fs().releasedir(fh))?;
        names.retain(|n| !matches!(&n[..], b"." | b".."));
        names.sort();
        Ok(names)
    }
}
