//! Times of files, directories and links.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens, utimensat};

use crate::fixture::{DATA_KINDS, PLAIN, bytes, on_each};

type Time = (i64, i64);

fn set(path: &Path, atime: Time, mtime: Time) {
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(atime),
        last_modification: time(mtime),
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("ours");
}

fn times(path: &Path) -> (Time, Time) {
    let meta = fs::symlink_metadata(path).expect("there");
    (
        (meta.atime(), meta.atime_nsec()),
        (meta.mtime(), meta.mtime_nsec()),
    )
}

fn mtime(path: &Path) -> Time {
    times(path).1
}

#[test]
fn times_are_kept_to_the_nanosecond_also_before_1970() {
    PLAIN.run(|place| {
        let all = [
            (0, 0),
            (0, 1),
            (1, 999_999_999),
            (-1, 0),
            (-1, 1),
            (-1, 999_999_999),
            (-2, 300),
            (1 << 31, 5),
            (-86_400, 500_000_000),
            (-(1 << 31), 0),
            (1 - (1 << 31), 7),
            (1_700_000_000, 123_456_789),
        ];
        for (i, time) in all.into_iter().enumerate() {
            fs::write(place.join(i.to_string()), b"x").expect("free");
            set(&place.join(i.to_string()), time, all[(i + 1) % all.len()]);
        }
        for _ in 0..2 {
            for (i, time) in all.into_iter().enumerate() {
                assert_eq!(
                    times(&place.join(i.to_string())),
                    (time, all[(i + 1) % all.len()])
                );
            }
            place.remount();
        }
    });
}

/// When this fails, fuser has been mended (upstream e48279f) and `fuse::convert` must no longer correct what it decodes.
#[test]
fn fuser_still_decodes_times_before_1970_as_the_correction_expects() {
    PLAIN.run(|place| {
        fs::write(place.join("file"), b"x").expect("free");
        set(&place.join("file"), (-2, 300), (-2, 300));
        place.remount();
        assert_eq!(mtime(&place.join("file")), (-2, 300));
    });
}

#[test]
fn extreme_times_end_where_they_end_on_ext4() {
    PLAIN.run(|place| {
        let plain = place.vault().dir().join("plain");
        fs::write(&plain, b"x").expect("free");
        fs::write(place.join("file"), b"x").expect("free");
        for sec in [i64::MAX, 1 << 40, 1 << 34, -(1 << 40), -(1 << 62)] {
            set(&plain, (sec, 1), (sec, 1));
            set(&place.join("file"), (sec, 1), (sec, 1));
            place.remount();
            assert_eq!(times(&place.join("file")), times(&plain), "{sec}");
        }
    });
}

#[test]
fn a_symlink_has_times_of_its_own() {
    PLAIN.run(|place| {
        let (file, link) = (place.join("file"), place.join("link"));
        fs::write(&file, b"x").expect("free");
        symlink("file", &link).expect("free");
        symlink("nowhere", place.join("dangling")).expect("free");
        set(&file, (1000, 1), (2000, 2));
        set(&link, (3000, 3), (4000, 4));
        set(&place.join("dangling"), (5000, 5), (6000, 6));
        for _ in 0..2 {
            assert_eq!(mtime(&file), (2000, 2));
            assert_eq!(times(&link).1, (4000, 4));
            assert_eq!(times(&place.join("dangling")).1, (6000, 6));
            place.remount();
        }
    });
}

#[test]
fn times_can_be_set_one_by_one_and_to_now() {
    PLAIN.run(|place| {
        let path = place.join("file");
        fs::write(&path, b"x").expect("free");
        set(&path, (1000, 1), (2000, 2));
        set(&path, (0, UTIME_OMIT), (3000, 3));
        assert_eq!(times(&path), ((1000, 1), (3000, 3)));
        set(&path, (4000, 4), (0, UTIME_OMIT));
        assert_eq!(times(&path), ((4000, 4), (3000, 3)));
        set(&path, (0, UTIME_OMIT), (0, UTIME_NOW));
        let ((atime, _), (mtime, _)) = times(&path);
        assert_eq!(atime, 4000);
        assert!(mtime > 1_700_000_000);
    });
}

