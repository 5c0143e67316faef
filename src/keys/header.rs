//! The volume header and its keys: making one, unlocking it, changing the secret of a slot.

use std::time::SystemTime;

use crate::crypto::{Cipher, Epoch, VolumeId, VolumeKey, VolumeKeys, nonce, rand};
use crate::format::FormatError;
use crate::format::file::TAG_LEN;
use crate::format::keyring::{ContentRoot, Keyring};
use crate::format::slot::{Argon2Params, Kdf, SlotKind};
use crate::format::volume::{FORMAT_VERSION, SealedKeyring, VolumeHeader};
use crate::keys::kdf::KdfError;
use crate::keys::secret::SlotSecret;
use crate::keys::slot::{NewSlot, SlotError, open_slot, seal_slot};
use crate::sys::secret::{SecretBytes, SecretVec};

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
    };
    header.slots = vec![seal_slot(slot, secret, &key).map_err(UnlockError::Kdf)?];
    remac(&mut header, &key);
    Ok((header, VolumeKeys::new(&key, keyring)))
}

/// The keys of a volume. All slots for this kind of secret are tried, then the MAC of the header is checked, and only
/// then anything else of it is used.
///
/// # Errors
/// [`UnlockError`].
pub fn unlock(
    header: &VolumeHeader,
    secret: &SlotSecret,
) -> Result<(VolumeKey, VolumeKeys), UnlockError> {
    let (_, key) = open_any_slot(header, secret)?;
    let keyring = open_keyring(header, &key)?;
    let keys = VolumeKeys::new(&key, keyring);
    Ok((key, keys))
}

/// Replaces the secret of the slot that `old` opens, and answers its id. `header` is unchanged on failure.
///
/// # Errors
/// [`UnlockError`].
pub fn change_secret(
    header: &mut VolumeHeader,
    old: &SlotSecret,
    new: &SlotSecret,
    kdf: Argon2Params,
) -> Result<u32, UnlockError> {
    let (index, key) = open_any_slot(header, old)?;
    let slot = &header.slots[index];
    let replaced = NewSlot {
        volume: header.uuid,
        id: slot.id,
        label: slot.label.clone(),
        owner: slot.owner.clone(),
        created: slot.created,
        changed: now(),
        expires: slot.expires,
        kdf: Kdf::Argon2id(kdf),
    };
    header.slots[index] = seal_slot(replaced, new, &key).map_err(UnlockError::Kdf)?;
    remac(header, &key);
    Ok(header.slots[index].id)
}

/// Authenticates the header as it is now.
pub fn remac(header: &mut VolumeHeader, key: &VolumeKey) {
    header.mac = header.compute_mac(&key.header_mac_key());
}

/// Puts `keyring` into the header; [`remac`] has to follow.
pub fn seal_keyring(header: &mut VolumeHeader, key: &VolumeKey, keyring: &Keyring) {
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
fn open_any_slot(
    header: &VolumeHeader,
    secret: &SlotSecret,
) -> Result<(usize, VolumeKey), UnlockError> {
    let mut failure = UnlockError::NoSlotFor(secret.kind());
    for (index, slot) in header.slots.iter().enumerate() {
        if slot.kind != secret.kind() {
            continue;
        }
        match open_slot(slot, &header.uuid, secret) {
            Ok(key) if header.mac_matches(&key.header_mac_key()) => return Ok((index, key)),
            Ok(_) | Err(SlotError::Tampered) => return Err(UnlockError::Tampered),
            // What could not be tried says more than what did not match.
            Err(SlotError::Kdf(e)) => failure = UnlockError::Kdf(e),
            Err(SlotError::WrongSecret) if matches!(failure, UnlockError::Kdf(_)) => {}
            Err(SlotError::WrongSecret) => failure = UnlockError::WrongSecret,
        }
    }
    Err(failure)
}

fn open_keyring(header: &VolumeHeader, key: &VolumeKey) -> Result<Keyring, UnlockError> {
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
    Keyring::decode(plain.as_bytes()).map_err(|_| UnlockError::Tampered)
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Argon2Params = Argon2Params {
        memory_kib: Argon2Params::MIN_MEMORY_KIB,
        time: 1,
        lanes: 1,
    };

    fn passphrase(text: &str) -> SlotSecret {
        SlotSecret::new(Some(SecretVec::from(text.as_bytes())), None).expect("not empty")
    }

    fn new_volume() -> (VolumeHeader, VolumeKeys) {
        let new = NewVolume {
            incompatible: 0,
            cipher: Cipher::Xaes256Gcm,
            log2_chunk: 12,
            label: "test".into(),
            kdf: CHEAP,
        };
        create(&new, &passphrase("right")).expect("can be made")
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
    fn a_passphrase_is_changed_in_its_slot_and_the_keys_stay() {
        let (mut header, keys) = new_volume();
        let before = header.clone();
        let [old, new] = ["right", "new"].map(passphrase);
        assert_eq!(
            change_secret(&mut header, &new, &old, CHEAP),
            Err(UnlockError::WrongSecret)
        );
        assert_eq!(header, before);
        assert_eq!(change_secret(&mut header, &old, &new, CHEAP), Ok(0));
        assert_eq!(unlock_with(&header, "right"), Err(UnlockError::WrongSecret));
        let (_, opened) = unlock(&header, &new).expect("new");
        assert!(
            opened
                .journal_mac_key()
                .ct_eq(keys.journal_mac_key().as_bytes())
        );
        assert_eq!(header.slots[0].created, before.slots[0].created);
        assert_ne!(header.slots[0].salt, before.slots[0].salt);
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
        let new = NewVolume {
            incompatible: 0,
            cipher: Cipher::Xaes256Gcm,
            log2_chunk: 12,
            label: "x".repeat(256),
            kdf: CHEAP,
        };
        let refused = create(&new, &passphrase("p")).map(|_| ());
        assert_eq!(
            refused,
            Err(UnlockError::Invalid(FormatError::Field("label")))
        );
    }
}
