//! Running the check and reading what it says; and what it says on a terminal.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::terminal::Terminal;
use crate::common::{Ran, Vault, run, wardfs};
use crate::lab::*;

/// What a check with `--json` said.
#[derive(Debug)]
pub struct Checked {
    pub code: Option<i32>,
    pub findings: Vec<Value>,
    /// Of a vault that was not closed in order.
    pub recovered: Option<Value>,
    pub summary: Value,
}

/// `wardfs check` with the passphrase of the vault; not yet run.
pub fn command(vault: &Vault, arguments: &[&str]) -> Command {
    let mut command = wardfs();
    command.arg("check").arg(vault.path()).args(arguments);
    command
        .arg("--passphrase-file")
        .arg(vault.passphrase_file());
    command
}

pub fn plain(vault: &Vault, arguments: &[&str]) -> Ran {
    run(&mut command(vault, arguments))
}

#[track_caller]
pub fn check(vault: &Vault, arguments: &[&str]) -> Checked {
    let ran = run(command(vault, arguments).arg("--json"));
    let parse = |line: &str| -> Value {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
    };
    let mut lines: Vec<Value> = ran.stdout.lines().map(parse).collect();
    let summary = lines.pop().unwrap_or_else(|| panic!("{ran:?}"));
    assert!(summary["summary"].is_string(), "{ran:?}");
    let recovered = lines.iter().position(|l| l["recovered"].is_object());
    let recovered = recovered.map(|at| lines.remove(at));
    Checked {
        code: ran.code,
        findings: lines,
        recovered,
        summary,
    }
}

impl Checked {
    /// Each finding as "state what path ranges", sorted.
    pub fn told(&self) -> Vec<String> {
        let mut told: Vec<String> = self.findings.iter().map(one_line).collect();
        told.sort();
        told
    }

    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(self.findings.is_empty(), "{self:?}");
        assert_eq!(self.summary["summary"], "clean", "{self:?}");
    }
}

fn one_line(finding: &Value) -> String {
    let text = |key: &str| finding[key].as_str().unwrap_or("-").to_owned();
    let mut line = format!("{} {} {}", text("finding"), text("what"), text("path"));
    for range in finding["ranges"].as_array().expect("always there") {
        line += &format!(" {}..{}", range["start"], range["end"]);
    }
    line
}

/// Everything in a vault but what every opening changes: content, mode and modification time by path.
pub fn snapshot(vault: &Vault) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64)> {
    let root = vault.path();
    let mut seen = BTreeMap::new();
    walk(&root, &mut |path, meta| {
        let inside = path.strip_prefix(&root).expect("below it").to_owned();
        // The last one has the seconds at which slots were used.
        let volatile = ["~wardfs/lock", "~wardfs/journal/superblock", "~wardfs/used"];
        if volatile.iter().any(|v| inside == Path::new(v)) {
            return;
        }
        let content = match meta.file_type() {
            t if t.is_file() => fs::read(path).expect("readable"),
            t if t.is_symlink() => {
                let target = fs::read_link(path).expect("a link");
                target.into_os_string().into_encoded_bytes()
            }
            _ => Vec::new(),
        };
        // Only the times of the user's files are worth keeping.
        let own = inside.starts_with("~wardfs")
            || path.file_name().is_some_and(|n| {
                n.as_encoded_bytes()[0] == b'~' && !n.to_string_lossy().starts_with("~L")
            })
            || inside.extension().is_some();
        let time = match own {
            true => 0,
            false => meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
        };
        seen.insert(inside, (content, meta.mode(), time));
    });
    seen
}

#[test]
fn people_are_told_paths_bytes_and_what_it_comes_to() {
    let vault = prepared(&[], |mount| {
        fs::create_dir(mount.join("scans")).expect("made");
        fs::write(mount.join("scans/7.dcm"), content(1, 20_000)).expect("written");
    });
    let said = plain(&vault, &[]).ok();
    assert!(said.contains("The vault is clean.\n"), "{said}");
    assert!(
        said.contains("2 directories, 1 file, 0 symbolic links"),
        "{said}"
    );
    let mount = vault.mount();
    let path = stored(&mount, "scans/7.dcm");
    mount.umount();
    flip(&path, chunk_at(1) + 100, 1);
    let ran = plain(&vault, &[]);
    assert_eq!(ran.code, Some(27), "{ran:?}");
    let inside = path.strip_prefix(vault.path()).expect("in the vault");
    for words in [
        "damaged: file scans/7.dcm\n".to_owned(),
        "bytes 4096-8191\n".to_owned(),
        format!("stored as {}\n", inside.display()),
        "The vault is damaged (1 damaged).\n".to_owned(),
    ] {
        assert!(ran.stdout.contains(&words), "{words}: {ran:?}");
    }
    assert_eq!(ran.stderr, "", "no progress where there is no terminal");
}

#[test]
fn a_terminal_shows_how_far_it_is() {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("file"), content(1, 100_000)).expect("written");
    });
    let mut terminal = Terminal::start(&command(&vault, &[]));
    terminal.expect(" files, ");
    terminal.expect("/s");
    terminal.expect("The vault is clean.");
    assert_eq!(terminal.finish().0.code(), Some(0));
}

#[test]
fn quiet_prints_damage_and_nothing_else() {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("file"), content(1, 5000)).expect("written");
    });
    fs::write(vault.path().join("conflict"), "x").expect("written");
    let ran = plain(&vault, &["--quiet"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));
    let mount = vault.mount();
    let path = stored(&mount, "file");
    mount.umount();
    flip(&path, chunk_at(0) + 30, 1);
    let ran = plain(&vault, &["--quiet"]);
    assert_eq!(ran.code, Some(27));
    assert!(ran.stdout.starts_with("damaged: file file\n"), "{ran:?}");
    assert!(!ran.stdout.contains("conflict") && !ran.stdout.contains("Checked"));
}
