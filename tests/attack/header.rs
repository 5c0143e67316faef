//! The volume header: what is damaged is made good by the second copy, what is changed is refused at unlock.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use wardfs::keys::header::UnlockError;
use wardfs::keys::secret::SlotSecret;
use wardfs::store::volume::{Locked, VolumeError};
use wardfs::sys::secret::SecretVec;

use crate::common::{PASSPHRASE, Ran, TempDir, Vault, run, wardfs};
use crate::lab::*;

const HEADER_DAMAGED: i32 = 5;
const WRONG_SECRET: i32 = 6;
const UNSUPPORTED: i32 = 15;
const TAMPERED: i32 = 16;

const CHECKSUM: usize = 32;
const FRAME: usize = 16;
const MIN_READER_AT: usize = 10;
const INCOMPATIBLE_AT: usize = FRAME;
const COMPATIBLE_AT: usize = FRAME + 8;
const LABEL_AT: usize = FRAME + 16 + 16;

fn copies(vault: &Vault) -> [PathBuf; 2] {
    ["volume", "volume.bak"].map(|name| vault.path().join("~wardfs").join(name))
}

fn header(vault: &Vault) -> Vec<u8> {
    fs::read(&copies(vault)[0]).expect("a vault has one")
}

fn put(vault: &Vault, bytes: &[u8]) {
    for copy in copies(vault) {
        fs::write(copy, bytes).expect("stored");
    }
}

/// With the length and checksum that belong to it, as an attacker writes it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - CHECKSUM);
    let length = (bytes.len() - FRAME) as u32;
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    let checksum = digest(&SHA256, &bytes);
    bytes.extend(checksum.as_ref());
    bytes
}

fn secret() -> SlotSecret {
    SlotSecret::new(Some(SecretVec::from(PASSPHRASE.as_bytes())), None).expect("a secret")
}

fn unlock(vault: &Vault) -> Result<bool, VolumeError> {
    let locked = Locked::open(&vault.path())?;
    locked.unlock(&secret())?;
    Ok(locked.used_backup())
}

fn mount(vault: &Vault) -> Ran {
    run(&mut vault.mount_command())
}

/// A vault with one file, `file`.
fn vault() -> Vault {
    prepared(&["--label", "CT 2"], |mount| {
        fs::write(mount.join("file"), content(1, 5000)).expect("written");
    })
}

#[track_caller]
fn assert_serves(vault: &Vault) {
    let mount = vault.mount();
    assert_eq!(read(&mount.join("file")), Ok(content(1, 5000)));
    mount.umount();
}

/// Where the first slot's cost parameters are: memory, time, lanes.
fn cost_at(header: &[u8]) -> usize {
    let wanted = [8192u32, 1, 1].map(u32::to_le_bytes);
    let mut found = header
        .windows(12)
        .enumerate()
        .filter(|(_, w)| *w == wanted.as_flattened());
    let (at, _) = found.next().expect("the cost of the tests");
    assert!(found.next().is_none());
    at
}

#[test]
fn every_flipped_byte_of_the_first_copy_is_made_good_by_the_second() {
    let vault = vault();
    let whole = header(&vault);
    let [first, second] = copies(&vault);
    for at in 0..whole.len() {
        flip(&first, at, 1 << (at % 8));
        assert!(matches!(unlock(&vault), Ok(true)), "byte {at}");
        flip(&first, at, 1 << (at % 8));
    }
    assert!(matches!(unlock(&vault), Ok(false)));
    for at in [0, 9, 13, 40, whole.len() - 1] {
        flip(&first, at, 4);
        let ran = mount(&vault);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(
            ran.stderr
                .contains("the first copy of the volume header is damaged"),
            "{ran:?}"
        );
        let mount = crate::common::Mount::adopt(&vault, vault.mountpoint());
        assert_eq!(read(&mount.join("file")), Ok(content(1, 5000)));
        mount.umount();
        assert_eq!(fs::read(&first).expect("healed"), whole, "byte {at}");
    }
    flip(&second, 50, 1);
    assert_serves(&vault);
    assert_eq!(fs::read(&second).expect("healed"), whole);
}

