//! Many workloads on all processors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::lab::{HAS_JOURNAL, Lab, Protection};
use crate::runner::{Effort, examine};
use crate::step::Workload;
use crate::verdict::Verdict;
use crate::workload::{Sequences, singles};

/// Violations that are printed in full, of each class.
const SHOWN: usize = 2;
/// Sequences of two and of three steps that are tried, of which a part makes no sense and is left out.
const PAIRS: usize = 2500;
const TRIPLES: usize = 600;
/// States that are judged at least.
const STATES: u64 = 200_000;

/// Examines all of them. Workloads that make no sense are left out.
pub fn sweep(lab: &Lab, workloads: &[Workload], effort: Effort) -> Verdict {
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Verdict::default());
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(workload) = workloads.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(verdict) = examine(lab, workload, effort, None) {
                        total.lock().expect("no panic under it").add(verdict);
                    }
                }
            });
        }
    });
    total.into_inner().expect("no panic under it")
}

/// Prints how many states were judged, and of each class of violation the shortest ones.
pub fn report(what: &str, verdict: &Verdict, begun: Instant) {
    eprintln!(
        "{what}: {} workloads, {} states judged ({} of them after a cut within recovery, {} also by a check) in {:.1} s, {} violations",
        verdict.workloads,
        verdict.states,
        verdict.again,
        verdict.checked,
        begun.elapsed().as_secs_f64(),
        verdict.violations()
    );
    for ((profile, name), class) in &verdict.classes {
        eprintln!("{name} on {profile}: {} states", class.states);
        for violation in class.examples.iter().take(SHOWN) {
            eprintln!("{violation}");
        }
    }
}

/// Every single step, completely; shares of the sequences of two and three. The seeds are fixed: the same states each time.
#[test]
fn nothing_synced_is_lost_by_a_power_cut() {
    let lab = Lab::new(Protection::Journal);
    let begun = Instant::now();
    let effort = Effort {
        states: 300,
        again: 3,
        states_again: 6,
        depth: 2,
        sequel: 1,
        checked: 128,
        seed: 1,
    };
    let mut verdict = sweep(&lab, &singles(), effort);
    let pairs: Vec<Workload> = Sequences::new(2, 2).take(PAIRS).collect();
    let effort = Effort {
        states: 16,
        again: 1,
        ..effort
    };
    verdict.add(sweep(&lab, &pairs, effort));
    let triples: Vec<Workload> = Sequences::new(3, 3).take(TRIPLES).collect();
    verdict.add(sweep(&lab, &triples, effort));
    report("power cuts", &verdict, begun);
    assert!(verdict.states >= STATES, "too few states were judged");
    assert!(verdict.violations() == 0 || !HAS_JOURNAL, "see above");
}

/// The kernel writes pages back out of order: so does every large file grow.
#[test]
fn a_file_that_grew_out_of_order_is_whole_once_it_was_synced() {
    let lab = Lab::new(Protection::Journal);
    let begun = Instant::now();
    let grown = "create A/y; write A/y 0 90000; write A/y 270000 90000; write A/y 90000 90000; write A/y 450000 90000";
    let filled = "write A/y 180000 90000; write A/y 360000 90000; append A/y 90000";
    let partly =
        "write A/y 180100 50; write A/y 180000 90000; write A/y 360000 90000; append A/y 90000";
    let ends = [
        "sync A/y, fsync",
        "commit; append A/y 90000; sync A/y, fdatasync",
        "checkpoint; append A/y 90000; kill",
    ];
    let mut workloads = Vec::new();
    for middle in [filled, partly] {
        for end in ends {
            for handles in ["kept", "closed"] {
                let text = format!("{handles}; {grown}; {middle}; {end}");
                workloads.push(text.parse().expect("a workload"));
            }
        }
    }
    let effort = Effort {
        states: 8,
        again: 1,
        states_again: 4,
        depth: 2,
        sequel: 1,
        checked: 128,
        seed: 1,
    };
    let verdict = sweep(&lab, &workloads, effort);
    report("out of order", &verdict, begun);
    assert_eq!(verdict.workloads, workloads.len() as u64);
    assert!(verdict.violations() == 0 || !HAS_JOURNAL, "see above");
}
