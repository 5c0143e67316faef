//! `-o ro` and `-o noatime` hold for the vault as well.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, Timespec, Timestamps, XattrFlags, getxattr, mkdir, setxattr, utimensat,
};

use crate::common::{Vault, run};
use crate::fixture::{Place, assert_content, assert_errno, bytes};

/// All that can be seen of a file: content, size, mode and owner, times.
type Seen = (Vec<u8>, Vec<i64>);

fn everything(dir: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).expect("there");
        let numbers = vec![
            meta.size() as i64,
            i64::from(meta.mode()),
            i64::from(meta.uid()),
            meta.nlink() as i64,
            meta.atime(),
            meta.atime_nsec(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        ];
        let content = match &meta {
            m if m.is_dir() => {
                left.extend(
                    fs::read_dir(&path)
                        .expect("ours")
                        .map(|e| e.expect("ours").path()),
                );
                Vec::new()
            }
            m if m.is_symlink() => fs::read_link(&path)
                .expect("a link")
                .into_os_string()
                .into_encoded_bytes(),
            _ => read_quietly(&path),
        };
        found.insert(path, (content, numbers));
    }
    found
}

/// Looking must not change what is looked at.
fn read_quietly(path: &Path) -> Vec<u8> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let mut content = Vec::new();
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .custom_flags(libc::O_NOATIME)
        .open(path)
        .expect("ours");
    file.read_to_end(&mut content).expect("ours");
    content
}

