//! Power cuts while the volume header is changed: whatever is left opens, with the secrets from before or those from
//! after the change, and once it was answered only with these.

mod judge;
mod lab;
mod whole;

use std::time::Instant;

use wardfs::format::volume::VolumeHeader;
use wardfs::store::backing::{Backing, OpenFor, RenameMode};
use wardfs::store::header;

use self::judge::{COPIES, Earlier, Judge, META, Outcome, Run, TMP, files, mend, whole_in};
use self::lab::{CHANGES, Change, Vault, change, with_header};
use crate::disk::{Fault, Image, Plan, ROOT_INO, SimDisk};
use crate::profile::{PROFILES, Profile};
use crate::runner::Effort;
use crate::sweep::report;
use crate::verdict::Verdict;

const EFFORT: Effort = Effort {
    states: 60,
    again: 0,
    states_again: 12,
    depth: 2,
    sequel: 0,
    seed: 1,
    checked: 0,
};
const JUDGE: Judge<'static> = Judge {
    open: &mend,
    effort: EFFORT,
};
/// For what is done after a power cut.
const LESS: Judge<'static> = Judge {
    open: &mend,
    effort: Effort {
        states: 8,
        states_again: 4,
        depth: 1,
        ..EFFORT
    },
};

#[track_caller]
fn assert_sound(what: &str, verdict: &Verdict, begun: Instant, states: u64) {
    report(what, verdict, begun);
    assert!(verdict.states >= states, "too few states were judged");
    assert_eq!(verdict.violations(), 0, "see above");
}

#[test]
fn a_header_opens_as_before_or_as_after_whatever_is_changed() {
    let vault = Vault::new();
    let begun = Instant::now();
    let mut total = Verdict::default();
    for change in &CHANGES {
        let run = vault.run(&[change], vault.prepared(change), None);
        let [Some(before), Some(after)] = &run.headers[..] else {
            panic!("{}: two headers", change.name)
        };
        change.check(&vault.key, before, after);
        total.add(JUDGE.examine(&run).verdict);
    }
    assert_sound("headers", &total, begun, 10_000);
}

/// Every change is followed by the next one of the list; neither may bring back what was before the first.
#[test]
fn two_changes_in_a_row_are_made_one_after_the_other() {
    let vault = Vault::new();
    let begun = Instant::now();
    let mut total = Verdict::default();
    for first in ["slot added", "secret changed", "rotation begun"].map(change) {
        for second in CHANGES.iter().filter(|c| c.epochs[0] == first.epochs[1]) {
            let base = vault.prepared(first);
            total.add(
                JUDGE
                    .examine(&vault.run(&[first, second], base, None))
                    .verdict,
            );
        }
    }
    assert_sound("two changes of a header", &total, begun, 30_000);
}

/// What a power cut left is changed, with and without having been mended before, and the power goes again.
#[test]
fn a_header_whose_change_was_interrupted_can_be_changed() {
    let vault = Vault::new();
    let begun = Instant::now();
    let mut total = Verdict::default();
    for first in &CHANGES {
        let run = vault.run(&[first], vault.prepared(first), None);
        for left in JUDGE.examine(&run).left {
            let mended = SimDisk::from_now(left.image.clone());
            mend(&mended, &left.header).expect("nothing fails");
            for base in [left.image.clone(), mended.image()] {
                let next = match left.header.slots.iter().any(|slot| slot.id == 1) {
                    true => "slot removed",
                    false => "slot added",
                };
                let run = Run {
                    stale: whole_in(&base),
                    ..vault.run(&[change(next)], base, None)
                };
                total.add(LESS.examine_on(&[left.profile], &run).verdict);
            }
        }
    }
    assert_sound("changes after interrupted ones", &total, begun, 20_000);
}

