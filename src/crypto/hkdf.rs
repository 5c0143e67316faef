//! HKDF-SHA-256 (RFC 5869) into locked memory.

use aws_lc_rs::hkdf;

use crate::sys::secret::SecretBytes;

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// `N` bytes from `secret` and `salt`, bound to the concatenation of `info`. `N` is at most 255 * 32.
pub fn derive<const N: usize>(secret: &[u8], salt: &[u8], info: &[&[u8]]) -> SecretBytes<N> {
    const { assert!(N <= 255 * 32, "RFC 5869 §2.3") };
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    SecretBytes::filled_by(|out| {
        key.expand(info, Length(N))
            .and_then(|okm| okm.fill(out))
            .expect("the length is within RFC 5869's limit");
    })
}
