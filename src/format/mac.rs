//! HMAC-SHA-256 over stored bytes, and over what names are made of.
//!
//! The keys come from [`crate::crypto::schedule`].

use aws_lc_rs::hmac;

use crate::sys::secret::SecretBytes;

/// The MAC of the concatenation of `parts`. At most one part may have a variable length, or its length precedes it.
pub fn tag(key: &SecretBytes<32>, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()));
    for part in parts {
        context.update(part);
    }
    let mut tag = [0; 32];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

/// Compares in constant time. A truncated tag is compared with the beginning of the full one.
pub fn matches(tag: &[u8; 32], claimed: &[u8]) -> bool {
    tag.get(..claimed.len())
        .is_some_and(|own| aws_lc_rs::constant_time::verify_slices_are_equal(own, claimed).is_ok())
}
