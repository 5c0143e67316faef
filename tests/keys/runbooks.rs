//! The runbooks of the manual, each run as it stands there.
//!
//! A runbook is about the vault `/srv/scans.vault`, mounted on `/srv/scans`, with files in `/root`; the test puts other
//! directories there, in a mount namespace of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::namespace::in_own_namespace;
use crate::common::{CHEAP_KDF, Ran, TempDir, run};

/// The command lines of a runbook: what stands between `.nf` and `.fi` in its subsection.
fn lines(title: &str) -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/wardfs.1"));
    let page = page.expect("in the repository");
    let (_, runbooks) = page.split_once("\n.SH RUNBOOKS\n").expect("a section");
    let (_, text) = runbooks
        .split_once(&format!("\n.SS {title}\n"))
        .expect("a runbook");
    let text = text.split("\n.S").next().expect("it ends");
    let mut script = String::new();
    for block in text.split("\n.nf\n").skip(1) {
        let (block, _) = block.split_once("\n.fi\n").expect("it ends");
        script += &block
            .replace("\\-", "-")
            .replace("\\(aq", "'")
            .replace("\\(ti", "~");
        script.push('\n');
    }
    assert!(!script.is_empty(), "{title} has commands");
    script
}

fn sh(script: &str) -> Ran {
    let program = Path::new(env!("CARGO_BIN_EXE_wardfs"));
    let path = format!(
        "{}:{}",
        program.parent().expect("a directory").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut command = Command::new("/bin/sh");
    command
        .args(["-e", "-c", script])
        .env("PATH", path)
        .env("HOME", "/root");
    run(command.env_remove("CREDENTIALS_DIRECTORY"))
}

/// A vault with one file and the slots that runbooks speak of: 0 the administrator's passphrase, 1 that of a colleague,
/// 2 a recovery key on paper, 3 a key server.
fn with_vault(test: &str, body: impl FnOnce()) {
    in_own_namespace(&format!("runbooks::{test}"), || {
        let scratch = TempDir::new();
        for place in ["/srv", "/root"] {
            let there = scratch.dir(&place[1..]);
            run(Command::new("mount").arg("--bind").arg(there).arg(place)).ok();
        }
        fs::create_dir("/srv/scans").expect("made");
        let cheap = CHEAP_KDF.join(" ");
        let setup = format!(
            "umask 077\n\
             printf 'of the administrator' > /root/passphrase\n\
             printf 'of a colleague' > /root/colleague\n\
             printf '#!/bin/sh\\necho of the key server\\n' > /root/ask-server; chmod 700 /root/ask-server\n\
             wardfs init /srv/scans.vault --label 'CT 2' --passphrase-file /root/passphrase {cheap}\n\
             wardfs key add /srv/scans.vault --passphrase-file /root/passphrase --new-passphrase-file /root/colleague --owner Bo {cheap}\n\
             wardfs key add /srv/scans.vault --passphrase-file /root/passphrase --recovery > /root/printed\n\
             grep -E '^ +[0-9A-Z]{{5}}-' /root/printed > /root/recovery.txt\n\
             wardfs key add /srv/scans.vault --passphrase-file /root/passphrase --new-key-command /root/ask-server {cheap}\n\
             wardfs mount /srv/scans.vault /srv/scans --passphrase-file /root/passphrase\n\
             echo content > /srv/scans/file\n\
             wardfs umount /srv/scans\n"
        );
        sh(&setup).ok();
        body();
        let _ = sh("wardfs umount /srv/scans");
        for place in ["/srv", "/root"] {
            run(Command::new("umount").arg("--lazy").arg(place)).ok();
        }
    });
}

/// Measuring costs a second each; the runbook's text is otherwise as it stands.
fn cheaply(script: &str) -> String {
    let cheap = CHEAP_KDF.join(" ");
    let with_cost = |line: &str| {
        if line.contains("--new-passphrase-file") {
            format!("{line} {cheap}\n")
        } else {
            format!("{line}\n")
        }
    };
    script.lines().map(with_cost).collect()
}

fn test_with(options: &str) -> Ran {
    sh(&format!("wardfs key test /srv/scans.vault {options}"))
}

#[test]
fn someone_left() {
    with_vault("someone_left", || {
        sh(&lines("Someone left")).ok();
        test_with("--passphrase-file /root/colleague").refused(6, &[]);
        test_with("--passphrase-file /root/passphrase").ok();
        assert!(Path::new("/root/scans.header").exists());
    });
}

#[test]
fn a_laptop_is_stolen() {
    with_vault("a_laptop_is_stolen", || {
        fs::write("/root/new-passphrase", "a new one").expect("written");
        sh(&cheaply(&lines("A laptop is stolen"))).ok();
        test_with("--passphrase-file /root/passphrase").refused(6, &[]);
        test_with("--passphrase-file /root/new-passphrase").ok();
        assert_eq!(
            fs::read_to_string("/srv/scans/file").expect("mounted"),
            "content\n"
        );
    });
}

#[test]
fn the_key_server_is_down() {
    with_vault("the_key_server_is_down", || {
        fs::write("/root/ask-server", "#!/bin/sh\nexit 1\n").expect("written");
        let script = lines("The key server is down");
        let ran = sh(&script);
        assert_eq!(ran.code, Some(0), "{script}{ran:?}");
        assert_eq!(
            fs::read_to_string("/srv/scans/file").expect("mounted"),
            "content\n"
        );
    });
}

#[test]
fn we_lost_the_passphrase() {
    with_vault("we_lost_the_passphrase", || {
        fs::remove_file("/root/passphrase").expect("there");
        fs::write("/root/new-passphrase", "a new one").expect("written");
        sh(&cheaply(&lines("We lost the passphrase"))).ok();
        test_with("--passphrase-file /root/new-passphrase").ok();
        assert!(list_ids().iter().all(|id| *id != 0));
    });
}

#[test]
fn yearly_rotation() {
    with_vault("yearly_rotation", || {
        let created = || sh("wardfs info /srv/scans.vault --json | grep epoch_created").ok();
        let before = created();
        // Times in the header are whole seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        sh("wardfs mount /srv/scans.vault /srv/scans --passphrase-file /root/passphrase").ok();
        let said = sh(&lines("Yearly rotation")).ok();
        assert!(said.contains("the old content key is destroyed"), "{said}");
        assert_ne!(created(), before);
        assert!(Path::new("/root/scans.header").exists());
        assert_eq!(
            fs::read_to_string("/srv/scans/file").expect("mounted"),
            "content\n"
        );
    });
}

fn list_ids() -> Vec<u64> {
    let json = sh("wardfs key list /srv/scans.vault --json").ok();
    let list: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let slots = list["slots"].as_array().expect("a list").clone();
    slots
        .iter()
        .map(|slot| slot["id"].as_u64().expect("an id"))
        .collect()
}
