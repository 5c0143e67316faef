//! Disks that refuse a call during recovery: the other files are recovered, the one that is not is named, and nothing of
//! the journal is given up before all of them are.

use wardfs::store::recovery::Origin;
use wardfs::store::volume::{Access, VolumeError};

use crate::lab::{C, FINAL, INNER, Lab, RETIRED, Stored, TURN};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Three files whose first chunks were overwritten, and are torn; one of them was to grow.
fn torn() -> (Lab, Vec<Stored>) {
    let old = [vec![1; C], vec![1; 100]].concat();
    let lab = Lab::with(&NAMES.map(|name| (name, &old[..])));
    let files: Vec<Stored> = NAMES.iter().map(|name| lab.find(name)).collect();
    let seq = lab.crash();
    let mut segment = lab.segment(TURN);
    for (file, seq) in files.iter().zip(seq..) {
        let images = [(0, &[9; C][..], INNER), (1, &[9; 100], FINAL)];
        segment = segment.group(file, seq, &images, vec![file.place()]);
        file.tear(0);
    }
    segment.write();
    (lab, files)
}

fn all_are_there(lab: &Lab) {
    for name in NAMES {
        assert!(
            lab.read(name).expect("whole").iter().all(|b| *b == 9),
            "{name}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_or_written_is_named_and_the_others_are_recovered() {
    for errno in [libc::EIO, libc::ENOSPC] {
        for call in ["open", "write_at"] {
            let (lab, files) = torn();
            let disk = lab.watched();
            match call {
                "open" => disk.watch.refuse_to_open(files[1].name(), errno),
                _ => disk.watch.refuse_one(call, errno, 1),
            }
            let recovery = lab.recover_on(&disk, Origin::InPlace, true);
            let report = &recovery.report;
            assert!(!recovery.is_complete(), "{call}: {report:?}");
            let [failed] = &report.failed[..] else {
                panic!("{call}: {report:?}");
            };
            let is_failed = |file: &&Stored| file.rel == failed.path.as_bytes();
            assert_eq!(files.iter().filter(is_failed).count(), 1, "{report:?}");
            let again = lab.recover().report;
            assert_eq!(
                (again.healed.len(), again.failed.len()),
                (1, 0),
                "{again:?}"
            );
            assert_eq!(again.healed[0].path, failed.path);
            all_are_there(&lab);
        }
    }
}

#[test]
fn a_mount_that_could_not_recover_a_file_keeps_the_journal_for_the_next_one() {
    for errno in [libc::EIO, libc::ENOSPC] {
        let (lab, _) = torn();
        let disk = lab.watched();
        // The superblock is written first.
        disk.watch.refuse_one("write_at", errno, 1);
        match lab.volume(disk, Access::ReadWrite).map(drop) {
            Err(VolumeError::Unrecovered(report)) => assert_eq!(report.failed.len(), 1),
            other => panic!("{other:?}"),
        }
        assert_eq!(lab.superblock().retired_turn, RETIRED);
        // Read-only, everything is there already.
        let fs = lab.open_for(Access::ReadOnly);
        for name in NAMES {
            let content = crate::lab::read_file(&fs, name).expect("whole");
            assert!(content.iter().all(|b| *b == 9), "{name}");
        }
        drop(fs);
        all_are_there(&lab);
        assert!(lab.superblock().retired_turn > RETIRED);
    }
}

#[test]
fn whichever_call_of_a_mount_fails_the_next_mount_has_everything() {
    let calls = [
        "open", "open_dir", "list", "stat", "seek", "read_at", "write_at", "set_len", "sync",
        "sync_all",
    ];
    let (mut failed, mut refused) = (0, 0);
    for call in calls {
        for skip in 0.. {
            let (lab, _) = torn();
            let disk = lab.watched();
            let watch = disk.watch.clone();
            watch.refuse_one(call, libc::EIO, skip);
            failed += u64::from(lab.volume(disk, Access::ReadWrite).is_err());
            if watch.is_refusing() {
                break;
            }
            refused += 1;
            all_are_there(&lab);
        }
    }
    eprintln!("{refused} calls refused, {failed} mounts failed");
    assert!(failed > 10);
}
