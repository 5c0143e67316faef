//! Key slots: an attacker moves, weakens, renames and replays them, and gets in with none.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use wardfs::format::slot::{Argon2Params, Kdf, Slot, SlotKind};
use wardfs::format::volume::VolumeHeader;

use crate::common::{CHEAP_KDF, PASSPHRASE, Ran, Vault, run, wardfs};

const WRONG_SECRET: i32 = 6;
const TAMPERED: i32 = 16;

fn copies(vault: &Vault) -> [PathBuf; 2] {
    ["volume", "volume.bak"].map(|name| vault.path().join("~wardfs").join(name))
}

fn header(vault: &Vault) -> VolumeHeader {
    let bytes = fs::read(&copies(vault)[0]).expect("a vault has one");
    VolumeHeader::decode(&bytes).expect("whole")
}

/// With a right checksum, as an attacker writes it.
fn put(vault: &Vault, header: &VolumeHeader) {
    for copy in copies(vault) {
        fs::write(copy, header.encode()).expect("stored");
    }
}

fn key(vault: &Vault, verb: &str) -> std::process::Command {
    let mut command = wardfs();
    command.args(["key", verb]).arg(vault.path());
    command
}

fn test(vault: &Vault, file: PathBuf) -> Ran {
    run(key(vault, "test").arg("--passphrase-file").arg(file))
}

fn opens(vault: &Vault) -> Ran {
    test(vault, vault.passphrase_file())
}

/// A slot that the attacker can open, in a vault of his own.
fn his_slot(passphrase: &str) -> (Vault, Slot) {
    let his = Vault::unmade(passphrase);
    his.init(&[]);
    let slot = header(&his).slots[0].clone();
    (his, slot)
}

#[test]
fn a_slot_of_another_vault_opens_nothing() {
    let vault = Vault::new();
    let (his, slot) = his_slot("the attacker's own");
    let mut changed = header(&vault);
    changed.slots.push(Slot { id: 1, ..slot });
    put(&vault, &changed);
    test(&vault, his.passphrase_file()).refused(TAMPERED, &[]);
    opens(&vault).refused(TAMPERED, &["changed by somebody without the key"]);
}

#[test]
fn slots_exchanged_within_a_vault_are_noticed() {
    let vault = Vault::new();
    let second = vault.dir().file("second", "another one");
    let mut add = key(&vault, "add");
    add.arg("--passphrase-file").arg(vault.passphrase_file());
    run(add
        .arg("--new-passphrase-file")
        .arg(&second)
        .args(CHEAP_KDF))
    .ok();
    let whole = header(&vault);
    let mut changed = whole.clone();
    changed.slots.swap(0, 1);
    put(&vault, &changed);
    opens(&vault).refused(TAMPERED, &[]);
    let mut changed = whole.clone();
    (changed.slots[0].id, changed.slots[1].id) = (1, 0);
    put(&vault, &changed);
    test(&vault, second.clone()).refused(TAMPERED, &[]);
    put(&vault, &whole);
    opens(&vault).ok();
    test(&vault, second).ok();
}

#[test]
fn lowered_parameters_lead_nowhere() {
    let vault = Vault::unmade(PASSPHRASE);
    let mut init = wardfs();
    init.arg("init")
        .arg(vault.path())
        .arg("--passphrase-file")
        .arg(vault.passphrase_file());
    run(init.args([
        "--kdf-memory",
        "16M",
        "--kdf-time",
        "2",
        "--kdf-parallel",
        "1",
        "--force",
    ]))
    .ok();
    let whole = header(&vault);
    let lowered = [
        Kdf::Argon2id(Argon2Params {
            memory_kib: 8192,
            time: 2,
            lanes: 1,
        }),
        Kdf::Argon2id(Argon2Params {
            memory_kib: 16384,
            time: 1,
            lanes: 1,
        }),
        Kdf::HkdfSha256,
    ];
    for kdf in lowered {
        let mut changed = whole.clone();
        changed.slots[0].kdf = kdf;
        put(&vault, &changed);
        opens(&vault).refused(WRONG_SECRET, &[]);
    }
    put(&vault, &whole);
    opens(&vault).ok();
}

#[test]
fn a_hostile_cost_is_refused_before_it_is_paid() {
    let vault = Vault::new();
    let whole = header(&vault);
    let most = Kdf::Argon2id(Argon2Params {
        memory_kib: 4 << 20,
        time: 4,
        lanes: 1,
    });
    let mut changed = whole.clone();
    let costly = Slot {
        kdf: most,
        ..whole.slots[0].clone()
    };
    changed.slots = (0..64)
        .map(|id| Slot {
            id,
            ..costly.clone()
        })
        .collect();
    put(&vault, &changed);
    let begin = Instant::now();
    opens(&vault).refused(
        18,
        &["more time than an unverified header may ask for", "--slot"],
    );
    assert!(
        begin.elapsed() < Duration::from_secs(3),
        "{:?}",
        begin.elapsed()
    );
    // Slots of machines too.
    let data = b"\x05\x00\x01\x09\x00/bin/true".to_vec();
    for slot in &mut changed.slots {
        (slot.kind, slot.data) = (SlotKind::Command, data.clone());
    }
    put(&vault, &changed);
    run(key(&vault, "test").args(["--key-command", "/bin/true"])).refused(18, &["--slot"]);
}

