//! Groups of the journal and the files they are about.

use wardfs::format::journal::Record;
use wardfs::store::recovery::Origin;
use wardfs::store::recovery::view::Laid;
use wardfs::store::volume::Access;

use crate::lab::{C, FINAL, INNER, Lab, RETIRED, TURN, chunk_at, forged, read_file};

fn three_chunks() -> Vec<u8> {
    [vec![1; C], vec![2; C], vec![3; 100]].concat()
}

/// A vault with a file of three chunks, whose middle one was overwritten when the power went.
fn overwritten() -> (Lab, crate::lab::Stored) {
    let lab = Lab::with(&[("file", &three_chunks())]);
    let file = lab.find("file");
    let seq = lab.crash();
    lab.segment(TURN)
        .group(&file, seq, &[(1, &[9; C], INNER)], vec![file.place()])
        .write();
    file.tear(1);
    (lab, file)
}

#[test]
fn a_torn_chunk_is_replaced_and_a_second_time_nothing_is_left_to_do() {
    let (lab, _) = overwritten();
    let report = lab.recover().report;
    assert_eq!((report.groups, report.healed.len()), (1, 1));
    assert_eq!(report.healed[0].chunks, 1);
    assert!(report.cut.is_empty() && report.damaged.is_empty());
    let before = lab.snapshot();
    let report = lab.recover().report;
    assert_eq!((report.groups, report.healed.len()), (1, 0));
    assert_eq!(lab.snapshot(), before);
    let expected = [vec![1; C], vec![9; C], vec![3; 100]].concat();
    assert_eq!(lab.read("file").expect("whole"), expected);
}

#[test]
fn read_only_the_vault_is_not_touched_and_the_views_hold_what_would_be_written() {
    let (lab, file) = overwritten();
    let before = lab.snapshot();
    let recovery = lab.recover_as(Origin::InPlace, false);
    assert_eq!(lab.snapshot(), before);
    let view = &recovery.views[&file.ino];
    let laid = view.chunk(wardfs::crypto::ChunkNo(1));
    assert!(matches!(laid, Laid::Stored(bytes) if bytes.len() == C + 40));
    assert_eq!(view.chunk(wardfs::crypto::ChunkNo(0)), Laid::InPlace);
    let fs = lab.open_for(Access::ReadOnly);
    let expected = [vec![1; C], vec![9; C], vec![3; 100]].concat();
    assert_eq!(read_file(&fs, "file").expect("whole"), expected);
    drop(fs);
    assert_eq!(lab.snapshot(), before);
}

#[test]
fn opening_the_volume_recovers_it_and_calls_the_turns_done_with() {
    let (lab, _) = overwritten();
    let fs = lab.open();
    let expected = [vec![1; C], vec![9; C], vec![3; 100]].concat();
    assert_eq!(read_file(&fs, "file").expect("whole"), expected);
    assert!(lab.superblock().retired_turn >= TURN);
    fs.close().expect("complete");
}

#[test]
fn groups_of_other_turns_and_what_follows_a_bad_one_do_not_count() {
    let lab = Lab::with(&[("file", &three_chunks())]);
    let file = lab.find("file");
    let change = |byte: u8| vec![byte; 100];
    let read_after = |prepare: &dyn Fn(u64)| {
        let seq = lab.crash();
        prepare(seq);
        let before = lab.snapshot();
        let groups = lab.recover().report.groups;
        (groups, lab.snapshot() == before)
    };
    let group = |turn, seq, byte| {
        lab.segment(turn)
            .group(&file, seq, &[(2, &change(byte), FINAL)], vec![file.place()])
    };
    // Done with; too far ahead.
    for turn in [RETIRED, RETIRED - 1, RETIRED + 3] {
        assert_eq!(
            read_after(&|seq| group(turn, seq, 7).write()),
            (0, true),
            "turn {turn}"
        );
    }
    // In the other turn's segment.
    let misplaced = |seq| lab.write_segment(TURN + 1, &group(TURN, seq, 7).bytes);
    assert_eq!(read_after(&misplaced), (0, true));
    // Not from the beginning on.
    let headless = |seq| {
        lab.segment(TURN)
            .skip_index()
            .group(&file, seq, &[(2, &change(7), FINAL)], vec![file.place()])
            .write();
    };
    assert_eq!(read_after(&headless), (0, true));
    // Made by someone else.
    let foreign = |seq| lab.write_segment(TURN, &forged(&file, seq));
    assert_eq!(read_after(&foreign), (0, true));
    // Torn: every sector of it.
    let len = group(TURN, 1, 7).bytes.len();
    for at in (0..len).step_by(512) {
        let torn = |seq| {
            let mut bytes = group(TURN, seq, 7).bytes;
            bytes[at..at + 512].fill(0xee);
            lab.write_segment(TURN, &bytes);
        };
        assert_eq!(read_after(&torn), (0, true), "sector at {at}");
        let cut = |seq| lab.write_segment(TURN, &group(TURN, seq, 7).bytes[..at]);
        assert_eq!(read_after(&cut), (0, true), "cut at {at}");
    }
    // One that follows a gap in the numbers.
    let gap = |seq| {
        group(TURN, seq, 7)
            .skip_index()
            .group(&file, seq + 1, &[(2, &change(8), FINAL)], Vec::new())
            .write();
    };
    assert_eq!(read_after(&gap), (1, false));
    assert_eq!(lab.read("file").expect("whole")[2 * C..], change(7));
}

