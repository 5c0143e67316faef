//! The keyring: the content roots of all epochs. Sealed as a whole inside the volume header.
//!
//! ```text
//! current epoch 1 | count u16 | count times: epoch 1 | created i64 | root 32      little-endian
//! only with the feature "tree roots": name root 32 | file root 32 | 0 or 1 | only after 1: next name root 32
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

/// The roots of the tree, where they are no longer those that the volume key derives.
#[derive(Debug)]
pub struct TreeRoots {
    pub names: SecretBytes<32>,
    pub files: SecretBytes<32>,
    /// The names are being sealed anew, under the keys of this root.
    pub next_names: Option<SecretBytes<32>>,
}

/// All content roots of a volume.
#[derive(Debug)]
pub struct Keyring {
    /// The epoch that new chunks are sealed with; one of `roots`.
    pub current: Epoch,
    /// In the order they were added, each epoch once.
    pub roots: Vec<ContentRoot>,
    /// `None` as long as the volume key derives them.
    pub tree: Option<TreeRoots>,
}

const ENTRY: usize = 1 + 8 + 32;

/// Length of encoded tree roots, all three.
const MAX_TREE: usize = 32 + 32 + 1 + 32;

/// Length of an encoded keyring of all 256 epochs, with all tree roots.
pub const MAX_KEYRING: usize = 3 + 256 * ENTRY + MAX_TREE;

impl Keyring {
    pub fn root(&self, epoch: Epoch) -> Option<&ContentRoot> {
        self.roots.iter().find(|r| r.epoch == epoch)
    }

    pub fn encode(&self) -> SecretVec {
        let count = u16::try_from(self.roots.len()).expect("there are 256 epochs");
        let mut out = SecretVec::with_capacity(3 + self.roots.len() * ENTRY + MAX_TREE);
        out.push(self.current.0);
        out.extend_from_slice(&count.to_le_bytes());
        for entry in &self.roots {
            out.push(entry.epoch.0);
            out.extend_from_slice(&entry.created.to_le_bytes());
            out.extend_from_slice(entry.root.as_bytes());
        }
        if let Some(tree) = &self.tree {
            out.extend_from_slice(tree.names.as_bytes());
            out.extend_from_slice(tree.files.as_bytes());
            out.push(tree.next_names.is_some().into());
            if let Some(next) = &tree.next_names {
                out.extend_from_slice(next.as_bytes());
            }
        }
        out
    }

    /// # Errors
    /// [`FormatError::Length`] or [`FormatError::Field`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let length = FormatError::Length { found: bytes.len() };
        let (&[current, lo, hi], rest) = bytes.split_first_chunk().ok_or(length)?;
        let count = usize::from(u16::from_le_bytes([lo, hi]));
        let (entries, tree) = rest.split_at_checked(count * ENTRY).ok_or(length)?;
        let (entries, _) = entries.as_chunks::<ENTRY>();
        let mut keyring = Self {
            current: Epoch(current),
            roots: Vec::with_capacity(entries.len()),
            tree: TreeRoots::decode(tree)?,
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

impl TreeRoots {
    /// `None` of nothing.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, FormatError> {
        let length = FormatError::Length { found: bytes.len() };
        let root = |bytes: &[u8; 32]| SecretBytes::filled_by(|own| own.copy_from_slice(bytes));
        let (roots, rest) = bytes.as_chunks::<32>();
        let (names, files, next_names) = match (roots, rest) {
            ([], []) => return Ok(None),
            ([names, files], [0]) => (names, files, None),
            // The byte in front of the last root leaves one behind the chunks.
            ([names, files, _], [_]) if bytes[64] == 1 => (names, files, bytes.last_chunk::<32>()),
            ([_, _], [_]) | ([_, _, _], [_]) => return Err(FormatError::Field("next name root")),
            _ => return Err(length),
        };
        Ok(Some(Self {
            names: root(names),
            files: root(files),
            next_names: next_names.map(root),
        }))
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
            tree: None,
        }
    }

    fn tree(next: Option<u8>) -> TreeRoots {
        let root = |byte: u8| SecretBytes::take(&mut [byte; 32]);
        TreeRoots {
            names: root(1),
            files: root(2),
            next_names: next.map(root),
        }
    }

    #[test]
    fn tree_roots_survive_the_round_trip_and_no_other_length_is_read() {
        for (next, len) in [(None, 65), (Some(3), 97)] {
            let mut own = keyring(0, &[0]);
            let without = own.encode().len();
            own.tree = Some(tree(next));
            let encoded = own.encode();
            assert_eq!(encoded.len(), without + len);
            let decoded = Keyring::decode(encoded.as_bytes()).expect("our own");
            let tree = decoded.tree.expect("it has some");
            assert_eq!(tree.names.as_bytes(), &[1; 32]);
            assert_eq!(tree.files.as_bytes(), &[2; 32]);
            let found = tree.next_names.map(|root| *root.as_bytes());
            assert_eq!(found, next.map(|byte| [byte; 32]));
            for cut in without + 1..encoded.len() {
                assert!(
                    Keyring::decode(&encoded.as_bytes()[..cut]).is_err(),
                    "{cut}"
                );
            }
            let mut other = SecretVec::from(encoded.as_bytes());
            other.as_mut_bytes()[without + 64] ^= 2;
            assert!(Keyring::decode(other.as_bytes()).is_err());
        }
        let mut all = keyring(7, &(0..=255).collect::<Vec<u8>>());
        all.tree = Some(tree(Some(9)));
        assert_eq!(all.encode().len(), MAX_KEYRING);
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
