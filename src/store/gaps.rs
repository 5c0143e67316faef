//! The holes a file got while it is open: chunks below its end that were never written.
//!
//! The kernel writes pages back out of order, so a file being copied has holes for a moment. A hole that is filled again
//! leaves this set, and when it is empty the file need not be marked as sparse. Holes from before the file was opened are
//! not in it.

use std::collections::BTreeMap;

use crate::crypto::ChunkNo;
use crate::store::range_lock::ChunkRange;

/// Above this many separate holes the file simply stays marked as sparse.
const LIMIT: usize = 1024;

/// Disjoint ranges of chunks, first → last.
#[derive(Debug, Default, Clone)]
pub struct Gaps {
    ranges: BTreeMap<u64, u64>,
    overflowed: bool,
}

impl Gaps {
    /// Whether the file has no hole that is known here.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && !self.overflowed
    }

    /// Whether no hole would remain without the chunks of `range`.
    pub fn is_within(&self, range: ChunkRange) -> bool {
        let begins = self
            .ranges
            .first_key_value()
            .is_none_or(|(first, _)| *first >= range.first.0);
        let ends = self
            .ranges
            .last_key_value()
            .is_none_or(|(_, last)| *last <= range.last.0);
        !self.overflowed && begins && ends
    }

    /// The chunks of `range` have become holes.
    pub fn add(&mut self, range: ChunkRange) {
        self.remove(range);
        self.ranges.insert(range.first.0, range.last.0);
        if self.ranges.len() > LIMIT {
            self.ranges.clear();
            self.overflowed = true;
        }
    }

    /// The chunks of `range` were written, or lie beyond the end of the file now.
    pub fn remove(&mut self, range: ChunkRange) {
        let (first, last) = (range.first.0, range.last.0);
        let before = self
            .ranges
            .range(..first)
            .next_back()
            .map(|(f, l)| (*f, *l));
        if let Some((f, l)) = before.filter(|(_, l)| *l >= first) {
            self.ranges.insert(f, first - 1);
            if l > last {
                self.ranges.insert(last + 1, l);
            }
        }
        let inside: Vec<(u64, u64)> = self
            .ranges
            .range(first..=last)
            .map(|(f, l)| (*f, *l))
            .collect();
        for (f, l) in inside {
            self.ranges.remove(&f);
            if l > last {
                self.ranges.insert(last + 1, l);
            }
        }
    }

    /// Whether all chunks of `range` are holes for certain.
    pub fn has_all(&self, range: ChunkRange) -> bool {
        let around = self.ranges.range(..=range.first.0).next_back();
        !self.overflowed && around.is_some_and(|(_, last)| *last >= range.last.0)
    }

    /// Whether chunk `no` is a hole that is known here.
    pub fn contains(&self, no: ChunkNo) -> bool {
        self.overflowed
            || self
                .ranges
                .range(..=no.0)
                .next_back()
                .is_some_and(|(_, last)| *last >= no.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> ChunkRange {
        ChunkRange::new(ChunkNo(first), ChunkNo(last))
    }

    #[test]
    fn agrees_with_a_set_of_chunks() {
        let mut seed = 1u64;
        let mut next = |bound: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % bound
        };
        let mut gaps = Gaps::default();
        let mut model = std::collections::BTreeSet::new();
        for _ in 0..5000 {
            let first = next(60);
            let last = first + next(8);
            if next(2) == 0 {
                gaps.add(range(first, last));
                model.extend(first..=last);
            } else {
                gaps.remove(range(first, last));
                model.retain(|n| !(first..=last).contains(n));
            }
            for n in 0..70 {
                assert_eq!(gaps.contains(ChunkNo(n)), model.contains(&n), "chunk {n}");
                let all = (n..n + 3).all(|n| model.contains(&n));
                // Neighbouring ranges are not joined: what is said of them may be too little, never too much.
                assert!(all || !gaps.has_all(range(n, n + 2)), "chunk {n}");
            }
            assert_eq!(gaps.is_empty(), model.is_empty());
        }
    }

    #[test]
    fn too_many_holes_stay_holes() {
        let mut gaps = Gaps::default();
        for i in 0..=LIMIT as u64 {
            gaps.add(range(i * 2, i * 2));
        }
        gaps.remove(ChunkRange::from(ChunkNo(0)));
        assert!(!gaps.is_empty());
    }
}
