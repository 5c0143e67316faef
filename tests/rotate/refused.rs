//! What is refused before anything has changed.

use crate::common::{Vault, run, wardfs};
use crate::lab::{close, keyring, rotate};

#[test]
fn a_mounted_vault_is_refused_with_the_remedy() {
    let vault = Vault::new();
    let mount = vault.mount();
    run(&mut rotate(&vault)).refused(10, &["already mounted at", "unmount it first"]);
    close(mount);
    assert_eq!(keyring(&vault).0, [0]);
}

#[test]
fn a_wrong_passphrase_changes_nothing() {
    let vault = Vault::new();
    let wrong = vault.dir().file("wrong", "wrong");
    let mut command = wardfs();
    command.arg("rotate").arg(vault.path());
    run(command.arg("--passphrase-file").arg(wrong)).refused(6, &[]);
    assert_eq!(keyring(&vault).0, [0]);
}
