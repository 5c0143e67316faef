//! The secret of a slot: a passphrase, keyfiles, both, or 32 bytes that came from elsewhere.

use std::io::{self, Read};

use aws_lc_rs::digest;

use crate::format::slot::SlotKind;
use crate::sys::secret::{SecretBytes, SecretVec};

const DOMAIN: &[u8; 8] = b"wrdsecr1";
const PASSPHRASE: u8 = 1;
const KEYFILE: u8 = 2;
const KEYFILES_DOMAIN: &[u8; 8] = b"wrdkeyf1";

/// Why a secret is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    EmptyPassphrase,
    /// Neither passphrase nor keyfile.
    Missing,
    /// Two of several keyfiles hold the same.
    SameKeyfile,
}

impl std::fmt::Display for SecretError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EmptyPassphrase => "the passphrase is empty",
            Self::Missing => "neither a passphrase nor a keyfile is given",
            Self::SameKeyfile => "two of the key files hold the same bytes",
        })
    }
}

impl std::error::Error for SecretError {}

/// See the module. At least one part is there, and the passphrase is not empty.
#[derive(Debug)]
pub struct SlotSecret {
    kind: SlotKind,
    passphrase: Option<SecretVec>,
    keyfile: Option<SecretBytes<32>>,
    other: Option<SecretBytes<32>>,
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
            (Some(_), None) => Ok(Self::parts(SlotKind::Passphrase, passphrase, keyfile)),
            (None, Some(_)) => Ok(Self::parts(SlotKind::Keyfile, passphrase, keyfile)),
            (Some(_), Some(_)) => {
                let kind = SlotKind::PassphraseAndKeyfile;
                Ok(Self::parts(kind, passphrase, keyfile))
            }
        }
    }

    fn parts(
        kind: SlotKind,
        passphrase: Option<SecretVec>,
        keyfile: Option<SecretBytes<32>>,
    ) -> Self {
        Self {
            kind,
            passphrase,
            keyfile,
            other: None,
        }
    }

    /// Of a kind that is neither passphrase nor keyfile: a random key, or the hash of what was handed over.
    pub(crate) fn other(kind: SlotKind, bytes: SecretBytes<32>) -> Self {
        Self {
            other: Some(bytes),
            ..Self::parts(kind, None, None)
        }
    }

    /// The kind of slot it opens.
    pub fn kind(&self) -> SlotKind {
        self.kind
    }

    /// Whether it is random by construction, so that nothing is gained by making each guess expensive.
    pub fn is_random(&self) -> bool {
        matches!(self.kind, SlotKind::Recovery | SlotKind::Shares)
    }

    /// The same again.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = |bytes: &SecretBytes<32>| {
            SecretBytes::filled_by(|own| own.copy_from_slice(bytes.as_bytes()))
        };
        Self {
            kind: self.kind,
            passphrase: self.passphrase.as_ref().map(|p| p.as_bytes().into()),
            keyfile: self.keyfile.as_ref().map(copy),
            other: self.other.as_ref().map(copy),
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
        if let Some(other) = &self.other {
            // Numbers 3 to 6 for kinds 4 to 7.
            part((self.kind.number() - 1) as u8, other.as_bytes());
        }
        input
    }
}

/// One hash for several keyfiles, in whatever order they are given; that of a single one stays as it is.
///
/// # Errors
/// [`SecretError::Missing`] without any, [`SecretError::SameKeyfile`] where one was given twice.
pub fn combine_keyfiles(mut hashes: Vec<SecretBytes<32>>) -> Result<SecretBytes<32>, SecretError> {
    hashes.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    if hashes
        .windows(2)
        .any(|pair| pair[0].ct_eq(pair[1].as_bytes()))
    {
        return Err(SecretError::SameKeyfile);
    }
    if hashes.len() < 2 {
        return hashes.pop().ok_or(SecretError::Missing);
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(KEYFILES_DOMAIN);
    context.update(&(hashes.len() as u64).to_le_bytes());
    hashes
        .iter()
        .for_each(|hash| context.update(hash.as_bytes()));
    let hash = context.finish();
    Ok(SecretBytes::filled_by(|own| {
        own.copy_from_slice(hash.as_ref())
    }))
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
    fn keyfiles_are_combined_in_any_order_and_none_counts_twice() {
        let hash = |byte: u8| SecretBytes::take(&mut [byte; 32]);
        let combined = |bytes: &[u8]| {
            combine_keyfiles(bytes.iter().map(|b| hash(*b)).collect()).map(|h| *h.as_bytes())
        };
        assert_eq!(combined(&[1, 2, 3]), combined(&[3, 1, 2]));
        assert_ne!(combined(&[1, 2]), combined(&[1, 2, 3]));
        assert_eq!(combined(&[7]), Ok([7; 32]));
        assert_eq!(combined(&[1, 2, 1]), Err(SecretError::SameKeyfile));
        assert_eq!(combined(&[]), Err(SecretError::Missing));
    }

    #[test]
    fn the_same_bytes_of_two_kinds_are_two_secrets() {
        let kinds = [
            SlotKind::Credential,
            SlotKind::Command,
            SlotKind::Recovery,
            SlotKind::Shares,
        ];
        for (index, kind) in kinds.into_iter().enumerate() {
            let secret = SlotSecret::other(kind, SecretBytes::take(&mut [7; 32]));
            assert_eq!(secret.canonical().as_bytes()[8], 3 + index as u8);
            assert_eq!(
                secret.copy().canonical().as_bytes(),
                secret.canonical().as_bytes()
            );
        }
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
