//! The redo journal: groups of records, each group all or nothing.
//!
//! ```text
//! off  0  magic "wrdGroup"     8
//!      8  turn               u64   which life of its segment the group belongs to
//!     16  index              u64   0 for the first group of a turn, then one more each
//!     24  write sequence     u64   of every chunk image in the group; orders the group among them
//!     32  table length       u32
//!     36  data length        u32
//!     40  data checksum      u32   CRC-32 of the data
//!     44  zero               u32
//!     48  file id             24   of the file that the records are about; zeros if they are about directories
//!     72  zero               u64
//!     80  table                    records, back to back
//!         MAC                 32   HMAC-SHA-256 of everything before, under the journal MAC key
//!         data                     the chunk images in the order of their records: each authenticates itself
//!         zeros                    to a multiple of 512
//! ```
//!
//! A record is a type byte and its fields, integers little-endian, a path as u32 length and bytes: stored names joined by
//! `/`, empty for the root. What the records mean to a file is [`crate::store::recovery`]'s business.

use crate::format::FormatError;
use crate::format::ids::{ChunkNo, FileId, WriteSeq};
use crate::format::mac;
use crate::sys::secret::SecretBytes;

/// Groups begin at multiples of this.
pub const ALIGN: usize = 512;
/// Bytes before the table.
pub const GROUP_HEADER_LEN: usize = 80;
/// The longest table: a megabyte of chunk images needs 4 KiB.
pub const MAX_TABLE: usize = 1 << 20;
/// The most data in a group: a write of several MiB in the smallest chunks.
pub const MAX_DATA: usize = 1 << 26;

const MAGIC: [u8; 8] = *b"wrdGroup";
const MAC_LEN: usize = 32;
const NO_FILE: [u8; 24] = [0; 24];

/// What a group says of its file, or of directories. In the order in which they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Where the file was: its inode and the path of its entry. In the first group of a file in a turn, and again after
    /// it was renamed. `durable` says that its header and what it held at the time were on the disk.
    Place {
        ino: u64,
        durable: bool,
        path: Vec<u8>,
    },
    /// The new content of a chunk. Its bytes, `len` of them, are in the data.
    Image { chunk: ChunkNo, len: u32 },
    /// The plaintext size from here on. A smaller one than before ends the life of every chunk behind it.
    Size { size: u64 },
    /// The file is about to grow past `stable` by chunks that are not in the journal. What lies behind `stable` may be
    /// missing or torn, and is cut where it is.
    Extends { stable: u64 },
    /// The chunks `first..end` became holes.
    Punch { first: ChunkNo, end: ChunkNo },
    /// The last name of the file was removed.
    Gone,
    /// Files in this directory, and in directories below it that were made since, were written without records: the end
    /// of one may be missing or torn.
    Cover { ino: u64, path: Vec<u8> },
    /// A directory was renamed: what has a path under `from` may be under `to` now, or still under `from`.
    Moved { from: Vec<u8>, to: Vec<u8> },
}

/// A group, with its images side by side with their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub turn: u64,
    pub index: u64,
    pub seq: WriteSeq,
    pub file: Option<FileId>,
    pub records: Vec<Record>,
    /// The images' bytes, back to back.
    pub data: Vec<u8>,
}

/// A group that is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    pub turn: u64,
    pub index: u64,
    pub seq: WriteSeq,
    pub file: Option<FileId>,
    pub records: &'a [Record],
    /// The images' bytes, back to back.
    pub data: &'a [u8],
}

/// What the first bytes of a group say: how much more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHeader {
    pub turn: u64,
    pub index: u64,
    table_len: usize,
    data_len: usize,
    crc: u32,
}

impl Draft<'_> {
    /// Appends the group to `out`, whose length is a multiple of [`ALIGN`] before and after.
    pub fn encode(&self, mac_key: &SecretBytes<32>, out: &mut Vec<u8>) {
        let mut table = Vec::with_capacity(64 + 13 * self.records.len());
        for record in self.records {
            record.encode(&mut table);
        }
        assert!(table.len() <= MAX_TABLE, "a table of {}", table.len());
        assert!(self.data.len() <= MAX_DATA, "{} bytes", self.data.len());
        let begin = out.len();
        out.extend(MAGIC);
        for word in [self.turn, self.index, self.seq.0] {
            out.extend(word.to_le_bytes());
        }
        let crc = crc32fast::hash(self.data);
        for half in [table.len() as u32, self.data.len() as u32, crc, 0] {
            out.extend(half.to_le_bytes());
        }
        out.extend(self.file.map_or(NO_FILE, |f| f.0));
        out.extend([0; 8]);
        out.extend(table);
        let tag = mac::tag(mac_key, &[&out[begin..]]);
        out.extend(tag);
        out.extend(self.data);
        out.resize(out.len().next_multiple_of(ALIGN), 0);
    }
}

