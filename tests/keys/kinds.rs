//! Every kind of secret makes a slot and opens it.

use std::fs;
use std::path::Path;
use std::process::Command;

use wardfs::format::slot::{Slot, SlotKind};
use wardfs::format::volume::VolumeHeader;

use crate::common::namespace::in_own_namespace;
use crate::common::{Mount, TempDir, Vault, run};
use crate::lab::*;

#[test]
fn several_key_files_are_needed_together_in_any_order() {
    let vault = Vault::new();
    let files = ["a", "b", "c"].map(|name| vault.dir().file(name, format!("key file {name}")));
    let options = |option: &str, order: &[usize]| -> Vec<String> {
        let path = |i: &usize| files[*i].display().to_string();
        order
            .iter()
            .flat_map(|i| [option.to_owned(), path(i)])
            .collect()
    };
    let id = add(&vault, &options("--new-keyfile", &[0, 1, 2]));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        opens(&vault, id, &options("--keyfile", &order));
    }
    for order in [&[0][..], &[0, 1]] {
        test(&vault, &options("--keyfile", order)).refused(6, &[]);
    }
    test(&vault, &options("--keyfile", &[0, 0, 1])).refused(7, &["the same bytes"]);
}

#[test]
fn a_passphrase_and_key_files_are_needed_together() {
    let vault = Vault::new();
    let files = ["a", "b"].map(|name| vault.dir().file(name, name).display().to_string());
    let passphrase = vault.dir().file("new", "new one").display().to_string();
    let new = [
        "--new-keyfile",
        &files[0],
        "--new-keyfile",
        &files[1],
        "--new-passphrase-file",
        &passphrase,
    ];
    let id = add(&vault, &new);
    let both = [
        "--keyfile",
        &files[1],
        "--keyfile",
        &files[0],
        "--passphrase-file",
        &passphrase,
    ];
    opens(&vault, id, &both);
    test(&vault, &both[2..]).refused(6, &[]);
    test(&vault, &["--passphrase-file", &passphrase]).refused(6, &[]);
}

#[test]
fn a_credential_opens_without_a_question() {
    let vault = Vault::new();
    let credentials = vault.dir().dir("credentials");
    fs::write(credentials.join("scans.key"), [9; 50]).expect("written");
    let here = |command: &mut Command| run(command.env("CREDENTIALS_DIRECTORY", &credentials));
    let mut new = key(&vault, "add");
    new.args(CHEAP).args(["--new-credential", "scans.key"]);
    run(&mut new).refused(7, &["no credentials here"]);
    let id = added(&here(&mut new).ok());
    let said = here(&mut bare(&vault, ["key", "test"])).ok();
    assert!(said.starts_with(&format!("Opens key slot {id} ")), "{said}");
    assert_eq!(list(&vault)["slots"][1]["detail"], "scans.key");
    let mut mount = crate::common::wardfs();
    mount.arg("mount").arg(vault.path()).arg(vault.mountpoint());
    here(&mut mount).ok();
    Mount::adopt(&vault, vault.mountpoint()).umount();
    // Without the credential, and with another one, the passphrase is what is left.
    run(&mut bare(&vault, ["key", "test"])).refused(7, &["no terminal"]);
    fs::write(credentials.join("scans.key"), [8; 50]).expect("written");
    here(&mut bare(&vault, ["key", "test"]))
        .refused(7, &["wrong passphrase or key file", "no terminal"]);
    for bad in ["../passphrase", ".", ""] {
        let mut new = key(&vault, "add");
        here(new.args(CHEAP).args(["--new-credential", bad])).refused(7, &["no slash"]);
    }
}

/// A program that tells whether it was run.
fn program(vault: &Vault, name: &str, line: &str) -> String {
    let path = vault
        .dir()
        .file(name, format!("#!/bin/sh\ntouch \"$0.ran\"\n{line}\n"));
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
    fs::set_permissions(&path, mode).expect("ours");
    path.display().to_string()
}

fn was_run(program: &str) -> bool {
    let marker = format!("{program}.ran");
    let ran = Path::new(&marker).exists();
    let _ = fs::remove_file(marker);
    ran
}

#[test]
fn a_command_is_run_without_a_shell_and_only_when_the_user_names_it() {
    let vault = Vault::new();
    let program = program(&vault, "tool", "printf '%s|' \"$@\"");
    let command = format!("{program} 'two words' '$HOME' ';' x");
    let id = add(&vault, &["--new-key-command", &command]);
    assert!(was_run(&program));
    opens(&vault, id, &["--key-command", &command]);
    assert!(was_run(&program));
    assert!(
        list(&vault)["slots"][1]["detail"]
            .as_str()
            .expect("text")
            .contains("'two words'")
    );
    run(&mut bare(&vault, ["key", "test"])).refused(7, &["no terminal"]);
    test(&vault, &["--slot", "1"])
        .refused(12, &["nobody on this machine has allowed", "--key-command"]);
    test(
        &vault,
        &["--key-command", &format!("{program} other words")],
    )
    .refused(12, &["nobody"]);
    assert!(!was_run(&program), "it was not named");
    run(key(&vault, "add").args(["--new-key-command", "echo x"])).refused(2, &["absolute path"]);
    run(key(&vault, "add").args(["--new-key-command", "'open"])).refused(2, &["quotation mark"]);
}

