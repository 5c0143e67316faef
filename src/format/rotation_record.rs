//! How a rotation that is under way is to go on: an extension of the volume header, and so authenticated by its MAC.
//!
//! ```text
//! asked u32 | rate u32, MiB each second, 0 if as fast as it goes | flags u8: 1 paused, 2 in the background    little-endian
//! ```

use crate::format::FormatError;
use crate::format::volume::{Extension, VolumeHeader};

/// The tag of the extension.
pub const ROTATION_RECORD_TAG: u16 = 2;

const LEN: usize = 4 + 4 + 1;
const PAUSED: u8 = 1;
const BACKGROUND: u8 = 2;

/// See the module. There is none without a rotation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RotationRecord {
    /// How often somebody has asked for anything; changed so that a daemon sees it.
    pub asked: u32,
    /// MiB of content each second.
    pub rate: Option<u32>,
    pub paused: bool,
    /// The daemon of a mount goes on with it.
    pub background: bool,
}

impl RotationRecord {
    pub fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..4].copy_from_slice(&self.asked.to_le_bytes());
        out[4..8].copy_from_slice(&self.rate.unwrap_or(0).to_le_bytes());
        out[8] = (u8::from(self.paused) * PAUSED) | (u8::from(self.background) * BACKGROUND);
        out
    }

    /// # Errors
    /// [`FormatError::Length`], or [`FormatError::Field`] for a flag that is not known.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let length = FormatError::Length { found: bytes.len() };
        let bytes: &[u8; LEN] = bytes.try_into().map_err(|_| length)?;
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if bytes[8] & !(PAUSED | BACKGROUND) != 0 {
            return Err(FormatError::Field("rotation flags"));
        }
        Ok(Self {
            asked: number(0),
            rate: Some(number(4)).filter(|&rate| rate != 0),
            paused: bytes[8] & PAUSED != 0,
            background: bytes[8] & BACKGROUND != 0,
        })
    }

    /// The record of a header; `None` where there is none.
    ///
    /// # Errors
    /// [`FormatError`] where there is one that nobody wrote.
    pub fn of(header: &VolumeHeader) -> Result<Option<Self>, FormatError> {
        let mut extensions = header.extensions.iter();
        let found = extensions.find(|e| e.tag == ROTATION_RECORD_TAG);
        found.map(|e| Self::decode(&e.data)).transpose()
    }

    /// Puts the record into a header, or removes it; the MAC has to be computed anew.
    pub fn put(record: Option<Self>, header: &mut VolumeHeader) {
        header.extensions.retain(|e| e.tag != ROTATION_RECORD_TAG);
        let Some(record) = record else { return };
        let at = header
            .extensions
            .partition_point(|e| e.tag < ROTATION_RECORD_TAG);
        let extension = Extension {
            tag: ROTATION_RECORD_TAG,
            data: record.encode().to_vec(),
        };
        header.extensions.insert(at, extension);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_round_trip_and_nothing_else_is_read() {
        let record = RotationRecord {
            asked: 7,
            rate: Some(100),
            paused: true,
            background: true,
        };
        let bytes = record.encode();
        assert_eq!(bytes, [7, 0, 0, 0, 100, 0, 0, 0, 3]);
        assert_eq!(RotationRecord::decode(&bytes), Ok(record));
        let none = RotationRecord::default();
        assert_eq!(RotationRecord::decode(&none.encode()), Ok(none));
        assert!(RotationRecord::decode(&bytes[..8]).is_err());
        assert_eq!(
            RotationRecord::decode(&[0, 0, 0, 0, 0, 0, 0, 0, 4]),
            Err(FormatError::Field("rotation flags"))
        );
    }
}
