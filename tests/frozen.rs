//! Volumes of every format version that was ever released can be read, and written, by this one.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::{AtFlags, CWD, Mode, SeekFrom, Timespec, Timestamps, XattrFlags};

use common::{TempDir, Vault, run, wardfs};

const CIPHERS: [&str; 2] = ["xaes-256-gcm", "xchacha20-poly1305"];
const PASSPHRASE: &str = "frozen";
const SIZES: [usize; 5] = [0, 1, 4096, 4097, 5000];

fn frozen(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/frozen")
        .join(name)
}

fn archive(cipher: &str) -> PathBuf {
    frozen(&format!("v1-{cipher}.tar.gz"))
}

/// A copy of a frozen vault.
fn unpack(cipher: &str) -> Vault {
    let scratch = TempDir::new();
    run(Command::new("tar")
        .args([
            "--extract",
            "--gzip",
            "--preserve-permissions",
            "--xattrs",
            "--file",
        ])
        .arg(archive(cipher))
        .arg("--directory")
        .arg(scratch.path()))
    .ok();
    Vault::copy_of(&scratch.join("vault"), PASSPHRASE)
}

#[test]
fn version_1_reads_as_it_was_written() {
    let manifest = fs::read_to_string(frozen("v1.manifest")).expect("in the repository");
    for cipher in CIPHERS {
        let vault = unpack(cipher);
        let before = describe(&vault.path());
        let mount = vault.mount_with(&["-o", "ro"]);
        assert_eq!(describe(mount.path()), manifest, "{cipher}");
        mount.umount();
        assert_eq!(
            describe(&vault.path()),
            before,
            "a read-only mount changes nothing"
        );
        let mount = vault.mount();
        assert_eq!(describe(mount.path()), manifest, "{cipher}");
        mount.umount();
        let info = vault.info();
        assert_eq!(info["cipher"], cipher);
    }
}

#[test]
fn version_1_can_be_written_to() {
    for cipher in CIPHERS {
        let vault = unpack(cipher);
        let mount = vault.mount();
        let file = File::options()
            .write(true)
            .open(mount.join("files/5000"))
            .expect("opens");
        file.write_all_at(b"changed", 4093).expect("written");
        fs::write(mount.join("deep/a/b/new"), "new").expect("written");
        fs::rename(mount.join("deep"), mount.join("moved")).expect("renamed");
        drop(file);
        mount.umount();
        let mount = vault.mount();
        let mut expected = content(5000);
        expected[4093..4100].copy_from_slice(b"changed");
        assert_eq!(
            fs::read(mount.join("files/5000")).expect("readable"),
            expected
        );
        assert_eq!(
            fs::read(mount.join("files/4097")).expect("readable"),
            content(4097)
        );
        assert_eq!(
            fs::read_to_string(mount.join("moved/a/b/new")).expect("readable"),
            "new"
        );
        assert_eq!(
            fs::read_to_string(mount.join("moved/a/b/c/leaf")).expect("readable"),
            "leaf"
        );
        mount.umount();
    }
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// What a frozen volume holds.
fn fill(root: &Path) {
    fs::create_dir(root.join("files")).expect("made");
    for len in SIZES {
        fs::write(root.join(format!("files/{len}")), content(len)).expect("written");
    }
    fs::set_permissions(root.join("files/1"), Permissions::from_mode(0o600)).expect("changed");
    fs::set_permissions(root.join("files/4096"), Permissions::from_mode(0o755)).expect("changed");
    fs::hard_link(root.join("files/5000"), root.join("files/hard link")).expect("linked");
    let sparse = File::create(root.join("files/sparse")).expect("made");
    sparse.write_all_at(b"begin", 0).expect("written");
    sparse
        .write_all_at(b"middle", 40 * 4096 + 7)
        .expect("written");
    sparse.set_len(100 * 4096 + 1).expect("sized");

    fs::create_dir_all(root.join("deep/a/b/c")).expect("made");
    fs::write(root.join("deep/a/b/c/leaf"), "leaf").expect("written");
    fs::create_dir(root.join("empty")).expect("made");
    fs::set_permissions(root.join("empty"), Permissions::from_mode(0o700)).expect("changed");

    fs::create_dir(root.join("names")).expect("made");
    let names: [&[u8]; 5] = [
        &[b'n'; 160],
        &[b'n'; 161],
        &[b'n'; 255],
        b"\xff not UTF-8 \x01",
        b"~id",
    ];
    for name in names {
        let path = root.join("names").join(std::ffi::OsStr::from_bytes(name));
        fs::write(path, name).expect("written");
    }

    symlink("files/5000", root.join("link")).expect("made");
    symlink("t".repeat(255), root.join("longer link")).expect("made");
    symlink("far/".repeat(1023) + "end", root.join("far link")).expect("made");
    rustix::fs::mkfifoat(CWD, root.join("fifo"), Mode::from_raw_mode(0o640)).expect("made");

    for (path, name, value) in [
        ("files/5000", "user.comment", &b"a value"[..]),
        ("files/0", "user.empty", b""),
        ("files/0", "user.binary", &[0, 1, 0xff]),
        ("deep", "user.on.a.directory", b"yes"),
    ] {
        rustix::fs::setxattr(root.join(path), name, value, XattrFlags::empty()).expect("set");
    }

    let mut entries = entries(root);
    // What is deepest comes first, since making entries changes the time of their directory.
    entries.reverse();
    for (i, path) in entries.iter().enumerate() {
        // One before 1970; all with nanoseconds.
        let seconds = if i == 0 { -2 } else { 1_000_000_000 + i as i64 };
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: 123_456_789,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, root.join(path), &times, AtFlags::SYMLINK_NOFOLLOW)
            .expect("set");
    }
}

