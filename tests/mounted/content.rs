//! Reading, writing, appending and truncating.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use crate::fixture::{DATA_KINDS, assert_content, assert_errno, bytes, on_each, write_both};

/// Around the borders of chunks of 4 KiB and 64 KiB and of requests of 1 MiB.
const SIZES: [usize; 16] = [
    0, 1, 4095, 4096, 4097, 5000, 8191, 8192, 65535, 65536, 65537, 131_073, 1_048_575, 1_048_577,
    2_000_003, 5_242_880,
];

#[test]
fn what_was_written_is_read_back_also_after_a_remount() {
    on_each(&DATA_KINDS, |place| {
        for (i, size) in SIZES.into_iter().enumerate() {
            fs::write(place.join(size.to_string()), bytes(i as u64, size)).expect("there is room");
            assert_content(&place.join(size.to_string()), &bytes(i as u64, size));
        }
        place.remount();
        for (i, size) in SIZES.into_iter().enumerate() {
            let path = place.join(size.to_string());
            assert_eq!(fs::metadata(&path).expect("it is there").len(), size as u64);
            assert_content(&path, &bytes(i as u64, size));
        }
    });
}

#[test]
fn a_write_inside_a_file_changes_its_range_only() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("file");
        let mut model = bytes(1, 300_001);
        fs::write(&path, &model).expect("there is room");
        for round in 0..3 {
            let file = OpenOptions::new()
                .write(true)
                .open(&path)
                .expect("it is there");
            for (i, off) in [0, 1, 4095, 4096, 65_535, 65_536, 131_000, 299_999]
                .into_iter()
                .enumerate()
            {
                for len in [1, 2, 100, 4096, 4097, 70_000] {
                    let len = len.min(300_001 - off);
                    write_both(&file, &mut model, off, &bytes(1000 * round + i as u64, len));
                }
            }
            drop(file);
            assert_content(&path, &model);
            place.remount();
            assert_content(&path, &model);
        }
    });
}

#[test]
fn reads_of_any_range_give_that_range() {
    on_each(&DATA_KINDS, |place| {
        let model = bytes(2, 200_123);
        fs::write(place.join("file"), &model).expect("there is room");
        place.remount();
        let file = File::open(place.join("file")).expect("it is there");
        for off in [
            0usize, 1, 4095, 4096, 4097, 65_535, 65_536, 199_999, 200_122, 200_123, 300_000,
        ] {
            for len in [1usize, 4095, 4096, 8192, 70_000, 300_000] {
                let mut buf = vec![0; len];
                let mut got = 0;
                while got < len {
                    match file
                        .read_at(&mut buf[got..], (off + got) as u64)
                        .expect("readable")
                    {
                        0 => break,
                        n => got += n,
                    }
                }
                let end = model.len().min(off + len);
                assert!(
                    buf[..got] == model[off.min(end)..end],
                    "{len} bytes at {off}"
                );
            }
        }
    });
}

#[test]
fn appends_of_any_length_follow_each_other() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("log");
        let mut model = Vec::new();
        for round in 0..4 {
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(&path)
                .expect("ours");
            for len in [1, 7, 100, 4095, 4096, 4097, 33_333, 65_536, 1] {
                let line = bytes(round + len as u64, len);
                file.write_all(&line).expect("there is room");
                model.extend_from_slice(&line);
            }
            drop(file);
            place.remount();
            assert_content(&path, &model);
        }
    });
}

#[test]
fn two_appenders_lose_nothing() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("log");
        std::thread::scope(|scope| {
            for letter in [b'a', b'b'] {
                let path = &path;
                scope.spawn(move || {
                    let options = OpenOptions::new().append(true).create(true).to_owned();
                    let mut file = options.open(path).expect("ours");
                    for _ in 0..500 {
                        file.write_all(&[letter; 37]).expect("there is room");
                    }
                });
            }
        });
        place.remount();
        let log = fs::read(path).expect("it is there");
        assert_eq!(log.len(), 2 * 500 * 37);
        assert!(
            log.chunks(37)
                .all(|line| line.iter().all(|b| *b == line[0])),
            "lines are mixed"
        );
    });
}

#[test]
fn truncation_up_adds_zeros() {
    on_each(&DATA_KINDS, |place| {
        for (from, to) in [
            (0, 1),
            (0, 4096),
            (0, 10_000),
            (1, 4096),
            (100, 5000),
            (4096, 4097),
            (5000, 400_000),
        ] {
            let path = place.join(format!("{from}-{to}"));
            fs::write(&path, bytes(3, from)).expect("there is room");
            let file = OpenOptions::new()
                .write(true)
                .open(&path)
                .expect("it is there");
            file.set_len(to as u64).expect("there is room");
            drop(file);
            let mut model = bytes(3, from);
            model.resize(to, 0);
            assert_content(&path, &model);
        }
        place.remount();
        for (from, to) in [
            (0, 1),
            (0, 4096),
            (0, 10_000),
            (1, 4096),
            (100, 5000),
            (4096, 4097),
            (5000, 400_000),
        ] {
            let mut model = bytes(3, from);
            model.resize(to, 0);
            assert_content(&place.join(format!("{from}-{to}")), &model);
        }
    });
}

