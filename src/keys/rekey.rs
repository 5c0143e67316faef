//! Another volume key: the header as it is to be, with the slots whose secrets are at hand.
//!
//! What the tree hangs on stays: content roots, and the roots of names and files, which go into the keyring. So nothing but
//! the header changes, and what is authenticated under keys of the volume key itself: the superblock of the journal, which
//! is for `store`.

use crate::crypto::{VolumeKey, VolumeKeys};
use crate::format::volume::VolumeHeader;
use crate::keys::header::{UnlockError, open_keyring, seal_keyring};
use crate::keys::secret::SlotSecret;
use crate::keys::slot::{NewSlot, seal_slot};
use crate::keys::slots::{ChangeError, Lockout, finish, next_id, record_of};

/// A slot that is to open also with the new key.
#[derive(Debug)]
pub struct Kept<'a> {
    pub slot: u32,
    pub secret: &'a SlotSecret,
}

/// The new header, and what it gives.
#[derive(Debug)]
pub struct Rekeyed {
    pub header: VolumeHeader,
    pub key: VolumeKey,
    pub keys: VolumeKeys,
}

/// Why there is no such header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RekeyError {
    Change(ChangeError),
    Unlock(UnlockError),
}

impl From<ChangeError> for RekeyError {
    fn from(e: ChangeError) -> Self {
        Self::Change(e)
    }
}

impl From<UnlockError> for RekeyError {
    fn from(e: UnlockError) -> Self {
        Self::Unlock(e)
    }
}

