//! The secret of a slot: a passphrase, a keyfile, or both.

use std::io::{self, Read};

use aws_lc_rs::digest;

use crate::format::slot::SlotKind;
use crate::sys::secret::{SecretBytes, SecretVec};

const DOMAIN: &[u8; 8] = b"wrdsecr1";
const PASSPHRASE: u8 = 1;
const KEYFILE: u8 = 2;

/// Why a secret is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    EmptyPassphrase,
    /// Neither passphrase nor keyfile.
    Missing,
}

impl std::fmt::Display for SecretError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EmptyPassphrase => "the passphrase is empty",
            Self::Missing => "neither a passphrase nor a keyfile is given",
        })
    }
}

impl std::error::Error for SecretError {}

/// See the module. At least one part is there, and the passphrase is not empty.
#[derive(Debug)]
pub struct SlotSecret {
    passphrase: Option<SecretVec>,
    keyfile: Option<SecretBytes<32>>,
}

impl SlotSecret {
    /// `keyfile` is the result of [`hash_keyfile`].
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn new(
        passphrase: Option<SecretVec>,
        keyfile: Option<SecretBytes<32>>,
    ) -> Result<Self, SecretError> {
        match (&passphrase, &keyfile) {
            (None, None) => Err(SecretError::Missing),
            (Some(p), _) if p.is_empty() => Err(SecretError::EmptyPassphrase),
            _ => Ok(Self {
                passphrase,
                keyfile,
            }),
        }
    }

    /// The kind of slot it opens.
    pub fn kind(&self) -> SlotKind {
        match (&self.passphrase, &self.keyfile) {
            (_, None) => SlotKind::Passphrase,
            (None, Some(_)) => SlotKind::Keyfile,
            (Some(_), Some(_)) => SlotKind::PassphraseAndKeyfile,
        }
    }

    /// The input of the KDF: a domain, then each part with its tag and length, so that no two secrets look alike.
    pub(crate) fn canonical(&self) -> SecretVec {
        let mut input = SecretVec::from(&DOMAIN[..]);
        let mut part = |tag: u8, bytes: &[u8]| {
            input.push(tag);
            input.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            input.extend_from_slice(bytes);
        };
        if let Some(passphrase) = &self.passphrase {
            part(PASSPHRASE, passphrase.as_bytes());
        }
        if let Some(keyfile) = &self.keyfile {
            part(KEYFILE, keyfile.as_bytes());
        }
        input
    }
}

/// SHA-256 of a whole keyfile of any size.
///
/// # Errors
/// Those of `file`, and `InvalidData` if it is empty.
pub fn hash_keyfile(file: &mut impl Read) -> io::Result<SecretBytes<32>> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = SecretBytes::<4096>::zeroed();
    let mut is_empty = true;
    loop {
        match file.read(buffer.as_mut_bytes()) {
            Ok(0) if is_empty => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the keyfile is empty",
                ));
            }
            Ok(0) => break,
            Ok(n) => context.update(&buffer.as_bytes()[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        is_empty = false;
    }
    let hash = context.finish();
    Ok(SecretBytes::filled_by(|own| {
        own.copy_from_slice(hash.as_ref())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(passphrase: Option<&[u8]>, keyfile: Option<u8>) -> Result<SlotSecret, SecretError> {
        SlotSecret::new(
            passphrase.map(SecretVec::from),
            keyfile.map(|k| SecretBytes::take(&mut [k; 32])),
        )
    }

    #[test]
    fn empty_secrets_are_refused() {
        let kind = |p, k| secret(p, k).map(|s| s.kind());
        assert_eq!(kind(None, None), Err(SecretError::Missing));
        assert_eq!(kind(Some(b""), None), Err(SecretError::EmptyPassphrase));
        assert_eq!(kind(Some(b""), Some(1)), Err(SecretError::EmptyPassphrase));
        assert_eq!(kind(Some(b"p"), None), Ok(SlotKind::Passphrase));
        assert_eq!(kind(None, Some(1)), Ok(SlotKind::Keyfile));
        assert_eq!(
            kind(Some(b"p"), Some(1)),
            Ok(SlotKind::PassphraseAndKeyfile)
        );
    }

    #[test]
    fn no_two_secrets_have_the_same_input() {
        let canonical = |p, k| secret(p, k).map(|s| s.canonical().as_bytes().to_vec());
        let both = canonical(Some(b"p"), Some(7)).expect("a secret");
        assert_eq!(both[..18], *b"wrdsecr1\x01\x01\0\0\0\0\0\0\0p");
        assert_eq!(both[18..27], [2, 32, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(both[27..], [7; 32]);
        // A passphrase that imitates passphrase and keyfile.
        let imitation = canonical(Some(&both[17..]), None).expect("a secret");
        assert_ne!(both, imitation);
    }

    #[test]
    fn a_keyfile_is_hashed_whole_and_an_empty_one_refused() {
        let content = vec![7; 10_000];
        let hash = hash_keyfile(&mut &content[..]).expect("readable");
        let expected = digest::digest(&digest::SHA256, &content);
        assert_eq!(hash.as_bytes(), expected.as_ref());
        let error = hash_keyfile(&mut &[][..]).expect_err("empty");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
