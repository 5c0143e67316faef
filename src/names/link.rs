//! Targets of symbolic links, sealed as records in base64url, since a target is text.

use data_encoding::BASE64URL_NOPAD;

use crate::crypto::NameKeys;
use crate::crypto::record::{self, RECORD_OVERHEAD};
use crate::names::NameError;

const AAD: &[u8; 8] = b"wrdlink1";

/// The longest target, that of Linux.
pub const MAX_TARGET: usize = 4095;

impl NameKeys {
    /// Seals a target of 1..=4095 bytes. The result may be longer than a symbolic link holds.
    pub fn seal_target(&self, plain: &[u8]) -> Vec<u8> {
        assert!(
            is_target_len(plain.len()),
            "a target of {} bytes",
            plain.len()
        );
        BASE64URL_NOPAD
            .encode(&record::seal(&self.links, AAD, plain))
            .into_bytes()
    }

    /// # Errors
    /// [`NameError`] for anything that [`NameKeys::seal_target`] does not make.
    pub fn open_target(&self, stored: &[u8]) -> Result<Vec<u8>, NameError> {
        target_plain_len(stored.len()).ok_or(NameError::Malformed)?;
        let sealed = BASE64URL_NOPAD
            .decode(stored)
            .map_err(|_| NameError::Malformed)?;
        let plain = record::open(&self.links, AAD, &sealed).map_err(|_| NameError::Unauthentic)?;
        if plain.contains(&0) {
            return Err(NameError::NotCanonical);
        }
        Ok(plain)
    }
}

/// Length of the target whose stored form has `stored_len` bytes, exactly; `None` if no target has.
pub fn target_plain_len(stored_len: usize) -> Option<usize> {
    // At most six bits of base64 are lost, so this is whole bytes or no encoding at all.
    if stored_len > BASE64URL_NOPAD.encode_len(MAX_TARGET + RECORD_OVERHEAD) {
        return None;
    }
    let sealed = BASE64URL_NOPAD.decode_len(stored_len).ok()?;
    sealed
        .checked_sub(RECORD_OVERHEAD)
        .filter(|len| is_target_len(*len))
}

fn is_target_len(len: usize) -> bool {
    (1..=MAX_TARGET).contains(&len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::VolumeKey;

    #[test]
    fn targets_of_every_length_survive_and_show_their_length() {
        let keys = VolumeKey::generate().name_keys();
        for len in 1..=MAX_TARGET {
            let plain = vec![b'/'; len];
            let stored = keys.seal_target(&plain);
            assert_eq!(target_plain_len(stored.len()), Some(len));
            assert_eq!(keys.open_target(&stored), Ok(plain));
        }
    }

    #[test]
    fn lengths_that_no_target_has_are_refused() {
        let lengths: Vec<usize> = (0..=6000).filter_map(target_plain_len).collect();
        assert_eq!(lengths, (1..=MAX_TARGET).collect::<Vec<_>>());
        assert_eq!(target_plain_len(usize::MAX), None);
    }

    #[test]
    fn every_changed_character_is_refused() {
        let keys = VolumeKey::generate().name_keys();
        let stored = keys.seal_target(b"../x");
        for at in 0..stored.len() {
            for c in 0..=255 {
                let mut changed = stored.clone();
                changed[at] = c;
                assert_eq!(keys.open_target(&changed).is_ok(), changed == stored);
            }
        }
    }

    #[test]
    fn the_same_target_is_sealed_differently_each_time() {
        let keys = VolumeKey::generate().name_keys();
        assert_ne!(keys.seal_target(b"t"), keys.seal_target(b"t"));
    }
}
