//! Files whose writing was interrupted by an unclean stop: without a journal `--repair` gives them one end again, with one
//! that is done by recovery, before the repair.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::common::Vault;
use crate::lab::*;
use crate::report::{check, snapshot};

/// A vault whose daemon was killed after it had made these files of 5 chunks and 100 bytes.
fn killed<const N: usize>(names: [&str; N]) -> (Vault, [PathBuf; N]) {
    let vault = Vault::with(&["--journal", "off"]);
    let mount = vault.mount();
    let paths = names.map(|name| {
        let file = File::create(mount.join(name)).expect("made");
        file.write_all_at(&content(1, LEN), 0).expect("written");
        file.sync_all().expect("synced");
        drop(file);
        stored(&mount, name)
    });
    mount.kill();
    (vault, paths)
}

const LEN: usize = 5 * CHUNK + 100;

fn read_all<const N: usize>(vault: &Vault, names: [&str; N]) -> [Result<Vec<u8>, i32>; N] {
    let mount = vault.mount();
    let read = names.map(|name| read(&mount.join(name)));
    mount.umount();
    read
}

#[test]
fn a_file_that_was_being_extended_ends_with_its_last_whole_chunk() {
    let names = ["at a chunk", "in a chunk", "torn", "whole"];
    let (vault, [at, inside, torn, _]) = killed(names);
    cut(&at, chunk_at(3));
    cut(&inside, chunk_at(4) + 20);
    patch(&torn, chunk_at(4) + 500, &[0; 2000]);
    patch(&torn, chunk_at(5), &[0; 140]);
    assert_eq!(check(&vault, &[]).summary["damaged"], 3);
    let checked = check(&vault, &["--repair"]);
    assert_eq!(checked.code, Some(26), "{checked:?}");
    assert_eq!(
        checked.told(),
        [
            "repaired file at a chunk 8192..12288",
            "repaired file in a chunk 0..16384",
            "repaired file torn 16384..20580",
        ]
    );
    check(&vault, &[]).assert_clean();
    let whole = content(1, LEN);
    let [at, inside, torn, other] = read_all(&vault, names);
    assert_eq!(at, Ok(whole[..3 * CHUNK].to_vec()));
    assert_eq!(inside, Ok(whole[..4 * CHUNK].to_vec()));
    assert_eq!(torn, Ok(whole[..4 * CHUNK].to_vec()));
    assert_eq!(other, Ok(whole));
}

/// The new chunks were written, the old last chunk was not yet sealed anew.
#[test]
fn an_old_last_chunk_in_the_middle_is_filled_up() {
    let vault = Vault::with(&["--journal", "off"]);
    let mount = vault.mount();
    let olds = ["short", "full"].map(|name| {
        let len = if name == "full" { CHUNK } else { 100 };
        let file = File::create(mount.join(name)).expect("made");
        file.write_all_at(&content(1, len), 0).expect("written");
        file.sync_all().expect("synced");
        let path = stored(&mount, name);
        let old = piece(&path, chunk_at(0), len + 40);
        file.write_all_at(&content(2, 2 * CHUNK), CHUNK as u64)
            .expect("written");
        file.sync_all().expect("synced");
        (path, old)
    });
    mount.kill();
    for (path, old) in &olds {
        let mut chunk = old.clone();
        chunk.resize(STORED_CHUNK, 0);
        patch(path, chunk_at(0), &chunk);
    }
    let checked = check(&vault, &["--repair"]);
    assert_eq!(checked.code, Some(26), "{checked:?}");
    check(&vault, &[]).assert_clean();
    let [short, full] = read_all(&vault, ["short", "full"]);
    let expected = |len: usize| {
        let mut whole = content(1, len);
        whole.resize(CHUNK, 0);
        whole.extend(content(2, 2 * CHUNK));
        whole
    };
    assert_eq!(short, Ok(expected(100)));
    assert_eq!(full, Ok(expected(CHUNK)));
}

/// Nothing tells that a crash did it.
#[test]
fn an_end_that_was_lost_at_another_time_is_not_mended() {
    let (vault, [path]) = killed(["file"]);
    cut(&path, chunk_at(3));
    set_mtime(&path, SystemTime::now() - Duration::from_secs(3600));
    let before = snapshot(&vault);
    let checked = check(&vault, &["--repair"]);
    assert_eq!(checked.code, Some(27), "{checked:?}");
    assert!(snapshot(&vault) == before);
}

#[test]
fn damage_in_the_middle_is_not_mended_with_the_end() {
    let (vault, [path]) = killed(["file"]);
    flip(&path, chunk_at(1) + 50, 1);
    cut(&path, chunk_at(3));
    let before = snapshot(&vault);
    let checked = check(&vault, &["--repair"]);
    assert_eq!(checked.told(), ["damaged file file 4096..12288"]);
    assert!(snapshot(&vault) == before);
}

/// An empty ciphertext file from an unclean time is an empty file, for a check as for a mount.
#[test]
fn what_a_crash_left_of_a_new_file_is_no_damage() {
    let (vault, [path]) = killed(["file"]);
    fs::write(path, "").expect("emptied");
    check(&vault, &[]).assert_clean();
}

/// What the journal holds and the files do not yet counts as theirs.
#[test]
fn an_unclean_vault_is_checked_as_it_will_be_recovered_and_repair_recovers_it() {
    let vault = Vault::new();
    let mount = vault.mount();
    let whole = content(1, LEN);
    fs::write(mount.join("file"), &whole).expect("written");
    let file = File::options()
        .write(true)
        .open(mount.join("file"))
        .expect("opens");
    file.sync_all().expect("synced");
    let mut expected = whole;
    for at in [100, 2 * CHUNK + 7, 4 * CHUNK] {
        expected[at..at + 50].fill(0xaa);
        file.write_all_at(&[0xaa; 50], at as u64).expect("written");
        file.sync_all().expect("synced");
    }
    mount.kill();
    drop(file);
    let before = snapshot(&vault);
    let checked = check(&vault, &[]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.findings.is_empty(), "{checked:?}");
    assert!(checked.recovered.is_some(), "it says so");
    assert!(snapshot(&vault) == before, "nothing is written");
    let out = vault.dir().join("out");
    check(&vault, &["--salvage", out.to_str().expect("UTF-8")]);
    assert_eq!(read(&out.join("file")), Ok(expected.clone()));

    let checked = check(&vault, &["--repair"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    check(&vault, &[]).assert_clean();
    let [file] = read_all(&vault, ["file"]);
    assert_eq!(file, Ok(expected));
}

/// Recovery knows that they were there before: so no crash did it.
#[test]
fn with_a_journal_an_old_end_that_is_lost_stays_damage() {
    let names = ["at", "inside"];
    let vault = prepared(&[], |mount| {
        for name in names {
            fs::write(mount.join(name), content(1, LEN)).expect("written");
        }
    });
    let mount = vault.mount();
    fs::write(mount.join("new"), content(1, 100)).expect("written");
    let [at, inside] = names.map(|name| stored(&mount, name));
    mount.kill();
    cut(&at, chunk_at(3));
    cut(&inside, chunk_at(4) + 20);
    let before = [&at, &inside].map(|path| fs::read(path).expect("stored"));
    let told = [
        "damaged file at 8192..12288",
        "damaged file inside 0..16384",
    ];
    for arguments in [&[][..], &["--repair"], &[]] {
        let checked = check(&vault, arguments);
        assert_eq!(checked.code, Some(27), "{checked:?}");
        assert_eq!(checked.told(), told);
    }
    let after = [&at, &inside].map(|path| fs::read(path).expect("stored"));
    assert!(after == before);
}
