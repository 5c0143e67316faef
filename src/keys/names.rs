//! The root of the names: another one beside it, and the old one wiped.
//!
//! Names are being sealed anew as long as the keyring has a next name root. There is no other state of it, so there is none
//! that could be forged or put back without the volume key.

use crate::crypto::{VolumeKey, VolumeKeys, rand};
use crate::format::volume::VolumeHeader;
use crate::keys::header::{UnlockError, open_keyring, remac, seal_keyring};
use crate::sys::secret::SecretBytes;

/// What the names are sealed anew with.
#[derive(Debug)]
pub struct Begun {
    /// With both name roots.
    pub keys: VolumeKeys,
    /// It was begun earlier.
    pub resumed: bool,
}

/// Adds a next name root, unless there is one.
///
/// # Errors
/// [`UnlockError`]. The header is then as it was.
pub fn begin(header: &mut VolumeHeader, key: &VolumeKey) -> Result<Begun, UnlockError> {
    let mut keyring = open_keyring(header, key)?;
    let tree = keyring.tree.get_or_insert_with(|| key.tree_roots());
    let resumed = tree.next_names.is_some();
    if !resumed {
        tree.next_names = Some(SecretBytes::filled_by(|bytes| rand::fill(bytes)));
        seal_keyring(header, key, &keyring);
        remac(header, key);
    }
    Ok(Begun {
        keys: VolumeKeys::new(key, keyring),
        resumed,
    })
}

/// Makes the next name root the only one. Nothing that can be opened may be sealed under the old one any more.
///
/// # Errors
/// [`UnlockError`]. The header is then as it was.
pub fn finish(header: &mut VolumeHeader, key: &VolumeKey) -> Result<(), UnlockError> {
    let mut keyring = open_keyring(header, key)?;
    if let Some(tree) = &mut keyring.tree
        && let Some(next) = tree.next_names.take()
    {
        tree.names = next;
        seal_keyring(header, key, &keyring);
        remac(header, key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ids::DirId;
    use crate::keys::lab::volume;

    #[test]
    fn the_next_root_becomes_the_only_one_and_is_added_once() {
        let (mut header, key) = volume();
        let dir = DirId([1; 16]);
        let entry = |names: &crate::crypto::NameKeys| names.seal(&dir, b"name").entry;
        let old = entry(&key.name_keys());
        let begun = begin(&mut header, &key).expect("authentic");
        assert!(!begun.resumed);
        assert_eq!(entry(begun.keys.names()), old);
        let new = entry(begun.keys.next_names().expect("under way"));
        assert_ne!(new, old);
        let again = begin(&mut header, &key).expect("authentic");
        assert!(again.resumed);
        assert_eq!(entry(again.keys.next_names().expect("under way")), new);
        finish(&mut header, &key).expect("authentic");
        let keyring = open_keyring(&header, &key).expect("authentic");
        let keys = VolumeKeys::new(&key, keyring);
        assert_eq!(entry(keys.names()), new);
        assert!(keys.next_names().is_none());
    }
}
