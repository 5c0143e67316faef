//! Rotations of a vault that is mounted and used.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::common::{Mount, Vault, run, wait_until};
use crate::lab::{
    Times, bytes, close, content_files, epochs_in_use, epochs_of, interrupt, is_clean, json_lines,
    keyring, kill, large, rotate, rotated, see, start, start_with,
};

fn progress(vault: &Vault) -> serde_json::Value {
    vault.info()["rotation"]["progress"].clone()
}

/// Waits until the daemon is at it and has done something.
fn wait_until_it_runs(vault: &Vault) {
    wait_until("the daemon seals chunks anew", || {
        let progress = progress(vault);
        progress["state"] == "running" && progress["resealed"].as_u64() > Some(0)
    });
}

fn wait_until_done(vault: &Vault) {
    wait_until("the old epoch is wiped", || keyring(vault).0 == [1]);
}

/// Writes to the middle and the end of one file, and reads what it wrote; gives what the file holds in the end.
fn scribble(path: &Path, seed: u64, ended: &AtomicBool, rounds: &AtomicU64) -> Vec<u8> {
    let mut held = fs::read(path).expect("readable");
    let file = fs::File::options().read(true).write(true).open(path);
    let mut file = file.expect("writable");
    for round in 0.. {
        if ended.load(Ordering::Relaxed) && round > 20 {
            break;
        }
        let new = bytes(seed + round, 1 + (seed + round * 2741) as usize % 9000);
        let at = (seed + round * 7919) as usize % (held.len() + 1);
        file.write_all_at(&new, at as u64).expect("written");
        held.resize(held.len().max(at + new.len()), 0);
        held[at..at + new.len()].copy_from_slice(&new);
        match round % 16 {
            3 => file.sync_data().expect("synced"),
            7 => {
                let cut = held.len() * 3 / 4;
                file.set_len(cut as u64).expect("cut");
                held.truncate(cut);
            }
            11 => {
                held.resize(held.len() + 100_000, 0);
                file.set_len(held.len() as u64).expect("extended");
            }
            _ => {}
        }
        let from = at.saturating_sub(5000).min(held.len());
        let mut seen = vec![0; (held.len() - from).min(20_000)];
        file.seek(SeekFrom::Start(from as u64)).expect("in range");
        file.read_exact(&mut seen).expect("readable");
        assert_eq!(seen, &held[from..from + seen.len()], "round {round}");
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    held
}

/// Makes, renames, links and removes files; gives what is left.
fn shuffle(dir: &Path, ended: &AtomicBool, rounds: &AtomicU64) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut left = BTreeMap::new();
    for round in 0u64.. {
        if ended.load(Ordering::Relaxed) && round > 20 {
            break;
        }
        let sub = dir.join(format!("sub {}", round % 5));
        fs::create_dir_all(&sub).expect("made");
        let (first, second) = (dir.join("new"), sub.join(format!("{}", round % 50)));
        let content = bytes(round, round as usize * 37 % 9000);
        fs::write(&first, &content).expect("written");
        let _ = fs::remove_file(sub.join("linked"));
        fs::hard_link(&first, sub.join("linked")).expect("linked");
        fs::rename(&first, &second).expect("renamed");
        left.insert(second, content.clone());
        left.insert(sub.join("linked"), content);
        if round % 7 == 0 {
            let (old, new) = (dir.join("sub 0"), dir.join("renamed"));
            fs::rename(&old, &new).expect("renamed");
            fs::rename(&new, &old).expect("renamed");
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    left
}

#[test]
fn it_is_rotated_while_it_is_used_and_nobody_notices() {
    let vault = large();
    let mount = vault.mount();
    let before = see(mount.path(), Times::Compare);
    let busy = mount.join("busy");
    fs::write(&busy, bytes(7, 3 << 20)).expect("written");
    let unnamed = mount.join("unnamed");
    fs::write(&unnamed, bytes(8, 1 << 20)).expect("written");
    let unnamed_open = fs::File::open(&unnamed).expect("there");
    fs::remove_file(&unnamed).expect("there");
    let shuffled = mount.join("shuffled");
    fs::create_dir(&shuffled).expect("made");
    let (ended, rounds) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 2]);
    let (held, left) = std::thread::scope(|scope| {
        let held = scope.spawn(|| scribble(&busy, 1, &ended, &rounds[0]));
        let left = scope.spawn(|| shuffle(&shuffled, &ended, &rounds[1]));
        wait_until("they are at work", || {
            rounds.iter().all(|r| r.load(Ordering::Relaxed) > 3)
        });
        let begun = rounds.each_ref().map(|r| r.load(Ordering::Relaxed));
        let ran = run(rotate(&vault).args(["--rate", "15"]));
        let ended_at = rounds.each_ref().map(|r| r.load(Ordering::Relaxed));
        ended.store(true, Ordering::Relaxed);
        let all = (
            held.join().expect("no panic"),
            left.join().expect("no panic"),
        );
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(
            ran.stdout.contains("the old content key is destroyed"),
            "{ran:?}"
        );
        assert!(
            begun[0] < ended_at[0] && begun[1] < ended_at[1],
            "they went on"
        );
        all
    });
    assert_eq!(keyring(&vault).0, [1]);
    let mut seen = Vec::new();
    (&unnamed_open).read_to_end(&mut seen).expect("readable");
    assert!(
        seen == bytes(8, 1 << 20),
        "a file without a name reads as before"
    );
    drop(unnamed_open);
    for remounted in [false, true] {
        let mount = match remounted {
            false => None,
            true => Some(vault.mount()),
        };
        assert!(fs::read(&busy).expect("readable") == held);
        for (path, content) in &left {
            assert_eq!(&fs::read(path).expect("readable"), content, "{path:?}");
        }
        let mut now = see(&vault.mountpoint(), Times::Compare);
        now.retain(|path, _| !path.starts_with("shuffled") && path != Path::new("busy"));
        assert_eq!(now, before);
        if let Some(mount) = mount {
            close(mount);
        } else {
            run(crate::common::wardfs()
                .arg("umount")
                .arg(vault.mountpoint()))
            .ok();
        }
    }
    drop(mount);
    assert_eq!(epochs_in_use(&vault), [1].into());
    is_clean(&vault);
}