#[test]
fn times_set_after_writing_are_not_overwritten_by_what_is_flushed_later() {
    on_each(&DATA_KINDS, |place| {
        for (i, len) in [0usize, 10, 5000, 300_000].into_iter().enumerate() {
            let path = place.join(i.to_string());
            let file = File::create(&path).expect("free");
            file.write_all_at(&bytes(1, len), 0).expect("room");
            let at = |tv_sec| Timespec { tv_sec, tv_nsec: 7 };
            futimens(
                &file,
                &Timestamps {
                    last_access: at(1000),
                    last_modification: at(2000),
                },
            )
            .expect("ours");
            assert_eq!(mtime(&path), (2000, 7));
            drop(file);
            assert_eq!(mtime(&path), (2000, 7), "after close, {len} bytes");
        }
        // A file with a gap is completed when it is closed.
        let file = File::create(place.join("gap")).expect("free");
        file.write_all_at(b"x", 1 << 20).expect("room");
        file.write_all_at(&vec![1; 1 << 20], 0).expect("room");
        let at = |tv_sec| Timespec { tv_sec, tv_nsec: 7 };
        futimens(
            &file,
            &Timestamps {
                last_access: at(1000),
                last_modification: at(2000),
            },
        )
        .expect("ours");
        drop(file);
        for name in ["0", "1", "2", "3", "gap"] {
            assert_eq!(mtime(&place.join(name)), (2000, 7), "{name}");
        }
        place.remount();
        for name in ["0", "1", "2", "3", "gap"] {
            assert_eq!(
                mtime(&place.join(name)),
                (2000, 7),
                "{name} after a remount"
            );
        }
    });
}

#[test]
fn writing_and_truncating_change_mtime_and_it_stays_so() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("file");
        fs::write(&path, b"content").expect("free");
        let changes: [fn(&Path); 4] = [
            |p| {
                OpenOptions::new()
                    .append(true)
                    .open(p)
                    .expect("there")
                    .write_all(b"more")
                    .expect("room")
            },
            |p| {
                OpenOptions::new()
                    .write(true)
                    .open(p)
                    .expect("there")
                    .set_len(3)
                    .expect("possible")
            },
            |p| {
                OpenOptions::new()
                    .write(true)
                    .open(p)
                    .expect("there")
                    .set_len(10_000)
                    .expect("possible")
            },
            |p| drop(File::create(p).expect("there")),
        ];
        for change in changes {
            set(&path, (1000, 1), (1000, 1));
            change(&path);
            let seen = mtime(&path);
            assert!(seen.0 > 1_700_000_000, "{seen:?}");
            place.remount();
            assert_eq!(mtime(&path), seen, "another time after a remount");
        }
    });
}

#[test]
fn entries_that_come_and_go_change_the_times_of_their_directory() {
    PLAIN.run(|place| {
        let dir = place.join("dir");
        fs::create_dir(&dir).expect("free");
        let changes: [fn(&Path); 5] = [
            |d| fs::write(d.join("file"), b"").expect("free"),
            |d| fs::rename(d.join("file"), d.join("other")).expect("there"),
            |d| fs::hard_link(d.join("other"), d.join("link")).expect("there"),
            |d| fs::remove_file(d.join("link")).expect("there"),
            |d| fs::create_dir(d.join("sub")).expect("free"),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            set(&dir, (1000, 1), (1000, 1));
            change(&dir);
            assert!(mtime(&dir).0 > 1_700_000_000, "change {i}");
        }
    });
}

#[test]
fn a_change_of_attributes_changes_ctime_only() {
    PLAIN.run(|place| {
        let path = place.join("file");
        fs::write(&path, b"x").expect("free");
        set(&path, (1000, 1), (1000, 1));
        let ctime = |path: &Path| {
            let meta = fs::metadata(path).expect("there");
            (meta.ctime(), meta.ctime_nsec())
        };
        for mode in [0o600, 0o640] {
            let before = ctime(&path);
            crate::common::wait_until("the clock of the filesystem has moved on", || {
                fs::write(place.join("clock"), b"").expect("free");
                ctime(&place.join("clock")) > before
            });
            crate::fixture::chmod(&path, mode);
            assert!(ctime(&path) > before);
            assert_eq!(mtime(&path), (1000, 1));
        }
    });
}
