//! A header of an earlier moment of a rotation, put back while the vault is not mounted. It is authentic, so nothing but
//! the keys it lacks gives it away.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use wardfs::crypto::VolumeKey;
use wardfs::format::rotation_record::RotationRecord;
use wardfs::format::volume::VolumeHeader;
use wardfs::keys::header::{UnlockError, unlock};
use wardfs::keys::rotation::{self, Hands, RotationError};
use wardfs::keys::secret::SlotSecret;
use wardfs::store::volume::{Locked, VolumeError};
use wardfs::sys::secret::SecretVec;

use crate::common::{PASSPHRASE, Vault, run, wait_until, wardfs};
use crate::lab::{
    bytes, close, content_files, epochs_in_use, epochs_of, is_clean, keyring, rotate, rotated,
};

fn copies(vault: &Vault) -> [PathBuf; 2] {
    ["volume", "volume.bak"].map(|name| vault.path().join("~wardfs").join(name))
}

fn header(vault: &Vault) -> Vec<u8> {
    fs::read(&copies(vault)[0]).expect("a vault has one")
}

fn put(vault: &Vault, header: &[u8]) {
    for copy in copies(vault) {
        fs::write(copy, header).expect("stored");
    }
}

/// Changes the header as somebody with the passphrase does, and answers its bytes.
fn change(
    vault: &Vault,
    change: impl FnOnce(&mut VolumeHeader, &VolumeKey) -> Result<(), RotationError>,
) -> Vec<u8> {
    let mut locked = Locked::open(&vault.path()).expect("a vault");
    let passphrase = Some(SecretVec::from(PASSPHRASE.as_bytes()));
    let secret = SlotSecret::new(passphrase, None).expect("not empty");
    let (key, _) = unlock(locked.header(), &secret).expect("right");
    let changed = locked.update(&vault.path(), &key, |header| {
        change(header, &key).map_err(|_| VolumeError::Unlock(UnlockError::Tampered))
    });
    changed.expect("it can be changed");
    header(vault)
}

fn begin(vault: &Vault, hands: Hands) -> Vec<u8> {
    change(vault, |header, key| {
        rotation::begin(header, key, hands).map(drop)
    })
}

/// A vault with `old` and `other`, and its header.
fn vault() -> (Vault, Vec<u8>) {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::write(mount.join("old"), bytes(1, 100_000)).expect("written");
    fs::write(mount.join("other"), bytes(2, 20_000)).expect("written");
    close(mount);
    let header = header(&vault);
    (vault, header)
}

/// Overwrites the middle of `old`, and makes `new`, both synced. Answers what `old` holds then.
fn write_some(mount: &crate::common::Mount<'_>) -> Vec<u8> {
    let mut old = bytes(1, 100_000);
    old[9000..19_000].copy_from_slice(&bytes(3, 10_000));
    let file = fs::File::options().write(true).open(mount.join("old"));
    let file = file.expect("there");
    file.write_all_at(&old[9000..19_000], 9000)
        .expect("written");
    file.sync_all().expect("synced");
    let new = fs::File::create(mount.join("new")).expect("made");
    new.write_all_at(&bytes(4, 50_000), 0).expect("written");
    new.sync_all().expect("synced");
    old
}

/// All there is of the tree, as stored.
fn stored(vault: &Vault) -> Vec<(PathBuf, Vec<u8>)> {
    let files = content_files(&vault.path()).into_iter();
    files
        .map(|path| (path.clone(), fs::read(path).expect("readable")))
        .collect()
}

/// The rotation is finished, and everything reads.
#[track_caller]
fn ends_whole(vault: &Vault, files: &[(&str, &[u8])]) {
    rotated(vault);
    assert_eq!(epochs_in_use(vault), [1].into());
    assert_eq!(keyring(vault).0, [1]);
    is_clean(vault);
    reads(vault, files);
}

