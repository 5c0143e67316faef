//! Each kind of damage is found, at its path and in its bytes.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{XattrFlags, setxattr};

use crate::common::namespace::User;
use crate::common::{Mount, PASSPHRASE, TempDir, Vault, run};
use crate::lab::*;
use crate::report::check;

/// One of everything that a vault can hold.
pub fn fill(mount: &Mount<'_>) {
    let make = |name: &str, len: usize| {
        fs::write(mount.join(name), content(len as u8, len)).expect("written");
    };
    fs::create_dir_all(mount.join("deep/er/est")).expect("made");
    fs::create_dir(mount.join("empty")).expect("made");
    for len in [0, 1, 4095, 4096, 4097, 100_000] {
        make(&format!("deep/er/{len}"), len);
    }
    make("deep/linked", 9000);
    fs::hard_link(mount.join("deep/linked"), mount.join("other name")).expect("linked");
    make(&format!("deep/{}", "l".repeat(255)), 10);
    fs::create_dir(mount.join("d".repeat(200))).expect("made");
    symlink("../near", mount.join("near")).expect("made");
    symlink("f/".repeat(2000), mount.join("far")).expect("made");
    let sparse = File::create(mount.join("sparse")).expect("made");
    sparse.set_len(10_000_000).expect("extended");
    sparse.write_all_at(b"middle", 5_000_000).expect("written");
    for name in ["deep", "deep/linked"] {
        setxattr(mount.join(name), "user.note", b"value", XattrFlags::empty()).expect("set");
    }
    run(Command::new("mkfifo").arg(mount.join("fifo"))).ok();
}

#[test]
fn a_healthy_vault_is_clean_with_every_cipher_and_chunk_size() {
    for init in [
        &["--cipher", "xaes-256-gcm"][..],
        &["--cipher", "xchacha20-poly1305", "--chunk-size", "64K"],
    ] {
        let vault = prepared(init, fill);
        let checked = check(&vault, &[]);
        checked.assert_clean();
        let number = |key: &str| checked.summary[key].as_u64().expect("a number");
        assert_eq!(number("directories"), 6);
        assert_eq!(
            (number("files"), number("symlinks"), number("special")),
            (9, 2, 1)
        );
        let bytes = 1 + 4095 + 4096 + 4097 + 100_000 + 9000 + 10 + 10_000_000;
        assert_eq!(number("verified_bytes"), bytes);
        assert_eq!(checked.summary["mounted"], false);
    }
}

#[test]
fn a_new_vault_is_clean() {
    check(&Vault::new(), &[]).assert_clean();
}

/// A file of 5 full chunks and 100 bytes.
const LEN: usize = 5 * CHUNK + 100;

