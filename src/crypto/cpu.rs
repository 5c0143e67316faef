//! Which cipher this machine is good at.

use crate::format::ids::Cipher;

impl Cipher {
    /// XAES-256-GCM where the CPU has instructions for AES and carry-less multiplication, else XChaCha20-Poly1305.
    pub fn preferred() -> Self {
        if has_aes() {
            Self::Xaes256Gcm
        } else {
            Self::XChaCha20Poly1305
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    use std::arch::is_aarch64_feature_detected;
    is_aarch64_feature_detected!("aes") && is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}
