//! Hard links and symbolic links.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use crate::fixture::{DATA_KINDS, PLAIN, Place, assert_content, assert_errno, bytes, on_each};

/// Files of the vault that hold symlink targets too long for a backing symlink.
fn far_targets(place: &Place<'_>) -> usize {
    fs::read_dir(place.vault().path().join("~wardfs/targets"))
        .expect("every vault has it")
        .count()
}

fn target(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| {
            if i % 200 == 199 {
                b'/'
            } else {
                b'a' + (i % 26) as u8
            }
        })
        .collect()
}

fn link_to(target: &[u8], path: &Path) -> std::io::Result<()> {
    symlink(OsStr::from_bytes(target), path)
}

fn target_of(path: &Path) -> Vec<u8> {
    fs::read_link(path)
        .expect("a link")
        .into_os_string()
        .as_encoded_bytes()
        .to_vec()
}

#[test]
fn hard_links_are_one_file() {
    on_each(&DATA_KINDS, |place| {
        fs::create_dir(place.join("dir")).expect("free");
        let (a, b) = (place.join("a"), place.join("dir/b"));
        fs::write(&a, bytes(1, 10_000)).expect("there is room");
        fs::hard_link(&a, &b).expect("free");
        OpenOptions::new()
            .append(true)
            .open(&b)
            .expect("it is there")
            .write_all(b"more")
            .expect("room");
        let model = [bytes(1, 10_000), b"more".to_vec()].concat();
        assert_content(&a, &model);
        let (at_a, at_b) = (
            fs::metadata(&a).expect("there"),
            fs::metadata(&b).expect("there"),
        );
        assert_eq!((at_a.ino(), at_a.nlink()), (at_b.ino(), 2));
        place.remount();
        assert_content(&b, &model);
        assert_eq!(fs::metadata(&a).expect("there").ino(), at_b.ino());
        fs::remove_file(&a).expect("there");
        assert_eq!(fs::metadata(&b).expect("there").nlink(), 1);
        assert_content(&b, &model);
        fs::write(&b, b"new").expect("there is room");
        place.remount();
        assert_content(&b, b"new");
        assert_errno(fs::metadata(&a), libc::ENOENT);
    });
}

#[test]
fn the_size_seen_after_link_is_that_of_the_file() {
    on_each(&DATA_KINDS, |place| {
        for (i, len) in [0usize, 1, 5000, 100_000].into_iter().enumerate() {
            let (a, b) = (place.join(format!("a{i}")), place.join(format!("b{i}")));
            let file = fs::File::create(&a).expect("free");
            file.write_all_at(&bytes(1, len), 0).expect("there is room");
            fs::hard_link(&a, &b).expect("free");
            for path in [&a, &b] {
                assert_eq!(fs::metadata(path).expect("there").len(), len as u64);
            }
            assert_eq!(file.metadata().expect("open").len(), len as u64);
            assert_content(&b, &bytes(1, len));
        }
    });
}

#[test]
fn a_link_over_an_existing_name_is_refused() {
    PLAIN.run(|place| {
        fs::write(place.join("a"), b"a").expect("free");
        fs::write(place.join("b"), b"b").expect("free");
        assert_errno(
            fs::hard_link(place.join("a"), place.join("b")),
            libc::EEXIST,
        );
        assert_content(&place.join("b"), b"b");
        fs::create_dir(place.join("dir")).expect("free");
        assert_errno(
            fs::hard_link(place.join("dir"), place.join("other")),
            libc::EPERM,
        );
    });
}

#[test]
fn a_file_is_found_under_a_link_after_its_first_name_and_directory_are_gone() {
    PLAIN.run(|place| {
        fs::create_dir(place.join("dir")).expect("free");
        fs::write(place.join("dir/a"), b"content").expect("free");
        fs::hard_link(place.join("dir/a"), place.join("b")).expect("free");
        let file = fs::File::open(place.join("dir/a")).expect("there");
        fs::remove_file(place.join("dir/a")).expect("there");
        fs::remove_dir(place.join("dir")).expect("empty");
        rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o640)).expect("ours");
        drop(file);
        assert_content(&place.join("b"), b"content");
        place.remount();
        assert_eq!(crate::fixture::mode_of(&place.join("b")), 0o640);
    });
}