#[test]
fn damaged_content_is_told_by_its_bytes() {
    type Attack = (&'static str, fn(&Path), &'static [&'static str]);
    let attacks: [Attack; 12] = [
        ("first", |p| flip(p, chunk_at(0) + 30, 1), &["0..4096"]),
        ("inner", |p| flip(p, chunk_at(2), 1), &["8192..12288"]),
        ("last", |p| flip(p, chunk_at(5) + 50, 1), &["20480..20580"]),
        (
            "three",
            |p| [0, 1, 4].iter().for_each(|n| flip(p, chunk_at(*n) + 99, 8)),
            &["0..8192", "16384..20480"],
        ),
        (
            "zeroed",
            |p| patch(p, chunk_at(3), &[0; STORED_CHUNK]),
            &["12288..16384"],
        ),
        ("header", |p| flip(p, 40, 1), &["0..20580"]),
        ("cut at a chunk", |p| cut(p, chunk_at(3)), &["8192..12288"]),
        (
            "cut in a chunk",
            |p| cut(p, chunk_at(3) + 20),
            &["0..12288"],
        ),
        ("emptied", |p| cut(p, 0), &[]),
        ("header only", |p| cut(p, HEADER), &[]),
        ("grown", |p| cut(p, chunk_at(6)), &["20480..24576"]),
        (
            "moved",
            |p| patch(p, chunk_at(1), &piece(p, chunk_at(2), STORED_CHUNK)),
            &["4096..8192"],
        ),
    ];
    let vault = prepared(&[], |mount| {
        for (name, ..) in attacks {
            fs::write(mount.join(name), content(1, LEN)).expect("written");
        }
        fs::write(mount.join("whole"), content(1, LEN)).expect("written");
    });
    let mount = vault.mount();
    let paths = attacks.map(|(name, ..)| stored(&mount, name));
    mount.umount();
    for (path, (_, attack, _)) in paths.iter().zip(attacks) {
        attack(path);
    }
    let checked = check(&vault, &[]);
    assert_eq!(checked.code, Some(27));
    let mut expected: Vec<String> = attacks
        .iter()
        .map(|(name, _, ranges)| {
            let line = format!("damaged file {name} {}", ranges.join(" "));
            line.trim_end().to_owned()
        })
        .collect();
    expected.sort();
    assert_eq!(checked.told(), expected);
    for (path, (name, ..)) in paths.iter().zip(attacks) {
        let inside = path.strip_prefix(vault.path()).expect("in the vault");
        let finding = checked.findings.iter().find(|f| f["path"] == name);
        assert_eq!(
            finding.expect("told")["stored"],
            inside.to_str().expect("ASCII")
        );
    }
}

/// More than one thread works on it.
#[test]
fn damage_in_a_large_file_is_told_once_and_in_order() {
    const MIB: usize = 1 << 20;
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("large"), content(3, 80 * MIB)).expect("written");
    });
    let mount = vault.mount();
    let path = stored(&mount, "large");
    mount.umount();
    let chunks = [0, 16_383, 16_384, 20_000, 20_479];
    for no in chunks {
        flip(&path, chunk_at(no) + 1000, 1);
    }
    let expected =
        "damaged file large 0..4096 67104768..67112960 81920000..81924096 83881984..83886080";
    for threads in ["1", "4"] {
        let checked = check(&vault, &["--threads", threads]);
        assert_eq!(checked.told(), [expected]);
        let verified = (80 * MIB - chunks.len() * CHUNK) as u64;
        assert_eq!(checked.summary["verified_bytes"], verified);
    }
}

#[test]
fn a_file_with_two_names_is_told_once() {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("a"), content(1, 100)).expect("written");
        fs::hard_link(mount.join("a"), mount.join("b")).expect("linked");
    });
    let mount = vault.mount();
    let path = stored(&mount, "a");
    mount.umount();
    flip(&path, chunk_at(0) + 30, 1);
    assert_eq!(check(&vault, &[]).findings.len(), 1);
}

/// Where `of` is stored, for damage that is not in its content.
fn paths<const N: usize>(vault: &Vault, of: [&str; N]) -> [PathBuf; N] {
    let mount = vault.mount();
    let found = of.map(|name| stored(&mount, name));
    mount.umount();
    found
}

fn link_of(dir: &Path) -> PathBuf {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names = entries.map(|e| e.expect("an entry").path());
    names
        .find(|p| p.to_string_lossy().contains("/~id."))
        .expect("it has an id")
}

#[test]
fn damaged_names_and_what_belongs_to_them_are_told() {
    let long = "l".repeat(200);
    let vault = prepared(&[], |mount| {
        for name in ["id", "link", "both"] {
            fs::create_dir(mount.join(name)).expect("made");
            fs::write(mount.join(name).join("inside"), "x").expect("written");
        }
        fs::write(mount.join(&long), "x").expect("written");
        fs::write(mount.join("renamed"), "x").expect("written");
        symlink("t", mount.join("near")).expect("made");
        symlink("t".repeat(4000), mount.join("far")).expect("made");
        fs::write(mount.join("attribute"), "x").expect("written");
        setxattr(mount.join("attribute"), "user.a", b"1", XattrFlags::empty()).expect("set");
    });
    let [id, link, both, entry, renamed, near, attribute] = paths(
        &vault,
        ["id", "link", "both", &long, "renamed", "near", "attribute"],
    );
    fs::remove_file(id.join("~id")).expect("removed");
    fs::remove_file(link_of(&link)).expect("removed");
    fs::remove_file(both.join("~id")).expect("removed");
    fs::remove_file(link_of(&both)).expect("removed");
    let sidecar = PathBuf::from(format!("{}.name", entry.display()));
    flip(&sidecar, 20, 1);
    let other = vault.path().join("A".repeat(43));
    fs::rename(&renamed, &other).expect("renamed");
    fs::remove_file(&near).expect("removed");
    symlink("nothing", &near).expect("made");
    for target in fs::read_dir(vault.path().join("~wardfs/targets")).expect("a directory") {
        fs::remove_file(target.expect("an entry").path()).expect("removed");
    }
    let mut names = [0; 256];
    let len = rustix::fs::listxattr(&attribute, &mut names).expect("lists");
    let text = String::from_utf8_lossy(&names[..len]).into_owned();
    let name = text.split('\0').find(|n| n.starts_with("user.wardfs."));
    setxattr(&attribute, name.expect("sealed"), b"?", XattrFlags::empty()).expect("set");

    let checked = check(&vault, &[]);
    assert_eq!(checked.code, Some(27));
    let entry = entry
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let mut expected = vec![
        "damaged directory id both".to_owned(),
        "damaged directory id id".to_owned(),
        "damaged directory id link".to_owned(),
        "damaged extended attribute attribute".to_owned(),
        format!("damaged name file name-lost.{entry}"),
        format!("damaged name name-lost.{}", "A".repeat(43)),
        "damaged symbolic link far".to_owned(),
        "damaged symbolic link near".to_owned(),
    ];
    expected.sort();
    assert_eq!(checked.told(), expected);
    // Content is not bound to names: it was checked all the same.
    assert_eq!(checked.summary["verified_bytes"], 6);
}

