//! Sealing the volume key in a slot, and opening it again.

use crate::crypto::{VolumeKey, nonce, rand};
use crate::format::ids::VolumeId;
use crate::format::slot::{Kdf, Slot};
use crate::keys::kdf::{self, KdfError};
use crate::keys::secret::SlotSecret;
use crate::sys::secret::SecretBytes;

/// Everything about a new slot that is not derived.
#[derive(Debug, Clone)]
pub struct NewSlot {
    pub volume: VolumeId,
    pub id: u32,
    pub label: String,
    pub owner: String,
    /// Seconds since 1970, as the two that follow.
    pub created: i64,
    pub changed: i64,
    pub expires: Option<i64>,
    pub kdf: Kdf,
    /// What the kind needs to find the secret again.
    pub data: Vec<u8>,
}

/// Why a slot does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotError {
    WrongSecret,
    /// The secret is right, but the slot was changed.
    Tampered,
    Kdf(KdfError),
}

impl std::fmt::Display for SlotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WrongSecret => f.write_str("the slot does not open with this secret"),
            Self::Tampered => f.write_str("the slot was changed by somebody without the key"),
            Self::Kdf(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for SlotError {}

/// Seals `key` under `secret`.
///
/// # Errors
/// [`KdfError`].
pub fn seal_slot(new: NewSlot, secret: &SlotSecret, key: &VolumeKey) -> Result<Slot, KdfError> {
    let salt = rand::array();
    let root = kdf::derive(&new.kdf, &salt, &secret.canonical())?;
    let mut slot = Slot {
        id: new.id,
        kind: secret.kind(),
        label: new.label,
        owner: new.owner,
        created: new.created,
        changed: new.changed,
        expires: new.expires,
        kdf: new.kdf,
        salt,
        commitment: *root.commitment().as_bytes(),
        nonce: nonce::random(),
        sealed: [0; 48],
        data: new.data,
    };
    let aad = slot.aad(&new.volume);
    let (sealed, tag) = slot.sealed.split_at_mut(32);
    tag.copy_from_slice(&root.key().seal(&slot.nonce, &aad, key.0.as_bytes(), sealed));
    Ok(slot)
}

/// The volume key.
///
/// # Errors
/// [`SlotError`]. The commitment is compared first, in constant time: a wrong secret opens nothing.
pub fn open_slot(
    slot: &Slot,
    volume: &VolumeId,
    secret: &SlotSecret,
) -> Result<VolumeKey, SlotError> {
    if slot.kind != secret.kind() {
        return Err(SlotError::WrongSecret);
    }
    let root = kdf::derive(&slot.kdf, &slot.salt, &secret.canonical()).map_err(SlotError::Kdf)?;
    if !root.commitment().ct_eq(&slot.commitment) {
        return Err(SlotError::WrongSecret);
    }
    let (sealed, tag) = slot.sealed.split_first_chunk::<32>().expect("48 bytes");
    let tag = tag.try_into().expect("48 - 32 bytes");
    let mut key = SecretBytes::zeroed();
    root.key()
        .open(
            &slot.nonce,
            &slot.aad(volume),
            sealed,
            tag,
            key.as_mut_bytes(),
        )
        .map_err(|_| SlotError::Tampered)?;
    Ok(VolumeKey(key))
}