#[test]
fn a_read_only_mount_heals_nothing() {
    let vault = vault();
    let [first, _] = copies(&vault);
    flip(&first, 50, 1);
    let before = fs::read(&first).expect("stored");
    let mount = vault.mount_with(&["-o", "ro"]);
    assert_eq!(read(&mount.join("file")), Ok(content(1, 5000)));
    mount.umount();
    assert_eq!(fs::read(&first).expect("stored"), before);
}

#[test]
fn damage_to_both_copies_is_refused() {
    let vault = vault();
    let whole = header(&vault);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        put(&vault, &bytes);
        assert!(
            matches!(unlock(&vault), Err(VolumeError::HeaderDamaged(_))),
            "byte {at}"
        );
        if at % 97 == 0 {
            mount(&vault).refused(
                HEADER_DAMAGED,
                &["both copies of the volume header are damaged"],
            );
        }
    }
    for len in 0..whole.len() {
        put(&vault, &whole[..len]);
        assert!(
            matches!(unlock(&vault), Err(VolumeError::HeaderDamaged(_))),
            "{len} bytes"
        );
    }
    for len in [0, 7, 16, 100, whole.len() - 1] {
        put(&vault, &whole[..len]);
        mount(&vault).refused(HEADER_DAMAGED, &[]);
        let info = run(wardfs().arg("info").arg(vault.path()));
        assert_eq!(info.code, Some(HEADER_DAMAGED), "{info:?}");
    }
    put(&vault, &[&whole[..], &vec![0; 3 << 20]].concat());
    mount(&vault).refused(HEADER_DAMAGED, &[]);
    put(&vault, &whole);
    assert_serves(&vault);
}

/// Every byte that an attacker changes, with a right checksum. Nothing is served and nothing takes long.
#[test]
fn every_changed_byte_with_a_right_checksum_is_refused() {
    let vault = vault();
    let whole = header(&vault);
    let cost = cost_at(&whole);
    for at in 8..whole.len() - CHECKSUM {
        // A cost within the bounds is paid: these have a test of their own.
        if (cost..cost + 12).contains(&at) {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        put(&vault, &sealed(bytes));
        // `sealed` writes the true length again.
        if (12..16).contains(&at) {
            assert!(unlock(&vault).is_ok());
            continue;
        }
        assert!(unlock(&vault).is_err(), "byte {at}");
    }
    put(&vault, &whole);
    assert_serves(&vault);
}

#[test]
fn a_changed_label_is_tampering() {
    let vault = vault();
    let mut bytes = header(&vault);
    assert_eq!(&bytes[LABEL_AT + 8..LABEL_AT + 12], b"CT 2");
    bytes[LABEL_AT + 11] = b'3';
    put(&vault, &sealed(bytes));
    mount(&vault).refused(TAMPERED, &["changed by somebody without the key"]);
}

#[test]
fn changed_costs_are_refused_and_extreme_ones_before_they_are_paid() {
    let vault = vault();
    let whole = header(&vault);
    let cost = cost_at(&whole);
    let with = |parameters: [u32; 3]| {
        let mut bytes = whole.clone();
        bytes[cost..cost + 12].copy_from_slice(parameters.map(u32::to_le_bytes).as_flattened());
        put(&vault, &sealed(bytes));
        let begin = Instant::now();
        let ran = mount(&vault);
        assert!(
            begin.elapsed() < Duration::from_secs(3),
            "{parameters:?}: {:?}",
            begin.elapsed()
        );
        ran
    };
    for changed in [[8193, 1, 1], [16384, 1, 1], [8192, 2, 1], [8192, 1, 2]] {
        with(changed).refused(WRONG_SECRET, &[]);
    }
    let extreme = [
        [0, 1, 1],
        [8, 1, 1],
        [8191, 1, 1],
        [u32::MAX, 1, 1],
        [4 << 20, 64, 1],
        [(4 << 20) + 1, 1, 1],
        [8192, 0, 1],
        [8192, u32::MAX, 1],
        [8192, 1, 0],
        [8192, 1, u32::MAX],
    ];
    for parameters in extreme {
        with(parameters).refused(HEADER_DAMAGED, &[]);
    }
}

#[test]
fn unknown_features_and_later_formats_are_refused_by_name() {
    let vault = vault();
    let whole = header(&vault);
    let with = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[at] = value;
        put(&vault, &sealed(bytes));
        mount(&vault)
    };
    for at in INCOMPATIBLE_AT..INCOMPATIBLE_AT + 8 {
        with(at, 0x10).refused(UNSUPPORTED, &["features"]);
    }
    // Feature words that may be ignored are authenticated all the same.
    with(COMPATIBLE_AT, 1).refused(TAMPERED, &[]);
    let mut later = whole.clone();
    (later[8], later[MIN_READER_AT]) = (2, 2);
    put(&vault, &sealed(later));
    mount(&vault).refused(UNSUPPORTED, &["format 2"]);
    put(&vault, &whole);
    assert_serves(&vault);
}

