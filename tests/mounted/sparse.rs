//! Holes, preallocation and copies that know of holes.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use rustix::fs::{FallocateFlags, SeekFrom, copy_file_range, fallocate, seek};

use crate::common::run;
use crate::fixture::{
    DATA_KINDS, Kind, NOWRITEBACK, PLAIN, XCHACHA_64K, assert_content, assert_errno, bytes,
    on_each, write_both,
};

const MIB: usize = 1 << 20;
const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
const KINDS: [Kind; 3] = [PLAIN, NOWRITEBACK, XCHACHA_64K];

fn open(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .expect("ours")
}

/// The stretches of data as SEEK_DATA and SEEK_HOLE tell them.
fn stretches(file: &File) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Ok(begin) = seek(file, SeekFrom::Data(at)) {
        at = seek(file, SeekFrom::Hole(begin)).expect("there is a hole at the end");
        assert!(at > begin, "no progress at {begin}");
        found.push((begin, at));
    }
    found
}

#[test]
fn a_hole_takes_no_space() {
    on_each(&KINDS, |place| {
        let path = place.join("file");
        let file = open(&path);
        file.write_all_at(b"end", 1 << 30).expect("there is room");
        drop(file);
        place.remount();
        let meta = fs::metadata(&path).expect("it is there");
        assert_eq!(meta.len(), (1 << 30) + 3);
        assert!(place.stored_blocks(&path) < 1000);
        assert!(meta.blocks() < 1000);
        let mut seen = [1; 8192];
        let file = File::open(&path).expect("it is there");
        for off in [0, 4096 * 1000, (1 << 30) - 8192] {
            file.read_exact_at(&mut seen, off).expect("inside");
            assert_eq!(seen, [0; 8192]);
        }
    });
}

#[test]
fn seeking_tells_data_from_holes() {
    on_each(&KINDS, |place| {
        let path = place.join("file");
        let file = open(&path);
        file.set_len(4 * MIB as u64).expect("there is room");
        file.write_all_at(&bytes(1, MIB), MIB as u64)
            .expect("there is room");
        // The last chunk is always stored; 64 KiB is the largest.
        let check = |file: &File| {
            let told = stretches(file);
            assert_eq!(told[0], (MIB as u64, 2 * MIB as u64), "{told:?}");
            assert_eq!(told.len(), 2, "{told:?}");
            assert!(
                told[1].0 >= (4 * MIB - 65536) as u64 && told[1].1 == 4 * MIB as u64,
                "{told:?}"
            );
            assert_eq!(seek(file, SeekFrom::Hole(0)).expect("a hole"), 0);
            assert_eq!(
                seek(file, SeekFrom::Data(MIB as u64 + 5)).expect("data"),
                MIB as u64 + 5
            );
            assert_errno(seek(file, SeekFrom::Data(4 * MIB as u64)), libc::ENXIO);
            assert_errno(seek(file, SeekFrom::Hole(5 * MIB as u64)), libc::ENXIO);
        };
        check(&file);
        drop(file);
        place.remount();
        check(&File::open(&path).expect("it is there"));
    });
}

#[test]
fn seeking_finds_data_that_was_just_written() {
    on_each(&KINDS, |place| {
        let file = open(&place.join("file"));
        file.set_len(64 * MIB as u64).expect("there is room");
        for i in [3u64, 17, 40, 41] {
            let at = i * MIB as u64;
            file.write_all_at(&bytes(i, 10), at + 100)
                .expect("there is room");
            let begin = seek(&file, SeekFrom::Data(at - MIB as u64 / 2)).expect("data");
            assert!(
                begin <= at + 100 && begin >= at - 65536,
                "data at {} but {begin} was told",
                at + 100
            );
        }
    });
}

#[test]
fn a_copy_by_holes_of_a_file_being_written_is_complete() {
    on_each(&KINDS, |place| {
        let file = open(&place.join("file"));
        let mut model = vec![0; 10 * MIB];
        file.set_len(10 * MIB as u64).expect("there is room");
        for (i, off) in [0, 5000, 3 * MIB + 1, 7 * MIB - 1, 9 * MIB]
            .into_iter()
            .enumerate()
        {
            write_both(&file, &mut model, off, &bytes(i as u64, 20_000));
        }
        for how in ["always", "auto"] {
            let copy = place.vault().dir().join(format!("copy-{how}"));
            let _ = fs::remove_file(&copy);
            let sparse = format!("--sparse={how}");
            run(Command::new("cp")
                .args(["--reflink=never", &sparse])
                .arg(place.join("file"))
                .arg(&copy))
            .ok();
            assert_content(&copy, &model);
            run(Command::new("cp")
                .arg(&sparse)
                .arg(place.join("file"))
                .arg(place.join(how)))
            .ok();
            assert_content(&place.join(how), &model);
        }
        drop(file);
        place.remount();
        assert_content(&place.join("always"), &model);
        assert_content(&place.join("file"), &model);
        assert!(place.stored_blocks(&place.join("always")) < 2 * 1000);
    });
}