/// Paths below `root`, each after its directory.
fn entries(root: &Path) -> Vec<PathBuf> {
    fn walk(root: &Path, dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(root.join(dir)).expect("a directory") {
            let path = dir.join(entry.expect("readable").file_name());
            found.push(path.clone());
            if root
                .join(&path)
                .symlink_metadata()
                .expect("it exists")
                .is_dir()
            {
                walk(root, &path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(root, Path::new(""), &mut found);
    found.sort();
    found
}

/// One line for each entry: everything about it but its owner, inode and access time.
fn describe(root: &Path) -> String {
    let mut first_names = BTreeMap::new();
    let mut text = String::new();
    for path in entries(root) {
        let full = root.join(&path);
        let meta = full.symlink_metadata().expect("it exists");
        let kind = match meta.file_type() {
            t if t.is_dir() => "directory",
            t if t.is_symlink() => "symlink",
            t if t.is_fifo() => "fifo",
            _ => "file",
        };
        let name = path.as_os_str().as_bytes().escape_ascii();
        let (mode, mtime, nanos) = (meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec());
        write!(text, "{name}: {kind} {mode:04o} {mtime}+{nanos:09}").expect("to memory");
        if kind == "file" {
            let data = fs::read(&full).expect("readable");
            let hash = data_encoding::HEXLOWER.encode(digest(&SHA256, &data).as_ref());
            write!(text, " {} bytes {hash} links {}", data.len(), meta.nlink()).expect("to memory");
            if meta.nlink() > 1 {
                let first = first_names.entry(meta.ino()).or_insert(name.to_string());
                write!(text, " of {first}").expect("to memory");
            }
            write!(text, " data at {:?}", data_ranges(&full, meta.len())).expect("to memory");
        }
        if kind == "symlink" {
            let target = fs::read_link(&full).expect("a link");
            write!(text, " to {}", target.as_os_str().as_bytes().escape_ascii())
                .expect("to memory");
        }
        if matches!(kind, "file" | "directory") {
            for (name, value) in attributes(&full) {
                write!(text, " {name}={}", value.escape_ascii()).expect("to memory");
            }
        }
        text.push('\n');
    }
    text
}

fn data_ranges(path: &Path, len: u64) -> Vec<(u64, u64)> {
    let file = File::open(path).expect("opens");
    let mut found = Vec::new();
    let mut at = 0;
    while at < len {
        let Ok(begin) = rustix::fs::seek(&file, SeekFrom::Data(at)) else {
            break;
        };
        at = rustix::fs::seek(&file, SeekFrom::Hole(begin)).expect("the end is a hole");
        found.push((begin, at));
    }
    found
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 4096];
    let len = rustix::fs::listxattr(path, &mut names).expect("lists");
    let names = String::from_utf8(names[..len].to_vec()).expect("ASCII");
    let names = names
        .split_terminator('\0')
        .filter(|name| name.starts_with("user."));
    let value = |name: &str| {
        let mut value = vec![0; 4096];
        let len = rustix::fs::getxattr(path, name, &mut value).expect("it is listed");
        value[..len].to_vec()
    };
    names.map(|name| (name.to_owned(), value(name))).collect()
}

/// See `tests/frozen/README.md`.
#[test]
#[ignore = "writes the frozen volumes that are missing"]
fn freeze() {
    for cipher in CIPHERS {
        if archive(cipher).exists() {
            continue;
        }
        let scratch = TempDir::new();
        let (vault, mountpoint) = (scratch.join("vault"), scratch.dir("mnt"));
        let passphrase = scratch.file("passphrase", PASSPHRASE);
        let init = [
            "--kdf-memory",
            "64M",
            "--kdf-time",
            "1",
            "--kdf-parallel",
            "2",
            "--label",
            "frozen",
        ];
        let secret = || [Path::new("--passphrase-file"), &passphrase].map(Path::to_owned);
        run(wardfs()
            .arg("init")
            .arg(&vault)
            .args(init)
            .args(["--cipher", cipher])
            .args(secret()))
        .ok();
        run(wardfs()
            .arg("mount")
            .args([&vault, &mountpoint])
            .args(secret()))
        .ok();
        let filled = std::panic::catch_unwind(|| fill(&mountpoint));
        run(wardfs().arg("umount").arg(&mountpoint)).ok();
        filled.expect("filled");
        // Who had it mounted is nobody's business.
        File::create(vault.join("~wardfs/lock")).expect("emptied");
        run(wardfs()
            .arg("mount")
            .args([&vault, &mountpoint])
            .args(secret())
            .args(["-o", "ro"]))
        .ok();
        let manifest = std::panic::catch_unwind(|| describe(&mountpoint));
        run(wardfs().arg("umount").arg(&mountpoint)).ok();
        fs::write(frozen("v1.manifest"), manifest.expect("described")).expect("written");
        run(Command::new("tar")
            .args([
                "--create",
                "--gzip",
                "--format=pax",
                "--sort=name",
                "--numeric-owner",
            ])
            .args(["--owner=0", "--group=0", "--xattrs", "--sparse", "--file"])
            .arg(archive(cipher))
            .arg("--directory")
            .arg(scratch.path())
            .arg("vault"))
        .ok();
    }
}
