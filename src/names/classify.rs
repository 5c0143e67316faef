//! What a stored directory entry is, by its name alone.
//!
//! Opens nothing: a [`Stored::Short`] name may still fail to authenticate.

use crate::names::name::{MAX_SHORT, SIV_LEN, UNIT};

/// Prefix of everything that is not a short name. It is not in the alphabet of base64url.
pub const VAULT_DIR: &str = "~wardfs";
pub const DIR_ID_FILE: &str = "~id";
pub(crate) const DIR_ID_LINK_PREFIX: &str = "~id.";
pub(crate) const LONG_PREFIX: &str = "~L";
pub(crate) const SIDECAR_SUFFIX: &str = ".name";
/// Characters of base64url for 32 bytes.
pub(crate) const CHARS_32: usize = 43;

/// The kinds of entries in a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// A sealed name.
    Short,
    /// The keyed hash of a name that is too long to be sealed into an entry.
    Long,
    /// The sealed name that belongs to a [`Stored::Long`] entry.
    Sidecar,
    /// The file with the directory's id.
    DirIdFile,
    /// Its hard link that carries the id in its name.
    DirIdLink,
    /// Everything that is not the tree; only in the root.
    VaultDir,
    /// Nothing of ours: a sync conflict, an NFS remnant.
    Foreign,
}

/// See [`Stored`].
pub fn classify(stored: &[u8]) -> Stored {
    let Some(special) = stored.strip_prefix(b"~") else {
        return if is_short(stored) {
            Stored::Short
        } else {
            Stored::Foreign
        };
    };
    if stored == VAULT_DIR.as_bytes() {
        Stored::VaultDir
    } else if stored == DIR_ID_FILE.as_bytes() {
        Stored::DirIdFile
    } else if special.strip_prefix(b"id.").is_some_and(is_32_bytes) {
        Stored::DirIdLink
    } else if special.strip_prefix(b"L").is_some_and(is_32_bytes) {
        Stored::Long
    } else if sidecar_owner(stored).is_some() {
        Stored::Sidecar
    } else {
        Stored::Foreign
    }
}

/// The [`Stored::Long`] entry that a [`Stored::Sidecar`] belongs to.
pub fn sidecar_owner(stored: &[u8]) -> Option<&[u8]> {
    let entry = stored.strip_suffix(SIDECAR_SUFFIX.as_bytes())?;
    let hash = entry.strip_prefix(LONG_PREFIX.as_bytes())?;
    is_32_bytes(hash).then_some(entry)
}

/// The sidecar of a [`Stored::Long`] entry.
pub fn sidecar_of(entry: &[u8]) -> Vec<u8> {
    [entry, SIDECAR_SUFFIX.as_bytes()].concat()
}

fn is_32_bytes(text: &[u8]) -> bool {
    text.len() == CHARS_32 && is_base64url(text)
}

fn is_short(stored: &[u8]) -> bool {
    let bytes = stored.len() * 6 / 8;
    let whole = (bytes * 8).div_ceil(6) == stored.len() && bytes.is_multiple_of(UNIT);
    whole && (SIV_LEN + UNIT..=SIV_LEN + MAX_SHORT).contains(&bytes) && is_base64url(stored)
}

fn is_base64url(text: &[u8]) -> bool {
    text.iter()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_have_one_of_ten_lengths() {
        let short: Vec<usize> = (0..=300)
            .filter(|len| classify(&vec![b'A'; *len]) == Stored::Short)
            .collect();
        assert_eq!(short, [43, 64, 86, 107, 128, 150, 171, 192, 214, 235]);
    }

    #[test]
    fn one_character_outside_the_alphabet_makes_a_short_name_foreign() {
        for c in 0..=255u8 {
            let mut name = vec![b'A'; 43];
            name[20] = c;
            let expected = if c.is_ascii_alphanumeric() || c == b'-' || c == b'_' {
                Stored::Short
            } else {
                Stored::Foreign
            };
            assert_eq!(classify(&name), expected, "{c:#x}");
        }
    }

    #[test]
    fn each_special_name_has_its_kind_and_its_neighbours_are_foreign() {
        let a = |n: usize| "A".repeat(n);
        for (name, kind) in [
            ("~wardfs".to_owned(), Stored::VaultDir),
            ("~id".to_owned(), Stored::DirIdFile),
            (format!("~id.{}", a(43)), Stored::DirIdLink),
            (format!("~L{}", a(43)), Stored::Long),
            (format!("~L{}.name", a(43)), Stored::Sidecar),
        ] {
            assert_eq!(classify(name.as_bytes()), kind, "{name}");
            for neighbour in [
                format!("{name}A"),
                name[..name.len() - 1].to_owned(),
                name.replacen('~', "", 1),
                name.replacen('~', "~~", 1),
                format!("{name} (conflict)"),
                format!("{name}~"),
            ] {
                let kind = classify(neighbour.as_bytes());
                assert_eq!(kind, Stored::Foreign, "{neighbour}");
            }
        }
        for name in [
            "",
            "~",
            "~L",
            "~id.",
            ".nfs0000000000000001",
            "README",
            "~l",
            ".",
            "..",
        ] {
            assert_eq!(classify(name.as_bytes()), Stored::Foreign, "{name}");
        }
        let odd = format!("~id.{}=", a(42));
        assert_eq!(classify(odd.as_bytes()), Stored::Foreign);
    }

    #[test]
    fn a_sidecar_names_its_entry() {
        let entry = format!("~L{}", "b".repeat(43));
        let sidecar = sidecar_of(entry.as_bytes());
        assert_eq!(sidecar_owner(&sidecar), Some(entry.as_bytes()));
        assert_eq!(sidecar_owner(entry.as_bytes()), None);
    }
}
