//! Who owns what is made on a mount that root serves to others.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{Access, CWD, FileType, Mode, mkdir, mknodat};

use crate::common::TempDir;
use crate::fixture::{
    Kind, PLAIN, SHARED, SHARED_NOWRITEBACK, as_user, assert_errno, chmod, mode_of, on_each,
};

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).expect("there");
    (meta.uid(), meta.gid())
}

fn make_one_of_each(dir: &Path) {
    fs::write(dir.join("file"), b"content").expect("free");
    fs::create_dir(dir.join("dir")).expect("free");
    symlink("file", dir.join("link")).expect("free");
    mknodat(CWD, dir.join("fifo"), FileType::Fifo, Mode::RWXU, 0).expect("free");
    mknodat(CWD, dir.join("made"), FileType::RegularFile, Mode::RWXU, 0).expect("free");
    fs::write(dir.join("l".repeat(250)), b"").expect("free");
}

#[test]
fn objects_belong_to_the_caller() {
    on_each(&[SHARED, SHARED_NOWRITEBACK], |place| {
        as_user(1000, 2000, || make_one_of_each(place.root()));
        for _ in 0..2 {
            for entry in fs::read_dir(place.root()).expect("readable") {
                let path = entry.expect("readable").path();
                assert_eq!(owner(&path), (1000, 2000), "{}", path.display());
            }
            assert_eq!(fs::read_dir(place.root()).expect("readable").count(), 6);
            place.remount();
        }
        fs::write(place.join("root's"), b"").expect("free");
        assert_eq!(owner(&place.join("root's")), (0, 0));
    });
}

#[test]
fn a_setgid_directory_passes_on_its_group() {
    SHARED.run(|place| {
        let dir = place.join("setgid");
        fs::create_dir(&dir).expect("free");
        std::os::unix::fs::chown(&dir, Some(1000), Some(3000)).expect("root");
        chmod(&dir, 0o2777);
        as_user(1001, 2001, || make_one_of_each(&dir));
        for entry in fs::read_dir(&dir).expect("readable") {
            let path = entry.expect("readable").path();
            assert_eq!(owner(&path), (1001, 3000), "{}", path.display());
        }
        assert_eq!(
            mode_of(&dir.join("dir")) & 0o2000,
            0o2000,
            "a subdirectory is set-group-id too"
        );
        assert_eq!(mode_of(&dir.join("file")) & 0o2000, 0);
    });
}

#[test]
fn special_bits_asked_for_at_creation_are_there() {
    SHARED.run(|place| {
        as_user(1000, 1000, || {
            mkdir(place.join("sticky"), Mode::from_raw_mode(0o1755)).expect("free");
            let flags = rustix::fs::OFlags::CREATE
                | rustix::fs::OFlags::WRONLY
                | rustix::fs::OFlags::CLOEXEC;
            rustix::fs::open(place.join("suid"), flags, Mode::from_raw_mode(0o6755)).expect("free");
        });
        place.remount();
        assert_eq!(mode_of(&place.join("sticky")), 0o1755);
        assert_eq!(mode_of(&place.join("suid")), 0o6755);
        assert_eq!(owner(&place.join("suid")), (1000, 1000));
    });
}

#[test]
fn one_user_cannot_read_or_change_what_belongs_to_another() {
    SHARED.run(|place| {
        as_user(1000, 1000, || {
            fs::write(place.join("private"), b"secret").expect("free");
            chmod(&place.join("private"), 0o600);
            fs::create_dir(place.join("dir")).expect("free");
            chmod(&place.join("dir"), 0o700);
        });
        as_user(1001, 1001, || {
            assert_errno(fs::read(place.join("private")), libc::EACCES);
            assert_errno(fs::write(place.join("private"), b"x"), libc::EACCES);
            assert_errno(fs::write(place.join("dir/file"), b"x"), libc::EACCES);
            let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666);
            assert_errno(
                fs::set_permissions(place.join("private"), mode),
                libc::EPERM,
            );
            assert_errno(
                std::os::unix::fs::chown(place.join("private"), Some(1001), None),
                libc::EPERM,
            );
        });
        as_user(1000, 1000, || {
            assert_errno(
                std::os::unix::fs::chown(place.join("private"), Some(1001), None),
                libc::EPERM,
            );
            assert_eq!(fs::read(place.join("private")).expect("his"), b"secret");
        });
    });
}

