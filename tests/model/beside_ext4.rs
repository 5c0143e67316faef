//! The same random operations on a mount and on a plain directory: same answers, same trees, also after remounts.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, RenameFlags, Timespec, Timestamps, XattrFlags,
};

use crate::fixture::{DATA_KINDS, Kind};
use crate::random::Random;

const OPERATIONS: usize = 1500;
const CHUNK: usize = 4096;

#[derive(Debug)]
enum Operation {
    Write(PathBuf, usize, usize, u64),
    Append(PathBuf, usize, u64),
    Create(PathBuf),
    Read(PathBuf, usize, usize),
    Truncate(PathBuf, usize),
    Allocate(PathBuf, u32, usize, usize),
    Rename(PathBuf, PathBuf, u32),
    Link(PathBuf, PathBuf),
    Unlink(PathBuf),
    Mkdir(PathBuf),
    Rmdir(PathBuf),
    Symlink(usize, PathBuf),
    Chmod(PathBuf, u32),
    Times(PathBuf, i64),
    SetXattr(PathBuf, u64),
    GetXattr(PathBuf),
    Sync(PathBuf),
}

fn errno<T>(outcome: std::io::Result<T>) -> Result<T, i32> {
    outcome.map_err(|e| e.raw_os_error().unwrap_or(-1))
}

fn existing(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Does it below `root`; answers what can be seen of it at once.
fn apply(root: &Path, operation: &Operation) -> Result<Vec<u8>, i32> {
    use Operation as Op;
    let nothing = |outcome: std::io::Result<()>| errno(outcome).map(|()| Vec::new());
    let at = |path: &PathBuf| root.join(path);
    match operation {
        Op::Write(path, off, len, seed) => nothing(
            existing(&at(path))
                .and_then(|f| f.write_all_at(&crate::fixture::bytes(*seed, *len), *off as u64)),
        ),
        Op::Append(path, len, seed) => nothing(
            OpenOptions::new()
                .append(true)
                .open(at(path))
                .and_then(|mut f| f.write_all(&crate::fixture::bytes(*seed, *len))),
        ),
        Op::Create(path) => nothing(File::create(at(path)).map(drop)),
        Op::Read(path, off, len) => errno(File::open(at(path)).and_then(|f| {
            let mut data = vec![0; *len];
            let got = f.read_at(&mut data, *off as u64)?;
            data.truncate(got);
            Ok(data)
        })),
        Op::Truncate(path, size) => {
            nothing(existing(&at(path)).and_then(|f| f.set_len(*size as u64)))
        }
        Op::Allocate(path, mode, off, len) => nothing(existing(&at(path)).and_then(|f| {
            let mode = FallocateFlags::from_bits_retain(*mode);
            Ok(rustix::fs::fallocate(&f, mode, *off as u64, *len as u64)?)
        })),
        Op::Rename(from, to, flags) => {
            let flags = RenameFlags::from_bits_retain(*flags);
            nothing(
                rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags).map_err(Into::into),
            )
        }
        Op::Link(from, to) => nothing(fs::hard_link(at(from), at(to))),
        Op::Unlink(path) => nothing(fs::remove_file(at(path))),
        Op::Mkdir(path) => nothing(fs::create_dir(at(path))),
        Op::Rmdir(path) => nothing(fs::remove_dir(at(path))),
        Op::Symlink(len, path) => nothing(symlink("t".repeat(*len), at(path))),
        Op::Chmod(path, mode) => {
            nothing(rustix::fs::chmod(at(path), Mode::from_raw_mode(*mode)).map_err(Into::into))
        }
        Op::Times(path, time) => errno((|| {
            let time = Timespec {
                tv_sec: *time,
                tv_nsec: 123,
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            rustix::fs::utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW)?;
            let meta = fs::symlink_metadata(at(path))?;
            Ok(format!("{} {}", meta.mtime(), meta.mtime_nsec()).into_bytes())
        })()),
        Op::SetXattr(path, seed) => nothing(
            rustix::fs::lsetxattr(
                at(path),
                "user.a",
                &crate::fixture::bytes(*seed, 50),
                XattrFlags::empty(),
            )
            .map_err(Into::into),
        ),
        Op::GetXattr(path) => errno((|| {
            let mut value = vec![0; 1000];
            let len = rustix::fs::lgetxattr(at(path), "user.a", &mut value)?;
            value.truncate(len);
            Ok(value)
        })()),
        Op::Sync(path) => nothing(File::open(at(path)).and_then(|f| f.sync_all())),
    }
}

