//! Finding and changing the stored bytes behind a plaintext path.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::common::{Mount, Vault};

/// The kernel asks again for everything, and one thread serves the requests in order: a file is closed before it is
/// opened again, so that each read begins at the stored header.
pub const FORGETFUL: [&str; 2] = [
    "-o",
    "shared,threads=1,attr_timeout=0,entry_timeout=0,negative_timeout=0",
];

pub const HEADER: usize = 64;
pub const CHUNK: usize = 4096;
pub const STORED_CHUNK: usize = CHUNK + 40;

/// Content that differs in every chunk and between files.
pub fn content(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed)
        .collect()
}

/// Reads a whole file; the errno if that fails, at open or later.
pub fn read(path: &Path) -> Result<Vec<u8>, i32> {
    let read = || -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        File::open(path)?.read_to_end(&mut data)?;
        Ok(data)
    };
    read().map_err(|e| errno(&e))
}

pub fn errno(e: &io::Error) -> i32 {
    e.raw_os_error().expect("the system refused")
}

/// The file must be refused, as damage is.
#[track_caller]
pub fn assert_refused(path: &Path, attack: impl std::fmt::Debug) {
    match read(path) {
        Err(libc::EIO) => {}
        Err(e) => panic!("{attack:?}: errno {e}"),
        Ok(data) => panic!("{attack:?}: {} bytes were served", data.len()),
    }
}

/// Where the object at `path` in the mount is stored, its first name.
pub fn stored(mount: &Mount<'_>, path: impl AsRef<Path>) -> PathBuf {
    let ino = fs::symlink_metadata(mount.join(path))
        .expect("it exists")
        .ino();
    stored_ino(mount.vault(), ino)
}

pub fn stored_ino(vault: &Vault, ino: u64) -> PathBuf {
    let mut found = Vec::new();
    walk(&vault.path(), &mut |path, meta| {
        if meta.ino() == ino {
            found.push(path.to_owned());
        }
    });
    found.sort();
    found.into_iter().next().expect("it is in the vault")
}

pub fn walk(dir: &Path, each: &mut dyn FnMut(&Path, &fs::Metadata)) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("readable").path();
        let meta = fs::symlink_metadata(&path).expect("it exists");
        each(&path, &meta);
        if meta.is_dir() {
            walk(&path, each);
        }
    }
}

/// Entries of a directory in the mount, sorted.
pub fn listed(dir: &Path) -> Result<Vec<String>, i32> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    };
    list().map_err(|e| errno(&e))
}

pub fn flip(path: &Path, at: usize, mask: u8) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("stored");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64)
        .expect("inside the file");
    byte[0] ^= mask;
    file.write_all_at(&byte, at as u64).expect("writable");
}

pub fn patch(path: &Path, at: usize, bytes: &[u8]) {
    let file = File::options().write(true).open(path).expect("stored");
    file.write_all_at(bytes, at as u64).expect("writable");
}

pub fn piece(path: &Path, at: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let file = File::open(path).expect("stored");
    file.read_exact_at(&mut bytes, at as u64)
        .expect("inside the file");
    bytes
}

pub fn cut(path: &Path, len: usize) {
    let file = File::options().write(true).open(path).expect("stored");
    file.set_len(len as u64).expect("writable");
}

pub fn set_mtime(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path).expect("stored");
    file.set_modified(time).expect("own file");
}

/// Where chunk `no` is stored.
pub fn chunk_at(no: usize) -> usize {
    HEADER + no * STORED_CHUNK
}

/// A vault whose files were made in one mount that is over.
pub fn prepared(init: &[&str], fill: impl FnOnce(&Mount<'_>)) -> Vault {
    let vault = Vault::with(init);
    let mount = vault.mount();
    fill(&mount);
    mount.umount();
    vault
}