#[test]
fn the_header_copies_and_the_superblock_are_verified() {
    for (file, at, what) in [
        ("volume", 60, "volume header"),
        ("volume.bak", 60, "volume header"),
        ("journal/superblock", 20, "superblock"),
        ("journal/superblock", 4096 + 20, "superblock"),
    ] {
        let vault = Vault::new();
        flip(&vault.path().join("~wardfs").join(file), at, 1);
        let checked = check(&vault, &[]);
        assert_eq!(checked.code, Some(27), "{checked:?}");
        assert_eq!(checked.told(), [format!("damaged {what} -")]);
        let stored = format!("~wardfs/{file}");
        assert_eq!(checked.findings[0]["stored"], stored);
    }
}

#[test]
fn what_is_not_of_wardfs_is_named_and_no_damage() {
    let vault = prepared(&[], fill);
    let mount = vault.mount();
    let deep = stored(&mount, "deep");
    mount.umount();
    fs::write(vault.path().join("notes.txt"), "x").expect("written");
    fs::write(deep.join(".nfs0001"), "x").expect("written");
    fs::write(vault.path().join("~wardfs/volume (conflict)"), "x").expect("written");
    let checked = check(&vault, &[]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert_eq!(
        checked.told(),
        [
            "foreign file -",
            "foreign file deep/.nfs0001",
            "foreign file notes.txt"
        ]
    );
}

#[test]
fn leftovers_are_named_and_no_damage() {
    let vault = prepared(&[], fill);
    let meta = vault.path().join("~wardfs");
    fs::write(meta.join("tmp/volume"), "half").expect("written");
    fs::write(meta.join("targets").join("A".repeat(22)), "x").expect("written");
    let orphan = format!("~L{}.name", "A".repeat(43));
    fs::write(vault.path().join(&orphan), "x").expect("written");
    let checked = check(&vault, &[]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert_eq!(
        checked.told(),
        [
            "leftover link target -".to_owned(),
            format!("leftover name file {orphan}"),
            "leftover temporary file -".to_owned(),
        ]
    );
}

#[test]
fn what_the_disk_does_not_hand_out_is_unreadable_and_not_damaged() {
    let scratch = TempDir::new();
    let user = User::new(&scratch);
    let made = prepared(&[], |mount| {
        fs::write(mount.join("secret"), content(1, 5000)).expect("written");
        fs::write(mount.join("free"), "x").expect("written");
    });
    let mount = made.mount();
    let path = stored(&mount, "secret");
    mount.umount();
    let vault = Vault::copy_of(&made.path(), PASSPHRASE);
    for owned in [vault.path(), vault.passphrase_file()] {
        run(Command::new("chown").args(["-R", "65534:65534"]).arg(owned)).ok();
    }
    let path = vault
        .path()
        .join(path.strip_prefix(made.path()).expect("in it"));
    run(Command::new("chown").arg("0:0").arg(&path)).ok();
    run(Command::new("chmod").arg("600").arg(&path)).ok();
    let mut command = user.wardfs();
    command
        .arg("check")
        .arg(vault.path())
        .arg("--passphrase-file");
    let ran = run(command.arg(vault.passphrase_file()));
    assert_eq!(ran.code, Some(28), "{ran:?}");
    assert!(ran.stdout.contains("unreadable: file secret\n"), "{ran:?}");
    assert!(ran.stdout.contains("Permission denied"), "{ran:?}");
}