#[track_caller]
fn reads(vault: &Vault, files: &[(&str, &[u8])]) {
    let mount = vault.mount();
    for (name, content) in files {
        let read = fs::read(mount.join(name)).expect("readable");
        assert!(read == *content, "{name}");
    }
    close(mount);
}

/// What was synced under the new key is in the journal, or at the end of a file that a crash may have torn: with a header
/// that lacks this key it would be taken for damage, and be given up.
#[test]
fn over_a_vault_that_was_not_closed_in_order_it_is_refused_and_nothing_is_lost() {
    let (vault, before) = vault();
    let under_way = begin(&vault, Hands::Own);
    let mount = vault.mount();
    let old = write_some(&mount);
    mount.kill();
    let was = stored(&vault);
    put(&vault, &before);
    let words = [
        "nothing is lost",
        "a content key that the volume header does not have",
        "wardfs header restore",
    ];
    run(&mut vault.mount_command()).refused(1, &words);
    run(&mut rotate(&vault)).refused(1, &words);
    assert!(stored(&vault) == was, "something was written");
    let mount = vault.mount_with(&["-o", "ro"]);
    assert_eq!(
        fs::read(mount.join("other")).expect("readable"),
        bytes(2, 20_000)
    );
    close(mount);
    put(&vault, &under_way);
    let (new, other) = (bytes(4, 50_000), bytes(2, 20_000));
    let files = [("old", &old[..]), ("new", &new), ("other", &other)];
    reads(&vault, &files);
    ends_whole(&vault, &files);
}

/// Nothing was torn, so nothing needs mending. What the header has no key for is not read, and not written to.
#[test]
fn over_a_vault_that_was_closed_in_order_it_reads_less_and_harms_nothing() {
    let (vault, before) = vault();
    let under_way = begin(&vault, Hands::Own);
    let mount = vault.mount();
    let old = write_some(&mount);
    close(mount);
    let known = content_files(&vault.path());
    let was = stored(&vault);
    put(&vault, &before);
    let mut check = wardfs();
    check.arg("check").arg(vault.path());
    check.arg("--passphrase-file").arg(vault.passphrase_file());
    let ran = run(&mut check);
    assert_eq!(ran.code, Some(27), "{ran:?}");
    for words in [
        "a content key that the volume header does not have",
        "wardfs header restore",
    ] {
        assert!(ran.stdout.contains(words), "{ran:?}");
    }
    let mount = vault.mount();
    assert_eq!(
        fs::read(mount.join("other")).expect("readable"),
        bytes(2, 20_000)
    );
    for name in ["old", "new"] {
        let read = fs::read(mount.join(name)).map_err(|e| e.raw_os_error());
        assert_eq!(read, Err(Some(libc::EIO)), "{name}");
    }
    let file = fs::File::options().write(true).open(mount.join("old"));
    let into = file.and_then(|file| {
        file.write_all_at(b"x", 10_000)
            .and_then(|()| file.sync_all())
    });
    assert!(into.is_err(), "written into what cannot be read");
    fs::write(mount.join("meanwhile"), bytes(5, 9000)).expect("written");
    close(mount);
    assert!(
        stored(&vault)
            .iter()
            .filter(|(path, _)| known.contains(path))
            .eq(&was),
        "something was written"
    );
    let made: Vec<PathBuf> = content_files(&vault.path())
        .into_iter()
        .filter(|path| !known.contains(path))
        .collect();
    assert_eq!(made.len(), 1);
    assert_eq!(epochs_of(&vault, &keyring(&vault).1, &made), [0].into());
    put(&vault, &under_way);
    let [new, other, meanwhile] = [(4, 50_000), (2, 20_000), (5, 9000)].map(|(s, n)| bytes(s, n));
    let files = [
        ("old", &old[..]),
        ("new", &new),
        ("other", &other),
        ("meanwhile", &meanwhile),
    ];
    reads(&vault, &files);
    ends_whole(&vault, &files);
}

