//! A vault that is mounted meanwhile: damage is found, and what the mount is writing is not taken for it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate};

use crate::common::Vault;
use crate::lab::*;
use crate::report::check;

/// Changes everything that can be changed, again and again.
fn disturb(dir: &Path, number: usize, stop: &AtomicBool) {
    let dir = dir.join(format!("w{number}"));
    let mut round = 0u64;
    while !stop.load(Ordering::Relaxed) {
        fs::create_dir_all(dir.join("sub")).expect("made");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("data"))
            .expect("opens");
        for i in 0..20 {
            let at = (round * 7919 + i * 104_729) % 3_000_000;
            file.write_all_at(&content(i as u8, 10_000), at)
                .expect("written");
        }
        if round.is_multiple_of(4) {
            file.set_len(1_000_000 + round % 1000 * 7).expect("cut");
        }
        if round.is_multiple_of(3) {
            file.sync_all().expect("synced");
        }
        let long = dir.join("n".repeat(200));
        fs::write(&long, content(3, 30_000)).expect("written");
        fs::rename(&long, dir.join("sub").join("m".repeat(180))).expect("renamed");
        symlink("t".repeat(3500), dir.join("far")).expect("made");
        fs::remove_file(dir.join("far")).expect("removed");
        fs::create_dir(dir.join("short-lived")).expect("made");
        fs::write(dir.join("short-lived/x"), "x").expect("written");
        fs::remove_dir_all(dir.join("short-lived")).expect("removed");
        if round.is_multiple_of(5) {
            fs::remove_dir_all(dir.join("sub")).expect("removed");
        }
        round += 1;
    }
}

#[test]
fn a_vault_under_load_has_no_damage() {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::write(mount.join("still"), content(1, 1_000_000)).expect("written");
    let stop = AtomicBool::new(false);
    let checks: Vec<_> = std::thread::scope(|scope| {
        for number in 0..2 {
            let (path, stop) = (mount.path(), &stop);
            scope.spawn(move || disturb(path, number, stop));
        }
        let checks = (0..5).map(|_| check(&vault, &[])).collect();
        stop.store(true, Ordering::Relaxed);
        checks
    });
    for checked in checks {
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert_eq!(checked.summary["mounted"], true);
        assert!(
            checked.findings.iter().all(|f| f["finding"] == "in-use"),
            "{checked:?}"
        );
    }
    mount.umount();
    check(&vault, &[]).assert_clean();
}

#[test]
fn a_new_file_that_is_open_and_empty_is_no_damage() {
    let vault = Vault::new();
    let mount = vault.mount();
    let open = File::create(mount.join("new")).expect("made");
    check(&vault, &[]).assert_clean();
    drop(open);
    mount.umount();
}

/// What is in its place is old, or between two states; the rest is in the journal.
#[test]
fn files_that_are_open_and_changed_are_no_damage() {
    let vault = Vault::new();
    let mount = vault.mount_with(&["-o", "nowriteback"]);
    let files: Vec<File> = ["grown", "cut", "overwritten", "punched"]
        .iter()
        .map(|name| {
            fs::write(mount.join(name), content(1, 100_000)).expect("written");
            let file = File::options().write(true).open(mount.join(name));
            let file = file.expect("opens");
            file.sync_all().expect("synced");
            match *name {
                "grown" => file.write_all_at(&content(2, 50_000), 120_000),
                "cut" => file.set_len(50_001),
                "overwritten" => file.write_all_at(&content(2, 30_000), 777),
                _ => {
                    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    fallocate(&file, flags, 10_000, 50_000).map_err(Into::into)
                }
            }
            .expect("changed");
            file
        })
        .collect();
    check(&vault, &[]).assert_clean();
    drop(files);
    mount.umount();
    check(&vault, &[]).assert_clean();
}

#[test]
fn damage_is_found_below_a_mount() {
    let vault = prepared(&[], |mount| {
        for name in ["whole", "damaged"] {
            fs::write(mount.join(name), content(1, 100_000)).expect("written");
        }
    });
    let mount = vault.mount();
    flip(&stored(&mount, "damaged"), chunk_at(7) + 40, 1);
    let before = crate::report::snapshot(&vault);
    let checked = check(&vault, &[]);
    assert_eq!(checked.told(), ["damaged file damaged 28672..32768"]);
    assert!(
        crate::report::snapshot(&vault) == before,
        "nothing is written"
    );
    mount.umount();
}

#[test]
fn a_vault_can_be_salvaged_from_below_a_mount() {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::write(mount.join("file"), content(1, 100_000)).expect("written");
    let out = vault.dir().join("out");
    check(&vault, &["--salvage", out.to_str().expect("UTF-8")]).assert_clean();
    assert_eq!(read(&out.join("file")), Ok(content(1, 100_000)));
    mount.umount();
}

#[test]
fn a_check_leaves_no_trace() {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("file"), content(1, 100)).expect("written");
    });
    let times = |vault: &Vault| {
        let mut seen = Vec::new();
        walk(&vault.path(), &mut |path, meta| {
            seen.push((path.to_owned(), meta.accessed().ok(), meta.modified().ok()));
        });
        seen.sort();
        seen
    };
    let was = crate::report::snapshot(&vault);
    let before = times(&vault);
    check(&vault, &[]).assert_clean();
    assert_eq!(times(&vault), before);
    assert!(crate::report::snapshot(&vault) == was);
}
