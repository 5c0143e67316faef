//! Sequences of operations that are easily got wrong, each under every power cut and kill.

use std::time::Instant;

use crate::lab::{Lab, Protection};
use crate::runner::Effort;
use crate::step::Workload;
use crate::sweep::{report, sweep};

const EFFORT: Effort = Effort {
    states: 120,
    again: 2,
    states_again: 6,
    depth: 2,
    sequel: 0,
    checked: 128,
    seed: 7,
};

/// What a check says of each state.
const CHECKED: Effort = Effort {
    checked: 1,
    ..EFFORT
};

#[track_caller]
fn hold(what: &str, workloads: &[&str]) {
    hold_by(what, EFFORT, workloads);
}

#[track_caller]
fn hold_by(what: &str, effort: Effort, workloads: &[&str]) {
    let lab = Lab::new(Protection::Journal);
    let begun = Instant::now();
    let parsed = workloads
        .iter()
        .map(|text| text.parse().expect("a workload"));
    let parsed: Vec<Workload> = parsed.collect();
    let verdict = sweep(&lab, &parsed, effort);
    report(what, &verdict, begun);
    assert_eq!(verdict.workloads, parsed.len() as u64, "one makes no sense");
    assert_eq!(verdict.violations(), 0, "see above");
}

#[test]
fn a_new_file_that_was_synced_at_its_second_opening_is_kept_at_the_third() {
    hold(
        "opened three times",
        &[
            "closed; create A/y; append A/y 6000; sync A/y, fsync; write A/y 100 5000",
            "closed; create A/y; append A/y 6000; sync A/y, fdatasync; write A/y 4096 1904; sync A/y, fdatasync",
            "closed; create A/y; append A/y 70000; sync A/y, fdatasync; append A/y 100; write A/y 3000 3000",
            "closed; create B/long; append B/long 300; sync B/long, fsync; truncate A/x 5000; write B/long 0 300",
            "closed; create A/y; append A/y 9000; sync A/y, fdatasync; append A/y 70000",
        ],
    );
}

#[test]
fn a_file_is_never_without_an_end_while_it_is_cut_or_grows() {
    hold(
        "ends",
        &[
            "kept; create A/y; append A/y 9000; truncate A/x 5000; append A/y 100",
            "closed; create A/y; append A/y 9000; truncate A/x 4096; append A/y 6000",
            "kept; append A/x 6000; append A/x 70000; truncate A/x 8192",
            "closed; append A/x 70000, fsync; truncate A/x 11000; append A/x 6000",
            "kept; write A/x 20000 500, fdatasync; truncate A/x 11000; append A/x 70000",
        ],
    );
}

#[test]
fn a_file_is_found_after_a_rename_whose_records_are_of_another_turn() {
    hold(
        "renamed",
        &[
            "kept; write A/x 5000 100, fsync; rename A/x B/long; checkpoint",
            "kept; write A/x 5000 100, fsync; rename A/x B/x, fsyncdir; checkpoint; write B/x 100 100",
            "closed; append A/x 6000, fdatasync; rename A/x A/y; commit; checkpoint; rename A/y A/x",
            "kept; write A/x 5000 100, fdatasync; rename A C; write B/x 100 100; checkpoint",
            "kept; write A/x 5000 100, fdatasync; rename A C, fsyncdir; rename C A; checkpoint",
            "kept; append A/x 100, fsync; checkpoint; append A/x 100, fsync; rename A/x B/x; checkpoint; append B/x 9, fsync",
        ],
    );
}

#[test]
fn of_two_names_of_a_file_the_one_that_remains_leads_to_its_records() {
    hold(
        "linked",
        &[
            "kept; link A/x A/y; write A/y 5000 100, fsync; unlink A/y",
            "kept; link A/x B/long, fsync; write B/long 100 5000, fdatasync; unlink A/x; checkpoint",
            "closed; write A/x 5000 100, fsync; link A/x A/y; unlink A/x, fsyncdir; append A/y 100, fsync",
            "closed; link A/x B/long; append A/x 6000, fdatasync; unlink B/long; rename A/x A/y",
            "kept; link A/x A/y; append A/y 70000, fsync; unlink A/y, fsyncdir; kill; append A/x 100, fsync",
        ],
    );
}

/// The id that it is bound to is in the header, which may be lost.
#[test]
fn an_attribute_of_a_new_file_is_never_called_damaged() {
    hold_by(
        "attributes of new files",
        CHECKED,
        &[
            "closed; create A/y, fsyncdir; setxattr A/y, fsyncdir",
            "kept; create A/y; setxattr A/y; append A/y 100",
            "closed; create A/y; setxattr A/y, fsync; append A/y 6000",
        ],
    );
}
