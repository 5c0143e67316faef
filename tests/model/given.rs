//! The content of a small file that goes to the kernel when the file is opened.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use wardfs::fs::{Fs, SetAttr};

use crate::driver::{CALLER, Driver, KEEP, KINDS, Path};
use crate::fixture::bytes;
use crate::lab::Lab;
use crate::watched::Watched;

const READ: i32 = libc::O_RDONLY;

fn path(name: &str) -> Path {
    vec![name.as_bytes().to_vec()]
}

/// A volume of each kind with one file of `content`, which the kernel does not know yet.
fn with_file(content: &[u8], test: impl Fn(&Driver<'_>)) {
    for kind in KINDS {
        let lab = Lab::new(kind.0, kind.1);
        let mut driver = Driver::new(&lab);
        let handle = driver.create(&path("file")).expect("free");
        driver.fs().write(handle.1, 0, content).expect("room");
        driver.close(handle);
        driver.reopen();
        test(&driver);
    }
}

/// Opens the file, closes it, and answers what was given.
fn given(driver: &Driver<'_>, ino: u64, flags: i32) -> Option<Vec<u8>> {
    let given = RefCell::new(None);
    let give = |content: &[u8]| *given.borrow_mut() = Some(content.to_vec());
    let fh = driver.fs().open_giving(ino, flags, give).expect("there");
    driver.fs().release(fh).expect("open");
    given.into_inner()
}

#[test]
fn a_small_file_is_given_once_with_the_first_opening() {
    for size in [1, 4096, 5000, 64 << 10] {
        let content = bytes(1, size);
        with_file(&content, |driver| {
            let ino = driver.ino(&path("file")).expect("there");
            assert!(given(driver, ino, READ).as_ref() == Some(&content));
            assert_eq!(given(driver, ino, READ), None, "the kernel has it");
            driver.forget_all();
            let ino = driver.ino(&path("file")).expect("there");
            assert!(
                given(driver, ino, READ).as_ref() == Some(&content),
                "the kernel knows nothing of it again"
            );
        });
    }
}

#[test]
fn what_is_large_or_empty_or_opened_for_more_than_reading_is_not_given() {
    for (size, flags) in [
        (0, READ),
        ((64 << 10) + 1, READ),
        (100, libc::O_WRONLY),
        (100, libc::O_RDWR),
        (100, READ | libc::O_DIRECT),
    ] {
        with_file(&bytes(1, size), |driver| {
            let ino = driver.ino(&path("file")).expect("there");
            assert_eq!(given(driver, ino, flags), None, "{size} bytes, {flags:o}");
        });
    }
}

#[test]
fn a_file_that_is_open_elsewhere_is_not_given() {
    with_file(&bytes(1, 100), |driver| {
        let ino = driver.ino(&path("file")).expect("there");
        let writer = driver.fs().open(ino, libc::O_RDWR).expect("there");
        assert_eq!(given(driver, ino, READ), None);
        driver.fs().release(writer).expect("open");
    });
}

#[test]
fn a_file_made_since_is_not_given_for_the_kernel_has_its_pages() {
    with_file(b"", |driver| {
        let handle = driver.create(&path("new")).expect("free");
        driver.fs().write(handle.1, 0, b"content").expect("room");
        driver.fs().release(handle.1).expect("open");
        assert_eq!(given(driver, handle.0, READ), None);
        driver.fs().forget(handle.0, 1).expect("known");
    });
}

fn damage_the_only_file(lab: &Lab) {
    let entries = fs::read_dir(lab.vault()).expect("a vault");
    let file = entries
        .map(|entry| entry.expect("readable").path())
        .find(|path| !path.to_string_lossy().contains('~'))
        .expect("it is there");
    let file = fs::File::options().write(true).open(file).expect("ours");
    let end = file.metadata().expect("open").len();
    file.write_all_at(&[0xff; 8], end - 8).expect("room");
}

#[test]
fn a_damaged_file_is_not_given_and_the_reader_is_told() {
    for kind in KINDS {
        let lab = Lab::new(kind.0, kind.1);
        let mut driver = Driver::new(&lab);
        let handle = driver.create(&path("file")).expect("free");
        driver.fs().write(handle.1, 0, &[1; 100]).expect("room");
        driver.close(handle);
        driver.reopen();
        damage_the_only_file(&lab);
        let ino = driver.ino(&path("file")).expect("there");
        assert_eq!(given(&driver, ino, READ), None);
        let handle = driver.open(&path("file"), READ).expect("there");
        assert_eq!(driver.read_all(handle.1, 100), Err(libc::EIO));
        driver.close(handle);
    }
}

/// Until the kernel has the content nobody else may write, or it would overwrite newer pages with older content.
#[test]
fn who_opens_or_cuts_a_file_that_is_being_given_waits() {
    type Other = fn(&Fs<Watched>, u64);
    let others: [Other; 3] = [
        |fs, ino| {
            let fh = fs.open(ino, libc::O_RDWR).expect("there");
            fs.release(fh).expect("open");
        },
        |fs, ino| {
            let fh = fs.open_giving(ino, READ, |_| ()).expect("there");
            fs.release(fh).expect("open");
        },
        |fs, ino| {
            let cut = SetAttr {
                size: Some(5),
                ..KEEP
            };
            fs.setattr(CALLER, ino, &cut).expect("there");
        },
    ];
    let lab = Lab::new(KINDS[0].0, KINDS[0].1);
    let driver = Driver::new(&lab);
    let fs = driver.fs();
    for (i, other) in others.into_iter().enumerate() {
        for round in 0..20 {
            let name = path(&format!("{i}.{round}"));
            let handle = driver.create(&name).expect("free");
            fs.write(handle.1, 0, &[1; 100]).expect("room");
            driver.close(handle);
            let ino = driver.ino(&name).expect("there");
            let (begun, done) = (AtomicUsize::new(0), AtomicBool::new(false));
            std::thread::scope(|scope| {
                let give = |content: &[u8]| {
                    assert_eq!(content, [1; 100]);
                    scope.spawn(|| {
                        begun.store(1, Ordering::SeqCst);
                        other(fs, ino);
                        assert!(done.load(Ordering::SeqCst), "it did not wait");
                    });
                    while begun.load(Ordering::SeqCst) == 0 {
                        std::thread::yield_now();
                    }
                    // Time enough for who does not wait.
                    for _ in 0..50 {
                        std::thread::yield_now();
                    }
                    done.store(true, Ordering::SeqCst);
                };
                let fh = fs.open_giving(ino, READ, give).expect("there");
                fs.release(fh).expect("open");
            });
        }
    }
}
