//! Names of entries and paths.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, mkdirat, openat};

use crate::fixture::{PLAIN, Place, assert_content, assert_errno};

fn listed(place: &Place<'_>) -> BTreeSet<Vec<u8>> {
    let entries = fs::read_dir(place.root()).expect("readable");
    entries
        .map(|e| e.expect("readable").file_name().into_vec())
        .collect()
}

fn at(place: &Place<'_>, name: &[u8]) -> PathBuf {
    place.join(OsStr::from_bytes(name))
}

#[test]
fn a_name_may_hold_any_byte_but_slash_and_nul() {
    PLAIN.run(|place| {
        let mut names = BTreeSet::new();
        for byte in (1..=255u8).filter(|b| *b != b'/') {
            for len in [1, 2, 16, 17, 175, 176, 177, 254, 255] {
                if byte != b'.' || len > 2 {
                    names.insert(vec![byte; len]);
                }
            }
        }
        for name in &names {
            fs::write(at(place, name), name).expect("free");
        }
        assert_eq!(listed(place), names);
        place.remount();
        assert_eq!(listed(place), names);
        for name in &names {
            assert_content(&at(place, name), name);
            fs::remove_file(at(place, name)).expect("there");
        }
        assert!(listed(place).is_empty());
        place.umount();
        let left = fs::read_dir(place.vault().path()).expect("ours");
        let left: Vec<_> = left
            .map(|e| e.expect("ours").file_name())
            .filter(|n| !n.as_bytes().starts_with(b"~id"))
            .collect();
        assert_eq!(left, ["~wardfs"], "long names leave nothing behind");
    });
}

#[test]
fn names_of_every_length_up_to_255_work_for_every_kind_of_entry() {
    PLAIN.run(|place| {
        let mut names = BTreeSet::new();
        for len in 1..=255usize {
            let name: Vec<u8> = (0..len)
                .map(|i| b'a' + ((i * 7 + len) % 26) as u8)
                .collect();
            match len % 4 {
                0 => fs::write(at(place, &name), b"x").expect("free"),
                1 => fs::create_dir(at(place, &name)).expect("free"),
                2 => std::os::unix::fs::symlink("x", at(place, &name)).expect("free"),
                _ => rustix::fs::mknodat(
                    rustix::fs::CWD,
                    at(place, &name),
                    rustix::fs::FileType::Fifo,
                    Mode::RWXU,
                    0,
                )
                .expect("free"),
            }
            names.insert(name);
        }
        place.remount();
        assert_eq!(listed(place), names);
        for name in names {
            match name.len() % 4 {
                1 => fs::remove_dir(at(place, &name)).expect("empty"),
                _ => fs::remove_file(at(place, &name)).expect("there"),
            }
        }
        assert!(listed(place).is_empty());
    });
}

#[test]
fn a_name_of_256_bytes_is_too_long() {
    PLAIN.run(|place| {
        let name = [b'n'; 256];
        assert_errno(fs::write(at(place, &name), b"x"), libc::ENAMETOOLONG);
        assert_errno(fs::create_dir(at(place, &name)), libc::ENAMETOOLONG);
        assert_errno(fs::metadata(at(place, &name)), libc::ENAMETOOLONG);
        fs::write(at(place, b"a"), b"x").expect("free");
        assert_errno(
            fs::rename(at(place, b"a"), at(place, &name)),
            libc::ENAMETOOLONG,
        );
        assert_errno(
            fs::hard_link(at(place, b"a"), at(place, &name)),
            libc::ENAMETOOLONG,
        );
        assert_errno(
            std::os::unix::fs::symlink("x", at(place, &name)),
            libc::ENAMETOOLONG,
        );
    });
}

#[test]
fn names_that_the_vault_uses_itself_are_ordinary_names() {
    PLAIN.run(|place| {
        for name in [
            "~wardfs",
            "~id",
            "~L",
            ".nfs0001",
            "~id.AAAA",
            ".fuse_hidden1",
        ] {
            fs::write(place.join(name), name).expect("free");
        }
        place.remount();
        for name in [
            "~wardfs",
            "~id",
            "~L",
            ".nfs0001",
            "~id.AAAA",
            ".fuse_hidden1",
        ] {
            assert_content(&place.join(name), name.as_bytes());
        }
        assert_eq!(listed(place).len(), 6);
    });
}

#[test]
fn the_same_name_is_stored_differently_in_every_directory() {
    PLAIN.run(|place| {
        let mut stored = BTreeSet::new();
        for dir in ["a", "b", "c"] {
            fs::create_dir(place.join(dir)).expect("free");
            fs::write(place.join(dir).join("name"), b"x").expect("free");
            stored.insert(
                place
                    .stored(&place.join(dir).join("name"))
                    .file_name()
                    .expect("a file")
                    .to_owned(),
            );
        }
        assert_eq!(stored.len(), 3);
        assert!(
            stored
                .iter()
                .all(|n| !n.as_bytes().windows(4).any(|w| w == b"name"))
        );
    });
}

#[test]
fn paths_of_4095_bytes_are_reached() {
    PLAIN.run(|place| {
        let room = 4095 - place.root().as_os_str().len();
        let mut path = place.root().to_owned();
        let mut left = room;
        while left > 256 + 2 {
            path.push("d".repeat(255));
            fs::create_dir(&path).expect("free");
            left -= 256;
        }
        path.push("f".repeat(left - 1));
        assert_eq!(path.as_os_str().len(), 4095);
        fs::write(&path, b"deep").expect("free");
        assert_content(&path, b"deep");
        place.remount();
        assert_content(&path, b"deep");
        fs::remove_file(&path).expect("there");
    });
}

#[test]
fn trees_deeper_than_any_path_are_reached_step_by_step() {
    PLAIN.run(|place| {
        const DEPTH: usize = 300;
        let name = "d".repeat(100);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut dir = rustix::fs::open(place.root(), flags, Mode::empty()).expect("there");
        for _ in 0..DEPTH {
            mkdirat(&dir, &name, Mode::RWXU).expect("free");
            dir = openat(&dir, &name, flags, Mode::empty()).expect("there");
        }
        let file = openat(
            &dir,
            "file",
            OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::RWXU,
        )
        .expect("free");
        rustix::io::write(&file, b"deepest").expect("room");
        drop((file, dir));
        place.remount();
        let mut dir = rustix::fs::open(place.root(), flags, Mode::empty()).expect("there");
        for _ in 0..DEPTH {
            dir = openat(&dir, &name, flags, Mode::empty()).expect("there");
        }
        let file = openat(
            &dir,
            "file",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .expect("there");
        let mut seen = [0; 7];
        rustix::io::read(&file, &mut seen).expect("there");
        assert_eq!(&seen, b"deepest");
        drop((file, dir));
        crate::common::run(
            std::process::Command::new("rm")
                .arg("-r")
                .arg(place.join(&name)),
        )
        .ok();
    });
}