#[test]
fn a_sticky_directory_protects_the_entries_of_others() {
    SHARED.run(|place| {
        chmod(place.root(), 0o1777);
        as_user(1000, 1000, || {
            fs::write(place.join("his"), b"x").expect("free")
        });
        as_user(1001, 1001, || {
            assert_errno(fs::remove_file(place.join("his")), libc::EPERM);
            assert_errno(
                fs::rename(place.join("his"), place.join("mine")),
                libc::EPERM,
            );
        });
        as_user(1000, 1000, || {
            fs::remove_file(place.join("his")).expect("his own")
        });
    });
}

#[test]
fn without_allow_other_nobody_else_enters() {
    PLAIN.run(|place| {
        chmod(place.root(), 0o777);
        fs::write(place.join("file"), b"x").expect("free");
        chmod(&place.join("file"), 0o666);
        as_user(1000, 1000, || {
            assert_errno(fs::read_dir(place.root()), libc::EACCES);
            assert_errno(File::open(place.join("file")), libc::EACCES);
        });
    });
}

#[test]
fn an_ordinary_user_writes_to_a_file_whose_mode_forbids_it_through_an_open_descriptor() {
    on_each(&[SHARED, SHARED_NOWRITEBACK], |place| {
        as_user(1000, 1000, || {
            for mode in [0o000, 0o400, 0o444, 0o200] {
                let flags = rustix::fs::OFlags::CREATE
                    | rustix::fs::OFlags::WRONLY
                    | rustix::fs::OFlags::CLOEXEC;
                let path = place.join(format!("{mode:o}"));
                let fd = rustix::fs::open(&path, flags, Mode::from_raw_mode(mode)).expect("free");
                let mut file = File::from(fd);
                std::io::Write::write_all(&mut file, &[b'x'; 9000]).expect("open");
                file.sync_all().expect("open");
                drop(file);
                assert_eq!(mode_of(&path), mode);
                chmod(&path, 0o600);
                crate::fixture::assert_content(&path, &[b'x'; 9000]);
            }
        });
    });
}

/// What root is told of files and of a directory whose modes forbid something to him, or nothing.
fn told_root(dir: &Path) -> Vec<String> {
    let mut told = Vec::new();
    let mut ask = |name: &str| {
        for access in [Access::READ_OK, Access::WRITE_OK, Access::EXEC_OK] {
            let answer = rustix::fs::access(dir.join(name), access);
            told.push(format!("{name}: {access:?} {answer:?}"));
        }
    };
    for (name, mode) in [("none", 0o000), ("data", 0o644), ("program", 0o700)] {
        fs::write(dir.join(name), "#!/bin/sh\n").expect("free");
        chmod(&dir.join(name), mode);
        ask(name);
    }
    fs::create_dir(dir.join("closed")).expect("free");
    chmod(&dir.join("closed"), 0o000);
    ask("closed");
    for name in ["none", "data", "program"] {
        let read = fs::read(dir.join(name)).is_ok();
        let run = Command::new(dir.join(name))
            .current_dir(dir.join("closed"))
            .status();
        let run = run.map_err(|e| e.kind());
        told.push(format!("{name}: read {read}, run {run:?}"));
    }
    fs::write(dir.join("closed/file"), "x").expect("root may");
    told
}

#[test]
fn root_alone_is_told_what_other_filesystems_tell_him() {
    let dir = TempDir::new();
    let wanted = told_root(dir.path());
    PLAIN.run(|place| assert_eq!(told_root(place.root()), wanted));
}

#[test]
fn modes_are_checked_for_a_root_without_capabilities_if_asked_for() {
    let checked = Kind {
        options: "default_permissions",
        ..PLAIN
    };
    for (kind, reads) in [(checked, false), (SHARED, false), (PLAIN, true)] {
        kind.run(|place| {
            fs::write(place.join("file"), "x").expect("free");
            chmod(&place.join("file"), 0o000);
            let cat = Command::new("setpriv")
                .arg("--bounding-set=-dac_override,-dac_read_search")
                .arg("cat")
                .arg(place.join("file"))
                .output();
            assert_eq!(cat.expect("installed").status.success(), reads, "{kind:?}");
        });
    }
}
