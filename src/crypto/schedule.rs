//! The key schedule, whole. Every derived key of the product is derived here, each under a label of its own.
//!
//! ```text
//! slot secret ── Argon2id or HKDF ──> slot key, slot commitment
//!                                        └ opens the slot ──> volume key
//! volume key ── header MAC, journal MAC, manifest seed, audit, keyring
//!            ├─ name root ── names, long names, directories, links, xattr names, xattr values
//!            └─ file root ── per file: nonce mask, commitment
//! keyring ── content root per epoch ── per file: file key
//!         └─ name root and file root, once the volume key or the names were replaced
//! ```
//!
//! HKDF-SHA-256 throughout, `info` = label ‖ context. No label is a prefix of another and each context has a fixed
//! length, so no two derivations share an input.

use crate::crypto::hkdf::derive;
use crate::crypto::nonce::NonceMask;
use crate::crypto::rand;
use crate::crypto::xchacha::XChaCha20Poly1305;
use crate::format::file::FileHeader;
use crate::format::keyring::TreeRoots;
use crate::sys::secret::SecretBytes;

const SLOT_KEY: &[u8] = b"wardfs v1 slot key";
const SLOT_COMMITMENT: &[u8] = b"wardfs v1 slot commitment";
const HEADER_MAC: &[u8] = b"wardfs v1 header mac";
const JOURNAL_MAC: &[u8] = b"wardfs v1 journal mac";
const MANIFEST_SEED: &[u8] = b"wardfs v1 manifest seed";
const AUDIT: &[u8] = b"wardfs v1 audit";
const KEYRING: &[u8] = b"wardfs v1 keyring";
const NAME_ROOT: &[u8] = b"wardfs v1 name root";
const NAMES: &[u8] = b"wardfs v1 names";
const LONG_NAMES: &[u8] = b"wardfs v1 long names";
const DIRECTORIES: &[u8] = b"wardfs v1 directories";
const LINKS: &[u8] = b"wardfs v1 links";
const XATTR_NAMES: &[u8] = b"wardfs v1 xattr names";
const XATTR_VALUES: &[u8] = b"wardfs v1 xattr values";
const FILE_ROOT: &[u8] = b"wardfs v1 file root";
const NONCE_MASK: &[u8] = b"wardfs v1 nonce mask";
const FILE_COMMITMENT: &[u8] = b"wardfs v1 file commitment";
const FILE_KEY: &[u8] = b"wardfs v1 file key";

/// What the KDF makes of a slot's secret.
#[derive(Debug)]
pub struct SlotRoot(pub SecretBytes<32>);

impl SlotRoot {
    /// The key that seals the volume key in the slot.
    pub fn key(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(derive(self.0.as_bytes(), &[], &[SLOT_KEY]))
    }

    /// Says whether the secret is right before the slot is opened, and commits the slot to one secret.
    pub fn commitment(&self) -> SecretBytes<32> {
        derive(self.0.as_bytes(), &[], &[SLOT_COMMITMENT])
    }
}

/// The root of everything, 32 random bytes.
#[derive(Debug)]
pub struct VolumeKey(pub SecretBytes<32>);

/// Authenticates a volume header, and opens and seals its keyring.
pub trait HeaderKey {
    fn header_mac_key(&self) -> SecretBytes<32>;
    fn keyring_key(&self) -> XChaCha20Poly1305;
}

impl HeaderKey for VolumeKey {
    fn header_mac_key(&self) -> SecretBytes<32> {
        self.header_mac_key()
    }

    fn keyring_key(&self) -> XChaCha20Poly1305 {
        self.keyring_key()
    }
}

/// What is kept of the volume key while a volume is mounted, so that its content can be rotated.
#[derive(Debug)]
pub struct HeaderKeys {
    mac: SecretBytes<32>,
    keyring: SecretBytes<32>,
}

impl HeaderKey for HeaderKeys {
    fn header_mac_key(&self) -> SecretBytes<32> {
        SecretBytes::filled_by(|bytes| bytes.copy_from_slice(self.mac.as_bytes()))
    }

    fn keyring_key(&self) -> XChaCha20Poly1305 {
        let key = SecretBytes::filled_by(|bytes: &mut [u8; 32]| {
            bytes.copy_from_slice(self.keyring.as_bytes());
        });
        XChaCha20Poly1305::new(key)
    }
}

