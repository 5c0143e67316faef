//! A tree of all kinds of objects, what can be seen of it in a mount, and which epochs its chunks have in the vault.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use wardfs::content::Geometry;
use wardfs::crypto::{ChunkNo, VolumeKeys};
use wardfs::format::file::{FileHeader, HEADER_LEN, NONCE_LEN};
use wardfs::keys::header::{epochs, unlock};
use wardfs::keys::secret::SlotSecret;
use wardfs::names::{Stored, classify};
use wardfs::store::volume::Locked;
use wardfs::sys::secret::SecretVec;

use crate::common::{Mount, PASSPHRASE, Ran, Vault, run, wait_until, wardfs};

/// `wardfs rotate VAULT` with its passphrase; not yet run.
pub fn rotate(vault: &Vault) -> Command {
    let mut command = wardfs();
    command.arg("rotate").arg(vault.path());
    command
        .arg("--passphrase-file")
        .arg(vault.passphrase_file());
    command
}

/// It is started, at so many MiB each second, and its output is not wanted.
pub fn start(vault: &Vault, rate: &str) -> Child {
    let mut command = rotate(vault);
    command.args(["--rate", rate]).stdout(Stdio::null());
    command.spawn().expect("the program exists")
}

/// It is started with these arguments; its output can be read.
pub fn start_with(vault: &Vault, arguments: &[&str]) -> Child {
    let mut command = rotate(vault);
    command.args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program exists")
}

/// Answers whether it was still alive.
pub fn kill(mut child: Child) -> bool {
    child.kill().expect("a child");
    child.wait().expect("a child").code().is_none()
}

/// As Ctrl-C does.
pub fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    run(Command::new("kill").args(["-s", "INT", &pid])).ok();
}

/// The lines of an output that are one JSON object each.
pub fn json_lines(said: &str) -> Vec<serde_json::Value> {
    let lines = said.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[track_caller]
pub fn rotated(vault: &Vault) -> Ran {
    let ran = run(&mut rotate(vault));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran
}

/// Unmounts. For a moment a process that another test of this program is starting has open what this one had.
#[track_caller]
pub fn close(mount: Mount<'_>) {
    wait_until("it is unmounted", || {
        let ran = run(wardfs().arg("umount").arg(mount.path()));
        matches!(ran.code, Some(0 | 14 | 17))
    });
    mount.wait_until_gone();
}

/// `wardfs check` finds nothing.
#[track_caller]
pub fn is_clean(vault: &Vault) {
    let mut check = wardfs();
    check.arg("check").arg(vault.path());
    check.arg("--passphrase-file").arg(vault.passphrase_file());
    let said = run(&mut check).ok();
    // A header that was being written when a process was killed is a leftover.
    assert!(said.contains("The vault is clean"), "{said}");
}

/// Bytes that are not the same at any two places.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend(state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Files of lengths around a chunk's and a run's, holes, links, attributes, times.
pub fn make_tree(root: &Path) {
    let deep = root.join("a").join("b".repeat(250));
    fs::create_dir_all(&deep).expect("made");
    let lengths = [0, 1, 4095, 4096, 4097, 70_000, (1 << 20) + 5, 3 << 20];
    for (seed, len) in lengths.into_iter().enumerate() {
        let path = deep.join(format!("{len}"));
        fs::write(&path, bytes(seed as u64, len)).expect("written");
        let time = format!("2001-02-03 04:05:{seed:02}.123456789");
        run(Command::new("touch").args(["-m", "-d", &time]).arg(&path)).ok();
    }
    for number in 0..150 {
        let path = root.join(format!("small {number}"));
        fs::write(path, bytes(number, 100 + number as usize)).expect("written");
    }
    fs::hard_link(deep.join("70000"), root.join("another name")).expect("linked");
    symlink("a/target", root.join("near")).expect("linked");
    symlink("t".repeat(3000), root.join("far")).expect("linked");
    let sparse = fs::File::create(root.join("sparse")).expect("made");
    sparse.set_len(40 << 20).expect("extended");
    sparse.write_all_at(b"middle", 20 << 20).expect("written");
    let hole_first = fs::File::create(root.join("hole first")).expect("made");
    hole_first.write_all_at(b"end", 9 << 20).expect("written");
    rustix::fs::setxattr(
        root.join("sparse"),
        "user.note",
        b"a value",
        rustix::fs::XattrFlags::empty(),
    )
    .expect("set");
}

/// What a program sees of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    content: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    mtime: Option<(i64, i64)>,
    ino: u64,
    links: u64,
    /// It takes less than half of its size on the disk.
    has_holes: bool,
    note: Option<Vec<u8>>,
}

impl Seen {
    /// What a copy of the vault shares with it.
    pub fn comparable(mut self) -> Self {
        self.ino = 0;
        self
    }
}

/// Whether times are to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Compare,
    Ignore,
}

