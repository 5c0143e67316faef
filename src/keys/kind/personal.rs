//! What a person has at hand: a passphrase, key files, or both, and both are needed then. Key files are any files, several
//! combined in any order. The slot keeps nothing.

use super::{Created, Kind, KindError, no_data};
use crate::format::slot::SlotKind;
use crate::keys::secret::{SlotSecret, combine_keyfiles};
use crate::sys::secret::{SecretBytes, SecretVec};

/// Its kind is that of its parts.
#[derive(Debug)]
pub struct Personal(SlotSecret);

impl Personal {
    /// A passphrase as it was typed or read, and the hashes of key files ([`crate::keys::secret::hash_keyfile`]).
    ///
    /// # Errors
    /// [`KindError::Secret`] without any part, for an empty passphrase, and for a key file that is given twice.
    pub fn new(
        passphrase: Option<SecretVec>,
        keyfiles: Vec<SecretBytes<32>>,
    ) -> Result<Self, KindError> {
        let keyfile = match keyfiles.is_empty() {
            true => Ok(None),
            false => combine_keyfiles(keyfiles).map(Some),
        };
        keyfile
            .and_then(|keyfile| SlotSecret::new(passphrase, keyfile))
            .map(Self)
            .map_err(KindError::Secret)
    }
}

impl Kind for Personal {
    fn kind(&self) -> SlotKind {
        self.0.kind()
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
