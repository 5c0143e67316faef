//! No decoder of stored bytes panics, and none accepts what its encoder does not write, whatever the bytes are.
//!
//! Random mutations of valid input with fixed seeds: what fails once fails always.

use std::sync::Arc;

use wardfs::crypto::{ChunkFlags, ChunkNo, Cipher, DirId, Epoch, VolumeKey, VolumeKeys, WriteSeq};
use wardfs::format::file::{FileHeader, HEADER_LEN};
use wardfs::format::keyring::{ContentRoot, Keyring};
use wardfs::format::slot::Argon2Params;
use wardfs::format::superblock::Superblock;
use wardfs::format::volume::VolumeHeader;
use wardfs::keys::header::{NewVolume, create, unlock};
use wardfs::keys::secret::SlotSecret;
use wardfs::names::{classify, target_plain_len};
use wardfs::sys::secret::{SecretBytes, SecretVec};

const ROUNDS: u64 = 3000;

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// One to four changes: a byte, a bit, an insertion, a removal, a cut, a repetition, an extreme number.
    fn mutate(&mut self, valid: &[u8]) -> Vec<u8> {
        let mut bytes = valid.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(7) {
                0 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 => bytes.insert(at, self.next() as u8),
                3 if !bytes.is_empty() => drop(bytes.remove(at)),
                4 => bytes.truncate(at),
                5 => bytes.extend_from_within(at..),
                _ => {
                    let number = [0u64, 1, 1 << 31, 1 << 32, 1 << 63, u64::MAX][self.below(6)];
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
                }
            }
        }
        bytes
    }
}

fn mutations(valid: &[u8], mut check: impl FnMut(&[u8])) {
    check(valid);
    for seed in 0..ROUNDS {
        check(&Random::new(seed).mutate(valid));
    }
}

fn keys() -> Arc<VolumeKeys> {
    let root = ContentRoot {
        epoch: Epoch(0),
        created: 0,
        root: SecretBytes::take(&mut [2; 32]),
    };
    let keyring = Keyring {
        current: Epoch(0),
        roots: vec![root],
        tree: None,
    };
    let key = VolumeKey(SecretBytes::take(&mut [1; 32]));
    Arc::new(VolumeKeys::new(&key, keyring))
}

#[test]
fn volume_headers() {
    let new = NewVolume {
        incompatible: 0,
        cipher: Cipher::Xaes256Gcm,
        log2_chunk: 12,
        label: "label".into(),
        kdf: Argon2Params {
            memory_kib: 8192,
            time: 1,
            lanes: 1,
        },
    };
    let passphrase = || SecretVec::from(&b"p"[..]);
    let secret = SlotSecret::new(Some(passphrase()), None).expect("a secret");
    let (header, _) = create(&new, &secret).expect("can be made");
    let valid = header.encode();
    let body_len = valid.len() - 32;
    mutations(&valid, |bytes| {
        assert_eq!(VolumeHeader::decode(bytes).is_ok(), bytes == valid);
    });
    // With a right length and checksum, so that the mutations reach the payload.
    let mut accepted = 0;
    mutations(&valid[..body_len], |body| {
        let mut bytes = body.to_vec();
        if let Some(length) = bytes.len().checked_sub(16) {
            bytes[12..16].copy_from_slice(&(length as u32).to_le_bytes());
        }
        let checksum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        bytes.extend(checksum.as_ref());
        if let Ok(decoded) = VolumeHeader::decode(&bytes) {
            accepted += 1;
            assert_eq!(decoded.encode(), bytes);
            // Deriving a key for each of them would take minutes; the first hundred will do.
            if accepted < 100 && bytes != valid {
                assert!(unlock(&decoded, &secret).is_err());
            }
        }
    });
    assert!(accepted > 100, "{accepted} reached the payload");
}

