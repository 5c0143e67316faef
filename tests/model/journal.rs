//! What the journal costs and promises while the volume is open: bytes and flushes are counted, never times.

use wardfs::fs::Existing;
use wardfs::store::backing::Sync;
use wardfs::store::journal::SEGMENT_LEN;

use crate::driver::{CALLER, Driver, KINDS, Path, new_mode, ok};
use crate::lab::Lab;

fn path(name: &str) -> Path {
    vec![name.as_bytes().to_vec()]
}

fn lab() -> Lab {
    Lab::new(KINDS[0].0, KINDS[0].1)
}

/// A file of 40,000 synced bytes, open, and the counts set to zero.
fn with_synced_file(test: impl FnOnce(&Lab, &mut Driver<'_>, (u64, wardfs::fs::Fh))) {
    let lab = lab();
    let mut driver = Driver::new(&lab);
    let handle = driver.create(&path("file")).expect("free");
    driver.fs().write(handle.1, 0, &[1; 40_000]).expect("room");
    driver.fs().fsync(handle.1, Sync::All).expect("room");
    lab.watch.take();
    test(&lab, &mut driver, handle);
}

#[test]
fn new_data_is_written_once_and_synced_by_one_flush_of_the_file() {
    let lab = lab();
    let driver = Driver::new(&lab);
    // The id of the directory is made with its first entry.
    let first = driver.create(&path("first")).expect("free");
    driver.fs().fsync(first.1, Sync::All).expect("room");
    driver.close(first);
    let handle = driver.create(&path("scan")).expect("free");
    let megabyte = vec![7; 1 << 20];
    let before = lab.watch.bytes_written();
    for i in 0..64 {
        driver
            .fs()
            .write(handle.1, i << 20, &megabyte)
            .expect("room");
    }
    lab.watch.take();
    driver.fs().fsync(handle.1, Sync::Data).expect("room");
    let calls = lab.watch.take();
    // What the journal has of it in case this process dies is written to the file first.
    assert!(calls.starts_with("sync*1 write_at*"), "{calls}");
    let written = lab.watch.bytes_written() - before;
    let plain = 64 << 20;
    assert!(
        written >= plain && written * 100 <= plain * 102,
        "{written}"
    );
    driver.close(handle);
}

#[test]
fn a_file_that_was_synced_and_grows_by_much_is_written_once_too() {
    with_synced_file(|lab, driver, handle| {
        let before = lab.watch.bytes_written();
        driver
            .fs()
            .write(handle.1, 40_000, &vec![2; 8 << 20])
            .expect("room");
        let written = lab.watch.bytes_written() - before;
        assert!(written * 100 <= (8 << 20) * 102, "{written}");
        driver.close(handle);
    });
}

#[test]
fn a_new_file_whose_pages_come_out_of_order_waits_for_no_flush() {
    let lab = lab();
    let driver = Driver::new(&lab);
    let handle = driver.create(&path("scan")).expect("free");
    lab.watch.take();
    for i in [0, 2, 1, 4, 3, 6, 7, 5, 8] {
        driver
            .fs()
            .write_cached(handle.1, i << 20, &vec![i as u8; 1 << 20])
            .expect("room");
    }
    let calls = lab.watch.take();
    // The directory is covered before the first one.
    assert!(calls.contains(" sync*1 "), "{calls}");
    driver.close(handle);
}

#[test]
fn overwriting_and_syncing_waits_for_one_flush() {
    with_synced_file(|lab, driver, handle| {
        for i in 0..10 {
            driver
                .fs()
                .write_cached(handle.1, i * 4000, &[2; 300])
                .expect("room");
            lab.watch.take();
            driver.fs().fsync(handle.1, Sync::Data).expect("room");
            assert_eq!(lab.watch.take(), "sync*1");
        }
        driver.close(handle);
    });
}

#[test]
fn what_is_overwritten_reaches_the_file_at_the_checkpoint_and_not_before() {
    with_synced_file(|lab, driver, handle| {
        driver
            .fs()
            .write_cached(handle.1, 5000, &[2; 300])
            .expect("room");
        // The journal, nothing else.
        assert_eq!(lab.watch.take(), "read_at*1 write_at*1");
        driver.fs().checkpoint().expect("room");
        let calls = lab.watch.take();
        assert!(calls.contains("sync_all*1"), "{calls}");
        let mut found = vec![0; 300];
        driver.fs().read(handle.1, 5000, &mut found).expect("there");
        assert_eq!(found, [2; 300]);
        assert_eq!(lab.watch.take(), "read_at*1");
        driver.close(handle);
    });
}

#[test]
fn a_new_tree_is_covered_by_one_flush() {
    let lab = lab();
    let driver = Driver::new(&lab);
    let root = wardfs::fs::ROOT;
    lab.watch.take();
    for i in 0..20 {
        let name = format!("dir{i}");
        let made = driver
            .fs()
            .mkdir(CALLER, root, name.as_bytes(), new_mode(0o700))
            .expect("free");
        for j in 0..10 {
            let file = format!("file{j}");
            let new = new_mode(libc::S_IFREG | 0o600);
            let (_, fh) = driver
                .fs()
                .create(
                    CALLER,
                    made.attr.ino,
                    file.as_bytes(),
                    new,
                    Existing::Refuse,
                )
                .expect("free");
            driver.fs().write(fh, 0, b"content").expect("room");
            driver.fs().release(fh).expect("open");
        }
    }
    let calls = lab.watch.take();
    assert!(calls.contains(" sync*1 "), "{calls}");
}

#[test]
fn a_full_disk_is_noticed_before_a_write_is_acknowledged() {
    with_synced_file(|lab, driver, handle| {
        lab.watch.refuse("allocate", libc::ENOSPC);
        assert_eq!(
            ok(driver.fs().write(handle.1, 40_000, &[2; 10_000])),
            Err(libc::ENOSPC)
        );
        lab.watch.refuse_nothing();
        assert!(driver.read_all(handle.1, 40_000) == Ok(vec![1; 40_000]));
        driver.close(handle);
        driver.reopen();
        let handle = driver.open(&path("file"), libc::O_RDONLY).expect("there");
        assert!(driver.read_all(handle.1, 40_000) == Ok(vec![1; 40_000]));
        driver.close(handle);
    });
}

#[test]
fn a_byte_far_behind_the_end_of_a_synced_file_takes_no_space_between() {
    with_synced_file(|_, driver, handle| {
        driver.fs().write(handle.1, 1 << 40, b"x").expect("room");
        driver.fs().fsync(handle.1, Sync::All).expect("room");
        driver.fs().checkpoint().expect("room");
        let attr = driver.fs().getattr(handle.0).expect("open");
        assert_eq!(attr.size, (1 << 40) + 1);
        assert!(attr.blocks * 512 < 1 << 20, "{} blocks", attr.blocks);
        driver.close(handle);
    });
}

#[test]
fn a_journal_that_cannot_be_flushed_makes_the_volume_read_only() {
    with_synced_file(|lab, driver, handle| {
        driver.fs().write(handle.1, 0, &[2; 100]).expect("room");
        lab.watch.refuse("sync", libc::EIO);
        assert_eq!(ok(driver.fs().fsync(handle.1, Sync::Data)), Err(libc::EIO));
        lab.watch.refuse_nothing();
        assert_eq!(ok(driver.fs().fsync(handle.1, Sync::Data)), Err(libc::EIO));
        assert_eq!(
            ok(driver.fs().write(handle.1, 0, &[3; 100])),
            Err(libc::EROFS)
        );
        let mut found = [0; 100];
        driver.fs().read(handle.1, 0, &mut found).expect("there");
        assert_eq!(found, [2; 100]);
        driver.close(handle);
        assert_eq!(ok(driver.fs().close()), Err(libc::EIO));
    });
}

#[test]
fn a_closed_file_is_found_with_what_is_not_applied_yet() {
    with_synced_file(|lab, driver, handle| {
        driver.fs().write(handle.1, 0, &[2; 100]).expect("room");
        driver.close(handle);
        lab.watch.take();
        let handle = driver.open(&path("file"), libc::O_RDONLY).expect("there");
        let found = driver.read_all(handle.1, 40_000).expect("readable");
        assert!(found[..100] == [2; 100] && found[100..].iter().all(|b| *b == 1));
        driver.close(handle);
        driver.fs().checkpoint().expect("room");
        driver.reopen();
        let handle = driver.open(&path("file"), libc::O_RDONLY).expect("there");
        assert!(driver.read_all(handle.1, 40_000) == Ok(found));
        driver.close(handle);
    });
}

#[test]
fn writers_leave_the_checkpoint_to_whoever_attends_to_it_as_long_as_there_is_room() {
    with_synced_file(|lab, driver, handle| {
        let fs = driver.fs();
        let overwrite = || fs.write(handle.1, 0, &[2; 40_000]).expect("room");
        let (bell, rung) = std::sync::mpsc::sync_channel(1);
        fs.attend(bell);
        while rung.try_recv().is_err() {
            overwrite();
        }
        assert!(!lab.watch.take().contains("sync_all"));
        fs.relieve();
        assert!(lab.watch.take().contains("sync_all*1"));

        // Nobody comes: the segment is used up before a writer does it himself, who then makes it twice as long.
        let before = lab.watch.bytes_written();
        while !lab.watch.take().contains("sync_all") {
            overwrite();
            let written = lab.watch.bytes_written() - before;
            assert!(written < 3 * SEGMENT_LEN, "{written}");
        }
        fs.unattended();
        driver.close(handle);
    });
}

#[test]
fn images_in_memory_are_bounded() {
    let lab = lab();
    let driver = Driver::new(&lab);
    let handle = driver.create(&path("large")).expect("free");
    let megabyte = vec![1; 1 << 20];
    for i in 0..100 {
        driver
            .fs()
            .write(handle.1, i << 20, &megabyte)
            .expect("room");
    }
    driver.fs().fsync(handle.1, Sync::All).expect("room");
    let changed = vec![2; 1 << 20];
    for i in 0..100 {
        driver
            .fs()
            .write(handle.1, i << 20, &changed)
            .expect("room");
        let journal = driver.fs().volume().journal().expect("full");
        assert!(journal.overlay_bytes() <= 64 << 20, "after {i} MiB");
    }
    driver.close(handle);
}

#[test]
fn images_of_many_writers_are_bounded_and_so_is_the_journal() {
    const THREADS: u64 = 4;
    const PIECE: usize = 1 << 20;
    let lab = lab();
    let driver = Driver::new(&lab);
    let fs = driver.fs();
    // A bell that nobody serves.
    let (bell, _heard) = std::sync::mpsc::sync_channel(1);
    fs.attend(bell);
    let files: Vec<_> = (0..THREADS)
        .map(|i| {
            let (_, fh) = driver.create(&path(&format!("file{i}"))).expect("free");
            for at in 0..30 {
                fs.write(fh, at << 20, &vec![1; PIECE]).expect("room");
            }
            fs.fsync(fh, Sync::All).expect("room");
            fh
        })
        .collect();
    let bound = (64 << 20) + THREADS * (PIECE as u64 + 8192);
    std::thread::scope(|scope| {
        for fh in &files {
            scope.spawn(|| {
                for at in 0..90 {
                    fs.write(*fh, (at % 30) << 20, &vec![2; PIECE])
                        .expect("room");
                    let journal = fs.volume().journal().expect("full");
                    assert!(journal.overlay_bytes() <= bound, "after {at} MiB");
                }
            });
        }
    });
    for name in ["0", "1"] {
        let segment = lab.vault().join("~wardfs/journal").join(name);
        let len = std::fs::metadata(segment).expect("there").len();
        let bound = (32 << 20) + THREADS * 2 * PIECE as u64;
        assert!(len <= bound, "segment {name} has {len} bytes");
    }
}

#[test]
fn a_journal_that_cannot_be_emptied_takes_no_more_than_it_has_room_for() {
    const PIECE: usize = 1 << 20;
    let lab = lab();
    let driver = Driver::new(&lab);
    let fs = driver.fs();
    let (_, fh) = driver.create(&path("file")).expect("free");
    for at in 0..8 {
        fs.write(fh, at << 20, &vec![1; PIECE]).expect("room");
    }
    fs.fsync(fh, Sync::All).expect("room");
    // Nothing becomes durable in its place.
    lab.watch.refuse("sync_all", libc::EIO);
    let write = |round: u8| ok(fs.write(fh, u64::from(round % 8) << 20, &vec![round; PIECE]));
    let taken = (2..200).take_while(|round| write(*round) == Ok(())).count() as u8;
    assert!((2..60).contains(&taken), "{taken} MiB were taken");
    assert_eq!(write(0), Err(libc::EIO));
    let journal = fs.volume().journal().expect("full");
    assert!(journal.overlay_bytes() <= 64 << 20);
    // What was taken is there, and the rest goes on when the disk does.
    lab.watch.refuse_nothing();
    let mut seen = vec![0; PIECE];
    for round in (taken + 2).saturating_sub(8).max(2)..taken + 2 {
        let got = fs.read(fh, u64::from(round % 8) << 20, &mut seen);
        assert_eq!(got.expect("readable"), PIECE);
        assert!(seen.iter().all(|byte| *byte == round), "round {round}");
    }
    for round in 0..80 {
        assert_eq!(write(round), Ok(()));
    }
}

#[test]
fn without_a_journal_everything_is_written_in_place() {
    let lab = Lab::without_journal(KINDS[0].0, KINDS[0].1);
    let driver = Driver::new(&lab);
    let handle = driver.create(&path("file")).expect("free");
    driver.fs().write(handle.1, 0, &[1; 40_000]).expect("room");
    driver.fs().fsync(handle.1, Sync::All).expect("room");
    lab.watch.take();
    driver.fs().write(handle.1, 4096, &[2; 4096]).expect("room");
    driver.fs().fsync(handle.1, Sync::Data).expect("room");
    assert_eq!(lab.watch.take(), "sync*1 write_at*1");
    driver.close(handle);
}