impl VolumeKey {
    pub fn header_keys(&self) -> HeaderKeys {
        HeaderKeys {
            mac: self.header_mac_key(),
            keyring: self.derive(KEYRING),
        }
    }

    pub fn generate() -> Self {
        Self(SecretBytes::filled_by(|bytes| rand::fill(bytes)))
    }

    fn derive<const N: usize>(&self, label: &[u8]) -> SecretBytes<N> {
        derive(self.0.as_bytes(), &[], &[label])
    }

    pub fn header_mac_key(&self) -> SecretBytes<32> {
        self.derive(HEADER_MAC)
    }

    pub fn journal_mac_key(&self) -> SecretBytes<32> {
        self.derive(JOURNAL_MAC)
    }

    /// The seed of the Ed25519 key that signs manifests.
    pub fn manifest_seed(&self) -> SecretBytes<32> {
        self.derive(MANIFEST_SEED)
    }

    pub fn audit_key(&self) -> SecretBytes<32> {
        self.derive(AUDIT)
    }

    pub fn keyring_key(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.derive(KEYRING))
    }

    pub fn name_keys(&self) -> NameKeys {
        NameKeys::new(&self.derive(NAME_ROOT))
    }

    pub fn file_root(&self) -> FileRoot {
        FileRoot(self.derive(FILE_ROOT))
    }

    /// The roots of the tree, for a keyring under another volume key.
    pub fn tree_roots(&self) -> TreeRoots {
        TreeRoots {
            names: self.derive(NAME_ROOT),
            files: self.derive(FILE_ROOT),
            next_names: None,
        }
    }
}

impl NameKeys {
    pub fn new(root: &SecretBytes<32>) -> Self {
        let root = root.as_bytes();
        Self {
            names: derive(root, &[], &[NAMES]),
            long_names: derive(root, &[], &[LONG_NAMES]),
            directories: derive(root, &[], &[DIRECTORIES]),
            links: XChaCha20Poly1305::new(derive(root, &[], &[LINKS])),
            xattr_names: derive(root, &[], &[XATTR_NAMES]),
            xattr_values: XChaCha20Poly1305::new(derive(root, &[], &[XATTR_VALUES])),
        }
    }
}

/// The keys of everything in the tree that is not content. `names` has its methods.
#[derive(Debug)]
pub struct NameKeys {
    /// AES-256-SIV: the MAC half, then the encryption half.
    pub(crate) names: SecretBytes<64>,
    pub(crate) long_names: SecretBytes<32>,
    pub(crate) directories: SecretBytes<32>,
    pub(crate) links: XChaCha20Poly1305,
    pub(crate) xattr_names: SecretBytes<32>,
    pub(crate) xattr_values: XChaCha20Poly1305,
}

/// The root of what a file needs besides its content keys; rotation leaves it alone.
#[derive(Debug)]
pub struct FileRoot(pub SecretBytes<32>);

impl FileRoot {
    pub fn nonce_mask(&self, header: &FileHeader) -> NonceMask {
        NonceMask::new(&self.derive(NONCE_MASK, header))
    }

    /// Binds the header to the volume key. Public once stored.
    pub fn commitment(&self, header: &FileHeader) -> SecretBytes<32> {
        self.derive(FILE_COMMITMENT, header)
    }

    fn derive(&self, label: &[u8], header: &FileHeader) -> SecretBytes<32> {
        let info = [label, &header.bound_part()];
        derive(self.0.as_bytes(), &header.file_id.0, &info)
    }
}

