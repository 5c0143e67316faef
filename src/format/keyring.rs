//! The keyring: the content roots of all epochs. Sealed as a whole inside the volume header.
//!
//! ```text
//! current epoch 1 | count u16 | count times: epoch 1 | created i64 | root 32      little-endian
//! ```
//!
//! Laid out by hand, so that no key passes through memory that is not locked.

use crate::format::FormatError;
use crate::format::ids::Epoch;
use crate::sys::secret::{SecretBytes, SecretVec};

/// The content root of one epoch.
#[derive(Debug)]
pub struct ContentRoot {
    pub epoch: Epoch,
    /// Seconds since 1970.
    pub created: i64,
    pub root: SecretBytes<32>,
}

/// All content roots of a volume.
#[derive(Debug)]
pub struct Keyring {
    /// The epoch that new chunks are sealed with; one of `roots`.
    pub current: Epoch,
    /// In the order they were added, each epoch once.
    pub roots: Vec<ContentRoot>,
}

const ENTRY: usize = 1 + 8 + 32;

/// Length of an encoded keyring of all 256 epochs.
pub const MAX_KEYRING: usize = 3 + 256 * ENTRY;

impl Keyring {
    pub fn root(&self, epoch: Epoch) -> Option<&ContentRoot> {
        self.roots.iter().find(|r| r.epoch == epoch)
    }

    pub fn encode(&self) -> SecretVec {
        let count = u16::try_from(self.roots.len()).expect("there are 256 epochs");
        let mut out = SecretVec::with_capacity(3 + self.roots.len() * ENTRY);
        out.push(self.current.0);
        out.extend_from_slice(&count.to_le_bytes());
        for entry in &self.roots {
            out.push(entry.epoch.0);
            out.extend_from_slice(&entry.created.to_le_bytes());
            out.extend_from_slice(entry.root.as_bytes());
        }
        out
    }

    /// # Errors
    /// [`FormatError::Length`] or [`FormatError::Field`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let length = FormatError::Length { found: bytes.len() };
        let (&[current, lo, hi], entries) = bytes.split_first_chunk().ok_or(length)?;
        let (entries, rest) = entries.as_chunks::<ENTRY>();
        if !rest.is_empty() || entries.len() != usize::from(u16::from_le_bytes([lo, hi])) {
            return Err(length);
        }
        let mut keyring = Self {
            current: Epoch(current),
            roots: Vec::with_capacity(entries.len()),
        };
        for entry in entries {
            let epoch = Epoch(entry[0]);
            if keyring.root(epoch).is_some() {
                return Err(FormatError::Field("epoch"));
            }
            keyring.roots.push(ContentRoot {
                epoch,
                created: i64::from_le_bytes(entry[1..9].try_into().expect("8 bytes")),
                root: SecretBytes::filled_by(|root| root.copy_from_slice(&entry[9..])),
            });
        }
        match keyring.root(keyring.current) {
            Some(_) => Ok(keyring),
            None => Err(FormatError::Field("current epoch")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(current: u8, epochs: &[u8]) -> Keyring {
        let root = |e: &u8| ContentRoot {
            epoch: Epoch(*e),
            created: -1,
            root: SecretBytes::take(&mut [*e; 32]),
        };
        Keyring {
            current: Epoch(current),
            roots: epochs.iter().map(root).collect(),
        }
    }

    #[test]
    fn a_keyring_of_all_epochs_survives_the_round_trip() {
        let all: Vec<u8> = (0..=255).rev().collect();
        let encoded = keyring(7, &all).encode();
        assert_eq!(encoded.len(), 3 + 256 * 41);
        let decoded = Keyring::decode(encoded.as_bytes()).expect("our own");
        assert_eq!(decoded.encode().as_bytes(), encoded.as_bytes());
        assert_eq!(decoded.current, Epoch(7));
        assert!(decoded.roots[0].root.ct_eq(&[255; 32]));
    }

    #[test]
    fn duplicate_epochs_and_a_current_one_without_root_are_refused() {
        let decode = |k: Keyring| Keyring::decode(k.encode().as_bytes()).map(|_| ());
        assert_eq!(
            decode(keyring(1, &[1, 1])),
            Err(FormatError::Field("epoch"))
        );
        assert_eq!(
            decode(keyring(2, &[1])),
            Err(FormatError::Field("current epoch"))
        );
        assert_eq!(
            decode(keyring(0, &[])),
            Err(FormatError::Field("current epoch"))
        );
    }

    #[test]
    fn every_other_length_is_refused() {
        let encoded = keyring(0, &[0, 1]).encode();
        let mut longer = SecretVec::from(encoded.as_bytes());
        longer.push(0);
        assert!(Keyring::decode(longer.as_bytes()).is_err());
        for len in 0..encoded.len() {
            assert!(
                Keyring::decode(&encoded.as_bytes()[..len]).is_err(),
                "{len} bytes"
            );
        }
    }
}
