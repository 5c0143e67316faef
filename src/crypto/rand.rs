//! Random bytes.

/// Fills `bytes` from AWS-LC's generator, which is seeded by the kernel and notices a fork.
pub fn fill(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("AWS-LC's generator does not fail, it aborts");
}

/// `N` random bytes that are not secret: ids, salts, nonces.
pub fn array<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}
