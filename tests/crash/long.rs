//! Longer random workloads for as long as there is time, each failing one shrunk to what is needed; and one workload
//! again. Run by scripts/crash-sim.

use std::time::{Duration, Instant};

use crate::drive::sensible;
use crate::lab::{Lab, Protection};
use crate::random::Random;
use crate::runner::{Effort, examine};
use crate::step::{After, Handles, Workload};
use crate::sweep::{report, sweep};
use crate::verdict::{Verdict, Violation};
use crate::workload::{EverySequence, random_workload};

const EFFORT: Effort = Effort {
    states: 32,
    again: 2,
    states_again: 6,
    depth: 2,
    sequel: 1,
    checked: 128,
    seed: 1,
};
const BATCH: usize = 50;

fn from_environment<T: std::str::FromStr>(name: &str, default: T) -> T {
    let text = std::env::var(name).ok();
    text.and_then(|t| t.parse().ok()).unwrap_or(default)
}

fn seed() -> u64 {
    from_environment("WARDFS_CRASH_SEED", 1)
}

/// A violation of the same class by the smallest workload that has one.
fn shrink(lab: &Lab, workload: &Workload, like: &Violation, effort: Effort) -> Violation {
    let (mut best, mut violation) = (workload.clone(), like.clone());
    let breaks = |candidate: &Workload| {
        let verdict = examine(lab, candidate, effort, None)?;
        let class = verdict.classes.get(&(like.profile, like.problem.class))?;
        class.examples.first().cloned()
    };
    'again: loop {
        for candidate in smaller(&best) {
            if let Some(found) = breaks(&candidate) {
                (best, violation) = (candidate, found);
                continue 'again;
            }
        }
        return violation;
    }
}

/// The workload with one thing less, each.
pub fn smaller(workload: &Workload) -> Vec<Workload> {
    let mut candidates = Vec::new();
    for i in 0..workload.steps.len() {
        let mut without = workload.clone();
        without.steps.remove(i);
        candidates.push(without);
    }
    for i in 0..workload.steps.len() {
        if workload.steps[i].after != After::Nothing {
            let mut unsynced = workload.clone();
            unsynced.steps[i].after = After::Nothing;
            candidates.push(unsynced);
        }
    }
    if workload.handles == Handles::Kept {
        candidates.push(Workload {
            handles: Handles::Closed,
            ..workload.clone()
        });
    }
    candidates
}

fn say(violation: &Violation, effort: Effort) {
    eprintln!("{violation}");
    eprintln!(
        "    again: scripts/crash-sim --seed {} --workload '{}'",
        effort.seed, violation.workload
    );
}

/// Examines batches of workloads until the time is over or there are no more; prints each new class of violation.
fn examine_for_hours(mut batch: impl FnMut() -> Vec<Workload>) {
    let hours: f64 = from_environment("WARDFS_CRASH_HOURS", 0.01);
    let effort = Effort {
        seed: seed(),
        ..EFFORT
    };
    let lab = Lab::new(Protection::Journal);
    let begun = Instant::now();
    let mut total = Verdict::default();
    let mut shown = Vec::new();
    while begun.elapsed() < Duration::from_secs_f64(hours * 3600.0) {
        let workloads = batch();
        if workloads.is_empty() {
            break;
        }
        let verdict = sweep(&lab, &workloads, effort);
        for (key, class) in &verdict.classes {
            if shown.contains(key) {
                continue;
            }
            shown.push(*key);
            let violation = &class.examples[0];
            // After a sequel there is more than a workload to repeat.
            let Ok(workload) = violation.workload.parse() else {
                say(violation, effort);
                continue;
            };
            say(&shrink(&lab, &workload, violation, effort), effort);
        }
        total.add(verdict);
        eprintln!(
            "{:.0} s: {} workloads, {} states, {} violations",
            begun.elapsed().as_secs_f64(),
            total.workloads,
            total.states,
            total.violations()
        );
    }
    assert!(total.violations() == 0, "see above");
}

#[test]
#[ignore = "takes hours: scripts/crash-sim"]
fn random_workloads_for_hours() {
    let mut random = Random::new(seed());
    let lab = Lab::new(Protection::Journal);
    examine_for_hours(|| {
        (0..BATCH)
            .map(|_| {
                let steps = 4 + random.below(12);
                sensible(&lab, &random_workload(&mut random, steps))
            })
            .collect()
    });
}

#[test]
#[ignore = "takes hours: scripts/crash-sim --exhaustive"]
fn every_sequence_of_steps() {
    let length = from_environment("WARDFS_CRASH_LENGTH", 2);
    let mut sequences = EverySequence::new(length, seed());
    let all = sequences.total();
    eprintln!("{all} sequences of {length} steps, those that make no sense among them");
    examine_for_hours(|| sequences.by_ref().take(10 * BATCH).collect());
}

#[test]
#[ignore = "needs a workload: scripts/crash-sim --workload"]
fn one_workload_again() {
    let text = std::env::var("WARDFS_CRASH_WORKLOAD").expect("a workload in WARDFS_CRASH_WORKLOAD");
    let workload: Workload = text.parse().expect("a workload");
    let effort = Effort {
        states: 400,
        seed: seed(),
        ..EFFORT
    };
    let lab = Lab::new(Protection::Journal);
    let begun = Instant::now();
    let verdict = examine(&lab, &workload, effort, None).expect("its steps make sense");
    report(&text, &verdict, begun);
    if let Some(first) = verdict.examples().next() {
        say(&shrink(&lab, &workload, first, effort), effort);
    }
    assert!(verdict.violations() == 0, "see above");
}
