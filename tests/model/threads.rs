//! Many threads in one file.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use wardfs::crypto::Cipher;
use wardfs::fs::{Fh, ROOT};
use wardfs::store::backing::{RenameMode, Sync};

use crate::driver::{CALLER, Driver, KINDS, Path, ok};
use crate::fixture::bytes;
use crate::lab::Lab;
use crate::random::Random;
use crate::syncs::both;

const THREADS: usize = 6;

fn path(name: &str) -> Path {
    vec![name.as_bytes().to_vec()]
}

/// Runs `work` on one open file in many threads, and gives what is in it then and after a reopen.
fn in_threads(
    (cipher, chunk): (Cipher, u32),
    work: impl Fn(&wardfs::fs::Fs<crate::watched::Watched>, Fh, u64, usize) + std::marker::Sync,
) -> Vec<u8> {
    let lab = Lab::new(cipher, chunk);
    let mut driver = Driver::new(&lab);
    let handle = driver.create(&path("file")).expect("free");
    let fs = driver.fs();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let work = &work;
            scope.spawn(move || work(fs, handle.1, handle.0, thread));
        }
    });
    let size = ok(fs.getattr(handle.0)).expect("open").size as usize;
    let content = driver.read_all(handle.1, size).expect("readable");
    driver.close(handle);
    driver.reopen();
    let handle = driver.open(&path("file"), libc::O_RDONLY).expect("there");
    assert!(
        driver.read_all(handle.1, size).expect("readable") == content,
        "another content after a reopen"
    );
    driver.close(handle);
    content
}

#[test]
fn disjoint_ranges_do_not_disturb_each_other() {
    for kind in KINDS {
        const PIECE: usize = 5003;
        const PIECES: usize = 200;
        let content = in_threads(kind, |fs, fh, _, thread| {
            let mut random = Random::new(thread as u64 + 1);
            let mut mine: Vec<usize> = (0..PIECES).filter(|p| p % THREADS == thread).collect();
            // In any order, each piece twice, in two parts.
            mine.extend(mine.clone());
            while !mine.is_empty() {
                let piece = mine.swap_remove(random.below(mine.len()));
                let (data, cut) = (bytes(piece as u64, PIECE), random.below(PIECE));
                let at = piece * PIECE;
                for (off, part) in [(at + cut, &data[cut..]), (at, &data[..cut])] {
                    fs.write(fh, off as u64, part).expect("room");
                }
                if random.one_in(10) {
                    fs.fsync(fh, Sync::Data).expect("room");
                }
                let mut seen = vec![0; PIECE];
                assert_eq!(fs.read(fh, at as u64, &mut seen).expect("readable"), PIECE);
                assert!(seen == data, "piece {piece} of thread {thread}");
            }
        });
        let model: Vec<u8> = (0..PIECES).flat_map(|p| bytes(p as u64, PIECE)).collect();
        assert!(content == model);
    }
}

#[test]
fn overlapping_writes_are_each_whole() {
    for kind in KINDS {
        const RECORD: usize = 10_007;
        let content = in_threads(kind, |fs, fh, _, thread| {
            let mut random = Random::new(thread as u64 + 100);
            for i in 0..150 {
                let at = (random.below(40) * RECORD) as u64;
                let mark = (1 + (thread * 40 + i) % 255) as u8;
                fs.write(fh, at, &[mark; RECORD]).expect("room");
                let mut seen = [0; RECORD];
                let got = fs.read(fh, at, &mut seen).expect("readable");
                assert!(
                    got == RECORD && seen.iter().all(|b| *b == seen[0]),
                    "a mixed record"
                );
            }
        });
        for (i, record) in content.chunks(RECORD).enumerate() {
            assert!(
                record.iter().all(|b| *b == record[0]),
                "record {i} is mixed"
            );
        }
    }
}

