//! Directories: making, listing and removing them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{FileType, Mode, RawDir, SeekFrom, mkdir, seek};
use rustix::process::umask;

use crate::fixture::{Kind, NOWRITEBACK, PLAIN, SHARED, as_user, assert_errno, mode_of, on_each};

/// How many entries a large directory has; a million is worth a run now and then.
fn many() -> usize {
    let told = std::env::var("WARDFS_TEST_ENTRIES").ok();
    told.map_or(20_000, |n| {
        n.parse().expect("WARDFS_TEST_ENTRIES is a number")
    })
}

/// Names and the cookies behind them, from where `dir` stands.
fn listing(dir: &File) -> Vec<(String, u64)> {
    let mut buf = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(dir, &mut buf);
    let mut found = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.expect("readable");
        let name = entry
            .file_name()
            .to_str()
            .expect("plain names here")
            .to_owned();
        found.push((name, entry.next_entry_cookie()));
    }
    found
}

fn make_entries(dir: &Path, count: usize) {
    fs::create_dir(dir).expect("free");
    for i in 0..count {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.join(format!("entry-{i}")),
            FileType::RegularFile,
            Mode::RWXU,
            0,
        )
        .expect("free");
    }
}

#[test]
fn a_large_directory_is_listed_whole_and_found_by_name() {
    PLAIN.run(|place| {
        let (dir, count) = (place.join("dir"), many());
        let begin = Instant::now();
        make_entries(&dir, count);
        eprintln!("made in {:?}", begin.elapsed());
        for _ in 0..2 {
            let begin = Instant::now();
            let names: BTreeSet<_> = fs::read_dir(&dir)
                .expect("readable")
                .map(|e| e.expect("readable").file_name())
                .collect();
            eprintln!("listed in {:?}", begin.elapsed());
            assert_eq!(names.len(), count);
            for i in (0..count).step_by(97) {
                assert!(fs::exists(dir.join(format!("entry-{i}"))).expect("searchable"));
            }
            assert!(!fs::exists(dir.join("entry")).expect("searchable"));
            place.remount();
        }
        let begin = Instant::now();
        fs::remove_dir_all(&dir).expect("ours");
        eprintln!("removed in {:?}", begin.elapsed());
    });
}

#[test]
fn a_position_in_a_large_directory_can_be_returned_to() {
    on_each(
        &[
            PLAIN,
            Kind {
                options: "shared",
                ..PLAIN
            },
        ],
        |place| {
            make_entries(&place.join("dir"), 3000);
            let dir = File::open(place.join("dir")).expect("there");
            let all = listing(&dir);
            assert_eq!(all.len(), 3002);
            for at in (0..all.len() - 1)
                .rev()
                .step_by(113)
                .chain([0, 1, 2, all.len() - 2])
            {
                seek(&dir, SeekFrom::Start(all[at].1)).expect("seekdir");
                let rest = listing(&dir);
                assert_eq!(rest, all[at + 1..], "from {at}");
            }
            seek(&dir, SeekFrom::Start(0)).expect("rewinddir");
            assert_eq!(listing(&dir).len(), 3002);
        },
    );
}

#[test]
fn entries_that_stay_are_listed_once_while_others_come_and_go() {
    PLAIN.run(|place| {
        let path = place.join("dir");
        make_entries(&path, 2000);
        let dir = File::open(&path).expect("there");
        let mut buf = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(&dir, &mut buf);
        let mut seen = Vec::new();
        while let Some(entry) = entries.next() {
            let name = entry
                .expect("readable")
                .file_name()
                .to_str()
                .expect("plain")
                .to_owned();
            if let Some(number) = name.strip_prefix("entry-") {
                let number: usize = number.parse().expect("ours");
                // What was seen, and what others will be seen.
                let _ = fs::remove_file(path.join(format!("entry-{}", number / 10 * 10)));
                fs::write(path.join(format!("new-{number}")), b"").expect("free");
                seen.push(number);
            }
        }
        let stayed: Vec<usize> = (0..2000).filter(|i| i % 10 != 0).collect();
        let mut seen: Vec<usize> = seen.into_iter().filter(|i| i % 10 != 0).collect();
        seen.sort_unstable();
        assert_eq!(seen, stayed);
    });
}

