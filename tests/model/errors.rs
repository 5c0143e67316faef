//! What the backing filesystem refuses reaches the caller as it is, and leaves the file as it was.

use wardfs::fs::Existing;
use wardfs::store::backing::Sync;

use crate::driver::{CALLER, Driver, KINDS, Path, new_mode, ok};
use crate::lab::Lab;

fn path(name: &str) -> Path {
    vec![name.as_bytes().to_vec()]
}

#[test]
fn an_errno_of_the_backing_filesystem_is_passed_on_exactly() {
    for errno in [
        libc::EDQUOT,
        libc::ENOSPC,
        libc::EFBIG,
        libc::EROFS,
        libc::EIO,
        libc::EMFILE,
        libc::EPERM,
    ] {
        let lab = Lab::new(KINDS[0].0, KINDS[0].1);
        let driver = Driver::new(&lab);
        let root = wardfs::fs::ROOT;
        let handle = driver.create(&path("file")).expect("free");
        driver.fs().write(handle.1, 0, &[1; 10_000]).expect("room");
        let refused = |call, outcome: &dyn Fn() -> Result<(), i32>| {
            lab.watch.refuse(call, errno);
            assert_eq!(outcome(), Err(errno), "{call}");
            lab.watch.refuse_nothing();
        };
        refused("write_at", &|| {
            ok(driver.fs().write(handle.1, 10_000, &[2; 10_000]))
        });
        refused("write_at", &|| {
            ok(driver.fs().write(handle.1, 0, &[2; 4096]))
        });
        refused("write_at", &|| {
            ok(driver.fs().write(handle.1, 1 << 20, &[2; 1]))
        });
        refused("sync", &|| ok(driver.fs().fsync(handle.1, Sync::All)));
        refused("allocate", &|| {
            ok(driver.fs().fallocate(CALLER, handle.1, 0, 1 << 20, 0))
        });
        refused("create", &|| {
            let new = new_mode(libc::S_IFREG | 0o600);
            ok(driver
                .fs()
                .create(CALLER, root, b"new", new, Existing::Refuse))
            .map(drop)
        });
        refused("mkdir", &|| {
            ok(driver.fs().mkdir(CALLER, root, b"new", new_mode(0o700))).map(drop)
        });
        refused("symlink", &|| {
            ok(driver.fs().symlink(CALLER, root, b"new", b"target")).map(drop)
        });
        refused("unlink", &|| ok(driver.fs().unlink(root, b"file")));
        assert_eq!(
            ok(driver.fs().getattr(handle.0)).expect("open").size,
            10_000
        );
        assert!(
            driver.read_all(handle.1, 10_000) == Ok(vec![1; 10_000]),
            "{errno}"
        );
        driver.close(handle);
    }
}

#[test]
fn a_cut_that_the_disk_refuses_is_in_the_journal_and_done_later() {
    let lab = Lab::new(KINDS[0].0, KINDS[0].1);
    let mut driver = Driver::new(&lab);
    let handle = driver.create(&path("file")).expect("free");
    driver.fs().write(handle.1, 0, &[1; 10_000]).expect("room");
    driver.fs().fsync(handle.1, Sync::All).expect("room");
    lab.watch.refuse("set_len", libc::EIO);
    assert_eq!(driver.set_size(handle.0, 5000), Ok(()));
    assert!(driver.read_all(handle.1, 5000) == Ok(vec![1; 5000]));
    lab.watch.refuse_nothing();
    driver.fs().checkpoint().expect("room");
    driver.close(handle);
    driver.reopen();
    let handle = driver.open(&path("file"), libc::O_RDONLY).expect("there");
    assert!(driver.read_all(handle.1, 5000) == Ok(vec![1; 5000]));
    driver.close(handle);
}

#[test]
fn a_hole_that_could_not_be_filled_stays_a_hole() {
    for (cipher, chunk) in KINDS {
        let lab = Lab::new(cipher, chunk);
        let mut driver = Driver::new(&lab);
        let handle = driver.create(&path("file")).expect("free");
        let size = 10 * chunk as usize;
        driver
            .fs()
            .write(handle.1, size as u64 - 1, &[1])
            .expect("room");
        for (off, len) in [
            (0, 100),
            (u64::from(chunk), chunk as usize),
            (u64::from(chunk) + 5, 3 * chunk as usize),
        ] {
            lab.watch.refuse("write_at", libc::ENOSPC);
            assert_eq!(
                ok(driver.fs().write(handle.1, off, &vec![2; len])),
                Err(libc::ENOSPC)
            );
            lab.watch.refuse_nothing();
        }
        let mut model = vec![0; size];
        model[size - 1] = 1;
        assert!(driver.read_all(handle.1, size) == Ok(model.clone()));
        driver.close(handle);
        driver.reopen();
        let handle = driver.open(&path("file"), libc::O_RDONLY).expect("there");
        assert!(driver.read_all(handle.1, size) == Ok(model));
        driver.close(handle);
    }
}

#[test]
fn a_cut_that_failed_changes_nothing() {
    for (cipher, chunk) in KINDS {
        let lab = Lab::new(cipher, chunk);
        let mut driver = Driver::new(&lab);
        let handle = driver.create(&path("file")).expect("free");
        let size = 10 * chunk as usize;
        driver
            .fs()
            .write(handle.1, size as u64 - 1, &[1])
            .expect("room");
        for to in [
            5 * u64::from(chunk),
            5 * u64::from(chunk) + 7,
            20 * u64::from(chunk),
        ] {
            lab.watch.refuse("write_at", libc::ENOSPC);
            assert_eq!(driver.set_size(handle.0, to), Err(libc::ENOSPC));
            lab.watch.refuse_nothing();
        }
        let mut model = vec![0; size];
        model[size - 1] = 1;
        assert!(driver.read_all(handle.1, size) == Ok(model.clone()));
        driver.close(handle);
        driver.reopen();
        let handle = driver.open(&path("file"), libc::O_RDONLY).expect("there");
        assert!(driver.read_all(handle.1, size) == Ok(model));
        driver.close(handle);
    }
}
