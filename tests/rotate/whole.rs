//! What a rotation changes: the epoch of every chunk, and nothing else.

use crate::common::{run, wait_until};
use crate::lab::{
    Times, close, epochs_in_use, is_clean, json_lines, keyring, rotate, rotated, seen, with_tree,
};

#[test]
fn every_chunk_is_of_the_new_epoch_and_everything_else_as_it_was() {
    let (vault, before) = with_tree(&[]);
    assert_eq!(epochs_in_use(&vault), [0].into());
    let said = rotated(&vault).stdout;
    assert!(said.contains("the old content key is destroyed"), "{said}");
    assert_eq!(epochs_in_use(&vault), [1].into());
    assert_eq!(keyring(&vault).0, [1]);
    is_clean(&vault);
    assert_eq!(seen(&vault, Times::Compare), before);
}

#[test]
fn the_other_cipher_and_large_chunks_are_rotated_too() {
    let arguments = ["--cipher", "xchacha20-poly1305", "--chunk-size", "64K"];
    let (vault, before) = with_tree(&arguments);
    rotated(&vault);
    rotated(&vault);
    assert_eq!(epochs_in_use(&vault), [2].into());
    assert_eq!(seen(&vault, Times::Compare), before);
}

#[test]
fn a_vault_without_a_journal_is_rotated_only_with_force() {
    let (vault, before) = with_tree(&["--journal", "off"]);
    run(&mut rotate(&vault)).refused(1, &["without a journal", "--force"]);
    assert_eq!(keyring(&vault).0, [0]);
    run(rotate(&vault).arg("--force")).ok();
    assert_eq!(epochs_in_use(&vault), [1].into());
    assert_eq!(seen(&vault, Times::Compare), before);
}

#[test]
fn new_files_are_of_the_new_epoch_and_info_tells_its_age() {
    let (vault, _) = with_tree(&[]);
    let created = vault.info()["epoch_created"].clone();
    // Times in the header are whole seconds.
    let second: jiff::Timestamp = created.as_str().expect("text").parse().expect("a time");
    wait_until("a second has passed", || {
        jiff::Timestamp::now().as_second() > second.as_second()
    });
    rotated(&vault);
    assert_ne!(vault.info()["epoch_created"], created);
    let mount = vault.mount();
    std::fs::write(mount.join("new"), b"content").expect("written");
    close(mount);
    assert_eq!(epochs_in_use(&vault), [1].into());
}

#[test]
fn json_is_one_object_on_each_line() {
    let (vault, _) = with_tree(&[]);
    let said = run(rotate(&vault).arg("--json")).ok();
    let lines = json_lines(&said);
    assert_eq!(lines[0]["rotation"]["resumed"], false);
    assert!(lines[1]["progress"]["bytes"].is_u64(), "{said}");
    let summary = lines.last().expect("a summary");
    assert_eq!(summary["summary"], "complete");
    assert_eq!(summary["passed_over"], 0);
    assert_eq!(summary["old_keys_destroyed"], 1);
    assert_eq!(summary["reencrypted_bytes"], summary["read_bytes"]);
}
