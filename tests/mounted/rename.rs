//! Renaming.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::fixture::{DATA_KINDS, PLAIN, assert_content, assert_errno, bytes, on_each};

fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> rustix::io::Result<()> {
    renameat_with(CWD, from, CWD, to, flags)
}

fn long(letter: char) -> String {
    letter.to_string().repeat(255)
}

#[test]
fn a_rename_replaces_a_file() {
    on_each(&DATA_KINDS, |place| {
        for (from, to) in [
            ("a".into(), "b".into()),
            (long('c'), "d".into()),
            ("e".into(), long('f')),
            (long('g'), long('h')),
        ] {
            let (from, to): (String, String) = (from, to);
            fs::write(place.join(&from), b"new").expect("free");
            fs::write(place.join(&to), bytes(1, 10_000)).expect("free");
            let ino = fs::metadata(place.join(&from)).expect("there").ino();
            fs::rename(place.join(&from), place.join(&to)).expect("possible");
            assert_errno(fs::metadata(place.join(&from)), libc::ENOENT);
            assert_content(&place.join(&to), b"new");
            assert_eq!(fs::metadata(place.join(&to)).expect("there").ino(), ino);
            place.remount();
            assert_errno(fs::metadata(place.join(&from)), libc::ENOENT);
            assert_content(&place.join(&to), b"new");
        }
        assert_eq!(fs::read_dir(place.root()).expect("readable").count(), 4);
    });
}

#[test]
fn a_file_replaced_while_open_goes_on_to_exist_for_its_holder() {
    on_each(&DATA_KINDS, |place| {
        let old = bytes(2, 70_000);
        fs::write(place.join("target"), &old).expect("free");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(place.join("target"))
            .expect("there");
        fs::write(place.join("new"), b"new").expect("free");
        fs::rename(place.join("new"), place.join("target")).expect("possible");
        let meta = file.metadata().expect("fstat of a replaced file");
        assert_eq!((meta.len(), meta.nlink()), (70_000, 0));
        let mut seen = vec![0; 70_000];
        file.read_exact_at(&mut seen, 0).expect("still there");
        assert!(seen == old);
        file.write_all_at(b"written", 100_000).expect("still there");
        file.sync_all().expect("still there");
        assert_eq!(file.metadata().expect("open").len(), 100_007);
        assert_content(&place.join("target"), b"new");
        drop(file);
        place.remount();
        assert_content(&place.join("target"), b"new");
    });
}

#[test]
fn a_file_can_be_renamed_while_it_is_written() {
    on_each(&DATA_KINDS, |place| {
        fs::create_dir(place.join("dir")).expect("free");
        let file = File::create(place.join("a")).expect("free");
        file.write_all_at(&bytes(3, 10_000), 0).expect("room");
        fs::rename(place.join("a"), place.join("dir/b")).expect("possible");
        file.write_all_at(&bytes(4, 10_000), 10_000).expect("room");
        fs::rename(place.join("dir"), place.join("other")).expect("possible");
        file.write_all_at(&bytes(5, 10_000), 20_000).expect("room");
        file.sync_all().expect("writable");
        drop(file);
        let model = [bytes(3, 10_000), bytes(4, 10_000), bytes(5, 10_000)].concat();
        assert_content(&place.join("other/b"), &model);
        place.remount();
        assert_content(&place.join("other/b"), &model);
    });
}

#[test]
fn noreplace_refuses_an_existing_target() {
    PLAIN.run(|place| {
        for name in ["a".to_owned(), "b".to_owned(), long('l')] {
            fs::write(place.join(&name), &name).expect("free");
        }
        for target in ["b".to_owned(), long('l')] {
            let refused = rename_with(
                &place.join("a"),
                &place.join(&target),
                RenameFlags::NOREPLACE,
            );
            assert_errno(refused, libc::EEXIST);
            assert_content(&place.join(&target), target.as_bytes());
            assert_content(&place.join("a"), b"a");
        }
        rename_with(&place.join("a"), &place.join("c"), RenameFlags::NOREPLACE).expect("free");
        place.remount();
        assert_content(&place.join("c"), b"a");
        assert_content(&place.join(long('l')), long('l').as_bytes());
    });
}

#[test]
fn exchange_swaps_two_entries_of_any_kind() {
    PLAIN.run(|place| {
        fs::create_dir(place.join("dir")).expect("free");
        fs::write(place.join("dir/inside"), b"inside").expect("free");
        fs::create_dir(place.join("sub")).expect("free");
        fs::write(place.join("sub").join(long('f')), b"file").expect("free");
        let held = File::open(place.join("dir/inside")).expect("there");
        let file = format!("sub/{}", long('f'));
        rename_with(
            &place.join("dir"),
            &place.join(&file),
            RenameFlags::EXCHANGE,
        )
        .expect("possible");
        for round in 0..2 {
            assert_content(&place.join("dir"), b"file");
            assert_content(&place.join(&file).join("inside"), b"inside");
            assert_eq!(
                fs::read_dir(place.root()).expect("readable").count(),
                2,
                "round {round}"
            );
            if round == 0 {
                assert_eq!(held.metadata().expect("open").len(), 6);
            }
        }
        drop(held);
        place.remount();
        assert_content(&place.join("dir"), b"file");
        assert_content(&place.join(&file).join("inside"), b"inside");
        rename_with(
            &place.join(&file),
            &place.join("dir"),
            RenameFlags::EXCHANGE,
        )
        .expect("possible");
        assert_content(&place.join("dir/inside"), b"inside");
        assert_content(&place.join(&file), b"file");
        assert_errno(
            rename_with(
                &place.join("dir"),
                &place.join("none"),
                RenameFlags::EXCHANGE,
            ),
            libc::ENOENT,
        );
    });
}

