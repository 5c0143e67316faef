//! The fuzz targets without a fuzzer: mutations of valid input with fixed seeds, a bounded number of them.
//!
//! `cargo +nightly fuzz run TARGET`, in the repository, goes on where this ends.

#[path = "../fuzz/parsers.rs"]
mod parsers;

use std::fs;

/// Inputs for each parser. All of them take a few seconds.
const ROUNDS: u64 = 30_000;

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

    /// Now and then anything at all, mostly a part of a valid input with a few changes.
    fn input(&mut self, valid: &[u8]) -> Vec<u8> {
        if self.below(16) == 0 {
            let len = self.below(300);
            return (0..len).map(|_| self.next() as u8).collect();
        }
        let mut bytes = valid.to_vec();
        for _ in 0..self.below(5) {
            let at = self.below(bytes.len() + 1);
            let wide =
                [0u64, 1, u64::from(u32::MAX), 1 << 63, u64::MAX][self.below(5)].to_le_bytes();
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_within(at..),
                2 => drop(bytes.splice(at..at, wide)),
                3 => {
                    let end = (at + 1 + self.below(8)).min(bytes.len());
                    bytes[at..end].copy_from_slice(&wide[..end - at]);
                }
                _ => bytes
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|b| *b ^= 1 << self.below(8)),
            }
        }
        bytes
    }
}

#[test]
fn no_parser_of_stored_bytes_panics_or_accepts_what_is_never_written() {
    for (name, parse) in parsers::ALL {
        let seeds = parsers::seeds(name);
        seeds.iter().for_each(|seed| parse(seed));
        for round in 0..ROUNDS {
            let mut random = Random::new(round);
            let valid = &seeds[random.below(seeds.len())];
            let input = random.input(valid);
            let parsed = std::panic::catch_unwind(|| parse(&input));
            assert!(parsed.is_ok(), "{name}, round {round}: {input:02x?}");
        }
    }
}

#[test]
fn every_fuzz_target_is_run_here_and_every_parser_has_a_target() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/fuzz_targets");
    let mut targets: Vec<String> = fs::read_dir(dir)
        .expect("it is in the repository")
        .map(|entry| entry.expect("readable").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    targets.sort();
    let mut parsers = parsers::ALL.map(|(name, _)| name);
    parsers.sort_unstable();
    assert_eq!(targets, parsers);
}