#[test]
fn a_command_that_fails_or_hangs_leaves_the_other_ways() {
    let vault = Vault::new();
    let program = program(
        &vault,
        "tool",
        "test -e \"$0.fail\" && exit 3\ntest -e \"$0.hang\" && exec sleep 600\necho x",
    );
    add(
        &vault,
        &["--new-key-command", &program, "--key-timeout", "5"],
    );
    for (how, words) in [("fail", "exit status: 3"), ("hang", "took too long")] {
        let marker = format!("{program}.{how}");
        fs::write(&marker, "").expect("written");
        test(&vault, &["--key-command", &program]).refused(7, &[words]);
        fs::remove_file(marker).expect("there");
    }
    opens(&vault, 1, &["--key-command", &program]);
    run(&mut key(&vault, "test")).ok();
}

#[test]
fn a_command_that_the_administrator_lists_is_run_without_a_question() {
    let name = "kinds::a_command_that_the_administrator_lists_is_run_without_a_question";
    in_own_namespace(name, || {
        let scratch = TempDir::new();
        with_etc(&scratch, &[]);
        let vault = Vault::new();
        let program = program(&vault, "tool", "echo x");
        add(&vault, &["--new-key-command", &format!("{program} a b")]);
        assert!(was_run(&program));
        let test_it = || run(&mut bare(&vault, ["key", "test"]));
        test_it().refused(7, &["no terminal"]);
        etc("commands", &format!("# ours\n\n{program} a\n"));
        test_it().refused(7, &["no terminal"]);
        assert!(!was_run(&program), "other arguments are another command");
        etc("commands", &format!("{program} 'a' b\n"));
        assert!(test_it().ok().starts_with("Opens key slot 1 "));
        assert!(was_run(&program));
        run(Command::new("chmod").args(["666", "/etc/wardfs/commands"])).ok();
        test_it().refused(19, &["/etc/wardfs/commands is not believed", "chmod go-w"]);
        assert!(!was_run(&program));
        run(Command::new("umount").args(["--lazy", "/etc"])).ok();
    });
}

/// Whoever can write to the vault can put a header there that names any command, and it is read before anything shows
/// that it is not authentic. Nothing of it is run: not for a whole header of another vault, not for slots that were added,
/// and not for the user's own slot with another command, or with his command and other arguments.
#[test]
fn a_command_of_a_header_that_somebody_put_there_is_not_run() {
    let [ours, theirs] = [Vault::new(), Vault::new()];
    let tool = program(&ours, "tool", "echo \"$*\" >> \"$0.args\"; echo x");
    let evil = program(&theirs, "evil", "echo x");
    add(&ours, &["--new-key-command", &tool]);
    add(&theirs, &["--new-key-command", &evil]);
    add(&theirs, &["--new-key-command", &format!("{tool} other")]);
    assert!(was_run(&tool) && was_run(&evil));
    fs::remove_file(format!("{tool}.args")).expect("it was run");
    let copies = ["volume", "volume.bak"].map(|name| ours.path().join("~wardfs").join(name));
    let read = |vault: &Vault| {
        let bytes = fs::read(vault.path().join("~wardfs/volume")).expect("a vault");
        VolumeHeader::decode(&bytes).expect("whole")
    };
    let (own, foreign) = (read(&ours), read(&theirs));
    let commands = |header: &VolumeHeader| -> Vec<Slot> {
        let slots = header.slots.iter();
        slots
            .filter(|s| s.kind == SlotKind::Command)
            .cloned()
            .collect()
    };
    let stolen = commands(&foreign);
    assert_eq!((commands(&own).len(), stolen.len()), (1, 2));
    let mut added = own.clone();
    added.slots.extend(
        stolen
            .iter()
            .zip(7..)
            .map(|(slot, id)| Slot { id, ..slot.clone() }),
    );
    let changed = |slot: &Slot| {
        let mut header = own.clone();
        header.slots[1].data.clone_from(&slot.data);
        header
    };
    let headers = [foreign, added, changed(&stolen[0]), changed(&stolen[1])];
    let new = ours.dir().file("new", "new one").display().to_string();
    let mountpoint = ours.mountpoint().display().to_string();
    let verbs: [&[&str]; 8] = [
        &["mount", "VAULT", &mountpoint],
        &["key", "test", "VAULT"],
        &["key", "add", "VAULT", "--new-passphrase-file", &new],
        &["key", "change", "VAULT", "--new-passphrase-file", &new],
        &["header", "verify", "VAULT"],
        &["check", "VAULT"],
        &["rotate", "VAULT"],
        &["rotate", "VAULT", "--volume-key"],
    ];
    let told: [&[&str]; 4] = [
        &[],
        &["--key-command", &tool],
        &["--slot", "1"],
        &["--slot", "7"],
    ];
    let path = ours.path().display().to_string();
    let mut refused = 0;
    for header in headers {
        let bytes = header.encode();
        copies
            .iter()
            .for_each(|copy| fs::write(copy, &bytes).expect("stored"));
        for (verb, told) in verbs.iter().flat_map(|verb| told.map(|told| (verb, told))) {
            let words = verb.iter().map(|word| word.replace("VAULT", &path));
            let ran = run(crate::common::wardfs().args(words).args(told));
            assert_ne!(ran.code, Some(0), "{verb:?} {told:?}: {ran:?}");
            assert!(!was_run(&evil), "{verb:?} {told:?}: {ran:?}");
            refused += 1;
        }
        // It is shown, and that is all.
        run(&mut bare(&ours, ["key", "list"])).ok();
        let backup = ours.dir().file("backup", &bytes);
        let mut restore = bare(&ours, ["header", "restore"]);
        let ran = run(restore.arg(backup).arg("--yes"));
        assert_ne!(ran.code, Some(0), "{ran:?}");
        assert!(!was_run(&evil));
    }
    assert_eq!(refused, 4 * 8 * 4);
    // The user's own command is run where he names it, and always as he named it.
    let arguments = fs::read_to_string(format!("{tool}.args")).unwrap_or_default();
    assert!(arguments.lines().all(str::is_empty), "{arguments}");
    let own = own.encode();
    copies
        .iter()
        .for_each(|copy| fs::write(copy, &own).expect("stored"));
    opens(&ours, 1, &["--key-command", &tool]);
}

