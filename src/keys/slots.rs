//! Changes to the slots of a header, by somebody who has the volume key. The header is authenticated anew by each.
//!
//! Whether a change may be made, and how it reaches the disk, is decided above.

use crate::crypto::VolumeKey;
use crate::format::FormatError;
use crate::format::key_record::{KeyRecord, MAX_OPENINGS, Opening};
use crate::format::slot::{Kdf, MAX_SLOTS, Slot, SlotKind};
use crate::format::volume::VolumeHeader;
use crate::keys::header::{now, remac};
use crate::keys::kdf::KdfError;
use crate::keys::secret::SlotSecret;
use crate::keys::slot::{NewSlot, seal_slot};

/// What people say of a slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    pub label: String,
    pub owner: String,
    /// Seconds since 1970.
    pub expires: Option<i64>,
}

/// Why a header is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeError {
    NoSuchSlot(u32),
    /// There are 64 slots.
    Full,
    /// No slot that a person can open would be left.
    LastForPeople(u32),
    /// No slot at all would be left.
    Last(u32),
    Kdf(KdfError),
    /// The header would not be one.
    Invalid(FormatError),
}

impl std::fmt::Display for ChangeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchSlot(id) => write!(f, "there is no key slot {id}"),
            Self::Full => write!(f, "there are {MAX_SLOTS} key slots already"),
            Self::LastForPeople(id) => {
                write!(f, "key slot {id} is the last one that a person can open")
            }
            Self::Last(id) => write!(f, "key slot {id} is the last one"),
            Self::Kdf(e) => e.fmt(f),
            Self::Invalid(e) => write!(f, "the volume header would not be valid: {e}"),
        }
    }
}

impl std::error::Error for ChangeError {}

/// Whether the last slot that a person can open may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lockout {
    Refuse,
    Accept,
}

/// What opens a slot from now on.
#[derive(Debug)]
pub struct Opener<'a> {
    pub secret: &'a SlotSecret,
    pub data: Vec<u8>,
    pub kdf: Kdf,
}

/// Adds a slot and answers its id, which no slot of this volume has had.
///
/// # Errors
/// [`ChangeError`].
pub fn add(
    header: &mut VolumeHeader,
    key: &VolumeKey,
    opener: Opener<'_>,
    remarks: Remarks,
) -> Result<u32, ChangeError> {
    if header.slots.len() >= MAX_SLOTS {
        return Err(ChangeError::Full);
    }
    let record = record_of(header)?;
    let id = next_id(header, &record);
    let created = now();
    let new = NewSlot {
        volume: header.uuid,
        id,
        label: remarks.label,
        owner: remarks.owner,
        created,
        changed: created,
        expires: remarks.expires,
        kdf: opener.kdf,
        data: opener.data,
    };
    let slot = seal_slot(new, opener.secret, key).map_err(ChangeError::Kdf)?;
    header.slots.push(slot);
    finish(header, key).map(|()| id)
}

/// Takes a slot out.
///
/// # Errors
/// [`ChangeError`]. The very last slot stays in any case.
pub fn remove(
    header: &mut VolumeHeader,
    key: &VolumeKey,
    id: u32,
    lockout: Lockout,
) -> Result<Slot, ChangeError> {
    let index = index_of(header, id)?;
    let left = || header.slots.iter().filter(|slot| slot.id != id);
    if left().next().is_none() {
        return Err(ChangeError::Last(id));
    }
    if lockout == Lockout::Refuse
        && header.slots[index].kind.is_for_people()
        && !left().any(|slot| slot.kind.is_for_people())
    {
        return Err(ChangeError::LastForPeople(id));
    }
    let mut record = record_of(header)?;
    record.next_slot = next_id(header, &record);
    let removed = header.slots.remove(index);
    record.put_into(header);
    finish(header, key).map(|()| removed)
}