#[test]
fn what_truncation_cut_off_does_not_come_back() {
    on_each(&DATA_KINDS, |place| {
        for (i, cut) in [0usize, 1, 4095, 4096, 4097, 70_000, 99_999]
            .into_iter()
            .enumerate()
        {
            let path = place.join(cut.to_string());
            let mut model = bytes(i as u64, 100_000);
            fs::write(&path, &model).expect("there is room");
            let file = OpenOptions::new()
                .write(true)
                .open(&path)
                .expect("it is there");
            file.set_len(cut as u64).expect("smaller");
            assert_content(&path, &model[..cut]);
            file.set_len(100_000).expect("there is room");
            model[cut..].fill(0);
            assert_content(&path, &model);
        }
        place.remount();
        for (i, cut) in [0usize, 1, 4095, 4096, 4097, 70_000, 99_999]
            .into_iter()
            .enumerate()
        {
            let mut model = bytes(i as u64, 100_000);
            model[cut..].fill(0);
            assert_content(&place.join(cut.to_string()), &model);
        }
    });
}

#[test]
fn opening_with_o_trunc_empties_a_file() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("file");
        fs::write(&path, bytes(4, 100_000)).expect("there is room");
        let reader = File::open(&path).expect("it is there");
        drop(File::create(&path).expect("it is ours"));
        assert_eq!(reader.metadata().expect("open").len(), 0);
        drop(reader);
        fs::write(&path, b"short").expect("there is room");
        assert_content(&path, b"short");
        place.remount();
        assert_content(&path, b"short");
    });
}

#[test]
fn direct_and_buffered_access_see_each_other() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("file");
        let mut model = bytes(5, 262_144);
        fs::write(&path, &model).expect("there is room");
        let options = OpenOptions::new().read(true).write(true).to_owned();
        let direct = options
            .clone()
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .expect("it is there");
        let buffered = options.open(&path).expect("it is there");
        let mut seen = vec![0; 65_536];
        for (i, off) in [0usize, 4096, 61_440, 65_536, 196_608]
            .into_iter()
            .enumerate()
        {
            write_both(&direct, &mut model, off, &bytes(50 + i as u64, 8192));
            buffered
                .read_exact_at(&mut seen, (off & !65_535) as u64)
                .expect("inside");
            assert!(
                seen == model[off & !65_535..][..65_536],
                "buffered read after a direct write at {off}"
            );
            write_both(
                &buffered,
                &mut model,
                off + 512,
                &bytes(60 + i as u64, 1000),
            );
            direct
                .read_exact_at(&mut seen, (off & !65_535) as u64)
                .expect("inside");
            assert!(
                seen == model[off & !65_535..][..65_536],
                "direct read after a buffered write at {off}"
            );
        }
        write_both(&direct, &mut model, 262_144, &bytes(70, 4096));
        drop((direct, buffered));
        place.remount();
        assert_content(&path, &model);
    });
}

#[test]
fn a_file_is_as_long_as_was_written_before_anything_is_flushed() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("file");
        let mut file = File::create(&path).expect("ours");
        for len in [1, 4096, 5000, 100_000] {
            file.seek(SeekFrom::Start(0)).expect("seekable");
            file.write_all(&bytes(6, len)).expect("there is room");
            assert_eq!(file.metadata().expect("open").len(), len as u64);
            assert_eq!(fs::metadata(&path).expect("it is there").len(), len as u64);
        }
    });
}

#[test]
fn parallel_writers_of_one_file_do_not_disturb_each_other() {
    on_each(&DATA_KINDS, |place| {
        const PIECE: usize = 10_007;
        const PIECES: usize = 160;
        let path = place.join("file");
        File::create(&path).expect("ours");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    let file = OpenOptions::new()
                        .write(true)
                        .open(path)
                        .expect("it is there");
                    // From the end to the beginning, so that every piece first extends or fills a gap.
                    for piece in (0..PIECES).rev().filter(|p| p % 4 == thread) {
                        let off = (piece * PIECE) as u64;
                        file.write_all_at(&bytes(piece as u64, PIECE), off)
                            .expect("there is room");
                        if piece % 16 == thread {
                            file.sync_data().expect("writable");
                        }
                    }
                });
            }
        });
        let model: Vec<u8> = (0..PIECES).flat_map(|p| bytes(p as u64, PIECE)).collect();
        assert_content(&path, &model);
        place.remount();
        assert_content(&path, &model);
    });
}

#[test]
fn a_descriptor_opened_for_writing_only_cannot_be_read() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("file");
        fs::write(&path, b"content").expect("there is room");
        let mut writer = OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("it is there");
        assert_errno(writer.read(&mut [0; 4]), libc::EBADF);
        let mut reader = File::open(&path).expect("it is there");
        assert_errno(reader.write(b"x"), libc::EBADF);
    });
}

#[test]
fn an_exclusive_creation_refuses_what_exists() {
    on_each(&DATA_KINDS[..1], |place| {
        let path = place.join("file");
        let options = OpenOptions::new().write(true).create_new(true).to_owned();
        options.open(&path).expect("free");
        assert_errno(options.open(&path), libc::EEXIST);
        std::os::unix::fs::symlink("nowhere", place.join("link")).expect("free");
        assert_errno(options.open(place.join("link")), libc::EEXIST);
        // Without O_EXCL the target of the link is made.
        fs::write(place.join("link"), b"x").expect("free");
        assert_content(&place.join("nowhere"), b"x");
    });
}

#[test]
fn the_stored_file_holds_no_plaintext_and_has_the_documented_length() {
    on_each(&DATA_KINDS[..1], |place| {
        let path = place.join("file");
        fs::write(&path, [b'A'; 5000]).expect("there is room");
        let stored_at = place.stored(&path);
        place.umount();
        let stored = fs::read(&stored_at).expect("it is there");
        assert_eq!(stored.len(), 5144);
        assert!(!stored.windows(16).any(|w| w == [b'A'; 16]));
        assert_eq!(fs::metadata(&stored_at).expect("it is there").nlink(), 1);
    });
}
