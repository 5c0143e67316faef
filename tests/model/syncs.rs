//! Syncs that meet: none is answered before what it promises is on the disk, whoever it was that began to write it.

use std::sync::mpsc::channel;
use std::thread::{Scope, ScopedJoinHandle};

use wardfs::fs::{Existing, Fh, Fs, ROOT, SetAttr};
use wardfs::store::backing::{SetTime, Sync, Time};

use crate::driver::{CALLER, Driver, KEEP, KINDS, Path, new_mode, ok};
use crate::lab::Lab;
use crate::watched::{Gate, Watched};

fn path(name: &str) -> Path {
    vec![name.as_bytes().to_vec()]
}

fn lab() -> Lab {
    Lab::new(KINDS[0].0, KINDS[0].1)
}

/// A new volume, and what can be held and refused below it.
fn opened() -> (Fs<Watched>, Lab) {
    let lab = lab();
    (lab.open(), lab)
}

/// Runs `work` in a thread; returns when that waits for something, or has ended.
fn until_it_waits<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    work: impl FnOnce() -> T + Send + 's,
) -> ScopedJoinHandle<'s, T> {
    let (tell, told) = channel();
    let thread = scope.spawn(move || {
        tell.send(rustix::thread::gettid()).expect("it is awaited");
        work()
    });
    let tid = told.recv().expect("the thread says so first");
    let stat = format!("/proc/self/task/{}/stat", tid.as_raw_nonzero());
    while let Ok(stat) = std::fs::read_to_string(&stat) {
        let state = stat.rsplit(") ").next().expect("it has a name");
        if thread.is_finished() || state.starts_with('S') {
            break;
        }
        std::thread::yield_now();
    }
    thread
}

/// Two calls, the second of which must have to wait while the first one is held at the gate; what they answered.
pub fn both<T: Send>(
    gate: &Gate,
    first: impl FnOnce() -> T + Send,
    second: impl FnOnce() -> T + Send,
) -> (T, T) {
    std::thread::scope(|scope| {
        let first = scope.spawn(first);
        gate.wait_for_one();
        let second = until_it_waits(scope, second);
        let too_early = second.is_finished();
        let at_the_gate = gate.count();
        gate.open();
        let answers = (
            first.join().expect("no panic"),
            second.join().expect("no panic"),
        );
        assert!(!too_early, "answered while the other one was under way");
        assert_eq!(at_the_gate, 1, "both were at work at the same time");
        answers
    })
}

fn new_file(fs: &Fs<Watched>, dir: u64, name: &str) -> Fh {
    let new = new_mode(libc::S_IFREG | 0o600);
    let made = fs.create(CALLER, dir, name.as_bytes(), new, Existing::Refuse);
    let (_, fh) = made.expect("free");
    fs.write(fh, 0, &[1; 9000]).expect("room");
    fh
}

fn new_dir(fs: &Fs<Watched>, name: &str) -> u64 {
    let made = fs.mkdir(CALLER, ROOT, name.as_bytes(), new_mode(0o700));
    made.expect("free").attr.ino
}

#[test]
fn one_who_syncs_a_file_that_another_one_is_syncing_waits_for_that() {
    let (fs, lab) = &opened();
    let fh = new_file(fs, ROOT, "file");
    fs.fsyncdir(fs.opendir(ROOT).expect("there")).expect("room");
    lab.watch.take();
    let gate = lab.watch.hold("sync");
    let sync = || ok(fs.fsync(fh, Sync::Data));
    assert_eq!(both(&gate, sync, sync), (Ok(()), Ok(())));
    // The second one needs no flush of its own.
    assert_eq!(lab.watch.take(), "sync*1");
}

#[test]
fn a_sync_that_fails_fails_for_all_who_wait_for_it() {
    let (fs, lab) = &opened();
    let fh = new_file(fs, ROOT, "file");
    fs.fsyncdir(fs.opendir(ROOT).expect("there")).expect("room");
    lab.watch.take();
    let gate = lab.watch.hold("sync");
    lab.watch.refuse_one("sync", libc::EIO, 0);
    let sync = || ok(fs.fsync(fh, Sync::Data));
    assert_eq!(both(&gate, sync, sync), (Err(libc::EIO), Err(libc::EIO)));
    assert_eq!(sync(), Ok(()));
    assert_eq!(lab.watch.take(), "sync*2");
}

