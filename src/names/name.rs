//! File names: AES-256-SIV (RFC 5297) of the padded name, with the directory id as associated data.
//!
//! Deterministic, so that a lookup needs no listing: the same name in the same directory has one stored form. Names are
//! padded with NULs to multiples of 16 and written in base64url. Up to 160 bytes they fit an entry: 160 + 16 bytes are
//! 235 characters, while 176 + 16 would be 256 and a backing filesystem takes 255. A longer name is stored as a keyed
//! hash, with its sealed form in a sidecar.

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use data_encoding::BASE64URL_NOPAD;

use crate::crypto::{DirId, NameKeys, mac};
use crate::names::NameError;
use crate::names::classify::{LONG_PREFIX, Stored, classify};

/// Padding unit.
pub(crate) const UNIT: usize = 16;
/// Length of the synthetic IV in front of the ciphertext.
pub(crate) const SIV_LEN: usize = 16;
/// The longest name whose sealed form is an entry.
pub const MAX_SHORT: usize = 160;
/// The longest name.
pub const MAX_NAME: usize = 255;

/// The stored form of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedName {
    /// The directory entry, ASCII.
    pub entry: Vec<u8>,
    /// For a long name: what its sidecar contains.
    pub sidecar: Option<Vec<u8>>,
}

impl NameKeys {
    /// Seals a name of 1..=255 bytes without NUL or slash.
    pub fn seal(&self, dir: &DirId, plain: &[u8]) -> SealedName {
        assert!(is_name(plain), "a name of {} bytes", plain.len());
        let sealed = self.siv_seal(dir, plain);
        if plain.len() <= MAX_SHORT {
            SealedName {
                entry: BASE64URL_NOPAD.encode(&sealed).into_bytes(),
                sidecar: None,
            }
        } else {
            SealedName {
                entry: self.long_entry(dir, plain),
                sidecar: Some(sealed),
            }
        }
    }

    /// Opens the names of a directory.
    pub fn opener(&self, dir: &DirId) -> Opener<'_> {
        Opener {
            keys: self,
            dir: *dir,
            siv: self.siv(),
        }
    }

    /// See [`Opener::open`].
    pub fn open(&self, dir: &DirId, entry: &[u8]) -> Result<Vec<u8>, NameError> {
        self.opener(dir).open(entry)
    }

    /// See [`Opener::open_long`].
    pub fn open_long(
        &self,
        dir: &DirId,
        entry: &[u8],
        sidecar: &[u8],
    ) -> Result<Vec<u8>, NameError> {
        self.opener(dir).open_long(entry, sidecar)
    }

    fn long_entry(&self, dir: &DirId, plain: &[u8]) -> Vec<u8> {
        let hash = mac::tag(&self.long_names, &[&dir.0, plain]);
        let mut entry = LONG_PREFIX.to_owned();
        BASE64URL_NOPAD.encode_append(&hash, &mut entry);
        entry.into_bytes()
    }

    fn siv_seal(&self, dir: &DirId, plain: &[u8]) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(SIV_LEN + plain.len().next_multiple_of(UNIT));
        buffer.extend(plain);
        buffer.resize(plain.len().next_multiple_of(UNIT), 0);
        self.siv()
            .encrypt_in_place([&dir.0], &mut buffer)
            .expect("one header, and the buffer grows");
        buffer
    }

    fn siv(&self) -> Aes256Siv {
        Aes256Siv::new(self.names.as_bytes().into())
    }
}

/// Opens names of one directory, all with one key schedule.
#[derive(Debug)]
pub struct Opener<'a> {
    keys: &'a NameKeys,
    dir: DirId,
    siv: Aes256Siv,
}

impl Opener<'_> {
    /// Opens a [`Stored::Short`] entry.
    ///
    /// # Errors
    /// [`NameError`]; anything that [`NameKeys::seal`] does not make is one.
    pub fn open(&mut self, entry: &[u8]) -> Result<Vec<u8>, NameError> {
        // That it is of the right alphabet and length is for the decoder to see.
        let sealed = BASE64URL_NOPAD
            .decode(entry)
            .map_err(|_| NameError::Malformed)?;
        if !sealed.len().is_multiple_of(UNIT)
            || !(SIV_LEN + UNIT..=SIV_LEN + MAX_SHORT).contains(&sealed.len())
        {
            return Err(NameError::Malformed);
        }
        self.siv_open(sealed)
    }

    /// Opens a [`Stored::Long`] entry with the content of its sidecar.
    ///
    /// # Errors
    /// [`NameError`]; also if the two do not belong together.
    pub fn open_long(&mut self, entry: &[u8], sidecar: &[u8]) -> Result<Vec<u8>, NameError> {
        let padded = sidecar.len().saturating_sub(SIV_LEN);
        if classify(entry) != Stored::Long
            || !padded.is_multiple_of(UNIT)
            || !(MAX_SHORT + UNIT..=MAX_NAME + 1).contains(&padded)
        {
            return Err(NameError::Malformed);
        }
        let plain = self.siv_open(sidecar.to_vec())?;
        if self.keys.long_entry(&self.dir, &plain) == entry {
            Ok(plain)
        } else {
            Err(NameError::Unauthentic)
        }
    }

    fn siv_open(&mut self, mut name: Vec<u8>) -> Result<Vec<u8>, NameError> {
        self.siv
            .decrypt_in_place([&self.dir.0], &mut name)
            .map_err(|_| NameError::Unauthentic)?;
        let padded = name.len();
        let len = padded - name.iter().rev().take_while(|b| **b == 0).count();
        name.truncate(len);
        let canonical = len.next_multiple_of(UNIT) == padded
            && is_name(&name)
            && !matches!(&name[..], b"." | b"..");
        canonical.then_some(name).ok_or(NameError::NotCanonical)
    }
}

