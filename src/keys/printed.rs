//! Keys on paper: groups of five characters, four of data and one that checks them, so that a typo is found in its group.
//!
//! The alphabet is Crockford's base32, in which no two characters look alike. A group's check makes
//! Σ αʲ·cⱼ over GF(32) equal to the number of the group: any one wrong character, any two exchanged, and any two groups
//! exchanged are noticed. Which key it is and what it opens is known elsewhere.

use crate::sys::secret::SecretVec;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a group, the last one for the check.
const GROUP: usize = 5;
const BITS: usize = 5;

/// What is wrong with a key that was typed. Groups are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrintedError {
    /// The check does not hold.
    Mistyped { group: usize },
    /// A character that no key has.
    Character { group: usize, found: char },
    /// A group of another length.
    Length { group: usize, found: usize },
    /// Another number of groups.
    Groups { expected: usize, found: usize },
}

impl std::fmt::Display for PrintedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mistyped { group } => write!(f, "there is a typo in group {group}"),
            Self::Character { group, found } => write!(
                f,
                "there is a typo in group {group}: {found:?} occurs in no key"
            ),
            Self::Length { group, found } => write!(
                f,
                "there is a typo in group {group}: it has {found} characters and not {GROUP}"
            ),
            Self::Groups { expected, found } => {
                write!(f, "it should have {expected} groups and has {found}")
            }
        }
    }
}

impl std::error::Error for PrintedError {}

/// Groups that so many bytes take.
pub fn groups(bytes: usize) -> usize {
    (bytes * 8).div_ceil((GROUP - 1) * BITS)
}

/// The key as it is printed, groups joined by hyphens.
pub fn encode(key: &[u8]) -> SecretVec {
    let mut text = SecretVec::with_capacity(groups(key.len()) * (GROUP + 1));
    for group in 0..groups(key.len()) {
        if group > 0 {
            text.push(b'-');
        }
        let mut symbols = [0; GROUP];
        for (place, symbol) in symbols[..GROUP - 1].iter_mut().enumerate() {
            *symbol = symbol_at(key, (group * (GROUP - 1) + place) * BITS);
        }
        symbols[GROUP - 1] = check(&symbols) ^ number(group);
        for symbol in symbols {
            text.push(ALPHABET[usize::from(symbol)]);
        }
    }
    text
}

/// The `len` bytes of a key as it was typed: in capitals or not, with blanks or hyphens between the groups or without;
/// lines that begin with `#` do not count.
///
/// # Errors
/// [`PrintedError`], with the first group that is wrong.
pub fn decode(text: &[u8], len: usize) -> Result<SecretVec, PrintedError> {
    let mut typed = SecretVec::with_capacity(text.len());
    for line in text.split(|&b| b == b'\n') {
        if !line.trim_ascii_start().starts_with(b"#") {
            typed.extend_from_slice(line);
            typed.push(b'\n');
        }
    }
    let separated = |b: &u8| b.is_ascii_whitespace() || *b == b'-';
    let pieces = typed.as_bytes().split(separated).filter(|p| !p.is_empty());
    let pieces: Vec<&[u8]> = match pieces.clone().count() {
        1 => pieces.flat_map(|piece| piece.chunks(GROUP)).collect(),
        _ => pieces.collect(),
    };
    let mut symbols = SecretVec::with_capacity(pieces.len() * (GROUP - 1));
    for (index, piece) in pieces.iter().enumerate() {
        symbols.extend_from_slice(&group_of(piece, index)?[..GROUP - 1]);
    }
    if pieces.len() != groups(len) {
        return Err(PrintedError::Groups {
            expected: groups(len),
            found: pieces.len(),
        });
    }
    let mut key = SecretVec::with_capacity(len);
    key.resize(len);
    for (place, symbol) in symbols.as_bytes().iter().enumerate() {
        let group = place / (GROUP - 1) + 1;
        put_symbol(key.as_mut_bytes(), place * BITS, *symbol)
            .ok_or(PrintedError::Mistyped { group })?;
    }
    Ok(key)
}

fn group_of(piece: &[u8], index: usize) -> Result<[u8; GROUP], PrintedError> {
    let group = index + 1;
    let mut symbols = [0; GROUP];
    for (place, byte) in piece.iter().enumerate() {
        let value = value_of(*byte).ok_or(PrintedError::Character {
            group,
            found: char::from(*byte),
        })?;
        if let Some(symbol) = symbols.get_mut(place) {
            *symbol = value;
        }
    }
    if piece.len() != GROUP {
        let found = piece.len();
        return Err(PrintedError::Length { group, found });
    }
    if check(&symbols) == symbols[GROUP - 1] ^ number(index) {
        Ok(symbols)
    } else {
        Err(PrintedError::Mistyped { group })
    }
}

fn value_of(byte: u8) -> Option<u8> {
    let canonical = match byte.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    let at = ALPHABET.iter().position(|&a| a == canonical)?;
    Some(at as u8)
}

