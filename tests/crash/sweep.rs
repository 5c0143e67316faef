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
        "{what}: {} workloads, {} states judged ({} of them after a cut within recovery) in {:.1} s, {} violations",
        verdict.workloads,
        verdict.states,
        verdict.again,
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