/// Whoever changes the header is killed at any call, somebody else changes it at once, and then the power goes.
#[test]
fn a_header_whose_writer_was_killed_can_be_changed() {
    let vault = Vault::new();
    let begun = Instant::now();
    let mut total = Verdict::default();
    let (first, second) = (change("secret changed"), change("slot labelled"));
    for at in 0.. {
        let disk = SimDisk::from_now(vault.base.clone());
        disk.plan(Some(killed_at(at)));
        if vault.make(first, &disk).is_ok() {
            assert!(at > 10, "there are not so few calls: {at}");
            break;
        }
        disk.plan(None);
        let found = header::read(&disk).expect("whole").header;
        let mut stale = whole_in(&disk.image());
        stale.push(vault.header.clone());
        let begin = disk.log_len();
        let made = vault.make(second, &disk).expect("nothing fails");
        let headers = vec![Some(found), Some(made)];
        let run = Run {
            log: disk.log(),
            changes: vec![(begin, disk.log_len())],
            stale,
            earlier: Earlier::Killed,
            ..Run::new(format!("killed at {at}"), vault.base.clone(), headers)
        };
        total.add(JUDGE.examine(&run).verdict);
    }
    assert_sound("changes after a kill", &total, begun, 10_000);
}

/// Every call from here on fails, as if it had not been made.
fn killed_at(at: usize) -> Plan {
    Plan {
        fault: Fault::Error(libc::EIO),
        at,
        lasting: true,
    }
}

/// What `header restore` does, with the copies as they are when somebody does that.
#[test]
fn a_backup_that_is_put_back_is_there_as_a_whole_or_not_at_all() {
    let vault = Vault::new();
    let begun = Instant::now();
    let mut total = Verdict::default();
    let change = change("secret changed");
    let backup = vault.header.clone();
    let newer = vault.run(&[change], vault.base.clone(), None).headers[1].clone();
    let newer = newer.expect("made");
    change.check(&vault.key, &backup, &newer);
    let base = with_header(vault.base.clone(), &newer);
    let bases = [
        ("whole", base.clone(), Some(newer.clone())),
        ("first damaged", damaged(&base, &COPIES[..1]), Some(newer)),
        ("both damaged", damaged(&base, &COPIES), None),
        ("both missing", missing(&base), None),
    ];
    for (name, base, before) in bases {
        let disk = SimDisk::from_now(base.clone());
        header::write(&disk, &backup).expect("nothing fails");
        let headers = vec![before, Some(backup.clone())];
        let run = Run {
            log: disk.log(),
            changes: vec![(0, disk.log_len())],
            ..Run::new(format!("backup put back, {name}"), base, headers)
        };
        total.add(JUDGE.examine(&run).verdict);
    }
    assert_sound("backups put back", &total, begun, 3000);
}

#[test]
fn a_damaged_copy_is_mended_and_the_other_one_stays() {
    let vault = Vault::new();
    let begun = Instant::now();
    let mut total = Verdict::default();
    for copy in COPIES {
        let base = damaged(&vault.base, &[copy]);
        let disk = SimDisk::from_now(base.clone());
        mend(&disk, &vault.header).expect("nothing fails");
        let headers = vec![Some(vault.header.clone()); 2];
        let run = Run {
            log: disk.log(),
            changes: vec![(0, disk.log_len())],
            ..Run::new(format!("{copy} mended"), base.clone(), headers)
        };
        assert!(!run.log.is_empty(), "there was something to mend");
        total.add(JUDGE.examine(&run).verdict);
        // Changed without having been mended.
        for change in ["slot added", "slot removed", "rotation begun"].map(change) {
            let run = vault.run(&[change], base.clone(), None);
            total.add(JUDGE.examine(&run).verdict);
        }
    }
    assert_sound("damaged copies", &total, begun, 5000);
}

fn damaged(base: &Image, copies: &[&str]) -> Image {
    let mut image = base.clone();
    let meta = image.entry(ROOT_INO, META).expect("a vault");
    for name in copies {
        let ino = image.entry(meta, name.as_bytes()).expect("a vault");
        let file = image.file_mut(ino).expect("a file");
        let mut sector = file.sector(1);
        sector[0] ^= 1;
        file.put_sector(1, &sector);
    }
    image
}

fn missing(base: &Image) -> Image {
    let mut image = base.clone();
    let meta = image.entry(ROOT_INO, META).expect("a vault");
    for name in COPIES {
        image.leave(meta, name.as_bytes()).expect("a vault");
    }
    image
}

/// Tests of the tests: what protects a header is taken away, and the harm is found.
mod teeth {
    use super::*;

