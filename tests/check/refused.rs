//! What cannot be checked at all.

use std::fs;

use crate::common::{TempDir, Vault, run, wardfs};
use crate::lab::*;
use crate::report::plain;

#[test]
fn a_wrong_passphrase_and_what_is_no_vault_are_told_as_by_other_verbs() {
    let vault = Vault::new();
    let wrong = vault.dir().file("wrong", "something else");
    let mut command = wardfs();
    command
        .arg("check")
        .arg(vault.path())
        .arg("--passphrase-file");
    run(command.arg(wrong)).refused(6, &["wrong passphrase"]);
    let dir = TempDir::new();
    run(wardfs().arg("check").arg(dir.path())).refused(3, &["is not a wardfs vault"]);
    run(wardfs().arg("check").arg(dir.join("none"))).refused(3, &["does not exist"]);
}

#[test]
fn a_vault_without_a_whole_header_cannot_be_checked() {
    let vault = Vault::new();
    for copy in ["volume", "volume.bak"] {
        flip(&vault.path().join("~wardfs").join(copy), 50, 1);
    }
    plain(&vault, &[]).refused(5, &["both copies", "backup"]);
}

#[test]
fn repair_and_salvage_are_not_done_together() {
    let vault = Vault::new();
    let out = vault.dir().join("out");
    let arguments = ["--repair", "--salvage", out.to_str().expect("UTF-8")];
    plain(&vault, &arguments).refused(2, &["cannot be used with"]);
    assert!(fs::symlink_metadata(out).is_err());
}
