//! Copies that were made while the vault was in use.

use wardfs::format::journal::Record;
use wardfs::store::recovery::Origin;

use crate::lab::{C, INNER, Lab, TURN};

#[test]
fn files_are_found_by_their_headers_where_inode_numbers_are_others() {
    let lab = Lab::with(&[("dir/file", &[1; 3 * C]), ("x", b"x")]);
    let file = lab.find("dir/file");
    let seq = lab.crash();
    let lost = file.place_at(&b"D".repeat(43));
    lab.segment(TURN)
        .group(&file, seq, &[(1, &[7; C], INNER)], vec![lost])
        .write();
    let copy = lab.copy();
    let recovery = copy.recover_as(Origin::Copy, true);
    assert!(recovery.report.orphans.is_empty(), "{:?}", recovery.report);
    let content = copy.read("dir/file").expect("whole");
    assert_eq!(content[C..2 * C], [7; C]);
}

#[test]
fn what_is_damaged_without_a_record_is_named_and_left() {
    let lab = Lab::with(&[("file", &[1; 3 * C]), ("fine", &[2; 3 * C])]);
    let file = lab.find("file");
    lab.crash();
    lab.segment(TURN)
        .dirs(
            1,
            vec![Record::Moved {
                from: b"a".to_vec(),
                to: b"b".to_vec(),
            }],
        )
        .write();
    file.tear(1);
    let copy = lab.copy();
    let before = copy.snapshot();
    let report = copy.recover_as(Origin::Copy, true).report;
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    assert!(report.cut.is_empty());
    assert_eq!(copy.snapshot(), before);
}
