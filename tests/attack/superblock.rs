//! The superblock: it is no secret and holds none of the data. Without it a mount goes on, and heals nothing.

use std::fs;
use std::path::PathBuf;

use crate::common::Vault;
use crate::lab::*;

fn superblock(vault: &Vault) -> PathBuf {
    vault.path().join("~wardfs/journal/superblock")
}

/// A vault with a file and with one that was emptied while the vault was unmounted.
fn vault() -> Vault {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("file"), content(1, 5000)).expect("written");
        fs::write(mount.join("emptied"), content(2, 5000)).expect("written");
    });
    let mount = vault.mount();
    let path = stored(&mount, "emptied");
    mount.umount();
    cut(&path, 0);
    vault
}

#[track_caller]
fn assert_serves(vault: &Vault, attack: &str) {
    for options in [&["-o", "ro"][..], &[], &[]] {
        let mount = vault.mount_with(options);
        assert_eq!(read(&mount.join("file")), Ok(content(1, 5000)), "{attack}");
        assert_refused(&mount.join("emptied"), attack);
        if options.is_empty() {
            fs::write(mount.join("new"), attack).expect("written");
        }
        mount.umount();
    }
    let mount = vault.mount();
    assert_eq!(read(&mount.join("new")), Ok(attack.as_bytes().to_vec()));
    mount.umount();
}

#[test]
fn damaged_missing_or_replayed() {
    let vault = vault();
    let path = superblock(&vault);
    let old = fs::read(&path).expect("stored");
    for at in [0, 8, 10, 16, 24, 32, 40, 4000, 4064, 4095] {
        for slot in [0, 4096] {
            flip(&path, slot + at, 1);
        }
        assert_serves(&vault, "flipped");
    }
    flip(&path, 20, 1);
    assert_serves(&vault, "one slot flipped");
    for len in [0, 1, 4095, 4096, 8191] {
        cut(&path, len);
        assert_serves(&vault, "cut");
    }
    fs::remove_file(&path).expect("removed");
    assert_serves(&vault, "removed");
    fs::write(&path, vec![0xff; 1 << 20]).expect("stored");
    assert_serves(&vault, "replaced");
    fs::write(&path, old).expect("stored");
    assert_serves(&vault, "replayed");
}

#[test]
fn that_of_another_vault() {
    let [ours, theirs] = [vault(), vault()];
    // An unclean one would allow healing.
    let mount = theirs.mount();
    let unclean = fs::read(superblock(&theirs)).expect("stored");
    mount.umount();
    fs::write(superblock(&ours), unclean).expect("stored");
    assert_serves(&ours, "of another vault");
}