#[test]
fn writing_cutting_and_punching_at_once_never_damages_a_file() {
    for kind in KINDS {
        let chunk = kind.1 as usize;
        in_threads(kind, |fs, fh, ino, thread| {
            let mut random = Random::new(thread as u64 + 1000);
            let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            for _ in 0..200 {
                let (off, len) = (random.offset(chunk) as u64, random.length(chunk));
                let mut seen = vec![0; len];
                match (thread, random.below(4)) {
                    (0, 0) => {
                        let size = wardfs::fs::SetAttr {
                            size: Some(off),
                            ..crate::driver::KEEP
                        };
                        fs.setattr(CALLER, ino, &size).expect("room");
                    }
                    (1, 0) => fs
                        .fallocate(CALLER, fh, off, len as u64, punch)
                        .expect("supported"),
                    (2, 0) => fs.fsync(fh, Sync::All).expect("room"),
                    (_, 1 | 2) => fs
                        .write(fh, off, &vec![thread as u8 + 1; len])
                        .expect("room"),
                    _ => {
                        let got = fs.read(fh, off, &mut seen).expect("readable");
                        assert!(
                            seen[..got].iter().all(|b| usize::from(*b) <= THREADS),
                            "a byte nobody wrote"
                        );
                    }
                }
            }
        });
    }
}

#[test]
fn a_file_closed_by_two_at_once_is_complete() {
    let lab = Lab::new(KINDS[0].0, KINDS[0].1);
    let mut driver = Driver::new(&lab);
    const FILES: usize = 500;
    for i in 0..FILES {
        let first = driver.create(&path(&i.to_string())).expect("free");
        let second = driver
            .open(&path(&i.to_string()), libc::O_RDWR)
            .expect("there");
        let together = Barrier::new(2);
        let fs = driver.fs();
        std::thread::scope(|scope| {
            for handle in [first, second] {
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    fs.release(handle.1).expect("open");
                });
            }
        });
        fs.forget(first.0, 2).expect("not poisoned");
    }
    driver.reopen();
    for i in 0..FILES {
        let handle = driver
            .open(&path(&i.to_string()), libc::O_RDONLY)
            .expect("there");
        assert_eq!(driver.read_all(handle.1, 0), Ok(Vec::new()), "file {i}");
        driver.close(handle);
    }
}

#[test]
fn opening_and_closing_at_once_loses_no_write() {
    let lab = Lab::new(KINDS[0].0, KINDS[0].1);
    let mut driver = Driver::new(&lab);
    driver.close(driver.create(&path("file")).expect("free"));
    let fs = driver.fs();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for i in 0..200u64 {
                    let entry = fs
                        .lookup(ROOT, b"file")
                        .expect("searchable")
                        .expect("there");
                    let fh = fs.open(entry.attr.ino, libc::O_RDWR).expect("there");
                    fs.write(
                        fh,
                        (i * THREADS as u64 + thread as u64) * 100,
                        &[thread as u8 + 1; 100],
                    )
                    .expect("room");
                    fs.release(fh).expect("open");
                    fs.forget(entry.attr.ino, 1).expect("not poisoned");
                }
            });
        }
    });
    driver.reopen();
    let handle = driver.open(&path("file"), libc::O_RDONLY).expect("there");
    let content = driver
        .read_all(handle.1, 200 * THREADS * 100)
        .expect("readable");
    driver.close(handle);
    assert_eq!(content.len(), 200 * THREADS * 100);
    for (i, piece) in content.chunks(100).enumerate() {
        assert!(
            piece.iter().all(|b| usize::from(*b) == i % THREADS + 1),
            "piece {i}"
        );
    }
}

