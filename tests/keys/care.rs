//! The header is backed up, verified, put back and destroyed.

use std::fs;
use std::path::PathBuf;

use crate::common::terminal::Terminal;
use crate::common::{Vault, run, wardfs};
use crate::lab::*;

fn copies(vault: &Vault) -> [PathBuf; 2] {
    ["volume", "volume.bak"].map(|name| vault.path().join("~wardfs").join(name))
}

fn backup(vault: &Vault, name: &str) -> PathBuf {
    let file = vault.dir().join(name);
    run(bare(vault, ["header", "backup"]).arg(&file)).ok();
    file
}

fn restore(vault: &Vault, file: &PathBuf) -> std::process::Command {
    let mut command = bare(vault, ["header", "restore"]);
    command
        .arg(file)
        .arg("--passphrase-file")
        .arg(vault.passphrase_file());
    command
}

fn with_file(vault: &Vault) {
    let mount = vault.mount();
    fs::write(mount.join("file"), "content").expect("written");
    mount.umount();
}

#[track_caller]
fn assert_serves(vault: &Vault) {
    let mount = vault.mount();
    assert_eq!(
        fs::read_to_string(mount.join("file")).expect("readable"),
        "content"
    );
    mount.umount();
}

#[test]
fn a_backup_brings_a_lost_header_back() {
    let vault = Vault::new();
    with_file(&vault);
    let file = backup(&vault, "header");
    run(bare(&vault, ["header", "backup"]).arg(&file)).refused(1, &["cannot write"]);
    for copy in copies(&vault) {
        fs::write(copy, "damaged").expect("written");
    }
    run(&mut vault.mount_command()).refused(5, &[]);
    let said = run(restore(&vault, &file).arg("--yes")).ok();
    assert!(
        said.contains("Both copies in the vault are damaged"),
        "{said}"
    );
    assert_eq!(
        fs::read(vault.dir().join("header.replaced")).expect("kept"),
        b"damaged"
    );
    assert_serves(&vault);
    for copy in copies(&vault) {
        fs::remove_file(copy).expect("there");
    }
    run(restore(&vault, &file).arg("--yes")).ok();
    assert_serves(&vault);
}

#[test]
fn what_a_restored_header_changes_is_shown_and_the_replaced_one_is_kept() {
    let vault = Vault::new();
    let (gone, gone_file) = add_passphrase(&vault, "goes");
    let file = backup(&vault, "header");
    run(key(&vault, "remove").arg(gone.to_string())).ok();
    let (new, new_file) = add_passphrase(&vault, "comes");
    let ran = run(&mut restore(&vault, &file));
    assert!(
        ran.code == Some(24) && ran.stderr.contains("Scripts say --yes"),
        "{ran:?}"
    );
    let said = run(restore(&vault, &file).arg("--yes")).ok();
    for words in [
        "key slot 1 (passphrase) opens the vault again".to_owned(),
        format!("key slot {new} (passphrase) opens the vault no more"),
        "header.replaced".to_owned(),
    ] {
        assert!(said.contains(&words), "{words} in {said}");
    }
    opens(
        &vault,
        gone,
        &["--passphrase-file".as_ref(), gone_file.as_os_str()],
    );
    let option = ["--passphrase-file".as_ref(), new_file.as_os_str()];
    test(&vault, &option).refused(6, &[]);
    let kept = vault.dir().join("header.replaced");
    let mut back = bare(&vault, ["header", "restore"]);
    run(back.arg(&kept).arg("--yes").args(option)).ok();
    opens(&vault, new, &option);
}

#[test]
fn a_header_of_another_vault_is_refused() {
    let (ours, theirs) = (Vault::new(), Vault::new());
    with_file(&ours);
    let file = backup(&theirs, "header");
    run(restore(&ours, &file).arg("--yes")).refused(23, &["is the header of another vault"]);
    // Also where nothing is left to compare it with but the tree.
    for copy in copies(&ours) {
        fs::remove_file(copy).expect("there");
    }
    run(restore(&ours, &file).arg("--yes")).refused(23, &["is the header of another vault"]);
    let nothing = ours.dir().file("nothing", "nothing");
    run(restore(&ours, &nothing).arg("--yes")).refused(5, &["holds no whole header"]);
}

#[test]
fn a_header_that_somebody_changed_is_not_restored() {
    let vault = Vault::new();
    let file = backup(&vault, "header");
    let mut bytes = fs::read(&file).expect("there");
    let length = bytes.len() - 32;
    bytes[length - 1] ^= 1;
    let checksum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes[..length]);
    bytes[length..].copy_from_slice(checksum.as_ref());
    fs::write(&file, bytes).expect("written");
    run(restore(&vault, &file).arg("--yes")).refused(16, &[]);
    let wrong = vault.dir().file("wrong", "wrong");
    let whole = backup(&vault, "whole");
    let mut command = bare(&vault, ["header", "restore"]);
    run(command
        .arg(whole)
        .arg("--yes")
        .arg("--passphrase-file")
        .arg(wrong))
    .refused(6, &[]);
}

