//! The content epochs of a header: adding one, and wiping those that no chunk uses any more.
//!
//! A rotation is under way as long as the keyring has more than one epoch, and its target is the current one; a record in
//! the header says how it is to go on. There is no other state, and this one is authenticated under the volume key. How
//! the header reaches the disk, and that no chunk uses an old epoch, is for the callers.

use crate::crypto::{Epoch, HeaderKey, VolumeKey, VolumeKeys, rand};
use crate::format::key_record::KeyRecord;
use crate::format::keyring::Keyring;
use crate::format::rotation_record::RotationRecord;
use crate::format::volume::VolumeHeader;
use crate::keys::header::{UnlockError, new_content_root, open_keyring, remac, seal_keyring};

/// Why a header is not given another keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationError {
    /// All 256 epochs are in the keyring.
    NoEpochLeft,
    /// The current epoch is not the one that the chunks were sealed in: somebody else has changed the keyring.
    OtherEpoch,
    /// There is one epoch alone.
    NotUnderWay,
    Unlock(UnlockError),
}

impl std::fmt::Display for RotationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoEpochLeft => f.write_str("all 256 content epochs are in use"),
            Self::OtherEpoch => f.write_str("the content keys were changed meanwhile"),
            Self::NotUnderWay => f.write_str("no rotation is under way"),
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

/// Who seals the chunks anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hands {
    /// This process, while nobody else uses the volume.
    Own,
    /// The daemon of a mount, now and after every other mount, at so many MiB each second.
    Daemon(Option<u32>),
}

/// What a header says of its content keys.
#[derive(Debug)]
pub struct State {
    pub keyring: Keyring,
    pub record: RotationRecord,
}

