//! Sealed chunks: plaintext ↔ `nonce 24 | ciphertext | tag 16` of one file.
//!
//! Does not know where a chunk lies, how long it should be or whether the file may have holes.

use std::sync::{Arc, OnceLock};

use crate::crypto::aead::Aead;
use crate::crypto::nonce::{Nonce, NonceMask};
use crate::crypto::volume::VolumeKeys;
use crate::format::file::{CHUNK_OVERHEAD, FileHeader, NONCE_LEN, TAG_LEN};
use crate::format::ids::{ChunkFlags, ChunkMeta, ChunkNo, Epoch, WriteSeq};

const AAD_DOMAIN: [u8; 8] = *b"wrdchnk1";

/// Why a stored chunk was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// The buffers do not fit: the chunk is cut, or too short to be one.
    Length,
    /// Changed, moved, from another file, torn, or of an epoch that the keyring does not have.
    Unauthentic,
    /// Authentic, but with a flag that this version does not know.
    ReservedFlags,
}

impl std::fmt::Display for ChunkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Length => "has an impossible length",
            Self::Unauthentic => "does not authenticate",
            Self::ReservedFlags => "has a flag that this wardfs does not know",
        })
    }
}

impl std::error::Error for ChunkError {}

/// The keys of one file, for all epochs of its volume. Shared by all threads without locks.
#[derive(Debug)]
pub struct FileKeys {
    volume: Arc<VolumeKeys>,
    header: FileHeader,
    mask: NonceMask,
    /// The epoch that was current when the file was opened; others follow as they are met.
    first: EpochKey,
}

/// A list that only grows, at its end: no epoch occurs twice, so it has at most 256 elements.
#[derive(Debug)]
struct EpochKey {
    epoch: Epoch,
    aead: Aead,
    next: OnceLock<Box<EpochKey>>,
}

impl EpochKey {
    fn derive(volume: &VolumeKeys, header: &FileHeader, epoch: Epoch) -> Option<Self> {
        let key = volume.file_key(epoch, header)?;
        Some(Self {
            epoch,
            aead: Aead::new(header.cipher, key),
            next: OnceLock::new(),
        })
    }
}

impl FileKeys {
    pub(crate) fn new(volume: Arc<VolumeKeys>, header: FileHeader, mask: NonceMask) -> Self {
        let first = EpochKey::derive(&volume, &header, volume.current_epoch())
            .expect("the current epoch is in the keyring");
        Self {
            volume,
            header,
            mask,
            first,
        }
    }

    /// The header these keys belong to.
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// The epoch that [`FileKeys::seal`] uses: that of the volume.
    pub fn current_epoch(&self) -> Epoch {
        self.volume.current_epoch()
    }

    /// Seals `plain` as chunk `no`. `out.len() == plain.len() + CHUNK_OVERHEAD`; `r16` is random and used once.
    pub fn seal(
        &self,
        no: ChunkNo,
        seq: WriteSeq,
        flags: ChunkFlags,
        r16: &[u8; 16],
        plain: &[u8],
        out: &mut [u8],
    ) {
        assert_eq!(
            out.len(),
            plain.len() + CHUNK_OVERHEAD,
            "a sealed chunk has 40 bytes more"
        );
        let epoch = self.current_epoch();
        let aead = self
            .aead(epoch)
            .expect("the current epoch is in the keyring");
        let nonce = self.mask.nonce(ChunkMeta { seq, epoch, flags }, r16);
        let (head, rest) = out.split_at_mut(NONCE_LEN);
        let (sealed, tail) = rest.split_at_mut(plain.len());
        head.copy_from_slice(&nonce);
        tail.copy_from_slice(&aead.seal(&nonce, &aad(no), plain, sealed));
    }

    /// Opens `stored` as chunk `no` into `out`, where `stored.len() == out.len() + CHUNK_OVERHEAD`.
    ///
    /// # Errors
    /// [`ChunkError`]; `out` is then zero.
    pub fn open(
        &self,
        no: ChunkNo,
        stored: &[u8],
        out: &mut [u8],
    ) -> Result<ChunkMeta, ChunkError> {
        self.try_open(no, stored, out).inspect_err(|_| out.fill(0))
    }

