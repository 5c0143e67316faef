//! The volume header: what a vault is, its key slots and its sealed keyring.
//!
//! ```text
//! off 0  magic "WARDFSVH"  8
//!     8  format version  u16   1
//!    10  minimum reader  u16   the oldest format a reader must know
//!    12  payload length  u32   at most 1 MiB
//!    16  payload               bincode 2 of the header's fields: little-endian, fixed width, lengths u64, variants u32
//!        checksum         32   SHA-256 of everything before
//! ```
//!
//! The checksum finds damage before there is a key. The MAC, the last field of the payload, finds tampering once there
//! is one. Keys, slots and keyring are opened in [`crate::keys`].

use aws_lc_rs::digest;
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};

use crate::format::FormatError;
use crate::format::file::LOG2_CHUNK;
use crate::format::ids::{Cipher, VolumeId};
use crate::format::keyring::MAX_KEYRING;
use crate::format::mac;
use crate::format::slot::{MAX_LABEL, MAX_SLOT_DATA, MAX_SLOTS, Slot};
use crate::sys::secret::SecretBytes;

/// The format this version writes, and the newest it reads.
pub const FORMAT_VERSION: u16 = 1;
/// An incompatible feature: the volume may have a journal with what its files lack.
pub const INCOMPATIBLE_JOURNAL: u64 = 1;
/// An incompatible feature: name root and file root are in the keyring, and not derived from the volume key.
pub const INCOMPATIBLE_TREE_ROOTS: u64 = 2;
/// All incompatible features that this version knows.
pub const KNOWN_INCOMPATIBLE: u64 = INCOMPATIBLE_JOURNAL | INCOMPATIBLE_TREE_ROOTS;
/// The longest header file; what is longer need not be read.
pub const MAX_HEADER_LEN: usize = FRAME + MAX_PAYLOAD + CHECKSUM;

/// How a header begins.
pub const MAGIC: [u8; 8] = *b"WARDFSVH";
const FRAME: usize = 16;
const MAX_PAYLOAD: usize = 1 << 20;
const CHECKSUM: usize = 32;
const MAX_EXTENSIONS: usize = 32;
const MAC_DOMAIN: &[u8; 8] = b"wrdhead1";
const KEYRING_DOMAIN: &[u8; 8] = b"wrdring1";
const BINCODE: Configuration<LittleEndian, Fixint, Limit<MAX_PAYLOAD>> =
    bincode::config::legacy().with_limit();

/// The header. The two versions are in the frame, the other fields make the payload in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeHeader {
    /// The format it was written in.
    pub version: u16,
    /// The oldest format that a reader must know.
    pub min_reader: u16,
    /// A reader that does not know one of these bits must not touch the vault. The two feature words come first in
    /// every version, so that a reader can say what it lacks.
    pub incompatible: u64,
    /// A reader may ignore these bits.
    pub compatible: u64,
    pub uuid: VolumeId,
    pub label: String,
    /// Seconds since 1970.
    pub created: i64,
    /// For new files.
    pub cipher: Cipher,
    /// Binary logarithm of the chunk size of new files.
    pub log2_chunk: u8,
    pub slots: Vec<Slot>,
    pub keyring: SealedKeyring,
    /// Data of compatible features, kept by a writer that does not know them. At most 32, in ascending order of tags.
    pub extensions: Vec<Extension>,
    /// HMAC-SHA-256 of everything above under the header MAC key.
    pub mac: [u8; 32],
}

/// The keyring under the keyring key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SealedKeyring {
    pub nonce: [u8; 24],
    /// XChaCha20-Poly1305 of the encoded [`crate::format::keyring::Keyring`], with its tag.
    pub sealed: Vec<u8>,
}

/// Data of a compatible feature, at most as much as of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Extension {
    pub tag: u16,
    pub data: Vec<u8>,
}

