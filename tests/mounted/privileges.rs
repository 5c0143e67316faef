//! Set-user-id, set-group-id and file capabilities end when the content or the owner of a file changes.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{FallocateFlags, copy_file_range, fallocate};

use crate::common::run;
use crate::fixture::{Place, SHARED, SHARED_NOWRITEBACK, as_user, chmod, mode_of, on_each};

fn writer(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("permitted")
}

/// A way to change a file, with its name.
type Change = (&'static str, fn(&Path));

const CHANGES: [Change; 8] = [
    ("write", |p| writer(p).write_all_at(b"x", 0).expect("room")),
    ("write at the end", |p| {
        writer(p).write_all_at(b"x", 10_000).expect("room")
    }),
    ("truncate", |p| writer(p).set_len(5).expect("possible")),
    ("O_TRUNC", |p| drop(File::create(p).expect("permitted"))),
    ("fallocate", |p| {
        fallocate(writer(p), FallocateFlags::empty(), 0, 100_000).expect("room")
    }),
    ("punch", |p| {
        fallocate(
            writer(p),
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            0,
            5000,
        )
        .expect("room")
    }),
    ("copy_file_range", |p| {
        let file = writer(p);
        let (mut from, mut to) = (0, 9000);
        copy_file_range(&file, Some(&mut from), &file, Some(&mut to), 100).expect("room");
    }),
    ("chown to his own group", |p| {
        std::os::unix::fs::chown(p, None, Some(1000)).expect("his")
    }),
];

fn file(place: &Place<'_>, mode: u32) -> std::path::PathBuf {
    let path = place.join("file");
    let _ = fs::remove_file(&path);
    fs::write(&path, [b'a'; 9000]).expect("room");
    std::os::unix::fs::chown(&path, Some(1000), Some(1000)).expect("root");
    chmod(&path, mode);
    path
}

#[test]
fn an_ordinary_user_who_changes_a_file_clears_its_setuid_and_setgid() {
    on_each(&[SHARED, SHARED_NOWRITEBACK], |place| {
        for (name, change) in CHANGES {
            let path = file(place, 0o6777);
            as_user(1000, 1000, || change(&path));
            assert_eq!(mode_of(&path), 0o777, "{name}");
            // As stored, and not only as remembered by the kernel.
            assert_eq!(mode_of(&place.stored(&path)), 0o777, "{name} as stored");
        }
    });
}

#[test]
fn setgid_without_group_execution_stays_except_for_chown() {
    on_each(&[SHARED, SHARED_NOWRITEBACK], |place| {
        for (name, change) in &CHANGES[..7] {
            let path = file(place, 0o2666);
            as_user(1000, 1000, || change(&path));
            assert_eq!(mode_of(&path), 0o2666, "{name}");
        }
    });
}

#[test]
fn root_keeps_setuid_when_writing_as_on_ext4() {
    on_each(&[SHARED, SHARED_NOWRITEBACK], |place| {
        for (name, change) in &CHANGES[..7] {
            let plain = place.vault().dir().join("plain");
            fs::write(&plain, [b'a'; 9000]).expect("room");
            chmod(&plain, 0o6777);
            change(&plain);
            let path = file(place, 0o6777);
            change(&path);
            assert_eq!(mode_of(&path), mode_of(&plain), "{name}");
            fs::remove_file(plain).expect("ours");
        }
    });
}

#[test]
fn chown_by_root_clears_setuid_of_a_file_but_not_of_a_directory() {
    SHARED.run(|place| {
        let path = file(place, 0o6755);
        std::os::unix::fs::chown(&path, Some(5), Some(5)).expect("root");
        assert_eq!(mode_of(&path), 0o755);
        fs::create_dir(place.join("dir")).expect("free");
        chmod(&place.join("dir"), 0o2755);
        std::os::unix::fs::chown(place.join("dir"), Some(5), Some(5)).expect("root");
        assert_eq!(mode_of(&place.join("dir")), 0o2755);
    });
}

#[test]
fn file_capabilities_end_with_any_change() {
    on_each(&[SHARED, SHARED_NOWRITEBACK], |place| {
        let capabilities = |path: &Path| run(Command::new("getcap").arg(path)).ok();
        for (name, change) in CHANGES {
            if matches!(name, "fallocate" | "punch") {
                continue;
            }
            let path = file(place, 0o755);
            run(Command::new("setcap").arg("cap_net_raw+ep").arg(&path)).ok();
            assert!(capabilities(&path).contains("cap_net_raw"));
            as_user(1000, 1000, || change(&path));
            assert_eq!(capabilities(&path), "", "{name}");
        }
    });
}