fn is_name(plain: &[u8]) -> bool {
    (1..=MAX_NAME).contains(&plain.len()) && !plain.iter().any(|b| matches!(b, 0 | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::VolumeKey;
    use crate::names::classify::sidecar_of;

    const DIR: DirId = DirId([1; 16]);

    fn keys() -> NameKeys {
        VolumeKey::generate().name_keys()
    }

    fn open(keys: &NameKeys, dir: &DirId, sealed: &SealedName) -> Result<Vec<u8>, NameError> {
        match &sealed.sidecar {
            None => keys.open(dir, &sealed.entry),
            Some(sidecar) => keys.open_long(dir, &sealed.entry, sidecar),
        }
    }

    #[test]
    fn names_of_every_length_survive_the_round_trip_and_fit_255_characters() {
        let keys = keys();
        for len in 1..=MAX_NAME {
            let plain = vec![0xff; len];
            let sealed = keys.seal(&DIR, &plain);
            assert!(sealed.entry.len() <= 255);
            assert_eq!(sealed.sidecar.is_some(), len > MAX_SHORT, "{len} bytes");
            assert_eq!(open(&keys, &DIR, &sealed), Ok(plain));
            let kind = if len > MAX_SHORT {
                Stored::Long
            } else {
                Stored::Short
            };
            assert_eq!(classify(&sealed.entry), kind);
            if let Some(sidecar) = sealed.sidecar {
                assert_eq!(classify(&sidecar_of(&sealed.entry)), Stored::Sidecar);
                assert_eq!(sidecar.len(), 16 + len.next_multiple_of(16));
            }
        }
    }

    #[test]
    fn the_longest_short_name_is_160_bytes_because_176_would_need_256_characters() {
        assert_eq!(BASE64URL_NOPAD.encode_len(SIV_LEN + MAX_SHORT), 235);
        assert_eq!(BASE64URL_NOPAD.encode_len(SIV_LEN + MAX_SHORT + UNIT), 256);
    }

    #[test]
    fn the_same_name_differs_between_directories_and_opens_only_in_its_own() {
        let keys = keys();
        let other = DirId([2; 16]);
        for plain in [&b"name"[..], &[b'n'; 200]] {
            let sealed = keys.seal(&DIR, plain);
            assert_eq!(sealed, keys.seal(&DIR, plain));
            assert_ne!(sealed.entry, keys.seal(&other, plain).entry);
            assert_eq!(open(&keys, &other, &sealed), Err(NameError::Unauthentic));
        }
    }

    #[test]
    fn every_changed_character_of_an_entry_is_refused() {
        let keys = keys();
        let entry = keys.seal(&DIR, b"patient.dcm").entry;
        for at in 0..entry.len() {
            for c in 0..=255 {
                let mut changed = entry.clone();
                changed[at] = c;
                let expected = changed == entry;
                assert_eq!(keys.open(&DIR, &changed).is_ok(), expected, "{at} {c:#x}");
            }
        }
        for len in 0..entry.len() {
            assert_eq!(keys.open(&DIR, &entry[..len]), Err(NameError::Malformed));
        }
    }

    #[test]
    fn authentic_names_that_no_encoder_makes_are_refused() {
        let keys = keys();
        let entry = |padded: &[u8]| {
            let sealed = keys.siv().encrypt([&DIR.0], padded).expect("seals");
            BASE64URL_NOPAD.encode(&sealed).into_bytes()
        };
        let pad = |name: &[u8], len: usize| [name, &vec![0; len - name.len()]].concat();
        assert_eq!(keys.open(&DIR, &entry(&pad(b"ok", 16))), Ok(b"ok".to_vec()));
        for bad in [
            pad(b"ok", 32),
            pad(b"", 16),
            pad(b"a\0b", 16),
            pad(b"a/b", 16),
            pad(b".", 16),
            pad(b"..", 16),
        ] {
            assert_eq!(
                keys.open(&DIR, &entry(&bad)),
                Err(NameError::NotCanonical),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_sidecar_of_another_name_is_refused() {
        let keys = keys();
        let (a, b) = (keys.seal(&DIR, &[b'a'; 161]), keys.seal(&DIR, &[b'b'; 161]));
        let (a_side, b_side) = (a.sidecar.expect("long"), b.sidecar.expect("long"));
        assert!(keys.open_long(&DIR, &a.entry, &a_side).is_ok());
        assert_eq!(
            keys.open_long(&DIR, &a.entry, &b_side),
            Err(NameError::Unauthentic)
        );
        let short = keys.siv_seal(&DIR, b"short");
        assert_eq!(
            keys.open_long(&DIR, &a.entry, &short),
            Err(NameError::Malformed)
        );
        for len in 0..a_side.len() {
            assert!(keys.open_long(&DIR, &a.entry, &a_side[..len]).is_err());
        }
        assert!(keys.open_long(&DIR, &a.entry, &[0; 4096]).is_err());
    }
}
