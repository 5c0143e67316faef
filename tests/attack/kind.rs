//! Something else in the place of a file or directory: the daemon neither follows it nor waits on it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::common::{Vault, run, wait_until};
use crate::lab::*;

fn fifo(path: &Path) {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).expect("made");
}

const KINDS: [&str; 3] = ["fifo", "symlink", "directory"];

/// Puts another kind of object at `path`, whatever is there.
fn replace(path: &Path, kind: &str) {
    fs::remove_file(path).expect("there was a file");
    match kind {
        "fifo" => fifo(path),
        "symlink" => symlink("/etc/passwd", path).expect("made"),
        _ => fs::create_dir(path).expect("made"),
    }
}

#[test]
fn in_place_of_a_file() {
    let vault = prepared(&[], |mount| {
        for kind in KINDS {
            fs::write(mount.join(kind), content(1, 5000)).expect("written");
        }
        fs::write(mount.join("bystander"), content(2, 5000)).expect("written");
    });
    let mount = vault.mount();
    let paths = KINDS.map(|kind| stored(&mount, kind));
    mount.umount();
    for (path, kind) in paths.iter().zip(KINDS) {
        replace(path, kind);
    }
    let mount = vault.mount();
    assert!(
        fs::symlink_metadata(mount.join("fifo"))
            .expect("listed")
            .file_type()
            .is_fifo()
    );
    assert_eq!(
        fs::read_link(mount.join("symlink")).map_err(|e| errno(&e)),
        Err(libc::EIO)
    );
    assert_eq!(read(&mount.join("symlink")), Err(libc::EIO));
    assert_eq!(listed(&mount.join("directory")), Ok(vec![]));
    assert_eq!(listed(mount.path()).map(|names| names.len()), Ok(4));
    assert_eq!(read(&mount.join("bystander")), Ok(content(2, 5000)));
    mount.umount();
}

/// The kernel still believes in a file, and the daemon opens what is there now.
#[test]
fn in_place_of_a_file_while_mounted() {
    let vault = prepared(&[], |mount| {
        for kind in KINDS {
            fs::write(mount.join(kind), content(1, 5000)).expect("written");
        }
        fs::write(mount.join("bystander"), content(2, 5000)).expect("written");
    });
    let mount = vault.mount();
    for kind in KINDS {
        replace(&stored(&mount, kind), kind);
        assert!(
            fs::metadata(mount.join(kind))
                .expect("the kernel remembers")
                .is_file()
        );
        let e = read(&mount.join(kind)).expect_err("it is no file any more");
        assert!(matches!(e, libc::EIO | libc::ESTALE), "{kind}: errno {e}");
    }
    assert_eq!(read(&mount.join("bystander")), Ok(content(2, 5000)));
    mount.umount();
}

#[test]
fn in_place_of_a_directory() {
    let outside = crate::common::TempDir::new();
    fs::write(outside.join("secret"), "outside").expect("written");
    let vault = prepared(&[], |mount| {
        for dir in ["linked", "file"] {
            fs::create_dir(mount.join(dir)).expect("made");
            fs::write(mount.join(dir).join("x"), "x").expect("written");
        }
    });
    let mount = vault.mount();
    let [linked, file] = ["linked", "file"].map(|name| stored(&mount, name));
    mount.umount();
    for dir in [&linked, &file] {
        fs::remove_dir_all(dir).expect("removed");
    }
    symlink(outside.path(), &linked).expect("made");
    fs::write(&file, "").expect("made");
    let mount = vault.mount();
    assert_eq!(listed(&mount.join("linked")), Err(libc::EIO));
    assert_eq!(
        fs::write(mount.join("linked/new"), "x").map_err(|e| errno(&e)),
        Err(libc::EIO)
    );
    assert_refused(&mount.join("file"), "a file where a directory was");
    assert_eq!(listed(outside.path()), Ok(vec!["secret".into()]));
    mount.umount();
}