#[test]
fn a_hole_can_be_filled_in_any_pieces() {
    on_each(&KINDS, |place| {
        let path = place.join("file");
        let file = open(&path);
        let mut model = Vec::new();
        write_both(&file, &mut model, 3 * MIB, b"end");
        for (i, off) in [
            10,
            4000,
            5000,
            70_000,
            65_530,
            MIB,
            2 * MIB + 7,
            3 * MIB - 5,
        ]
        .into_iter()
        .enumerate()
        {
            write_both(&file, &mut model, off, &bytes(i as u64, 100 + i * 1111));
            file.sync_all().expect("writable");
        }
        drop(file);
        assert_content(&path, &model);
        place.remount();
        assert_content(&path, &model);
        let file = open(&path);
        for (i, off) in [200_000, 300_001, 1].into_iter().enumerate() {
            write_both(&file, &mut model, off, &bytes(i as u64, 9));
        }
        drop(file);
        place.remount();
        assert_content(&path, &model);
    });
}

#[test]
fn punching_a_hole_zeroes_exactly_its_range_and_frees_space() {
    on_each(&KINDS, |place| {
        let ranges = [
            (0, 1),
            (4095, 2),
            (10_000, 10_000),
            (100_000, MIB),
            (2 * MIB, 2 * MIB),
            (4 * MIB - 10, 100),
        ];
        for (i, (off, len)) in ranges.into_iter().enumerate() {
            let path = place.join(i.to_string());
            let mut model = bytes(i as u64, 4 * MIB);
            fs::write(&path, &model).expect("there is room");
            let file = open(&path);
            fallocate(&file, PUNCH, off as u64, len as u64).expect("supported");
            drop(file);
            let end = model.len().min(off + len);
            model[off..end].fill(0);
            assert_content(&path, &model);
        }
        place.remount();
        for (i, (off, len)) in ranges.into_iter().enumerate() {
            let path = place.join(i.to_string());
            let mut model = bytes(i as u64, 4 * MIB);
            let end = model.len().min(off + len);
            model[off..end].fill(0);
            assert_content(&path, &model);
            if len >= MIB {
                let saved = (len / 512) as u64 - 512;
                assert!(
                    place.stored_blocks(&path) < (4 * MIB / 512) as u64 + 200 - saved,
                    "{len}"
                );
            }
        }
    });
}

#[test]
fn punching_beyond_the_end_changes_nothing() {
    on_each(&KINDS[..1], |place| {
        let path = place.join("file");
        fs::write(&path, bytes(1, 10_000)).expect("there is room");
        fallocate(open(&path), PUNCH, 10_000, 100_000).expect("supported");
        fallocate(open(&path), PUNCH, MIB as u64, 1).expect("supported");
        assert_content(&path, &bytes(1, 10_000));
        assert_errno(fallocate(open(&path), PUNCH, 0, 0), libc::EINVAL);
    });
}

#[test]
fn a_zeroed_range_reads_as_zeros_and_stays_reserved() {
    on_each(&KINDS, |place| {
        for (i, keep) in [true, false].into_iter().enumerate() {
            let path = place.join(i.to_string());
            let mut model = bytes(2, 2 * MIB);
            fs::write(&path, &model).expect("there is room");
            let file = open(&path);
            let keep_size = if keep {
                FallocateFlags::KEEP_SIZE
            } else {
                FallocateFlags::empty()
            };
            fallocate(
                &file,
                FallocateFlags::ZERO_RANGE | keep_size,
                5000,
                MIB as u64,
            )
            .expect("supported");
            fallocate(
                &file,
                FallocateFlags::ZERO_RANGE | keep_size,
                2 * MIB as u64 - 100,
                5000,
            )
            .expect("supported");
            drop(file);
            model[5000..5000 + MIB].fill(0);
            model[2 * MIB - 100..].fill(0);
            if !keep {
                model.resize(2 * MIB + 4900, 0);
            }
            assert_content(&path, &model);
            place.remount();
            assert_content(&path, &model);
            assert!(place.stored_blocks(&path) >= (2 * MIB / 512) as u64);
        }
    });
}

