//! `--repair` mends what it says, and the rest of the vault is the same byte for byte.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::common::Vault;
use crate::damage::fill;
use crate::lab::*;
use crate::report::{check, plain, snapshot};

/// Damages a vault, repairs it, and compares it with what it was before.
#[track_caller]
fn repaired(vault: &Vault, damage: impl FnOnce(&Path), told: &[&str]) {
    let before = snapshot(vault);
    damage(&vault.path());
    let checked = check(vault, &["--repair"]);
    assert_eq!(checked.code, Some(26), "{checked:?}");
    assert_eq!(checked.told(), told);
    let after = snapshot(vault);
    for (path, was) in &before {
        assert!(after.get(path) == Some(was), "{} changed", path.display());
    }
    assert_eq!(before.len(), after.len());
    check(vault, &[]).assert_clean();
}

fn stored_dir(vault: &Vault, name: &str) -> PathBuf {
    let mount = vault.mount();
    let path = stored(&mount, name);
    mount.umount();
    path
}

fn id_link(dir: &Path) -> PathBuf {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names = entries.map(|e| e.expect("an entry").path());
    names
        .find(|p| p.to_string_lossy().contains("/~id."))
        .expect("it has an id")
}

/// Changes entries of a directory as a crash would, without touching its time.
fn quietly(dir: &Path, change: impl FnOnce()) {
    let before = fs::metadata(dir).expect("it exists");
    change();
    let times = fs::FileTimes::new().set_modified(before.modified().expect("ext4 has it"));
    fs::File::open(dir)
        .expect("opens")
        .set_times(times)
        .expect("ours");
}

#[test]
fn a_directory_id_comes_back_from_its_link_and_the_link_from_the_file() {
    let vault = prepared(&[], fill);
    let deep = stored_dir(&vault, "deep");
    let link = id_link(&deep);
    let told = &["repaired directory id deep"];
    let remove = |path: &Path| fs::remove_file(path).expect("removed");
    repaired(
        &vault,
        |_| quietly(&deep, || remove(&deep.join("~id"))),
        told,
    );
    repaired(&vault, |_| quietly(&deep, || remove(&link)), told);
    repaired(&vault, |_| flip(&deep.join("~id"), 3, 1), told);
    repaired(&vault, |_| cut(&deep.join("~id"), 0), told);
    let ino = |path: &Path| fs::metadata(path).expect("it exists").ino();
    assert_eq!(ino(&deep.join("~id")), ino(&link), "one file, two names");
    let misnamed = || {
        let mut name = link
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let last = name.pop().expect("not empty");
        name.push(if last == 'A' { 'B' } else { 'A' });
        fs::rename(&link, deep.join(name)).expect("renamed");
    };
    repaired(&vault, |_| quietly(&deep, misnamed), told);
    let root = vault.path();
    repaired(
        &vault,
        |_| quietly(&root, || remove(&root.join("~id"))),
        &["repaired directory id ."],
    );
}

#[test]
fn names_whose_directory_id_is_lost_twice_stay_lost_and_nothing_is_changed() {
    let vault = prepared(&[], fill);
    let deep = stored_dir(&vault, "deep");
    fs::remove_file(deep.join("~id")).expect("removed");
    fs::remove_file(id_link(&deep)).expect("removed");
    let before = snapshot(&vault);
    let checked = check(&vault, &["--repair"]);
    assert_eq!(checked.code, Some(27));
    assert_eq!(checked.told()[..1], ["damaged directory id deep"]);
    assert!(snapshot(&vault) == before);
}

#[test]
fn header_copies_and_superblock_slots_are_written_anew() {
    let vault = prepared(&[], fill);
    for (file, at, what) in [
        ("volume", 60, "repaired volume header -"),
        ("volume.bak", 60, "repaired volume header -"),
        ("journal/superblock", 30, "repaired superblock -"),
        ("journal/superblock", 4096 + 30, "repaired superblock -"),
    ] {
        repaired(
            &vault,
            |root| flip(&root.join("~wardfs").join(file), at, 1),
            &[what],
        );
    }
    repaired(
        &vault,
        |root| fs::remove_file(root.join("~wardfs/volume.bak")).expect("removed"),
        &["repaired volume header -"],
    );
}