#[test]
fn a_file_is_not_synced_before_the_names_on_its_path_that_another_one_is_syncing() {
    let (fs, lab) = &opened();
    let dir = new_dir(fs, "dir");
    let (a, b) = (new_file(fs, dir, "a"), new_file(fs, dir, "b"));
    // The first sync is of the id of a directory.
    let gate = lab.watch.hold("sync");
    let sync = |fh| ok(fs.fsync(fh, Sync::Data));
    assert_eq!(both(&gate, || sync(a), || sync(b)), (Ok(()), Ok(())));
}

#[test]
fn the_ids_of_directories_that_left_the_cache_are_waited_for_and_not_forgotten_after_an_error() {
    let (fs, lab) = &opened();
    let files: Vec<Fh> = (0..20)
        .map(|i| new_file(fs, new_dir(fs, &format!("dir{i}")), "file"))
        .collect();
    let sync = |i: usize| ok(fs.fsync(files[i], Sync::Data));
    lab.watch.refuse_one("sync_all", libc::EIO, 0);
    assert_eq!(sync(0), Err(libc::EIO));
    lab.watch.take();
    let gate = lab.watch.hold("sync_all");
    assert_eq!(both(&gate, || sync(0), || sync(1)), (Ok(()), Ok(())));
    let calls = lab.watch.take();
    assert!(calls.contains("sync_all*1"), "{calls}");
}

#[test]
fn a_checkpoint_does_not_flush_the_journal_beside_another_flush() {
    let (fs, lab) = &opened();
    let fh = new_file(fs, ROOT, "file");
    fs.fsync(fh, Sync::All).expect("room");
    fs.write(fh, 100, &[2; 100]).expect("room");
    let gate = lab.watch.hold("sync");
    lab.watch.refuse_one("sync", libc::EIO, 0);
    let answers = both(
        &gate,
        || ok(fs.fsync(fh, Sync::Data)),
        || ok(fs.checkpoint()),
    );
    assert_eq!(answers, (Err(libc::EIO), Err(libc::EIO)));
}

#[test]
fn a_mode_that_is_changed_beside_a_sync_is_synced_by_the_next_one() {
    let (fs, lab) = &opened();
    let fh = new_file(fs, ROOT, "file");
    fs.fsync(fh, Sync::All).expect("room");
    let ino = ino_of(fs, "file");
    let set = SetAttr {
        mode: Some(0o640),
        ..KEEP
    };
    let gate = lab.watch.hold("chmod");
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| fs.setattr(CALLER, ino, &set).map(drop));
        gate.wait_for_one();
        fs.fsync(fh, Sync::All).expect("room");
        gate.open();
        changing.join().expect("no panic").expect("allowed");
    });
    lab.watch.take();
    fs.fsync(fh, Sync::All).expect("room");
    assert_eq!(lab.watch.take(), "sync*1");
}

fn ino_of(fs: &Fs<Watched>, name: &str) -> u64 {
    let found = fs.lookup(ROOT, name.as_bytes()).expect("searchable");
    found.expect("there").attr.ino
}

fn mtime_set(sec: i64) -> (Time, SetAttr) {
    let time = Time { sec, nsec: 7 };
    let set = SetAttr {
        mtime: SetTime::At(time),
        ..KEEP
    };
    (time, set)
}

fn mtime_of(fs: &Fs<Watched>, ino: u64) -> Time {
    fs.getattr(ino).expect("there").mtime
}

/// Does `work` with a file whose content is being applied, in a call of this name; what the file's time is then lasts.
fn while_applying(
    call: &'static str,
    prepare: impl FnOnce(&Fs<Watched>, Fh, u64),
    work: impl FnOnce(&Fs<Watched>, Fh, u64),
) {
    let (fs, lab) = &opened();
    let fh = new_file(fs, ROOT, "file");
    fs.fsync(fh, Sync::All).expect("room");
    let ino = ino_of(fs, "file");
    prepare(fs, fh, ino);
    fs.commit().expect("room");
    let gate = lab.watch.hold(call);
    let time = std::thread::scope(|scope| {
        let applying = scope.spawn(|| fs.apply());
        gate.wait_for_one();
        work(fs, fh, ino);
        let time = mtime_of(fs, ino);
        gate.open();
        applying.join().expect("no panic").expect("room");
        time
    });
    assert_eq!(mtime_of(fs, ino), time);
    fs.close().expect("room");
    let fs = lab.open();
    assert_eq!(mtime_of(&fs, ino_of(&fs, "file")), time);
}

/// The kernel tells the time of a file whenever it syncs it: that waits for no disk but that of the journal.
#[test]
fn a_time_is_set_and_a_file_synced_while_what_was_written_is_applied() {
    let write = |fs: &Fs<Watched>, fh, _| fs.write(fh, 0, &[2; 100]).expect("room");
    while_applying("write_at", write, |fs, fh, ino| {
        let (time, set) = mtime_set(1_000_000_000);
        fs.setattr(CALLER, ino, &set).expect("allowed");
        fs.fsync(fh, Sync::Data).expect("room");
        assert_eq!(mtime_of(fs, ino), time);
    });
}

