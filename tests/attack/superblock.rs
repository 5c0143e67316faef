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

/// Read-only and not, and what the second mount wrote is there in the next one.
#[track_caller]
fn assert_serves(vault: &Vault, attack: &str) {
    for options in [&["-o", "ro"][..], &[]] {
        let mount = vault.mount_with(options);
        assert_eq!(read(&mount.join("file")), Ok(content(1, 5000)), "{attack}");
        assert_refused(&mount.join("emptied"), attack);
        let last = fs::read_to_string(mount.join("last"));
        assert_eq!(
            last.as_deref().ok(),
            fs::read_to_string(vault.dir().join("last")).as_deref().ok()
        );
        if options.is_empty() {
            fs::write(mount.join("last"), attack).expect("written");
            fs::write(vault.dir().join("last"), attack).expect("written");
        }
        mount.umount();
    }
}

#[test]
fn damaged_missing_or_replayed() {
    let vault = vault();
    let path = superblock(&vault);
    let old = fs::read(&path).expect("stored");
    for at in [0, 10, 16, 24, 4095] {
        for slot in [0, 4096] {
            flip(&path, slot + at, 1);
        }
        assert_serves(&vault, &format!("flipped {at}"));
    }
    flip(&path, 20, 1);
    assert_serves(&vault, "one slot flipped");
    for len in [0, 4095, 4096, 8191] {
        cut(&path, len);
        assert_serves(&vault, &format!("cut {len}"));
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