#[test]
fn new_content_has_the_new_key_as_soon_as_the_daemon_is_at_it() {
    let vault = large();
    let mount = vault.mount();
    let watching = start(&vault, "1");
    wait_until_it_runs(&vault);
    let new = mount.join("new");
    fs::write(&new, bytes(5, 777_777)).expect("written");
    fs::File::open(&new)
        .expect("there")
        .sync_all()
        .expect("synced");
    let stored = content_files(&vault.path())
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|m| m.len() == 64 + 777_777 + 40 * 190));
    let stored = stored.expect("in the vault");
    let (epochs, keys) = keyring(&vault);
    assert_eq!(epochs, [0, 1]);
    assert_eq!(epochs_of(&vault, &keys, &[stored]), [1].into());
    kill(watching);
    close(mount);
    assert_eq!(epochs_in_use(&vault), [0, 1].into());
}

#[test]
fn a_daemon_that_is_killed_again_and_again_goes_on_by_itself() {
    let vault = large();
    let mut mount = vault.mount();
    let before = see(mount.path(), Times::Ignore);
    let watching = start(&vault, "2");
    for round in 0..4 {
        wait_until_it_runs(&vault);
        let busy = mount.join("large 0");
        let file = fs::File::options().write(true).open(busy).expect("there");
        // Written again as it is: while it is sealed anew the daemon dies.
        file.write_all_at(&bytes(1000, 5 << 20), 0)
            .expect("written");
        assert_eq!(keyring(&vault).0, [0, 1], "round {round}");
        mount.kill_daemon();
        drop(file);
        mount.kill();
        mount = vault.mount();
    }
    kill(watching);
    wait_until_it_runs(&vault);
    rotated(&vault);
    assert_eq!(keyring(&vault).0, [1]);
    let last = before.keys().find(|path| path.ends_with("large 0"));
    let mut now = see(mount.path(), Times::Ignore);
    let (now_large, before_large) = (
        now.remove(last.expect("there")),
        before.get(last.expect("there")),
    );
    // What was not synced before a kill may be old or new, and it is the same.
    assert_eq!(now_large.as_ref(), before_large);
    now.insert(last.expect("there").clone(), now_large.expect("there"));
    assert_eq!(now, before);
    close(mount);
    assert_eq!(epochs_in_use(&vault), [1].into());
    is_clean(&vault);
}

