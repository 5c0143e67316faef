//! The volume header and its keys: making one and unlocking it. Slots are changed in [`crate::keys::slots`].

use std::time::SystemTime;

use crate::crypto::{Cipher, Epoch, HeaderKey, VolumeId, VolumeKey, VolumeKeys, nonce, rand};
use crate::format::FormatError;
use crate::format::file::TAG_LEN;
use crate::format::keyring::{ContentRoot, Keyring};
use crate::format::slot::{Argon2Params, Kdf, Slot, SlotKind};
use crate::format::volume::{FORMAT_VERSION, INCOMPATIBLE_TREE_ROOTS, SealedKeyring, VolumeHeader};
use crate::keys::kdf::KdfError;
use crate::keys::secret::SlotSecret;
use crate::keys::slot::{NewSlot, SlotError, open_slot, seal_slot};
use crate::sys::secret::{SecretBytes, SecretVec};

/// All slots that one secret is tried on may cost so much together, 128 GiB of memory times passes: a few minutes. A header
/// is hostile until it is unlocked, and has up to 64 slots.
pub const MAX_UNLOCK_WORK_KIB: u64 = 8 * Argon2Params::MAX_WORK_KIB;

/// What a new volume is to be.
#[derive(Debug, Clone)]
pub struct NewVolume {
    pub cipher: Cipher,
    pub log2_chunk: u8,
    pub label: String,
    pub kdf: Argon2Params,
    /// Feature bits.
    pub incompatible: u64,
}

/// Why a volume is not unlocked, or its header not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlockError {
    /// No slot opens with this secret.
    WrongSecret,
    /// No slot is for a secret of this kind.
    NoSlotFor(SlotKind),
    /// The slot that was named does not exist.
    NoSuchSlot(u32),
    /// Trying all slots would take longer than anybody should wait for a header that is not verified.
    TooCostly,
    /// The header, a slot or the keyring was changed by somebody without the key.
    Tampered,
    /// The key cannot be derived on this machine.
    Kdf(KdfError),
    /// The header that was asked for is not a valid one.
    Invalid(FormatError),
}

impl std::fmt::Display for UnlockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WrongSecret => f.write_str("no key slot opens with this secret"),
            Self::NoSlotFor(kind) => write!(f, "no key slot opens with a {kind}"),
            Self::NoSuchSlot(id) => write!(f, "there is no key slot {id}"),
            Self::TooCostly => f.write_str(
                "trying all key slots would take more time than an unverified header may ask for",
            ),
            Self::Tampered => {
                f.write_str("the volume header was changed by somebody without the key")
            }
            Self::Kdf(e) => e.fmt(f),
            Self::Invalid(e) => write!(f, "the volume header would not be valid: {e}"),
        }
    }
}

impl std::error::Error for UnlockError {}

/// A new volume key, its header with one slot, and the keys of the volume.
///
/// # Errors
/// [`UnlockError::Kdf`], or [`UnlockError::Invalid`] for a label that is too long.
pub fn create(
    new: &NewVolume,
    secret: &SlotSecret,
) -> Result<(VolumeHeader, VolumeKeys), UnlockError> {
    let created = now();
    let mut header = VolumeHeader {
        version: FORMAT_VERSION,
        min_reader: FORMAT_VERSION,
        incompatible: new.incompatible,
        compatible: 0,
        uuid: VolumeId::random(rand::array()),
        label: new.label.clone(),
        created,
        cipher: new.cipher,
        log2_chunk: new.log2_chunk,
        slots: Vec::new(),
        keyring: SealedKeyring {
            nonce: [0; 24],
            sealed: Vec::new(),
        },
        extensions: Vec::new(),
        mac: [0; 32],
    };
    // The label is refused here, before the slow part.
    header.check().map_err(UnlockError::Invalid)?;
    let key = VolumeKey::generate();
    let keyring = Keyring {
        current: Epoch(0),
        roots: vec![new_content_root(Epoch(0))],
        tree: None,
    };
    seal_keyring(&mut header, &key, &keyring);
    let slot = NewSlot {
        volume: header.uuid,
        id: 0,
        label: String::new(),
        owner: String::new(),
        created,
        changed: created,
        expires: None,
        kdf: Kdf::Argon2id(new.kdf),
        data: Vec::new(),
    };
    header.slots = vec![seal_slot(slot, secret, &key).map_err(UnlockError::Kdf)?];
    remac(&mut header, &key);
    Ok((header, VolumeKeys::new(&key, keyring)))
}

