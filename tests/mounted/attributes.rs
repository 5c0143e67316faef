//! Modes, inode numbers and what statfs tells.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use crate::common::run;
use crate::fixture::{DATA_KINDS, PLAIN, assert_errno, chmod, mode_of, on_each};

fn inodes(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::from([(dir.to_owned(), fs::metadata(dir).expect("there").ino())]);
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        let meta = fs::symlink_metadata(&path).expect("there");
        if meta.is_dir() {
            found.extend(inodes(&path));
        } else {
            found.insert(path, meta.ino());
        }
    }
    found
}

#[test]
fn inode_numbers_stay_the_same_across_remounts() {
    PLAIN.run(|place| {
        for i in 0..20 {
            let dir = place.join(format!("dir{i}"));
            fs::create_dir(&dir).expect("free");
            fs::write(dir.join("file"), b"x").expect("free");
            symlink("file", dir.join("link")).expect("free");
        }
        let before = inodes(place.root());
        place.remount();
        assert_eq!(inodes(place.root()), before);
        // A replaced content is the same file, also by rename of its directory.
        fs::rename(place.join("dir3"), place.join("renamed")).expect("there");
        fs::write(place.join("renamed/file"), b"other content").expect("there");
        place.remount();
        assert_eq!(
            inodes(place.root())[&place.join("renamed/file")],
            before[&place.join("dir3/file")]
        );
    });
}

#[test]
fn every_mode_is_kept() {
    PLAIN.run(|place| {
        fs::create_dir(place.join("dir")).expect("free");
        fs::write(place.join("file"), b"x").expect("free");
        for mode in (0..=0o7777)
            .step_by(61)
            .chain([0o7777, 0o4755, 0o2755, 0o1777, 0])
        {
            for name in ["dir", "file"] {
                chmod(&place.join(name), mode);
                assert_eq!(mode_of(&place.join(name)), mode);
            }
        }
        chmod(&place.join("dir"), 0o3751);
        chmod(&place.join("file"), 0o4204);
        place.remount();
        assert_eq!(
            (mode_of(&place.join("dir")), mode_of(&place.join("file"))),
            (0o3751, 0o4204)
        );
    });
}

#[test]
fn the_kernel_checks_modes() {
    PLAIN.run(|place| {
        fs::write(place.join("script"), b"#!/bin/sh\necho run\n").expect("free");
        assert_errno(access(place.join("script"), Access::EXEC_OK), libc::EACCES);
        chmod(&place.join("script"), 0o755);
        access(place.join("script"), Access::EXEC_OK).expect("executable now");
        assert_eq!(
            run(&mut std::process::Command::new(place.join("script"))).ok(),
            "run\n"
        );
    });
}

#[test]
fn owners_are_kept_also_of_links() {
    PLAIN.run(|place| {
        fs::write(place.join("file"), b"x").expect("free");
        symlink("file", place.join("link")).expect("free");
        fs::create_dir(place.join("dir")).expect("free");
        std::os::unix::fs::chown(place.join("file"), Some(1), Some(2)).expect("root");
        std::os::unix::fs::lchown(place.join("link"), Some(3), Some(4)).expect("root");
        std::os::unix::fs::chown(place.join("dir"), Some(4_000_000_000), None).expect("root");
        for _ in 0..2 {
            let owners = ["file", "link", "dir"].map(|name| {
                let meta = fs::symlink_metadata(place.join(name)).expect("there");
                (meta.uid(), meta.gid())
            });
            assert_eq!(owners, [(1, 2), (3, 4), (4_000_000_000, 0)]);
            place.remount();
        }
    });
}

#[test]
fn statfs_tells_what_the_backing_filesystem_tells() {
    PLAIN.run(|place| {
        let (here, there) = (
            statvfs(place.root()).expect("mounted"),
            statvfs(place.vault().path()).expect("there"),
        );
        assert_eq!(here.f_namemax, 255);
        assert_eq!(
            (here.f_bsize, here.f_frsize),
            (there.f_bsize, there.f_frsize)
        );
        assert_eq!(
            (here.f_blocks, here.f_files),
            (there.f_blocks, there.f_files)
        );
        // Others write to that filesystem meanwhile: within one percent of its size.
        let near = |a: u64, b: u64| a.abs_diff(b) <= there.f_blocks.max(there.f_files) / 100;
        assert!(
            near(here.f_bfree, there.f_bfree)
                && near(here.f_bavail, there.f_bavail)
                && near(here.f_ffree, there.f_ffree)
        );
        assert!(here.f_bavail <= here.f_bfree);
    });
}

#[test]
fn allocated_blocks_are_told_once_written() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("file");
        fs::write(&path, vec![1; 1 << 20]).expect("room");
        place.remount();
        let blocks = fs::metadata(&path).expect("there").blocks();
        assert!((2048..2300).contains(&blocks), "{blocks}");
    });
}
