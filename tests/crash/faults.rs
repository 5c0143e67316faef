//! Calls to the backing filesystem that fail: whoever suffers it is told, nothing that was there before changes, the
//! volume can be used again, and a check finds nothing but what an operation that was given up may leave.

use wardfs::store::check::Mode;
use wardfs::store::check::finding::{Finding, State, Subject};

use crate::disk::{CallKind, Fault, Image, Plan, SimDisk};
use crate::drive::{self, Run};
use crate::findings::text_of;
use crate::lab::{HAS_JOURNAL, Lab, Protection};
use crate::observe::observe;
use crate::oracle::{Moment, Promise, judge};
use crate::runner::all_names;
use crate::step::Workload;

const WORKLOADS: [&str; 9] = [
    "kept; create A/y; append A/y 6000, fsync; append A/y 100, fsyncdir; append A/y 9000, fdatasync",
    "kept; write A/x 5000 100; write A/x 3000 3000, fsync; write A/x 0 10240, fdatasync",
    "kept; append A/x 100, fsync; append A/x 6000, fsync; append B/x 100; append A/x 100, fdatasync",
    "closed; truncate A/x 5000, fsync; truncate A/x 20000; truncate A/x 0; append A/x 5000, fsync",
    "closed; punch A/x 1000 8000, fsync; write A/x 20000 500, fsync; setxattr A/x, fsync",
    "closed; rename A/x A/y; rename A/y B/x, fsyncdir; rename B/x B/long, fsync; unlink B/long",
    "closed; mkdir C; create C/f, fsyncdir; append C/f 100, fsync; link A/x B/long; rmdir E, fsyncdir",
    "kept; write A/x 100 100; commit; write B/x 100 5000; checkpoint; write A/x 100 100; reopen; append A/x 9",
    "kept; create B/long; append B/long 6000; write B/long 10 10; write B/long 4000 200, fsync; unlink B/long",
];

const FAULTS: [(Fault, bool); 6] = [
    (Fault::Error(libc::EIO), false),
    (Fault::Error(libc::EIO), true),
    (Fault::Error(libc::ENOSPC), false),
    (Fault::Error(libc::ENOSPC), true),
    (Fault::Short(libc::ENOSPC), false),
    (Fault::Short(libc::EIO), false),
];

fn errno(fault: Fault) -> i32 {
    match fault {
        Fault::Error(errno) | Fault::Short(errno) => errno,
        Fault::Swallowed => 0,
    }
}

/// What is wrong after call number `plan.at` of the workload failed; `None` if there is no such call.
fn strike(lab: &Lab, text: &str, workload: &Workload, plan: Plan) -> Option<Vec<String>> {
    let mut run = drive::run(lab, workload, Some(plan)).expect("makes sense");
    let struck = run.disk.struck();
    if struck.is_empty() {
        return None;
    }
    run.disk.plan(None);
    let mut wrong = Vec::new();
    let expected = std::io::Error::from_raw_os_error(errno(plan.fault)).to_string();
    match &run.failed {
        Some(why) if why.contains(&expected) || why.contains("read-only") => {}
        Some(why) => wrong.push(format!("another error was reported: {why}")),
        None if struck.contains(&CallKind::Sync) => {
            wrong.push("a failed sync went unnoticed".into())
        }
        None => {}
    }
    let live = run.fs.take();
    if let Some(fs) = &live {
        let names = all_names(&run.history);
        check("in use", &run, &observe(fs, &names), &mut wrong);
    }
    reopen("killed", lab, &run, &run.disk.image(), &mut wrong);
    check_vault("killed", lab, plan, &struck, &run.disk.image(), &mut wrong);
    if let Some(fs) = live {
        // It may refuse; it must not harm.
        let _ = fs.close();
        drop(fs);
        reopen("closed", lab, &run, &run.disk.image(), &mut wrong);
        check_vault("closed", lab, plan, &struck, &run.disk.image(), &mut wrong);
    }
    let context = format!(
        "{text}\n  call {} with {:?}, lasting: {}",
        plan.at, plan.fault, plan.lasting
    );
    let told = run.failed.as_deref().unwrap_or("no error").to_owned();
    Some(
        wrong
            .into_iter()
            .map(|w| format!("{context} ({told}):\n    {w}"))
            .collect(),
    )
}