#[test]
fn keyrings() {
    let root = |epoch| ContentRoot {
        epoch: Epoch(epoch),
        created: 7,
        root: SecretBytes::take(&mut [epoch; 32]),
    };
    let valid = Keyring {
        current: Epoch(1),
        roots: vec![root(0), root(1)],
        tree: None,
    }
    .encode();
    mutations(valid.as_bytes(), |bytes| {
        if let Ok(keyring) = Keyring::decode(bytes) {
            assert_eq!(keyring.encode().as_bytes(), bytes);
        }
    });
}

#[test]
fn superblocks() {
    let key = SecretBytes::take(&mut [3; 32]);
    let valid = Superblock {
        windows: vec![(1, 2); 9],
        ..Superblock::default()
    }
    .encode(&key);
    mutations(&valid, |bytes| {
        assert_eq!(Superblock::decode(bytes, &key).is_ok(), bytes == valid);
    });
}

#[test]
fn file_headers_and_chunks() {
    for cipher in Cipher::ALL {
        let keys = keys();
        let (header, file) = keys.new_file(cipher, 12);
        mutations(&header.encode(), |bytes| {
            let Ok(bytes) = <&[u8; HEADER_LEN]>::try_from(bytes) else {
                return;
            };
            if let Ok(decoded) = FileHeader::decode(bytes) {
                assert_eq!(&decoded.encode(), bytes);
                assert_eq!(keys.open_file(&decoded).is_ok(), decoded == header);
            }
        });
        let mut valid = vec![0; 140];
        let flags = ChunkFlags::default();
        file.seal(
            ChunkNo(0),
            WriteSeq(1),
            flags,
            &[4; 16],
            &[5; 100],
            &mut valid,
        );
        mutations(&valid, |bytes| {
            let mut out = vec![1; bytes.len().saturating_sub(40)];
            let opened = file.open(ChunkNo(0), bytes, &mut out);
            assert_eq!(opened.is_ok(), bytes == valid);
            assert!(opened.is_ok() || out.iter().all(|b| *b == 0));
        });
    }
}

#[test]
fn names() {
    let keys = keys();
    let names = keys.names();
    let dir = DirId([6; 16]);
    let short = names.seal(&dir, b"short").entry;
    mutations(&short, |bytes| {
        assert_eq!(names.open(&dir, bytes).is_ok(), bytes == short);
        let _ = classify(bytes);
    });
    let long = names.seal(&dir, &[b'l'; 255]);
    let sidecar = long.sidecar.expect("it is long");
    mutations(&long.entry, |bytes| {
        assert_eq!(
            names.open_long(&dir, bytes, &sidecar).is_ok(),
            bytes == long.entry
        );
    });
    mutations(&sidecar, |bytes| {
        assert_eq!(
            names.open_long(&dir, &long.entry, bytes).is_ok(),
            bytes == sidecar
        );
    });
    mutations(&names.dir_record(&dir), |bytes| {
        let parsed = names.parse_dir_record(bytes);
        assert_eq!(parsed.is_ok(), bytes == names.dir_record(&dir));
    });
    let link = names.dir_link_name(&dir);
    mutations(link.as_bytes(), |bytes| {
        assert_eq!(
            names.parse_dir_link_name(bytes).is_ok(),
            bytes == link.as_bytes()
        );
    });
}

#[test]
fn link_targets_and_attributes() {
    let keys = keys();
    let names = keys.names();
    let target = names.seal_target(b"../target");
    mutations(&target, |bytes| {
        assert_eq!(names.open_target(bytes).is_ok(), bytes == target);
        let _ = target_plain_len(bytes.len());
    });
    let name = names.xattr_name(&dir_owner(), b"n");
    let value = names.seal_xattr(&dir_owner(), b"n", b"value");
    mutations(&value, |bytes| {
        let opened = names.open_xattr(&dir_owner(), &name, bytes);
        assert_eq!(opened.is_ok(), bytes == value);
    });
}

fn dir_owner() -> [u8; 16] {
    [8; 16]
}
