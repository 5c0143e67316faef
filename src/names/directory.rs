//! Directory ids as they are stored: `id 16 | MAC 16`, in a file and in the name of its hard link.

use data_encoding::BASE64URL_NOPAD;

use crate::crypto::{DirId, NameKeys, mac};
use crate::names::NameError;
use crate::names::classify::DIR_ID_LINK_PREFIX;

/// Length of a stored directory id.
pub const DIR_RECORD_LEN: usize = 32;

impl NameKeys {
    /// What a directory's id file contains.
    pub fn dir_record(&self, id: &DirId) -> [u8; DIR_RECORD_LEN] {
        let mut record = [0; DIR_RECORD_LEN];
        record[..16].copy_from_slice(&id.0);
        record[16..].copy_from_slice(&self.dir_mac(id)[..16]);
        record
    }

    /// # Errors
    /// [`NameError`] for anything that [`NameKeys::dir_record`] does not make.
    pub fn parse_dir_record(&self, record: &[u8]) -> Result<DirId, NameError> {
        let record: &[u8; DIR_RECORD_LEN] = record.try_into().map_err(|_| NameError::Malformed)?;
        let (id, claimed) = record.split_at(16);
        let id = DirId(id.try_into().expect("16 bytes"));
        if mac::matches(&self.dir_mac(&id), claimed) {
            Ok(id)
        } else {
            Err(NameError::Unauthentic)
        }
    }

    /// The name of the id file's hard link.
    pub fn dir_link_name(&self, id: &DirId) -> String {
        let mut name = DIR_ID_LINK_PREFIX.to_owned();
        BASE64URL_NOPAD.encode_append(&self.dir_record(id), &mut name);
        name
    }

    /// # Errors
    /// [`NameError`] for anything that [`NameKeys::dir_link_name`] does not make.
    pub fn parse_dir_link_name(&self, name: &[u8]) -> Result<DirId, NameError> {
        let encoded = name
            .strip_prefix(DIR_ID_LINK_PREFIX.as_bytes())
            .ok_or(NameError::Malformed)?;
        let record = BASE64URL_NOPAD
            .decode(encoded)
            .map_err(|_| NameError::Malformed)?;
        self.parse_dir_record(&record)
    }

    fn dir_mac(&self, id: &DirId) -> [u8; 32] {
        mac::tag(&self.directories, &[&id.0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::VolumeKey;
    use crate::names::{Stored, classify};

    const ID: DirId = DirId([3; 16]);

    #[test]
    fn file_and_link_name_both_give_the_id_back() {
        let keys = VolumeKey::generate().name_keys();
        assert_eq!(keys.parse_dir_record(&keys.dir_record(&ID)), Ok(ID));
        let link = keys.dir_link_name(&ID);
        assert_eq!(classify(link.as_bytes()), Stored::DirIdLink);
        assert_eq!(keys.parse_dir_link_name(link.as_bytes()), Ok(ID));
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_refused() {
        let keys = VolumeKey::generate().name_keys();
        let record = keys.dir_record(&ID);
        for bit in 0..256 {
            let mut changed = record;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys.parse_dir_record(&changed), Err(NameError::Unauthentic));
        }
        for len in (0..32).chain([33, 64]) {
            let other = [&record[..], &record[..]].concat();
            assert_eq!(
                keys.parse_dir_record(&other[..len]),
                Err(NameError::Malformed)
            );
        }
        let link = keys.dir_link_name(&ID);
        for at in 0..link.len() {
            let mut changed = link.clone().into_bytes();
            changed[at] ^= 1;
            assert!(keys.parse_dir_link_name(&changed).is_err());
        }
    }

    #[test]
    fn the_id_of_another_volume_is_refused() {
        let [ours, theirs] = [(); 2].map(|()| VolumeKey::generate().name_keys());
        let error = ours.parse_dir_record(&theirs.dir_record(&ID));
        assert_eq!(error, Err(NameError::Unauthentic));
    }
}
