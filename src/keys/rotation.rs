//! The content epochs of a header: adding one, and wiping those that no chunk uses any more.
//!
//! A rotation is under way as long as the keyring has more than one epoch, and its target is the current one. There is no
//! other state, so there is none that could be forged or put back without the volume key. How the header reaches the
//! disk, and that no chunk uses an old epoch, is for the callers.

use crate::crypto::{Epoch, VolumeKey, VolumeKeys};
use crate::format::key_record::KeyRecord;
use crate::format::keyring::Keyring;
use crate::format::volume::VolumeHeader;
use crate::keys::header::{UnlockError, new_content_root, open_keyring, remac, seal_keyring};

/// Why a header is not given another keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationError {
    /// All 256 epochs are in the keyring.
    NoEpochLeft,
    /// The current epoch is not the one that the chunks were sealed in: somebody else has changed the keyring.
    OtherEpoch,
    Unlock(UnlockError),
}

impl std::fmt::Display for RotationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoEpochLeft => f.write_str("all 256 content epochs are in use"),
            Self::OtherEpoch => f.write_str("the content keys were changed meanwhile"),
            Self::Unlock(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for RotationError {}

impl From<UnlockError> for RotationError {
    fn from(e: UnlockError) -> Self {
        Self::Unlock(e)
    }
}

/// What a rotation works with.
#[derive(Debug)]
pub struct Begun {
    /// With all epochs; the target is the current one.
    pub keys: VolumeKeys,
    pub target: Epoch,
    /// When the target was added, seconds since 1970.
    pub since: i64,
    /// It was begun earlier.
    pub resumed: bool,
}

/// The rotation that is under way; otherwise adds an epoch and makes it the current one.
///
/// # Errors
/// [`RotationError`]. The header is then as it was.
pub fn begin(header: &mut VolumeHeader, key: &VolumeKey) -> Result<Begun, RotationError> {
    let mut keyring = open_keyring(header, key)?;
    let resumed = keyring.roots.len() > 1;
    if !resumed {
        let target = free_epoch(&keyring).ok_or(RotationError::NoEpochLeft)?;
        let root = new_content_root(target);
        let mut record = record(header)?;
        record.newest_epoch = Some(root.created);
        keyring.current = target;
        keyring.roots.push(root);
        record.put_into(header);
        seal_keyring(header, key, &keyring);
        remac(header, key);
    }
    let target = keyring.current;
    let since = keyring.root(target).map_or(0, |root| root.created);
    Ok(Begun {
        keys: VolumeKeys::new(key, keyring),
        target,
        since,
        resumed,
    })
}

/// Wipes all epochs but `target`; answers how many. No chunk and no living group of the journal may use them.
///
/// # Errors
/// [`RotationError`]. The header is then as it was.
pub fn finish(
    header: &mut VolumeHeader,
    key: &VolumeKey,
    target: Epoch,
) -> Result<usize, RotationError> {
    let mut keyring = open_keyring(header, key)?;
    if keyring.current != target {
        return Err(RotationError::OtherEpoch);
    }
    let before = keyring.roots.len();
    keyring.roots.retain(|root| root.epoch == target);
    seal_keyring(header, key, &keyring);
    remac(header, key);
    Ok(before - keyring.roots.len())
}

/// The first free number behind the current one, so that one that was wiped comes again as late as possible.
fn free_epoch(keyring: &Keyring) -> Option<Epoch> {
    (1..=u8::MAX)
        .map(|step| Epoch(keyring.current.0.wrapping_add(step)))
        .find(|epoch| keyring.root(*epoch).is_none())
}

fn record(header: &VolumeHeader) -> Result<KeyRecord, UnlockError> {
    KeyRecord::of(header).map_err(UnlockError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::header::epochs;
    use crate::keys::lab::volume;

    fn numbers(header: &VolumeHeader, key: &VolumeKey) -> Vec<u8> {
        let all = epochs(header, key).expect("authentic");
        all.iter().map(|(epoch, _)| epoch.0).collect()
    }

    #[test]
    fn a_rotation_is_begun_once_and_goes_on_until_the_old_epoch_is_wiped() {
        let (mut header, key) = volume();
        let begun = begin(&mut header, &key).expect("there are epochs left");
        assert_eq!((begun.target, begun.resumed), (Epoch(1), false));
        assert_eq!(begun.keys.current_epoch(), Epoch(1));
        assert_eq!(numbers(&header, &key), [0, 1]);
        let record = KeyRecord::of(&header).expect("written");
        assert_eq!(record.newest_epoch, Some(begun.since));

        let again = begin(&mut header, &key).expect("goes on");
        assert_eq!((again.target, again.resumed), (Epoch(1), true));
        assert_eq!(numbers(&header, &key), [0, 1]);

        assert_eq!(finish(&mut header, &key, Epoch(1)), Ok(1));
        assert_eq!(numbers(&header, &key), [1]);
    }

    #[test]
    fn epochs_are_wiped_only_for_the_current_one() {
        let (mut header, key) = volume();
        begin(&mut header, &key).expect("there are epochs left");
        let before = header.clone();
        let other = finish(&mut header, &key, Epoch(0));
        assert_eq!(other, Err(RotationError::OtherEpoch));
        assert_eq!(header.keyring.sealed, before.keyring.sealed);
    }

    #[test]
    fn numbers_wrap_around_and_end_when_all_are_in_use() {
        let keyring = |current, epochs: std::ops::RangeInclusive<u8>| Keyring {
            current: Epoch(current),
            roots: epochs.map(|e| new_content_root(Epoch(e))).collect(),
            tree: None,
        };
        assert_eq!(free_epoch(&keyring(255, 255..=255)), Some(Epoch(0)));
        assert_eq!(free_epoch(&keyring(255, 0..=255)), None);
        assert_eq!(free_epoch(&keyring(7, 1..=255)), Some(Epoch(0)));
    }
}