/// The id of a directory has a second copy; the sidecar of a long name is needed for listing alone.
#[test]
fn in_place_of_an_id_or_a_sidecar() {
    let long = "n".repeat(200);
    let vault = prepared(&[], |mount| {
        for kind in KINDS {
            for dir in ["id", "sidecar"].map(|what| format!("{what}-{kind}")) {
                fs::create_dir(mount.join(&dir)).expect("made");
                fs::write(mount.join(&dir).join("short"), "short").expect("written");
                fs::write(mount.join(&dir).join(&long), "long").expect("written");
            }
        }
    });
    let mount = vault.mount();
    let dirs =
        KINDS.map(|kind| ["id", "sidecar"].map(|what| stored(&mount, format!("{what}-{kind}"))));
    mount.umount();
    for ([with_id, with_sidecar], kind) in dirs.iter().zip(KINDS) {
        replace(&with_id.join("~id"), kind);
        let sidecar = fs::read_dir(with_sidecar).expect("a directory").flatten();
        let sidecar = sidecar
            .map(|e| e.path())
            .find(|p| p.extension().is_some_and(|e| e == "name"));
        replace(&sidecar.expect("there is one"), kind);
    }
    let mount = vault.mount();
    for kind in KINDS {
        let with_id = mount.join(format!("id-{kind}"));
        assert_eq!(
            listed(&with_id),
            Ok(vec![long.clone(), "short".into()]),
            "{kind}"
        );
        assert_eq!(
            read(&with_id.join("short")),
            Ok(b"short".to_vec()),
            "{kind}"
        );
        let with_sidecar = mount.join(format!("sidecar-{kind}"));
        assert_eq!(listed(&with_sidecar), Ok(vec!["short".into()]), "{kind}");
        assert_eq!(
            read(&with_sidecar.join(&long)),
            Ok(b"long".to_vec()),
            "{kind}"
        );
    }
    mount.umount();
}

/// The note of who holds the vault is written by a daemon that may be root.
#[test]
fn in_place_of_the_lock() {
    let outside = crate::common::TempDir::new();
    let victim = outside.file("victim", "precious");
    for kind in ["symlink", "dangling symlink", "fifo", "directory"] {
        let vault = prepared(&[], |_| {});
        let lock = vault.path().join("~wardfs/lock");
        fs::remove_file(&lock).expect("the lock stays");
        match kind {
            "symlink" => symlink(&victim, &lock).expect("made"),
            "dangling symlink" => symlink(outside.join("new"), &lock).expect("made"),
            "fifo" => fifo(&lock),
            _ => fs::create_dir(&lock).expect("made"),
        }
        let mut command = vault.mount_command();
        let mut child = command
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("runs");
        wait_until("mount has answered", || {
            child.try_wait().expect("ours").is_some()
        });
        let status = child.wait().expect("ours");
        if status.success() {
            drop(crate::common::Mount::adopt(&vault, vault.mountpoint()));
            panic!("{kind}: mounted");
        }
        assert!(
            !run(&mut infos(&vault)).stderr.contains("panicked"),
            "{kind}"
        );
        assert_eq!(
            fs::read_to_string(&victim).expect("there"),
            "precious",
            "{kind}"
        );
        assert!(!outside.join("new").exists(), "{kind}");
    }
}

fn infos(vault: &Vault) -> std::process::Command {
    let mut command = crate::common::wardfs();
    command.arg("info").arg(vault.path());
    command
}

