//! A person at a terminal is asked, without echo, and can change his mind.

mod common;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use common::terminal::Terminal;
use common::{CHEAP_KDF, Mount, PASSPHRASE, TempDir, Vault, is_mounted};

fn program(arguments: &[&std::ffi::OsStr]) -> Terminal {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wardfs"));
    command.args(arguments);
    Terminal::start(&command)
}

fn init(dir: &TempDir) -> Terminal {
    let vault = dir.join("vault");
    let mut arguments = vec!["init".as_ref(), vault.as_os_str()];
    arguments.extend(CHEAP_KDF.iter().map(std::ffi::OsStr::new));
    program(&arguments)
}

fn mount(vault: &Vault) -> Terminal {
    program(&[
        "mount".as_ref(),
        vault.path().as_os_str(),
        vault.mountpoint().as_os_str(),
    ])
}

#[test]
fn a_new_passphrase_is_asked_for_twice_and_never_shown() {
    let dir = TempDir::new();
    let mut terminal = init(&dir);
    terminal.expect("New passphrase for ");
    assert!(!terminal.echoes());
    terminal.type_line(PASSPHRASE);
    terminal.expect("The same again: ");
    terminal.type_line(PASSPHRASE);
    terminal.expect("Made the vault");
    assert!(terminal.echoes());
    let (status, shown) = terminal.finish();
    assert_eq!(status.code(), Some(0));
    assert!(!shown.contains("correct"), "{shown}");
}

#[test]
fn two_different_answers_are_asked_for_again_and_given_up_on_after_three_times() {
    let dir = TempDir::new();
    let mut terminal = init(&dir);
    for _ in 0..3 {
        terminal.expect("New passphrase for ");
        terminal.type_line("one");
        terminal.expect("The same again: ");
        terminal.type_line("two");
        terminal.expect("These are not the same.");
    }
    let (status, _) = terminal.finish();
    assert_eq!(status.code(), Some(7));
    assert!(!dir.join("vault").exists());
}

#[test]
fn an_empty_passphrase_is_refused_and_a_short_one_warned_about() {
    let dir = TempDir::new();
    let mut terminal = init(&dir);
    terminal.expect("New passphrase for ");
    terminal.type_line("");
    terminal.expect("the passphrase is empty");
    assert_eq!(terminal.finish().0.code(), Some(7));
    let mut terminal = init(&dir);
    for question in ["New passphrase for ", "The same again: "] {
        terminal.expect(question);
        terminal.type_line("short");
    }
    terminal.expect("can be guessed");
    assert_eq!(terminal.finish().0.code(), Some(0));
}

#[test]
fn the_daemon_that_goes_to_the_background_asks_at_the_terminal_first() {
    let vault = Vault::new();
    let mut terminal = mount(&vault);
    terminal.expect("Passphrase for ");
    assert!(!terminal.echoes());
    terminal.type_line(PASSPHRASE);
    let (status, shown) = terminal.finish();
    assert_eq!(status.code(), Some(0), "{shown}");
    assert!(!shown.contains(PASSPHRASE), "{shown}");
    Mount::adopt(&vault, vault.mountpoint()).umount();
}

#[test]
fn a_mistyped_passphrase_may_be_typed_again_three_times_in_all() {
    let vault = Vault::new();
    let mut terminal = mount(&vault);
    terminal.expect("Passphrase for ");
    terminal.type_line("wrong");
    terminal.expect("That does not open it.");
    terminal.expect("Passphrase for ");
    terminal.type_line(PASSPHRASE);
    assert_eq!(terminal.finish().0.code(), Some(0));
    Mount::adopt(&vault, vault.mountpoint()).umount();

    let mut terminal = mount(&vault);
    for _ in 0..3 {
        terminal.expect("Passphrase for ");
        terminal.type_line("wrong");
    }
    terminal.expect("wrong passphrase or key file");
    assert_eq!(terminal.finish().0.code(), Some(6));
}

#[test]
fn ctrl_c_ends_the_question_and_brings_the_echo_back() {
    let vault = Vault::new();
    let mut terminal = mount(&vault);
    terminal.expect("Passphrase for ");
    assert!(!terminal.echoes());
    terminal.type_keys("half a pass\x03");
    common::wait_until("the echo is back", || terminal.echoes());
    let (status, _) = terminal.finish();
    assert!(!status.success());
    assert!(!is_mounted(&vault.mountpoint()));
    assert_eq!(vault.info()["mounted"], serde_json::Value::Null);
}

#[test]
fn the_process_that_asks_ends_with_the_one_that_was_started() {
    let vault = Vault::new();
    let mut terminal = mount(&vault);
    terminal.expect("Passphrase for ");
    let mine = processes_about(&vault);
    let started = mine.iter().find(|process| {
        mine.iter()
            .any(|p| p.parent == process.pid && p.name == process.name)
    });
    let started = started.expect("it has forked").pid.to_string();
    common::run(Command::new("kill").args(["-s", "TERM", &started])).ok();
    common::wait_until("both have ended", || processes_about(&vault).is_empty());
    assert!(terminal.echoes());
    assert!(!is_mounted(&vault.mountpoint()));
}

struct Process {
    pid: u32,
    parent: u32,
    name: String,
}

/// The running programs that were started with this vault as an argument.
fn processes_about(vault: &Vault) -> Vec<Process> {
    let path = vault.path();
    let about = |pid: u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        arguments
            .split(|&b| b == 0)
            .any(|argument| argument == path.as_os_str().as_bytes())
            .then_some(())?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let parent = field("PPid:")?.parse().ok()?;
        Some(Process {
            pid,
            parent,
            name: field("Name:")?.to_owned(),
        })
    };
    let entries = fs::read_dir("/proc").expect("procfs is mounted").flatten();
    entries
        .filter_map(|entry| about(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

#[test]
fn ctrl_d_is_no_answer() {
    let vault = Vault::new();
    let mut terminal = mount(&vault);
    terminal.expect("Passphrase for ");
    terminal.type_keys("\x04");
    terminal.expect("no passphrase was typed");
    assert_eq!(terminal.finish().0.code(), Some(7));
}

#[test]
fn a_vault_in_use_is_told_before_anybody_types() {
    let vault = Vault::new();
    let mounted = vault.mount();
    let other = vault.dir().dir("other");
    let mut terminal = program(&[
        "mount".as_ref(),
        vault.path().as_os_str(),
        other.as_os_str(),
    ]);
    terminal.expect("is already mounted at");
    assert_eq!(terminal.finish().0.code(), Some(10));
    mounted.umount();
}
