//! The daemon killed in the middle of work. What was acknowledged before, by close or fsync, must be there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use wardfs::cli::exit::Exit;

use crate::common::{Mount, Vault, is_mounted, run, wait_until, wardfs};
use crate::snapshot::{AccessTimes, Snapshot};
use crate::support::{noise, read, write};

const WRITERS: u64 = 3;

fn content_of(writer: u64, n: u64) -> Vec<u8> {
    let seed = writer << 32 | n;
    noise(seed, (seed.wrapping_mul(2_654_435_761) % 300_000) as usize)
}

fn name_of(writer: u64, n: u64) -> String {
    format!("copy {writer} {n}")
}

/// Writes files one after the other until the mount dies; counts those that were closed without an error.
fn copy_until_killed(dir: &Path, writer: u64, closed: &AtomicU64) {
    for n in 0.. {
        let content = content_of(writer, n);
        let copied = File::create(dir.join(name_of(writer, n))).and_then(|mut file| {
            content
                .chunks(70_000)
                .try_for_each(|piece| file.write_all(piece))?;
            drop(file);
            // Rust does not tell what close(2) returned. If the daemon answers now, it has answered that before.
            rustix::fs::statvfs(dir).map(drop).map_err(io::Error::from)
        });
        if copied.is_err() {
            return;
        }
        closed.store(n + 1, Ordering::SeqCst);
    }
}

/// Removes the dead mount as the message of `mount` advises.
fn clean_up_after(vault: &Vault, mount: Mount<'_>) {
    let stale = run(&mut vault.mount_command());
    stale.refused(
        i32::from(Exit::StaleMount.number()),
        &["dead mount", "wardfs umount --lazy"],
    );
    assert!(is_mounted(&vault.mountpoint()));
    mount.kill();
    assert!(!is_mounted(&vault.mountpoint()));
}

#[test]
fn files_closed_before_a_kill_are_whole() {
    let vault = Vault::new();
    for round in 0..3 {
        let mount = vault.mount();
        let dir = mount.join(format!("round {round}"));
        fs::create_dir(&dir).expect("writable");
        let counts: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
        thread::scope(|scope| {
            for (writer, count) in (0..).zip(&counts) {
                let dir = &dir;
                scope.spawn(move || copy_until_killed(dir, writer, count));
            }
            let total = || {
                counts
                    .iter()
                    .map(|count| count.load(Ordering::SeqCst))
                    .sum::<u64>()
            };
            wait_until("some files are closed", || total() > 40 + 15 * round);
            mount.kill_daemon();
        });
        clean_up_after(&vault, mount);

        let mount = vault.mount();
        for (writer, count) in (0..).zip(&counts) {
            let count = count.load(Ordering::SeqCst);
            for n in 0..count {
                let name = name_of(writer, n);
                assert!(
                    read(dir.join(&name)) == content_of(writer, n),
                    "{name} was closed and is not whole"
                );
            }
            // The one being written: a part of it, or an error; nothing that was never written.
            match fs::read(dir.join(name_of(writer, count))) {
                Ok(part) => {
                    let whole = content_of(writer, count);
                    let torn = part.iter().zip(&whole).position(|(a, b)| a != b && *a != 0);
                    assert!(
                        part.len() <= whole.len() && torn.is_none(),
                        "{:?}",
                        (part.len(), whole.len(), torn)
                    );
                }
                Err(e) => assert!(
                    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EIO)),
                    "{e}"
                ),
            }
        }
        mount.umount();
    }
}

#[test]
fn bytes_synced_before_a_kill_are_there_and_neighbours_are_untouched() {
    const SIZE: u64 = 4 << 20;
    const SLOTS: u64 = SIZE / 1000;
    let vault = Vault::new();
    let mount = vault.mount();
    let path = mount.join("database");
    let mut expected = noise(1, SIZE as usize);
    write(&path, &expected);
    let synced = AtomicU64::new(0);
    let record = |n: u64| (n * 7919 % SLOTS * 1000, noise(1000 + n, 300));
    thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options()
                .write(true)
                .open(&path)
                .expect("it is there");
            for n in 0.. {
                let (offset, bytes) = record(n);
                if file
                    .write_all_at(&bytes, offset)
                    .and_then(|()| file.sync_data())
                    .is_err()
                {
                    return;
                }
                synced.store(n + 1, Ordering::SeqCst);
            }
        });
        wait_until("some records are synced", || {
            synced.load(Ordering::SeqCst) > 150
        });
        mount.kill_daemon();
    });
    clean_up_after(&vault, mount);

    let mount = vault.mount();
    let synced = synced.load(Ordering::SeqCst);
    for n in 0..synced {
        let (offset, bytes) = record(n);
        expected[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
    }
    let (offset, bytes) = record(synced);
    let mut with_last = expected.clone();
    with_last[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
    let stored = read(mount.join("database"));
    assert!(
        stored == expected || stored == with_last,
        "a synced record is lost, or a neighbour has changed"
    );
    mount.umount();
}

#[test]
fn a_tree_at_rest_is_untouched_by_a_kill_and_the_mount_knows_that_it_was_not_clean() {
    let vault = Vault::new();
    let mount = vault.mount();
    crate::tree::make(&mount.join("tree"));
    let before = Snapshot::of(mount.path());
    mount.umount();
    let mount = vault.mount();
    write(mount.join("other"), "something else");
    mount.kill_daemon();
    clean_up_after(&vault, mount);
    let mount = vault.mount();
    assert_eq!(read(mount.join("other")), b"something else");
    fs::remove_file(mount.join("other")).expect("it is there");
    let mut after = Snapshot::of(mount.path());
    after.forget_times_of_root();
    let mut before = before;
    before.forget_times_of_root();
    before.assert_kept_in(&after, AccessTimes::Ignored);
    mount.umount();
}

#[test]
fn programs_that_use_a_killed_mount_get_an_error_and_a_lazy_unmount_frees_the_place() {
    let vault = Vault::new();
    let mount = vault.mount();
    write(mount.join("open"), "content");
    let open = File::options()
        .read(true)
        .write(true)
        .open(mount.join("open"))
        .expect("it is there");
    mount.kill_daemon();
    assert_eq!(
        open.metadata()
            .expect_err("the daemon is gone")
            .raw_os_error(),
        Some(libc::ENOTCONN)
    );
    let path = vault.mountpoint();
    run(wardfs().args(["umount", "--lazy"]).arg(&path)).ok();
    assert!(!is_mounted(&path));
    let again = vault.mount();
    assert_eq!(read(again.join("open")), b"content");
    drop(open);
    again.umount();
    drop(mount);
}