/// Though it is the same time.
#[test]
fn a_time_that_is_set_while_an_older_one_is_applied_waits_for_its_content() {
    let (time, set) = mtime_set(1_000_000_000);
    let write = |fs: &Fs<Watched>, fh, ino| {
        fs.write(fh, 0, &[2; 100]).expect("room");
        fs.setattr(CALLER, ino, &set).expect("allowed");
        assert_eq!(mtime_of(fs, ino), time);
    };
    while_applying("set_times", write, write);
}

/// Single chunks among others fill no page.
#[test]
fn the_disk_is_told_what_to_read_before_chunks_are_applied() {
    let (fs, lab) = &opened();
    let fh = new_file(fs, ROOT, "file");
    fs.write(fh, 9000, &[1; 40_000]).expect("room");
    fs.fsync(fh, Sync::All).expect("room");
    for chunk in [1, 4, 7] {
        fs.write(fh, chunk * 4096, &[2; 4096]).expect("room");
    }
    fs.commit().expect("room");
    lab.watch.take();
    fs.apply().expect("room");
    assert_eq!(lab.watch.take(), "set_times*1 will_read*3 write_at*3");
}

/// A sync of content after a write to the kernel's cache, which sets the time of change, has nothing else to wait for.
#[test]
fn times_that_a_user_sets_are_synced_and_those_that_the_kernel_sets_are_not() {
    let lab = lab();
    let driver = Driver::new(&lab);
    let fs = driver.fs();
    let fh = new_file(fs, ROOT, "file");
    fs.fsync(fh, Sync::All).expect("room");
    let ino = ino_of(fs, "file");
    let by_kernel = SetAttr {
        mtime: SetTime::Now,
        ..KEEP
    };
    let by_user = SetAttr {
        atime: SetTime::Now,
        ..by_kernel
    };
    for (set, syncs) in [(by_kernel, ""), (by_user, "sync*1")] {
        fs.setattr(CALLER, ino, &set).expect("allowed");
        lab.watch.take();
        fs.fsync(fh, Sync::All).expect("room");
        assert_eq!(lab.watch.take(), syncs);
    }
}

#[test]
fn who_comes_while_the_last_user_closes_a_file_leaves_no_write_unsynced() {
    let lab = lab();
    let mut driver = Driver::new(&lab);
    driver.close(driver.create(&path("file")).expect("free"));
    driver.reopen();
    let fs = driver.fs();
    let first = driver.open(&path("file"), libc::O_RDWR).expect("there");
    // It has a time to set when it is closed.
    fs.write_cached(first.1, 0, &[1; 10]).expect("room");
    fs.apply().expect("room");
    let gate = lab.watch.hold("set_times");
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| fs.release(first.1));
        gate.wait_for_one();
        let second = fs.open(first.0, libc::O_RDWR).expect("there");
        fs.write_cached(second, 10, &vec![2; 1 << 20])
            .expect("room");
        fs.release(second).expect("open");
        gate.open();
        closing.join().expect("no panic").expect("open");
    });
    fs.apply().expect("room");
    let again = fs.open(first.0, libc::O_RDWR).expect("there");
    lab.watch.take();
    fs.fsync(again, Sync::Data).expect("room");
    assert_eq!(lab.watch.take(), "sync*1");
    fs.release(again).expect("open");
}

#[test]
fn seven_who_come_during_a_flush_of_the_journal_share_the_next_one() {
    const THREADS: usize = 8;
    let (fs, lab) = &opened();
    let files: Vec<Fh> = (0..THREADS)
        .map(|i| {
            let fh = new_file(fs, ROOT, &format!("file{i}"));
            fs.fsync(fh, Sync::All).expect("room");
            fh
        })
        .collect();
    lab.watch.take();
    let gate = lab.watch.hold("sync");
    let log_line = |fh| {
        fs.write_cached(fh, 10, &[2; 100]).expect("room");
        fs.fsync(fh, Sync::Data).expect("room");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| log_line(files[0]));
        gate.wait_for_one();
        let others = files[1..]
            .iter()
            .map(|fh| until_it_waits(scope, || log_line(*fh)));
        let others: Vec<_> = others.collect();
        assert!(others.iter().all(|other| !other.is_finished()));
        gate.open();
    });
    let calls = lab.watch.take();
    assert!(calls.contains("sync*2 "), "{calls}");
}
