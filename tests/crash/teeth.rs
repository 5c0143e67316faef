//! Tests of the simulator itself: where something that protects is taken away, it must find the harm.

use crate::disk::{Fault, Plan};
use crate::lab::{HAS_JOURNAL, Lab, Protection};
use crate::profile::Profile;
use crate::runner::{Effort, examine};
use crate::verdict::Violation;

const EFFORT: Effort = Effort {
    states: 64,
    again: 0,
    states_again: 0,
    depth: 0,
    sequel: 0,
    checked: 64,
    seed: 3,
};

fn violations(lab: &Lab, workload: &str, plan: Option<Plan>) -> Vec<Violation> {
    let workload = workload.parse().expect("a workload");
    let verdict = examine(lab, &workload, EFFORT, plan).expect("makes sense");
    verdict.examples().cloned().collect()
}

#[test]
fn without_a_journal_changes_of_synced_content_harm_it() {
    let lab = Lab::new(Protection::Nothing);
    for workload in [
        "closed; write A/x 5000 100",
        "closed; write A/x 4096 4096",
        "closed; write A/x 3000 3000, fsync",
        "kept; append A/x 100, fdatasync",
        "closed; append A/x 6000",
        "closed; truncate A/x 5000",
        "closed; truncate A/x 0",
        "closed; truncate A/x 30000",
        "closed; punch A/x 1000 8000",
    ] {
        let found = violations(&lab, workload, None);
        for profile in [Profile::Ext4, Profile::Xfs, Profile::Weak] {
            let harmed = found.iter().any(|v| {
                v.profile == profile && v.problem.class == "unreadable file with synced content"
            });
            assert!(harmed, "{workload} on {profile}: nothing was found");
        }
    }
}

#[test]
fn a_check_finds_the_harm_too() {
    let lab = Lab::new(Protection::Nothing);
    for workload in [
        "closed; write A/x 5000 100",
        "closed; append A/x 6000",
        "closed; truncate A/x 0",
    ] {
        let effort = Effort {
            checked: 2,
            ..EFFORT
        };
        let parsed = workload.parse().expect("a workload");
        let verdict = examine(&lab, &parsed, effort, None).expect("makes sense");
        for profile in [Profile::Ext4, Profile::Xfs, Profile::Weak] {
            let class = (profile, "found by a check");
            let found = verdict.classes.contains_key(&class);
            assert!(found, "{workload} on {profile}: nothing was found");
        }
    }
}

#[test]
fn what_is_not_protected_by_a_journal_is_not_blamed_for_it() {
    let lab = Lab::new(Protection::Nothing);
    for workload in [
        "closed; rename A/x A/y, fsyncdir",
        "closed; rename A/x B/x",
        "closed; link A/x A/y, fsync",
        "closed; unlink A/x, fsyncdir",
        "closed; rename A/x B/long; rename B/long A/y, fsyncdir",
        "closed; mkdir C; rmdir C",
    ] {
        let found = violations(&lab, workload, None);
        assert!(found.is_empty(), "{workload}: {}", found[0]);
    }
}

/// Whether some sync of the workload, when it does nothing, leaves harm that is found.
fn misses_a_sync(lab: &Lab, workload: &str) -> bool {
    assert_eq!(violations(lab, workload, None).len(), 0, "{workload}");
    (0..8).any(|at| {
        let plan = Plan {
            fault: Fault::Swallowed,
            at,
            lasting: false,
        };
        !violations(lab, workload, Some(plan)).is_empty()
    })
}

#[test]
fn a_sync_that_does_nothing_is_noticed() {
    let lab = Lab::new(Protection::Nothing);
    for workload in [
        "kept; setxattr A/x, fsync",
        "kept; rename A/x A/y, fsyncdir",
        "kept; unlink A/x; reopen",
        "kept; mkdir C, fsyncdir",
    ] {
        assert!(misses_a_sync(&lab, workload), "{workload}");
    }
}

#[test]
fn a_commit_of_the_journal_that_does_nothing_is_noticed() {
    if !HAS_JOURNAL {
        return;
    }
    let lab = Lab::new(Protection::Journal);
    for workload in [
        "kept; write A/x 5000 100, fsync",
        "kept; write A/x 4096 4096, fdatasync",
        "kept; append A/x 100, fsync",
        "kept; truncate A/x 5000, fsync",
        "kept; create A/y; append A/y 6000, fsync",
        "kept; write A/x 5000 100; commit; checkpoint; write A/x 5000 100, fsync",
    ] {
        assert!(misses_a_sync(&lab, workload), "{workload}");
    }
}
