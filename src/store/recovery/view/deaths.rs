//! When chunks died: by a size that leaves them out, or by a punch.

use std::collections::BTreeMap;

use crate::content::Geometry;
use crate::crypto::WriteSeq;
use crate::store::recovery::view::History;

/// The last death of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Death {
    /// What is older is gone.
    pub(super) seq: WriteSeq,
    /// It became a hole inside the file, and was not cut off.
    pub(super) punched: bool,
}

/// The last death of each chunk.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    /// Sizes, newest first: the last chunk each left. Only those that left less than all newer ones.
    ends: Vec<(u64, WriteSeq)>,
    /// Disjoint ranges of punched chunks: first → end and number.
    punched: BTreeMap<u64, (u64, WriteSeq)>,
}

impl Deaths {
    pub(super) fn new(history: &History, geometry: Geometry) -> Self {
        let mut ends: Vec<(u64, WriteSeq)> = Vec::new();
        for end in history.ends.iter().rev() {
            let last = geometry.last_chunk(end.size).0;
            if ends.last().is_none_or(|(kept, _)| last < *kept) {
                ends.push((last, end.seq));
            }
        }
        let mut punched = BTreeMap::new();
        for punch in history.punches.iter().filter(|p| p.first < p.end) {
            overwrite(&mut punched, punch.first, punch.end, punch.seq);
        }
        Self { ends, punched }
    }

    pub(super) fn of(&self, no: u64) -> Option<Death> {
        let newest = self.ends.partition_point(|(last, _)| *last >= no);
        let by_end = self.ends.get(newest).map(|(_, seq)| *seq);
        let by_punch = self.punched.range(..=no).next_back();
        let by_punch = by_punch
            .filter(|(_, (end, _))| no < *end)
            .map(|(_, (_, seq))| *seq);
        by_end.max(by_punch).map(|seq| Death {
            seq,
            punched: by_punch > by_end,
        })
    }

    /// The chunks below `end` that ever died, as disjoint ranges in ascending order.
    pub(super) fn ranges(&self, end: u64) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let left_out = self.ends.last().map_or(u64::MAX, |(last, _)| last + 1);
        for (first, (punch_end, _)) in self.punched.range(..end.min(left_out)) {
            ranges.push((*first, (*punch_end).min(end).min(left_out)));
        }
        if left_out < end {
            ranges.push((left_out, end));
        }
        ranges
    }
}

/// Makes `first..end` die at `seq`, whatever was said of it before.
fn overwrite(punched: &mut BTreeMap<u64, (u64, WriteSeq)>, first: u64, end: u64, seq: WriteSeq) {
    let before = punched.range(..first).next_back().map(|(f, v)| (*f, *v));
    if let Some((f, (e, s))) = before.filter(|(_, (e, _))| *e > first) {
        punched.insert(f, (first, s));
        if e > end {
            punched.insert(end, (e, s));
        }
    }
    while let Some((f, (e, s))) = punched.range(first..end).next().map(|(f, v)| (*f, *v)) {
        punched.remove(&f);
        if e > end {
            punched.insert(end, (e, s));
        }
    }
    punched.insert(first, (end, seq));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_going_through_all_events() {
        let geometry = Geometry::new(12).expect("allowed");
        let mut seed = 7u64;
        let mut next = |bound: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % bound
        };
        for _ in 0..300 {
            let mut history = History::default();
            for seq in 1..next(12) + 2 {
                match next(3) {
                    0 => history.resized(WriteSeq(seq), next(40 * 4096)),
                    1 => history.extends(WriteSeq(seq), next(40 * 4096)),
                    _ => {
                        let first = next(40);
                        history.punched(WriteSeq(seq), first, first + next(10));
                    }
                }
            }
            history.finish();
            let deaths = Deaths::new(&history, geometry);
            let ranges = deaths.ranges(50);
            for no in 0..50 {
                let by_end = history.ends.iter();
                let by_end = by_end.filter(|e| geometry.last_chunk(e.size).0 < no);
                let by_end = by_end.map(|e| e.seq).max();
                let by_punch = history.punches.iter();
                let by_punch = by_punch.filter(|p| (p.first..p.end).contains(&no));
                let by_punch = by_punch.map(|p| p.seq).max();
                let expected = by_end.max(by_punch).map(|seq| Death {
                    seq,
                    punched: by_punch > by_end,
                });
                assert_eq!(deaths.of(no), expected, "chunk {no} of {history:?}");
                let ever = ranges
                    .iter()
                    .any(|(first, end)| (*first..*end).contains(&no));
                assert_eq!(ever, expected.is_some(), "chunk {no} of {history:?}");
            }
            assert!(ranges.is_sorted() && ranges.windows(2).all(|w| w[0].1 <= w[1].0));
        }
    }
}
