//! The journal's superblock: two slots of 4096 bytes, written in turn.
//!
//! ```text
//! off    0  magic "wrdSuper"    8
//!        8  version           u16   2; 1 has no marks of the journal, and its windows begin at 40
//!       10  clean              u8   0 or 1
//!       11  zero               u8
//!       12  window count      u32   at most 250 (251 in version 1)
//!       16  generation        u64
//!       24  sequence mark     u64   no write sequence from it on was ever used
//!       32  opened at         i64   ns since 1970
//!       40  retired turn      u64   groups of this turn of the journal and of earlier ones are done with
//!       48  retired sequence  u64   everything written with a smaller write sequence is on the disk
//!       56  windows                 count times: start i64 | end i64, ns since 1970
//!           zeros
//!     4064  MAC                32   HMAC-SHA-256 of everything before, under the journal MAC key
//! ```
//!
//! Says what was written; which slot counts and what follows from it is `store`'s business.

use crate::format::FormatError;
use crate::format::ids::WriteSeq;
use crate::format::mac;
use crate::sys::secret::SecretBytes;

/// Length of a slot.
pub const SUPERBLOCK_LEN: usize = 4096;
/// As many unclean windows fit.
pub const MAX_WINDOWS: usize = (MAC_AT - WINDOWS_AT) / 16;

const MAGIC: [u8; 8] = *b"wrdSuper";
const VERSION: u16 = 2;
const WINDOWS_AT: usize = 56;
/// Where version 1 had its windows.
const WINDOWS_AT_V1: usize = 40;
const MAC_AT: usize = SUPERBLOCK_LEN - 32;

/// One state of the superblock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Superblock {
    /// The higher of two valid slots counts.
    pub generation: u64,
    /// The volume was closed in order.
    pub clean: bool,
    /// Write sequences below it may have been used: it is raised before they are.
    pub seq_high_water: WriteSeq,
    /// When the volume was opened for writing, in nanoseconds since 1970.
    pub opened_at: i64,
    /// Groups of this turn of the journal and of earlier ones need no replay.
    pub retired_turn: u64,
    /// Everything written with a smaller write sequence is on the disk.
    pub retired_seq: WriteSeq,
    /// Times in which the volume was open and not closed in order: what a crash can leave is healed only there.
    pub windows: Vec<(i64, i64)>,
}

