//! What users and disks do wrong: each gets a sentence and an exit code, and costs nothing that was stored.

use std::path::Path;

use wardfs::cli::exit::Exit;

use crate::common::{Vault, is_mounted, run, wardfs};
use crate::support::{noise, read, write};

fn code(exit: Exit) -> i32 {
    i32::from(exit.number())
}

fn filled() -> Vault {
    let vault = Vault::new();
    let mount = vault.mount();
    write(mount.join("kept"), noise(5, 100_000));
    mount.umount();
    vault
}

#[track_caller]
fn assert_intact(vault: &Vault) {
    let mount = vault.mount();
    assert_eq!(read(mount.join("kept")), noise(5, 100_000));
    mount.umount();
}

fn flip(path: &Path, at: usize, bit: u8) {
    let mut bytes = read(path);
    bytes[at] ^= 1 << bit;
    write(path, bytes);
}

#[test]
fn a_wrong_passphrase_is_refused_and_changes_nothing() {
    let vault = filled();
    let header = read(vault.path().join("~wardfs/volume"));
    for wrong in [
        "correct horse battery stapl",
        "correct horse battery staple ",
        "Correct horse battery staple",
        "x",
    ] {
        let wrong = vault.dir().file("wrong", wrong);
        let mut mount = wardfs();
        mount
            .arg("mount")
            .arg(vault.path())
            .arg(vault.mountpoint())
            .arg("--passphrase-file")
            .arg(wrong);
        run(&mut mount).refused(code(Exit::WrongSecret), &["wrong passphrase"]);
        assert!(!is_mounted(&vault.mountpoint()));
    }
    assert_eq!(read(vault.path().join("~wardfs/volume")), header);
    assert_intact(&vault);
}

#[test]
fn an_empty_passphrase_file_is_no_passphrase() {
    let vault = filled();
    let empty = vault.dir().file("empty", "");
    let mut mount = wardfs();
    mount
        .arg("mount")
        .arg(vault.path())
        .arg(vault.mountpoint())
        .arg("--passphrase-file")
        .arg(empty);
    run(&mut mount).refused(code(Exit::NoSecret), &[]);
    assert!(!is_mounted(&vault.mountpoint()));
}

#[test]
fn a_flipped_bit_in_one_header_is_mended_by_the_other_with_a_warning() {
    let vault = filled();
    let volume = vault.path().join("~wardfs/volume");
    let len = read(&volume).len();
    for (at, bit) in [(0, 0), (9, 3), (len / 2, 7), (len - 1, 1)] {
        let whole = read(&volume);
        flip(&volume, at, bit);
        let ran = run(&mut vault.mount_command());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.contains("header"), "no warning: {ran:?}");
        let mount = crate::common::Mount::adopt(&vault, vault.mountpoint());
        assert_eq!(read(mount.join("kept")), noise(5, 100_000));
        mount.umount();
        write(&volume, whole);
    }
    assert_intact(&vault);
}

#[test]
fn a_flipped_bit_in_both_headers_is_refused_and_the_header_can_be_restored() {
    let vault = filled();
    let [volume, backup] =
        ["volume", "volume.bak"].map(|name| vault.path().join("~wardfs").join(name));
    let whole = [read(&volume), read(&backup)];
    let len = whole[0].len().min(whole[1].len());
    for at in (0..len).step_by(len / 24) {
        flip(&volume, at, 4);
        flip(&backup, at, 4);
        let ran = run(&mut vault.mount_command());
        let expected =
            [Exit::HeaderDamaged, Exit::Unsupported, Exit::NotAVault].map(|exit| Some(code(exit)));
        assert!(expected.contains(&ran.code), "byte {at}: {ran:?}");
        assert!(
            ran.stderr.contains("header") || ran.stderr.contains("version"),
            "byte {at}: {ran:?}"
        );
        assert!(!is_mounted(&vault.mountpoint()));
        write(&volume, &whole[0]);
        write(&backup, &whole[1]);
    }
    assert_intact(&vault);
}

#[test]
fn a_missing_header_is_replaced_by_its_copy() {
    let vault = filled();
    std::fs::remove_file(vault.path().join("~wardfs/volume")).expect("it is there");
    assert_intact(&vault);
}

#[test]
fn a_directory_that_is_no_vault_is_refused() {
    let vault = filled();
    let plain = vault.dir().dir("plain");
    write(plain.join("file"), "x");
    for place in [plain, vault.dir().join("missing")] {
        let mut mount = wardfs();
        mount
            .arg("mount")
            .arg(place)
            .arg(vault.mountpoint())
            .arg("--passphrase-file")
            .arg(vault.passphrase_file());
        run(&mut mount).refused(code(Exit::NotAVault), &["wardfs init"]);
    }
}
