//! Slots are added, listed, changed and removed, also while the vault is mounted.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::terminal::Terminal;
use crate::common::{Mount, PASSPHRASE, Vault, run, wardfs};
use crate::lab::*;

#[test]
fn every_slot_opens_the_vault_and_a_removed_one_does_not() {
    let vault = Vault::new();
    let (second, file) = add_passphrase(&vault, "another one");
    let option = ["--passphrase-file".as_ref(), file.as_os_str()];
    opens(&vault, second, &option);
    opens(
        &vault,
        0,
        &[
            "--passphrase-file".as_ref(),
            vault.passphrase_file().as_os_str(),
        ],
    );
    let said = run(key(&vault, "remove").arg(second.to_string())).ok();
    assert!(said.contains("Removed key slot 1"), "{said}");
    test(&vault, &option).refused(6, &["wrong passphrase"]);
    let (third, _) = add_passphrase(&vault, "a third one");
    assert_eq!(third, 2, "a number is never used again");
    run(key(&vault, "remove").arg("1")).refused(21, &["there is no key slot 1", "key list"]);
}

#[test]
fn adding_asks_for_a_secret_of_the_vault() {
    let vault = Vault::new();
    let file = vault.dir().file("new", "new one");
    let wrong = vault.dir().file("wrong", "wrong");
    let mut command = bare(&vault, ["key", "add"]);
    command.arg("--new-passphrase-file").arg(&file).args(CHEAP);
    run(command.arg("--passphrase-file").arg(wrong)).refused(6, &["wrong passphrase"]);
    assert_eq!(list(&vault)["slots"].as_array().expect("a list").len(), 1);
}