/// Seals a slot anew for another secret, or for the same one at another cost.
///
/// # Errors
/// [`ChangeError`].
pub fn replace(
    header: &mut VolumeHeader,
    key: &VolumeKey,
    id: u32,
    opener: Opener<'_>,
) -> Result<(), ChangeError> {
    let index = index_of(header, id)?;
    let slot = &header.slots[index];
    let replaced = NewSlot {
        volume: header.uuid,
        id,
        label: slot.label.clone(),
        owner: slot.owner.clone(),
        created: slot.created,
        changed: now(),
        expires: slot.expires,
        kdf: opener.kdf,
        data: opener.data,
    };
    header.slots[index] = seal_slot(replaced, opener.secret, key).map_err(ChangeError::Kdf)?;
    finish(header, key)
}

/// Changes what people say of a slot.
///
/// # Errors
/// [`ChangeError`].
pub fn remark(
    header: &mut VolumeHeader,
    key: &VolumeKey,
    id: u32,
    remarks: Remarks,
) -> Result<(), ChangeError> {
    let index = index_of(header, id)?;
    let slot = &mut header.slots[index];
    slot.label = remarks.label;
    slot.owner = remarks.owner;
    slot.expires = remarks.expires;
    finish(header, key)
}

/// Remembers that a break-glass slot has opened the vault; more than 64 times is not counted.
///
/// # Errors
/// [`ChangeError`].
pub fn record_opening(
    header: &mut VolumeHeader,
    key: &VolumeKey,
    slot: u32,
) -> Result<(), ChangeError> {
    let mut record = record_of(header)?;
    if record.openings.len() < MAX_OPENINGS {
        record.openings.push(Opening { slot, at: now() });
    }
    record.put_into(header);
    finish(header, key)
}

/// Forgets the openings, and answers them.
///
/// # Errors
/// [`ChangeError`].
pub fn acknowledge(
    header: &mut VolumeHeader,
    key: &VolumeKey,
) -> Result<Vec<Opening>, ChangeError> {
    let mut record = record_of(header)?;
    let openings = std::mem::take(&mut record.openings);
    record.put_into(header);
    finish(header, key).map(|()| openings)
}

/// Whether opening a slot of this kind is to be remembered.
pub fn breaks_glass(kind: SlotKind) -> bool {
    kind == SlotKind::Shares
}

pub(super) fn record_of(header: &VolumeHeader) -> Result<KeyRecord, ChangeError> {
    KeyRecord::of(header).map_err(ChangeError::Invalid)
}

pub(super) fn next_id(header: &VolumeHeader, record: &KeyRecord) -> u32 {
    let highest = header.slots.iter().map(|slot| slot.id.saturating_add(1));
    let next = highest.max().unwrap_or(0).max(record.next_slot);
    // After four thousand million slots the lowest free number has been forgotten by everybody.
    let is_free = |id: &u32| !header.slots.iter().any(|slot| slot.id == *id);
    (next..=u32::MAX)
        .chain(0..next)
        .find(is_free)
        .unwrap_or(next)
}

fn index_of(header: &VolumeHeader, id: u32) -> Result<usize, ChangeError> {
    let at = header.slots.iter().position(|slot| slot.id == id);
    at.ok_or(ChangeError::NoSuchSlot(id))
}