/// Nothing in the vault says that a header is old: that is what a signed manifest is for.
#[test]
fn an_old_header_opens_with_its_old_secrets_and_serves_the_same_files() {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::write(mount.join("file"), "content").expect("written");
    mount.umount();
    let old = header(&vault);
    let new = vault.dir().file("new", "a new one");
    let mut change = key(&vault, "change");
    change.arg("--passphrase-file").arg(vault.passphrase_file());
    run(change
        .arg("--new-passphrase-file")
        .arg(&new)
        .args(CHEAP_KDF))
    .ok();
    opens(&vault).refused(WRONG_SECRET, &[]);
    let current = header(&vault);
    // A part of the old header beside the new one is no header.
    let mut mixed = current.clone();
    mixed.slots = old.slots.clone();
    put(&vault, &mixed);
    opens(&vault).refused(TAMPERED, &[]);
    put(&vault, &old);
    test(&vault, new).refused(WRONG_SECRET, &[]);
    let mount = vault.mount();
    assert_eq!(
        fs::read_to_string(mount.join("file")).expect("readable"),
        "content"
    );
    mount.umount();
}

/// Somebody who knows two passphrases cannot make a slot that opens with both: it is committed to one root.
#[test]
fn a_slot_is_committed_to_one_secret() {
    let (first, second) = (his_slot("one"), his_slot("two"));
    let (vault, ours) = (&first.0, &first.1);
    let whole = header(vault);
    let theirs = &second.1;
    let parts: [fn(&mut Slot, &Slot); 5] = [
        |s, t| s.commitment = t.commitment,
        |s, t| (s.commitment, s.salt) = (t.commitment, t.salt),
        |s, t| (s.sealed, s.nonce) = (t.sealed, t.nonce),
        |s, t| (s.commitment, s.salt, s.nonce) = (t.commitment, t.salt, t.nonce),
        |s, t| (s.sealed, s.nonce, s.salt) = (t.sealed, t.nonce, t.salt),
    ];
    for (index, mix) in parts.into_iter().enumerate() {
        let mut slot = ours.clone();
        mix(&mut slot, theirs);
        let mut changed = whole.clone();
        changed.slots[0] = slot;
        put(vault, &changed);
        for file in [vault.passphrase_file(), second.0.passphrase_file()] {
            let ran = test(vault, file);
            assert!(
                matches!(ran.code, Some(WRONG_SECRET | TAMPERED)),
                "{index}: {ran:?}"
            );
        }
    }
}

#[test]
fn what_a_slot_keeps_and_what_is_said_of_it_is_authenticated() {
    let vault = Vault::new();
    let mut add = key(&vault, "add");
    add.arg("--passphrase-file")
        .arg(vault.passphrase_file())
        .args(CHEAP_KDF);
    run(add.args(["--new-key-command", "/bin/echo x", "--owner", "Bo"])).ok();
    let mut remove = key(&vault, "acknowledge");
    run(remove.arg("--passphrase-file").arg(vault.passphrase_file())).ok();
    let whole = header(&vault);
    type Change = fn(&mut VolumeHeader);
    let changes: [(&str, Change); 6] = [
        ("owner", |h| h.slots[1].owner = "Eve".into()),
        ("expiry", |h| h.slots[0].expires = Some(1)),
        ("changed", |h| h.slots[0].changed += 1),
        ("removed", |h| drop(h.slots.pop())),
        ("record", |h| h.extensions[0].data[0] ^= 1),
        ("record removed", |h| h.extensions.clear()),
    ];
    for (what, change) in changes {
        let mut changed = whole.clone();
        change(&mut changed);
        put(&vault, &changed);
        let ran = opens(&vault);
        assert_eq!(ran.code, Some(TAMPERED), "{what}: {ran:?}");
    }
    // Another command is not run, and the one that was meant is not the slot's any more.
    let mut changed = whole.clone();
    changed.slots[1].data = b"\x3c\x00\x02\x09\x00/bin/echo\x01\x00y".to_vec();
    put(&vault, &changed);
    let named = |command: &str| run(key(&vault, "test").args(["--key-command", command]));
    named("/bin/echo x").refused(12, &["nobody on this machine has allowed"]);
    named("/bin/echo y").refused(WRONG_SECRET, &[]);
    put(&vault, &whole);
    named("/bin/echo x").ok();
}

#[test]
fn random_bytes_in_place_of_slots_are_damage() {
    let vault = Vault::new();
    let bytes = fs::read(&copies(&vault)[0]).expect("there");
    for seed in 0..50u8 {
        let mut changed = bytes.clone();
        let noise = digest(&SHA256, &[seed]);
        let at = 100 + usize::from(seed);
        changed[at..at + 32].copy_from_slice(noise.as_ref());
        let length = changed.len() - 32;
        let checksum = digest(&SHA256, &changed[..length]);
        changed[length..].copy_from_slice(checksum.as_ref());
        for copy in copies(&vault) {
            fs::write(copy, &changed).expect("stored");
        }
        let ran = opens(&vault);
        assert!(matches!(ran.code, Some(5..=7 | 16 | 18)), "{seed}: {ran:?}");
    }
}
