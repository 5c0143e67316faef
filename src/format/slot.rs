//! Key slots: one secret each, and the volume key sealed under it.
//!
//! Derives and opens nothing: that is `keys`' business. Field order here is the stored order.

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};

use crate::format::FormatError;
use crate::format::ids::VolumeId;

/// A volume has at most so many slots.
pub const MAX_SLOTS: usize = 64;
/// Longest label of a volume or slot, and longest owner note, in bytes.
pub const MAX_LABEL: usize = 255;
/// Longest data of a key manager in a slot.
pub const MAX_SLOT_DATA: usize = 8 * 1024;

/// What kind of secret opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    Passphrase,
    Keyfile,
    PassphraseAndKeyfile,
    /// A file that the service manager hands over.
    Credential,
    /// The output of a program.
    Command,
    /// A printed key of 256 random bits.
    Recovery,
    /// So many of the printed shares of a random key.
    Shares,
    /// One that this version does not know; it cannot be opened and is kept as it is.
    Other(u16),
}

impl SlotKind {
    /// Whether a person holds what opens it, as opposed to a machine.
    pub fn is_for_people(self) -> bool {
        !matches!(self, Self::Credential | Self::Command | Self::Other(_))
    }

    /// The stored number.
    pub fn number(self) -> u16 {
        match self {
            Self::Passphrase => 1,
            Self::Keyfile => 2,
            Self::PassphraseAndKeyfile => 3,
            Self::Credential => 4,
            Self::Command => 5,
            Self::Recovery => 6,
            Self::Shares => 7,
            Self::Other(number) => number,
        }
    }

    pub fn from_number(number: u16) -> Self {
        match number {
            1 => Self::Passphrase,
            2 => Self::Keyfile,
            3 => Self::PassphraseAndKeyfile,
            4 => Self::Credential,
            5 => Self::Command,
            6 => Self::Recovery,
            7 => Self::Shares,
            _ => Self::Other(number),
        }
    }
}

impl std::fmt::Display for SlotKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passphrase => f.write_str("passphrase"),
            Self::Keyfile => f.write_str("keyfile"),
            Self::PassphraseAndKeyfile => f.write_str("passphrase and keyfile"),
            Self::Credential => f.write_str("credential"),
            Self::Command => f.write_str("command"),
            Self::Recovery => f.write_str("recovery key"),
            Self::Shares => f.write_str("shares"),
            Self::Other(number) => write!(f, "unknown kind {number}"),
        }
    }
}

impl Encode for SlotKind {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.number().encode(encoder)
    }
}

impl<C> Decode<C> for SlotKind {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self::from_number(u16::decode(decoder)?))
    }
}

impl<'de, C> BorrowDecode<'de, C> for SlotKind {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(d: &mut D) -> Result<Self, DecodeError> {
        Self::decode(d)
    }
}

/// Cost of Argon2id, version 0x13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Argon2Params {
    pub memory_kib: u32,
    /// Passes over the memory.
    pub time: u32,
    pub lanes: u32,
}

impl Argon2Params {
    /// Less is no obstacle to a guesser: RFC 9106 and OWASP ask for more than twice as much.
    pub const MIN_MEMORY_KIB: u32 = 8 * 1024;
    /// 4 GiB: more than a machine that serves files can spare, and a size it can be asked for.
    pub const MAX_MEMORY_KIB: u32 = 4 * 1024 * 1024;
    pub const MAX_TIME: u32 = 64;
    pub const MAX_LANES: u32 = 16;
    /// Memory times passes, 16 GiB: half a minute on two cores of 2024. A header is hostile until it is unlocked, and
    /// this bounds the time and memory it can take from whoever tries.
    pub const MAX_WORK_KIB: u64 = 16 * 1024 * 1024;

    /// # Errors
    /// The parameter that is out of bounds.
    pub fn check(&self) -> Result<(), FormatError> {
        let field = if !(Self::MIN_MEMORY_KIB..=Self::MAX_MEMORY_KIB).contains(&self.memory_kib) {
            "Argon2 memory"
        } else if !(1..=Self::MAX_TIME).contains(&self.time) {
            "Argon2 time"
        } else if !(1..=Self::MAX_LANES).contains(&self.lanes) {
            "Argon2 lanes"
        } else if u64::from(self.memory_kib) * u64::from(self.time) > Self::MAX_WORK_KIB {
            "Argon2 memory times time"
        } else {
            return Ok(());
        };
        Err(FormatError::Field(field))
    }
}