impl Superblock {
    /// At most [`MAX_WINDOWS`] windows.
    pub fn encode(&self, mac_key: &SecretBytes<32>) -> [u8; SUPERBLOCK_LEN] {
        assert!(
            self.windows.len() <= MAX_WINDOWS,
            "{} windows",
            self.windows.len()
        );
        assert!(
            self.seq_high_water <= WriteSeq::MAX,
            "{:?}",
            self.seq_high_water
        );
        let mut bytes = [0; SUPERBLOCK_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        // A volume that never had a journal stays readable for the first version.
        let journaled = (self.retired_turn, self.retired_seq) != (0, WriteSeq(0));
        let (version, windows_at) = match journaled {
            true => (VERSION, WINDOWS_AT),
            false => (1, WINDOWS_AT_V1),
        };
        bytes[8..10].copy_from_slice(&version.to_le_bytes());
        bytes[10] = self.clean.into();
        bytes[12..16].copy_from_slice(&(self.windows.len() as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.seq_high_water.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.opened_at.to_le_bytes());
        if journaled {
            bytes[40..48].copy_from_slice(&self.retired_turn.to_le_bytes());
            bytes[48..56].copy_from_slice(&self.retired_seq.0.to_le_bytes());
        }
        for ((start, end), at) in self.windows.iter().zip((windows_at..).step_by(16)) {
            bytes[at..at + 8].copy_from_slice(&start.to_le_bytes());
            bytes[at + 8..at + 16].copy_from_slice(&end.to_le_bytes());
        }
        let tag = mac::tag(mac_key, &[&bytes[..MAC_AT]]);
        bytes[MAC_AT..].copy_from_slice(&tag);
        bytes
    }

    /// # Errors
    /// Anything that [`Superblock::encode`] does not write under this key.
    pub fn decode(bytes: &[u8], mac_key: &SecretBytes<32>) -> Result<Self, FormatError> {
        let bytes: &[u8; SUPERBLOCK_LEN] = bytes
            .try_into()
            .map_err(|_| FormatError::Length { found: bytes.len() })?;
        if bytes[..8] != MAGIC {
            return Err(FormatError::Magic);
        }
        let (signed, claimed) = bytes.split_at(MAC_AT);
        if !mac::matches(&mac::tag(mac_key, &[signed]), claimed) {
            return Err(FormatError::Mac);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        let (windows_at, marks) = match version {
            1 => (WINDOWS_AT_V1, [0, 0]),
            VERSION if bytes[40..56] == [0; 16] => return Err(FormatError::Field("version")),
            VERSION => (WINDOWS_AT, [word(bytes, 40), word(bytes, 48)]),
            _ => return Err(FormatError::Version { needs: version }),
        };
        let clean = match bytes[10] {
            0 => false,
            1 => true,
            _ => return Err(FormatError::Field("clean flag")),
        };
        let count = u32::from_le_bytes(bytes[12..16].try_into().expect("4 bytes")) as usize;
        let seq_high_water = WriteSeq(word(bytes, 24));
        if seq_high_water.0.max(marks[1]) > WriteSeq::MAX.0 {
            return Err(FormatError::Field("sequence mark"));
        }
        if count > (MAC_AT - windows_at) / 16 {
            return Err(FormatError::Field("window count"));
        }
        let end = windows_at + 16 * count;
        if bytes[11] != 0 || bytes[end..MAC_AT].iter().any(|b| *b != 0) {
            return Err(FormatError::Field("padding"));
        }
        let window = |at| (word(bytes, at) as i64, word(bytes, at + 8) as i64);
        Ok(Self {
            generation: word(bytes, 16),
            clean,
            seq_high_water,
            opened_at: word(bytes, 32) as i64,
            retired_turn: marks[0],
            retired_seq: WriteSeq(marks[1]),
            windows: (windows_at..end).step_by(16).map(window).collect(),
        })
    }
}

fn word(bytes: &[u8; SUPERBLOCK_LEN], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretBytes<32> {
        SecretBytes::take(&mut [3; 32])
    }

    #[test]
    fn it_survives_the_round_trip_empty_and_full() {
        for count in [0, 1, MAX_WINDOWS as i64] {
            let block = Superblock {
                generation: u64::MAX,
                clean: count == 0,
                seq_high_water: WriteSeq::MAX,
                opened_at: i64::MIN,
                retired_turn: count as u64,
                retired_seq: WriteSeq(count as u64),
                windows: (0..count).map(|i| (-i, i)).collect(),
            };
            assert_eq!(Superblock::decode(&block.encode(&key()), &key()), Ok(block));
        }
    }

    #[test]
    fn the_first_version_is_still_read() {
        let mut bytes = [0; SUPERBLOCK_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = 1;
        bytes[10] = 1;
        bytes[12..16].copy_from_slice(&251u32.to_le_bytes());
        bytes[24] = 9;
        bytes[40] = 5;
        let tag = mac::tag(&key(), &[&bytes[..MAC_AT]]);
        bytes[MAC_AT..].copy_from_slice(&tag);
        let read = Superblock::decode(&bytes, &key()).expect("version 1");
        assert_eq!((read.clean, read.seq_high_water), (true, WriteSeq(9)));
        assert_eq!((read.retired_turn, read.retired_seq), (0, WriteSeq(0)));
        assert_eq!((read.windows.len(), read.windows[0]), (251, (5, 0)));
    }

    #[test]
    fn every_flipped_bit_and_every_other_key_is_noticed() {
        let bytes = Superblock::default().encode(&key());
        for bit in 0..SUPERBLOCK_LEN * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&changed, &key()).is_err(), "bit {bit}");
        }
        let other = SecretBytes::take(&mut [4; 32]);
        assert_eq!(Superblock::decode(&bytes, &other), Err(FormatError::Mac));
    }

    #[test]
    fn authentic_but_impossible_fields_are_refused() {
        let with = |at: usize, value: u8| {
            let mut bytes = Superblock::default().encode(&key());
            bytes[at] = value;
            let tag = mac::tag(&key(), &[&bytes[..MAC_AT]]);
            bytes[MAC_AT..].copy_from_slice(&tag);
            Superblock::decode(&bytes, &key())
        };
        assert_eq!(with(8, 3), Err(FormatError::Version { needs: 3 }));
        assert_eq!(with(10, 2), Err(FormatError::Field("clean flag")));
        assert_eq!(with(11, 1), Err(FormatError::Field("padding")));
        assert_eq!(with(12, 252), Err(FormatError::Field("window count")));
        assert_eq!(with(30, 1), Err(FormatError::Field("sequence mark")));
        assert_eq!(with(4000, 1), Err(FormatError::Field("padding")));
    }
}
