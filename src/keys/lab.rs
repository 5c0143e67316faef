//! Volumes and secrets for the tests of this layer.

use crate::crypto::{Cipher, VolumeKey};
use crate::format::slot::{Argon2Params, Kdf};
use crate::format::volume::VolumeHeader;
use crate::keys::header::{NewVolume, create, open};
use crate::keys::secret::SlotSecret;
use crate::keys::slots::Opener;
use crate::sys::secret::SecretVec;

pub const CHEAP: Argon2Params = Argon2Params {
    memory_kib: Argon2Params::MIN_MEMORY_KIB,
    time: 1,
    lanes: 1,
};

pub fn passphrase(text: &str) -> SlotSecret {
    SlotSecret::new(Some(SecretVec::from(text.as_bytes())), None).expect("not empty")
}

pub fn new_volume(label: &str) -> NewVolume {
    NewVolume {
        incompatible: 0,
        cipher: Cipher::Xaes256Gcm,
        log2_chunk: 12,
        label: label.into(),
        kdf: CHEAP,
    }
}

/// A volume whose slot 0 opens with the passphrase "first".
pub fn volume() -> (VolumeHeader, VolumeKey) {
    let secret = passphrase("first");
    let (header, _) = create(&new_volume(""), &secret).expect("can be made");
    let key = open(&header, None, &secret).expect("right").key;
    (header, key)
}

pub fn opener(secret: &SlotSecret) -> Opener<'_> {
    Opener {
        secret,
        data: Vec::new(),
        kdf: Kdf::HkdfSha256,
    }
}
