//! How many calls to the backing filesystem each operation takes. A larger number is a loss of speed that should be
//! meant; a smaller one is to be written down here.

use wardfs::fs::{Detail, SetAttr};
use wardfs::store::backing::{RenameMode, Sync};

use crate::driver::{CALLER, Driver, KEEP, KINDS, Path, new_mode};
use crate::lab::Lab;

fn path(name: &str) -> Path {
    vec![name.as_bytes().to_vec()]
}

/// A volume that has seen a file, so that the root's id is stored and known.
fn with_driver(test: impl FnOnce(&Driver<'_>, &dyn Fn() -> String)) {
    let lab = Lab::new(KINDS[0].0, KINDS[0].1);
    let driver = Driver::new(&lab);
    driver.close(driver.create(&path("first")).expect("free"));
    lab.watch.take();
    test(&driver, &|| lab.watch.take());
}

#[test]
fn creating_writing_and_closing_a_small_file() {
    with_driver(|driver, calls| {
        let handle = driver.create(&path("file")).expect("free");
        assert_eq!(calls(), "create*1 stat*1");
        driver.fs().write(handle.1, 0, &[1; 4096]).expect("room");
        assert_eq!(calls(), "write_at*1");
        driver.close(handle);
        assert_eq!(calls(), "");
    });
}

#[test]
fn opening_reading_and_closing_a_small_file() {
    with_driver(|driver, calls| {
        let handle = driver.create(&path("file")).expect("free");
        driver.fs().write(handle.1, 0, &[1; 4096]).expect("room");
        driver.close(handle);
        calls();
        let handle = driver.open(&path("file"), libc::O_RDONLY).expect("there");
        assert_eq!(calls(), "open*1 stat*3");
        driver.read_all(handle.1, 4096).expect("readable");
        assert_eq!(calls(), "read_at*1");
        driver.close(handle);
        assert_eq!(calls(), "");
    });
}

#[test]
fn reading_and_writing_a_megabyte() {
    with_driver(|driver, calls| {
        let handle = driver.create(&path("file")).expect("free");
        calls();
        driver
            .fs()
            .write(handle.1, 0, &vec![1; 1 << 20])
            .expect("room");
        driver
            .fs()
            .write(handle.1, 1 << 20, &vec![1; 1 << 20])
            .expect("room");
        // The second one also says in the journal what the first one's last chunk is now.
        assert_eq!(calls(), "write_at*3");
        driver
            .fs()
            .read(handle.1, 0, &mut vec![0; 1 << 20])
            .expect("readable");
        assert_eq!(calls(), "read_at*1");
        // Into the journal.
        driver.fs().write(handle.1, 4096, &[2; 4096]).expect("room");
        assert_eq!(calls(), "write_at*1");
        driver.fs().write(handle.1, 8193, &[2; 100]).expect("room");
        assert_eq!(calls(), "read_at*1 write_at*1");
        driver.fs().write(handle.1, 8193, &[3; 100]).expect("room");
        assert_eq!(calls(), "write_at*1");
        driver.close(handle);
    });
}

#[test]
fn a_file_that_has_grown_is_on_its_way_to_the_disk_before_it_is_synced() {
    with_driver(|driver, calls| {
        let sent = |name: &str, megabytes: u64, len: usize| {
            let handle = driver.create(&path(name)).expect("free");
            for i in 0..megabytes {
                let data = vec![1; len];
                driver.fs().write(handle.1, i << 20, &data).expect("room");
            }
            driver.close(handle);
            let calls = calls();
            let sent = calls.split(' ').find(|c| c.starts_with("start_write_back"));
            sent.map(str::to_owned)
        };
        assert_eq!(sent("note", 1, 4096), None);
        // When it is closed.
        assert_eq!(
            sent("scan", 1, 512 << 10).as_deref(),
            Some("start_write_back*1")
        );
        // Every 4 MiB, and the rest when it is closed.
        assert_eq!(
            sent("volume", 9, 1 << 20).as_deref(),
            Some("start_write_back*3")
        );
    });
}

#[test]
fn looking_at_a_file() {
    with_driver(|driver, calls| {
        let ino = driver.ino(&path("first")).expect("there");
        assert_eq!(calls(), "stat*1");
        driver.fs().getattr(ino).expect("there");
        assert_eq!(calls(), "stat*1");
        assert_eq!(driver.lookup(wardfs::fs::ROOT, b"none"), Ok(None));
        assert_eq!(calls(), "stat*1");
    });
}

#[test]
fn renaming_and_removing_a_file() {
    with_driver(|driver, calls| {
        let root = wardfs::fs::ROOT;
        driver
            .fs()
            .rename((root, b"first"), (root, b"second"), RenameMode::Replace)
            .expect("there");
        assert_eq!(calls(), "rename*1 stat*2");
        driver.fs().unlink(root, b"second").expect("there");
        // Its number must not be another one's before it is forgotten.
        assert_eq!(calls(), "pin*1 stat*1 unlink*1");
    });
}

#[test]
fn appending_to_a_log_and_syncing_it() {
    with_driver(|driver, calls| {
        let handle = driver.create(&path("log")).expect("free");
        driver.fs().write(handle.1, 0, &[1; 100]).expect("room");
        driver.fs().fsync(handle.1, Sync::Data).expect("room");
        calls();
        for i in 1..=10 {
            driver
                .fs()
                .write(handle.1, i * 100, &[1; 100])
                .expect("room");
            driver.fs().fsync(handle.1, Sync::Data).expect("room");
        }
        // Each append is one group in the journal, made durable by one flush.
        assert_eq!(calls(), "sync*10 write_at*10");
        driver.close(handle);
        assert_eq!(calls(), "");
    });
}

#[test]
fn making_and_removing_a_directory() {
    with_driver(|driver, calls| {
        let root = wardfs::fs::ROOT;
        let entry = driver
            .fs()
            .mkdir(CALLER, root, b"dir", new_mode(0o700))
            .expect("free");
        assert_eq!(calls(), "mkdir*1 open_dir*1 stat*2");
        driver.fs().rmdir(root, b"dir").expect("empty");
        driver.fs().forget(entry.attr.ino, 1).expect("known");
        assert_eq!(calls(), "rmdir*1 stat*2");
    });
}

#[test]
fn listing_a_directory() {
    with_driver(|driver, calls| {
        for i in 0..100 {
            driver.close(driver.create(&path(&format!("file{i}"))).expect("free"));
        }
        calls();
        assert_eq!(
            driver
                .names(wardfs::fs::ROOT, Detail::Names)
                .expect("readable")
                .len(),
            101
        );
        assert_eq!(calls(), "list*1");
        driver
            .names(wardfs::fs::ROOT, Detail::Attributes)
            .expect("readable");
        // A reply of five entries looks at one more.
        assert_eq!(calls(), "list*1 stat*121");
    });
}

#[test]
fn changing_attributes() {
    with_driver(|driver, calls| {
        let ino = driver.ino(&path("first")).expect("there");
        calls();
        driver
            .fs()
            .setattr(
                CALLER,
                ino,
                &SetAttr {
                    mode: Some(0o640),
                    ..KEEP
                },
            )
            .expect("there");
        assert_eq!(calls(), "chmod*1 stat*2");
    });
}
