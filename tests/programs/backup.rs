//! Backups of the vault itself: ciphertext copied away by rsync, restic and borg, and mounted where it was restored.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::common::{PASSPHRASE, TempDir, Vault, run};
use crate::snapshot::{AccessTimes, Snapshot};
use crate::support::{command, files_below, installed, is_root, noise, read, sh, write};
use crate::tree;

const LARGE: usize = 64 << 20;
/// man/wardfs-format.5: header, then nonce, ciphertext and tag of each chunk.
const HEADER: usize = 64;
const CHUNK: usize = 4096 + 40;

/// A vault with a tree and a large file in it, not mounted, and what it holds.
fn filled() -> (Vault, Snapshot) {
    let vault = Vault::new();
    let mount = vault.mount();
    tree::make(&mount.join("tree"));
    write(mount.join("large"), noise(1, LARGE));
    let mut content = Snapshot::of(mount.path());
    content.forget_times_of_root();
    mount.umount();
    (vault, content)
}

/// The copy mounts and holds what the original held.
fn assert_restored(copy: &Path, content: &Snapshot) {
    let restored = Vault::copy_of(copy, PASSPHRASE);
    let mount = restored.mount_with(&["-o", "ro"]);
    // Not every program restores the times of the directory that it was told to restore to.
    let mut found = Snapshot::of(mount.path());
    found.forget_times_of_root();
    content.assert_kept_in(&found, AccessTimes::Ignored);
    mount.umount();
}

/// Changes one byte in the middle of the large file, through a mount.
fn change_one_byte(vault: &Vault) {
    let mount = vault.mount();
    let file = File::options()
        .read(true)
        .write(true)
        .open(mount.join("large"))
        .expect("it is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, LARGE as u64 / 2 + 777)
        .expect("it is there");
    file.write_all_at(&[byte[0] ^ 1], LARGE as u64 / 2 + 777)
        .expect("writable");
    drop(file);
    mount.umount();
}

fn can_run(package: &str) -> bool {
    installed(package, &[package]) && is_root("keep owners and devices in a backup")
}

fn ciphertext_of_large(vault: &Path) -> PathBuf {
    // By its blocks: a sparse file in the tree is as long.
    let large = |path: &PathBuf| fs::metadata(path).is_ok_and(|m| m.blocks() * 512 > LARGE as u64);
    let found: Vec<_> = files_below(vault).into_iter().filter(large).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

/// The number behind `label` in the output of `rsync --stats`.
fn statistic(output: &str, label: &str) -> u64 {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix(label))
        .unwrap_or_else(|| panic!("{label} in {output}"));
    line.chars()
        .filter(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .expect("a number")
}

#[test]
fn a_copy_made_by_rsync_mounts_and_a_small_change_stays_small() {
    if !can_run("rsync") {
        return;
    }
    let (vault, content) = filled();
    let elsewhere = TempDir::new();
    let copy = elsewhere.dir("copy");
    let rsync = |options: &str| {
        let (from, to) = (vault.path(), copy.display());
        sh(
            Path::new("/"),
            &format!(
                "rsync -aHAXS --delete --stats {options} {}/ {to}/",
                from.display()
            ),
        )
    };
    rsync("");
    assert_restored(&copy, &content);

    change_one_byte(&vault);
    let (before, after) = (
        read(ciphertext_of_large(&copy)),
        read(ciphertext_of_large(&vault.path())),
    );
    assert_eq!(before.len(), after.len());
    assert_eq!(before[..HEADER], after[..HEADER]);
    let chunks = before[HEADER..]
        .chunks(CHUNK)
        .zip(after[HEADER..].chunks(CHUNK));
    let changed: Vec<usize> = chunks
        .enumerate()
        .filter(|(_, (a, b))| a != b)
        .map(|(no, _)| no)
        .collect();
    assert_eq!(
        changed,
        [(LARGE / 2 + 777) / 4096],
        "the chunks that differ after one byte has changed"
    );

    let output = rsync("--no-whole-file");
    let literal = statistic(&output, "Literal data: ");
    assert!(
        literal < 128 * 1024,
        "{literal} bytes are sent for one that has changed"
    );
    let files = statistic(&output, "Number of regular files transferred: ");
    // The file, the superblock, the two segments of the journal, the lock, and the note of when the key slot was used.
    assert!(
        files <= 6,
        "{files} files are sent for one that has changed"
    );
    assert_eq!(
        rsync("-n --itemize-changes")
            .lines()
            .filter(|line| line.contains(">f"))
            .count(),
        0
    );
}

#[test]
fn a_backup_by_restic_restores_and_mounts_and_a_small_change_stays_small() {
    if !can_run("restic") {
        return;
    }
    let (vault, mut content) = filled();
    // restic restores holes as zeros.
    content.forget_holes();
    let elsewhere = TempDir::new();
    let password = elsewhere.file("password", "of the repository");
    let restic = |arguments: &[&str]| {
        let mut command = command("restic");
        command
            .arg("--no-cache")
            .arg("--json")
            .arg("--password-file")
            .arg(&password);
        command
            .arg("--repo")
            .arg(elsewhere.join("repository"))
            .args(arguments);
        run(command.current_dir(vault.path())).ok()
    };
    restic(&["init"]);
    restic(&["backup", "."]);
    change_one_byte(&vault);
    let output = restic(&["backup", "."]);
    let summary = output.lines().last().expect("restic prints a summary");
    let summary: serde_json::Value = serde_json::from_str(summary).expect("restic prints JSON");
    let added = summary["data_added"].as_u64().expect("a number");
    assert!(
        added < 12 << 20,
        "{added} bytes are added for one that has changed"
    );

    let first = restic(&["snapshots"]);
    let first: serde_json::Value = serde_json::from_str(&first).expect("restic prints JSON");
    let target = elsewhere.join("restored");
    let id = first[0]["id"].as_str().expect("an id");
    restic(&["restore", id, "--target", &target.display().to_string()]);
    assert_restored(&target, &content);
}

#[test]
fn a_backup_by_borg_restores_and_mounts_and_a_small_change_stays_small() {
    if !installed("borgbackup", &["borg"]) || !is_root("keep owners and devices in a backup") {
        return;
    }
    let (vault, mut content) = filled();
    // borg knows no earlier times, and only holes as large as its own chunks.
    content.forget_holes();
    content.begin_times_in_1970();
    let elsewhere = TempDir::new();
    let home = elsewhere.dir("home");
    let borg = |directory: &Path, arguments: &[&str]| {
        let mut command = command("borg");
        command
            .env("BORG_BASE_DIR", &home)
            .env("BORG_REPO", elsewhere.join("repository"));
        command.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        run(command.args(arguments).current_dir(directory)).ok()
    };
    borg(&vault.path(), &["init", "-e", "none"]);
    borg(&vault.path(), &["create", "::first", "."]);
    change_one_byte(&vault);
    let output = borg(&vault.path(), &["create", "--json", "::second", "."]);
    let summary: serde_json::Value = serde_json::from_str(&output).expect("borg prints JSON");
    let added = summary["archive"]["stats"]["deduplicated_size"]
        .as_u64()
        .expect("a number");
    assert!(
        added < 12 << 20,
        "{added} bytes are added for one that has changed"
    );

    let target = elsewhere.dir("restored");
    borg(&target, &["extract", "--sparse", "::first"]);
    assert_restored(&target, &content);
}
