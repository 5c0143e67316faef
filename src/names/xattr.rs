//! Extended attributes of users: names as keyed hashes, names and values sealed together as records.
//!
//! `owner` is the id of the file or directory, so an attribute cannot be moved to another object.

use data_encoding::BASE64URL_NOPAD;

use crate::crypto::{NameKeys, mac, record};
use crate::names::NameError;

/// Prefix of every stored attribute name.
pub const XATTR_PREFIX: &str = "user.wardfs.";

const AAD_DOMAIN: &[u8; 8] = b"wrdxatr1";
const HASH_LEN: usize = 24;

impl NameKeys {
    /// The stored name of attribute `name` of the object `owner`.
    pub fn xattr_name(&self, owner: &[u8], name: &[u8]) -> String {
        let hash = mac::tag(&self.xattr_names, &[&[owner_len(owner)], owner, name]);
        let mut stored = XATTR_PREFIX.to_owned();
        BASE64URL_NOPAD.encode_append(&hash[..HASH_LEN], &mut stored);
        stored
    }

    /// Seals `name`, at most 255 bytes, and `value` of an attribute of `owner`.
    pub fn seal_xattr(&self, owner: &[u8], name: &[u8], value: &[u8]) -> Vec<u8> {
        let name_len = u16::try_from(name.len()).expect("the kernel bounds names to 255 bytes");
        let plain = [&name_len.to_le_bytes(), name, value].concat();
        let aad = aad(owner, &self.xattr_name(owner, name));
        record::seal(&self.xattr_values, &aad, &plain)
    }

    /// Name and value of the attribute stored as `stored_name`.
    ///
    /// # Errors
    /// [`NameError`] for anything that [`NameKeys::seal_xattr`] does not make.
    pub fn open_xattr(
        &self,
        owner: &[u8],
        stored_name: &str,
        stored: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), NameError> {
        let plain = record::open(&self.xattr_values, &aad(owner, stored_name), stored)
            .map_err(|_| NameError::Unauthentic)?;
        let (len, rest) = plain.split_first_chunk().ok_or(NameError::NotCanonical)?;
        let (name, value) = rest
            .split_at_checked(u16::from_le_bytes(*len).into())
            .ok_or(NameError::NotCanonical)?;
        Ok((name.to_vec(), value.to_vec()))
    }
}

fn aad(owner: &[u8], stored_name: &str) -> Vec<u8> {
    [
        AAD_DOMAIN,
        &[owner_len(owner)][..],
        owner,
        stored_name.as_bytes(),
    ]
    .concat()
}

fn owner_len(owner: &[u8]) -> u8 {
    owner.len().try_into().expect("ids have 16 or 24 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::VolumeKey;

    const FILE: &[u8] = &[1; 24];
    const DIR: &[u8] = &[1; 16];

    #[test]
    fn name_and_value_survive_the_round_trip() {
        let keys = VolumeKey::generate().name_keys();
        for (name, value) in [
            (&b"n"[..], &b""[..]),
            (&[0xff; 255], &[7; 65536]),
            (b"", b"v"),
        ] {
            let stored_name = keys.xattr_name(FILE, name);
            assert!(stored_name.len() <= 255);
            let stored = keys.seal_xattr(FILE, name, value);
            let opened = keys.open_xattr(FILE, &stored_name, &stored);
            assert_eq!(opened, Ok((name.to_vec(), value.to_vec())));
        }
    }

    #[test]
    fn an_attribute_opens_only_under_its_own_name_and_owner() {
        let keys = VolumeKey::generate().name_keys();
        let stored = keys.seal_xattr(FILE, b"a", b"value");
        let a = keys.xattr_name(FILE, b"a");
        let b = keys.xattr_name(FILE, b"b");
        assert!(keys.open_xattr(FILE, &a, &stored).is_ok());
        assert_eq!(
            keys.open_xattr(FILE, &b, &stored),
            Err(NameError::Unauthentic)
        );
        assert_eq!(
            keys.open_xattr(DIR, &a, &stored),
            Err(NameError::Unauthentic)
        );
        assert_ne!(a, keys.xattr_name(DIR, b"a"));
    }

    #[test]
    fn every_flipped_bit_and_every_shorter_length_is_refused() {
        let keys = VolumeKey::generate().name_keys();
        let name = keys.xattr_name(FILE, b"a");
        let stored = keys.seal_xattr(FILE, b"a", b"value");
        for bit in 0..stored.len() * 8 {
            let mut changed = stored.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open_xattr(FILE, &name, &changed).is_err());
        }
        for len in 0..stored.len() {
            assert!(keys.open_xattr(FILE, &name, &stored[..len]).is_err());
        }
    }
}
