//! The simulated disk beside a real one: the same calls get the same answers.

use std::collections::BTreeMap;

use wardfs::store::backing::{
    Allocate, Backing, Listing, OpenFor, RenameMode, SetTime, Sync, Target, XattrMode,
};
use wardfs::store::disk::{Atime, Disk};

use crate::common::TempDir;
use crate::disk::{Image, SimDisk, wall_clock};
use crate::random::Random;

const NAMES: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
const OPERATIONS: usize = 1500;

/// What a directory shows: kind, links, length, content, attributes of each entry.
type Shown = BTreeMap<Vec<u8>, String>;

fn errno<T>(outcome: std::io::Result<T>) -> Result<T, Option<i32>> {
    outcome.map_err(|e| e.raw_os_error())
}

/// The same random call on any disk, in one of two directories.
fn call<B: Backing>(disk: &B, random: &mut Random) -> Result<String, Option<i32>> {
    let root = errno(disk.root())?;
    let dirs = [
        errno(disk.open_dir(&root, b"x"))?,
        errno(disk.open_dir(&root, b"y"))?,
    ];
    let (from, to) = (&dirs[random.below(2)], &dirs[random.below(2)]);
    let (name, other) = (*random.pick(&NAMES), *random.pick(&NAMES));
    let (off, len) = (random.below(20_000) as u64, 1 + random.below(9000));
    let what = random.below(16);
    let open = || errno(disk.open(from, name, OpenFor::ReadWrite));
    match what {
        0 | 1 => errno(disk.create(from, name, 0o600)).map(drop)?,
        2 => errno(disk.mkdir(from, name, 0o700))?,
        3 => errno(disk.symlink(from, name, b"nowhere"))?,
        4 => errno(disk.link((from, name), (to, other)))?,
        5 | 6 => {
            let modes = [
                RenameMode::Replace,
                RenameMode::NoReplace,
                RenameMode::Exchange,
            ];
            errno(disk.rename((from, name), (to, other), *random.pick(&modes)))?;
        }
        7 => errno(disk.unlink(from, name))?,
        8 => errno(disk.rmdir(from, name))?,
        9 | 10 => {
            let data = vec![1 + random.below(255) as u8; len];
            errno(disk.write_at(&open()?, &data, off).map_err(|(_, e)| e))?;
        }
        11 => errno(disk.set_len(&open()?, off))?,
        12 => errno(disk.allocate(&open()?, Allocate::Punch, off, len as u64))?,
        13 => errno(disk.chmod(Target::File(&open()?), 0o640))?,
        14 => {
            let at = SetTime::At(wall_clock(1000));
            errno(disk.set_times(Target::At(from, name), SetTime::Keep, at))?;
        }
        _ => {
            let modes = [XattrMode::Any, XattrMode::Create, XattrMode::Replace];
            let file = open()?;
            errno(disk.set_xattr(Target::File(&file), b"user.t", b"v", *random.pick(&modes)))?;
            errno(disk.sync(&file, Sync::All))?;
        }
    }
    Ok(format!("{what}"))
}

fn show<B: Backing>(disk: &B, dir: &[u8]) -> Shown {
    let root = disk.root().expect("there");
    let dir = disk.open_dir(&root, dir).expect("there");
    let mut names = Vec::new();
    let mut listing = disk.list(&dir).expect("readable");
    let each = &mut |entry: wardfs::store::backing::ListedEntry<'_>| {
        names.push(entry.name.to_vec());
        true
    };
    listing.read(each).expect("readable");
    names.retain(|n| !matches!(&n[..], b"." | b".."));
    let describe = |name: &[u8]| {
        let attr = disk.stat(Target::At(&dir, name)).expect("listed");
        let is_file = attr.mode & libc::S_IFMT == libc::S_IFREG;
        let mut text = format!("{:o}", attr.mode);
        if is_file {
            let file = disk.open(&dir, name, OpenFor::Read).expect("listed");
            let mut content = vec![0; 40_000];
            let got = disk.read_at(&file, &mut content, 0).expect("readable");
            let sum = content[..got]
                .iter()
                .zip(1u64..)
                .fold(0, |s, (b, i)| s ^ (i * u64::from(*b)));
            text += &format!(
                " links {} size {} read {got} sum {sum}",
                attr.nlink, attr.size
            );
        }
        text
    };
    names
        .into_iter()
        .map(|name| (name.clone(), describe(&name)))
        .collect()
}

#[test]
fn the_simulated_disk_answers_as_a_real_one() {
    let dir = TempDir::new();
    let real = Disk::open(dir.path(), Atime::Backing).expect("there");
    let simulated = SimDisk::from_now(Image::new(wall_clock(0)));
    for name in [b"x", b"y"] {
        real.mkdir(&real.root().expect("there"), name, 0o700)
            .expect("free");
        simulated
            .mkdir(&simulated.root().expect("there"), name, 0o700)
            .expect("free");
    }
    let mut random = Random::new(5);
    for i in 0..OPERATIONS {
        let mut same = random.clone();
        let answers = (call(&real, &mut random), call(&simulated, &mut same));
        if answers.0 == Err(Some(libc::EOPNOTSUPP)) {
            return eprintln!("skipped: this filesystem has no extended attributes or no holes");
        }
        random = same;
        assert_eq!(answers.0, answers.1, "call {i}");
        for dir in [&b"x"[..], b"y"] {
            assert_eq!(show(&real, dir), show(&simulated, dir), "after call {i}");
        }
    }
}
