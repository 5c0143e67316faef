//! What a header remembers of its keys besides the slots: an extension, so that older readers keep it as it is.
//!
//! ```text
//! next slot id u32 | newest epoch created i64, 0 if the vault was made with it
//!   | count u8, at most 64 | count times: slot u32 | opened i64                       little-endian, seconds since 1970
//! ```

use crate::format::FormatError;
use crate::format::volume::{Extension, VolumeHeader};

/// The tag of the extension.
pub const KEY_RECORD_TAG: u16 = 1;
/// More openings than this are not remembered: the oldest say enough.
pub const MAX_OPENINGS: usize = 64;

const FIXED: usize = 4 + 8 + 1;
const OPENING: usize = 4 + 8;

/// That a break-glass slot opened the vault, and nobody has acknowledged it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    pub slot: u32,
    /// Seconds since 1970.
    pub at: i64,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRecord {
    /// No slot has had this id or a higher one.
    pub next_slot: u32,
    /// When the newest content epoch was added; `None` if the vault was made with it.
    pub newest_epoch: Option<i64>,
    pub openings: Vec<Opening>,
}

impl KeyRecord {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.next_slot.to_le_bytes().to_vec();
        out.extend(self.newest_epoch.unwrap_or(0).to_le_bytes());
        let openings = &self.openings[..self.openings.len().min(MAX_OPENINGS)];
        out.push(openings.len() as u8);
        for opening in openings {
            out.extend(opening.slot.to_le_bytes());
            out.extend(opening.at.to_le_bytes());
        }
        out
    }

    /// # Errors
    /// [`FormatError::Length`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let length = FormatError::Length { found: bytes.len() };
        let (fixed, rest) = bytes.split_first_chunk::<FIXED>().ok_or(length)?;
        let (openings, rest) = rest.as_chunks::<OPENING>();
        let count = usize::from(fixed[12]);
        if !rest.is_empty() || openings.len() != count || count > MAX_OPENINGS {
            return Err(length);
        }
        let newest = i64::from_le_bytes(fixed[4..12].try_into().expect("8 bytes"));
        let opening = |bytes: &[u8; OPENING]| Opening {
            slot: u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes")),
            at: i64::from_le_bytes(bytes[4..].try_into().expect("8 bytes")),
        };
        Ok(Self {
            next_slot: u32::from_le_bytes(fixed[..4].try_into().expect("4 bytes")),
            newest_epoch: Some(newest).filter(|&at| at != 0),
            openings: openings.iter().map(opening).collect(),
        })
    }

    /// The record of a header; the default where there is none.
    ///
    /// # Errors
    /// [`FormatError`] where there is one that nobody wrote.
    pub fn of(header: &VolumeHeader) -> Result<Self, FormatError> {
        let found = header.extensions.iter().find(|e| e.tag == KEY_RECORD_TAG);
        found.map_or_else(|| Ok(Self::default()), |e| Self::decode(&e.data))
    }

    /// Puts the record into a header; its MAC has to be computed anew.
    pub fn put_into(&self, header: &mut VolumeHeader) {
        let data = self.encode();
        match header
            .extensions
            .binary_search_by_key(&KEY_RECORD_TAG, |e| e.tag)
        {
            Ok(at) => header.extensions[at].data = data,
            Err(at) => header.extensions.insert(
                at,
                Extension {
                    tag: KEY_RECORD_TAG,
                    data,
                },
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_round_trip_and_other_lengths_are_refused() {
        let opening = Opening { slot: 7, at: -3 };
        let record = KeyRecord {
            next_slot: 9,
            newest_epoch: Some(5),
            openings: vec![opening; MAX_OPENINGS],
        };
        let bytes = record.encode();
        assert_eq!(KeyRecord::decode(&bytes), Ok(record));
        for len in 0..bytes.len() {
            assert!(KeyRecord::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        let empty = KeyRecord::default();
        assert_eq!(KeyRecord::decode(&empty.encode()), Ok(empty));
    }
}
