//! What is refused before anything has changed.

use std::fs;

use crate::common::{Vault, run, wardfs};
use crate::lab::{close, keyring, rotate};

#[test]
fn a_vault_that_is_mounted_without_its_journal_is_refused_with_the_remedy() {
    let vault = Vault::new();
    let mount = vault.mount_with(&["--journal", "off"]);
    run(&mut rotate(&vault)).refused(10, &["without a journal", "Mount it with its journal"]);
    close(mount);
    assert_eq!(keyring(&vault).0, [0]);
    let without = Vault::with(&["--journal", "off"]);
    let mount = without.mount();
    run(rotate(&without).arg("--force")).refused(10, &["without a journal"]);
    close(mount);
    assert_eq!(keyring(&without).0, [0]);
}

#[test]
fn a_vault_that_is_mounted_read_only_or_as_a_copy_is_refused_with_the_remedy() {
    let vault = Vault::new();
    let mount = vault.mount_with(&["-o", "ro"]);
    run(&mut rotate(&vault)).refused(10, &["already mounted at", "unmount it first"]);
    close(mount);
    let mount = vault.mount_with(&["--copy"]);
    run(&mut rotate(&vault)).refused(10, &["as a copy", "without --copy"]);
    close(mount);
    assert_eq!(keyring(&vault).0, [0]);
}

#[test]
fn nothing_is_paused_where_no_rotation_is_under_way() {
    let vault = Vault::new();
    run(rotate(&vault).arg("--pause")).refused(1, &["no rotation is under way"]);
    let mount = vault.mount();
    run(rotate(&vault).arg("--pause")).refused(1, &["no rotation is under way"]);
    fs::write(mount.join("file"), b"content").expect("written");
    close(mount);
    assert_eq!(keyring(&vault).0, [0]);
}

#[test]
fn a_wrong_passphrase_changes_nothing() {
    let vault = Vault::new();
    let refused = || {
        let wrong = vault.dir().file("wrong", "wrong");
        let mut command = wardfs();
        command.arg("rotate").arg(vault.path());
        run(command.arg("--passphrase-file").arg(wrong)).refused(6, &[]);
        assert_eq!(keyring(&vault).0, [0]);
    };
    refused();
    let mount = vault.mount();
    refused();
    close(mount);
}
