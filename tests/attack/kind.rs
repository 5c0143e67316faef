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
    assert!(fs::symlink_metadata(mount.join("fifo")).expect("listed").file_type().is_fifo());
    assert_eq!(fs::read_link(mount.join("symlink")).map_err(|e| errno(&e)), Err(libc::EIO));
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
        assert!(fs::metadata(mount.join(kind)).expect("the kernel remembers").is_file());
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
    assert_eq!(fs::write(mount.join("linked/new"), "x").map_err(|e| errno(&e)), Err(libc::EIO));
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
    let dirs = KINDS.map(|kind| {
        ["id", "sidecar"].map(|what| stored(&mount, format!("{what}-{kind}")))
    });
    mount.umount();
    for ([with_id, with_sidecar], kind) in dirs.iter().zip(KINDS) {
        replace(&with_id.join("~id"), kind);
        let sidecar = fs::read_dir(with_sidecar).expect("a directory").flatten();
        let sidecar = sidecar.map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "name"));
        replace(&sidecar.expect("there is one"), kind);
    }
    let mount = vault.mount();
    for kind in KINDS {
        let with_id = mount.join(format!("id-{kind}"));
        assert_eq!(listed(&with_id), Ok(vec![long.clone(), "short".into()]), "{kind}");
        assert_eq!(read(&with_id.join("short")), Ok(b"short".to_vec()), "{kind}");
        let with_sidecar = mount.join(format!("sidecar-{kind}"));
        assert_eq!(listed(&with_sidecar), Ok(vec!["short".into()]), "{kind}");
        assert_eq!(read(&with_sidecar.join(&long)), Ok(b"long".to_vec()), "{kind}");
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
        let mut child = vault.mount_command().spawn().expect("runs");
        wait_until("mount has answered", || child.try_wait().expect("ours").is_some());
        let status = child.wait().expect("ours");
        if status.success() {
            drop(crate::common::Mount::adopt(&vault, vault.mountpoint()));
            panic!("{kind}: mounted");
        }
        assert!(!run(&mut infos(&vault)).stderr.contains("panicked"), "{kind}");
        assert_eq!(fs::read_to_string(&victim).expect("there"), "precious", "{kind}");
        assert!(!outside.join("new").exists(), "{kind}");
    }
}

fn infos(vault: &Vault) -> std::process::Command {
    let mut command = crate::common::wardfs();
    command.arg("info").arg(vault.path());
    command
}