fn reopen(how: &str, lab: &Lab, run: &Run, image: &Image, wrong: &mut Vec<String>) {
    match lab.open(&SimDisk::from_now(image.clone())) {
        Ok(fs) => check(how, run, &observe(&fs, &all_names(&run.history)), wrong),
        Err(e) => wrong.push(format!("{how}: no mount: {e}")),
    }
}

fn check(how: &str, run: &Run, seen: &crate::observe::Observed, wrong: &mut Vec<String>) {
    let moment = Moment {
        history: &run.history,
        done: run.history.done_at(run.disk.log_len()),
        promise: Promise::Everything,
    };
    for problem in judge(moment, seen) {
        wrong.push(format!("{how}: {}: {}", problem.class, problem.text));
    }
}

/// Whether a check may say so of a volume that was left or closed after the call failed.
fn is_explained(how: &str, plan: Plan, struck: &[CallKind], finding: &Finding) -> bool {
    match (finding.state, finding.subject) {
        (State::Leftover, _) if how == "killed" => true,
        // What could not be removed.
        (State::Leftover, Subject::NameFile) => struck.contains(&CallKind::Change),
        // Torn while the volume was being opened or closed: the other slot does not say that it was in use.
        (State::Damaged, Subject::Superblock) => matches!(plan.fault, Fault::Short(_)),
        _ => false,
    }
}

/// Checks the volume as it was left, as the next mount leaves it, and as a repair does.
fn check_vault(
    how: &str,
    lab: &Lab,
    plan: Plan,
    struck: &[CallKind],
    image: &Image,
    wrong: &mut Vec<String>,
) {
    let mut say = |when: &str,
                   found: Result<Vec<Finding>, String>,
                   is_right: &dyn Fn(&Finding) -> bool| match found {
        Ok(found) => {
            let bad = found.iter().filter(|f| !is_right(f));
            wrong.extend(bad.map(|f| format!("{how}: a check {when}: {}", text_of(f))));
        }
        Err(e) => wrong.push(format!("{how}: a check {when}: {e}")),
    };
    let disk = || SimDisk::from_now(image.clone());
    let explained = |f: &Finding| is_explained(how, plan, struck, f);
    say("as it was left", lab.check(&disk(), Mode::Look), &explained);
    let reopened = disk();
    if let Ok(fs) = lab.open(&reopened) {
        let harmless = |f: &Finding| f.subject != Subject::Superblock && explained(f);
        drop(fs);
        say(
            "after the next mount",
            lab.check(&reopened, Mode::Look),
            &harmless,
        );
    }
    let repaired = disk();
    let whole = |f: &Finding| matches!(f.state, State::Repaired | State::Leftover);
    say("that repairs", lab.check(&repaired, Mode::Repair), &whole);
    say("after a repair", lab.check(&repaired, Mode::Look), &|_| {
        false
    });
}

#[test]
fn a_failing_call_is_reported_and_harms_nothing() {
    let lab = Lab::new(Protection::Journal);
    let mut struck = 0;
    let mut wrong = Vec::new();
    for text in WORKLOADS {
        let workload = text.parse().expect("a workload");
        for (fault, lasting) in FAULTS {
            for at in 0.. {
                let plan = Plan { fault, at, lasting };
                let Some(found) = strike(&lab, text, &workload, plan) else {
                    break;
                };
                struck += 1;
                wrong.extend(found);
            }
        }
    }
    eprintln!(
        "{struck} calls failed, {} times something was wrong after it",
        wrong.len()
    );
    wrong.iter().take(12).for_each(|w| eprintln!("{w}"));
    assert!(wrong.is_empty() || !HAS_JOURNAL);
}