    fn try_open(
        &self,
        no: ChunkNo,
        stored: &[u8],
        out: &mut [u8],
    ) -> Result<ChunkMeta, ChunkError> {
        let (nonce, rest) = stored.split_first_chunk().ok_or(ChunkError::Length)?;
        let (sealed, tag) = rest
            .split_last_chunk::<TAG_LEN>()
            .ok_or(ChunkError::Length)?;
        if sealed.len() != out.len() {
            return Err(ChunkError::Length);
        }
        let meta = self.mask.unmask(nonce);
        let aead = self
            .aead(ChunkMeta::epoch_of(meta))
            .ok_or(ChunkError::Unauthentic)?;
        aead.open(nonce, &aad(no), sealed, tag, out)
            .map_err(|_| ChunkError::Unauthentic)?;
        ChunkMeta::decode(meta).ok_or(ChunkError::ReservedFlags)
    }

    /// What a nonce claims, unauthenticated. `None` when a reserved flag is set.
    pub fn peek_meta(&self, nonce: &Nonce) -> Option<ChunkMeta> {
        ChunkMeta::decode(self.mask.unmask(nonce))
    }

    /// Whether a nonce names an epoch that the keyring does not have. Unauthenticated: one in 64 random nonces does.
    pub fn lacks_key_of(&self, nonce: &Nonce) -> bool {
        self.peek_meta(nonce)
            .is_some_and(|meta| self.aead(meta.epoch).is_none())
    }

    fn aead(&self, epoch: Epoch) -> Option<&Aead> {
        let mut key = &self.first;
        while key.epoch != epoch {
            key = match key.next.get() {
                Some(next) => next,
                None => {
                    let new = Box::new(EpochKey::derive(&self.volume, &self.header, epoch)?);
                    // Another thread may have appended another epoch meanwhile: then go on from there.
                    key.next.get_or_init(|| new)
                }
            };
        }
        Some(&key.aead)
    }
}

