//! The keys of an unlocked volume.
//!
//! Everything a mounted volume derives from; the volume key itself is not kept.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::crypto::chunk::FileKeys;
use crate::crypto::rand;
use crate::crypto::schedule::{FileRoot, NameKeys, VolumeKey, file_key};
use crate::format::file::{FileHeader, LOG2_CHUNK};
use crate::format::ids::{Cipher, Epoch, FileId};
use crate::format::keyring::{ContentRoot, Keyring};
use crate::sys::secret::SecretBytes;

/// The header's commitment is not the one this volume would write: changed, or another volume's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderMismatch;

impl std::fmt::Display for HeaderMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the file header does not belong to this volume")
    }
}

impl std::error::Error for HeaderMismatch {}

/// A keyring that did not come after the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAhead;

/// See the module.
#[derive(Debug)]
pub struct VolumeKeys {
    journal_mac: SecretBytes<32>,
    names: NameKeys,
    /// While the names are being sealed anew.
    next_names: Option<NameKeys>,
    files: FileRoot,
    /// A leaf lock: read to derive a file key, written to add an epoch.
    roots: RwLock<Vec<ContentRoot>>,
    /// Always the epoch of one of `roots`.
    current: AtomicU8,
}

impl VolumeKeys {
    /// `keyring` is valid: its current epoch is among its roots.
    pub fn new(key: &VolumeKey, keyring: Keyring) -> Self {
        assert!(
            keyring.root(keyring.current).is_some(),
            "{:?} has a root",
            keyring.current
        );
        let (names, next_names, files) = match keyring.tree {
            None => (key.name_keys(), None, key.file_root()),
            Some(tree) => (
                NameKeys::new(&tree.names),
                tree.next_names.as_ref().map(NameKeys::new),
                FileRoot(tree.files),
            ),
        };
        Self {
            journal_mac: key.journal_mac_key(),
            names,
            next_names,
            files,
            current: AtomicU8::new(keyring.current.0),
            roots: RwLock::new(keyring.roots),
        }
    }

    /// The epoch that new chunks are sealed with.
    pub fn current_epoch(&self) -> Epoch {
        Epoch(self.current.load(Ordering::Acquire))
    }

    /// Adds an epoch and makes it the current one, also for files that are open.
    ///
    /// # Errors
    /// Gives the root back if its epoch is in use: a number is free again only after a new unlock.
    pub fn add_epoch(&self, root: ContentRoot) -> Result<(), ContentRoot> {
        let mut roots = self.roots.write().unwrap_or_else(PoisonError::into_inner);
        if roots.iter().any(|r| r.epoch == root.epoch) {
            return Err(root);
        }
        let epoch = root.epoch;
        roots.push(root);
        self.current.store(epoch.0, Ordering::Release);
        Ok(())
    }

    /// Follows a keyring to the epoch that was added to it. Answers that epoch; `None` if nothing is new.
    ///
    /// # Errors
    /// [`NotAhead`] if the keyring is not one that came after this one: then it was put back, and nothing is changed.
    pub fn follow(&self, keyring: Keyring) -> Result<Option<Epoch>, NotAhead> {
        let target = keyring.current;
        {
            let roots = self.roots.read().unwrap_or_else(PoisonError::into_inner);
            let own = |epoch| roots.iter().find(|r| r.epoch == epoch);
            let current = own(self.current_epoch()).expect("it has a root");
            let same = keyring
                .root(current.epoch)
                .is_some_and(|root| root.root.ct_eq(current.root.as_bytes()));
            if !same || (target != current.epoch && own(target).is_some()) {
                return Err(NotAhead);
            }
            if target == current.epoch {
                return Ok(None);
            }
        }
        let root = keyring.roots.into_iter().find(|r| r.epoch == target);
        self.add_epoch(root.expect("a keyring has its current root"))
            .map_err(|_| NotAhead)?;
        Ok(Some(target))
    }

    pub fn journal_mac_key(&self) -> &SecretBytes<32> {
        &self.journal_mac
    }

    pub fn names(&self) -> &NameKeys {
        &self.names
    }

    /// The keys that the names are being sealed anew with: as long as there are some, every name may be of either.
    pub fn next_names(&self) -> Option<&NameKeys> {
        self.next_names.as_ref()
    }

    /// A header with a random file id, and the keys of that file. `log2_chunk` is within [`LOG2_CHUNK`].
    pub fn new_file(self: &Arc<Self>, cipher: Cipher, log2_chunk: u8) -> (FileHeader, FileKeys) {
        assert!(
            LOG2_CHUNK.contains(&log2_chunk),
            "chunk size 2^{log2_chunk}"
        );
        let mut header = FileHeader {
            cipher,
            log2_chunk,
            file_id: FileId(rand::array()),
            commitment: [0; 32],
        };
        header.commitment = *self.files.commitment(&header).as_bytes();
        (header, self.file_keys(&header))
    }

    /// The keys of the file that `header` was read from.
    ///
    /// # Errors
    /// [`HeaderMismatch`].
    pub fn open_file(self: &Arc<Self>, header: &FileHeader) -> Result<FileKeys, HeaderMismatch> {
        if self.files.commitment(header).ct_eq(&header.commitment) {
            Ok(self.file_keys(header))
        } else {
            Err(HeaderMismatch)
        }
    }

    fn file_keys(self: &Arc<Self>, header: &FileHeader) -> FileKeys {
        FileKeys::new(Arc::clone(self), *header, self.files.nonce_mask(header))
    }

    /// `None` for an epoch that is not in the keyring.
    pub(crate) fn file_key(&self, epoch: Epoch, header: &FileHeader) -> Option<SecretBytes<32>> {
        let roots = self.roots.read().unwrap_or_else(PoisonError::into_inner);
        let root = roots.iter().find(|r| r.epoch == epoch)?;
        Some(file_key(&root.root, header))
    }
}