impl VolumeHeader {
    /// The whole file. The header passes [`VolumeHeader::check`].
    pub fn encode(&self) -> Vec<u8> {
        assert_eq!(
            self.check(),
            Ok(()),
            "an impossible header is never written"
        );
        let mut payload = self.body();
        payload.extend(self.mac);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.min_reader.to_le_bytes());
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
        let checksum = digest::digest(&digest::SHA256, &bytes);
        bytes.extend(checksum.as_ref());
        bytes
    }

    /// # Errors
    /// Anything that [`VolumeHeader::encode`] does not write. [`FormatError::is_unsupported`] only for an undamaged
    /// header. The MAC is not checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let length = FormatError::Length { found: bytes.len() };
        if !bytes.starts_with(&MAGIC) {
            return Err(FormatError::Magic);
        }
        let (checked, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(length)?;
        let (frame, payload) = checked.split_first_chunk::<FRAME>().ok_or(length)?;
        let claimed = u32::from_le_bytes(frame[12..].try_into().expect("4 bytes")) as usize;
        if claimed != payload.len() || claimed > MAX_PAYLOAD {
            return Err(length);
        }
        if digest::digest(&digest::SHA256, checked).as_ref() != checksum {
            return Err(FormatError::Checksum);
        }
        let version = u16::from_le_bytes([frame[8], frame[9]]);
        let min_reader = u16::from_le_bytes([frame[10], frame[11]]);
        if min_reader > FORMAT_VERSION {
            return Err(FormatError::Version { needs: min_reader });
        }
        Self::decode_payload(version, min_reader, payload)
    }

    fn decode_payload(version: u16, min_reader: u16, payload: &[u8]) -> Result<Self, FormatError> {
        let malformed = FormatError::Field("payload");
        let first: &[u8; 8] = payload.first_chunk().ok_or(malformed)?;
        let unknown = u64::from_le_bytes(*first) & !KNOWN_INCOMPATIBLE;
        if unknown != 0 {
            return Err(FormatError::Features { unknown });
        }
        #[rustfmt::skip]
        let (fields, used) = bincode::decode_from_slice(payload, BINCODE).map_err(|_| malformed)?;
        let (
            (incompatible, compatible, uuid, label, created, cipher, log2_chunk),
            (slots, keyring, extensions, mac),
        ) = fields;
        let header = Self {
            version,
            min_reader,
            incompatible,
            compatible,
            uuid: VolumeId(uuid),
            label,
            created,
            cipher: Cipher::from_number(cipher).ok_or(FormatError::Field("cipher"))?,
            log2_chunk,
            slots,
            keyring,
            extensions,
            mac,
        };
        if used != payload.len() {
            return Err(FormatError::Field("payload length"));
        }
        header.check()?;
        Ok(header)
    }

    /// What [`VolumeHeader::mac`] should be.
    pub fn compute_mac(&self, key: &SecretBytes<32>) -> [u8; 32] {
        let versions = [self.version, self.min_reader].map(u16::to_le_bytes);
        mac::tag(key, &[MAC_DOMAIN, versions.as_flattened(), &self.body()])
    }

    /// Whether the header is what somebody with the key wrote, in constant time.
    pub fn mac_matches(&self, key: &SecretBytes<32>) -> bool {
        mac::matches(&self.compute_mac(key), &self.mac)
    }

    /// What the seal of the keyring authenticates besides it.
    pub fn keyring_aad(&self) -> [u8; 24] {
        let mut aad = [0; 24];
        aad[..8].copy_from_slice(KEYRING_DOMAIN);
        aad[8..].copy_from_slice(&self.uuid.0);
        aad
    }

    /// The payload without the MAC.
    fn body(&self) -> Vec<u8> {
        // Nested tuples are stored like one flat list of fields.
        let fields = (
            (
                self.incompatible,
                self.compatible,
                self.uuid.0,
                &self.label,
                self.created,
                self.cipher.number(),
                self.log2_chunk,
            ),
            (&self.slots, &self.keyring, &self.extensions),
        );
        bincode::encode_to_vec(fields, BINCODE).expect("a Vec takes every field")
    }

    /// # Errors
    /// The field that no decoder would accept.
    pub fn check(&self) -> Result<(), FormatError> {
        let field = if self.min_reader == 0 || self.min_reader > self.version {
            "version"
        } else if self.label.len() > MAX_LABEL {
            "label"
        } else if !LOG2_CHUNK.contains(&self.log2_chunk) {
            "chunk size"
        } else if self.slots.len() > MAX_SLOTS {
            "slot count"
        } else if has_repeated_id(&self.slots) {
            "slot id"
        } else if self.keyring.sealed.len() > MAX_KEYRING + 16 {
            "keyring"
        } else if !self.extensions.is_sorted_by(|a, b| a.tag < b.tag) {
            "extension order"
        } else if self.extensions.len() > MAX_EXTENSIONS {
            "extension count"
        } else if self.extensions.iter().any(|e| e.data.len() > MAX_SLOT_DATA) {
            "extension data"
        } else {
            return self.slots.iter().try_for_each(Slot::check);
        };
        Err(FormatError::Field(field))
    }
}

