//! `rotate --volume-key`: which slots open afterwards, what is refused, and that a kill at any moment leaves one key or the
//! other.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::common::terminal::Terminal;
use crate::common::{CHEAP_KDF, PASSPHRASE, Ran, Vault, run, wardfs};
use crate::lab::{Times, close, is_clean, rotate, rotated, see, with_tree};

fn replace(vault: &Vault) -> Command {
    let mut command = rotate(vault);
    command.arg("--volume-key");
    command
}

/// Adds a slot with the vault's passphrase; answers what was said.
#[track_caller]
fn add(vault: &Vault, arguments: &[&str]) -> String {
    let mut command = wardfs();
    command.args(["key", "add"]).arg(vault.path());
    command
        .arg("--passphrase-file")
        .arg(vault.passphrase_file());
    run(command.args(CHEAP_KDF).args(arguments)).ok()
}

fn file(vault: &Vault, name: &str, content: &str) -> String {
    vault.dir().file(name, content).display().to_string()
}

fn test(vault: &Vault, arguments: &[&str]) -> Ran {
    let mut command = wardfs();
    run(command
        .args(["key", "test"])
        .arg(vault.path())
        .args(arguments))
}

#[track_caller]
fn opens(vault: &Vault, slot: u32, arguments: &[&str]) {
    let said = test(vault, arguments).ok();
    assert!(
        said.starts_with(&format!("Opens key slot {slot} ")),
        "{said}"
    );
}

/// A vault with slots 1 passphrase, 2 key file, 3 both, 4 recovery key, 5 shares, 6 command, and the options that keep each
/// and that open with each.
struct All {
    vault: Vault,
    keep: Vec<Vec<String>>,
    open: Vec<Vec<String>>,
}

const ECHO: &str = "/bin/echo of the server";

fn with_all_kinds() -> All {
    let vault = Vault::new();
    let (second, key) = (
        file(&vault, "second", "of a colleague"),
        file(&vault, "key", "key file"),
    );
    let pass = file(&vault, "pass", "beside a key");
    add(
        &vault,
        &[
            "--new-passphrase-file",
            &second,
            "--label",
            "desk",
            "--owner",
            "Bo",
        ],
    );
    add(&vault, &["--new-keyfile", &key]);
    add(
        &vault,
        &["--new-passphrase-file", &pass, "--new-keyfile", &key],
    );
    let printed = |said: &str| -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        let mut before = false;
        for line in said.lines().map(str::trim) {
            let is_key = line.len() >= 11
                && line.split('-').all(|g| {
                    g.len() == 5
                        && g.bytes()
                            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
                });
            match (is_key, before) {
                (true, true) => *keys.last_mut().expect("begun") += &format!("\n{line}"),
                (true, false) => keys.push(line.to_owned()),
                _ => {}
            }
            before = is_key;
        }
        keys.iter()
            .enumerate()
            .map(|(n, k)| file(&vault, &format!("printed {}{n}", said.len()), k))
            .collect()
    };
    let recovery = printed(&add(&vault, &["--recovery"]));
    let shares = printed(&add(&vault, &["--shares", "2/3"]));
    add(&vault, &["--new-key-command", ECHO]);
    assert_eq!((recovery.len(), shares.len()), (1, 3));
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let keep = |pairs: &[(u32, &str)]| {
        let both = pairs
            .iter()
            .flat_map(|(id, file)| ["--keep".to_owned(), format!("{id}={file}")]);
        both.collect::<Vec<_>>()
    };
    All {
        keep: vec![
            keep(&[(1, &second)]),
            keep(&[(2, &key)]),
            keep(&[(3, &pass), (3, &key)]),
            keep(&[(4, &recovery[0])]),
            keep(&[(5, &shares[0]), (5, &shares[2])]),
            words(&["--keep-command", ECHO]),
        ],
        open: vec![
            words(&["--passphrase-file", &second]),
            words(&["--keyfile", &key]),
            words(&["--passphrase-file", &pass, "--keyfile", &key]),
            words(&["--recovery-key-file", &recovery[0]]),
            words(&["--share", &shares[1], "--share", &shares[2]]),
            words(&["--key-command", ECHO]),
        ],
        vault,
    }
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn every_kind_of_slot_is_kept_whose_secret_is_given() {
    let All { vault, keep, open } = with_all_kinds();
    let before = vault.info();
    let ran = run(replace(&vault).args(keep.iter().flatten()));
    assert!(
        ran.stderr.contains("copies of the header from before"),
        "{ran:?}"
    );
    assert!(
        ran.ok()
            .contains("it opens with key slots 0, 1, 2, 3, 4, 5, 6")
    );
    opens(
        &vault,
        0,
        &[
            "--passphrase-file",
            &vault.passphrase_file().display().to_string(),
        ],
    );
    for (number, options) in open.iter().enumerate() {
        opens(&vault, number as u32 + 1, &strs(options));
    }
    let after = vault.info();
    let said = |info: &serde_json::Value| -> Vec<serde_json::Value> {
        let slots = info["slots"].as_array().expect("a list").clone();
        slots
            .into_iter()
            .map(|mut slot| {
                slot["last_used"] = serde_json::Value::Null;
                slot
            })
            .collect()
    };
    assert_eq!(said(&before), said(&after));
    is_clean(&vault);
}

