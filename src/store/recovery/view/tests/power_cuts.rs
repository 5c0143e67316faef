//! Random writes, cuts, punches and syncs of one file as the write path makes them, a power cut or a kill, and recovery,
//! which may be cut off as well. What is read then must be allowed.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use lab::{Change, apply, changes, geometry, read};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug, Clone)]
enum Event {
    Image(u64, Vec<u8>),
    Size(u64),
    Extends(u64),
    Punch(u64, u64),
}

/// The write path of one file.
struct Writer {
    lab: Lab,
    seq: u64,
    content: Vec<u8>,
    holes: BTreeSet<u64>,
    /// So many chunks are stable.
    stable: u64,
    fresh: bool,
    groups: Vec<(u64, Vec<Event>)>,
    committed: usize,
    /// Images of groups that are not in the data file yet.
    overlay: BTreeMap<u64, Vec<u8>>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// Contents that may be read after a crash: that of the last sync, and each since.
    states: Vec<Vec<u8>>,
    log: Vec<String>,
}

impl Writer {
    fn new() -> Self {
        let lab = Lab::new();
        let durable = lab.stored.data.clone();
        let mut writer = Self {
            lab,
            seq: 1000,
            content: Vec::new(),
            holes: BTreeSet::new(),
            stable: 0,
            fresh: true,
            groups: Vec::new(),
            committed: 0,
            overlay: BTreeMap::new(),
            durable,
            pending: Vec::new(),
            states: vec![Vec::new()],
            log: Vec::new(),
        };
        let seq = writer.next_seq();
        writer.put(0, seq);
        writer
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn last(&self) -> u64 {
        geometry().last_chunk(self.size()).0
    }

    fn sealed(&self, no: u64, seq: u64) -> Vec<u8> {
        let flags = match (no == self.last(), self.holes.is_empty()) {
            (true, true) => FINAL,
            (true, false) => SPARSE,
            _ => INNER,
        };
        let begin = no as usize * C;
        let end = self.content.len().min(begin + C);
        self.lab
            .seal(no, seq, &self.content[begin.min(end)..end], flags)
    }

    /// Writes a chunk straight into the data file.
    fn put(&mut self, no: u64, seq: u64) {
        // A last chunk that knows of no hole any more must not reach the disk before what filled it.
        if no == self.last() && self.holes.is_empty() {
            self.commit();
        }
        let sealed = self.sealed(no, seq);
        self.pending.push(Change::Write(start(no), sealed));
    }

    fn group(&mut self, seq: u64, chunks: &BTreeSet<u64>, rest: Vec<Event>) {
        let mut events = Vec::new();
        for no in chunks {
            let sealed = self.sealed(*no, seq);
            self.overlay.insert(*no, sealed.clone());
            events.push(Event::Image(*no, sealed));
        }
        events.extend(rest);
        self.groups.push((seq, events));
    }

    fn commit(&mut self) {
        self.committed = self.groups.len();
    }

    fn apply(&mut self) {
        for (no, sealed) in std::mem::take(&mut self.overlay) {
            self.pending.push(Change::Write(start(no), sealed));
        }
    }

    fn set_len(&mut self) {
        let len = geometry().stored_size(self.size());
        self.pending.push(Change::Len(len as usize));
    }

    fn write(&mut self, off: usize, data: &[u8], small: bool) {
        let (old_size, old_last) = (self.size(), self.last());
        let grows = off + data.len() > self.content.len();
        if grows {
            self.content.resize(off + data.len(), 0);
        }
        self.content[off..off + data.len()].copy_from_slice(data);
        let (first, last) = ((off / C) as u64, ((off + data.len() - 1) / C) as u64);
        for gap in old_last + 1..first {
            self.holes.insert(gap);
        }
        for no in first..=last {
            self.holes.remove(&no);
        }
        let seq = self.next_seq();
        let mut touched: BTreeSet<u64> = (first..=last).collect();
        if !grows {
            let stable = touched
                .iter()
                .filter(|n| **n < self.stable)
                .copied()
                .collect();
            self.group(seq, &stable, Vec::new());
            for no in touched.difference(&stable) {
                self.put(*no, seq);
            }
            return;
        }
        if old_last >= self.stable {
            // The old last chunk first.
            let stable: BTreeSet<u64> = touched
                .iter()
                .filter(|n| **n < self.stable)
                .copied()
                .collect();
            if !stable.is_empty() {
                self.group(seq, &stable, Vec::new());
            }
            touched.insert(old_last);
            for no in touched.difference(&stable) {
                self.put(*no, seq);
            }
            return;
        }
        touched.insert(old_last);
        if small || old_last == self.last() {
            self.group(seq, &touched, vec![Event::Size(self.size())]);
            self.stable = self.last() + 1;
            return;
        }
        let stable = touched
            .iter()
            .filter(|n| **n <= old_last)
            .copied()
            .collect();
        self.group(seq, &stable, vec![Event::Extends(old_size)]);
        self.commit();
        self.stable = old_last + 1;
        let seq = self.next_seq();
        for no in touched.difference(&stable) {
            self.put(*no, seq);
        }
    }

    fn shrink(&mut self, size: usize) {
        self.content.truncate(size);
        let last = self.last();
        self.holes.retain(|h| *h < last);
        let seq = self.next_seq();
        if self.fresh && self.stable == 0 && self.groups.is_empty() {
            self.put(last, seq);
        } else {
            self.overlay.retain(|no, _| *no <= last);
            self.group(seq, &BTreeSet::from([last]), vec![Event::Size(size as u64)]);
            self.commit();
            self.apply();
            self.stable = self.stable.min(last + 1);
        }
        self.set_len();
    }

    fn grow(&mut self, size: usize) {
        let old_last = self.last();
        self.content.resize(size, 0);
        for gap in old_last + 1..self.last() {
            self.holes.insert(gap);
        }
        let seq = self.next_seq();
        let ends = BTreeSet::from([old_last, self.last()]);
        self.group(seq, &ends, vec![Event::Size(size as u64)]);
        self.stable = self.stable.max(self.last() + 1);
    }

    fn punch(&mut self, first: u64, end: u64) {
        self.content[first as usize * C..end as usize * C].fill(0);
        self.holes.extend(first..end);
        let seq = self.next_seq();
        let last = BTreeSet::from([self.last()]);
        self.overlay.retain(|no, _| !(first..end).contains(no));
        self.group(seq, &last, vec![Event::Punch(first, end)]);
        self.commit();
        self.apply();
        self.pending.push(Change::Zero(start(first), start(end)));
    }

    fn flush(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable, &mut || true);
        }
    }

    fn sync(&mut self) {
        self.commit();
        self.flush();
        self.stable = self.last() + 1;
        self.states = vec![self.content.clone()];
    }

    fn checkpoint(&mut self) {
        self.commit();
        self.apply();
        self.set_len();
        self.flush();
        self.groups.clear();
        self.committed = 0;
        self.fresh = false;
        self.stable = self.last() + 1;
        self.lab.limits.durable = WriteSeq(self.seq + 1);
        self.states = vec![self.content.clone()];
    }

    fn step(&mut self, random: &mut Random) {
        let size = self.content.len();
        let byte = random.below(255) as u8 + 1;
        let kind = random.below(100);
        let what = if kind < 40 {
            let off = match random.chance(60) {
                true => size,
                false => random.below(size as u64 + 3 * C as u64) as usize,
            };
            let len = match random.chance(40) {
                true => C * (1 + random.below(3) as usize) - off % C,
                false => 1 + random.below(3 * C as u64) as usize,
            };
            self.write(off, &fill(byte, len), random.chance(50));
            format!("write {byte} at {off}, {len}")
        } else if kind < 52 {
            let to = random.below(size as u64 + 1) as usize;
            self.shrink(to);
            format!("shrink to {to}")
        } else if kind < 60 {
            let to = size + 1 + random.below(4 * C as u64) as usize;
            self.grow(to);
            format!("grow to {to}")
        } else if kind < 70 && self.last() > 1 {
            let first = random.below(self.last());
            let end = first + 1 + random.below(self.last() - first);
            self.punch(first, end);
            format!("punch {first}..{end}")
        } else if kind < 80 {
            self.commit();
            self.apply();
            "commit and apply".into()
        } else if kind < 84 {
            self.commit();
            self.stable = self.last() + 1;
            "switch".into()
        } else if kind < 94 {
            self.sync();
            "sync".into()
        } else {
            self.checkpoint();
            "checkpoint".into()
        };
        self.states.push(self.content.clone());
        self.log.push(what);
    }

    /// What the disk and the journal hold after a crash, as a lab.
    fn crash(mut self, random: &mut Random) -> (Lab, Vec<Vec<u8>>, Vec<String>) {
        let keep_all = random.chance(25);
        let percent = [0, 30, 70, 95][random.below(4) as usize];
        let whole = random.chance(50);
        for change in &self.pending {
            let all = keep_all || (whole && random.chance(percent));
            let none = whole && !all;
            change.apply(&mut self.durable, &mut || {
                all || (!none && random.chance(percent))
            });
        }
        let more = (self.groups.len() - self.committed) as u64;
        let kept = match keep_all {
            true => self.groups.len(),
            false => self.committed + random.below(more + 1) as usize,
        };
        let mut lab = self.lab;
        lab.stored.data = self.durable;
        lab.history.fresh = self.fresh;
        for (seq, events) in self.groups.into_iter().take(kept) {
            let seq = WriteSeq(seq);
            for event in events {
                match event {
                    Event::Image(no, sealed) => {
                        let image = ImageAt {
                            seq,
                            segment: 0,
                            at: lab.stored.images.len() as u64,
                            len: sealed.len() as u32,
                        };
                        lab.stored.images.push(sealed);
                        lab.history.image(no, image);
                    }
                    Event::Size(size) => lab.history.resized(seq, size),
                    Event::Extends(stable) => lab.history.extends(seq, stable),
                    Event::Punch(first, end) => lab.history.punched(seq, first, end),
                }
            }
        }
        let states = match keep_all {
            // A kill loses nothing.
            true => self.states.split_off(self.states.len() - 1),
            false => self.states,
        };
        (lab, states, self.log)
    }
}