/// `header` under a new random key, with the slots of `kept` and no others. That the secrets are theirs was tried before.
///
/// # Errors
/// [`RekeyError`]; [`ChangeError::LastForPeople`] if no slot would be left that a person can open, though there was one.
pub fn replace_key(
    header: &VolumeHeader,
    key: &VolumeKey,
    kept: &[Kept<'_>],
    lockout: Lockout,
) -> Result<Rekeyed, RekeyError> {
    let mut keyring = open_keyring(header, key)?;
    let mut new = header.clone();
    let mut record = record_of(header)?;
    record.next_slot = next_id(header, &record);
    let secret_of = |id| kept.iter().find(|kept| kept.slot == id).map(|k| k.secret);
    new.slots.retain(|slot| secret_of(slot.id).is_some());
    check_left(header, &new, lockout)?;
    let key_of_volume = VolumeKey::generate();
    for slot in &mut new.slots {
        let secret = secret_of(slot.id).expect("only those are left");
        let same = NewSlot {
            volume: header.uuid,
            id: slot.id,
            label: slot.label.clone(),
            owner: slot.owner.clone(),
            created: slot.created,
            changed: slot.changed,
            expires: slot.expires,
            kdf: slot.kdf,
            data: slot.data.clone(),
        };
        *slot = seal_slot(same, secret, &key_of_volume).map_err(ChangeError::Kdf)?;
    }
    record.put_into(&mut new);
    keyring.tree.get_or_insert_with(|| key.tree_roots());
    seal_keyring(&mut new, &key_of_volume, &keyring);
    finish(&mut new, &key_of_volume)?;
    Ok(Rekeyed {
        header: new,
        keys: VolumeKeys::new(&key_of_volume, keyring),
        key: key_of_volume,
    })
}

fn check_left(
    header: &VolumeHeader,
    new: &VolumeHeader,
    lockout: Lockout,
) -> Result<(), ChangeError> {
    let last = |for_people: bool| {
        let slots = header.slots.iter();
        let mut ids = slots.filter(|s| !for_people || s.kind.is_for_people());
        ids.next_back().map(|slot| slot.id)
    };
    if new.slots.is_empty() {
        return Err(ChangeError::Last(last(false).unwrap_or(0)));
    }
    let is_left = new.slots.iter().any(|slot| slot.kind.is_for_people());
    match last(true) {
        Some(id) if !is_left && lockout == Lockout::Refuse => Err(ChangeError::LastForPeople(id)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Epoch;
    use crate::format::slot::SlotKind;
    use crate::format::volume::INCOMPATIBLE_TREE_ROOTS;
    use crate::keys::header::{epochs, open};
    use crate::keys::lab::{opener, passphrase, volume};
    use crate::keys::rotation;
    use crate::keys::slots::{Remarks, add};
    use crate::sys::secret::SecretBytes;

    fn kept<'a>(slot: u32, secret: &'a SlotSecret) -> Kept<'a> {
        Kept { slot, secret }
    }

    #[test]
    fn kept_slots_open_with_their_secrets_and_dropped_ones_do_not() {
        let (mut header, key) = volume();
        let (first, second) = (passphrase("first"), passphrase("second"));
        let remarks = Remarks {
            label: "desk".into(),
            owner: "A. Keeper".into(),
            expires: Some(7),
        };
        add(&mut header, &key, opener(&second), remarks).expect("added");
        let new = replace_key(&header, &key, &[kept(1, &second)], Lockout::Refuse).expect("made");
        let opened = open(&new.header, None, &second).expect("kept");
        assert!(opened.key.0.ct_eq(new.key.0.as_bytes()));
        assert!(!opened.key.0.ct_eq(key.0.as_bytes()));
        let gone = open(&new.header, None, &first).map(|o| o.slot);
        assert_eq!(gone, Err(UnlockError::WrongSecret));
        let (old, slot) = (&header.slots[1], &new.header.slots[0]);
        assert_eq!(
            (slot.id, &slot.label, &slot.owner),
            (1, &old.label, &old.owner)
        );
        assert_eq!(
            (slot.created, slot.changed, slot.expires),
            (old.created, old.changed, old.expires)
        );
        assert_ne!((slot.salt, slot.sealed), (old.salt, old.sealed));
        // No id comes again.
        let mut later = new.header;
        assert_eq!(
            add(&mut later, &new.key, opener(&first), Remarks::default()),
            Ok(2)
        );
    }

    #[test]
    fn the_old_key_opens_nothing_of_the_new_header() {
        let (header, key) = volume();
        let first = passphrase("first");
        let new = replace_key(&header, &key, &[kept(0, &first)], Lockout::Refuse).expect("made");
        assert!(!new.header.mac_matches(&key.header_mac_key()));
        assert!(open_keyring(&new.header, &key).is_err());
        assert!(
            !new.keys
                .journal_mac_key()
                .ct_eq(key.journal_mac_key().as_bytes())
        );
    }

    #[test]
    fn what_the_tree_hangs_on_stays_over_many_keys_and_a_rotation_goes_on() {
        let (mut header, mut key) = volume();
        rotation::begin(&mut header, &key, rotation::Hands::Own).expect("there are epochs left");
        let first = passphrase("first");
        let names = |header: &VolumeHeader, key: &VolumeKey| {
            let keyring = open_keyring(header, key).expect("authentic");
            let tree = keyring.tree.unwrap_or_else(|| key.tree_roots());
            [*tree.names.as_bytes(), *tree.files.as_bytes()]
        };
        let before = (names(&header, &key), epochs(&header, &key));
        for _ in 0..3 {
            let new = replace_key(&header, &key, &[kept(0, &first)], Lockout::Refuse);
            let new = new.expect("made");
            (header, key) = (new.header, new.key);
            assert_eq!((names(&header, &key), epochs(&header, &key)), before);
            assert_ne!(header.incompatible & INCOMPATIBLE_TREE_ROOTS, 0);
        }
        assert_eq!(rotation::finish(&mut header, &key, Epoch(1)), Ok(1));
        assert_eq!(names(&header, &key), before.0);
    }

    #[test]
    fn a_keyring_with_tree_roots_needs_the_feature_and_the_feature_needs_them() {
        let (header, key) = volume();
        let first = passphrase("first");
        let new = replace_key(&header, &key, &[kept(0, &first)], Lockout::Refuse).expect("made");
        for (mut header, key) in [(header, key), (new.header, new.key)] {
            header.incompatible ^= INCOMPATIBLE_TREE_ROOTS;
            finish(&mut header, &key).expect("a header");
            let opened = open(&header, None, &first).map(|o| o.slot);
            assert_eq!(opened, Err(UnlockError::Tampered));
        }
    }

    #[test]
    fn somebody_is_left_who_can_open_it_or_it_is_refused() {
        let (mut header, key) = volume();
        let machine = SlotSecret::other(SlotKind::Command, SecretBytes::zeroed());
        add(&mut header, &key, opener(&machine), Remarks::default()).expect("added");
        let replace = |kept: &[Kept<'_>], lockout| {
            replace_key(&header, &key, kept, lockout).map(|new| new.header.slots.len())
        };
        let last = RekeyError::Change(ChangeError::LastForPeople(0));
        assert_eq!(replace(&[kept(1, &machine)], Lockout::Refuse), Err(last));
        assert_eq!(replace(&[kept(1, &machine)], Lockout::Accept), Ok(1));
        let none = RekeyError::Change(ChangeError::Last(1));
        assert_eq!(replace(&[], Lockout::Accept), Err(none));
    }
}