#[test]
fn preallocation_reserves_real_space() {
    on_each(&KINDS, |place| {
        for (i, (before, keep)) in [(0, true), (0, false), (5000, true), (5000, false)]
            .into_iter()
            .enumerate()
        {
            let path = place.join(i.to_string());
            let mut model = bytes(3, before);
            fs::write(&path, &model).expect("there is room");
            let file = open(&path);
            let mode = if keep {
                FallocateFlags::KEEP_SIZE
            } else {
                FallocateFlags::empty()
            };
            fallocate(&file, mode, 0, 8 * MIB as u64).expect("supported");
            if !keep {
                model.resize(8 * MIB, 0);
            }
            assert_eq!(file.metadata().expect("open").len(), model.len() as u64);
            assert!(place.stored_blocks(&path) >= (8 * MIB / 512) as u64);
            drop(file);
            assert_content(&path, &model);
            place.remount();
            assert_content(&path, &model);
            assert!(
                place.stored_blocks(&path) >= (8 * MIB / 512) as u64,
                "given back by a remount"
            );
            let file = open(&path);
            write_both(&file, &mut model, MIB + 5, &bytes(4, 100_000));
            drop(file);
            place.remount();
            assert_content(&path, &model);
        }
    });
}

#[test]
fn preallocation_of_a_range_behind_the_end_grows_the_file_unless_told_otherwise() {
    on_each(&KINDS, |place| {
        let path = place.join("file");
        let mut model = bytes(5, 100);
        fs::write(&path, &model).expect("there is room");
        fallocate(open(&path), FallocateFlags::KEEP_SIZE, MIB as u64, 4096).expect("supported");
        assert_content(&path, &model);
        fallocate(open(&path), FallocateFlags::empty(), MIB as u64, 4096).expect("supported");
        model.resize(MIB + 4096, 0);
        assert_content(&path, &model);
        place.remount();
        assert_content(&path, &model);
    });
}

#[test]
fn ways_of_fallocate_that_move_data_are_refused() {
    on_each(&KINDS[..1], |place| {
        let path = place.join("file");
        fs::write(&path, bytes(6, 100_000)).expect("there is room");
        for mode in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
            assert_errno(fallocate(open(&path), mode, 4096, 4096), libc::EOPNOTSUPP);
        }
        assert_content(&path, &bytes(6, 100_000));
    });
}

#[test]
fn copy_file_range_copies_any_range() {
    on_each(&DATA_KINDS, |place| {
        let (from, to) = (place.join("from"), place.join("to"));
        let source = bytes(7, 3 * MIB);
        fs::write(&from, &source).expect("there is room");
        let mut model = bytes(8, MIB);
        fs::write(&to, &model).expect("there is room");
        let (reader, writer) = (File::open(&from).expect("it is there"), open(&to));
        for (from, to, len) in [
            (0, 0, 100),
            (5000, 10, 70_000),
            (4096, 8192, 4096),
            (1, 500_000, 2 * MIB),
        ] {
            let (mut at, mut into) = (from as u64, to as u64);
            let mut left = len;
            while left > 0 {
                let n = copy_file_range(&reader, Some(&mut at), &writer, Some(&mut into), left)
                    .expect("supported");
                assert!(n > 0, "ended early");
                left -= n;
            }
            model.resize(model.len().max(to + len), 0);
            model[to..to + len].copy_from_slice(&source[from..from + len]);
        }
        let (mut at, mut into) = (source.len() as u64, 0);
        assert_eq!(
            copy_file_range(&reader, Some(&mut at), &writer, Some(&mut into), 10)
                .expect("at the end"),
            0
        );
        drop((reader, writer));
        assert_content(&to, &model);
        place.remount();
        assert_content(&to, &model);
    });
}

/// The kernel holds what was written behind the hole, and with it the length.
#[test]
fn copy_file_range_copies_a_hole_before_data_just_written() {
    on_each(&DATA_KINDS, |place| {
        let file = open(&place.join("file"));
        file.write_all_at(&bytes(1, 1000), 0).expect("room");
        file.sync_all().expect("room");
        file.write_all_at(&bytes(2, 1000), 200_000).expect("room");
        let copy = open(&place.join("copy"));
        let (mut at, mut into) = (50_000, 0);
        while at < 100_000 {
            let left = (100_000 - at) as usize;
            let n = copy_file_range(&file, Some(&mut at), &copy, Some(&mut into), left);
            assert!(n.expect("possible") > 0, "it ends at {at}");
        }
        assert_content(&place.join("copy"), &[0; 50_000]);
    });
}

#[test]
fn copy_file_range_works_within_one_file_and_on_data_just_written() {
    on_each(&DATA_KINDS, |place| {
        let file = open(&place.join("file"));
        let mut model = Vec::new();
        write_both(&file, &mut model, 0, &bytes(9, 50_000));
        let (mut at, mut into) = (100, 60_000);
        let n = copy_file_range(&file, Some(&mut at), &file, Some(&mut into), 49_000)
            .expect("supported");
        model.resize(60_000, 0);
        model.extend_from_within(100..100 + n);
        assert_content(&place.join("file"), &model);
        drop(file);
        place.remount();
        assert_content(&place.join("file"), &model);
    });
}