fn a_path(random: &mut Random) -> PathBuf {
    let long = "l".repeat(255);
    let names = ["a", "b", "c", "d", "e", &long];
    let mut path = PathBuf::new();
    while random.one_in(3) && path.components().count() < 3 {
        path.push(random.pick(&names));
    }
    path.join(random.pick(&names))
}

fn an_operation(random: &mut Random) -> Operation {
    use Operation as Op;
    let path = a_path(random);
    let (off, len) = (random.offset(CHUNK), random.length(CHUNK));
    let keep = FallocateFlags::KEEP_SIZE;
    let modes = [
        FallocateFlags::empty(),
        keep,
        keep | FallocateFlags::PUNCH_HOLE,
        FallocateFlags::ZERO_RANGE,
    ];
    let renames = [
        RenameFlags::empty(),
        RenameFlags::empty(),
        RenameFlags::NOREPLACE,
        RenameFlags::EXCHANGE,
    ];
    match random.below(28) {
        0..=4 => Op::Create(path),
        5..=8 => Op::Write(path, off, len, random.next()),
        9 | 10 => Op::Append(path, len, random.next()),
        11 | 12 => Op::Read(path, off, len),
        13 => Op::Truncate(path, off),
        14 => Op::Allocate(path, random.pick(&modes).bits(), off, len),
        15..=17 => Op::Rename(path, a_path(random), random.pick(&renames).bits()),
        18 => Op::Link(path, a_path(random)),
        19 => Op::Unlink(path),
        20 | 21 => Op::Mkdir(path),
        22 => Op::Rmdir(path),
        23 => Op::Symlink(*random.pick(&[1, 30, 3500]), path),
        24 => Op::Chmod(path, 0o600 | random.below(0o200) as u32),
        25 => Op::Times(path, random.next() as i64 % 2_000_000_000 - 1_000_000_000),
        26 => match random.below(2) {
            0 => Op::SetXattr(path, random.next()),
            _ => Op::GetXattr(path),
        },
        _ => Op::Sync(path),
    }
}

/// Everything below `root`: mode, links and content.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let meta =
            fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let content = if meta.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .expect("readable")
                    .map(|e| e.expect("readable").path()),
            );
            Vec::new()
        } else if meta.is_symlink() {
            fs::read_link(&path)
                .expect("a link")
                .into_os_string()
                .into_encoded_bytes()
        } else {
            let content = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(content.len() as u64, meta.len(), "{}", path.display());
            content
        };
        let name = path.strip_prefix(root).expect("below it").to_owned();
        found.insert(name, (meta.mode(), meta.nlink(), content));
    }
    found
}

fn assert_same_trees(mounted: &Path, plain: &Path) {
    let (mounted, plain) = (tree(mounted), tree(plain));
    assert_eq!(
        mounted.keys().collect::<Vec<_>>(),
        plain.keys().collect::<Vec<_>>()
    );
    for (name, found) in mounted {
        let expected = &plain[&name];
        assert_eq!(
            (found.0, found.1),
            (expected.0, expected.1),
            "mode and links of {}",
            name.display()
        );
        assert!(found.2 == expected.2, "content of {}", name.display());
    }
}

fn run(seed: u64, kind: Kind) {
    kind.run(|place| {
        let plain = place.vault().dir().dir("plain");
        fs::create_dir(place.join("tree")).expect("free");
        rustix::fs::chmod(&plain, Mode::from_raw_mode(0o755)).expect("ours");
        rustix::fs::chmod(place.join("tree"), Mode::from_raw_mode(0o755)).expect("ours");
        let mut random = Random::new(seed);
        for i in 0..OPERATIONS {
            let operation = an_operation(&mut random);
            let (found, expected) = (
                apply(&place.join("tree"), &operation),
                apply(&plain, &operation),
            );
            assert!(
                found == expected,
                "seed {seed}, operation {i}: {operation:?}: {:?} instead of {:?}",
                found.map(|d| d.len()),
                expected.map(|d| d.len())
            );
            if i % 250 == 249 {
                assert_same_trees(&place.join("tree"), &plain);
            }
            if i % 500 == 499 {
                place.remount();
                assert_same_trees(&place.join("tree"), &plain);
            }
        }
    });
}

#[test]
fn a_mount_behaves_as_ext4_does() {
    (1..=3).for_each(|seed| run(seed, DATA_KINDS[0]));
}

#[test]
fn a_mount_without_writeback_behaves_as_ext4_does() {
    (11..=13).for_each(|seed| run(seed, DATA_KINDS[1]));
}

#[test]
fn a_mount_with_large_chunks_behaves_as_ext4_does() {
    (21..=23).for_each(|seed| run(seed, DATA_KINDS[2]));
}