#[test]
fn a_list_shows_everything_about_a_slot() {
    let vault = Vault::new();
    let file = vault.dir().file("new", "new one");
    let expires = in_days(400);
    add(
        &vault,
        &[
            "--new-passphrase-file",
            file.to_str().expect("UTF-8"),
            "--label",
            "laptop",
            "--owner",
            "A. Keeper",
            "--expires",
            &expires,
        ],
    );
    let slot = list(&vault)["slots"][1].clone();
    assert_eq!(slot["id"], 1);
    assert_eq!(slot["kind"], "passphrase");
    assert_eq!(slot["label"], "laptop");
    assert_eq!(slot["owner"], "A. Keeper");
    assert_eq!(slot["expires"], format!("{expires}T23:59:59Z"));
    assert_eq!(slot["age_days"], 0);
    assert_eq!(slot["kdf"]["memory_kib"], 8192);
    assert_eq!(slot["last_used"], serde_json::Value::Null);
    let text = run(&mut bare(&vault, ["key", "list"])).ok();
    for words in [
        "key slot 1",
        "laptop",
        "A. Keeper",
        "8 MiB, 1 pass",
        "0 days old",
        &expires,
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    let relabel = ["1", "--label", "desk", "--expires", "never"];
    run(key(&vault, "label").args(relabel)).ok();
    let slot = list(&vault)["slots"][1].clone();
    assert_eq!(slot["label"], "desk");
    assert_eq!(slot["owner"], "A. Keeper");
    assert_eq!(slot["expires"], serde_json::Value::Null);
    opens(&vault, 1, &["--passphrase-file".as_ref(), file.as_os_str()]);
    run(key(&vault, "label").arg("1")).refused(2, &["--label, --owner or --expires"]);
    run(key(&vault, "label").args(["1", "--label", &"x".repeat(256)])).refused(2, &["255 bytes"]);
}

#[test]
fn the_last_slot_for_people_is_kept_without_force() {
    let vault = Vault::new();
    run(key(&vault, "remove").arg("0"))
        .refused(22, &["key slot 0 is the last one", "wardfs erase"]);
    run(key(&vault, "remove").args(["0", "--force"])).refused(22, &["wardfs erase"]);
    add(&vault, &["--new-key-command", "/bin/echo secret"]);
    run(key(&vault, "remove").arg("0")).refused(22, &["the last one that a person can open"]);
    run(key(&vault, "remove").args(["0", "--force"])).ok();
    opens(&vault, 1, &["--key-command", "/bin/echo secret"]);
}

#[test]
fn all_of_it_works_while_the_vault_is_mounted() {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::write(mount.join("file"), "content").expect("written");
    let (id, file) = add_passphrase(&vault, "made while mounted");
    run(key(&vault, "label").args(["0", "--label", "old"])).ok();
    let mut remove = bare(&vault, ["key", "remove"]);
    remove.arg("0").arg("--passphrase-file").arg(&file);
    run(&mut remove).ok();
    assert_eq!(
        fs::read_to_string(mount.join("file")).expect("readable"),
        "content"
    );
    mount.umount();
    run(&mut vault.mount_command()).refused(6, &[]);
    let mut again = wardfs();
    again.arg("mount").arg(vault.path()).arg(vault.mountpoint());
    again.arg("--passphrase-file").arg(&file);
    run(again.args(["--slot", &id.to_string()])).ok();
    let mount = Mount::adopt(&vault, vault.mountpoint());
    assert_eq!(
        fs::read_to_string(mount.join("file")).expect("readable"),
        "content"
    );
    mount.umount();
}

#[test]
fn secrets_are_changed_and_the_header_is_looked_after_while_the_vault_is_mounted() {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::write(mount.join("file"), "content").expect("written");
    let secret = |name: &str| vault.dir().file(name, name);
    let unlocked_by = |mut command: Command, secret: &Path| {
        command.arg("--passphrase-file").arg(secret);
        command
    };
    let (second, third) = (secret("second"), secret("third"));
    run(key(&vault, "change")
        .args(CHEAP)
        .arg("--new-passphrase-file")
        .arg(&second))
    .ok();
    let mut passwd = wardfs();
    passwd.arg("passwd").arg(vault.path()).args(CHEAP);
    passwd.arg("--new-passphrase-file").arg(&third);
    run(&mut unlocked_by(passwd, &second)).ok();
    let mut upgrade = unlocked_by(bare(&vault, ["key", "upgrade"]), &third);
    run(upgrade.args(DEARER)).ok();
    assert_eq!(list(&vault)["slots"][0]["kdf"]["memory_kib"], 16384);
    opens(
        &vault,
        0,
        &["--passphrase-file".as_ref(), third.as_os_str()],
    );
    let backup = vault.dir().join("header");
    run(bare(&vault, ["header", "backup"]).arg(&backup)).ok();
    run(&mut unlocked_by(bare(&vault, ["header", "verify"]), &third)).ok();
    let content = || fs::read_to_string(mount.join("file")).expect("readable");
    assert_eq!(content(), "content");
    fs::write(mount.join("file"), "more").expect("the mount goes on");
    assert_eq!(content(), "more");
    mount.umount();
    for old in [vault.passphrase_file(), second] {
        run(&mut unlocked_by(bare(&vault, ["key", "test"]), &old)).refused(6, &[]);
    }
    let mut again = wardfs();
    again.arg("mount").arg(vault.path()).arg(vault.mountpoint());
    run(&mut unlocked_by(again, &third)).ok();
    Mount::adopt(&vault, vault.mountpoint()).umount();
}

#[test]
fn the_slot_that_is_named_is_the_only_one_tried() {
    let vault = Vault::new();
    let (id, file) = add_passphrase(&vault, "another one");
    let named = |slot: &str| {
        test(
            &vault,
            &[
                "--slot".as_ref(),
                slot.as_ref(),
                "--passphrase-file".as_ref(),
                file.as_os_str(),
            ],
        )
    };
    assert!(
        named("1")
            .ok()
            .starts_with(&format!("Opens key slot {id} "))
    );
    named("0").refused(6, &["wrong passphrase"]);
    named("7").refused(21, &["there is no key slot 7"]);
}

#[test]
fn one_question_is_for_all_passphrase_slots() {
    let vault = Vault::new();
    add_passphrase(&vault, "another one");
    for (passphrase, slot) in [(PASSPHRASE, 0), ("another one", 1)] {
        let mut terminal = Terminal::start(&bare(&vault, ["key", "test"]));
        terminal.expect("Passphrase for ");
        terminal.type_line(passphrase);
        terminal.expect(&format!("Opens key slot {slot} "));
        assert_eq!(terminal.finish().0.code(), Some(0));
    }
}

#[test]
fn an_expired_slot_is_warned_about_and_refused_where_that_is_wanted() {
    let vault = Vault::new();
    add_passphrase(&vault, "another one");
    let expiry = |days: i32| {
        run(key(&vault, "label").args(["0", "--expires", &in_days(days)])).ok();
        run(&mut key(&vault, "test"))
    };
    let ran = expiry(60);
    assert!(ran.stderr.is_empty() && ran.code == Some(0), "{ran:?}");
    let ran = expiry(10);
    assert!(
        ran.stderr.contains("expires on") && ran.code == Some(0),
        "{ran:?}"
    );
    vault.mount_with(&["--enforce-expiry"]).umount();
    let ran = expiry(-2);
    assert!(
        ran.stderr.contains("has expired on") && ran.code == Some(0),
        "{ran:?}"
    );
    vault.mount().umount();
    run(vault.mount_command().arg("--enforce-expiry")).refused(20, &["key slot 0 has expired"]);
    assert_eq!(vault.info()["mounted"], serde_json::Value::Null);
}

#[test]
fn when_a_slot_was_used_is_noted_but_never_needed() {
    let vault = Vault::new();
    let note = vault.path().join("~wardfs/used");
    vault.mount_with(&["-o", "ro"]).umount();
    assert!(!note.exists(), "a read-only mount changes nothing");
    vault.mount().umount();
    assert!(list(&vault)["slots"][0]["last_used"].is_string());
    for garbage in [
        "",
        "nonsense",
        "0 99999999999999999999999\n",
        &"0 1\n".repeat(2000),
    ] {
        fs::write(&note, garbage).expect("written");
        assert_eq!(
            list(&vault)["slots"][0]["last_used"],
            serde_json::Value::Null
        );
        run(&mut key(&vault, "test")).ok();
        assert!(list(&vault)["slots"][0]["last_used"].is_string());
    }
    fs::remove_file(&note).expect("there");
    fs::create_dir(&note).expect("made");
    run(&mut key(&vault, "test")).ok();
}

#[test]
fn the_cost_of_a_derivation_is_changed_without_the_secret() {
    let vault = Vault::new();
    let before = list(&vault)["slots"][0].clone();
    let cost = [
        "--kdf-memory",
        "16M",
        "--kdf-time",
        "2",
        "--kdf-parallel",
        "1",
    ];
    run(key(&vault, "upgrade").args(cost)).refused(2, &["--force"]);
    let said = run(key(&vault, "upgrade").args(cost).arg("--force")).ok();
    assert!(said.contains("16 MiB, 2 passes"), "{said}");
    let after = list(&vault)["slots"][0].clone();
    assert_eq!(after["kdf"]["memory_kib"], 16384);
    assert_eq!(after["created"], before["created"]);
    vault.mount().umount();
}

#[test]
fn a_secret_is_changed_as_passwd_changes_it() {
    let vault = Vault::new();
    let keyfile = vault.dir().file("keyfile", [7; 100]);
    let said = run(key(&vault, "change")
        .args(CHEAP)
        .arg("--new-keyfile")
        .arg(&keyfile))
    .ok();
    assert!(
        said.contains("Changed key slot 0") && said.contains("keyfile"),
        "{said}"
    );
    opens(&vault, 0, &["--keyfile".as_ref(), keyfile.as_os_str()]);
    run(&mut key(&vault, "test")).refused(7, &["needs its key file"]);
}

#[test]
fn slots_that_are_added_at_the_same_time_are_all_there() {
    let vault = Vault::new();
    let files =
        ["a", "b", "c", "d"].map(|name| vault.dir().file(name, format!("passphrase {name}")));
    let children = files.each_ref().map(|file| {
        let mut command = key(&vault, "add");
        command.args(CHEAP).arg("--new-passphrase-file").arg(file);
        command
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it starts")
    });
    for mut child in children {
        assert!(child.wait().expect("ours").success());
    }
    let slots = list(&vault)["slots"].as_array().expect("a list").clone();
    let mut ids: Vec<_> = slots.iter().map(|slot| slot["id"].as_u64()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2, 3, 4].map(Some));
    for file in &files {
        test(&vault, &["--passphrase-file".as_ref(), file.as_os_str()]).ok();
    }
    vault.mount().umount();
}

#[test]
fn info_tells_how_old_everything_is() {
    let vault = Vault::new();
    let info = vault.info();
    assert_eq!(info["epoch_created"], info["created"]);
    assert_eq!(info["epoch_age_days"], 0);
    assert_eq!(info["slots"][0]["age_days"], 0);
    assert_eq!(info["broken_rules"], serde_json::json!([]));
    let text = run(wardfs().arg("info").arg(vault.path())).ok();
    assert!(
        text.contains("epoch") && text.contains("(0 days old)"),
        "{text}"
    );
}
