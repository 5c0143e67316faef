//! The workloads that are tried: every single step, and shares of the sequences of two and three.

use crate::place::Place::{self, *};
use crate::random::Random;
use crate::step::{Act, After, Handles, Step, Workload};

/// Every kind of step on the prepared volume. Chunks are of 4096 bytes; A/x has 10240 bytes and B/x 9000.
pub fn acts() -> Vec<Act> {
    let mut acts = vec![
        Act::Create(Ay),
        Act::Create(Bl),
        Act::Create(Cf),
        Act::Write(Ax, 5000, 100),
        Act::Write(Ax, 4096, 4096),
        Act::Write(Ax, 3000, 3000),
        Act::Write(Ax, 9000, 1240),
        Act::Write(Ax, 9500, 2000),
        Act::Write(Ax, 0, 10240),
        Act::Write(Bx, 100, 5000),
        Act::Write(Ay, 0, 6000),
        Act::Write(Bl, 0, 300),
        Act::Write(Ax, 20_000, 500),
        // More than what an append may take through the journal.
        Act::Append(Ax, 70_000),
        Act::Append(Ay, 70_000),
        Act::Write(Ax, 30_000, 70_000),
        Act::Truncate(Ax, 5000),
        Act::Truncate(Ax, 8192),
        Act::Truncate(Ax, 0),
        Act::Truncate(Ax, 11_000),
        Act::Truncate(Ax, 30_000),
        Act::Truncate(Bx, 4096),
        Act::Punch(Ax, 4096, 4096),
        Act::Punch(Ax, 1000, 8000),
        Act::Punch(Ax, 100, 200),
        Act::Rename(Ax, Ay),
        Act::Rename(Ax, Bx),
        Act::Rename(Bx, Ay),
        Act::Rename(Ax, Bl),
        Act::Rename(Bl, Ay),
        Act::Rename(Ay, Ax),
        Act::Rename(Ax, Cf),
        Act::Rename(E, C),
        Act::Link(Ax, Ay),
        Act::Link(Ax, Bl),
        Act::Unlink(Ax),
        Act::Unlink(Bx),
        Act::Unlink(Bl),
        Act::Mkdir(C),
        Act::Mkdir(Ad),
        Act::Rmdir(E),
        Act::Rmdir(C),
        Act::SetXattr(Ax),
        Act::SetXattr(Ay),
        Act::Sync(Bx),
        Act::Sync(Ax),
        Act::Commit,
        Act::Checkpoint,
        Act::Reopen,
        Act::Kill,
    ];
    for place in [Ax, Bx, Ay, Bl, Cf] {
        acts.push(Act::Append(place, 100));
        acts.push(Act::Append(place, 6000));
    }
    acts
}

/// A step with each way to sync after it.
fn steps(act: Act) -> impl Iterator<Item = Step> {
    let afters: &[After] = match act {
        Act::Commit | Act::Checkpoint | Act::Reopen | Act::Kill => &[After::Nothing],
        Act::Unlink(_) | Act::Rmdir(_) => &[After::Nothing, After::FsyncDir],
        Act::Sync(_) => &[After::Fsync, After::Fdatasync],
        _ => &[
            After::Nothing,
            After::Fsync,
            After::Fdatasync,
            After::FsyncDir,
        ],
    };
    afters.iter().map(move |after| Step { act, after: *after })
}

pub fn all_steps() -> Vec<Step> {
    acts().into_iter().flat_map(steps).collect()
}

/// Every step on its own.
pub fn singles() -> Vec<Workload> {
    let single = |step| Workload {
        handles: Handles::Closed,
        steps: vec![step],
    };
    all_steps().into_iter().map(single).collect()
}

/// Sequences of so many steps, with both ways to hold files, in an order that is the same for the same seed.
pub struct Sequences {
    steps: Vec<Step>,
    length: usize,
    random: Random,
}

impl Sequences {
    pub fn new(length: usize, seed: u64) -> Self {
        Self {
            steps: all_steps(),
            length,
            random: Random::new(seed),
        }
    }
}

impl Iterator for Sequences {
    type Item = Workload;

    fn next(&mut self) -> Option<Workload> {
        let handles = match self.random.chance(50) {
            true => Handles::Kept,
            false => Handles::Closed,
        };
        let steps = (0..self.length)
            .map(|_| *self.random.pick(&self.steps))
            .collect();
        Some(Workload { handles, steps })
    }
}

/// Every sequence of so many steps, once, with both ways to hold files, in an order that the seed chooses.
pub struct EverySequence {
    steps: Vec<Step>,
    length: u32,
    next: u64,
    /// Goes through all numbers below the count, for it has no divisor in common with it.
    stride: u64,
    at: u64,
}

impl EverySequence {
    pub fn new(length: u32, seed: u64) -> Self {
        let steps = all_steps();
        let mut all = Self {
            steps,
            length,
            next: 0,
            stride: 1,
            at: 0,
        };
        let wanted = all.total() / 3 + seed % 1000;
        all.stride = (wanted.max(1)..)
            .find(|n| divisor(*n, all.total()) == 1)
            .expect("there are infinitely many primes");
        all
    }

    pub fn total(&self) -> u64 {
        2 * (self.steps.len() as u64).pow(self.length)
    }
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

impl Iterator for EverySequence {
    type Item = Workload;

    fn next(&mut self) -> Option<Workload> {
        if self.next == self.total() {
            return None;
        }
        self.next += 1;
        self.at = (self.at + self.stride) % self.total();
        let handles = match self.at % 2 {
            0 => Handles::Kept,
            _ => Handles::Closed,
        };
        let mut rest = self.at / 2;
        let base = self.steps.len() as u64;
        let steps = (0..self.length)
            .map(|_| {
                let step = self.steps[(rest % base) as usize];
                rest /= base;
                step
            })
            .collect();
        Some(Workload { handles, steps })
    }
}

/// A longer workload with offsets of its own.
pub fn random_workload(random: &mut Random, steps: usize) -> Workload {
    let all = all_steps();
    let files: [Place; 5] = crate::place::FILES;
    let steps = (0..steps)
        .map(|_| {
            let step = *random.pick(&all);
            let file = *random.pick(&files);
            let chunks = [5, 25][random.below(2)];
            let off = random.below(chunks) as u64 * 4096 + random.below(7) as u64 * 700;
            let off = off.saturating_sub(random.below(3) as u64);
            let len = 1 + [10, 600, 4096, 9000, 80_000][random.below(5)]
                * (1 + random.below(16) as u64)
                / 16;
            let act = match step.act {
                Act::Write(..) => Act::Write(file, off, len),
                Act::Append(..) => Act::Append(file, len),
                Act::Truncate(..) => Act::Truncate(file, off),
                Act::Punch(..) => Act::Punch(file, off, len),
                other => other,
            };
            Step { act, ..step }
        })
        .collect();
    let handles = match random.chance(50) {
        true => Handles::Kept,
        false => Handles::Closed,
    };
    Workload { handles, steps }
}