fn has_repeated_id(slots: &[Slot]) -> bool {
    let earlier = |i: usize| slots[..i].iter().any(|s| s.id == slots[i].id);
    (0..slots.len()).any(earlier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::slot::{Argon2Params, Kdf, SlotKind};

    pub(crate) fn slot(id: u32) -> Slot {
        Slot {
            id,
            kind: SlotKind::Passphrase,
            label: "desk".into(),
            owner: "A. Keeper".into(),
            created: 1,
            changed: 2,
            expires: Some(3),
            kdf: Kdf::Argon2id(Argon2Params {
                memory_kib: 8192,
                time: 1,
                lanes: 2,
            }),
            salt: [4; 32],
            commitment: [5; 32],
            nonce: [6; 24],
            sealed: [7; 48],
            data: vec![8],
        }
    }

    fn header() -> VolumeHeader {
        VolumeHeader {
            version: 1,
            min_reader: 1,
            incompatible: 0,
            compatible: 0x8000_0000_0000_0001,
            uuid: VolumeId([9; 16]),
            label: "ward 3".into(),
            created: -1,
            cipher: Cipher::Xaes256Gcm,
            log2_chunk: 12,
            slots: vec![
                slot(0),
                Slot {
                    kdf: Kdf::HkdfSha256,
                    expires: None,
                    ..slot(7)
                },
            ],
            keyring: SealedKeyring {
                nonce: [10; 24],
                sealed: vec![11; 60],
            },
            extensions: vec![Extension {
                tag: 1,
                data: vec![12; 3],
            }],
            mac: [13; 32],
        }
    }

    fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(bytes.len() - CHECKSUM);
        let checksum = digest::digest(&digest::SHA256, &bytes);
        bytes.extend(checksum.as_ref());
        bytes
    }

    #[test]
    fn it_survives_the_round_trip() {
        let bytes = header().encode();
        assert_eq!(VolumeHeader::decode(&bytes), Ok(header()));
    }

    #[test]
    fn damage_anywhere_is_noticed_without_a_key() {
        let bytes = header().encode();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let error = VolumeHeader::decode(&changed).expect_err("damaged");
            assert!(!error.is_unsupported(), "bit {bit}: {error}");
        }
        for len in 0..bytes.len() {
            assert!(VolumeHeader::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert!(VolumeHeader::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn the_mac_covers_every_byte_of_versions_and_payload() {
        let key = SecretBytes::take(&mut [1; 32]);
        let mut own = header();
        own.mac = own.compute_mac(&key);
        assert!(own.mac_matches(&key));
        let bytes = own.encode();
        let mut decoded = 0;
        for at in 8..bytes.len() - CHECKSUM {
            for flip in [1, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                if let Ok(header) = VolumeHeader::decode(&with_checksum(changed)) {
                    decoded += 1;
                    assert!(!header.mac_matches(&key), "byte {at}");
                }
            }
        }
        assert!(
            decoded > 500,
            "most changes decode and only the MAC finds them: {decoded}"
        );
    }

    #[test]
    fn what_is_accepted_encodes_to_the_same_bytes() {
        let bytes = header().encode();
        for at in 8..bytes.len() - CHECKSUM {
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[at] = value;
                let changed = with_checksum(changed);
                if let Ok(header) = VolumeHeader::decode(&changed) {
                    assert_eq!(header.encode(), changed, "byte {at}");
                }
            }
        }
    }

    #[test]
    fn a_newer_format_is_unsupported_only_if_it_says_so() {
        let decode = |change: fn(&mut Vec<u8>)| {
            let mut bytes = header().encode();
            change(&mut bytes);
            VolumeHeader::decode(&with_checksum(bytes)).map(|h| h.version)
        };
        assert_eq!(decode(|b| b[8] = 9), Ok(9));
        assert_eq!(
            decode(|b| b[8..12].copy_from_slice(&[9, 0, 2, 0])),
            Err(FormatError::Version { needs: 2 })
        );
        assert_eq!(decode(|b| b[10] = 0), Err(FormatError::Field("version")));
        assert_eq!(
            decode(|b| b[16] = 4),
            Err(FormatError::Features { unknown: 4 })
        );
    }

    #[test]
    fn impossible_fields_are_refused_by_name() {
        let check = |change: fn(&mut VolumeHeader)| {
            let mut header = header();
            change(&mut header);
            header.check()
        };
        let field = |name| Err(FormatError::Field(name));
        assert_eq!(check(|h| h.label = "x".repeat(256)), field("label"));
        assert_eq!(check(|h| h.log2_chunk = 17), field("chunk size"));
        assert_eq!(
            check(|h| h.slots = (0..65).map(slot).collect()),
            field("slot count")
        );
        assert_eq!(
            check(|h| h.slots = vec![slot(3), slot(3)]),
            field("slot id")
        );
        assert_eq!(
            check(|h| h.slots[0].label = "x".repeat(256)),
            field("slot label")
        );
        assert_eq!(
            check(|h| h.slots[0].owner = "x".repeat(256)),
            field("slot owner")
        );
        assert_eq!(
            check(|h| h.slots[0].data = vec![0; 8193]),
            field("slot data")
        );
        assert_eq!(
            check(|h| h.keyring.sealed = vec![0; 20_000]),
            field("keyring")
        );
        assert_eq!(
            check(|h| h.extensions = vec![h.extensions[0].clone(), h.extensions[0].clone()]),
            field("extension order")
        );
        assert_eq!(
            check(|h| h.extensions = (0..33).map(|tag| Extension { tag, data: vec![] }).collect()),
            field("extension count")
        );
        assert_eq!(
            check(|h| h.extensions[0].data = vec![0; 8193]),
            field("extension data")
        );
    }

    #[test]
    fn the_fullest_header_still_fits() {
        let full = VolumeHeader {
            label: "x".repeat(255),
            slots: (0..64)
                .map(|id| Slot {
                    label: "x".repeat(255),
                    owner: "x".repeat(255),
                    data: vec![1; 8192],
                    ..slot(id)
                })
                .collect(),
            keyring: SealedKeyring {
                nonce: [0; 24],
                sealed: vec![1; MAX_KEYRING + 16],
            },
            extensions: (0..32)
                .map(|tag| Extension {
                    tag,
                    data: vec![1; 8192],
                })
                .collect(),
            ..header()
        };
        assert!(full.encode().len() <= MAX_HEADER_LEN);
        assert_eq!(VolumeHeader::decode(&full.encode()), Ok(full));
    }
}
