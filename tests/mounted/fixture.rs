//! Mounted vaults of several kinds, and what many tests do with them.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::common::{Mount, Vault};

/// A way to make and to mount a vault.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub init: &'static [&'static str],
    pub options: &'static str,
}

pub const PLAIN: Kind = Kind {
    init: &["--cipher", "xaes-256-gcm"],
    options: "rw",
};
pub const NOWRITEBACK: Kind = Kind {
    options: "nowriteback",
    ..PLAIN
};
pub const XCHACHA_64K: Kind = Kind {
    init: &["--cipher", "xchacha20-poly1305", "--chunk-size", "64K"],
    options: "rw",
};
/// Other users may enter.
pub const SHARED: Kind = Kind {
    options: "allow_other",
    ..PLAIN
};
pub const SHARED_NOWRITEBACK: Kind = Kind {
    options: "allow_other,nowriteback",
    ..PLAIN
};
pub const ACL: Kind = Kind {
    options: "allow_other,acl",
    ..PLAIN
};

/// With and without the kernel's writeback cache, both ciphers, the smallest and the largest chunk.
pub const DATA_KINDS: [Kind; 3] = [PLAIN, NOWRITEBACK, XCHACHA_64K];

/// A mounted vault that can be mounted again.
#[derive(Debug)]
pub struct Place<'v> {
    vault: &'v Vault,
    options: &'static str,
    mount: Option<Mount<'v>>,
}

impl Kind {
    pub fn vault(self) -> Vault {
        Vault::with(self.init)
    }

    /// Runs `test` on a new vault of this kind.
    pub fn run(self, test: impl FnOnce(&mut Place<'_>)) {
        let vault = self.vault();
        let mut place = Place::new(&vault, self.options);
        test(&mut place);
        place.umount();
    }
}

/// Runs `test` on a new vault of each kind.
pub fn on_each(kinds: &[Kind], test: impl Fn(&mut Place<'_>)) {
    for kind in kinds {
        eprintln!("{kind:?}");
        kind.run(&test);
    }
}

impl<'v> Place<'v> {
    pub fn new(vault: &'v Vault, options: &'static str) -> Self {
        let mount = vault.mount_with(&["-o", options]);
        if options.contains("allow_other") && !options.contains("ro,") {
            // The root of a vault belongs to who made it, mode 0700.
            chmod(mount.path(), 0o777);
        }
        Self {
            vault,
            options,
            mount: Some(mount),
        }
    }

    pub fn vault(&self) -> &Vault {
        self.vault
    }

    pub fn mount(&self) -> &Mount<'v> {
        self.mount.as_ref().expect("mounted but within remount()")
    }

    pub fn root(&self) -> &Path {
        self.mount().path()
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root().join(name)
    }

    /// Unmounts and mounts again: nothing is left in any cache of the mount.
    #[track_caller]
    pub fn remount(&mut self) {
        self.umount();
        self.mount = Some(self.vault.mount_with(&["-o", self.options]));
    }

    #[track_caller]
    pub fn umount(&mut self) {
        if let Some(mount) = self.mount.take() {
            mount.umount();
        }
    }

    /// The file of the vault that has the inode number of `path`.
    pub fn stored(&self, path: &Path) -> PathBuf {
        let ino = fs::symlink_metadata(path).expect("it exists").ino();
        find(&self.vault.path(), &|m| m.ino() == ino).expect("inode numbers are those of the vault")
    }

    /// 512-byte blocks that `path` takes in the vault.
    pub fn stored_blocks(&self, path: &Path) -> u64 {
        fs::symlink_metadata(self.stored(path))
            .expect("it was just found")
            .blocks()
    }
}

fn find(dir: &Path, wanted: &dyn Fn(&fs::Metadata) -> bool) -> Option<PathBuf> {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("readable").path();
        let meta = fs::symlink_metadata(&path).expect("it is there");
        if wanted(&meta) {
            return Some(path);
        }
        if meta.is_dir()
            && let Some(found) = find(&path, wanted)
        {
            return Some(found);
        }
    }
    None
}

/// Bytes that are the same for the same seed, and differ from chunk to chunk.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        out.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Compares contents without printing megabytes.
#[track_caller]
pub fn assert_content(path: &Path, expected: &[u8]) {
    let found = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(found.len(), expected.len(), "length of {}", path.display());
    if let Some(at) = found.iter().zip(expected).position(|(a, b)| a != b) {
        panic!(
            "{} differs at byte {at}: {} instead of {}",
            path.display(),
            found[at],
            expected[at]
        );
    }
}

/// Writes into `model` what is written to the file.
pub fn write_both(file: &fs::File, model: &mut Vec<u8>, off: usize, data: &[u8]) {
    file.write_all_at(data, off as u64).expect("there is room");
    if model.len() < off + data.len() {
        model.resize(off + data.len(), 0);
    }
    model[off..off + data.len()].copy_from_slice(data);
}

/// The operation must fail with this error.
#[track_caller]
pub fn assert_errno<T>(outcome: Result<T, impl Into<io::Error>>, errno: i32) {
    match outcome {
        Ok(_) => panic!(
            "it succeeded instead of failing with {}",
            io::Error::from_raw_os_error(errno)
        ),
        Err(e) => {
            let e = e.into();
            assert_eq!(e.raw_os_error(), Some(errno), "{e}");
        }
    }
}

/// Runs `body` as an ordinary user, in a thread of its own that ends with it.
pub fn as_user<R: Send>(uid: u32, gid: u32, body: impl FnOnce() -> R + Send) -> R {
    let done = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            set_thread_groups(&[]).expect("root");
            set_thread_res_gid(gid, gid, gid).expect("root");
            set_thread_res_uid(uid, uid, uid).expect("root");
            body()
        });
        thread.join()
    });
    done.unwrap_or_else(|panic| resume_unwind(panic))
}

pub fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it exists").mode() & 0o7777
}

#[track_caller]
pub fn chmod(path: &Path, mode: u32) {
    rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode)).expect("it is ours");
}