#[test]
fn symlink_targets_of_every_length_are_kept() {
    on_each(&[PLAIN], |place| {
        for len in 1..=4095 {
            link_to(&target(len), &place.join(len.to_string())).expect("free");
        }
        assert!(
            far_targets(place) > 0,
            "long targets do not fit a backing symlink"
        );
        for round in 0..2 {
            for len in 1..=4095usize {
                let path = place.join(len.to_string());
                assert_eq!(target_of(&path), target(len), "round {round}");
                assert_eq!(
                    fs::symlink_metadata(&path).expect("there").len(),
                    len as u64
                );
            }
            place.remount();
        }
        assert_errno(
            link_to(&target(4096), &place.join("longer")),
            libc::ENAMETOOLONG,
        );
        for len in 1..=4095 {
            fs::remove_file(place.join(len.to_string())).expect("there");
        }
        assert_eq!(far_targets(place), 0);
    });
}

#[test]
fn symlink_targets_hold_any_bytes() {
    PLAIN.run(|place| {
        let all: Vec<u8> = (1..=255).collect();
        link_to(&all, &place.join("all")).expect("free");
        place.remount();
        assert_eq!(target_of(&place.join("all")), all);
    });
}

#[test]
fn symlinks_are_followed() {
    PLAIN.run(|place| {
        fs::create_dir(place.join("dir")).expect("free");
        fs::write(place.join("dir/file"), b"content").expect("free");
        for (target, name) in [
            ("dir/file", "relative"),
            ("dir", "to-dir"),
            ("nowhere", "dangling"),
            ("loop", "loop"),
        ] {
            symlink(target, place.join(name)).expect("free");
        }
        symlink(place.join("dir/file"), place.join("absolute")).expect("free");
        symlink("../relative", place.join("dir/twice")).expect("free");
        for name in ["relative", "to-dir/file", "absolute", "dir/twice"] {
            assert_content(&place.join(name), b"content");
        }
        assert_errno(fs::metadata(place.join("dangling")), libc::ENOENT);
        assert_errno(fs::metadata(place.join("loop")), libc::ELOOP);
    });
}

#[test]
fn a_long_symlink_that_is_replaced_or_linked_leaves_nothing_behind() {
    PLAIN.run(|place| {
        let long = target(4000);
        link_to(&long, &place.join("replaced")).expect("free");
        link_to(&long, &place.join("moved")).expect("free");
        assert_eq!(far_targets(place), 2);
        fs::rename(place.join("moved"), place.join("replaced")).expect("both are links");
        assert_eq!(
            far_targets(place),
            1,
            "the replaced link's target stays for ever"
        );
        assert_eq!(target_of(&place.join("replaced")), long);
        fs::write(place.join("file"), b"x").expect("free");
        fs::rename(place.join("file"), place.join("replaced")).expect("a link can be replaced");
        assert_eq!(far_targets(place), 0);

        link_to(&long, &place.join("a")).expect("free");
        fs::hard_link(place.join("a"), place.join("b")).expect("link(2) does not follow");
        fs::remove_file(place.join("a")).expect("there");
        assert_eq!(target_of(&place.join("b")), long);
        place.remount();
        assert_eq!(target_of(&place.join("b")), long);
        fs::remove_file(place.join("b")).expect("there");
        assert_eq!(far_targets(place), 0);
        assert_errno(fs::symlink_metadata(place.join("a")), libc::ENOENT);
    });
}

#[test]
fn a_symlink_over_an_existing_name_is_refused_and_leaves_nothing_behind() {
    PLAIN.run(|place| {
        fs::write(place.join("file"), b"x").expect("free");
        for len in [10, 4000] {
            assert_errno(link_to(&target(len), &place.join("file")), libc::EEXIST);
        }
        assert_eq!(far_targets(place), 0);
        assert_content(&place.join("file"), b"x");
    });
}