/// What a secret gave.
#[derive(Debug)]
pub struct Opened {
    /// The id of the slot that opened.
    pub slot: u32,
    pub key: VolumeKey,
    pub keys: VolumeKeys,
    /// When the current content epoch began, seconds since 1970.
    pub epoch_created: i64,
}

/// The keys of a volume, from any slot that this secret may open.
///
/// # Errors
/// [`UnlockError`].
pub fn unlock(
    header: &VolumeHeader,
    secret: &SlotSecret,
) -> Result<(VolumeKey, VolumeKeys), UnlockError> {
    open(header, None, secret).map(|opened| (opened.key, opened.keys))
}

/// The keys of a volume, from one slot or from any. The MAC of the header is checked as soon as a slot has opened, and
/// only then anything else of it is used.
///
/// # Errors
/// [`UnlockError`]. A wrong secret takes as long whichever slots there are: all for its kind have been tried.
pub fn open(
    header: &VolumeHeader,
    slot: Option<u32>,
    secret: &SlotSecret,
) -> Result<Opened, UnlockError> {
    let (slot, key) = open_slot_of(header, slot, secret)?;
    let keyring = open_keyring(header, &key)?;
    let current = keyring.root(keyring.current);
    let epoch_created = current.map_or(header.created, |root| root.created);
    let keys = VolumeKeys::new(&key, keyring);
    Ok(Opened {
        slot,
        key,
        keys,
        epoch_created,
    })
}

/// The content epochs of a header and when each began.
///
/// # Errors
/// [`UnlockError::Tampered`] if the key is not its own.
pub fn epochs(header: &VolumeHeader, key: &VolumeKey) -> Result<Vec<(Epoch, i64)>, UnlockError> {
    if !header.mac_matches(&key.header_mac_key()) {
        return Err(UnlockError::Tampered);
    }
    let keyring = open_keyring(header, key)?;
    Ok(keyring.roots.iter().map(|r| (r.epoch, r.created)).collect())
}

/// How many content keys of `newer` are not in `header`: their numbers alone do not tell, these come again.
///
/// # Errors
/// [`UnlockError::Tampered`] if the key is not that of both.
pub fn lacking(
    header: &VolumeHeader,
    newer: &VolumeHeader,
    key: &VolumeKey,
) -> Result<usize, UnlockError> {
    let mac_key = key.header_mac_key();
    if !header.mac_matches(&mac_key) || !newer.mac_matches(&mac_key) {
        return Err(UnlockError::Tampered);
    }
    let (has, needed) = (open_keyring(header, key)?, open_keyring(newer, key)?);
    let is_there = |wanted: &&ContentRoot| {
        let own = has.root(wanted.epoch);
        own.is_some_and(|own| own.root.ct_eq(wanted.root.as_bytes()))
    };
    Ok(needed.roots.len() - needed.roots.iter().filter(is_there).count())
}

/// Authenticates the header as it is now.
pub fn remac(header: &mut VolumeHeader, key: &impl HeaderKey) {
    header.mac = header.compute_mac(&key.header_mac_key());
}

/// Puts `keyring` into the header; [`remac`] has to follow.
pub fn seal_keyring(header: &mut VolumeHeader, key: &impl HeaderKey, keyring: &Keyring) {
    if keyring.tree.is_some() {
        header.incompatible |= INCOMPATIBLE_TREE_ROOTS;
    }
    let plain = keyring.encode();
    let nonce = nonce::random();
    let mut sealed = vec![0; plain.len()];
    let aad = header.keyring_aad();
    let tag = key
        .keyring_key()
        .seal(&nonce, &aad, plain.as_bytes(), &mut sealed);
    sealed.extend(tag);
    header.keyring = SealedKeyring { nonce, sealed };
}

/// A random content root for a new epoch.
pub fn new_content_root(epoch: Epoch) -> ContentRoot {
    ContentRoot {
        epoch,
        created: now(),
        root: SecretBytes::filled_by(|bytes| rand::fill(bytes)),
    }
}