/// Why `content` may not be read where any of `states` might have been reached.
fn objection(content: &[u8], states: &[Vec<u8>]) -> Option<String> {
    let least = states.iter().map(Vec::len).min().unwrap_or(0);
    let most = states.iter().map(Vec::len).max().unwrap_or(0);
    if !(least..=most).contains(&content.len()) {
        return Some(format!("{} bytes, not {least} to {most}", content.len()));
    }
    for (at, byte) in content.iter().enumerate() {
        let reached = states.iter().any(|s| s.get(at) == Some(byte));
        let was_behind_the_end = *byte == 0 && states.iter().any(|s| s.len() <= at);
        if !reached && !was_behind_the_end {
            return Some(format!("byte {at} of {} is {byte}", content.len()));
        }
    }
    None
}

/// Whether the numbers of the write sequence mean what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sequence {
    True,
    /// Where an image and the chunk in place differ, each has the number of the other.
    Inverted,
}

fn play(seed: u64, sequence: Sequence) -> std::result::Result<(), String> {
    let mut random = Random(seed);
    let mut writer = Writer::new();
    if random.chance(50) {
        writer.checkpoint();
    }
    for _ in 0..1 + random.below(14) {
        writer.step(&mut random);
    }
    let (mut lab, states, log) = writer.crash(&mut random);
    if sequence == Sequence::Inverted {
        lab.swap_sequences();
    }
    let log = log.join("; ");
    let check = |holds: bool, what: &dyn std::fmt::Debug| match holds {
        true => Ok(()),
        false => Err(format!("seed {seed}: {log}: {what:?}")),
    };
    // Recovery may be cut off as well.
    for _ in 0..random.below(3) {
        let outcome = lab.build();
        let percent = [30, 70, 95][random.below(3) as usize];
        for change in outcome.view.iter().flat_map(changes) {
            change.apply(&mut lab.stored.data, &mut || random.chance(percent));
        }
    }
    let outcome = lab.build();
    check(!outcome.damaged, &outcome)?;
    if let Some(view) = &outcome.view {
        apply(view, &mut lab.stored.data);
    }
    let again = lab.build();
    check(again.view.is_none(), &again)?;
    let content = read(&lab.keys, &lab.stored.data);
    check(content.is_ok(), &(&content, &outcome))?;
    let objection = objection(&content.unwrap_or_default(), &states);
    check(objection.is_none(), &objection)
}

#[test]
fn whatever_is_read_after_a_crash_is_allowed() {
    let rounds = std::env::var("WARDFS_TEST_ROUNDS").ok();
    let rounds: u64 = rounds.and_then(|r| r.parse().ok()).unwrap_or(400);
    let from = std::env::var("WARDFS_TEST_SEED").ok();
    let from: u64 = from.and_then(|r| r.parse().ok()).unwrap_or(0);
    for seed in from..from + rounds {
        if let Err(why) = play(seed, Sequence::True) {
            panic!("{why}");
        }
    }
}

#[test]
fn a_recovery_that_took_the_older_of_two_chunks_would_be_noticed() {
    let noticed = (0..400).filter(|seed| play(*seed, Sequence::Inverted).is_err());
    assert!(noticed.count() > 40);
}
