//! The numbers and identifiers of the format, each its own type.
//!
//! None of them is secret.

/// Number of a WRITE in the life of a volume; orders the versions of a chunk. 48 bits are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WriteSeq(pub u64);

impl WriteSeq {
    /// The last one. A million writes a second reach it in nine years.
    pub const MAX: Self = Self((1 << 48) - 1);
}

/// A generation of content keys. A volume begins with epoch 0; each rotation adds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u8);

/// Index of a chunk in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChunkNo(pub u64);

/// Random identity of a file's content. Names and paths are not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub [u8; 24]);

/// Random identity of a directory, independent of its name and parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirId(pub [u8; 16]);

/// Random identity of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub [u8; 16]);

impl VolumeId {
    /// From 16 random bytes, of which six bits say so (RFC 9562, version 4).
    pub fn random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl std::fmt::Display for VolumeId {
    /// As a UUID.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// What a chunk says about its place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkFlags {
    /// It is the last chunk of its file.
    pub is_final: bool,
    /// On the last chunk: chunks stored as zeros are legal holes in this file.
    pub sparse: bool,
}

/// What the first 8 bytes of a chunk's nonce say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkMeta {
    pub seq: WriteSeq,
    pub epoch: Epoch,
    pub flags: ChunkFlags,
}

const FINAL: u8 = 1;
const SPARSE: u8 = 2;

impl ChunkMeta {
    /// Write sequence 6 bytes little-endian, epoch 1, flags 1.
    pub fn encode(self) -> [u8; 8] {
        assert!(
            self.seq <= WriteSeq::MAX,
            "{:?} does not fit 48 bits",
            self.seq
        );
        let flags = if self.flags.is_final { FINAL } else { 0 }
            | if self.flags.sparse { SPARSE } else { 0 };
        (self.seq.0 | u64::from(self.epoch.0) << 48 | u64::from(flags) << 56).to_le_bytes()
    }

    /// The epoch alone, whatever the flags say.
    pub fn epoch_of(bytes: [u8; 8]) -> Epoch {
        Epoch(bytes[6])
    }

    /// `None` when a reserved flag is set.
    pub fn decode(bytes: [u8; 8]) -> Option<Self> {
        let [.., epoch, flags] = bytes;
        (flags & !(FINAL | SPARSE) == 0).then(|| Self {
            seq: WriteSeq(u64::from_le_bytes(bytes) & WriteSeq::MAX.0),
            epoch: Epoch(epoch),
            flags: ChunkFlags {
                is_final: flags & FINAL != 0,
                sparse: flags & SPARSE != 0,
            },
        })
    }
}

/// The content ciphers. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cipher {
    Xaes256Gcm = 1,
    XChaCha20Poly1305 = 2,
}

impl Cipher {
    pub const ALL: [Self; 2] = [Self::Xaes256Gcm, Self::XChaCha20Poly1305];

    /// The stored number.
    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.number() == number)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Xaes256Gcm => "xaes-256-gcm",
            Self::XChaCha20Poly1305 => "xchacha20-poly1305",
        }
    }
}

impl std::fmt::Display for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is not one of [`Cipher::name`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCipher(pub String);

impl std::fmt::Display for UnknownCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b] = Cipher::ALL;
        write!(f, "unknown cipher {:?}: use {a} or {b}", self.0)
    }
}

impl std::error::Error for UnknownCipher {}

impl std::str::FromStr for Cipher {
    type Err = UnknownCipher;

    fn from_str(name: &str) -> Result<Self, UnknownCipher> {
        Self::ALL
            .into_iter()
            .find(|c| c.name() == name)
            .ok_or_else(|| UnknownCipher(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_meta_survives_the_round_trip_at_its_limits() {
        for seq in [0, 1, 0x0123_4567_89ab, WriteSeq::MAX.0] {
            for epoch in [0, 1, 255] {
                for (is_final, sparse) in
                    [(false, false), (true, false), (false, true), (true, true)]
                {
                    let meta = ChunkMeta {
                        seq: WriteSeq(seq),
                        epoch: Epoch(epoch),
                        flags: ChunkFlags { is_final, sparse },
                    };
                    assert_eq!(ChunkMeta::decode(meta.encode()), Some(meta));
                }
            }
        }
    }

    #[test]
    fn chunk_meta_is_laid_out_as_the_manual_draws_it() {
        let meta = ChunkMeta {
            seq: WriteSeq(0x0605_0403_0201),
            epoch: Epoch(7),
            flags: ChunkFlags {
                is_final: true,
                sparse: true,
            },
        };
        assert_eq!(meta.encode(), [1, 2, 3, 4, 5, 6, 7, 3]);
    }

    #[test]
    fn reserved_flags_are_refused() {
        for flags in 4..=255 {
            assert_eq!(ChunkMeta::decode([0, 0, 0, 0, 0, 0, 0, flags]), None);
        }
    }

    #[test]
    #[should_panic(expected = "does not fit 48 bits")]
    fn a_write_sequence_of_49_bits_is_never_truncated() {
        let meta = ChunkMeta {
            seq: WriteSeq(1 << 48),
            epoch: Epoch(0),
            flags: ChunkFlags::default(),
        };
        meta.encode();
    }

    #[test]
    fn cipher_names_and_numbers_lead_back() {
        for cipher in Cipher::ALL {
            assert_eq!(cipher.to_string().parse(), Ok(cipher));
            assert_eq!(Cipher::from_number(cipher.number()), Some(cipher));
        }
        assert_eq!(Cipher::from_number(0), None);
        assert!("aes".parse::<Cipher>().is_err());
    }
}