pub(super) fn finish(header: &mut VolumeHeader, key: &VolumeKey) -> Result<(), ChangeError> {
    header.check().map_err(ChangeError::Invalid)?;
    remac(header, key);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::header::{UnlockError, open};
    use crate::keys::kind::{Kind as _, Recovery};
    use crate::keys::lab::{opener, passphrase, volume};

    fn opens(header: &VolumeHeader, secret: &SlotSecret) -> Result<u32, UnlockError> {
        open(header, None, secret).map(|opened| opened.slot)
    }

    #[test]
    fn every_slot_opens_with_its_own_secret_and_ids_are_never_used_again() {
        let (mut header, key) = volume();
        let secrets = ["second", "third"].map(passphrase);
        let add_one = |header: &mut VolumeHeader, secret| {
            add(header, &key, opener(secret), Remarks::default())
        };
        assert_eq!(add_one(&mut header, &secrets[0]), Ok(1));
        assert_eq!(opens(&header, &secrets[0]), Ok(1));
        assert_eq!(opens(&header, &passphrase("first")), Ok(0));
        let removed = remove(&mut header, &key, 1, Lockout::Refuse);
        assert_eq!(removed.expect("one is left").id, 1);
        assert_eq!(opens(&header, &secrets[0]), Err(UnlockError::WrongSecret));
        assert_eq!(add_one(&mut header, &secrets[1]), Ok(2));
        assert_eq!(opens(&header, &secrets[1]), Ok(2));
    }

    #[test]
    fn the_last_slot_for_people_is_kept_and_the_last_of_all_in_any_case() {
        let (mut header, key) = volume();
        let last = remove(&mut header, &key, 0, Lockout::Accept);
        assert_eq!(last, Err(ChangeError::Last(0)));
        let machine =
            SlotSecret::other(SlotKind::Command, crate::sys::secret::SecretBytes::zeroed());
        add(&mut header, &key, opener(&machine), Remarks::default()).expect("added");
        let refused = remove(&mut header, &key, 0, Lockout::Refuse);
        assert_eq!(refused, Err(ChangeError::LastForPeople(0)));
        let recovery = Recovery::default().create().expect("random").secret;
        let recovery = add(&mut header, &key, opener(&recovery), Remarks::default());
        remove(&mut header, &key, 0, Lockout::Refuse).expect("a recovery key is left");
        let recovery = recovery.expect("added");
        remove(&mut header, &key, recovery, Lockout::Accept).expect("as told");
        assert_eq!(opens(&header, &machine), Ok(1));
    }

    #[test]
    fn sixty_four_slots_and_no_more() {
        let (mut header, key) = volume();
        let secret = passphrase("another");
        for _ in 1..MAX_SLOTS {
            add(&mut header, &key, opener(&secret), Remarks::default()).expect("room");
        }
        let full = add(&mut header, &key, opener(&secret), Remarks::default());
        assert_eq!(full, Err(ChangeError::Full));
        assert_eq!(opens(&header, &passphrase("first")), Ok(0));
    }

    #[test]
    fn a_replaced_secret_is_gone_and_the_rest_of_the_slot_stays() {
        let (mut header, key) = volume();
        let remarks = Remarks {
            label: "desk".into(),
            owner: "A. Keeper".into(),
            expires: Some(7),
        };
        remark(&mut header, &key, 0, remarks).expect("changed");
        let before = header.slots[0].clone();
        let new = passphrase("new");
        replace(&mut header, &key, 0, opener(&new)).expect("replaced");
        assert_eq!(
            opens(&header, &passphrase("first")),
            Err(UnlockError::WrongSecret)
        );
        assert_eq!(opens(&header, &new), Ok(0));
        let after = &header.slots[0];
        assert_eq!(after.created, before.created);
        assert_eq!(
            (&after.label, after.expires),
            (&before.label, before.expires)
        );
        assert_ne!(after.salt, before.salt);
        let missing = replace(&mut header, &key, 5, opener(&new));
        assert_eq!(missing, Err(ChangeError::NoSuchSlot(5)));
    }

    #[test]
    fn openings_are_remembered_until_they_are_acknowledged() {
        let (mut header, key) = volume();
        for _ in 0..MAX_OPENINGS + 5 {
            record_opening(&mut header, &key, 3).expect("recorded");
        }
        assert!(opens(&header, &passphrase("first")).is_ok());
        let forgotten = acknowledge(&mut header, &key).expect("recorded");
        assert_eq!(forgotten.len(), MAX_OPENINGS);
        assert_eq!(acknowledge(&mut header, &key), Ok(Vec::new()));
    }

    #[test]
    fn remarks_that_are_too_long_are_refused() {
        let (mut header, key) = volume();
        let remarks = Remarks {
            label: "x".repeat(256),
            ..Remarks::default()
        };
        let refused = remark(&mut header, &key, 0, remarks);
        assert_eq!(
            refused,
            Err(ChangeError::Invalid(FormatError::Field("slot label")))
        );
    }
}
