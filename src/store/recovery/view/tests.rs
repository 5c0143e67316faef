//! A file under a writer that keeps the rules of the journal, and under power cuts.

use super::*;
use crate::format::file::HEADER_LEN;
use lab::{C, FINAL, INNER, Lab, SPARSE, apply, fill, geometry, read, start};

mod lab;
mod power_cuts;

#[test]
fn an_image_replaces_a_torn_chunk_and_an_older_one_but_not_a_newer_one() {
    let mut lab = Lab::new();
    for no in 0..3 {
        lab.put(no, 10, &fill(1, C), INNER);
    }
    lab.put(3, 10, &fill(1, 9), FINAL);
    lab.image(0, 120, &fill(2, C), INNER);
    lab.stored.data[start(0) + 50] ^= 1;
    lab.image(1, 121, &fill(3, C), INNER);
    lab.image(2, 122, &fill(4, C), INNER);
    lab.put(2, 130, &fill(5, C), INNER);
    let expected = [fill(2, C), fill(3, C), fill(5, C), fill(1, 9)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn of_several_images_the_newest_counts_whatever_their_order() {
    let mut lab = Lab::new();
    lab.put(0, 10, b"old", FINAL);
    lab.image(0, 122, b"new", FINAL);
    lab.image(0, 121, b"mid", FINAL);
    assert_eq!(lab.recovered(), b"new");
}

#[test]
fn a_broken_end_of_which_the_journal_says_nothing_is_left_alone() {
    let mut lab = Lab::new();
    lab.put(0, 10, &fill(1, C), INNER);
    lab.put(1, 10, &fill(1, 80), FINAL);
    lab.stored.data.truncate(start(1) + 60);
    lab.image(0, 120, &fill(2, C), INNER);
    let outcome = lab.build();
    let view = outcome.view.expect("the image");
    assert_eq!(view.size, None);
    assert_eq!(view.chunks.keys().collect::<Vec<_>>(), [&0]);
    assert_eq!(outcome.cut, None);
}

#[test]
fn growth_in_the_journal_needs_nothing_in_place() {
    let mut lab = Lab::new();
    lab.put(0, 10, &fill(1, 100), FINAL);
    lab.image(0, 120, &[fill(1, 100), fill(2, C - 100)].concat(), INNER);
    lab.image(1, 120, &fill(2, 50), FINAL);
    lab.history.resized(WriteSeq(120), C as u64 + 50);
    assert_eq!(lab.recovered(), [fill(1, 100), fill(2, C - 50)].concat());
}

#[test]
fn a_shrink_ends_the_life_of_what_was_behind_it_even_if_the_file_grew_again() {
    let mut lab = Lab::new();
    for no in 0..5 {
        lab.put(no, 10, &fill(1, C), INNER);
    }
    lab.put(5, 10, &fill(1, 5), FINAL);
    lab.image(3, 119, &fill(9, C), INNER);
    lab.image(1, 120, &fill(1, 10), FINAL);
    lab.history.resized(WriteSeq(120), C as u64 + 10);
    lab.image(1, 121, &[fill(1, 10), fill(0, C - 10)].concat(), INNER);
    lab.image(4, 121, &fill(0, 7), SPARSE);
    lab.history.resized(WriteSeq(121), 4 * C as u64 + 7);
    let expected = [fill(1, C + 10), fill(0, 3 * C - 3)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn punched_chunks_are_holes_unless_they_were_written_since() {
    let mut lab = Lab::new();
    for no in 0..4 {
        lab.put(no, 10, &fill(1, C), INNER);
    }
    lab.put(4, 10, &fill(1, 5), FINAL);
    lab.image(1, 119, &fill(9, C), INNER);
    lab.image(4, 120, &fill(1, 5), SPARSE);
    lab.history.punched(WriteSeq(120), 1, 4);
    lab.image(2, 121, &fill(3, C), INNER);
    let expected = [fill(1, C), fill(0, C), fill(3, C), fill(0, C), fill(1, 5)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn an_extension_of_which_nothing_arrived_is_cut_back_to_the_byte() {
    let mut lab = Lab::new();
    lab.put(0, 10, &fill(1, C), INNER);
    lab.put(1, 10, &fill(1, 100), FINAL);
    lab.image(1, 120, &[fill(1, 100), fill(2, C - 100)].concat(), INNER);
    lab.history.extends(WriteSeq(120), C as u64 + 100);
    assert_eq!(lab.recovered(), fill(1, C + 100));
}

#[test]
fn an_extension_is_kept_up_to_the_first_chunk_that_is_bad() {
    for (bad, kept) in [(2, 1), (3, 2), (4, 3), (9, 5)] {
        let mut lab = Lab::new();
        lab.put(0, 10, &fill(1, C), FINAL);
        lab.image(0, 120, &fill(1, C), INNER);
        lab.history.extends(WriteSeq(120), C as u64);
        for no in 1..4 {
            lab.put(no, 121, &fill(2, C), INNER);
        }
        lab.put(4, 121, &fill(2, C), FINAL);
        // A torn last chunk claims to be the last one; a missing one is zero.
        match bad {
            2 => lab.stored.data[start(1)..start(2)].fill(0),
            9 => {}
            _ => lab.stored.data[start(bad - 1) + 600] ^= 1,
        }
        let expected = [fill(1, C), fill(2, (kept - 1) * C)].concat();
        assert_eq!(lab.recovered(), expected, "bad {bad}");
    }
}

#[test]
fn an_empty_file_that_was_to_grow_is_empty_again() {
    for told in [false, true] {
        let mut lab = Lab::new();
        lab.put(0, 10, b"", FINAL);
        if told {
            lab.image(0, 120, &fill(1, C), INNER);
        }
        lab.history.extends(WriteSeq(120), 0);
        assert_eq!(lab.recovered(), b"", "told {told}");
    }
}

#[test]
fn a_kill_between_the_old_last_chunk_and_the_next_ones_loses_nothing() {
    let mut lab = Lab::new();
    lab.history.fresh = true;
    lab.put(0, 120, &fill(1, C), INNER);
    lab.put(1, 121, &fill(2, C), INNER);
    assert_eq!(lab.recovered(), [fill(1, C), fill(2, C)].concat());
}

#[test]
fn a_kill_between_a_new_end_and_the_cut_loses_nothing() {
    let mut lab = Lab::new();
    lab.history.fresh = true;
    for no in 0..3 {
        lab.put(no, 120, &fill(1, C), INNER);
    }
    lab.put(3, 120, &fill(1, 500), FINAL);
    lab.put(1, 121, &fill(1, 700), FINAL);
    assert_eq!(lab.recovered(), fill(1, C + 700));
}

#[test]
fn a_new_file_of_which_only_the_header_arrived_is_empty() {
    let mut lab = Lab::new();
    lab.history.fresh = true;
    assert_eq!(lab.recovered(), b"");
    lab.stored.data.truncate(HEADER_LEN);
    lab.stored.data.resize(start(2), 0);
    assert_eq!(lab.recovered(), b"");
}

#[test]
fn holes_of_a_new_file_are_kept_if_its_last_chunk_knows_of_them() {
    for (flags, len) in [(SPARSE, 3 * C + 9), (FINAL, C)] {
        let mut lab = Lab::new();
        lab.history.fresh = true;
        lab.put(0, 120, &fill(1, C), INNER);
        lab.put(3, 120, &fill(1, 9), flags);
        let content = lab.recovered();
        assert_eq!(content.len(), len);
        assert!(content[..C].iter().all(|b| *b == 1));
    }
}

#[test]
fn an_old_file_is_not_cut_as_a_new_one() {
    let mut lab = Lab::new();
    lab.history.fresh = true;
    lab.put(0, 10, &fill(1, C), INNER);
    lab.put(1, 10, &fill(1, C), FINAL);
    assert!(lab.build().view.is_none());
    lab.stored.data[start(1) + 77] ^= 4;
    let outcome = lab.build();
    assert!(outcome.damaged && outcome.view.is_none() && outcome.cut.is_none());
    // Also where only its first nonce is left to tell.
    lab.stored.data[start(0) + 77] ^= 4;
    assert!(lab.build().damaged);
}

#[test]
fn holes_that_were_there_before_an_extension_are_not_taken_for_lost_data() {
    let mut lab = Lab::new();
    lab.history.fresh = true;
    // Written and synced as a new file with holes; then it grew, and the growth was torn.
    lab.put(0, 120, &fill(1, C), INNER);
    lab.put(3, 121, &fill(2, 50), SPARSE);
    lab.image(3, 130, &[fill(2, 50), fill(3, C - 50)].concat(), INNER);
    lab.history.extends(WriteSeq(130), 3 * C as u64 + 50);
    lab.put(4, 131, &fill(3, C), FINAL);
    lab.stored.data[start(4) + 2000] ^= 1;
    let expected = [fill(1, C), fill(0, 2 * C), fill(2, 50)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn a_cut_file_with_older_holes_still_says_that_it_has_some() {
    let mut lab = Lab::new();
    lab.put(0, 10, &fill(1, C), INNER);
    lab.put(2, 10, &fill(1, 5), SPARSE);
    lab.image(2, 120, &[fill(1, 5), fill(2, C - 5)].concat(), INNER);
    lab.history.extends(WriteSeq(120), 2 * C as u64 + 5);
    let expected = [fill(1, C), fill(0, C), fill(1, 5)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn stale_chunks_do_not_come_back_when_a_cut_was_lost() {
    let mut lab = Lab::new();
    for no in 0..6 {
        lab.put(no, 10, &fill(9, C), INNER);
    }
    lab.put(6, 10, &fill(9, C), FINAL);
    lab.image(1, 120, &fill(1, 10), FINAL);
    lab.history.resized(WriteSeq(120), C as u64 + 10);
    lab.image(1, 130, &[fill(1, 10), fill(2, C - 10)].concat(), INNER);
    lab.history.extends(WriteSeq(130), C as u64 + 10);
    lab.put(2, 131, &fill(2, C), INNER);
    let expected = [fill(9, C), fill(1, 10), fill(2, 2 * C - 10)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn images_that_are_not_what_was_written_are_refused() {
    let mut lab = Lab::new();
    lab.put(0, 10, &fill(1, C), INNER);
    lab.put(1, 10, &fill(1, 9), FINAL);
    lab.image(0, 120, &fill(2, C), INNER);
    lab.image(1, 120, &fill(2, 9), FINAL);
    // One was changed; the other is one that was written at another time.
    lab.stored.images[0][99] ^= 1;
    lab.stored.images[1] = lab.seal(1, 119, &fill(3, 9), FINAL);
    let outcome = lab.build();
    assert_eq!(outcome.refused, 2);
    assert!(outcome.view.is_none());
}

#[test]
fn a_view_of_a_huge_hole_is_small() {
    let mut lab = Lab::new();
    let size = 1u64 << 50;
    lab.put(0, 10, &fill(1, 3), FINAL);
    lab.image(0, 120, &[fill(1, 3), fill(0, C - 3)].concat(), INNER);
    let last = geometry().last_chunk(size).0;
    lab.image(last, 120, &fill(0, C), SPARSE);
    lab.history.resized(WriteSeq(120), size);
    lab.history.extends(WriteSeq(90), 3);
    let view = lab.build().view.expect("it has to grow");
    assert_eq!(view.size, Some(size));
    assert_eq!((view.chunks.len(), view.holes.len()), (2, 0));
}

#[test]
fn a_file_that_is_taken_for_new_but_was_there_before_gets_its_images() {
    let mut lab = Lab::new();
    lab.history.fresh = true;
    lab.put(0, 10, &fill(1, C), INNER);
    lab.put(1, 10, &fill(1, C), FINAL);
    lab.image(0, 119, &fill(2, C), INNER);
    lab.image(1, 120, &fill(3, C), INNER);
    lab.history.extends(WriteSeq(120), 2 * C as u64);
    lab.put(2, 121, &fill(4, C), INNER);
    lab.put(3, 121, &fill(4, C), FINAL);
    lab.stored.data[start(3) + 900] ^= 1;
    let expected = [fill(2, C), fill(3, C), fill(4, C)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn an_end_that_cannot_be_explained_keeps_no_other_image_from_its_place() {
    let mut lab = Lab::new();
    lab.put(0, 10, &fill(1, C), INNER);
    lab.put(1, 10, &fill(1, C), INNER);
    lab.put(2, 10, &fill(1, 10), FINAL);
    lab.image(0, 120, &fill(2, C), INNER);
    lab.image(1, 121, &fill(3, 10), FINAL);
    lab.history.resized(WriteSeq(121), C as u64 + 10);
    lab.stored.images[1][45] ^= 1;
    lab.stored.data[start(1) + 77] ^= 1;
    let outcome = lab.build();
    assert!(outcome.damaged && outcome.refused > 0);
    let view = outcome.view.expect("the other image");
    assert_eq!(view.size, None);
    assert_eq!(view.chunks.keys().collect::<Vec<_>>(), [&0]);
}

#[test]
fn in_a_copy_the_data_file_may_be_ahead_of_the_journal() {
    for shrunk in [false, true] {
        let mut lab = Lab::new();
        lab.limits.may_be_ahead = true;
        lab.image(0, 119, &fill(6, C), INNER);
        lab.image(1, 120, &fill(1, C), INNER);
        lab.image(2, 120, &fill(2, 10), FINAL);
        lab.history.resized(WriteSeq(120), 2 * C as u64 + 10);
        lab.put(0, 10, &fill(1, C), INNER);
        lab.put(1, 130, &fill(3, C), if shrunk { FINAL } else { INNER });
        let mut expected = [fill(6, C), fill(3, C)].concat();
        if !shrunk {
            lab.put(2, 131, &fill(4, C), INNER);
            lab.put(3, 131, &fill(5, 7), FINAL);
            expected.extend([fill(4, C), fill(5, 7)].concat());
        }
        let outcome = lab.build();
        apply(&outcome.view.expect("one image"), &mut lab.stored.data);
        assert_eq!(read(&lab.keys, &lab.stored.data), Ok(expected));
    }
}

#[test]
fn in_a_copy_a_torn_chunk_costs_nothing_of_what_lies_behind_it() {
    for (flags, torn) in [(FINAL, vec![2]), (SPARSE, vec![2]), (FINAL, vec![1, 2])] {
        for told in [false, true] {
            let mut lab = Lab::new();
            lab.limits.may_be_ahead = true;
            lab.history.fresh = true;
            for no in 0..4 {
                lab.put(no, 120 + no, &fill(no as u8 + 1, C), INNER);
            }
            lab.put(4, 124, &fill(5, 9), flags);
            if told {
                lab.image(3, 130, &fill(9, C), INNER);
            }
            for no in &torn {
                lab.stored.data[start(*no) + 600] ^= 1;
            }
            let before = lab.stored.data.clone();
            let outcome = lab.build();
            assert!(outcome.torn_inside && !outcome.damaged);
            assert_eq!(outcome.cut, None);
            if let Some(view) = &outcome.view {
                assert!(told && view.chunks.keys().eq([&3]) && view.holes.is_empty());
                assert_eq!(view.size, None);
            }
            assert_eq!(outcome.view.is_some(), told);
            assert_eq!(lab.stored.data, before);
        }
    }
}

#[test]
fn in_a_copy_a_torn_end_is_cut() {
    let mut lab = Lab::new();
    lab.limits.may_be_ahead = true;
    lab.history.fresh = true;
    for no in 0..4 {
        lab.put(no, 120, &fill(1, C), INNER);
    }
    lab.stored.data[start(1) + 600] ^= 1;
    lab.stored.data[start(3) + 600] ^= 1;
    let outcome = lab.build();
    assert_eq!(outcome.cut, Some((4 * C as u64, 3 * C as u64)));
    assert!(outcome.torn_inside);
}
