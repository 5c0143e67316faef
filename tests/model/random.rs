//! Random numbers that are the same for the same seed.

/// xorshift64*.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// An offset, mostly near the border of a chunk.
    pub fn offset(&mut self, chunk: usize) -> usize {
        match self.below(4) {
            0 => self.below(6 * chunk),
            1 => self.below(20),
            _ => (self.below(6) * chunk + self.below(7)).saturating_sub(3),
        }
    }

    /// A length of at least 1, often a whole chunk or nearly so.
    pub fn length(&mut self, chunk: usize) -> usize {
        match self.below(5) {
            0 => 1 + self.below(10),
            1 => chunk - 1 + self.below(3),
            2 => 2 * chunk - 1 + self.below(5),
            _ => 1 + self.below(2 * chunk),
        }
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        crate::fixture::bytes(self.next(), len)
    }
}
