//! A vault on a disk that fills up.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use wardfs::store::lock::VaultLock;

use crate::common::{Mount, Vault};
use crate::support::{SmallDisk, is_root, noise, read, try_sh, write};

const DISK: u64 = 48;
/// Ends in the middle of a chunk.
const GROWN: usize = 200_001;

fn is_full(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOSPC)
}

/// Writes and syncs; answers the first error.
fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Files that were written and synced, until the disk was full.
fn fill(dir: &Path, mut size: usize) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut stored = BTreeMap::new();
    for n in 0.. {
        let (path, content) = (dir.join(format!("fill {n}")), noise(n, size));
        match write_synced(&path, &content) {
            Ok(()) => drop(stored.insert(path, content)),
            Err(e) => {
                assert!(is_full(&e), "{e}");
                let _ = fs::remove_file(&path);
                if size < 4096 {
                    break;
                }
                size /= 8;
            }
        }
    }
    stored
}

fn assert_kept(stored: &BTreeMap<PathBuf, Vec<u8>>, when: &str) {
    for (path, content) in stored {
        let now = read(path);
        let differs = now.iter().zip(content).position(|(a, b)| a != b);
        let state = (now.len(), content.len(), differs);
        assert!(
            &now == content,
            "{} has changed {when}: {state:?}",
            path.display()
        );
    }
}

/// Runs `body` with a vault on a small disk of its own.
fn on_a_small_disk(body: impl FnOnce(&Vault)) {
    if !is_root("mount a disk image") {
        return;
    }
    let vault = Vault::unmade(crate::common::PASSPHRASE);
    let disk = SmallDisk::new(vault.dir(), DISK);
    symlink(disk.path().join("vault"), vault.path()).expect("the name is free");
    fs::create_dir(disk.path().join("vault")).expect("the disk is empty");
    vault.init(&[]);
    body(&vault);
    drop(disk);
}

#[test]
fn a_full_disk_is_reported_and_costs_nothing_that_was_stored() {
    on_a_small_disk(|vault| {
        let mount = vault.mount();
        write(mount.join("before"), noise(1, 300_000));
        write(mount.join("grown"), noise(3, GROWN));
        let dir = mount.join("dir");
        fs::create_dir(&dir).expect("there is room");
        let mut stored = fill(&dir, 4 << 20);
        assert!(stored.len() > 6, "{}", stored.len());
        stored.insert(mount.join("before"), noise(1, 300_000));
        assert_kept(&stored, "while the disk is full");
        assert_full(&mount, &mut stored);
        let statfs = rustix::fs::statvfs(mount.path()).expect("it is mounted");
        assert!(
            statfs.f_bavail * statfs.f_frsize < 1 << 20,
            "statfs does not show that the disk is full"
        );
        mount.umount();

        let mount = vault.mount();
        assert_kept(&stored, "after a remount with a full disk");
        assert_old_content_and_a_part_of_the_new(&mount.join("grown"));
        let victim = dir.join("fill 0");
        fs::remove_file(&victim).expect("removing needs no room");
        stored.remove(&victim).expect("it was there");
        let new = (mount.join("new"), noise(77, 3 << 20));
        write_synced(&new.0, &new.1).expect("there is room again");
        stored.insert(new.0, new.1);
        mount.umount();
        let mount = vault.mount();
        assert_kept(&stored, "after another remount");
        mount.umount();
        assert!(
            VaultLock::holder(&vault.path())
                .expect("readable")
                .is_none()
        );
    });
}

/// What needs room fails with ENOSPC and changes nothing; what needs none works.
fn assert_full(mount: &Mount<'_>, stored: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let path = mount.join("before");
    let content = stored.get_mut(&path).expect("it is one of them");
    let file = File::options()
        .write(true)
        .open(&path)
        .expect("it is there");
    let grown = append_to(&file, content.len());
    assert!(grown.as_ref().is_err_and(is_full), "{grown:?}");
    // The program takes its failed write back.
    file.set_len(content.len() as u64)
        .expect("cutting needs no room");
    assert!(
        &read(&path) == content,
        "the content of a file that could not grow has changed"
    );

    // Stored chunks are overwritten in place.
    file.write_all_at(b"overwritten", 100_000)
        .expect("overwriting needs no room");
    file.sync_all().expect("overwriting needs no room");
    content[100_000..100_011].copy_from_slice(b"overwritten");

    // Another leaves its file as it is. What follows the old content is a part of what was to be written.
    let grown = append_to(
        &File::options()
            .write(true)
            .open(mount.join("grown"))
            .expect("it is there"),
        GROWN,
    );
    assert!(grown.as_ref().is_err_and(is_full), "{grown:?}");

    write(mount.vault().dir().join("source"), noise(9, 6 << 20));
    let ran = try_sh(
        mount.path(),
        &format!("cp {} copy", mount.vault().dir().join("source").display()),
    );
    assert!(
        ran.code != Some(0) && ran.stderr.contains("No space left"),
        "{ran:?}"
    );
    fs::remove_file(mount.join("copy")).expect("removing needs no room");
}

fn append_to(file: &File, len: usize) -> io::Result<()> {
    file.write_all_at(&noise(2, 8 << 20), len as u64)
        .and_then(|()| file.sync_all())
}

fn assert_old_content_and_a_part_of_the_new(path: &Path) {
    let now = read(path);
    assert!(
        now.len() >= GROWN && now[..GROWN] == noise(3, GROWN),
        "the old content has changed"
    );
    assert!(
        noise(2, 8 << 20).starts_with(&now[GROWN..]),
        "there is something that nobody has written"
    );
}

#[test]
fn many_small_files_until_the_disk_is_full_leave_whole_files_only() {
    on_a_small_disk(|vault| {
        let mount = vault.mount();
        let mut stored = BTreeMap::new();
        let mut full = 0;
        for n in 0..6000 {
            let dir = mount.join(format!("d{}", n % 40));
            let (path, content) = (dir.join(format!("{n}")), noise(n, 20_000));
            let made = match fs::create_dir(&dir) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made,
            };
            match made.and_then(|()| write_synced(&path, &content)) {
                Ok(()) => drop(stored.insert(path, content)),
                Err(e) => {
                    assert!(is_full(&e), "{e}");
                    full += 1;
                }
            }
            if full == 20 {
                break;
            }
        }
        assert!(
            full == 20 && stored.len() > 500,
            "{} files, {full} times full",
            stored.len()
        );
        mount.umount();
        let mount = vault.mount();
        assert_kept(&stored, "after a remount");
        // What failed half-way is there in part or not at all, and can be read and removed.
        for entry in fs::read_dir(mount.path()).expect("it can be listed") {
            let dir = entry.expect("it can be listed").path();
            for entry in fs::read_dir(&dir).expect("it can be listed") {
                let path = entry.expect("it can be listed").path();
                let number: u64 = path
                    .file_name()
                    .and_then(|n| n.to_str())
                    .and_then(|n| n.parse().ok())
                    .expect("ours");
                assert!(
                    noise(number, 20_000).starts_with(&read(&path)),
                    "{}",
                    path.display()
                );
            }
            fs::remove_dir_all(&dir).expect("removing needs no room");
        }
        write_synced(&mount.join("new"), &noise(3, 8 << 20)).expect("there is room again");
        mount.umount();
    });
}