/// Whether a real program is there; says so if not.
fn is_there(program: &str) -> bool {
    let there = Path::new(program).exists();
    if !there {
        eprintln!("skipped: {program} is not installed");
    }
    there
}

#[test]
fn systemd_creds_hands_over_a_sealed_secret() {
    if !is_there("/usr/bin/systemd-creds") {
        return;
    }
    let vault = Vault::new();
    let plain = vault.dir().file("plain", "the secret");
    let sealed = vault.dir().join("scans.cred");
    let mut seal = Command::new("/usr/bin/systemd-creds");
    seal.args(["encrypt", "--with-key=host", "--name=scans"])
        .arg(&plain)
        .arg(&sealed);
    let ran = run(&mut seal);
    if ran.code != Some(0) {
        eprintln!("skipped: systemd-creds cannot seal here: {ran:?}");
        return;
    }
    let command = format!(
        "/usr/bin/systemd-creds decrypt --name=scans {} -",
        sealed.display()
    );
    let id = add(&vault, &["--new-key-command", &command]);
    opens(&vault, id, &["--key-command", &command]);
    fs::write(&sealed, "other").expect("written");
    test(&vault, &["--key-command", &command]).refused(7, &["cannot get the secret from"]);
}

#[test]
fn clevis_decrypts_a_secret() {
    if !is_there("/usr/bin/clevis") || !is_there("/usr/bin/jose") {
        return;
    }
    // Without a Tang server: a Shamir pin of a single null pin, which clevis 20 has.
    let vault = Vault::new();
    let sealed = vault.dir().join("sealed.jwe");
    let encrypt = format!(
        "printf secret | clevis encrypt null '{{}}' > {}",
        sealed.display()
    );
    let ran = run(Command::new("/bin/sh").args(["-c", &encrypt]));
    if ran.code != Some(0) {
        eprintln!("skipped: clevis has no pin that works without a server: {ran:?}");
        return;
    }
    let decrypt = vault.dir().file(
        "decrypt",
        format!("#!/bin/sh\nclevis decrypt < {}\n", sealed.display()),
    );
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
    fs::set_permissions(&decrypt, mode).expect("ours");
    let command = decrypt.display().to_string();
    let id = add(&vault, &["--new-key-command", &command]);
    opens(&vault, id, &["--key-command", &command]);
}

#[test]
fn secret_tool_looks_a_secret_up() {
    if !is_there("/usr/bin/secret-tool")
        || !is_there("/usr/bin/gnome-keyring-daemon")
        || !is_there("/usr/bin/dbus-run-session")
    {
        return;
    }
    let vault = Vault::new();
    let home = vault.dir().dir("home");
    let file = vault.passphrase_file();
    let script = format!(
        "set -e\n\
         printf pw | gnome-keyring-daemon --unlock --components=secrets >/dev/null\n\
         printf 'kept secret' | secret-tool store --label=wardfs vault scans\n\
         c='/usr/bin/secret-tool lookup vault scans'\n\
         w={w}\n\
         $w key add {v} --passphrase-file {p} --new-key-command \"$c\" {cheap}\n\
         $w key test {v} --key-command \"$c\"\n",
        w = env!("CARGO_BIN_EXE_wardfs"),
        v = vault.path().display(),
        p = file.display(),
        cheap = CHEAP.join(" "),
    );
    let mut session = Command::new("/usr/bin/dbus-run-session");
    session
        .args(["--", "/bin/sh", "-c", &script])
        .env("HOME", &home)
        .env("XDG_RUNTIME_DIR", &home);
    let said = run(&mut session).ok();
    assert!(said.contains("Opens key slot 1 "), "{said}");
}
