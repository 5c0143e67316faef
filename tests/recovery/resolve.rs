//! Finding files that are not where the journal says.

use std::fs;

use wardfs::format::journal::Record;

use crate::lab::{FINAL, Lab, TURN};

const NEW: &[u8] = b"newer content";

#[test]
fn a_file_that_was_renamed_is_found_by_either_path() {
    let lab = Lab::with(&[("a", b"older content"), ("b", b"another file")]);
    let (a, b) = (lab.find("a"), lab.find("b"));
    for (first, second) in [(&a.rel, &b"A".repeat(43)), (&b"A".repeat(43), &a.rel)] {
        let seq = lab.crash();
        lab.segment(TURN)
            .group(&a, seq, &[(0, NEW, FINAL)], vec![a.place_at(first)])
            .group(&a, seq + 1, &[], vec![a.place_at(second)])
            .write();
        assert_eq!(lab.recover().report.healed.len(), 1);
        assert_eq!(lab.read("a").expect("whole"), NEW);
    }
    // At the path of another file it is not mistaken for that one.
    let seq = lab.crash();
    lab.segment(TURN)
        .group(
            &a,
            seq,
            &[(0, b"the newest one", FINAL)],
            vec![a.place_at(&b.rel)],
        )
        .write();
    lab.recover();
    assert_eq!(lab.read("b").expect("whole"), b"another file");
}

#[test]
fn a_directory_that_was_renamed_leads_to_its_files_whether_that_lasted_or_not() {
    let lab = Lab::with(&[("dir/file", b"older content"), ("other/x", b"x")]);
    let file = lab.find("dir/file");
    let (dir, _) = lab.find_dir("dir");
    let elsewhere = b"B".repeat(43);
    let below = [&elsewhere[..], &file.rel[dir.len()..]].concat();
    let seq = lab.crash();
    let moved = |from: &[u8], to: &[u8]| Record::Moved {
        from: from.to_vec(),
        to: to.to_vec(),
    };
    for record in [moved(&elsewhere, &dir), moved(&dir, &elsewhere)] {
        let mut file = lab.stored(&file.path);
        // An inode number that no one has: only the path can lead there.
        file.ino = u64::MAX;
        lab.segment(TURN)
            .group(&file, seq, &[(0, NEW, FINAL)], vec![file.place_at(&below)])
            .dirs(seq + 1, vec![record])
            .write();
        let report = lab.recover().report;
        assert!(report.orphans.is_empty(), "{report:?}");
    }
    assert_eq!(lab.read("dir/file").expect("whole"), NEW);
}

#[test]
fn a_file_is_found_by_its_inode_number_wherever_it_is() {
    let lab = Lab::with(&[("dir/file", b"older content"), ("other/x", b"x")]);
    let file = lab.find("dir/file");
    for path in [
        &b"C".repeat(43)[..],
        b"",
        b"~wardfs/volume",
        b"../../etc/passwd",
    ] {
        let seq = lab.crash();
        lab.segment(TURN)
            .group(&file, seq, &[(0, NEW, FINAL)], vec![file.place_at(path)])
            .write();
        let report = lab.recover().report;
        assert!(
            report.orphans.is_empty() && report.failed.is_empty(),
            "{report:?}"
        );
    }
    assert_eq!(lab.read("dir/file").expect("whole"), NEW);
}

#[test]
fn of_two_hard_links_one_is_enough() {
    let lab = Lab::with(&[("file", b"older content"), ("x", b"x")]);
    let (file, x) = (lab.find("file"), lab.find("x"));
    // The entry of `x` becomes a link to the file, whose own entry is removed.
    fs::remove_file(&x.path).expect("there");
    fs::hard_link(&file.path, &x.path).expect("free");
    fs::remove_file(&file.path).expect("there");
    let seq = lab.crash();
    lab.segment(TURN)
        .group(&file, seq, &[(0, NEW, FINAL)], vec![file.place()])
        .write();
    let report = lab.recover().report;
    assert_eq!((report.healed.len(), report.orphans.len()), (1, 0));
    assert_eq!(lab.read("x").expect("whole"), NEW);
}

#[test]
fn a_deleted_file_is_no_orphan_and_a_lost_one_is() {
    let lab = Lab::with(&[("a", b"a"), ("b", b"b")]);
    let (a, b) = (lab.find("a"), lab.find("b"));
    let seq = lab.crash();
    lab.segment(TURN)
        .group(&a, seq, &[(0, b"A", FINAL)], vec![a.place()])
        .group(&b, seq + 1, &[(0, b"B", FINAL)], vec![b.place()])
        .group(&a, seq + 2, &[], vec![Record::Gone])
        .write();
    fs::remove_file(&a.path).expect("there");
    fs::remove_file(&b.path).expect("there");
    let recovery = lab.recover();
    assert_eq!(
        (recovery.report.gone, recovery.report.orphans.len()),
        (1, 1)
    );
    assert!(recovery.is_complete());
}

#[test]
fn an_unlink_that_did_not_last_leaves_a_whole_file() {
    let lab = Lab::with(&[("a", b"a")]);
    let a = lab.find("a");
    let seq = lab.crash();
    lab.segment(TURN)
        .group(&a, seq, &[(0, b"A", FINAL)], vec![a.place()])
        .group(&a, seq + 1, &[], vec![Record::Gone])
        .write();
    a.write_at(70, b"torn");
    lab.recover();
    assert_eq!(lab.read("a").expect("whole"), b"A");
}