impl Group {
    /// Appends the group to `out`, whose length is a multiple of [`ALIGN`] before and after.
    pub fn encode(&self, mac_key: &SecretBytes<32>, out: &mut Vec<u8>) {
        let draft = Draft {
            turn: self.turn,
            index: self.index,
            seq: self.seq,
            file: self.file,
            records: &self.records,
            data: &self.data,
        };
        draft.encode(mac_key, out);
    }

    /// Takes `bytes`, [`GroupHeader::group_len`] of them, apart.
    ///
    /// # Errors
    /// Anything that [`Group::encode`] does not write under this key.
    pub fn decode(bytes: &[u8], mac_key: &SecretBytes<32>) -> Result<Self, FormatError> {
        let header = GroupHeader::decode(bytes)?;
        if bytes.len() != header.group_len() {
            return Err(FormatError::Length { found: bytes.len() });
        }
        let (signed, rest) = bytes.split_at(GROUP_HEADER_LEN + header.table_len);
        let (claimed, rest) = rest.split_at(MAC_LEN);
        if !mac::matches(&mac::tag(mac_key, &[signed]), claimed) {
            return Err(FormatError::Mac);
        }
        let (data, padding) = rest.split_at(header.data_len);
        if crc32fast::hash(data) != header.crc {
            return Err(FormatError::Checksum);
        }
        let (fixed, mut table) = signed.split_at(GROUP_HEADER_LEN);
        let zeros = [&fixed[44..48], &fixed[72..80], padding];
        if zeros.iter().any(|z| z.iter().any(|b| *b != 0)) {
            return Err(FormatError::Field("padding"));
        }
        let seq = WriteSeq(word(fixed, 24));
        if seq > WriteSeq::MAX {
            return Err(FormatError::Field("write sequence"));
        }
        let mut records = Vec::new();
        while !table.is_empty() {
            records.push(Record::decode(&mut table).ok_or(FormatError::Field("record"))?);
        }
        let of_images: u64 = records.iter().map(Record::data_len).sum();
        if of_images != data.len() as u64 {
            return Err(FormatError::Field("data length"));
        }
        let file: [u8; 24] = fixed[48..72].try_into().expect("24 bytes");
        Ok(Self {
            turn: header.turn,
            index: header.index,
            seq,
            file: (file != NO_FILE).then_some(FileId(file)),
            records,
            data: data.to_vec(),
        })
    }
}

impl GroupHeader {
    /// Reads the first [`GROUP_HEADER_LEN`] bytes of a group, unauthenticated.
    ///
    /// # Errors
    /// No group begins here, or one that no encoder writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let bytes = bytes
            .get(..GROUP_HEADER_LEN)
            .ok_or(FormatError::Length { found: bytes.len() })?;
        if bytes[..8] != MAGIC {
            return Err(FormatError::Magic);
        }
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let (table_len, data_len) = (half(32) as usize, half(36) as usize);
        if table_len > MAX_TABLE || data_len > MAX_DATA {
            return Err(FormatError::Field("length"));
        }
        Ok(Self {
            turn: word(bytes, 8),
            index: word(bytes, 16),
            table_len,
            data_len,
            crc: half(40),
        })
    }

    /// Where in the group its data begins.
    pub fn data_at(&self) -> usize {
        GROUP_HEADER_LEN + self.table_len + MAC_LEN
    }

    /// Bytes of the whole group.
    pub fn group_len(&self) -> usize {
        (GROUP_HEADER_LEN + self.table_len + MAC_LEN + self.data_len).next_multiple_of(ALIGN)
    }
}

const PLACE: u8 = 1;
const IMAGE: u8 = 2;
const SIZE: u8 = 3;
const EXTENDS: u8 = 4;
const PUNCH: u8 = 5;
const GONE: u8 = 6;
const COVER: u8 = 7;
const MOVED: u8 = 8;

impl Record {
    fn encode(&self, out: &mut Vec<u8>) {
        let path = |path: &[u8], out: &mut Vec<u8>| {
            out.extend((path.len() as u32).to_le_bytes());
            out.extend(path);
        };
        match self {
            Self::Place {
                ino,
                durable,
                path: at,
            } => {
                out.push(PLACE);
                out.extend(ino.to_le_bytes());
                out.push((*durable).into());
                path(at, out);
            }
            Self::Image { chunk, len } => {
                out.push(IMAGE);
                out.extend(chunk.0.to_le_bytes());
                out.extend(len.to_le_bytes());
            }
            Self::Size { size } => {
                out.push(SIZE);
                out.extend(size.to_le_bytes());
            }
            Self::Extends { stable } => {
                out.push(EXTENDS);
                out.extend(stable.to_le_bytes());
            }
            Self::Punch { first, end } => {
                out.push(PUNCH);
                out.extend(first.0.to_le_bytes());
                out.extend(end.0.to_le_bytes());
            }
            Self::Gone => out.push(GONE),
            Self::Cover { ino, path: at } => {
                out.push(COVER);
                out.extend(ino.to_le_bytes());
                path(at, out);
            }
            Self::Moved { from, to } => {
                out.push(MOVED);
                path(from, out);
                path(to, out);
            }
        }
    }

