//! Link targets and extended attributes.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};

use crate::common::Mount;
use crate::lab::*;

fn target(mount: &Mount<'_>, name: &str) -> Result<Vec<u8>, i32> {
    let read = fs::read_link(mount.join(name));
    read.map(|path| path.as_os_str().as_bytes().to_vec())
        .map_err(|e| errno(&e))
}

fn relink(path: &Path, target: &[u8]) {
    fs::remove_file(path).expect("removed");
    symlink(std::ffi::OsStr::from_bytes(target), path).expect("made");
}

#[test]
fn changed_link_targets_are_refused() {
    let attacks = ["flipped", "cut", "plain", "empty-ish", "grown", "bits"];
    let vault = prepared(&[], |mount| {
        for name in attacks.iter().chain(&["whole"]) {
            symlink("../patients/7", mount.join(name)).expect("made");
        }
    });
    let mount = vault.mount();
    let paths = attacks.map(|name| stored(&mount, name));
    mount.umount();
    let sealed = |path: &PathBuf| {
        fs::read_link(path)
            .expect("a link")
            .into_os_string()
            .into_encoded_bytes()
    };
    for (path, attack) in paths.iter().zip(attacks) {
        let mut target = sealed(path);
        match attack {
            "flipped" => target[30] = if target[30] == b'A' { b'B' } else { b'A' },
            "cut" => target.truncate(target.len() - 4),
            "plain" => target = b"/etc/passwd".to_vec(),
            "empty-ish" => target = b"A".to_vec(),
            "grown" => target.extend(b"AAAA"),
            _ => *target.last_mut().expect("not empty") ^= 1,
        }
        relink(path, &target);
    }
    let mount = vault.mount();
    for attack in attacks {
        assert_eq!(target(&mount, attack), Err(libc::EIO), "{attack}");
    }
    assert_eq!(target(&mount, "whole"), Ok(b"../patients/7".to_vec()));
    mount.umount();
}

/// Targets that no backing link can hold lie in a directory of their own.
#[test]
fn changed_far_link_targets_are_refused() {
    let attacks = [
        "flipped",
        "cut",
        "deleted",
        "fifo",
        "outside",
        "other length",
        "exchanged",
    ];
    let far = |name: &str| format!("{name}/").repeat(4000 / (name.len() + 1));
    let vault = prepared(&[], |mount| {
        for name in attacks.iter().chain(&["whole"]) {
            symlink(far(name), mount.join(name)).expect("made");
        }
    });
    let mount = vault.mount();
    let links = attacks.map(|name| stored(&mount, name));
    mount.umount();
    let marker = |link: &PathBuf| {
        fs::read_link(link)
            .expect("a link")
            .to_str()
            .expect("ASCII")
            .to_owned()
    };
    let file = |link: &PathBuf| {
        let marker = marker(link);
        let (id, _) = marker
            .strip_prefix("~T")
            .and_then(|m| m.split_once('.'))
            .expect("a far target");
        vault.path().join("~wardfs/targets").join(id)
    };
    flip(&file(&links[0]), 1000, 1);
    cut(&file(&links[1]), 2000);
    fs::remove_file(file(&links[2])).expect("removed");
    fs::remove_file(file(&links[3])).expect("removed");
    rustix::fs::mkfifoat(rustix::fs::CWD, file(&links[3]), rustix::fs::Mode::RUSR).expect("made");
    relink(&links[4], b"~T../../../../../etc/passw.11");
    let other = marker(&links[5]);
    relink(
        &links[5],
        other.replace(".4", ".3").replace(".39", ".38").as_bytes(),
    );
    let donor = fs::read(file(&links[5])).expect("stored");
    fs::write(file(&links[6]), &donor[..donor.len() - 8]).expect("written");
    let mount = vault.mount();
    for attack in attacks {
        assert_eq!(target(&mount, attack), Err(libc::EIO), "{attack}");
    }
    assert_eq!(target(&mount, "whole"), Ok(far("whole").into_bytes()));
    mount.umount();
}