/// The key of one file in one epoch.
pub fn file_key(content_root: &SecretBytes<32>, header: &FileHeader) -> SecretBytes<32> {
    let info = [FILE_KEY, &header.key_context()];
    derive(content_root.as_bytes(), &header.file_id.0, &info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ids::{Cipher, FileId};

    #[test]
    fn no_label_is_a_prefix_of_another() {
        let labels = [
            SLOT_KEY,
            SLOT_COMMITMENT,
            HEADER_MAC,
            JOURNAL_MAC,
            MANIFEST_SEED,
            AUDIT,
            KEYRING,
            NAME_ROOT,
            NAMES,
            LONG_NAMES,
            DIRECTORIES,
            LINKS,
            XATTR_NAMES,
            XATTR_VALUES,
            FILE_ROOT,
            NONCE_MASK,
            FILE_COMMITMENT,
            FILE_KEY,
        ];
        for (i, a) in labels.iter().enumerate() {
            for (j, b) in labels.iter().enumerate() {
                assert!(
                    i == j || !b.starts_with(a),
                    "{:?}",
                    a.escape_ascii().to_string()
                );
            }
        }
    }

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    /// The tag of nothing shows which key it is.
    fn print(key: &XChaCha20Poly1305) -> String {
        hex(&key.seal(&[0; 24], b"", b"", &mut []))
    }

    /// Computed by the second implementation that `tests/golden.rs` speaks of.
    #[test]
    fn every_derived_key_has_its_pinned_value() {
        let ascending =
            |first: u8| SecretBytes::filled_by(|b| *b = std::array::from_fn(|i| first + i as u8));
        let key = VolumeKey(ascending(0));
        for (derived, pinned) in [
            (
                key.header_mac_key(),
                "5a731f194ceb8b8b8f9e0b5f62bfea33c778ce399fecb2aabea3c3fc53bf61d9",
            ),
            (
                key.journal_mac_key(),
                "a4263de7605b6a8d05ab00435ec6e55008935efd76e6d82d8dc7cddf475105ce",
            ),
            (
                key.manifest_seed(),
                "65b3d4f85e6f8ec78cf7d24a95d3541a99b334a32f1c5521e76cd2bc2a844e2b",
            ),
            (
                key.audit_key(),
                "b90c6877a91799f9eceaae8606d6ae3c7653611f7d7f6c687b1bdfe8079f251f",
            ),
        ] {
            assert_eq!(hex(derived.as_bytes()), pinned);
        }
        assert_eq!(
            print(&key.keyring_key()),
            "5a26cf349223f35a22e638373978f3f1"
        );
        let names = key.name_keys();
        assert_eq!(
            hex(names.names.as_bytes()),
            "182299a77c262e0d70a9b226f1f0138228df162dbd6ab190d1529f1a8405b4a7\
             f2d2444fe3c85b1abff74319b40a2ddf4a891167440c0b3a30fe5877f5fb63f3"
        );
        for (derived, pinned) in [
            (
                &names.long_names,
                "98e40dffe43f3910a51cd40f01b1ce7e7d2249e0ded539070ac5e9d8e6a6fa78",
            ),
            (
                &names.directories,
                "c392c249f818d7e52460652b580eab971614db2d65086b1268affa10df58059c",
            ),
            (
                &names.xattr_names,
                "89e47b79a5efaa57acdbf030d140dd501e0bec67351e0e1443460022e4ce2ea4",
            ),
        ] {
            assert_eq!(hex(derived.as_bytes()), pinned);
        }
        assert_eq!(print(&names.links), "7b945afa02329addfbdfd201b2b9f67d");
        assert_eq!(
            print(&names.xattr_values),
            "37f1bc25dd58da2b2534394cb3b83635"
        );
        let header = FileHeader {
            cipher: Cipher::Xaes256Gcm,
            log2_chunk: 12,
            file_id: FileId(std::array::from_fn(|i| 0xd0 + i as u8)),
            commitment: [0; 32],
        };
        let mask = key.file_root().derive(NONCE_MASK, &header);
        for (derived, pinned) in [
            (
                mask,
                "060bde96655da3758e319763acfc75fb68cfea0a3967a666f346c42d41a1366e",
            ),
            (
                key.file_root().commitment(&header),
                "85d04b83dcdc875fcb457c3485906279ef5abd4441148c87406deee21fe4e1c2",
            ),
            (
                file_key(&ascending(64), &header),
                "e2d5d2e07f0423221ce3338f299f01c77696d3a57ecaf83f74652a99be939b43",
            ),
        ] {
            assert_eq!(hex(derived.as_bytes()), pinned);
        }
        let slot = SlotRoot(SecretBytes::filled_by(|b| {
            let root = b"5ee4dcc9a5d278fd716186c718a7ba9541fc33de28ae64aec00b60348482fcc1";
            b.copy_from_slice(&data_encoding::HEXLOWER.decode(root).expect("hex"));
        }));
        assert_eq!(print(&slot.key()), "1a6950c58bf89800a43306f6e66b5fb4");
        assert_eq!(
            hex(slot.commitment().as_bytes()),
            "73a915827cfdb0883e974541bc8aad76958daa3487200f53ded1e03d62ceb247"
        );
    }
}
