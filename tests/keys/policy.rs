//! The policy of a machine is enforced by every verb, with the rule named. Each test has an `/etc` of its own.

use std::fs;
use std::process::Command;

use crate::common::namespace::in_own_namespace;
use crate::common::{CHEAP_KDF, TempDir, Vault, run, wardfs};
use crate::lab::*;

const POLICY: i32 = 19;

/// Runs `body` with `/etc/wardfs` to write into.
fn with_policy(test: &str, body: impl FnOnce()) {
    in_own_namespace(&format!("policy::{test}"), || {
        let scratch = TempDir::new();
        with_etc(&scratch, &[]);
        body();
        run(Command::new("umount").args(["--lazy", "/etc"])).ok();
    });
}

fn init(dir: &TempDir, arguments: &[&str]) -> crate::common::Ran {
    let passphrase = dir.file("pw", "a passphrase");
    let mut command = wardfs();
    command
        .arg("init")
        .arg(dir.join("v"))
        .args(CHEAP_KDF)
        .args(arguments);
    run(command.arg("--passphrase-file").arg(passphrase))
}

#[test]
fn the_cost_of_every_derivation_is_at_least_that_of_the_policy() {
    with_policy(
        "the_cost_of_every_derivation_is_at_least_that_of_the_policy",
        || {
            let vault = Vault::new();
            let dir = TempDir::new();
            etc("policy.toml", "min-kdf-memory = '16M'\n");
            let words = [
                "/etc/wardfs/policy.toml",
                "rule min-kdf-memory",
                "has to take 16 MiB",
            ];
            init(&dir, &[]).refused(POLICY, &words);
            assert!(!dir.join("v").exists());
            run(&mut vault.mount_command()).refused(POLICY, &words);
            let new = vault.dir().file("new", "new one");
            for verb in ["add", "change"] {
                let mut command = key(&vault, verb);
                run(command.args(CHEAP).arg("--new-passphrase-file").arg(&new))
                    .refused(POLICY, &words);
            }
            run(key(&vault, "upgrade").args(CHEAP)).refused(POLICY, &words);
            let info = run(wardfs().arg("info").arg("--json").arg(vault.path()));
            assert_eq!(info.code, Some(POLICY), "{info:?}");
            assert!(info.stdout.contains("rule min-kdf-memory"), "{info:?}");
            run(key(&vault, "upgrade").args(DEARER)).ok();
            vault.mount().umount();
        },
    );
}

#[test]
fn a_slot_that_the_policy_forbids_does_not_get_the_next_volume_key() {
    with_policy(
        "a_slot_that_the_policy_forbids_does_not_get_the_next_volume_key",
        || {
            let vault = Vault::new();
            let (slot, cheap) = add_passphrase(&vault, "cheap");
            run(key(&vault, "upgrade").args(DEARER)).ok();
            etc("policy.toml", "min-kdf-memory = '16M'\n");
            let replace = |keep: &[String]| {
                let mut command = wardfs();
                command.arg("rotate").arg(vault.path()).arg("--volume-key");
                command
                    .arg("--passphrase-file")
                    .arg(vault.passphrase_file());
                run(command.args(keep))
            };
            let header = || std::fs::read(vault.path().join("~wardfs/volume")).expect("readable");
            let before = header();
            let keep = format!("{slot}={}", cheap.display());
            replace(&["--keep".into(), keep])
                .refused(POLICY, &["rule min-kdf-memory", "key slot 1"]);
            assert_eq!(header(), before);
            replace(&["--drop".into(), slot.to_string()]).ok();
            vault.mount().umount();
        },
    );
}

#[test]
fn ciphers_and_kinds_that_are_not_allowed_are_refused() {
    with_policy("ciphers_and_kinds_that_are_not_allowed_are_refused", || {
        let vault = Vault::with(&["--cipher", "xaes-256-gcm"]);
        let dir = TempDir::new();
        etc("policy.toml", "ciphers = ['xchacha20-poly1305']\n");
        init(&dir, &["--cipher", "xaes-256-gcm"]).refused(POLICY, &["rule ciphers"]);
        let said = init(&dir, &[]).ok();
        assert!(said.contains("xchacha20-poly1305"), "{said}");
        run(&mut vault.mount_command()).refused(POLICY, &["rule ciphers"]);
        etc("policy.toml", "kinds = ['passphrase', 'recovery']\n");
        let keyfile = vault.dir().file("keyfile", "bytes");
        let mut add = key(&vault, "add");
        run(add.args(CHEAP).arg("--new-keyfile").arg(&keyfile))
            .refused(POLICY, &["rule kinds", "keyfile"]);
        run(key(&vault, "add").args(["--shares", "2/3"]))
            .refused(POLICY, &["rule kinds", "shares"]);
        run(key(&vault, "add").arg("--recovery")).ok();
        vault.mount().umount();
    });
}