fn value(path: &Path, name: &str) -> Result<Vec<u8>, i32> {
    let mut buf = vec![0; 256];
    let len = getxattr(path, name, &mut buf).map_err(|e| e.raw_os_error())?;
    Ok(buf[..len].to_vec())
}

fn attributes(path: &Path) -> Result<Vec<String>, i32> {
    let mut buf = vec![0; 4096];
    let len = listxattr(path, &mut buf).map_err(|e| e.raw_os_error())?;
    let text = String::from_utf8(buf[..len].to_vec()).expect("ASCII");
    let mut names: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// The sealed attributes of a stored object.
fn sealed(path: &Path) -> Vec<(String, Vec<u8>)> {
    let names = attributes(path)
        .expect("lists")
        .into_iter()
        .filter(|n| n.starts_with("user.wardfs."));
    names
        .map(|name| (name.clone(), value(path, &name).expect("it is there")))
        .collect()
}

fn put(path: &Path, name: &str, value: &[u8]) {
    setxattr(path, name, value, XattrFlags::empty())
        .expect("the backing filesystem has attributes");
}

#[test]
fn changed_attributes_are_refused_and_left_out_of_lists() {
    let attacks = ["flipped", "cut", "renamed", "moved", "directory", "plain"];
    let vault = prepared(&[], |mount| {
        for name in attacks.iter().chain(&["whole", "donor"]) {
            let path = mount.join(name);
            match *name {
                "directory" => fs::create_dir(&path).expect("made"),
                _ => fs::write(&path, name).expect("written"),
            }
            put(&path, "user.kept", b"k");
            put(&path, "user.changed", name.as_bytes());
        }
    });
    let mount = vault.mount();
    let paths = attacks.map(|name| stored(&mount, name));
    let donor = stored(&mount, "donor");
    mount.umount();
    // Which of the two is "changed" cannot be seen; its value is longer.
    let changed = |path: &Path| {
        sealed(path)
            .into_iter()
            .max_by_key(|(_, v)| v.len())
            .expect("two")
    };
    for (path, attack) in paths.iter().zip(attacks) {
        let (name, mut value) = changed(path);
        match attack {
            "flipped" | "directory" => value[30] ^= 1,
            "cut" => value.truncate(10),
            "plain" => value = b"plain".to_vec(),
            "renamed" => {
                removexattr(path, name.as_str()).expect("removed");
                put(path, &format!("user.wardfs.{}", "A".repeat(32)), &value);
                continue;
            }
            _ => {
                removexattr(path, name.as_str()).expect("removed");
                let (name, value) = changed(&donor);
                put(path, &name, &value);
                continue;
            }
        }
        put(path, &name, &value);
    }
    let mount = vault.mount();
    for attack in attacks {
        let path = mount.join(attack);
        let expected = if matches!(attack, "renamed" | "moved") {
            libc::ENODATA
        } else {
            libc::EIO
        };
        assert_eq!(value(&path, "user.changed"), Err(expected), "{attack}");
        assert_eq!(value(&path, "user.kept"), Ok(b"k".to_vec()), "{attack}");
        assert_eq!(attributes(&path), Ok(vec!["user.kept".into()]), "{attack}");
    }
    for whole in ["whole", "donor"] {
        assert_eq!(
            value(&mount.join(whole), "user.changed"),
            Ok(whole.as_bytes().to_vec())
        );
        assert_eq!(
            attributes(&mount.join(whole)).map(|names| names.len()),
            Ok(2)
        );
    }
    mount.umount();
}

/// An attribute of the vault's own namespace that a program asks for is none.
#[test]
fn stored_attribute_names_mean_nothing_in_the_mount() {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("file"), "x").expect("written");
        put(&mount.join("file"), "user.a", b"1");
    });
    let mount = vault.mount();
    let (name, _) = sealed(&stored(&mount, "file")).remove(0);
    assert_eq!(value(&mount.join("file"), &name), Err(libc::ENODATA));
    mount.umount();
}
