//! Names, sidecars and directory ids.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::common::{Mount, Vault};
use crate::lab::*;

/// Makes directory `dir` with two short names and two long ones; every file holds its own name.
fn fill(mount: &Mount<'_>, dir: &str) {
    fs::create_dir(mount.join(dir)).expect("made");
    for name in names() {
        fs::write(mount.join(dir).join(&name), &name).expect("written");
    }
}

fn long(c: &str) -> String {
    c.repeat(200)
}

/// Sorted.
fn names() -> [String; 4] {
    ["a".into(), "b".into(), long("x"), long("y")]
}

fn without(gone: &[&str]) -> Vec<String> {
    names()
        .into_iter()
        .filter(|name| !gone.contains(&name.as_str()))
        .collect()
}

/// A vault with filled directories, and where each is stored.
fn vault(dirs: &[&str]) -> (Vault, Vec<PathBuf>) {
    let vault = prepared(&[], |mount| dirs.iter().for_each(|dir| fill(mount, dir)));
    let mount = vault.mount();
    let stored = dirs.iter().map(|dir| stored(&mount, dir)).collect();
    mount.umount();
    (vault, stored)
}

/// Where `name` of the directory stored at `dir` is stored: found by content length, which is that of the name.
fn entry(dir: &Path, name: &str, vault: &Vault) -> PathBuf {
    let mount = vault.mount_with(&["-o", "ro"]);
    let mut found = None;
    for listed in fs::read_dir(mount.path()).expect("lists").flatten() {
        let path = listed.path().join(name);
        let Ok(meta) = fs::metadata(&path) else {
            continue;
        };
        let stored = stored_ino(vault, std::os::unix::fs::MetadataExt::ino(&meta));
        if stored.parent() == Some(dir) {
            found = Some(stored);
        }
    }
    mount.umount();
    found.expect("it is stored there")
}

fn sidecar(entry: &Path) -> PathBuf {
    let mut name = entry.file_name().expect("has one").to_owned();
    name.push(".name");
    entry.with_file_name(name)
}

/// Every name that is listed can be read and holds what it should; the others do not exist.
#[track_caller]
fn assert_names(dir: &Path, expected: &[String]) {
    assert_eq!(listed(dir).as_deref(), Ok(expected));
    for name in names() {
        let read = read(&dir.join(&name));
        match expected.contains(&name) {
            true => assert_eq!(read, Ok(name.into_bytes())),
            false => assert_eq!(read, Err(libc::ENOENT), "{name}"),
        }
    }
}

fn rename(from: &Path, to: impl AsRef<OsStr>) {
    fs::rename(from, from.with_file_name(to.as_ref())).expect("renamed");
}

#[test]
fn changed_names_are_left_out_and_their_neighbours_stay() {
    let (vault, dirs) = vault(&["flipped", "moved", "target", "longer", "bits", "hash"]);
    let at = |i: usize, name: &str| entry(&dirs[i], name, &vault);
    let entries = [
        at(0, "a"),
        at(1, "a"),
        at(3, "a"),
        at(4, "a"),
        at(5, &long("x")),
    ];
    let stored = |entry: &Path| entry.file_name().expect("has one").as_bytes().to_vec();
    let change = |entry: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut name = stored(entry);
        change(&mut name);
        rename(entry, OsStr::from_bytes(&name));
    };
    change(&entries[0], &|name| {
        name[5] = if name[5] == b'A' { b'B' } else { b'A' }
    });
    fs::rename(
        &entries[1],
        dirs[2].join(entries[1].file_name().expect("has one")),
    )
    .expect("moved");
    change(&entries[2], &|name| name.push(b'A'));
    // 43 characters hold 258 bits, two more than 32 bytes: another spelling of the same bytes.
    change(&entries[3], &|name| {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = name.last_mut().expect("43 characters");
        let value = alphabet.iter().position(|c| c == last).expect("base64url");
        *last = alphabet[value ^ 1];
    });
    change(&entries[4], &|name| {
        name[5] = if name[5] == b'A' { b'B' } else { b'A' }
    });
    let log = vault.dir().join("log");
    let mount = vault.mount_with(&["--log-file", log.to_str().expect("ASCII")]);
    for dir in ["flipped", "moved", "longer", "bits"] {
        assert_names(&mount.join(dir), &without(&["a"]));
    }
    assert_names(&mount.join("target"), &names());
    assert_names(&mount.join("hash"), &without(&[&long("x")]));
    mount.umount();
    let log = fs::read_to_string(log).expect("written");
    assert!(
        log.contains("1 entries with unreadable names skipped"),
        "{log}"
    );
}

#[test]
fn foreign_entries_are_skipped_and_counted() {
    let (vault, dirs) = vault(&["dir"]);
    let foreign = [
        "notes.txt",
        "~L.name",
        ".nfs000001",
        "~id.short",
        "~wardfs",
        "a b",
        "x (conflict)",
    ];
    for name in foreign {
        fs::write(dirs[0].join(name), "foreign").expect("written");
        if name != "~wardfs" {
            fs::write(vault.path().join(name), "foreign").expect("written");
        }
    }
    fs::write(dirs[0].join(OsStr::from_bytes(b"\xff\xfe")), "foreign").expect("written");
    fs::create_dir(dirs[0].join("subdirectory")).expect("made");
    let log = vault.dir().join("log");
    let mount = vault.mount_with(&["--log-file", log.to_str().expect("ASCII")]);
    assert_names(&mount.join("dir"), &names());
    assert_eq!(listed(mount.path()), Ok(vec!["dir".into()]));
    for name in foreign {
        assert_eq!(read(&mount.join("dir").join(name)), Err(libc::ENOENT));
    }
    mount.umount();
    let log = fs::read_to_string(log).expect("written");
    assert!(
        log.contains("8 entries with unreadable names skipped"),
        "{log}"
    );
    assert!(!log.contains("conflict") && !log.contains("notes"), "{log}");
}

