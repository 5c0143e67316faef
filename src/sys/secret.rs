//! Secrets in memory: byte strings that live in locked memory, and the hardening of the process that holds them.
//!
//! Derives, compares and stores nothing: what the bytes mean is `crypto`'s business.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use zeroize::Zeroize;

use crate::sys::arena::{Locked, Slot};

/// `N` secret bytes in locked memory, zeroed on drop.
pub struct SecretBytes<const N: usize>(Locked<[u8; N]>);

impl<const N: usize> SecretBytes<N> {
    pub fn zeroed() -> Self {
        Self(Locked::new([0; N]))
    }

    /// Fills new secret bytes in place.
    pub fn filled_by(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self::zeroed();
        fill(&mut secret.0);
        secret
    }

    /// Moves `bytes` here: the source is zeroed.
    pub fn take(bytes: &mut [u8; N]) -> Self {
        let secret = Self::filled_by(|own| own.copy_from_slice(bytes));
        bytes.zeroize();
        secret
    }

    pub fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }

    pub fn as_mut_bytes(&mut self) -> &mut [u8; N] {
        &mut self.0
    }

    /// Compares in constant time.
    pub fn ct_eq(&self, other: &[u8; N]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0[..], other).is_ok()
    }
}

impl<const N: usize> std::fmt::Debug for SecretBytes<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretBytes({N} bytes)")
    }
}

/// Secret bytes of variable length in locked memory, zeroed on drop and when they move.
pub struct SecretVec(Slot);

impl SecretVec {
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// Room for `capacity` bytes before the first move.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut slot = Slot::new(capacity);
        slot.set_len(0);
        Self(slot)
    }

    pub fn len(&self) -> usize {
        self.0.bytes().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }

    pub fn push(&mut self, byte: u8) {
        self.extend_from_slice(&[byte]);
    }

    /// Removes the last byte.
    pub fn pop(&mut self) -> Option<u8> {
        let last = self.as_bytes().last().copied()?;
        self.truncate(self.len() - 1);
        Some(last)
    }

    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let old = self.len();
        self.resize(old + bytes.len());
        self.as_mut_bytes()[old..].copy_from_slice(bytes);
    }

    /// Cuts, or extends with zeros.
    pub fn resize(&mut self, len: usize) {
        if len > self.0.capacity() {
            let mut larger = Slot::new(len);
            larger.bytes_mut()[..self.len()].copy_from_slice(self.as_bytes());
            self.0 = larger;
        } else {
            self.0.set_len(len);
        }
    }

    pub fn truncate(&mut self, len: usize) {
        self.resize(len.min(self.len()));
    }

    pub fn clear(&mut self) {
        self.truncate(0);
    }
}

impl Default for SecretVec {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&[u8]> for SecretVec {
    fn from(bytes: &[u8]) -> Self {
        let mut secret = Self::with_capacity(bytes.len());
        secret.extend_from_slice(bytes);
        secret
    }
}

impl std::fmt::Debug for SecretVec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The length of a passphrase is a secret too.
        f.write_str("SecretVec(..)")
    }
}

/// Locks all memory of the process, present and future, as pages are touched.
///
/// Only where the kernel sets no limit: with one, later allocations would fail. Answers whether it is locked. Call it
/// after the last fork, locks are not inherited.
pub fn lock_all_memory() -> bool {
    memlock_is_unlimited()
        && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()
}

fn memlock_is_unlimited() -> bool {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    if rustix::process::getrlimit(Resource::Memlock) == unlimited
        || rustix::process::setrlimit(Resource::Memlock, unlimited).is_ok()
    {
        return true;
    }
    // CAP_IPC_LOCK lifts the limit, but only in the initial user namespace, whose inode number is fixed
    // (PROC_USER_INIT_INO in the kernel's include/linux/proc_ns.h).
    const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
    rustix::thread::capabilities(None).is_ok_and(|sets| {
        sets.effective
            .contains(rustix::thread::CapabilitySet::IPC_LOCK)
    }) && rustix::fs::stat("/proc/self/ns/user").is_ok_and(|s| s.st_ino == INITIAL_USER_NAMESPACE)
}

/// Makes the process unreadable to debuggers of the same user and keeps it from leaving a core.
pub fn harden_process() {
    if let Err(e) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        log::warn!("the process stays dumpable: {e}");
    }
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(e) = rustix::process::setrlimit(Resource::Core, none) {
        log::warn!("core files cannot be forbidden: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_bytes_zeroes_the_source() {
        let mut source = [7u8; 32];
        let secret = SecretBytes::take(&mut source);
        assert_eq!(source, [0; 32]);
        assert!(secret.ct_eq(&[7; 32]));
        assert!(!secret.ct_eq(&[8; 32]));
    }

    #[test]
    fn debug_shows_no_secret() {
        let bytes = SecretBytes::take(&mut [0x41; 4]);
        assert_eq!(format!("{bytes:?}"), "SecretBytes(4 bytes)");
        assert_eq!(
            format!("{:?}", SecretVec::from(&b"hunter2"[..])),
            "SecretVec(..)"
        );
    }

    #[test]
    fn a_secret_grows_byte_by_byte_across_slot_sizes() {
        let mut secret = SecretVec::new();
        for i in 0..10_000u32 {
            secret.push(i as u8);
        }
        assert_eq!(secret.len(), 10_000);
        assert!(
            secret
                .as_bytes()
                .iter()
                .enumerate()
                .all(|(i, b)| *b == i as u8)
        );
        assert_eq!(secret.pop(), Some(9_999u32 as u8));
        secret.truncate(3);
        assert_eq!(secret.as_bytes(), [0, 1, 2]);
        secret.resize(5);
        assert_eq!(secret.as_bytes(), [0, 1, 2, 0, 0]);
        secret.clear();
        assert!(secret.is_empty());
        assert_eq!(secret.pop(), None);
    }
}
