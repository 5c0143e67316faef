//! The session in the manual, `A damaged vault`, run as it stands there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{PASSPHRASE, Vault, run};
use crate::lab::*;

/// Commands and what they print. Stored names are random and times differ, so both are left out.
fn session() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/wardfs.1");
    let page = fs::read_to_string(path).expect("the manual");
    let (_, section) = page
        .split_once("\n.SS A damaged vault\n")
        .expect("the manual has the session");
    let (section, _) = section.split_once("\n.SS ").expect("it ends");
    let mut steps: Vec<(String, String)> = Vec::new();
    let blocks = section.split("\n.nf\n").skip(1);
    for line in blocks.flat_map(|b| b.split("\n.fi").next().expect("it ends").lines()) {
        let line = line.replace("\\-", "-").replace("\\(ti", "~");
        match line.strip_prefix("$ ") {
            Some(command) => steps.push((command.to_owned(), String::new())),
            None => {
                let (_, output) = steps.last_mut().expect("a command comes first");
                output.push_str(&line);
                output.push('\n');
            }
        }
    }
    steps
}

fn without_what_differs(text: &str) -> String {
    let keep = |line: &str| {
        let line = match line.split_once("stored as ") {
            Some((before, _)) => format!("{before}stored as X"),
            None => line.to_owned(),
        };
        match line.rsplit_once(" in ") {
            Some((before, time)) if time.ends_with(" s.") => format!("{before} in X s.\n"),
            _ => line + "\n",
        }
    };
    text.lines().map(keep).collect()
}

#[test]
fn the_session_of_the_manual_is_what_happens() {
    let vault = prepared(&[], |mount| {
        fs::create_dir(mount.join("scans")).expect("made");
        fs::write(mount.join("scans/7.dcm"), content(1, 20_000)).expect("written");
        fs::write(mount.join("scans/notes"), content(2, 4_996)).expect("written");
    });
    let mount = vault.mount();
    let [dir, scan] = ["scans", "scans/7.dcm"].map(|name| stored(&mount, name));
    mount.umount();
    patch(&dir.join("~id"), 0, &[0; 32]);
    patch(&scan, 5000, &[0; 512]);
    let base = vault.dir().path();
    let backup = vault.dir().dir("backup");
    fs::write(backup.join("7.dcm"), content(1, 20_000)).expect("written");
    let credentials = vault.dir().dir("credentials");
    fs::write(credentials.join("wardfs.passphrase"), PASSPHRASE).expect("written");
    let program = Path::new(env!("CARGO_BIN_EXE_wardfs"));
    let programs = program.parent().expect("a directory").display();
    let path = format!(
        "{programs}:{}",
        std::env::var("PATH").expect("there is one")
    );
    let steps = session();
    assert!(steps.len() >= 8, "{steps:?}");
    let ending = Ending(&vault);
    for (command, output) in steps {
        let ran = run(Command::new("sh")
            .arg("-c")
            .arg(&command)
            .current_dir(base)
            .env("PATH", &path)
            .env("CREDENTIALS_DIRECTORY", &credentials));
        assert_eq!(ran.stderr, "", "{command}");
        assert_eq!(
            without_what_differs(&ran.stdout),
            without_what_differs(&output),
            "{command}"
        );
    }
    drop(ending);
}

/// Takes the mount of a session away that did not come to its end.
struct Ending<'a>(&'a Vault);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if crate::common::is_mounted(&self.0.mountpoint()) {
            run(crate::common::wardfs()
                .arg("umount")
                .arg(self.0.mountpoint()));
        }
    }
}