#[test]
fn a_whiteout_is_refused() {
    PLAIN.run(|place| {
        fs::write(place.join("a"), b"a").expect("free");
        let refused = rename_with(&place.join("a"), &place.join("b"), RenameFlags::WHITEOUT);
        assert_errno(refused, libc::EINVAL);
        assert_content(&place.join("a"), b"a");
    });
}

#[test]
fn a_directory_replaces_an_empty_directory_only() {
    PLAIN.run(|place| {
        for name in ["moved", "fresh", "emptied", "full"] {
            fs::create_dir(place.join(name)).expect("free");
        }
        fs::write(place.join("moved/file"), b"x").expect("free");
        fs::write(place.join("full/file"), b"y").expect("free");
        fs::write(place.join("emptied/file"), b"z").expect("free");
        fs::remove_file(place.join("emptied/file")).expect("there");
        assert_errno(
            fs::rename(place.join("moved"), place.join("full")),
            libc::ENOTEMPTY,
        );
        assert_content(&place.join("full/file"), b"y");
        fs::rename(place.join("moved"), place.join("fresh")).expect("empty");
        fs::rename(place.join("fresh"), place.join("emptied"))
            .expect("it has a stored id but no entries");
        place.remount();
        assert_content(&place.join("emptied/file"), b"x");
        assert_content(&place.join("full/file"), b"y");
        assert_eq!(fs::read_dir(place.root()).expect("readable").count(), 2);
    });
}

#[test]
fn impossible_renames_are_refused_as_on_ext4() {
    PLAIN.run(|place| {
        fs::create_dir_all(place.join("dir/sub")).expect("free");
        fs::write(place.join("file"), b"x").expect("free");
        assert_errno(
            fs::rename(place.join("dir"), place.join("dir/sub/into-itself")),
            libc::EINVAL,
        );
        assert_errno(
            fs::rename(place.join("dir"), place.join("file")),
            libc::ENOTDIR,
        );
        assert_errno(
            fs::rename(place.join("file"), place.join("dir")),
            libc::EISDIR,
        );
        assert_errno(
            fs::rename(place.join("dir/sub"), place.join("dir")),
            libc::ENOTEMPTY,
        );
        assert_errno(
            fs::rename(place.join("none"), place.join("other")),
            libc::ENOENT,
        );
        assert_content(&place.join("file"), b"x");
    });
}

#[test]
fn renaming_one_link_to_another_of_the_same_file_changes_nothing() {
    PLAIN.run(|place| {
        for (a, b) in [("a".to_owned(), "b".to_owned()), (long('a'), long('b'))] {
            fs::write(place.join(&a), b"x").expect("free");
            fs::hard_link(place.join(&a), place.join(&b)).expect("free");
            fs::rename(place.join(&a), place.join(&b)).expect("nothing to do");
            for name in [&a, &b] {
                assert_content(&place.join(name), b"x");
            }
        }
        place.remount();
        assert_eq!(fs::read_dir(place.root()).expect("readable").count(), 4);
    });
}

#[test]
fn everything_below_a_renamed_directory_moves_along() {
    PLAIN.run(|place| {
        fs::create_dir_all(place.join("a/b/c/d")).expect("free");
        for at in ["a", "a/b", "a/b/c", "a/b/c/d"] {
            fs::write(place.join(at).join(long('f')), at).expect("free");
        }
        let deep = File::open(place.join("a/b/c/d")).expect("there");
        fs::create_dir(place.join("x")).expect("free");
        fs::rename(place.join("a/b"), place.join("x/y")).expect("possible");
        fs::rename(place.join("x"), place.join(long('x'))).expect("possible");
        let moved = place.join(long('x')).join("y/c/d");
        assert_eq!(
            fs::metadata(&moved).expect("there").ino(),
            deep.metadata().expect("open").ino()
        );
        fs::write(moved.join("new"), b"new").expect("free");
        drop(deep);
        place.remount();
        let moved = place.join(long('x')).join("y");
        assert_content(&moved.join(long('f')), b"a/b");
        assert_content(&moved.join("c/d").join(long('f')), b"a/b/c/d");
        assert_content(&moved.join("c/d/new"), b"new");
        // The parent of a moved directory is the new one.
        let parent = fs::metadata(moved.join("..")).expect("there").ino();
        assert_eq!(
            parent,
            fs::metadata(place.join(long('x'))).expect("there").ino()
        );
    });
}