#[test]
fn names_come_and_go_in_many_threads() {
    let lab = Lab::new(KINDS[0].0, KINDS[0].1);
    let mut driver = Driver::new(&lab);
    let fs = driver.fs();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let fh = fs.opendir(ROOT).expect("there");
                fs.readdir(fh, 0, wardfs::fs::Detail::Names, &mut |_| true)
                    .expect("readable");
                fs.releasedir(fh).expect("open");
            }
        });
        let makers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    for i in 0..100 {
                        let (dir, new) = (
                            format!("dir{}", i % 3),
                            format!("{thread}-{i}{}", "l".repeat(i % 2 * 200)),
                        );
                        let made =
                            fs.mkdir(CALLER, ROOT, dir.as_bytes(), crate::driver::new_mode(0o700));
                        let ino = match made {
                            Ok(entry) => entry.attr.ino,
                            Err(_) => match fs.lookup(ROOT, dir.as_bytes()).expect("searchable") {
                                Some(entry) => entry.attr.ino,
                                None => continue,
                            },
                        };
                        let made = fs.mknod(
                            CALLER,
                            ino,
                            new.as_bytes(),
                            crate::driver::new_mode(libc::S_IFREG | 0o600),
                            0,
                        );
                        if let Ok(entry) = made {
                            fs.unlink(ino, new.as_bytes())
                                .expect("just made, by nobody else");
                            fs.forget(entry.attr.ino, 1).expect("not poisoned");
                        }
                        // Others may be at work in it: then it is not empty, or gone.
                        let _ = fs.rmdir(ROOT, dir.as_bytes());
                        fs.forget(ino, 1).expect("not poisoned");
                    }
                })
            })
            .collect();
        for maker in makers {
            maker.join().expect("no panic");
        }
        stop.store(true, Ordering::Relaxed);
    });
    driver.reopen();
    for name in driver
        .names(ROOT, wardfs::fs::Detail::Names)
        .expect("readable")
    {
        let ino = driver
            .lookup(ROOT, &name)
            .expect("searchable")
            .expect("there");
        assert_eq!(
            driver.names(ino, wardfs::fs::Detail::Names),
            Ok(vec![]),
            "nothing is left in it"
        );
        assert_eq!(ok(driver.fs().rmdir(ROOT, &name)), Ok(()));
    }
}

/// The kernel hands over what was written at any moment, also while a program reserves space before it.
#[test]
fn space_that_is_reserved_beside_a_write_behind_it_cuts_nothing_off() {
    for mode in [0, libc::FALLOC_FL_ZERO_RANGE] {
        let lab = Lab::new(KINDS[0].0, KINDS[0].1);
        let driver = Driver::new(&lab);
        let fs = driver.fs();
        let handle = driver.create(&path("file")).expect("free");
        fs.write(handle.1, 0, &bytes(1, 9000)).expect("room");
        fs.fsync(handle.1, Sync::All).expect("room");
        let gate = lab.watch.hold("write_at");
        let write = || ok(fs.write_cached(handle.1, 200_000, &bytes(2, 9000)));
        let reserve = || ok(fs.fallocate(CALLER, handle.1, 50_000, 50_000, mode));
        assert_eq!(both(&gate, write, reserve), (Ok(()), Ok(())));
        let size = ok(fs.getattr(handle.0)).expect("open").size;
        assert_eq!(size, 209_000, "mode {mode}");
        let mut wanted = vec![0; 209_000];
        wanted[..9000].copy_from_slice(&bytes(1, 9000));
        wanted[200_000..].copy_from_slice(&bytes(2, 9000));
        assert!(driver.read_all(handle.1, 209_000).expect("readable") == wanted);
        driver.close(handle);
    }
}

/// What this process holds below `vault` that has no name any more.
fn held_without_a_name(vault: &std::path::Path) -> usize {
    let held = std::fs::read_dir("/proc/self/fd").expect("mounted");
    held.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter(|path| path.starts_with(vault) && path.to_string_lossy().ends_with(" (deleted)"))
        .count()
}

/// A file that is made meanwhile would be taken for the old one, with its pages and its size.
#[test]
fn the_number_of_what_is_removed_is_not_free_before_it_is_forgotten() {
    for by_rename in [false, true] {
        let lab = Lab::new(KINDS[0].0, KINDS[0].1);
        let driver = Driver::new(&lab);
        let fs = driver.fs();
        let handle = driver.create(&path("file")).expect("free");
        driver.close(handle);
        // Its target is in a file of its own, which is removed after the name.
        fs.symlink(CALLER, ROOT, b"link", &[b't'; 4000])
            .expect("free");
        let gate = lab.watch.hold("open_dir");
        std::thread::scope(|scope| {
            let removing = scope.spawn(|| match by_rename {
                true => fs.rename((ROOT, b"file"), (ROOT, b"link"), RenameMode::Replace),
                false => fs.unlink(ROOT, b"link"),
            });
            gate.wait_for_one();
            assert_eq!(held_without_a_name(&lab.vault()), 1);
            gate.open();
            removing.join().expect("no panic").expect("possible");
        });
        assert_eq!(held_without_a_name(&lab.vault()), 0);
    }
}