impl State {
    pub fn is_under_way(&self) -> bool {
        self.keyring.roots.len() > 1
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
    pub record: RotationRecord,
}

/// The rotation that is under way, which goes on if it was paused; otherwise adds an epoch and makes it the current one.
///
/// # Errors
/// [`RotationError`]. The header is then as it was.
pub fn begin(
    header: &mut VolumeHeader,
    key: &VolumeKey,
    hands: Hands,
) -> Result<Begun, RotationError> {
    let mut keyring = open_keyring(header, key)?;
    let resumed = keyring.roots.len() > 1;
    let mut how = rotation_record(header)?.unwrap_or_else(|| RotationRecord {
        // So that no note of an earlier rotation is taken for one of this.
        asked: u32::from_le_bytes(rand::array()),
        ..RotationRecord::default()
    });
    how.asked = how.asked.wrapping_add(1);
    how.paused = false;
    if let Hands::Daemon(rate) = hands {
        how.background = true;
        how.rate = rate;
    }
    if !resumed {
        let target = free_epoch(&keyring).ok_or(RotationError::NoEpochLeft)?;
        let root = new_content_root(target);
        let mut record = record(header)?;
        record.newest_epoch = Some(root.created);
        keyring.current = target;
        keyring.roots.push(root);
        record.put_into(header);
        seal_keyring(header, key, &keyring);
    }
    RotationRecord::put(Some(how), header);
    remac(header, key);
    let target = keyring.current;
    let since = keyring.root(target).map_or(0, |root| root.created);
    Ok(Begun {
        keys: VolumeKeys::new(key, keyring),
        target,
        since,
        resumed,
        record: how,
    })
}

/// Lets the rotation that is under way rest until it is begun again.
///
/// # Errors
/// [`RotationError`]. The header is then as it was.
pub fn pause(
    header: &mut VolumeHeader,
    key: &impl HeaderKey,
) -> Result<RotationRecord, RotationError> {
    let state = state(header, key)?;
    if !state.is_under_way() {
        return Err(RotationError::NotUnderWay);
    }
    let mut record = state.record;
    record.asked = record.asked.wrapping_add(1);
    record.paused = true;
    RotationRecord::put(Some(record), header);
    remac(header, key);
    Ok(record)
}

/// The content keys, and how their rotation is to go on. The header is verified.
///
/// # Errors
/// [`UnlockError::Tampered`] if this is not the key of the header.
pub fn state(header: &VolumeHeader, key: &impl HeaderKey) -> Result<State, UnlockError> {
    if !header.mac_matches(&key.header_mac_key()) {
        return Err(UnlockError::Tampered);
    }
    let keyring = open_keyring(header, key)?;
    let record = rotation_record(header)?.unwrap_or_default();
    Ok(State { keyring, record })
}

/// Wipes all epochs but `target`; answers how many. No chunk and no living group of the journal may use them.
///
/// # Errors
/// [`RotationError`]. The header is then as it was.
pub fn finish(
    header: &mut VolumeHeader,
    key: &impl HeaderKey,
    target: Epoch,
) -> Result<usize, RotationError> {
    let mut keyring = open_keyring(header, key)?;
    if keyring.current != target {
        return Err(RotationError::OtherEpoch);
    }
    let before = keyring.roots.len();
    keyring.roots.retain(|root| root.epoch == target);
    seal_keyring(header, key, &keyring);
    RotationRecord::put(None, header);
    remac(header, key);
    Ok(before - keyring.roots.len())
}

/// The first free number behind the current one, so that one that was wiped comes again as late as possible.
fn free_epoch(keyring: &Keyring) -> Option<Epoch> {
    (1..=u8::MAX)
        .map(|step| Epoch(keyring.current.0.wrapping_add(step)))
        .find(|epoch| keyring.root(*epoch).is_none())
}

fn rotation_record(header: &VolumeHeader) -> Result<Option<RotationRecord>, UnlockError> {
    RotationRecord::of(header).map_err(UnlockError::Invalid)
}

fn record(header: &VolumeHeader) -> Result<KeyRecord, UnlockError> {
    KeyRecord::of(header).map_err(UnlockError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::NotAhead;
    use crate::keys::header::epochs;
    use crate::keys::lab::volume;

    fn numbers(header: &VolumeHeader, key: &VolumeKey) -> Vec<u8> {
        let all = epochs(header, key).expect("authentic");
        all.iter().map(|(epoch, _)| epoch.0).collect()
    }

    #[test]
    fn a_rotation_is_begun_once_and_goes_on_until_the_old_epoch_is_wiped() {
        let (mut header, key) = volume();
        let begun = begin(&mut header, &key, Hands::Own).expect("there are epochs left");
        assert_eq!((begun.target, begun.resumed), (Epoch(1), false));
        assert_eq!(begun.keys.current_epoch(), Epoch(1));
        assert_eq!(numbers(&header, &key), [0, 1]);
        let record = KeyRecord::of(&header).expect("written");
        assert_eq!(record.newest_epoch, Some(begun.since));

        let again = begin(&mut header, &key, Hands::Own).expect("goes on");
        assert_eq!((again.target, again.resumed), (Epoch(1), true));
        assert_eq!(numbers(&header, &key), [0, 1]);

        assert_eq!(finish(&mut header, &key, Epoch(1)), Ok(1));
        assert_eq!(numbers(&header, &key), [1]);
    }

    #[test]
    fn who_asks_last_says_how_a_rotation_goes_on() {
        let (mut header, key) = volume();
        assert_eq!(pause(&mut header, &key), Err(RotationError::NotUnderWay));
        let begun = begin(&mut header, &key, Hands::Daemon(Some(7))).expect("begun");
        let told = |header: &VolumeHeader| RotationRecord::of(header).expect("written");
        assert_eq!(told(&header), Some(begun.record));
        assert_eq!(
            (begun.record.rate, begun.record.background),
            (Some(7), true)
        );
        let paused = pause(&mut header, &key).expect("under way");
        assert!(paused.paused && paused.asked != begun.record.asked);
        let again = begin(&mut header, &key, Hands::Own).expect("goes on");
        assert!(again.resumed && !again.record.paused && again.record.background);
        let now = state(&header, &key.header_keys()).expect("authentic");
        assert!(now.is_under_way() && now.record == again.record);
        assert_eq!(finish(&mut header, &key.header_keys(), Epoch(1)), Ok(1));
        assert_eq!(told(&header), None);
        assert!(!state(&header, &key).expect("authentic").is_under_way());
    }

    #[test]
    fn a_volume_follows_to_an_epoch_that_was_added_and_never_back() {
        let (mut header, key) = volume();
        let keyring = |header: &VolumeHeader| open_keyring(header, &key).expect("authentic");
        let keys = VolumeKeys::new(&key, keyring(&header));
        let first = header.clone();
        assert_eq!(keys.follow(keyring(&header)), Ok(None));
        begin(&mut header, &key, Hands::Own).expect("begun");
        let both = header.clone();
        assert_eq!(keys.follow(keyring(&header)), Ok(Some(Epoch(1))));
        assert_eq!(keys.current_epoch(), Epoch(1));
        assert_eq!(keys.follow(keyring(&first)), Err(NotAhead));
        finish(&mut header, &key, Epoch(1)).expect("begun");
        assert_eq!(keys.follow(keyring(&header)), Ok(None));
        begin(&mut header, &key, Hands::Own).expect("begun");
        assert_eq!(keys.follow(keyring(&header)), Ok(Some(Epoch(2))));
        assert_eq!(keys.follow(keyring(&first)), Err(NotAhead));
        assert_eq!(keys.follow(keyring(&both)), Err(NotAhead));
        // Another epoch of the same number is not the one in use.
        let mut other = first.clone();
        begin(&mut other, &key, Hands::Own).expect("begun");
        finish(&mut other, &key, Epoch(1)).expect("begun");
        begin(&mut other, &key, Hands::Own).expect("begun");
        assert_eq!(keys.follow(keyring(&other)), Err(NotAhead));
        assert_eq!(keys.current_epoch(), Epoch(2));
    }

    #[test]
    fn epochs_are_wiped_only_for_the_current_one() {
        let (mut header, key) = volume();
        begin(&mut header, &key, Hands::Own).expect("there are epochs left");
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