/// A lookup computes the entry, so the file stays reachable by its name.
#[test]
fn a_damaged_sidecar_hides_a_long_name_from_listings_alone() {
    let (vault, dirs) = vault(&["flipped", "deleted", "swapped", "emptied", "grown", "whole"]);
    let at = |i: usize, c: &str| sidecar(&entry(&dirs[i], &long(c), &vault));
    let [flipped, deleted, swapped, swapped_y] = [at(0, "x"), at(1, "x"), at(2, "x"), at(2, "y")];
    let [emptied, grown] = [at(3, "x"), at(4, "x")];
    flip(&flipped, 40, 1);
    fs::remove_file(deleted).expect("removed");
    let aside = vault.path().join("~wardfs/tmp/aside");
    fs::rename(&swapped, &aside).expect("moved");
    fs::rename(&swapped_y, &swapped).expect("moved");
    fs::rename(&aside, &swapped_y).expect("moved");
    fs::write(emptied, "").expect("written");
    fs::write(grown, vec![7; 1 << 20]).expect("written");
    let mount = vault.mount();
    for dir in ["flipped", "deleted", "emptied", "grown"] {
        assert_eq!(
            listed(&mount.join(dir)),
            Ok(without(&[&long("x")])),
            "{dir}"
        );
    }
    assert_eq!(
        listed(&mount.join("swapped")),
        Ok(without(&[&long("x"), &long("y")]))
    );
    for dir in ["flipped", "deleted", "emptied", "grown", "swapped", "whole"] {
        for name in names() {
            assert_eq!(
                read(&mount.join(dir).join(&name)),
                Ok(name.into_bytes()),
                "{dir}"
            );
        }
    }
    assert_names(&mount.join("whole"), &names());
    mount.umount();
}

/// The name of the hard link that carries a directory's id.
fn id_link(dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(dir)
        .expect("a directory")
        .flatten()
        .map(|e| e.path());
    let is_link = |p: &PathBuf| {
        p.file_name()
            .is_some_and(|n| n.as_bytes().starts_with(b"~id."))
    };
    entries.find(is_link).expect("it has one")
}

#[test]
fn one_damaged_copy_of_a_directory_id_is_made_good_by_the_other() {
    let (vault, dirs) = vault(&[
        "flipped", "emptied", "deleted", "grown", "unlinked", "renamed", "foreign",
    ]);
    flip(&dirs[0].join("~id"), 3, 1);
    cut(&dirs[1].join("~id"), 0);
    fs::remove_file(dirs[2].join("~id")).expect("removed");
    patch(&dirs[3].join("~id"), 32, &[0; 100]);
    fs::remove_file(id_link(&dirs[4])).expect("removed");
    rename(&id_link(&dirs[5]), format!("~id.{}", "A".repeat(43)));
    // The id of another directory, in the file alone, is authentic: names then do not open.
    fs::remove_file(dirs[6].join("~id")).expect("removed");
    fs::copy(dirs[4].join("~id"), dirs[6].join("~id")).expect("copied");
    let mount = vault.mount();
    for dir in [
        "flipped", "emptied", "deleted", "grown", "unlinked", "renamed",
    ] {
        assert_names(&mount.join(dir), &names());
    }
    assert_names(&mount.join("foreign"), &[]);
    mount.umount();
}

#[test]
fn a_directory_without_an_id_refuses_names_and_never_gets_a_new_one() {
    let (vault, dirs) = vault(&["lost", "damaged", "whole"]);
    let link = id_link(&dirs[0]);
    fs::remove_file(link).expect("removed");
    fs::remove_file(dirs[0].join("~id")).expect("removed");
    rename(&id_link(&dirs[1]), format!("~id.{}", "A".repeat(43)));
    flip(&dirs[1].join("~id"), 31, 0x80);
    for options in [&["-o", "ro"][..], &[]] {
        let mount = vault.mount_with(options);
        for dir in ["lost", "damaged"] {
            let dir = mount.join(dir);
            assert_eq!(listed(&dir), Err(libc::EIO), "{dir:?}");
            assert_eq!(read(&dir.join("a")), Err(libc::EIO), "{dir:?}");
            if options.is_empty() {
                let make = fs::write(dir.join("new"), "x").map_err(|e| errno(&e));
                assert_eq!(make, Err(libc::EIO), "{dir:?}");
                let remove = fs::remove_dir(&dir).map_err(|e| errno(&e));
                assert_eq!(remove, Err(libc::ENOTEMPTY), "{dir:?}");
            }
        }
        assert_names(&mount.join("whole"), &names());
        mount.umount();
    }
    assert!(!dirs[0].join("~id").exists());
}

/// The root is a directory like the others.
#[test]
fn a_root_without_an_id_refuses_names() {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("file"), "x").expect("written")
    });
    fs::remove_file(id_link(&vault.path())).expect("removed");
    fs::remove_file(vault.path().join("~id")).expect("removed");
    let mount = vault.mount();
    assert_eq!(listed(mount.path()), Err(libc::EIO));
    assert_eq!(read(&mount.join("file")), Err(libc::EIO));
    assert_eq!(
        fs::write(mount.join("new"), "x").map_err(|e| errno(&e)),
        Err(libc::EIO)
    );
    mount.umount();
    assert!(!vault.path().join("~id").exists());
}
