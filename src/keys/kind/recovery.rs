//! A recovery key: 256 random bits on paper.

use super::{Created, Kind, KindError, no_data};
use crate::crypto::rand;
use crate::format::slot::SlotKind;
use crate::keys::printed;
use crate::keys::secret::SlotSecret;
use crate::sys::secret::{SecretBytes, SecretVec};

const LENGTH: usize = 32;

/// The key as it was typed, or none yet.
#[derive(Debug, Default)]
pub struct Recovery(Option<SecretVec>);

impl Recovery {
    /// # Errors
    /// [`KindError::Printed`] with the group that is wrong.
    pub fn typed(text: &[u8]) -> Result<Self, KindError> {
        let key = printed::decode(text, LENGTH).map_err(KindError::Printed)?;
        Ok(Self(Some(key)))
    }

    fn secret(key: &[u8]) -> SlotSecret {
        let bytes = SecretBytes::filled_by(|own| own.copy_from_slice(key));
        SlotSecret::other(SlotKind::Recovery, bytes)
    }
}

impl Kind for Recovery {
    fn kind(&self) -> SlotKind {
        SlotKind::Recovery
    }

    /// Always a new key.
    fn create(&self) -> Result<Created, KindError> {
        let mut key = SecretVec::with_capacity(LENGTH);
        key.resize(LENGTH);
        rand::fill(key.as_mut_bytes());
        let mut created = Created::of(Self::secret(key.as_bytes()), Vec::new());
        created.printed = vec![printed::encode(key.as_bytes())];
        Ok(created)
    }

    fn open(&self, data: &[u8]) -> Result<SlotSecret, KindError> {
        no_data(data)?;
        let key = self.0.as_ref();
        let missing = KindError::Secret(crate::keys::secret::SecretError::Missing);
        key.map(|key| Self::secret(key.as_bytes())).ok_or(missing)
    }

    fn describe(data: &[u8]) -> Result<String, KindError> {
        no_data(data).map(|()| String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_printed_opens_again() {
        let created = Recovery::default().create().expect("random");
        let again = Recovery::typed(created.printed[0].as_bytes()).expect("no typo");
        let opened = again.open(&[]).expect("a key");
        assert_eq!(
            opened.canonical().as_bytes(),
            created.secret.canonical().as_bytes()
        );
        assert!(again.open(&[1]).is_err());
        assert!(Recovery::default().open(&[]).is_err());
    }
}
