//! Which parts of files a sample looks at: chosen by a seed, so that the same sample can be taken again.

/// Plaintext bytes that are chosen or left out together.
pub const RUN: u64 = 256 * 1024;

/// A share of all content.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// From 0 to 1.
    pub share: f64,
    pub seed: u64,
}

impl Sample {
    /// Whether run `no` of the file stored at `path` belongs to it.
    pub fn picks(&self, path: u64, no: u64) -> bool {
        let number = mix(mix(self.seed ^ path).wrapping_add(no));
        // The upper 53 bits are a fraction that a float holds exactly.
        ((number >> 11) as f64) < self.share * (1u64 << 53) as f64
    }
}

/// A number for a stored path (FNV-1a), the same on every machine.
pub fn path_number(path: &[u8]) -> u64 {
    path.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// splitmix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_share_and_depends_on_the_seed() {
        let picked = |share, seed| -> Vec<u64> {
            let sample = Sample { share, seed };
            let path = path_number(b"a/b");
            (0..100_000).filter(|no| sample.picks(path, *no)).collect()
        };
        let (a, b) = (picked(0.01, 1), picked(0.01, 2));
        assert!((800..1200).contains(&a.len()), "{}", a.len());
        assert_ne!(a, b);
        assert_eq!(a, picked(0.01, 1));
        assert_eq!(picked(1.0, 1).len(), 100_000);
        assert_eq!(picked(0.0, 1).len(), 0);
    }
}
