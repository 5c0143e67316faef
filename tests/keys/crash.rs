//! A process that dies while it writes the header leaves the old one or the new one.

use std::process::Command;

use crate::common::{Vault, run};
use crate::lab::*;

/// Every system call by which the header is changed, at which the process is killed: before it takes effect.
#[test]
fn the_vault_opens_wherever_the_change_of_its_header_is_cut() {
    let vault = Vault::new();
    let new = vault.dir().file("new", "new one");
    let trace = vault.dir().join("trace");
    let whole = Vault::copy_of(&vault.path(), crate::common::PASSPHRASE);
    let change = |vault: &Vault, inject: Option<String>| {
        let mut command = Command::new("strace");
        command.args([
            "--quiet=all",
            "--trace=openat,pwrite64,fsync,renameat,renameat2,unlinkat,linkat",
        ]);
        command.arg("--output").arg(&trace);
        command.args(inject.map(|at| format!("--inject={at}")));
        let change = key(vault, "change");
        command
            .arg("--")
            .arg(change.get_program())
            .args(change.get_args());
        command.args(CHEAP).arg("--new-passphrase-file").arg(&new);
        run(&mut command)
    };
    change(&whole, None).ok();
    let calls = std::fs::read_to_string(&trace).expect("strace wrote it");
    let mut cut = 0;
    for call in ["pwrite64", "fsync", "renameat", "renameat2", "unlinkat"] {
        let times = calls
            .lines()
            .filter(|l| l.starts_with(&format!("{call}(")))
            .count();
        for when in 1..=times {
            let victim = Vault::copy_of(&vault.path(), crate::common::PASSPHRASE);
            let ran = change(
                &victim,
                Some(format!("{call}:signal=KILL:error=EIO:when={when}")),
            );
            assert_ne!(ran.code, Some(0), "{call} {when}: {ran:?}");
            let old = run(&mut key(&victim, "test"));
            let mut with_new = bare(&victim, ["key", "test"]);
            let with_new = run(with_new.arg("--passphrase-file").arg(&new));
            let opened = [old.code, with_new.code];
            assert!(
                opened == [Some(0), Some(6)] || opened == [Some(6), Some(0)],
                "{call} {when}: {old:?} {with_new:?}"
            );
            let verify = bare(&victim, ["header", "verify"]);
            let secret = if old.code == Some(0) {
                &vault.passphrase_file()
            } else {
                &new
            };
            let mut verify = verify;
            run(verify.arg("--passphrase-file").arg(secret)).ok();
            run(bare(&victim, ["header", "verify"]).arg("--checksum-only")).ok();
            cut += 1;
        }
    }
    assert!(cut >= 8, "{cut}: {calls}");
}