fn aad(no: ChunkNo) -> [u8; 16] {
    let mut aad = [0; 16];
    aad[..8].copy_from_slice(&AAD_DOMAIN);
    aad[8..].copy_from_slice(&no.0.to_le_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::VolumeKey;
    use crate::format::ids::Cipher;
    use crate::format::keyring::{ContentRoot, Keyring};
    use crate::sys::secret::SecretBytes;

    const NO: ChunkNo = ChunkNo(5);
    const SEQ: WriteSeq = WriteSeq(77);
    const LAST: ChunkFlags = ChunkFlags {
        is_final: true,
        sparse: false,
    };

    fn root(epoch: u8) -> ContentRoot {
        ContentRoot {
            epoch: Epoch(epoch),
            created: 0,
            root: SecretBytes::take(&mut [epoch; 32]),
        }
    }

    fn volume() -> Arc<VolumeKeys> {
        let key = VolumeKey(SecretBytes::take(&mut [1; 32]));
        let keyring = Keyring {
            current: Epoch(0),
            roots: vec![root(0)],
            tree: None,
        };
        Arc::new(VolumeKeys::new(&key, keyring))
    }

    fn files() -> impl Iterator<Item = FileKeys> {
        Cipher::ALL.into_iter().map(|c| volume().new_file(c, 12).1)
    }

    fn seal(keys: &FileKeys, plain: &[u8]) -> Vec<u8> {
        let mut stored = vec![0xee; plain.len() + CHUNK_OVERHEAD];
        keys.seal(NO, SEQ, LAST, &[9; 16], plain, &mut stored);
        stored
    }

    fn open(keys: &FileKeys, no: ChunkNo, stored: &[u8]) -> Result<Vec<u8>, ChunkError> {
        let mut plain = vec![0xee; stored.len().saturating_sub(CHUNK_OVERHEAD)];
        match keys.open(no, stored, &mut plain) {
            Ok(_) => Ok(plain),
            Err(e) => {
                assert!(
                    plain.iter().all(|b| *b == 0),
                    "nothing of a refused chunk is left"
                );
                Err(e)
            }
        }
    }

    #[test]
    fn chunks_of_every_kind_of_length_survive_with_their_meta() {
        for keys in files() {
            for len in [0, 1, 15, 16, 17, 255, 4095, 4096, 65536] {
                let plain: Vec<u8> = (0..len).map(|i| i as u8).collect();
                let stored = seal(&keys, &plain);
                let meta = ChunkMeta {
                    seq: SEQ,
                    epoch: Epoch(0),
                    flags: LAST,
                };
                let mut opened = vec![0; len];
                assert_eq!(keys.open(NO, &stored, &mut opened), Ok(meta));
                assert_eq!(opened, plain);
                assert_eq!(
                    keys.peek_meta(stored.first_chunk().expect("a nonce")),
                    Some(meta)
                );
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        for keys in files() {
            let stored = seal(&keys, b"attack at dawn");
            for bit in 0..stored.len() * 8 {
                let mut changed = stored.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(
                    open(&keys, NO, &changed),
                    Err(ChunkError::Unauthentic),
                    "bit {bit}"
                );
            }
        }
    }

    #[test]
    fn a_chunk_opens_only_at_its_index_and_in_its_file() {
        for (keys, other) in files().zip(files()) {
            let stored = seal(&keys, b"x");
            assert!(open(&keys, NO, &stored).is_ok());
            for no in [0, 4, 6, 1 << 40] {
                assert_eq!(
                    open(&keys, ChunkNo(no), &stored),
                    Err(ChunkError::Unauthentic)
                );
            }
            assert_eq!(open(&other, NO, &stored), Err(ChunkError::Unauthentic));
        }
    }

    #[test]
    fn every_other_length_is_refused() {
        for keys in files() {
            let stored = seal(&keys, &[7; 100]);
            for len in 0..stored.len() {
                assert!(open(&keys, NO, &stored[..len]).is_err(), "{len} bytes");
            }
            for out_len in [0, 99, 101] {
                let mut out = vec![1; out_len];
                assert_eq!(keys.open(NO, &stored, &mut out), Err(ChunkError::Length));
                assert_eq!(out, vec![0; out_len]);
            }
        }
    }

    #[test]
    fn an_open_file_follows_the_volume_to_a_new_epoch_and_reads_all_of_them() {
        for cipher in Cipher::ALL {
            let volume = volume();
            let (header, keys) = volume.new_file(cipher, 12);
            let old = seal(&keys, b"old");
            for epoch in 1..=255 {
                volume.add_epoch(root(epoch)).expect("a new number");
                let new = seal(&keys, b"new");
                let meta = keys.peek_meta(new.first_chunk().expect("a nonce"));
                assert_eq!(meta.map(|m| m.epoch), Some(Epoch(epoch)));
                assert_eq!(open(&keys, NO, &new), Ok(b"new".to_vec()));
            }
            assert_eq!(open(&keys, NO, &old), Ok(b"old".to_vec()));
            let again = volume.open_file(&header).expect("our own header");
            assert_eq!(open(&again, NO, &old), Ok(b"old".to_vec()));
            assert!(volume.add_epoch(root(3)).is_err());
        }
    }

    #[test]
    fn threads_that_meet_epochs_in_different_order_agree() {
        let volume = volume();
        let (header, writer) = volume.new_file(Cipher::Xaes256Gcm, 12);
        let mut sealed = vec![seal(&writer, b"e")];
        for epoch in 1..32 {
            volume.add_epoch(root(epoch)).expect("a new number");
            sealed.push(seal(&writer, b"e"));
        }
        let reader = volume.open_file(&header).expect("our own header");
        std::thread::scope(|scope| {
            for shift in 0..4 {
                let (reader, sealed) = (&reader, &sealed);
                scope.spawn(move || {
                    for i in 0..sealed.len() {
                        let stored = &sealed[(i + shift * 8) % sealed.len()];
                        assert_eq!(open(reader, NO, stored), Ok(b"e".to_vec()));
                    }
                });
            }
        });
        let epochs = std::iter::successors(Some(&reader.first), |k| k.next.get().map(|n| &**n));
        assert_eq!(epochs.count(), 32);
    }

    #[test]
    fn an_authentic_chunk_with_a_reserved_flag_is_refused() {
        for keys in files() {
            let mut nonce = keys.mask.nonce(
                ChunkMeta {
                    seq: SEQ,
                    epoch: Epoch(0),
                    flags: LAST,
                },
                &[9; 16],
            );
            nonce[7] ^= 0x80;
            let mut stored = nonce.to_vec();
            let tag = keys.first.aead.seal(&nonce, &aad(NO), b"", &mut []);
            stored.extend(tag);
            assert_eq!(open(&keys, NO, &stored), Err(ChunkError::ReservedFlags));
            assert_eq!(keys.peek_meta(&nonce), None);
        }
    }

    #[test]
    fn a_changed_header_does_not_open() {
        let volume = volume();
        let (header, _) = volume.new_file(Cipher::Xaes256Gcm, 12);
        assert!(volume.open_file(&header).is_ok());
        let changes: [fn(&mut FileHeader); 4] = [
            |h| h.cipher = Cipher::XChaCha20Poly1305,
            |h| h.log2_chunk = 13,
            |h| h.file_id.0[0] ^= 1,
            |h| h.commitment[31] ^= 1,
        ];
        for change in changes {
            let mut changed = header;
            change(&mut changed);
            assert!(volume.open_file(&changed).is_err());
        }
    }
}
