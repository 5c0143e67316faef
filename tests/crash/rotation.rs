//! Power cuts while chunks are sealed anew with another key, and after the old one was wiped.

use std::sync::Mutex;
use std::time::Instant;

use crate::lab::Rotation;
use crate::runner::{Effort, examine, examine_from};
use crate::step::{Act, After, Step, Workload};
use crate::sweep::report;
use crate::verdict::Verdict;
use crate::workload::singles;

const EFFORT: Effort = Effort {
    states: 8,
    again: 1,
    states_again: 4,
    depth: 1,
    sequel: 0,
    checked: 128,
    seed: 1,
};
/// States that are judged at least.
const STATES: u64 = 50_000;

fn step(act: Act) -> Step {
    Step {
        act,
        after: After::Nothing,
    }
}

/// Every single step, with sealing before it, behind it or on both sides.
fn workloads() -> Vec<Workload> {
    let (reseal, rotate) = (step(Act::Reseal), step(Act::Rotate));
    let around = [
        (vec![reseal], vec![]),
        (vec![], vec![reseal, step(Act::Commit)]),
        (vec![], vec![rotate]),
        (vec![reseal], vec![rotate]),
    ];
    let mut all = Vec::new();
    for single in singles() {
        for (before, behind) in &around {
            all.push(Workload {
                handles: single.handles,
                steps: [&before[..], &single.steps, behind].concat(),
            });
        }
    }
    all
}

/// Adds up what `judge` says of all of them, on two threads.
fn total(workloads: &[Workload], judge: impl Fn(&Workload) -> Option<Verdict> + Sync) -> Verdict {
    let total = Mutex::new(Verdict::default());
    std::thread::scope(|scope| {
        for half in workloads.chunks(workloads.len().div_ceil(2)) {
            let (total, judge) = (&total, &judge);
            scope.spawn(move || {
                for verdict in half.iter().filter_map(judge) {
                    total.lock().expect("no panic under it").add(verdict);
                }
            });
        }
    });
    total.into_inner().expect("no panic under it")
}

#[test]
fn nothing_is_lost_by_a_power_cut_while_chunks_are_sealed_anew() {
    let rotation = Rotation::new();
    let begun = Instant::now();
    let verdict = total(&workloads(), |workload| {
        examine(&rotation.under_way, workload, EFFORT, None)
    });
    report("power cuts under a rotation", &verdict, begun);
    assert!(verdict.states >= STATES, "too few states were judged");
    assert_eq!(verdict.violations(), 0, "see above");
}

/// From the moment when the old key may be wiped on, no state that a power cut leaves needs it.
#[test]
fn nothing_needs_the_old_key_once_everything_was_met() {
    let rotation = Rotation::new();
    let begun = Instant::now();
    let before = workloads().into_iter().filter(|w| {
        let last = w.steps.last().expect("not empty");
        last.act == Act::Rotate
    });
    let after = singles().into_iter().map(|single| Workload {
        handles: single.handles,
        steps: [&[step(Act::Rotate)][..], &single.steps].concat(),
    });
    let all: Vec<Workload> = before.chain(after).collect();
    let verdict = total(&all, |workload| {
        let Rotation {
            under_way,
            afterwards,
        } = &rotation;
        examine_from(under_way, afterwards, workload, EFFORT, "rotate")
    });
    report("power cuts after a rotation", &verdict, begun);
    assert!(verdict.states >= 2000, "too few states were judged");
    assert_eq!(verdict.violations(), 0, "see above");
}

/// The test above would find a key that is wiped before everything was met.
#[test]
fn a_key_that_is_wiped_too_early_is_noticed() {
    let Rotation {
        under_way,
        afterwards,
    } = Rotation::new();
    let workload = "kept; reseal; commit".parse().expect("a workload");
    let verdict = examine_from(&under_way, &afterwards, &workload, EFFORT, "commit");
    assert!(verdict.expect("makes sense").violations() > 0);
}
