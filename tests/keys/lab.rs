//! Running the verbs of `key` and `header` on a vault of the tests.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::{Ran, TempDir, Vault, run, wardfs};

pub const CHEAP: [&str; 7] = crate::common::CHEAP_KDF;
/// Twice as dear, and still below what is accepted without `--force`.
pub const DEARER: [&str; 7] = [
    "--kdf-memory",
    "16M",
    "--kdf-time",
    "1",
    "--kdf-parallel",
    "1",
    "--force",
];

/// `wardfs FIRST SECOND VAULT`, without a secret.
pub fn bare(vault: &Vault, verb: [&str; 2]) -> Command {
    let mut command = wardfs();
    command.args(verb).arg(vault.path());
    command
}

/// `wardfs key VERB VAULT` with the vault's passphrase.
pub fn key(vault: &Vault, verb: &str) -> Command {
    let mut command = bare(vault, ["key", verb]);
    command
        .arg("--passphrase-file")
        .arg(vault.passphrase_file());
    command
}

/// Adds a cheap slot for what `arguments` say, with the vault's passphrase; answers its id.
#[track_caller]
pub fn add<A: AsRef<OsStr>>(vault: &Vault, arguments: &[A]) -> u64 {
    added(&run(key(vault, "add").args(CHEAP).args(arguments)).ok())
}

#[track_caller]
pub fn added(said: &str) -> u64 {
    let (_, rest) = said.split_once("Added key slot ").expect("it says so");
    let id = rest.split(' ').next().expect("an id");
    id.parse().expect("a number")
}

/// Adds a slot for a passphrase, and answers its id and the file of the passphrase.
#[track_caller]
pub fn add_passphrase(vault: &Vault, passphrase: &str) -> (u64, PathBuf) {
    let file = vault.dir().file(passphrase, passphrase);
    let id = add(vault, &["--new-passphrase-file".as_ref(), file.as_os_str()]);
    (id, file)
}

/// Whether the vault opens with these options, and what was said.
pub fn test<A: AsRef<OsStr>>(vault: &Vault, arguments: &[A]) -> Ran {
    run(bare(vault, ["key", "test"]).args(arguments))
}

#[track_caller]
pub fn opens<A: AsRef<OsStr>>(vault: &Vault, slot: u64, arguments: &[A]) {
    let said = test(vault, arguments).ok();
    let wanted = format!("Opens key slot {slot} ");
    assert!(said.starts_with(&wanted), "{said}");
}

pub fn list(vault: &Vault) -> serde_json::Value {
    let said = run(bare(vault, ["key", "list"]).arg("--json")).ok();
    serde_json::from_str(&said).expect("list prints JSON")
}

/// The keys that were printed, each as a file.
pub fn printed(vault: &Vault, said: &str) -> Vec<PathBuf> {
    let lines = said.lines().map(str::trim);
    let is_key = |line: &&str| {
        line.len() >= 11
            && line.split('-').all(|group| {
                group.len() == 5
                    && group
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            })
    };
    let mut keys: Vec<Vec<&str>> = Vec::new();
    let mut was_key = false;
    for line in lines {
        match (is_key(&line), was_key) {
            (true, true) => keys.last_mut().expect("it has begun").push(line),
            (true, false) => keys.push(vec![line]),
            _ => {}
        }
        was_key = is_key(&line);
    }
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let file = |lines: &Vec<&str>| {
        let name = format!("printed-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        vault.dir().file(&name, lines.join("\n"))
    };
    keys.iter().map(file).collect()
}

/// A date so many days from now, as `--expires` takes it.
pub fn in_days(days: i32) -> String {
    let said =
        run(Command::new("date").args(["--utc", "+%F", "--date", &format!("{days} days")])).ok();
    said.trim().to_owned()
}

/// Another `/etc`, with these files in `/etc/wardfs`. Only in a namespace of the test's own.
pub fn with_etc(scratch: &TempDir, files: &[(&str, &str)]) {
    let etc = scratch.join("etc");
    run(Command::new("cp").args(["-a", "/etc"]).arg(&etc)).ok();
    let _ = fs::remove_dir_all(etc.join("wardfs"));
    fs::create_dir(etc.join("wardfs")).expect("made");
    for (name, text) in files {
        fs::write(etc.join("wardfs").join(name), text).expect("written");
    }
    run(Command::new("mount").arg("--bind").arg(&etc).arg("/etc")).ok();
}

/// Replaces a file of [`with_etc`].
pub fn etc(name: &str, text: &str) {
    fs::write(PathBuf::from("/etc/wardfs").join(name), text).expect("written");
}