#[test]
fn a_long_name_comes_back_from_what_is_left_of_its_file_or_from_a_copy() {
    let long = format!("deep/{}", "l".repeat(255));
    let vault = prepared(&[], fill);
    let entry = stored_dir(&vault, &long);
    let deep = entry.parent().expect("a directory").to_owned();
    let sidecar = PathBuf::from(format!("{}.name", entry.display()));
    let told = format!("repaired name file {long}");
    let grow = |_: &Path| {
        let mut grown = fs::read(&sidecar).expect("stored");
        grown.extend(b"garbage");
        fs::write(&sidecar, grown).expect("written");
    };
    repaired(&vault, grow, &[&told]);

    let copy = PathBuf::from(format!("{} (conflict)", sidecar.display()));
    fs::copy(&sidecar, &copy).expect("copied");
    let before = snapshot(&vault);
    quietly(&deep, || fs::remove_file(&sidecar).expect("removed"));
    let checked = check(&vault, &["--repair"]);
    assert_eq!(checked.code, Some(26));
    let foreign = copy
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let foreign = format!("foreign file deep/{foreign}");
    assert_eq!(checked.told(), [foreign.clone(), told]);
    assert!(snapshot(&vault) == before);
    fs::remove_file(&copy).expect("removed");

    fs::remove_file(&sidecar).expect("removed");
    let before = snapshot(&vault);
    let checked = check(&vault, &["--repair"]);
    assert_eq!(checked.code, Some(27), "without a copy it cannot be known");
    assert!(snapshot(&vault) == before);
}

#[test]
fn leftovers_are_removed_and_what_is_foreign_stays() {
    let vault = prepared(&[], fill);
    let before = snapshot(&vault);
    let meta = vault.path().join("~wardfs");
    fs::write(vault.path().join("notes.txt"), "x").expect("written");
    let with_notes = snapshot(&vault);
    fs::write(meta.join("tmp/volume"), "half").expect("written");
    fs::write(meta.join("targets").join("A".repeat(22)), "x").expect("written");
    let orphan = format!("~L{}.name", "A".repeat(43));
    let root = vault.path();
    quietly(&root, || {
        fs::write(root.join(&orphan), "x").expect("written")
    });
    let checked = check(&vault, &["--repair"]);
    assert_eq!(checked.code, Some(26));
    let told = [
        "foreign file notes.txt".to_owned(),
        "repaired link target -".to_owned(),
        format!("repaired name file {orphan}"),
        "repaired temporary file -".to_owned(),
    ];
    assert_eq!(checked.told(), told);
    assert!(snapshot(&vault) == with_notes);
    assert_eq!(with_notes.len(), before.len() + 1);
}

/// A damaged symbolic link may be the one that refers to it.
#[test]
fn link_targets_are_kept_while_a_link_is_damaged() {
    let vault = prepared(&[], fill);
    let far = stored_dir(&vault, "far");
    fs::remove_file(&far).expect("removed");
    std::os::unix::fs::symlink("~Tdamaged", &far).expect("made");
    let before = snapshot(&vault);
    let checked = check(&vault, &["--repair"]);
    assert_eq!(checked.told(), ["damaged symbolic link far"]);
    assert!(snapshot(&vault) == before);
}

#[test]
fn content_that_is_damaged_is_left_as_it_is() {
    let vault = prepared(&[], |mount| {
        for name in ["changed", "cut", "header", "emptied"] {
            fs::write(mount.join(name), content(1, 5 * CHUNK)).expect("written");
        }
    });
    let mount = vault.mount();
    let [changed, short, header, emptied] =
        ["changed", "cut", "header", "emptied"].map(|name| stored(&mount, name));
    mount.umount();
    flip(&changed, chunk_at(2) + 40, 1);
    cut(&short, chunk_at(3));
    flip(&header, 10, 1);
    cut(&emptied, 0);
    let before = snapshot(&vault);
    let checked = check(&vault, &["--repair"]);
    assert_eq!(checked.code, Some(27), "{checked:?}");
    assert_eq!(checked.summary["damaged"], 4);
    assert!(snapshot(&vault) == before);
}

#[test]
fn a_mounted_vault_is_not_repaired() {
    let vault = Vault::new();
    let mount = vault.mount();
    plain(&vault, &["--repair"]).refused(10, &["already mounted at", "wardfs umount"]);
    mount.umount();
}
