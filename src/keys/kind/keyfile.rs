//! Key files: any file, several combined in any order, alone or beside a passphrase.

use super::{Created, Kind, KindError, no_data};
use crate::format::slot::SlotKind;
use crate::keys::secret::{SlotSecret, combine_keyfiles};
use crate::sys::secret::{SecretBytes, SecretVec};

/// By the hashes of the files ([`crate::keys::secret::hash_keyfile`]).
#[derive(Debug)]
pub struct Keyfile(SlotSecret);

/// Both are needed.
#[derive(Debug)]
pub struct PassphraseAndKeyfile(SlotSecret);

impl Keyfile {
    /// # Errors
    /// [`KindError::Secret`] without a file, or with one given twice.
    pub fn new(hashes: Vec<SecretBytes<32>>) -> Result<Self, KindError> {
        let hash = combine_keyfiles(hashes).map_err(KindError::Secret)?;
        let secret = SlotSecret::new(None, Some(hash)).map_err(KindError::Secret)?;
        Ok(Self(secret))
    }
}

impl PassphraseAndKeyfile {
    /// # Errors
    /// As for each alone.
    pub fn new(passphrase: SecretVec, hashes: Vec<SecretBytes<32>>) -> Result<Self, KindError> {
        let hash = combine_keyfiles(hashes).map_err(KindError::Secret)?;
        let secret = SlotSecret::new(Some(passphrase), Some(hash)).map_err(KindError::Secret)?;
        Ok(Self(secret))
    }
}

impl Kind for Keyfile {
    fn kind(&self) -> SlotKind {
        SlotKind::Keyfile
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

impl Kind for PassphraseAndKeyfile {
    fn kind(&self) -> SlotKind {
        SlotKind::PassphraseAndKeyfile
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