#[test]
fn what_no_secret_is_given_for_is_listed_and_dropped_only_when_that_is_confirmed() {
    let All { vault, keep, open } = with_all_kinds();
    let header = fs::read(vault.path().join("~wardfs/volume")).expect("there");
    run(replace(&vault).args(&keep[1])).refused(
        24,
        &[
            "key slot 1 (desk), passphrase, of Bo: its secret was not given",
            "key slot 6, command: nobody on this machine has allowed its key command",
            "--drop 1 --drop 3 --drop 4 --drop 5 --drop 6",
        ],
    );
    assert_eq!(
        fs::read(vault.path().join("~wardfs/volume")).expect("there"),
        header
    );
    let drop = [
        "--drop", "1", "--drop", "3", "--drop", "4", "--drop", "5", "--drop", "6",
    ];
    let said = run(replace(&vault).args(&keep[1]).args(drop)).ok();
    assert!(
        said.contains("key slot 1 (desk), passphrase, of Bo: as told"),
        "{said}"
    );
    assert!(said.contains("it opens with key slots 0, 2"), "{said}");
    opens(&vault, 2, &strs(&open[1]));
    for (number, options) in open.iter().enumerate().filter(|(n, _)| *n != 1) {
        let code = test(&vault, &strs(options)).code;
        assert!(matches!(code, Some(6 | 7)), "slot {}: {code:?}", number + 1);
    }
    // Numbers do not come again.
    let another = file(&vault, "another", "another one");
    assert!(add(&vault, &["--new-passphrase-file", &another]).contains("Added key slot 7 "));
}