    fn harmed(out: &Outcome, class: &str) -> Vec<Profile> {
        let harmed = |profile: &Profile| {
            let mut found = out.verdict.classes.keys();
            found.any(|(p, c)| p == profile && *c == class)
        };
        PROFILES.into_iter().filter(harmed).collect()
    }

    const ALL: [Profile; 3] = [Profile::Ext4, Profile::Xfs, Profile::Weak];

    fn swallowed(vault: &Vault, change: &Change, at: usize, lasting: bool) -> Outcome {
        let plan = Plan {
            fault: Fault::Swallowed,
            at,
            lasting,
        };
        JUDGE.examine(&vault.run(&[change], vault.base.clone(), Some(plan)))
    }

    /// Of the syncs of file, directory, file, directory only the second one has the last one to stand in for it.
    #[test]
    fn a_sync_that_does_nothing_is_noticed() {
        let vault = Vault::new();
        let change = change("slot removed");
        for (at, class) in [
            (0, Some("a copy is not what was answered")),
            (1, None),
            (2, Some("a copy is not what was answered")),
            (3, Some("an old header is left")),
        ] {
            let out = swallowed(&vault, change, at, false);
            let found: Vec<&str> = out.verdict.classes.keys().map(|(_, c)| *c).collect();
            match class {
                Some(class) => assert!(found.contains(&class), "sync {at}: {found:?}"),
                None => assert!(found.is_empty(), "sync {at}: {found:?}"),
            }
        }
        let out = swallowed(&vault, change, 0, true);
        assert_eq!(harmed(&out, "no whole header"), ALL);
        assert_eq!(harmed(&out, "a header of another time"), ALL);
    }

    /// Writes both copies without what [`header::write`] waits for.
    fn careless(vault: &Vault, write: fn(&SimDisk, &[u8])) -> Outcome {
        let mut after = vault.header.clone();
        (change("slot removed").make)(&mut after, &vault.key);
        let disk = SimDisk::from_now(vault.base.clone());
        write(&disk, &after.encode());
        let headers = vec![Some(vault.header.clone()), Some(after.clone())];
        let run = Run {
            log: disk.log(),
            changes: vec![(0, disk.log_len())],
            ..Run::new("careless", vault.base.clone(), headers)
        };
        let held: Vec<VolumeHeader> = whole_in(&disk.image());
        assert_eq!((held.len(), files(&disk.image()).len()), (2, 2));
        JUDGE.examine(&run)
    }

    #[test]
    fn copies_that_are_written_in_place_at_once_are_noticed() {
        let out = careless(&Vault::new(), |disk, bytes| {
            let meta = disk.open_dir(&disk.root().expect("root"), META);
            let meta = meta.expect("a vault");
            for name in COPIES {
                let file = disk.open(&meta, name.as_bytes(), OpenFor::ReadWrite);
                let file = file.expect("a vault");
                disk.set_len(&file, bytes.len() as u64).expect("a file");
                disk.write_at(&file, bytes, 0).expect("a file");
            }
            disk.sync_all().expect("a disk");
        });
        assert_eq!(harmed(&out, "no whole header"), ALL);
    }

    #[test]
    fn copies_that_get_their_names_before_their_content_is_durable_are_noticed() {
        let out = careless(&Vault::new(), |disk, bytes| {
            let meta = disk.open_dir(&disk.root().expect("root"), META);
            let meta = meta.expect("a vault");
            let tmp = disk.open_dir(&meta, TMP).expect("a vault");
            for name in COPIES.map(str::as_bytes) {
                let file = disk.create(&tmp, name, 0o600).expect("free");
                disk.write_at(&file, bytes, 0).expect("a file");
                let renamed = disk.rename((&tmp, name), (&meta, name), RenameMode::Replace);
                renamed.expect("a file");
            }
            disk.sync_all().expect("a disk");
        });
        assert_eq!(harmed(&out, "no whole header"), ALL);
    }

    /// A mended header that leaves the second copy behind is not mended.
    #[test]
    fn a_copy_that_is_left_behind_is_noticed() {
        let vault = Vault::new();
        let judge = Judge {
            open: &|_, _| Ok(()),
            effort: EFFORT,
        };
        let run = vault.run(&[change("slot removed")], vault.base.clone(), None);
        assert_eq!(
            harmed(&judge.examine(&run), "a copy was not mended"),
            PROFILES
        );
    }
}