/// The slot that opens and the key in it, which also verifies the whole header.
fn open_slot_of(
    header: &VolumeHeader,
    wanted: Option<u32>,
    secret: &SlotSecret,
) -> Result<(u32, VolumeKey), UnlockError> {
    let candidates: Vec<&Slot> = match wanted {
        None => header
            .slots
            .iter()
            .filter(|s| s.kind == secret.kind())
            .collect(),
        Some(id) => {
            let named = header.slots.iter().find(|slot| slot.id == id);
            vec![named.ok_or(UnlockError::NoSuchSlot(id))?]
        }
    };
    affordable(candidates.iter().copied())?;
    let mut failure = UnlockError::NoSlotFor(secret.kind());
    for slot in candidates {
        match open_slot(slot, &header.uuid, secret) {
            Ok(key) if header.mac_matches(&key.header_mac_key()) => return Ok((slot.id, key)),
            Ok(_) | Err(SlotError::Tampered) => return Err(UnlockError::Tampered),
            // What could not be tried says more than what did not match.
            Err(SlotError::Kdf(e)) => failure = UnlockError::Kdf(e),
            Err(SlotError::WrongSecret) if matches!(failure, UnlockError::Kdf(_)) => {}
            Err(SlotError::WrongSecret) => failure = UnlockError::WrongSecret,
        }
    }
    Err(failure)
}

/// That trying all of these takes no longer than somebody should wait for a header that is not verified.
///
/// # Errors
/// [`UnlockError::TooCostly`].
pub fn affordable<'a>(slots: impl Iterator<Item = &'a Slot>) -> Result<(), UnlockError> {
    if slots.map(work_kib).sum::<u64>() > MAX_UNLOCK_WORK_KIB {
        return Err(UnlockError::TooCostly);
    }
    Ok(())
}

/// Memory times passes.
fn work_kib(slot: &Slot) -> u64 {
    match slot.kdf {
        Kdf::Argon2id(cost) => u64::from(cost.memory_kib) * u64::from(cost.time),
        Kdf::HkdfSha256 => 0,
    }
}