#[test]
fn the_second_live_turn_comes_after_the_first() {
    let lab = Lab::with(&[("file", &three_chunks())]);
    let file = lab.find("file");
    let seq = lab.crash();
    let short = Record::Size {
        size: C as u64 + 10,
    };
    lab.segment(TURN)
        .group(&file, seq, &[(0, &[7; C], INNER)], vec![file.place()])
        .group(&file, seq + 1, &[(1, &[8; 10], FINAL)], vec![short])
        .write();
    lab.segment(TURN + 1)
        .group(&file, seq + 2, &[(1, &[9; 10], FINAL)], vec![file.place()])
        .write();
    let recovery = lab.recover();
    assert_eq!(recovery.report.groups, 3);
    assert_eq!(recovery.last_turn, TURN + 1);
    assert_eq!(
        lab.read("file").expect("whole"),
        [vec![7; C], vec![9; 10]].concat()
    );
}

#[test]
fn turns_that_may_have_begun_are_not_used_again() {
    let lab = Lab::with(&[("file", b"content")]);
    lab.crash();
    assert_eq!(lab.recover().last_turn, RETIRED + 2);
    // An older life of a segment, from before the superblock was lost and made anew.
    lab.segment(77).dirs(1, Vec::new()).write();
    assert_eq!(lab.recover().last_turn, 77);
}

#[test]
fn a_volume_that_was_closed_in_order_replays_nothing_older() {
    let (lab, _) = overwritten();
    lab.change_superblock(|block| block.clean = true);
    let before = lab.snapshot();
    assert_eq!(lab.recover().report.groups, 0);
    assert_eq!(lab.snapshot(), before);
}

#[test]
fn growth_whose_direct_part_is_torn_is_cut_where_it_is() {
    let lab = Lab::with(&[("file", &three_chunks())]);
    let file = lab.find("file");
    let seq = lab.crash();
    let full = [vec![3; 100], vec![4; C - 100]].concat();
    let stable = Record::Extends {
        stable: 2 * C as u64 + 100,
    };
    lab.segment(TURN)
        .group(&file, seq, &[(2, &full, INNER)], vec![file.place(), stable])
        .write();
    for no in 3..9 {
        file.put(no, seq + 1, &[4; C], INNER);
    }
    file.put(9, seq + 1, &[4; 33], FINAL);
    file.tear(6);
    let report = lab.recover().report;
    assert_eq!(report.cut.len(), 1);
    let size = 9 * C as u64 + 33;
    assert_eq!((report.cut[0].from, report.cut[0].to), (size, 6 * C as u64));
    assert!(lab.recover().report.cut.is_empty());
    let expected = [three_chunks(), vec![4; 4 * C - 100]].concat();
    assert_eq!(lab.read("file").expect("whole"), expected);
}

#[test]
fn a_file_that_cannot_be_written_does_not_stop_the_others() {
    let lab = Lab::with(&[("a", &three_chunks()), ("b", &three_chunks())]);
    let (a, b) = (lab.find("a"), lab.find("b"));
    let seq = lab.crash();
    lab.segment(TURN)
        .group(&a, seq, &[(0, &[7; C], INNER)], vec![a.place()])
        .group(&b, seq + 1, &[(0, &[8; C], INNER)], vec![b.place()])
        .write();
    // The journal ends before the image that is wanted, as if its disk could not be read there.
    let before = std::fs::read(&a.path).expect("there");
    a.write_at(chunk_at(0), &a.seal(0, seq + 9, &[5; C], INNER));
    let recovery = lab.recover();
    assert!(recovery.is_complete());
    // What is in place is newer than the journal: it stays.
    assert_ne!(std::fs::read(&a.path).expect("there"), before);
    assert_eq!(lab.read("a").expect("whole")[..C], [5; C]);
    assert_eq!(lab.read("b").expect("whole")[..C], [8; C]);
}

#[test]
fn many_small_records_take_one_write_each_run_and_no_more() {
    let content = vec![1; 200 * C + 1];
    let lab = Lab::with(&[("file", &content)]);
    let file = lab.find("file");
    let seq = lab.crash();
    let rounds: u64 = std::env::var("WARDFS_TEST_ROUNDS")
        .ok()
        .and_then(|r| r.parse().ok())
        .unwrap_or(20_000);
    let mut segment = lab.segment(TURN).group(&file, seq, &[], vec![file.place()]);
    for i in 0..rounds {
        // The last chunk is one byte long.
        let byte = [i as u8];
        segment = segment.group(&file, seq + 1 + i, &[(200, &byte, FINAL)], Vec::new());
    }
    segment.write();
    let report = lab.recover().report;
    assert_eq!(report.groups, rounds + 1);
    assert_eq!(report.healed[0].chunks, 1);
    assert_eq!(
        lab.read("file").expect("whole").last(),
        Some(&((rounds - 1) as u8))
    );
}