/// A hard link brings a file of the same filesystem into the tree; the daemon may be root.
#[test]
fn a_foreign_file_linked_into_the_tree_is_neither_served_nor_changed() {
    use std::io::Write;
    let vault = prepared(&[], |mount| {
        for name in ["short", "long"] {
            fs::write(mount.join(name), content(1, 100)).expect("written");
        }
    });
    let victims = [
        ("short", "root:x:0:0".to_owned()),
        ("long", "secret ".repeat(1000)),
    ];
    let mount = vault.mount();
    let paths = victims.clone().map(|(name, _)| stored(&mount, name));
    mount.umount();
    for ((name, text), path) in victims.iter().zip(&paths) {
        let victim = vault.dir().file(name, text);
        fs::remove_file(path).expect("removed");
        fs::hard_link(victim, path).expect("one filesystem");
    }
    let mount = vault.mount_with(&FORGETFUL);
    for (name, text) in &victims {
        let path = mount.join(name);
        assert_refused(&path, name);
        let write =
            |options: &mut fs::File| options.write_all(b"x").and_then(|()| options.sync_all());
        let mut tries = fs::OpenOptions::new();
        for options in [
            tries.append(true),
            fs::OpenOptions::new().write(true).truncate(true),
        ] {
            let e = options
                .open(&path)
                .and_then(|mut file| write(&mut file))
                .expect_err("refused");
            assert_eq!(errno(&e), libc::EIO, "{name}");
        }
        for len in [0, 1, 10, 1 << 20] {
            let file = fs::File::options().write(true).open(&path).expect("opens");
            assert_eq!(
                file.set_len(len).map_err(|e| errno(&e)),
                Err(libc::EIO),
                "{name} {len}"
            );
        }
        let victim = vault.dir().join(name);
        assert_eq!(&fs::read_to_string(&victim).expect("there"), text);
        fs::remove_file(path).expect("the name can go");
        assert_eq!(&fs::read_to_string(&victim).expect("there"), text);
    }
    mount.umount();
}

/// One file under two names of the tree is a hard link, whoever made it.
#[test]
fn a_link_made_in_the_vault_shows_the_file_under_the_other_name() {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("a"), content(1, 5000)).expect("written");
        fs::write(mount.join("b"), content(2, 5000)).expect("written");
    });
    let mount = vault.mount();
    let [a, b] = ["a", "b"].map(|name| stored(&mount, name));
    mount.umount();
    fs::remove_file(&b).expect("removed");
    fs::hard_link(&a, &b).expect("linked");
    let mount = vault.mount();
    for name in ["a", "b"] {
        assert_eq!(read(&mount.join(name)), Ok(content(1, 5000)));
    }
    fs::remove_file(mount.join("a")).expect("removed");
    assert_eq!(read(&mount.join("b")), Ok(content(1, 5000)));
    mount.umount();
}

/// Whatever the vault's own directories lead to, nothing is written there.
#[test]
fn in_place_of_the_own_directories() {
    for dir in ["", "/journal", "/tmp", "/targets"] {
        let outside = crate::common::TempDir::new();
        let vault = prepared(&[], |mount| {
            fs::write(mount.join("file"), content(1, 5000)).expect("written");
            symlink("t/".repeat(2000), mount.join("far")).expect("made");
        });
        let path = vault.path().join(format!("~wardfs{dir}"));
        run(std::process::Command::new("cp")
            .arg("-a")
            .arg(&path)
            .arg(outside.join("copy")))
        .ok();
        let describe = || {
            let mut found = Vec::new();
            walk(outside.path(), &mut |path, meta| {
                found.push((path.to_owned(), meta.len(), meta.modified().ok()));
            });
            found.sort();
            found
        };
        let before = describe();
        fs::remove_dir_all(&path).expect("removed");
        symlink(outside.join("copy"), &path).expect("made");
        let mounted = run(&mut vault.mount_command());
        assert!(!mounted.stderr.contains("panicked"), "{mounted:?}");
        if mounted.code == Some(0) {
            let mount = crate::common::Mount::adopt(&vault, vault.mountpoint());
            assert_eq!(read(&mount.join("file")), Ok(content(1, 5000)), "{dir}");
            let _ = fs::read_link(mount.join("far"));
            let _ = symlink("u/".repeat(2000), mount.join("another"));
            let _ = fs::remove_file(mount.join("far"));
            mount.umount();
        }
        assert_eq!(describe(), before, "~wardfs{dir}");
    }
}
