//! Longer random workloads for as long as there is time, each failing one shrunk to what is needed; and one workload
//! again. Run by scripts/crash-sim.

use std::time::{Duration, Instant};

use crate::lab::{Lab, Protection};
use crate::random::Random;
use crate::runner::{Effort, Verdict, Violation, examine};
use crate::step::{After, Handles, Workload};
use crate::sweep::{report, sweep};
use crate::workload::random_workload;

const EFFORT: Effort = Effort {
    states: 32,
    again: 2,
    states_again: 6,
    depth: 2,
    seed: 1,
};
const BATCH: usize = 200;

fn from_environment<T: std::str::FromStr>(name: &str, default: T) -> T {
    let text = std::env::var(name).ok();
    text.and_then(|t| t.parse().ok()).unwrap_or(default)
}

/// The smallest workload that still breaks the contract in the same way.
fn shrink(
    lab: &Lab,
    workload: &Workload,
    like: &Violation,
    effort: Effort,
) -> (Workload, Violation) {
    let (mut best, mut violation) = (workload.clone(), like.clone());
    let breaks = |candidate: &Workload| {
        let verdict = examine(lab, candidate, effort, None)?;
        let same =
            |v: &Violation| v.problem.class == like.problem.class && v.profile == like.profile;
        verdict.violations.into_iter().find(same)
    };
    'again: loop {
        for candidate in smaller(&best) {
            if let Some(found) = breaks(&candidate) {
                (best, violation) = (candidate, found);
                continue 'again;
            }
        }
        return (best, violation);
    }
}

fn smaller(workload: &Workload) -> Vec<Workload> {
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

#[test]
#[ignore = "takes hours: scripts/crash-sim"]
fn random_workloads_for_hours() {
    let hours: f64 = from_environment("WARDFS_CRASH_HOURS", 0.01);
    let seed: u64 = from_environment("WARDFS_CRASH_SEED", 1);
    let effort = Effort { seed, ..EFFORT };
    let lab = Lab::new(Protection::Journal);
    let begun = Instant::now();
    let mut random = Random::new(seed);
    let mut total = Verdict::default();
    let mut shown = Vec::new();
    while begun.elapsed() < Duration::from_secs_f64(hours * 3600.0) {
        let workloads: Vec<Workload> = (0..BATCH)
            .map(|_| {
                let steps = 2 + random.below(9);
                random_workload(&mut random, steps)
            })
            .collect();
        let verdict = sweep(&lab, &workloads, effort);
        for violation in &verdict.violations {
            let key = (violation.problem.class, violation.profile);
            if shown.contains(&key) {
                continue;
            }
            shown.push(key);
            let workload = violation.workload.parse().expect("it was printed");
            let (_, smallest) = shrink(&lab, &workload, violation, effort);
            say(&smallest, effort);
        }
        total.add(verdict);
        eprintln!(
            "{} workloads, {} states, {} violations",
            total.workloads,
            total.states,
            total.violations.len()
        );
    }
    assert!(total.violations.is_empty(), "see above");
}

#[test]
#[ignore = "needs a workload: scripts/crash-sim --workload"]
fn one_workload_again() {
    let text = std::env::var("WARDFS_CRASH_WORKLOAD").expect("a workload in WARDFS_CRASH_WORKLOAD");
    let workload: Workload = text.parse().expect("a workload");
    let seed: u64 = from_environment("WARDFS_CRASH_SEED", 1);
    let effort = Effort {
        states: 400,
        seed,
        ..EFFORT
    };
    let lab = Lab::new(Protection::Journal);
    let begun = Instant::now();
    let verdict = examine(&lab, &workload, effort, None).expect("its steps make sense");
    report(&text, &verdict, begun);
    if let Some(first) = verdict.violations.first() {
        let (_, smallest) = shrink(&lab, &workload, first, effort);
        say(&smallest, effort);
    }
    assert!(verdict.violations.is_empty(), "see above");
}