pub(super) fn open_keyring(
    header: &VolumeHeader,
    key: &impl HeaderKey,
) -> Result<Keyring, UnlockError> {
    let sealed = &header.keyring.sealed;
    let (sealed, tag) = sealed
        .split_last_chunk::<TAG_LEN>()
        .ok_or(UnlockError::Tampered)?;
    let mut plain = SecretVec::with_capacity(sealed.len());
    plain.resize(sealed.len());
    let (nonce, aad) = (&header.keyring.nonce, header.keyring_aad());
    key.keyring_key()
        .open(nonce, &aad, sealed, tag, plain.as_mut_bytes())
        .map_err(|_| UnlockError::Tampered)?;
    let keyring = Keyring::decode(plain.as_bytes()).map_err(|_| UnlockError::Tampered)?;
    let told = header.incompatible & INCOMPATIBLE_TREE_ROOTS != 0;
    match keyring.tree.is_some() == told {
        true => Ok(keyring),
        false => Err(UnlockError::Tampered),
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::lab::{self, CHEAP, passphrase};

    fn new_volume() -> (VolumeHeader, VolumeKeys) {
        create(&lab::new_volume("test"), &passphrase("right")).expect("can be made")
    }

    fn unlock_with(header: &VolumeHeader, text: &str) -> Result<(), UnlockError> {
        unlock(header, &passphrase(text)).map(|_| ())
    }

    #[test]
    fn a_new_volume_opens_with_its_passphrase_and_no_other() {
        let (header, keys) = new_volume();
        let (_, opened) = unlock(&header, &passphrase("right")).expect("right");
        assert!(
            opened
                .journal_mac_key()
                .ct_eq(keys.journal_mac_key().as_bytes())
        );
        assert_eq!(opened.current_epoch(), Epoch(0));
        assert_eq!(unlock_with(&header, "wrong"), Err(UnlockError::WrongSecret));
        let keyfile = SlotSecret::new(None, Some(SecretBytes::zeroed())).expect("a secret");
        let error = unlock(&header, &keyfile).map(|_| ());
        assert_eq!(error, Err(UnlockError::NoSlotFor(SlotKind::Keyfile)));
    }

    #[test]
    fn a_slot_that_is_named_is_the_only_one_tried() {
        let (header, _) = new_volume();
        let opened = open(&header, Some(0), &passphrase("right")).expect("right");
        let epochs = epochs(&header, &opened.key).expect("authentic");
        assert_eq!((opened.slot, opened.epoch_created), (0, epochs[0].1));
        let missing = open(&header, Some(1), &passphrase("right")).map(|_| ());
        assert_eq!(missing, Err(UnlockError::NoSuchSlot(1)));
    }

    #[test]
    fn slots_that_cost_too_much_together_are_refused_before_any_is_tried() {
        let (mut header, _) = new_volume();
        let costly = Argon2Params {
            memory_kib: Argon2Params::MAX_MEMORY_KIB,
            time: 4,
            lanes: 1,
        };
        let slot = Slot {
            kdf: Kdf::Argon2id(costly),
            ..header.slots[0].clone()
        };
        header.slots = (0..9).map(|id| Slot { id, ..slot.clone() }).collect();
        let begin = std::time::Instant::now();
        assert_eq!(unlock_with(&header, "right"), Err(UnlockError::TooCostly));
        assert!(begin.elapsed() < std::time::Duration::from_secs(1));
    }

    #[test]
    fn every_kind_of_change_to_the_header_is_noticed() {
        let (header, _) = new_volume();
        type Change = fn(&mut VolumeHeader);
        let changes: [(&str, Change); 16] = [
            ("version", |h| h.version = 2),
            ("feature", |h| h.compatible = 1),
            ("uuid", |h| h.uuid.0[0] ^= 1),
            ("label", |h| h.label.push('x')),
            ("created", |h| h.created += 1),
            ("cipher", |h| h.cipher = Cipher::XChaCha20Poly1305),
            ("chunk size", |h| h.log2_chunk = 16),
            ("keyring", |h| h.keyring.sealed[0] ^= 1),
            ("keyring nonce", |h| h.keyring.nonce[0] ^= 1),
            ("mac", |h| h.mac[0] ^= 1),
            ("slot id", |h| h.slots[0].id = 9),
            ("slot owner", |h| h.slots[0].owner.push('x')),
            ("slot expiry", |h| h.slots[0].expires = Some(0)),
            ("slot nonce", |h| h.slots[0].nonce[0] ^= 1),
            ("sealed key", |h| h.slots[0].sealed[0] ^= 1),
            ("slot data", |h| h.slots[0].data.push(0)),
        ];
        for (what, change) in changes {
            let mut changed = header.clone();
            change(&mut changed);
            assert_eq!(
                unlock_with(&changed, "right"),
                Err(UnlockError::Tampered),
                "{what}"
            );
        }
    }

    #[test]
    fn changed_kdf_parameters_lead_to_another_key_which_the_commitment_refuses() {
        let (header, _) = new_volume();
        let changes: [fn(&mut VolumeHeader); 3] = [
            |h| h.slots[0].kdf = Kdf::Argon2id(Argon2Params { time: 2, ..CHEAP }),
            |h| h.slots[0].kdf = Kdf::HkdfSha256,
            |h| h.slots[0].salt[0] ^= 1,
        ];
        for change in changes {
            let mut changed = header.clone();
            change(&mut changed);
            assert_eq!(
                unlock_with(&changed, "right"),
                Err(UnlockError::WrongSecret)
            );
        }
    }

    #[test]
    fn a_keyring_or_slot_of_another_volume_is_refused() {
        let ((ours, _), (theirs, _)) = (new_volume(), new_volume());
        let mut mixed = ours.clone();
        mixed.keyring = theirs.keyring.clone();
        assert_eq!(unlock_with(&mixed, "right"), Err(UnlockError::Tampered));
        let mut mixed = ours;
        mixed.slots = theirs.slots;
        assert_eq!(unlock_with(&mixed, "right"), Err(UnlockError::Tampered));
    }

    #[test]
    fn a_label_that_is_too_long_is_refused_before_the_slow_part() {
        let new = lab::new_volume(&"x".repeat(256));
        let refused = create(&new, &passphrase("p")).map(|_| ());
        assert_eq!(
            refused,
            Err(UnlockError::Invalid(FormatError::Field("label")))
        );
    }
}