#[test]
fn rewinding_shows_what_has_changed() {
    on_each(&[PLAIN, NOWRITEBACK], |place| {
        make_entries(&place.join("dir"), 5);
        let dir = File::open(place.join("dir")).expect("there");
        assert_eq!(listing(&dir).len(), 7);
        fs::write(place.join("dir/new"), b"").expect("free");
        fs::remove_file(place.join("dir/entry-0")).expect("there");
        seek(&dir, SeekFrom::Start(0)).expect("rewinddir");
        let names: BTreeSet<String> = listing(&dir).into_iter().map(|(name, _)| name).collect();
        let expected = [".", "..", "entry-1", "entry-2", "entry-3", "entry-4", "new"];
        assert_eq!(names, expected.map(str::to_owned).into());
    });
}

#[test]
fn a_listing_tells_type_and_inode_of_each_entry() {
    PLAIN.run(|place| {
        let dir = place.join("dir");
        fs::create_dir(&dir).expect("free");
        fs::create_dir(dir.join("sub")).expect("free");
        fs::write(dir.join("file"), b"").expect("free");
        std::os::unix::fs::symlink("x", dir.join("link")).expect("free");
        place.remount();
        for entry in fs::read_dir(&dir).expect("readable") {
            let entry = entry.expect("readable");
            let meta = fs::symlink_metadata(entry.path()).expect("there");
            assert_eq!(entry.ino(), meta.ino());
            assert_eq!(entry.file_type().expect("told"), meta.file_type());
        }
    });
}

#[test]
fn directories_count_their_subdirectories_as_links() {
    PLAIN.run(|place| {
        assert_eq!(fs::metadata(place.root()).expect("there").nlink(), 2);
        fs::create_dir(place.join("dir")).expect("free");
        assert_eq!(fs::metadata(place.root()).expect("there").nlink(), 3);
        for name in ["a", "b", "c"] {
            fs::create_dir(place.join("dir").join(name)).expect("free");
        }
        assert_eq!(fs::metadata(place.join("dir")).expect("there").nlink(), 5);
        fs::remove_dir(place.join("dir/a")).expect("empty");
        assert_eq!(fs::metadata(place.join("dir")).expect("there").nlink(), 4);
        place.remount();
        assert_eq!(fs::metadata(place.join("dir")).expect("there").nlink(), 4);
        assert_eq!(fs::metadata(place.root()).expect("there").nlink(), 3);
    });
}

#[test]
fn a_directory_is_removed_only_when_empty() {
    PLAIN.run(|place| {
        fs::create_dir(place.join("dir")).expect("free");
        fs::write(place.join("dir/file"), b"x").expect("free");
        assert_errno(fs::remove_dir(place.join("dir")), libc::ENOTEMPTY);
        assert_errno(fs::remove_dir(place.join("dir/file")), libc::ENOTDIR);
        assert_errno(fs::remove_file(place.join("dir")), libc::EISDIR);
        crate::fixture::assert_content(&place.join("dir/file"), b"x");
        fs::remove_file(place.join("dir/file")).expect("there");
        fs::remove_dir(place.join("dir")).expect("empty");
        fs::create_dir(place.join("dir")).expect("free again");
        assert_eq!(
            fs::read_dir(place.join("dir")).expect("readable").count(),
            0
        );
    });
}

#[test]
fn a_directory_of_mode_0400_is_made_and_used() {
    SHARED.run(|place| {
        let work = |name: &str| {
            for mode in [0o400, 0o000, 0o200, 0o500, 0o300] {
                let dir = place.join(format!("{name}-{mode:o}"));
                mkdir(&dir, Mode::from_raw_mode(mode)).expect("free");
                assert_eq!(mode_of(&dir), mode);
                crate::fixture::chmod(&dir, 0o700);
                fs::write(dir.join("file"), b"x").expect("free");
                crate::fixture::chmod(&dir, mode);
                assert_eq!(mode_of(&dir), mode);
            }
        };
        work("root");
        as_user(1000, 1000, || work("user"));
        place.remount();
        assert_eq!(mode_of(&place.join("root-400")), 0o400);
        assert_eq!(mode_of(&place.join("user-400")), 0o400);
    });
}

#[test]
fn the_umask_of_the_caller_applies() {
    // The umask belongs to the whole process.
    crate::common::namespace::in_own_namespace(
        "directories::the_umask_of_the_caller_applies",
        || {
            PLAIN.run(|place| {
                let before = umask(Mode::from_raw_mode(0o027));
                mkdir(place.join("dir"), Mode::from_raw_mode(0o777)).expect("free");
                fs::write(place.join("file"), b"").expect("free");
                umask(Mode::empty());
                mkdir(place.join("open"), Mode::from_raw_mode(0o777)).expect("free");
                umask(before);
                let modes = ["dir", "file", "open"].map(|n| mode_of(&place.join(n)));
                assert_eq!(modes, [0o750, 0o640, 0o777]);
            });
        },
    );
}