#[test]
fn paused_it_rests_also_after_the_next_mount_until_it_is_started_again() {
    let vault = large();
    let mount = vault.mount();
    let watching = start_with(&vault, &["--rate", "2"]);
    wait_until_it_runs(&vault);
    let said = run(rotate(&vault).arg("--pause")).ok();
    assert!(said.starts_with("Paused: "), "{said}");
    let output = watching.wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(29));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("somebody has paused it"), "{said}");
    let resealed = progress(&vault)["resealed"].clone();
    assert!(resealed.as_u64() > Some(0));
    close(mount);
    let mount = vault.mount();
    wait_until("the daemon knows", || progress(&vault)["state"] == "paused");
    assert_eq!(vault.info()["rotation"]["paused"], true);
    assert_eq!(progress(&vault)["resealed"], 0, "since this mount");
    assert_eq!(keyring(&vault).0, [0, 1]);
    let said = rotated(&vault).stdout;
    assert!(said.contains("A rotation is under way since"), "{said}");
    assert!(vault.info()["rotation"].is_null());
    close(mount);
    assert_eq!(epochs_in_use(&vault), [1].into());
}

#[test]
fn one_that_was_begun_offline_waits_in_a_mount_for_the_command() {
    let vault = large();
    let offline = start(&vault, "1");
    wait_until("the epoch is added", || keyring(&vault).0.len() == 2);
    kill(offline);
    let log = vault.dir().join("log");
    let mount = vault.mount_with(&["-v", "--log-file", log.to_str().expect("UTF-8")]);
    wait_until("the daemon has said that it waits", || {
        let log = fs::read_to_string(&log).unwrap_or_default();
        log.contains("waits for 'wardfs rotate'")
    });
    assert_eq!(vault.info()["rotation"]["background"], false);
    assert_eq!(keyring(&vault).0, [0, 1]);
    rotated(&vault);
    close(mount);
    assert_eq!(epochs_in_use(&vault), [1].into());
}

#[test]
fn who_watches_may_leave_and_the_daemon_goes_on() {
    let vault = large();
    let mount = vault.mount();
    let watching = start_with(&vault, &["--rate", "8", "--json"]);
    wait_until_it_runs(&vault);
    interrupt(&watching);
    let output = watching.wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(29));
    let said = String::from_utf8_lossy(&output.stdout);
    let lines = json_lines(&said);
    let last = lines.last().expect("a summary");
    assert_eq!(
        (&last["summary"], &last["stopped"]),
        (&"paused".into(), &true.into())
    );
    wait_until_done(&vault);
    close(mount);
    assert_eq!(epochs_in_use(&vault), [1].into());
}

#[test]
fn who_watches_is_told_when_the_vault_is_unmounted_and_the_next_mount_goes_on() {
    let vault = large();
    let mount = vault.mount();
    let watching = start_with(&vault, &["--rate", "4"]);
    wait_until_it_runs(&vault);
    close(mount);
    let output = watching.wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(29));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("the next mount goes on"), "{said}");
    assert_eq!(keyring(&vault).0, [0, 1]);
    is_clean(&vault);
    let mount = vault.mount();
    wait_until_done(&vault);
    close(mount);
    assert_eq!(epochs_in_use(&vault), [1].into());
}

#[test]
fn a_damaged_file_keeps_the_old_key_until_it_is_mended_and_asked_again() {
    let vault = large();
    let path = content_files(&vault.path())
        .into_iter()
        .find(|path| (5 << 20..6 << 20).contains(&fs::metadata(path).expect("there").len()))
        .expect("one of the large files, which have no holes");
    let stored = fs::File::options().read(true).write(true).open(path);
    let stored = stored.expect("writable");
    let flip = || {
        let mut byte = [0];
        stored.read_exact_at(&mut byte, 3 << 20).expect("there");
        stored
            .write_all_at(&[byte[0] ^ 1], 3 << 20)
            .expect("written");
    };
    flip();
    let mount = vault.mount();
    let ran = run(&mut rotate(&vault));
    assert_eq!(ran.code, Some(27), "{ran:?}");
    assert!(
        ran.stdout.contains("The old content key is kept"),
        "{ran:?}"
    );
    assert_eq!(keyring(&vault).0, [0, 1]);
    assert_eq!(progress(&vault)["state"], "incomplete");
    assert_eq!(progress(&vault)["passed_over"], 1);
    flip();
    rotated(&vault);
    assert_eq!(keyring(&vault).0, [1]);
    close(mount);
    assert_eq!(epochs_in_use(&vault), [1].into());
    is_clean(&vault);
}