#[test]
fn a_recovery_slot_that_is_required_has_to_be_there_and_stays() {
    with_policy(
        "a_recovery_slot_that_is_required_has_to_be_there_and_stays",
        || {
            let vault = Vault::new();
            etc("policy.toml", "require-recovery = true\n");
            run(&mut vault.mount_command()).refused(POLICY, &["rule require-recovery"]);
            run(key(&vault, "add").arg("--recovery")).ok();
            vault.mount().umount();
            run(key(&vault, "remove").arg("1")).refused(POLICY, &["rule require-recovery"]);
            let mut replace = wardfs();
            replace.args(["rotate", "--volume-key", "--drop", "1"]);
            replace.arg(vault.path()).arg("--passphrase-file");
            run(replace.arg(vault.passphrase_file())).refused(POLICY, &["rule require-recovery"]);
            run(key(&vault, "add").args(["--shares", "2/2"])).ok();
            run(key(&vault, "remove").arg("1")).ok();
        },
    );
}

#[test]
fn secrets_and_epochs_may_be_so_old_and_no_older() {
    with_policy("secrets_and_epochs_may_be_so_old_and_no_older", || {
        // Made in 2026, by the clock of the frozen volumes.
        let scratch = TempDir::new();
        let archive = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/frozen/v1-xaes-256-gcm.tar.gz"
        );
        run(Command::new("tar")
            .args(["-xzpf", archive, "-C"])
            .arg(scratch.path()))
        .ok();
        let vault = Vault::copy_of(&scratch.join("vault"), "frozen");
        let age = vault.info()["slots"][0]["age_days"]
            .as_i64()
            .expect("a number");
        // It may become a day older while this runs.
        let next = age + 1;
        etc(
            "policy.toml",
            &format!("max-slot-age = {next}\nmax-epoch-age = {next}\n"),
        );
        vault.mount().umount();
        if age == 0 {
            return;
        }
        etc("policy.toml", &format!("max-slot-age = {}\n", age - 1));
        run(&mut vault.mount_command())
            .refused(POLICY, &["rule max-slot-age", "days old and may be"]);
        etc("policy.toml", &format!("max-epoch-age = {}\n", age - 1));
        run(&mut vault.mount_command()).refused(POLICY, &["rule max-epoch-age"]);
        etc("policy.toml", &format!("max-slot-age = {}\n", age - 1));
        let new = vault.dir().file("new", "new one");
        run(key(&vault, "change")
            .args(CHEAP)
            .arg("--new-passphrase-file")
            .arg(&new))
        .ok();
        let mut mount = wardfs();
        mount.arg("mount").arg(vault.path()).arg(vault.mountpoint());
        run(mount.arg("--passphrase-file").arg(&new)).ok();
        crate::common::Mount::adopt(&vault, vault.mountpoint()).umount();
    });
}

#[test]
fn a_policy_that_cannot_be_believed_or_understood_allows_nothing() {
    with_policy(
        "a_policy_that_cannot_be_believed_or_understood_allows_nothing",
        || {
            let vault = Vault::new();
            let dir = TempDir::new();
            etc("policy.toml", "min-kdf-mem = '16M'\n");
            run(&mut vault.mount_command())
                .refused(POLICY, &["policy.toml is not understood", "min-kdf-mem"]);
            init(&dir, &[]).refused(POLICY, &["not understood"]);
            etc("policy.toml", "");
            vault.mount().umount();
            run(Command::new("chmod").args(["o+w", "/etc/wardfs/policy.toml"])).ok();
            run(&mut vault.mount_command()).refused(POLICY, &["is not believed"]);
            run(Command::new("chmod").args(["o-w", "/etc/wardfs/policy.toml"])).ok();
            run(Command::new("chown").args(["nobody", "/etc/wardfs/policy.toml"])).ok();
            run(&mut key(&vault, "test")).refused(POLICY, &["is not believed"]);
            fs::remove_file("/etc/wardfs/policy.toml").expect("there");
            vault.mount().umount();
        },
    );
}
