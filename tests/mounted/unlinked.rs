//! Objects that are used although their last name is gone.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use rustix::fs::{
    FallocateFlags, Mode, Timespec, Timestamps, XattrFlags, fallocate, fchmod, fgetxattr,
    fsetxattr, futimens,
};

use crate::fixture::{DATA_KINDS, PLAIN, Place, assert_errno, bytes, on_each};
use crate::requests::{detach, strace};

fn unlinked(path: &Path, content: &[u8]) -> File {
    fs::write(path, content).expect("free");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("there");
    fs::remove_file(path).expect("there");
    file
}

fn is_empty(place: &Place<'_>) -> bool {
    fs::read_dir(place.root())
        .expect("readable")
        .next()
        .is_none()
}

#[test]
fn it_is_read_and_written() {
    on_each(&DATA_KINDS, |place| {
        let file = unlinked(&place.join("file"), &bytes(1, 10_000));
        file.write_all_at(&bytes(2, 100_000), 5000).expect("open");
        file.sync_all().expect("fsync of an unlinked file");
        file.sync_data().expect("fdatasync of an unlinked file");
        let mut seen = vec![0; 100_000];
        file.read_exact_at(&mut seen, 5000).expect("open");
        assert!(seen == bytes(2, 100_000));
        let meta = file.metadata().expect("fstat of an unlinked file");
        assert_eq!((meta.len(), meta.nlink()), (105_000, 0));
        assert!(is_empty(place));
    });
}

#[test]
fn its_attributes_are_changed() {
    on_each(&DATA_KINDS, |place| {
        let file = unlinked(&place.join("file"), b"content");
        fchmod(&file, Mode::from_raw_mode(0o741)).expect("fchmod of an unlinked file");
        fchown(&file, Some(12), Some(34)).expect("fchown of an unlinked file");
        let at = |tv_sec| Timespec { tv_sec, tv_nsec: 5 };
        futimens(
            &file,
            &Timestamps {
                last_access: at(1000),
                last_modification: at(2000),
            },
        )
        .expect("futimens of an unlinked file");
        file.set_len(100).expect("ftruncate of an unlinked file");
        let times = Timestamps {
            last_access: at(1000),
            last_modification: at(2000),
        };
        futimens(&file, &times).expect("futimens of an unlinked file");
        let meta = file.metadata().expect("open");
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid(), meta.gid()),
            (0o741, 12, 34)
        );
        assert_eq!(
            (meta.len(), meta.atime(), meta.mtime(), meta.mtime_nsec()),
            (100, 1000, 2000, 5)
        );
    });
}

#[test]
fn its_space_and_its_xattrs_are_changed() {
    on_each(&DATA_KINDS, |place| {
        let file = unlinked(&place.join("file"), b"content");
        fallocate(&file, FallocateFlags::empty(), 0, 100_000).expect("open");
        fallocate(
            &file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            0,
            4,
        )
        .expect("open");
        fsetxattr(&file, "user.name", b"value", XattrFlags::empty()).expect("open");
        let mut value = [0; 10];
        let len = fgetxattr(&file, "user.name", &mut value).expect("open");
        assert_eq!(&value[..len], b"value");
        let mut seen = [1; 7];
        file.read_exact_at(&mut seen, 0).expect("open");
        assert_eq!(&seen, b"\0\0\0\0ent");
        assert_eq!(file.metadata().expect("open").len(), 100_000);
    });
}

#[test]
fn one_opened_only_for_reading_has_its_attributes_changed_too() {
    on_each(&DATA_KINDS[..2], |place| {
        fs::write(place.join("file"), b"content").expect("free");
        let file = File::open(place.join("file")).expect("there");
        fs::remove_file(place.join("file")).expect("there");
        fchmod(&file, Mode::from_raw_mode(0o600)).expect("open");
        file.sync_all().expect("open");
        assert_eq!(file.metadata().expect("open").mode() & 0o7777, 0o600);
    });
}

#[test]
fn a_new_file_of_the_same_name_is_another_one() {
    on_each(&DATA_KINDS, |place| {
        let old = unlinked(&place.join("file"), b"old content");
        fs::write(place.join("file"), b"new").expect("free again");
        old.write_all_at(b"OLD", 0).expect("open");
        let mut seen = [0; 11];
        old.read_exact_at(&mut seen, 0).expect("open");
        assert_eq!(&seen, b"OLD content");
        drop(old);
        crate::fixture::assert_content(&place.join("file"), b"new");
        place.remount();
        crate::fixture::assert_content(&place.join("file"), b"new");
    });
}

#[test]
fn its_space_is_free_again_when_the_last_holder_closes_it() {
    PLAIN.run(|place| {
        let before = stored_files(place);
        let file = unlinked(&place.join("file"), &bytes(1, 1 << 20));
        drop(file);
        assert_eq!(stored_files(place), before);
        place.umount();
    });
}

fn stored_files(place: &Place<'_>) -> usize {
    let names = fs::read_dir(place.vault().path()).expect("ours");
    names
        .filter(|e| {
            !e.as_ref()
                .expect("ours")
                .file_name()
                .as_encoded_bytes()
                .starts_with(b"~")
        })
        .count()
}

#[test]
fn a_removed_directory_stays_usable_for_its_holder_and_empty() {
    PLAIN.run(|place| {
        fs::create_dir(place.join("dir")).expect("free");
        let dir = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(place.join("dir"))
            .expect("there");
        fs::remove_dir(place.join("dir")).expect("empty");
        assert_eq!(
            dir.metadata()
                .expect("fstat of a removed directory")
                .nlink(),
            0
        );
        fchmod(&dir, Mode::from_raw_mode(0o700)).expect("open");
        dir.sync_all().expect("open");
        let made = rustix::fs::mkdirat(&dir, "sub", Mode::RWXU);
        assert_errno(made, libc::ENOENT);
        assert!(is_empty(place));
    });
}

/// The filesystem below gives the number of a file away as soon as that is gone: who makes another one then gets it while
/// the daemon, which is slow here, has not heard of the removal yet.
#[test]
fn a_file_made_beside_a_removal_has_nothing_of_the_removed_one() {
    const FILES: usize = 150;
    PLAIN.run(|place| {
        let slow = "inject=unlinkat,renameat,renameat2:delay_exit=3000";
        let traced = "trace=unlinkat,renameat,renameat2";
        let strace = strace(place, &["-e", traced, "-e", slow], Path::new("/dev/null"));
        for dir in ["removed", "made"] {
            fs::create_dir(place.join(dir)).expect("free");
        }
        std::thread::scope(|scope| {
            let remover = scope.spawn(|| {
                for i in 0..FILES {
                    let (old, new) = (place.join("removed/old"), place.join("removed/new"));
                    fs::write(&old, [b'a'; 4096]).expect("room");
                    match i % 2 {
                        0 => fs::remove_file(&old).expect("there"),
                        _ => fs::rename(&old, &new).expect("there"),
                    }
                }
            });
            for i in 0.. {
                let path = place.join(format!("made/{i}"));
                fs::write(&path, [b'b'; 500]).expect("room");
                assert!(fs::read(&path).expect("there") == [b'b'; 500], "file {i}");
                if remover.is_finished() {
                    break;
                }
            }
        });
        detach(strace);
        place.remount();
        for made in fs::read_dir(place.join("made")).expect("there") {
            let content = fs::read(made.expect("readable").path()).expect("there");
            assert!(content == [b'b'; 500]);
        }
    });
}
