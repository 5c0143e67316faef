//! Rotations on a disk that is full, and under which writing fails.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::namespace::in_own_namespace;
use crate::common::{Vault, run};
use crate::lab::{
    Times, bytes, close, epochs_in_use, is_clean, keyring, rotate, rotated, seen, with_tree,
};

/// Fills a directory with files of 1 MiB until there is no space, and removes one of them again.
fn fill(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for number in 0..100 {
        let (path, content) = (dir.join(format!("{number}")), bytes(number, 1 << 20));
        let written = fs::File::create(&path).and_then(|mut file| {
            file.write_all(&content)?;
            file.sync_all()
        });
        if written.is_err() {
            fs::remove_file(&path).expect("made");
            fs::remove_file(dir.join("0")).expect("there is one");
            files.remove(&dir.join("0"));
            return files;
        }
        files.insert(path, content);
    }
    panic!("the disk does not fill up");
}

#[test]
fn on_a_nearly_full_disk_it_needs_no_space_for_what_it_encrypts() {
    in_own_namespace(
        "trouble::on_a_nearly_full_disk_it_needs_no_space_for_what_it_encrypts",
        || {
            let vault = Vault::unmade(crate::common::PASSPHRASE);
            fs::create_dir(vault.path()).expect("made");
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]);
            run(mount.arg(vault.path())).ok();
            vault.init(&[]);
            let mount = vault.mount();
            let files = fill(mount.path());
            assert!(files.len() > 8, "{} files", files.len());
            close(mount);
            rotated(&vault);
            assert_eq!(epochs_in_use(&vault), [1].into());
            let mount = vault.mount();
            for (path, content) in &files {
                assert_eq!(&fs::read(path).expect("readable"), content);
            }
            close(mount);
            run(Command::new("umount").arg(vault.path())).ok();
        },
    );
}

#[test]
fn an_error_in_the_middle_leaves_a_vault_that_reads_as_before() {
    let (vault, _) = with_tree(&[]);
    let before = seen(&vault, Times::Ignore);
    // Nothing may be written beyond 2.5 MiB of a file: not the largest file, and not a journal that grows.
    let limited = rotate(&vault);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 5120; exec \"$@\"", "sh"])
        .arg(limited.get_program())
        .args(limited.get_args());
    let ran = run(command.env_remove("CREDENTIALS_DIRECTORY"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("was interrupted"), "{ran:?}");
    assert_eq!(keyring(&vault).0, [0, 1]);
    assert_eq!(seen(&vault, Times::Ignore), before);
    rotated(&vault);
    assert_eq!(epochs_in_use(&vault), [1].into());
    is_clean(&vault);
}