/// Differs from group to group of every key there is.
fn number(group: usize) -> u8 {
    ((group + 1) % 32) as u8
}

/// Σ αʲ·cⱼ of the data of a group, j from 1.
fn check(symbols: &[u8; GROUP]) -> u8 {
    // Horner: ((c₃·α + c₂)·α + …)·α.
    let data = symbols[..GROUP - 1].iter().rev();
    data.fold(0, |sum, symbol| times_alpha(sum ^ symbol))
}

/// In GF(32) with the polynomial x⁵ + x² + 1.
fn times_alpha(x: u8) -> u8 {
    let shifted = x << 1;
    if shifted & 0x20 == 0 {
        shifted
    } else {
        shifted ^ 0x25
    }
}

/// Five bits, the highest first; zeros behind the end.
fn symbol_at(key: &[u8], bit: usize) -> u8 {
    (bit..bit + BITS).fold(0, |symbol, bit| {
        let byte = key.get(bit / 8).copied().unwrap_or(0);
        symbol << 1 | byte >> (7 - bit % 8) & 1
    })
}

/// `None` if a bit behind the end is not zero.
fn put_symbol(key: &mut [u8], bit: usize, symbol: u8) -> Option<()> {
    for offset in 0..BITS {
        let value = symbol >> (BITS - 1 - offset) & 1;
        let at = bit + offset;
        match key.get_mut(at / 8) {
            Some(byte) => *byte |= value << (7 - at % 8),
            None if value == 0 => {}
            None => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(len: usize) -> Vec<u8> {
        (0..len)
            .map(|i| (i as u8).wrapping_mul(37) ^ 0x5a)
            .collect()
    }

    fn text(len: usize) -> String {
        String::from_utf8(encode(&key(len)).as_bytes().to_vec()).expect("letters and digits")
    }

    fn typed(text: &str, len: usize) -> Result<Vec<u8>, PrintedError> {
        decode(text.as_bytes(), len).map(|key| key.as_bytes().to_vec())
    }

    #[test]
    fn a_key_is_read_as_it_was_printed_and_as_people_type() {
        for len in [1, 2, 5, 32, 38] {
            let text = text(len);
            assert_eq!(text.split('-').count(), groups(len));
            assert_eq!(typed(&text, len), Ok(key(len)), "{len}");
            for other in [
                text.to_lowercase(),
                text.replace('-', ""),
                text.replace('-', " "),
                text.replace('-', " - "),
                format!("# a note with ZZZZZ\n{text}\n"),
                text.replace('0', "O").replace('1', "l"),
            ] {
                assert_eq!(typed(&other, len), Ok(key(len)), "{other}");
            }
        }
    }

    #[test]
    fn every_wrong_character_is_found_in_its_group() {
        let right = text(32);
        for (at, was) in right.bytes().enumerate().filter(|(_, b)| *b != b'-') {
            for other in ALPHABET.iter().filter(|a| **a != was) {
                let mut wrong = right.clone().into_bytes();
                wrong[at] = *other;
                let wrong = String::from_utf8(wrong).expect("ASCII");
                let group = at / 6 + 1;
                assert_eq!(
                    typed(&wrong, 32),
                    Err(PrintedError::Mistyped { group }),
                    "{wrong}"
                );
            }
        }
    }

    #[test]
    fn exchanged_characters_and_groups_are_found() {
        let right = text(32);
        let groups: Vec<&str> = right.split('-').collect();
        for a in 0..groups.len() {
            for b in a + 1..groups.len() {
                let mut wrong = groups.clone();
                wrong.swap(a, b);
                let group = a + 1;
                assert_eq!(
                    typed(&wrong.join("-"), 32),
                    Err(PrintedError::Mistyped { group })
                );
            }
            for place in 0..4 {
                let mut letters = groups[a].as_bytes().to_vec();
                letters.swap(place, place + 1);
                if letters == groups[a].as_bytes() {
                    continue;
                }
                let letters = String::from_utf8(letters).expect("ASCII");
                let mut wrong = groups.clone();
                wrong[a] = &letters;
                let group = a + 1;
                assert_eq!(
                    typed(&wrong.join("-"), 32),
                    Err(PrintedError::Mistyped { group })
                );
            }
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let right = text(32);
        let groups: Vec<&str> = right.split('-').collect();
        let counted = |found| {
            Err(PrintedError::Groups {
                expected: 13,
                found,
            })
        };
        assert_eq!(typed(&groups[..12].join("-"), 32), counted(12));
        assert_eq!(typed("", 32), counted(0));
        assert_eq!(typed(&text(38), 32), counted(16));
        let mut wrong = groups.clone();
        wrong[2] = &groups[2][..4];
        let length = PrintedError::Length { group: 3, found: 4 };
        assert_eq!(typed(&wrong.join("-"), 32), Err(length));
        let wrong = format!("U{}", &right[1..]);
        let character = PrintedError::Character {
            group: 1,
            found: 'U',
        };
        assert_eq!(typed(&wrong, 32), Err(character));
    }
}