pub fn see(root: &Path, times: Times) -> BTreeMap<PathBuf, Seen> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("readable").path();
            let meta = fs::symlink_metadata(&path).expect("there");
            let content = if meta.is_dir() {
                dirs.push(path.clone());
                Vec::new()
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                target.as_os_str().as_bytes().to_vec()
            } else if meta.is_file() {
                fs::read(&path).expect("readable")
            } else {
                Vec::new()
            };
            let mut note = [0; 64];
            let note = rustix::fs::lgetxattr(&path, "user.note", &mut note[..])
                .ok()
                .map(|len| note[..len].to_vec());
            let seen = Seen {
                content,
                mode: meta.mode(),
                owner: (meta.uid(), meta.gid()),
                mtime: (times == Times::Compare).then(|| (meta.mtime(), meta.mtime_nsec())),
                ino: meta.ino(),
                links: meta.nlink(),
                has_holes: meta.is_file() && meta.blocks() * 512 < meta.len() / 2,
                note,
            };
            all.insert(path.strip_prefix(root).expect("below it").to_owned(), seen);
        }
    }
    all
}

/// Without the inode numbers of symbolic links, which cannot be written anew.
pub fn without_link_numbers(mut seen: BTreeMap<PathBuf, Seen>) -> BTreeMap<PathBuf, Seen> {
    let links = seen
        .values_mut()
        .filter(|s| s.mode & libc::S_IFMT == libc::S_IFLNK);
    links.for_each(|link| link.ino = 0);
    seen
}

/// The epochs in the keyring, and all that the nonces of chunks tell.
pub fn keyring(vault: &Vault) -> (Vec<u8>, Arc<VolumeKeys>) {
    let locked = Locked::open(&vault.path()).expect("a vault");
    let passphrase = Some(SecretVec::from(PASSPHRASE.as_bytes()));
    let secret = SlotSecret::new(passphrase, None).expect("not empty");
    let (key, keys) = unlock(locked.header(), &secret).expect("right");
    let all = epochs(locked.header(), &key).expect("authentic");
    (
        all.iter().map(|(epoch, _)| epoch.0).collect(),
        Arc::new(keys),
    )
}

/// The epochs of all chunks in the vault; each chunk has to authenticate.
pub fn epochs_in_use(vault: &Vault) -> BTreeSet<u8> {
    epochs_of(vault, &keyring(vault).1, &content_files(&vault.path()))
}

/// The epochs of all chunks of these files.
pub fn epochs_of(vault: &Vault, keys: &Arc<VolumeKeys>, files: &[PathBuf]) -> BTreeSet<u8> {
    let locked = Locked::open(&vault.path()).expect("a vault");
    let geometry = Geometry::new(locked.header().log2_chunk).expect("in range");
    let mut used = BTreeSet::new();
    for path in files {
        let stored = fs::read(path).expect("readable");
        let header: &[u8; HEADER_LEN] = stored.first_chunk().expect("a header");
        let header = FileHeader::decode(header).expect("a header");
        let file = keys.open_file(&header).expect("of this volume");
        let chunks = stored[HEADER_LEN..].chunks(geometry.stored_chunk());
        for (no, chunk) in chunks.enumerate() {
            if chunk.iter().all(|b| *b == 0) {
                continue;
            }
            let mut plain = vec![0; chunk.len() - 40];
            file.open(ChunkNo(no as u64), chunk, &mut plain)
                .unwrap_or_else(|e| panic!("{}: chunk {no}: {e}", path.display()));
            let nonce: &[u8; NONCE_LEN] = chunk.first_chunk().expect("a nonce");
            used.insert(file.peek_meta(nonce).expect("known flags").epoch.0);
        }
    }
    used
}

/// The ciphertext files of a vault.
pub fn content_files(vault: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![vault.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let entry = entry.expect("readable");
            let name = entry.file_name();
            if !matches!(classify(name.as_bytes()), Stored::Short | Stored::Long) {
                continue;
            }
            let kind = entry.file_type().expect("known");
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

/// What a mount shows.
pub fn seen(vault: &Vault, times: Times) -> BTreeMap<PathBuf, Seen> {
    let mount = vault.mount();
    let seen = see(mount.path(), times);
    close(mount);
    seen
}

/// A vault with the tree in it, and what is seen of it.
pub fn with_tree(arguments: &[&str]) -> (Vault, BTreeMap<PathBuf, Seen>) {
    let vault = Vault::with(arguments);
    let mount = vault.mount();
    make_tree(mount.path());
    close(mount);
    let seen = seen(&vault, Times::Compare);
    (vault, seen)
}

/// A vault with the tree and three files of 5 MiB in it: enough for a rotation to be caught on the way.
pub fn large() -> Vault {
    let vault = Vault::new();
    let mount = vault.mount();
    make_tree(mount.path());
    for number in 0..3 {
        let content = bytes(1000 + number, 5 << 20);
        fs::write(mount.join(format!("large {number}")), content).expect("written");
    }
    close(mount);
    vault
}