/// So old that any reading would renew the access time, also under `relatime`.
fn age(dir: &Path) {
    for path in everything(dir).keys() {
        let old = Timespec {
            tv_sec: 1_000_000_000,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: old,
            last_modification: old,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("ours");
    }
    // Reading the tree above has read directories again.
    for path in everything(dir).keys().filter(|p| p.is_dir()) {
        let old = Timespec {
            tv_sec: 1_000_000_000,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: old,
            last_modification: old,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("ours");
    }
}

fn filled() -> Vault {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::create_dir(mount.join("dir")).expect("free");
    fs::create_dir(mount.join("empty-dir")).expect("free");
    fs::write(mount.join("file"), bytes(1, 100_000)).expect("room");
    fs::write(mount.join("dir/empty"), b"").expect("room");
    fs::write(mount.join("dir").join("l".repeat(255)), b"long").expect("room");
    symlink("file", mount.join("link")).expect("free");
    symlink("t".repeat(4000), mount.join("far")).expect("free");
    setxattr(mount.join("file"), "user.a", b"value", XattrFlags::empty()).expect("room");
    mount.umount();
    vault
}

fn read_everything(root: &Path) {
    assert_content(&root.join("file"), &bytes(1, 100_000));
    assert_content(&root.join("dir/empty"), b"");
    assert_content(&root.join("dir").join("l".repeat(255)), b"long");
    assert_eq!(
        fs::read_link(root.join("far"))
            .expect("there")
            .as_os_str()
            .len(),
        4000
    );
    assert_content(&root.join("link"), &bytes(1, 100_000));
    getxattr(root.join("file"), "user.a", &mut [0; 10]).expect("set");
    assert_errno(
        getxattr(root.join("empty-dir"), "user.a", &mut [0; 10]),
        libc::ENODATA,
    );
    assert_eq!(fs::read_dir(root.join("dir")).expect("there").count(), 2);
    assert_eq!(
        fs::read_dir(root.join("empty-dir")).expect("there").count(),
        0
    );
    assert!(!fs::exists(root.join("empty-dir/none")).expect("searchable"));
    File::open(root.join("file"))
        .expect("there")
        .sync_all()
        .expect("nothing to do");
}

fn assert_same(before: &BTreeMap<PathBuf, Seen>, after: &BTreeMap<PathBuf, Seen>) {
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>()
    );
    for (path, seen) in before {
        assert_eq!(
            seen.1,
            after[path].1,
            "size, mode, uid, links, atime, mtime, ctime of {}",
            path.display()
        );
        assert!(seen.0 == after[path].0, "content of {}", path.display());
    }
}

#[test]
fn a_read_only_mount_changes_nothing_in_the_vault_not_even_access_times() {
    let vault = filled();
    age(&vault.path());
    let before = everything(&vault.path());
    age_dirs_of(&before);
    let before: BTreeMap<_, _> = before
        .into_keys()
        .map(|p| {
            let s = seen(&p);
            (p, s)
        })
        .collect();
    let mount = vault.mount_with(&["-o", "ro"]);
    read_everything(mount.path());
    mount.umount();
    let after: BTreeMap<_, _> = before.keys().map(|p| (p.clone(), seen(p))).collect();
    assert_same(&before, &after);
    assert_eq!(
        everything(&vault.path()).len(),
        before.len(),
        "nothing was added"
    );
}

/// As [`everything`] has it, for one object, without reading any directory.
fn seen(path: &Path) -> Seen {
    let meta = fs::symlink_metadata(path).expect("there");
    let numbers = vec![
        meta.size() as i64,
        i64::from(meta.mode()),
        i64::from(meta.uid()),
        meta.nlink() as i64,
        meta.atime(),
        meta.atime_nsec(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ];
    (
        if meta.is_file() {
            read_quietly(path)
        } else {
            Vec::new()
        },
        numbers,
    )
}

fn age_dirs_of(all: &BTreeMap<PathBuf, Seen>) {
    for path in all.keys().filter(|p| p.is_dir()) {
        let old = Timespec {
            tv_sec: 1_000_000_000,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: old,
            last_modification: old,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("ours");
    }
}

#[test]
fn a_read_only_mount_refuses_every_change() {
    let vault = filled();
    let mut place = Place::new(&vault, "ro");
    let (file, new) = (place.join("file"), place.join("new"));
    assert_errno(OpenOptions::new().write(true).open(&file), libc::EROFS);
    assert_errno(File::create(&new), libc::EROFS);
    assert_errno(mkdir(&new, Mode::RWXU), libc::EROFS);
    assert_errno(symlink("x", &new), libc::EROFS);
    assert_errno(fs::hard_link(&file, &new), libc::EROFS);
    assert_errno(fs::rename(&file, &new), libc::EROFS);
    assert_errno(fs::remove_file(&file), libc::EROFS);
    assert_errno(fs::remove_dir(place.join("empty-dir")), libc::EROFS);
    assert_errno(rustix::fs::chmod(&file, Mode::RWXU), libc::EROFS);
    assert_errno(std::os::unix::fs::chown(&file, Some(1), None), libc::EROFS);
    assert_errno(
        setxattr(&file, "user.b", b"x", XattrFlags::empty()),
        libc::EROFS,
    );
    assert_errno(rustix::fs::removexattr(&file, "user.a"), libc::EROFS);
    let options = run(std::process::Command::new("findmnt")
        .args(["-n", "-o", "OPTIONS"])
        .arg(place.root()))
    .ok();
    assert!(options.split(',').any(|o| o == "ro"), "{options}");
    place.umount();
}

#[test]
fn a_vault_on_a_read_only_filesystem_is_read_with_ro() {
    let test = "read_only::a_vault_on_a_read_only_filesystem_is_read_with_ro";
    crate::common::namespace::in_own_namespace(test, || {
        let vault = filled();
        run(std::process::Command::new("mount")
            .arg("--bind")
            .arg(vault.path())
            .arg(vault.path()))
        .ok();
        run(std::process::Command::new("mount")
            .args(["-o", "remount,bind,ro"])
            .arg(vault.path()))
        .ok();
        let mount = vault.mount_with(&["-o", "ro"]);
        read_everything(mount.path());
        mount.umount();
        run(std::process::Command::new("umount").arg(vault.path())).ok();
    });
}

#[test]
fn reading_with_noatime_changes_no_access_time_in_the_tree_of_the_vault() {
    let vault = filled();
    age(&vault.path());
    let mount = vault.mount_with(&["-o", "noatime"]);
    let paths: Vec<PathBuf> = everything(&vault.path())
        .into_keys()
        .filter(|p| !p.to_string_lossy().contains("~wardfs"))
        .collect();
    for path in &paths {
        let old = Timespec {
            tv_sec: 1_000_000_000,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: old,
            last_modification: old,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("ours");
    }
    read_everything(mount.path());
    for path in &paths {
        let meta = fs::symlink_metadata(path).expect("there");
        // The kernel itself renews those of links, whatever the reader asks for.
        if !meta.is_symlink() {
            assert_eq!(meta.atime(), 1_000_000_000, "{}", path.display());
        }
    }
    mount.umount();
}

#[test]
fn reading_a_file_with_noatime_leaves_what_the_mount_shows() {
    let vault = filled();
    let mount = vault.mount_with(&["-o", "noatime"]);
    let before = fs::metadata(mount.join("file")).expect("there").atime();
    assert_content(&mount.join("file"), &bytes(1, 100_000));
    assert_eq!(
        fs::metadata(mount.join("file")).expect("there").atime(),
        before
    );
    mount.umount();
}
