//! Twenty thousand small files: made, listed, moved, removed, while the daemon stays as small as it was.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Barrier, mpsc};
use std::thread;

use crate::common::{Mount, Vault};
use crate::support::{mkdir, read, write};

const FILES: usize = 20_000;
const DIRECTORIES: usize = 20;

/// What the daemon uses.
#[derive(Debug, Clone, Copy)]
struct Usage {
    resident_kib: u64,
    descriptors: usize,
}

impl Usage {
    fn of(mount: &Mount<'_>) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("the kernel tells");
        let resident_kib = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number");
        let descriptors = fs::read_dir(format!("/proc/{}/fd", mount.pid()))
            .expect("it is ours")
            .count();
        Self {
            resident_kib,
            descriptors,
        }
    }
}

fn name(n: usize) -> String {
    format!("slice {n:06} of a study.dcm")
}

fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).expect("it can be listed");
    entries
        .map(|entry| {
            entry
                .expect("it can be listed")
                .file_name()
                .into_string()
                .expect("ASCII")
        })
        .collect()
}

/// Creates, lists, renames across directories, reads and removes `files` files.
fn cycle(root: &Path, files: usize) {
    let dirs: Vec<_> = (0..DIRECTORIES)
        .map(|n| mkdir(root.join(format!("study {n}"))))
        .collect();
    for n in 0..files {
        write(dirs[n % DIRECTORIES].join(name(n)), name(n));
    }
    let expected = |shift: usize, dir: usize| -> BTreeSet<String> {
        (0..files)
            .filter(|n| (n + shift) % DIRECTORIES == dir)
            .map(name)
            .collect()
    };
    for (d, dir) in dirs.iter().enumerate() {
        assert_eq!(names_in(dir), expected(0, d));
    }
    for n in 0..files {
        let (from, to) = (&dirs[n % DIRECTORIES], &dirs[(n + 1) % DIRECTORIES]);
        fs::rename(from.join(name(n)), to.join(name(n))).expect("it is there");
    }
    for (d, dir) in dirs.iter().enumerate() {
        assert_eq!(names_in(dir), expected(1, d));
    }
    for n in (0..files).step_by(7) {
        assert_eq!(
            read(dirs[(n + 1) % DIRECTORIES].join(name(n))),
            name(n).as_bytes()
        );
    }
    for n in 0..files {
        fs::remove_file(dirs[(n + 1) % DIRECTORIES].join(name(n))).expect("it is there");
    }
    for dir in dirs {
        fs::remove_dir(dir).expect("it is empty");
    }
}

#[test]
fn twenty_thousand_small_files_leave_the_daemon_as_it_was() {
    let vault = Vault::new();
    let mount = vault.mount();
    cycle(mount.path(), FILES / 10);
    let before = Usage::of(&mount);
    cycle(mount.path(), FILES);
    let after = Usage::of(&mount);
    assert!(
        after.resident_kib < before.resident_kib + 4096,
        "{before:?} {after:?}"
    );
    assert!(
        after.descriptors <= before.descriptors,
        "{before:?} {after:?}"
    );
    assert!(after.resident_kib < 150 * 1024, "{after:?}");
    mount.umount();
    // Nothing is left in the vault but its own files.
    let left: Vec<_> = names_in(&vault.path())
        .into_iter()
        .filter(|name| !name.starts_with('~'))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn files_that_stay_are_there_after_a_remount() {
    let vault = Vault::new();
    let mount = vault.mount();
    let dir = mkdir(mount.join("all in one directory"));
    for n in 0..5000 {
        write(dir.join(name(n)), vec![b'a' + (n % 26) as u8; n]);
    }
    mount.umount();
    let mount = vault.mount();
    let dir = mount.join("all in one directory");
    assert_eq!(names_in(&dir), (0..5000).map(name).collect());
    for n in 0..5000 {
        assert!(
            read(dir.join(name(n))) == vec![b'a' + (n % 26) as u8; n],
            "{}",
            name(n)
        );
    }
    mount.umount();
}

#[test]
fn files_that_two_threads_close_at_the_same_time_are_complete() {
    const COUNT: usize = 1500;
    let vault = Vault::new();
    let mount = vault.mount();
    let barrier = Barrier::new(2);
    let (first, second) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            for file in second {
                barrier.wait();
                drop::<File>(file);
            }
        });
        for n in 0..COUNT {
            // Nothing is written: what completes the file is left to the last close.
            let file = File::create(mount.join(name(n))).expect("writable");
            let again = File::open(mount.join(name(n))).expect("it is there");
            first.send(again).expect("the thread runs");
            barrier.wait();
            drop(file);
        }
        drop(first);
    });
    mount.umount();
    let mount = vault.mount();
    for n in 0..COUNT {
        assert_eq!(read(mount.join(name(n))), b"", "{}", name(n));
    }
    mount.umount();
}
