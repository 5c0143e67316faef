//! A passphrase.

use super::{Created, Kind, KindError, no_data};
use crate::format::slot::SlotKind;
use crate::keys::secret::SlotSecret;
use crate::sys::secret::SecretVec;

/// As it was typed or read; not empty.
#[derive(Debug)]
pub struct Passphrase(SlotSecret);

impl Passphrase {
    /// # Errors
    /// [`KindError::Secret`] for an empty one.
    pub fn new(passphrase: SecretVec) -> Result<Self, KindError> {
        let secret = SlotSecret::new(Some(passphrase), None).map_err(KindError::Secret)?;
        Ok(Self(secret))
    }
}

impl Kind for Passphrase {
    fn kind(&self) -> SlotKind {
        SlotKind::Passphrase
    }

    fn create(&self) -> Result<Created, KindError> {
        Ok(Created::of(self.0.copy(), Vec::new()))
    }

    fn open(&self, data: &[u8]) -> Result<SlotSecret, KindError> {
        no_data(data).map(|()| self.0.copy())
    }

    fn describe(data: &[u8]) -> Result<String, KindError> {
        no_data(data).map(|()| String::new())
    }
}