#[test]
fn on_a_terminal_secrets_are_asked_for_and_dropping_is_confirmed() {
    let vault = Vault::new();
    for name in ["second", "third"] {
        let file = file(&vault, name, name);
        add(&vault, &["--new-passphrase-file", &file]);
    }
    for answer in ["no", "yes"] {
        let mut terminal = Terminal::start(&replace(&vault));
        terminal.expect("Passphrase for key slot 1");
        terminal.type_line("wrong");
        terminal.expect("Passphrase for key slot 1");
        terminal.type_line("second");
        terminal.expect("Passphrase for key slot 2");
        terminal.type_line("");
        terminal.expect("key slot 2, passphrase: its secret was not given");
        terminal.expect("Type yes to go on: ");
        terminal.type_line(answer);
        let (status, screen) = terminal.finish();
        assert_eq!(status.success(), answer == "yes", "{screen}");
    }
    let with = |name: &str| {
        test(
            &vault,
            &[
                "--passphrase-file",
                &vault.dir().join(name).display().to_string(),
            ],
        )
        .code
    };
    assert_eq!(
        [with("passphrase"), with("second"), with("third")],
        [Some(0), Some(0), Some(6)]
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let vault = Vault::new();
    let second = file(&vault, "second", "second");
    let wrong = file(&vault, "wrong", "wrong");
    add(&vault, &["--new-passphrase-file", &second]);
    let refused = |arguments: &[&str], code, words: &[&str]| {
        run(replace(&vault).args(arguments)).refused(code, words);
    };
    refused(&["--drop", "9"], 21, &["there is no key slot 9"]);
    refused(
        &["--drop", "0"],
        2,
        &["is the one that opens the vault now"],
    );
    refused(
        &["--drop", "1", "--keep", &format!("1={second}")],
        2,
        &["both kept and dropped"],
    );
    refused(
        &["--keep", &format!("1={wrong}")],
        6,
        &["key slot 1", "does not open it"],
    );
    refused(&["--keep", "1"], 2, &["ID=FILE"]);
    refused(&["--rate", "5"], 2, &["--rate"]);
    let mut without = rotate(&vault);
    run(without.args(["--drop", "1"])).refused(2, &["--volume-key"]);
    let mount = vault.mount();
    refused(
        &["--drop", "1"],
        10,
        &["already mounted at", "unmount it first"],
    );
    close(mount);
    opens(&vault, 1, &["--passphrase-file", &second]);
}

#[test]
fn the_last_slot_for_people_goes_only_with_force() {
    let vault = Vault::new();
    add(&vault, &["--new-key-command", ECHO]);
    let replace = |more: &[&str]| {
        let mut command = wardfs();
        command.args(["rotate", "--volume-key"]).arg(vault.path());
        run(command
            .args(["--key-command", ECHO, "--drop", "0"])
            .args(more))
    };
    let ran = replace(&[]);
    assert_eq!(ran.code, Some(22), "{ran:?}");
    assert!(
        ran.stderr
            .contains("no key slot would be left that a person can open"),
        "{ran:?}"
    );
    replace(&["--force", "--json"]).ok();
    opens(&vault, 1, &["--key-command", ECHO]);
    run(&mut vault.mount_command()).refused(7, &[]);
}

#[test]
fn json_says_what_is_kept_and_dropped() {
    let vault = Vault::new();
    let second = file(&vault, "second", "second");
    add(&vault, &["--new-passphrase-file", &second]);
    let said = run(replace(&vault).args(["--json", "--drop", "1"])).ok();
    let line: serde_json::Value = serde_json::from_str(&said).expect("one object");
    assert_eq!(line["summary"], "complete");
    assert_eq!(
        (&line["kept"][0], &line["dropped"][0]),
        (&0.into(), &1.into())
    );
}

#[test]
fn files_are_as_they_were_and_all_rotations_go_on_from_there() {
    let (vault, before) = with_tree(&[]);
    for _ in 0..2 {
        run(&mut replace(&vault)).ok();
        is_clean(&vault);
        let mount = vault.mount();
        assert_eq!(see(mount.path(), Times::Compare), before);
        close(mount);
        rotated(&vault);
    }
    let mount = vault.mount();
    assert_eq!(see(mount.path(), Times::Compare), before);
    close(mount);
}

#[test]
fn what_the_journal_holds_of_a_killed_daemon_is_not_lost() {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::write(mount.join("file"), vec![1; 10_000]).expect("written");
    fs::File::open(mount.join("file"))
        .expect("there")
        .sync_all()
        .expect("synced");
    let again = fs::File::options()
        .write(true)
        .open(mount.join("file"))
        .expect("there");
    std::os::unix::fs::FileExt::write_all_at(&again, &[2; 5000], 100).expect("written");
    again.sync_all().expect("synced");
    drop(again);
    mount.kill();
    run(&mut replace(&vault)).ok();
    is_clean(&vault);
    let mount = vault.mount();
    let content = fs::read(mount.join("file")).expect("readable");
    let wanted = [vec![1; 100], vec![2; 5000], vec![1; 4900]].concat();
    assert!(content == wanted);
    close(mount);
}

#[test]
fn an_old_header_opens_with_old_secrets_only_and_what_was_rotated_since_is_closed_to_it() {
    let (vault, _) = with_tree(&[]);
    let second = file(&vault, "second", "second");
    add(&vault, &["--new-passphrase-file", &second]);
    let old = vault.dir().join("old");
    let backup = |to: &PathBuf| {
        let mut command = wardfs();
        command.args(["header", "backup"]).arg(vault.path()).arg(to);
        run(&mut command).ok();
    };
    backup(&old);
    run(replace(&vault).args(["--drop", "1"])).ok();
    rotated(&vault);
    let new = vault.dir().join("new");
    backup(&new);
    let restore = |from: &PathBuf| {
        let mut command = wardfs();
        command
            .args(["header", "restore", "--yes"])
            .arg(vault.path())
            .arg(from);
        run(command
            .arg("--passphrase-file")
            .arg(vault.passphrase_file()))
    };
    let ran = restore(&old);
    assert!(
        ran.code == Some(0) && ran.stderr.contains("the volume key was replaced since"),
        "{ran:?}"
    );
    opens(&vault, 1, &["--passphrase-file", &second]);
    let mount = vault.mount();
    fs::read(mount.join("small 7")).expect_err("its key is not in the old header");
    close(mount);
    restore(&new).ok();
    assert_eq!(test(&vault, &["--passphrase-file", &second]).code, Some(6));
    let mount = vault.mount();
    fs::read(mount.join("small 7")).expect("readable");
    close(mount);
}

/// Every system call that changes something, at which the process is killed before it takes effect.
#[test]
fn killed_at_any_call_it_leaves_the_old_key_or_the_new_one() {
    let vault = Vault::new();
    let second = file(&vault, "second", "second");
    add(&vault, &["--new-passphrase-file", &second]);
    let mount = vault.mount();
    fs::write(mount.join("file"), "content").expect("written");
    close(mount);
    let trace = vault.dir().join("trace");
    const CALLS: [&str; 6] = [
        "pwrite64",
        "fsync",
        "fdatasync",
        "renameat",
        "renameat2",
        "unlinkat",
    ];
    let go = |vault: &Vault, inject: Option<String>| {
        let mut command = Command::new("strace");
        command.args([
            "--quiet=all",
            "-f",
            &format!("--trace={},ftruncate,fallocate,linkat", CALLS.join(",")),
        ]);
        command.arg("--output").arg(&trace);
        command.args(inject.map(|at| format!("--inject={at}")));
        let replace = replace(vault);
        command
            .arg("--")
            .arg(replace.get_program())
            .args(replace.get_args());
        run(command.args(["--drop", "1"]))
    };
    let whole = Vault::copy_of(&vault.path(), PASSPHRASE);
    go(&whole, None).ok();
    let calls = fs::read_to_string(&trace).expect("strace wrote it");
    let (mut old, mut new) = (0, 0);
    for call in CALLS {
        let times = calls
            .lines()
            .filter(|l| l.contains(&format!(" {call}(")))
            .count();
        for when in 1..=times {
            let victim = Vault::copy_of(&vault.path(), PASSPHRASE);
            let ran = go(
                &victim,
                Some(format!("{call}:signal=KILL:error=EIO:when={when}")),
            );
            assert_ne!(ran.code, Some(0), "{call} {when}: {ran:?}");
            // Slot 1 opens with the old key only; the passphrase of slot 0 with both.
            match test(&victim, &["--passphrase-file", &second]).code {
                Some(0) => old += 1,
                Some(6) => new += 1,
                code => panic!("{call} {when}: {code:?}"),
            }
            let mount = victim.mount();
            assert_eq!(
                fs::read_to_string(mount.join("file")).expect("readable"),
                "content"
            );
            close(mount);
            is_clean(&victim);
        }
    }
    assert!(old >= 5 && new >= 5, "{old} {new}: {calls}");
}