#[test]
fn verifying_heals_the_damaged_copy_and_says_so() {
    let vault = Vault::new();
    let whole = fs::read(&copies(&vault)[0]).expect("there");
    for copy in copies(&vault) {
        let said = run(bare(&vault, ["header", "verify"]).arg("--checksum-only")).ok();
        assert!(said.contains("are whole (not authenticated)"), "{said}");
        fs::write(&copy, "damaged").expect("written");
        let mut verify = bare(&vault, ["header", "verify"]);
        run(verify.arg("--checksum-only")).refused(5, &["1 of 2 copies are damaged"]);
        let mut verify = bare(&vault, ["header", "verify"]);
        let ran = run(verify.arg("--passphrase-file").arg(vault.passphrase_file()));
        assert!(ran.stderr.contains("is damaged"), "{ran:?}");
        assert!(ran.ok().contains("whole and authentic again"));
        assert_eq!(fs::read(&copy).expect("healed"), whole);
    }
}

#[test]
fn an_erased_vault_opens_for_nobody() {
    let vault = Vault::with(&["--label", "CT 2"]);
    let mut erase = wardfs();
    erase.arg("erase").arg(vault.path());
    run(&mut erase).refused(24, &[]);
    run(erase.args(["--yes-destroy", "CT 3"])).refused(24, &["left as it is"]);
    let mount = vault.mount();
    let erase = || {
        let mut erase = wardfs();
        erase
            .arg("erase")
            .arg(vault.path())
            .args(["--yes-destroy", "CT 2"]);
        run(&mut erase)
    };
    erase().refused(10, &["already mounted"]);
    mount.umount();
    let said = erase().ok();
    assert!(said.contains("backups") && said.contains("SSD"), "{said}");
    assert!(copies(&vault).iter().all(|copy| !copy.exists()));
    run(&mut vault.mount_command()).refused(3, &[]);
    erase().refused(3, &["destroyed already"]);
}

#[test]
fn the_label_has_to_be_typed() {
    let vault = Vault::with(&["--label", "CT 2"]);
    let mut erase = wardfs();
    erase.arg("erase").arg(vault.path());
    let mut terminal = Terminal::start(&erase);
    terminal.expect("for everybody and for ever");
    terminal.expect("(CT 2): ");
    terminal.type_line("yes");
    assert_eq!(terminal.finish().0.code(), Some(24));
    assert_eq!(vault.info()["label"], "CT 2");
    let mut terminal = Terminal::start(&erase);
    terminal.expect("(CT 2): ");
    terminal.type_line("CT 2");
    terminal.expect("Destroyed the keys");
    assert_eq!(terminal.finish().0.code(), Some(0));
}

#[test]
fn a_vault_without_a_label_or_a_whole_header_goes_by_the_name_of_its_directory() {
    for damage in [false, true] {
        let vault = Vault::new();
        if damage {
            for copy in copies(&vault) {
                fs::write(copy, "damaged").expect("written");
            }
        }
        let mut erase = wardfs();
        erase.arg("erase").arg(vault.path());
        run(erase.args(["--yes-destroy", "vault"])).ok();
    }
}

/// Somebody has put links into the vault that lead to files outside.
#[test]
fn erasing_destroys_nothing_outside_the_vault() {
    use std::os::unix::fs::symlink;
    let vault = Vault::new();
    let outside = vault.dir().dir("outside");
    let precious = ["a", "b", "c"].map(|name| outside.join(name));
    for file in &precious {
        fs::write(file, "precious").expect("written");
    }
    let meta = vault.path().join("~wardfs");
    symlink(&precious[0], meta.join("tmp/link")).expect("made");
    fs::hard_link(&precious[1], meta.join("tmp/hard")).expect("made");
    let erase = |vault: &Vault| {
        let mut erase = wardfs();
        erase.arg("erase").arg(vault.path());
        run(erase.args(["--yes-destroy", "vault"])).ok()
    };
    erase(&vault);
    assert!(copies(&vault).iter().all(|copy| !copy.exists()));
    let other = Vault::new();
    let tmp = other.path().join("~wardfs/tmp");
    fs::remove_dir(&tmp).expect("empty");
    symlink(&outside, &tmp).expect("made");
    run(&mut key(&other, "test")).ok();
    erase(&other);
    for file in &precious {
        assert_eq!(fs::read_to_string(file).expect("there"), "precious");
    }
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 3);
}