/// With the slot of a vault he has the passphrase of, an attacker gets nowhere.
#[test]
fn slots_and_headers_of_another_vault_open_nothing() {
    let [ours, theirs] = [vault(), vault()];
    let known = ours.dir().file("known", "the attacker's own");
    run(wardfs()
        .arg("passwd")
        .arg(theirs.path())
        .arg("--passphrase-file")
        .arg(theirs.passphrase_file())
        .arg("--new-passphrase-file")
        .arg(&known)
        .args(crate::common::CHEAP_KDF))
    .ok();
    let (our_header, their_header) = (header(&ours), header(&theirs));
    assert_eq!(our_header.len(), their_header.len());
    // Everything of a slot that is its own lies between its costs and the keyring.
    let slot = cost_at(&our_header)..cost_at(&our_header) + 12 + 32 + 32 + 24 + 48;
    let mut mixed = our_header.clone();
    mixed[slot.clone()].copy_from_slice(&their_header[slot]);
    put(&ours, &sealed(mixed));
    mount(&ours).refused(WRONG_SECRET, &[]);
    let with_known = |vault: &Vault| {
        let mut command = wardfs();
        command
            .arg("mount")
            .arg(vault.path())
            .arg(vault.mountpoint());
        command.arg("--passphrase-file").arg(&known);
        run(&mut command)
    };
    with_known(&ours).refused(TAMPERED, &[]);
    // A whole header opens, and then there is nothing that its keys open.
    put(&ours, &their_header);
    assert_eq!(with_known(&ours).code, Some(0));
    let mount = crate::common::Mount::adopt(&ours, ours.mountpoint());
    assert_eq!(listed(mount.path()), Err(libc::EIO));
    assert_eq!(read(&mount.join("file")), Err(libc::EIO));
    assert_eq!(
        fs::write(mount.join("new"), "x").map_err(|e| errno(&e)),
        Err(libc::EIO)
    );
    mount.umount();
    put(&ours, &our_header);
    assert_serves(&ours);
}

#[test]
fn something_else_in_place_of_a_copy() {
    use std::os::unix::fs::symlink;
    let outside = TempDir::new();
    let victim = outside.file("victim", "precious");
    for kind in ["symlink", "fifo", "directory", "missing"] {
        let vault = vault();
        let whole = header(&vault);
        let [first, _] = copies(&vault);
        fs::remove_file(&first).expect("removed");
        match kind {
            "symlink" => symlink(&victim, &first).expect("made"),
            "fifo" => {
                rustix::fs::mkfifoat(rustix::fs::CWD, &first, rustix::fs::Mode::RUSR).expect("made")
            }
            "directory" => fs::create_dir(&first).expect("made"),
            _ => {}
        }
        if kind == "directory" {
            let mount = vault.mount_with(&["-o", "ro"]);
            assert_eq!(read(&mount.join("file")), Ok(content(1, 5000)));
            mount.umount();
            continue;
        }
        assert_serves(&vault);
        assert_eq!(fs::read(&first).expect("healed"), whole, "{kind}");
        assert!(
            fs::symlink_metadata(&first).expect("healed").is_file(),
            "{kind}"
        );
    }
    assert_eq!(fs::read_to_string(victim).expect("there"), "precious");
}

#[test]
fn a_wrong_secret_error_is_told_from_tampering() {
    let vault = vault();
    let wrong = SlotSecret::new(Some(SecretVec::from(&b"wrong"[..])), None).expect("a secret");
    let unlocked = Locked::open(&vault.path()).expect("whole").unlock(&wrong);
    assert!(matches!(
        unlocked,
        Err(VolumeError::Unlock(UnlockError::WrongSecret))
    ));
}