/// A rotation that begins from an older header has another key of the same number; the older one is not taken for it.
#[test]
fn a_rotation_that_begins_from_it_keeps_every_key_and_names_what_it_lacks() {
    let (vault, before) = vault();
    let under_way = begin(&vault, Hands::Own);
    let mount = vault.mount();
    let old = write_some(&mount);
    close(mount);
    put(&vault, &before);
    let ran = run(&mut rotate(&vault));
    assert_eq!(ran.code, Some(27), "{ran:?}");
    assert!(
        ran.stdout.contains("The old content key is kept"),
        "{ran:?}"
    );
    assert_eq!(keyring(&vault).0, [0, 1]);
    // The newer header is not put over this one without a word: it lacks the key that was made meanwhile.
    let backup = vault.dir().file("backup", &under_way);
    let mut restore = wardfs();
    restore
        .args(["header", "restore", "--yes"])
        .arg(vault.path());
    restore.arg(&backup);
    restore
        .arg("--passphrase-file")
        .arg(vault.passphrase_file());
    run(&mut restore).refused(1, &["content keys were added since", "--force"]);
    let mount = vault.mount();
    assert_eq!(
        fs::read(mount.join("other")).expect("readable"),
        bytes(2, 20_000)
    );
    close(mount);
    put(&vault, &under_way);
    let new = bytes(4, 50_000);
    reads(&vault, &[("old", &old), ("new", &new)]);
}

/// The record of the rotation goes back with the header: it is paused again, or goes on again, and ends whole.
#[test]
fn one_of_the_same_rotation_only_asks_for_what_was_asked_before() {
    let (vault, _) = vault();
    let running = begin(&vault, Hands::Daemon(None));
    let paused = change(&vault, |header, key| rotation::pause(header, key).map(drop));
    let (old, other) = (bytes(1, 100_000), bytes(2, 20_000));
    let files = [("old", &old[..]), ("other", &other)];
    let copy = Vault::copy_of(&vault.path(), PASSPHRASE);
    put(&copy, &running);
    let mount = copy.mount();
    wait_until("the daemon is through", || keyring(&copy).0 == [1]);
    close(mount);
    // Behind the end of the rotation too, with both keys.
    put(&copy, &paused);
    reads(&copy, &files);
    assert_eq!(keyring(&copy).0, [0, 1]);
    ends_whole(&copy, &files);
    put(&copy, &running);
    let mount = copy.mount();
    wait_until("the daemon is through again", || keyring(&copy).0 == [1]);
    close(mount);
    assert_eq!(epochs_in_use(&copy), [1].into());
    is_clean(&copy);
    reads(&copy, &files);
    put(&vault, &running);
    put(&vault, &paused);
    reads(&vault, &files);
    assert_eq!(keyring(&vault).0, [0, 1]);
    ends_whole(&vault, &files);
}

#[test]
fn its_record_alone_in_the_header_of_today_is_refused() {
    let (vault, _) = vault();
    let decoded = |bytes: &[u8]| VolumeHeader::decode(bytes).expect("whole");
    let running = decoded(&begin(&vault, Hands::Daemon(Some(1))));
    let today = change(&vault, |header, key| rotation::pause(header, key).map(drop));
    let older = RotationRecord::of(&running).expect("written");
    assert_ne!(
        older,
        RotationRecord::of(&decoded(&today)).expect("written")
    );
    for record in [older, None] {
        let mut spliced = decoded(&today);
        RotationRecord::put(record, &mut spliced);
        put(&vault, &spliced.encode());
        let words = [
            "changed by somebody without the key",
            "wardfs header restore",
        ];
        run(&mut vault.mount_command()).refused(16, &words);
        run(&mut rotate(&vault)).refused(16, &words);
        run(rotate(&vault).arg("--pause")).refused(16, &words);
    }
    put(&vault, &today);
    let (old, other) = (bytes(1, 100_000), bytes(2, 20_000));
    ends_whole(&vault, &[("old", &old), ("other", &other)]);
}