/// Both copies of a header.
fn header(vault: &Vault) -> [(PathBuf, Vec<u8>); 2] {
    ["volume", "volume.bak"].map(|name| {
        let path = vault.path().join("~wardfs").join(name);
        let bytes = fs::read(&path).expect("readable");
        (path, bytes)
    })
}

fn put_back(header: &[(PathBuf, Vec<u8>); 2]) {
    for (path, bytes) in header {
        let temporary = path.with_extension("put-back");
        fs::write(&temporary, bytes).expect("written");
        fs::rename(&temporary, path).expect("renamed");
    }
}

#[test]
fn a_header_that_is_put_back_or_changed_under_the_mount_changes_no_key() {
    let vault = large();
    let log = vault.dir().join("log");
    let before = header(&vault);
    let mount = vault.mount_with(&["-v", "--log-file", log.to_str().expect("UTF-8")]);
    rotated(&vault);
    let after = header(&vault);
    let said = |what: &str| {
        let log = fs::read_to_string(&log).unwrap_or_default();
        log.matches(what).count()
    };
    put_back(&before);
    wait_until("the daemon has refused it", || {
        said("is not one that came after the one in use") > 0
    });
    let first = mount.join("first");
    fs::write(&first, bytes(1, 10_000)).expect("written");
    fs::File::open(&first)
        .expect("there")
        .sync_all()
        .expect("synced");
    put_back(&after);
    assert_eq!(epochs_in_use(&vault), [1].into());
    let watching = start(&vault, "1");
    wait_until_it_runs(&vault);
    kill(watching);
    let both = header(&vault);
    rotated(&vault);
    let second = header(&vault);
    let mut changed = both;
    for (_, bytes) in &mut changed {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    }
    put_back(&changed);
    wait_until("the daemon has refused it", || {
        said("the volume header cannot be used") > 0
    });
    fs::write(mount.join("second"), bytes(2, 10_000)).expect("written");
    put_back(&second);
    close(mount);
    assert_eq!(keyring(&vault).0, [2]);
    assert_eq!(epochs_in_use(&vault), [2].into());
    let mount = vault.mount();
    assert_eq!(
        fs::read(mount.join("first")).expect("there"),
        bytes(1, 10_000)
    );
    assert_eq!(
        fs::read(mount.join("second")).expect("there"),
        bytes(2, 10_000)
    );
    close(mount);
}

#[test]
fn access_times_stay_and_modes_that_forbid_writing_are_no_obstacle() {
    let vault = large();
    let mount = vault.mount();
    let path = mount.join("small 5");
    run(std::process::Command::new("chmod").arg("0444").arg(&path)).ok();
    run(std::process::Command::new("touch")
        .args(["-d", "2001-02-03"])
        .arg(&path))
    .ok();
    close(mount);
    let mount = vault.mount();
    rotated(&vault);
    close(mount);
    let mount = vault.mount();
    let meta = fs::metadata(mount.join("small 5")).expect("there");
    assert_eq!(meta.atime(), meta.mtime());
    assert_eq!(meta.mode() & 0o7777, 0o444);
    close(mount);
}

#[test]
fn json_of_a_mounted_vault_is_one_object_on_each_line() {
    let vault = large();
    let mount: Mount<'_> = vault.mount();
    let said = run(rotate(&vault).args(["--json", "--rate", "10"])).ok();
    let lines = json_lines(&said);
    assert_eq!(lines[0]["rotation"]["resumed"], false);
    assert!(lines[1]["progress"]["bytes"].is_u64(), "{said}");
    let summary = lines.last().expect("a summary");
    assert_eq!(summary["summary"], "complete");
    assert_eq!(summary["passed_over"], 0);
    assert_eq!(summary["old_keys_destroyed"], 1);
    assert_eq!(summary["reencrypted_bytes"], summary["read_bytes"]);
    close(mount);
}