    /// Takes one record off the front of `table`.
    fn decode(table: &mut &[u8]) -> Option<Self> {
        let [kind] = take(table)?;
        Some(match kind {
            PLACE => Self::Place {
                ino: u64::from_le_bytes(take(table)?),
                durable: match take(table)? {
                    [0] => false,
                    [1] => true,
                    _ => return None,
                },
                path: take_path(table)?,
            },
            IMAGE => Self::Image {
                chunk: ChunkNo(u64::from_le_bytes(take(table)?)),
                len: u32::from_le_bytes(take(table)?),
            },
            SIZE => Self::Size {
                size: u64::from_le_bytes(take(table)?),
            },
            EXTENDS => Self::Extends {
                stable: u64::from_le_bytes(take(table)?),
            },
            PUNCH => {
                let first = ChunkNo(u64::from_le_bytes(take(table)?));
                let end = ChunkNo(u64::from_le_bytes(take(table)?));
                (first < end).then_some(Self::Punch { first, end })?
            }
            GONE => Self::Gone,
            COVER => Self::Cover {
                ino: u64::from_le_bytes(take(table)?),
                path: take_path(table)?,
            },
            MOVED => Self::Moved {
                from: take_path(table)?,
                to: take_path(table)?,
            },
            _ => return None,
        })
    }

    fn data_len(&self) -> u64 {
        match self {
            Self::Image { len, .. } => (*len).into(),
            _ => 0,
        }
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*taken)
}

fn take_path(from: &mut &[u8]) -> Option<Vec<u8>> {
    let len = u32::from_le_bytes(take(from)?);
    let (path, rest) = from.split_at_checked(len as usize)?;
    *from = rest;
    Some(path.to_vec())
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretBytes<32> {
        SecretBytes::take(&mut [3; 32])
    }

    fn group() -> Group {
        Group {
            turn: 7,
            index: 2,
            seq: WriteSeq(99),
            file: Some(FileId([5; 24])),
            records: vec![
                Record::Place {
                    ino: 11,
                    durable: true,
                    path: b"one/two".to_vec(),
                },
                Record::Image {
                    chunk: ChunkNo(3),
                    len: 600,
                },
                Record::Image {
                    chunk: ChunkNo(4),
                    len: 41,
                },
                Record::Size { size: 12_345 },
                Record::Extends { stable: 4096 },
                Record::Punch {
                    first: ChunkNo(1),
                    end: ChunkNo(2),
                },
                Record::Gone,
            ],
            data: (0..641).map(|i| i as u8).collect(),
        }
    }

    fn encoded(group: &Group) -> Vec<u8> {
        let mut bytes = Vec::new();
        group.encode(&key(), &mut bytes);
        bytes
    }

    #[test]
    fn it_survives_the_round_trip() {
        let about_directories = Group {
            file: None,
            records: vec![
                Record::Cover {
                    ino: 1,
                    path: Vec::new(),
                },
                Record::Moved {
                    from: b"a".to_vec(),
                    to: b"b/c".to_vec(),
                },
            ],
            data: Vec::new(),
            ..group()
        };
        for group in [group(), about_directories] {
            let bytes = encoded(&group);
            assert_eq!(bytes.len() % ALIGN, 0);
            let header = GroupHeader::decode(&bytes).expect("its own");
            assert_eq!((header.turn, header.index), (group.turn, group.index));
            assert_eq!(header.group_len(), bytes.len());
            assert_eq!(Group::decode(&bytes, &key()), Ok(group));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_noticed() {
        let bytes = encoded(&group());
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Group::decode(&changed, &key()).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Group::decode(&bytes[..len], &key()).is_err(), "{len} bytes");
        }
        let other = SecretBytes::take(&mut [4; 32]);
        assert_eq!(Group::decode(&bytes, &other), Err(FormatError::Mac));
    }

    #[test]
    fn lengths_that_would_make_a_reader_allocate_are_refused_first() {
        let mut bytes = encoded(&group());
        bytes[36..40].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            GroupHeader::decode(&bytes),
            Err(FormatError::Field("length"))
        );
    }
}