/// How a slot's secret becomes its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Kdf {
    /// For what people remember or may have chosen badly.
    Argon2id(Argon2Params),
    /// For 32 random bytes, from a key manager for example.
    HkdfSha256,
}

/// One key slot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Slot {
    /// Unique in its header and never used again.
    pub id: u32,
    pub kind: SlotKind,
    pub label: String,
    /// Whose it is, in the words of the person who made it.
    pub owner: String,
    /// Seconds since 1970, as the two that follow.
    pub created: i64,
    /// When the secret was last changed.
    pub changed: i64,
    pub expires: Option<i64>,
    pub kdf: Kdf,
    pub salt: [u8; 32],
    pub commitment: [u8; 32],
    pub nonce: [u8; 24],
    /// The volume key and its tag.
    pub sealed: [u8; 48],
    /// What is needed to find the secret: see [`crate::keys::kind`]; empty for passphrases and keyfiles.
    pub data: Vec<u8>,
}

impl Slot {
    /// What the seal of the volume key authenticates besides it. Labels and dates are covered by the header's MAC.
    pub fn aad(&self, volume: &VolumeId) -> Vec<u8> {
        let (kdf, cost) = match self.kdf {
            Kdf::Argon2id(cost) => (0u32, [cost.memory_kib, cost.time, cost.lanes]),
            Kdf::HkdfSha256 => (1, [0; 3]),
        };
        let mut aad = b"wrdslot1".to_vec();
        aad.extend(volume.0);
        aad.extend(self.id.to_le_bytes());
        aad.extend(self.kind.number().to_le_bytes());
        aad.extend(kdf.to_le_bytes());
        aad.extend(cost.map(u32::to_le_bytes).as_flattened());
        aad.extend(self.salt);
        aad.extend(&self.data);
        aad
    }

    pub(crate) fn check(&self) -> Result<(), FormatError> {
        if self.label.len() > MAX_LABEL {
            return Err(FormatError::Field("slot label"));
        }
        if self.owner.len() > MAX_LABEL {
            return Err(FormatError::Field("slot owner"));
        }
        if self.data.len() > MAX_SLOT_DATA {
            return Err(FormatError::Field("slot data"));
        }
        match self.kdf {
            Kdf::Argon2id(cost) => cost.check(),
            Kdf::HkdfSha256 => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kdf_costs_are_bounded_on_both_sides() {
        let check = |memory_kib, time, lanes| {
            Argon2Params {
                memory_kib,
                time,
                lanes,
            }
            .check()
        };
        const MIN: u32 = Argon2Params::MIN_MEMORY_KIB;
        const MAX: u32 = Argon2Params::MAX_MEMORY_KIB;
        assert_eq!(check(MIN, 1, 1), Ok(()));
        assert_eq!(check(MAX, 4, 16), Ok(()));
        assert_eq!(check(MAX / 16, 64, 4), Ok(()));
        assert_eq!(
            check(MIN - 1, 1, 1),
            Err(FormatError::Field("Argon2 memory"))
        );
        assert_eq!(
            check(MAX + 1, 1, 1),
            Err(FormatError::Field("Argon2 memory"))
        );
        assert_eq!(
            check(u32::MAX, 1, 1),
            Err(FormatError::Field("Argon2 memory"))
        );
        assert_eq!(check(MIN, 0, 1), Err(FormatError::Field("Argon2 time")));
        assert_eq!(check(MIN, 65, 1), Err(FormatError::Field("Argon2 time")));
        assert_eq!(check(MIN, 1, 0), Err(FormatError::Field("Argon2 lanes")));
        assert_eq!(check(MIN, 1, 17), Err(FormatError::Field("Argon2 lanes")));
        assert_eq!(
            check(MAX, 5, 1),
            Err(FormatError::Field("Argon2 memory times time"))
        );
    }

    #[test]
    fn kind_numbers_lead_back() {
        for number in 0..=u16::MAX {
            assert_eq!(SlotKind::from_number(number).number(), number);
        }
    }
}
