//! What moves while the walk is under way is met, wherever it goes: moved at the worst moment, by the walk's own watcher.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use wardfs::fs::rotate::{Skipped, Watch};
use wardfs::fs::{Caller, Config, Existing, Fs, NewMode, ROOT};
use wardfs::keys::rotation::{self, Hands};
use wardfs::keys::secret::SlotSecret;
use wardfs::store::Disk;
use wardfs::store::backing::RenameMode;
use wardfs::store::check::tally::Tally;
use wardfs::store::disk::Atime;
use wardfs::store::file::Resealed;
use wardfs::store::volume::{Access, Locked, Options, Volume};
use wardfs::sys::secret::SecretVec;

use crate::common::{PASSPHRASE, Vault};
use crate::lab::{bytes, content_files, epochs_of};

const CALLER: Caller = Caller { uid: 0, gid: 0 };
const DIRS: [&str; 3] = ["a", "b", "c"];
const FILES: u64 = 6;

fn name_of(number: u64) -> Vec<u8> {
    format!("file {number}").into_bytes()
}

/// Moves something whenever a file was read.
struct Mover<'f> {
    fs: &'f Fs<Disk>,
    /// Called with how many runs were read before.
    moves: &'f dyn Fn(&Fs<Disk>, u64),
    runs: Cell<u64>,
    skipped: RefCell<Vec<String>>,
}

impl Watch for Mover<'_> {
    fn advanced(&self, _: Resealed) {
        (self.moves)(self.fs, self.runs.get());
        self.runs.set(self.runs.get() + 1);
    }

    fn skipped(&self, skipped: &Skipped) {
        self.skipped.borrow_mut().push(skipped.error.to_string());
    }

    fn is_stopped(&self) -> bool {
        false
    }
}

fn ino(fs: &Fs<Disk>, parent: u64, name: &[u8]) -> Option<u64> {
    let found = fs.lookup(parent, name).expect("readable");
    found.map(|entry| entry.attr.ino)
}

/// Rotates a tree of three directories with six files each while `moves` moves them; afterwards every chunk is of the new
/// epoch, and there are as many files as before.
fn rotated_while(moves: &dyn Fn(&Fs<Disk>, u64)) {
    let vault = Vault::new();
    let locked = Locked::open(&vault.path()).expect("a vault");
    let passphrase = Some(SecretVec::from(PASSPHRASE.as_bytes()));
    let secret = SlotSecret::new(passphrase, None).expect("not empty");
    let (key, keys) = locked.unlock(&secret).expect("right");
    let disk = || Disk::open(&vault.path(), Atime::Keep).expect("there");
    let volume = Volume::on(
        disk(),
        None,
        keys.clone(),
        locked.header(),
        Access::ReadWrite,
        Options::default(),
    );
    let config = Config {
        own_as_caller: false,
        acl: false,
        cached_dirs: 16,
    };
    let fs = Fs::new(volume.expect("clean"), config).expect("a root");
    let new = |mode| NewMode { mode, umask: 0 };
    for dir in DIRS {
        let made = fs.mkdir(CALLER, ROOT, dir.as_bytes(), new(libc::S_IFDIR | 0o700));
        let parent = made.expect("free").attr.ino;
        for number in 0..FILES {
            let mode = new(libc::S_IFREG | 0o600);
            let name = name_of(number);
            let made = fs.create(CALLER, parent, &name, mode, Existing::Refuse);
            let (_, fh) = made.expect("free");
            fs.write(fh, 0, &bytes(number, 5000)).expect("written");
            fs.release(fh).expect("open");
        }
    }
    let mut header = locked.header().clone();
    rotation::begin(&mut header, &key, Hands::Own).expect("there are epochs left");
    let state = rotation::state(&header, &key).expect("authentic");
    let target = keys.follow(state.keyring).expect("ahead");
    assert_eq!(target.map(|epoch| epoch.0), Some(1));
    let mover = Mover {
        fs: &fs,
        moves,
        runs: Cell::default(),
        skipped: RefCell::default(),
    };
    let walked = fs.rotate(&disk(), &mover, &Tally::default());
    assert!(
        walked.expect("writable").is_complete(),
        "{:?}",
        mover.skipped
    );
    fs.close().expect("complete");
    let files = content_files(&vault.path());
    assert_eq!(files.len() as u64, DIRS.len() as u64 * FILES);
    let keys = Arc::clone(&keys);
    assert_eq!(epochs_of(&vault, &keys, &files), [1].into());
}

/// Moves every file of one directory into the next, again and again, more often than the walk is long.
#[test]
fn files_that_are_moved_behind_the_walk_are_met() {
    for (from, to) in [
        ("a", "b"),
        ("b", "a"),
        ("b", "c"),
        ("c", "a"),
        ("c", "b"),
        ("a", "c"),
    ] {
        rotated_while(&|fs, runs| {
            let dirs = [from, to].map(|dir| ino(fs, ROOT, dir.as_bytes()).expect("there"));
            if runs == 0 {
                for number in 0..FILES {
                    let new = format!("moved {number}").into_bytes();
                    let name = name_of(number);
                    ino(fs, dirs[0], &name).expect("there");
                    let moved = fs.rename((dirs[0], &name), (dirs[1], &new), RenameMode::Replace);
                    moved.expect("moved");
                }
            }
        });
    }
}

#[test]
fn directories_that_are_moved_behind_the_walk_are_met_with_all_below() {
    for (from, to) in [("a", "b"), ("b", "a"), ("b", "c"), ("c", "a")] {
        rotated_while(&|fs, runs| {
            let into = ino(fs, ROOT, to.as_bytes());
            if runs == 1
                && let Some(into) = into
                && ino(fs, ROOT, from.as_bytes()).is_some()
            {
                let moved = fs.rename(
                    (ROOT, from.as_bytes()),
                    (into, b"deep"),
                    RenameMode::Replace,
                );
                moved.expect("moved");
            }
        });
    }
}

#[test]
fn what_changes_its_name_at_every_step_is_met_in_the_end() {
    rotated_while(&|fs, runs| {
        if runs > 40 {
            return;
        }
        for dir in DIRS {
            let parent = ino(fs, ROOT, dir.as_bytes()).expect("there");
            for number in 0..FILES {
                let names = [name_of(number), name_of(number + 100)];
                let is_new = usize::from(ino(fs, parent, &names[0]).is_none());
                let (old, new) = (&names[is_new], &names[1 - is_new]);
                ino(fs, parent, old).expect("there");
                let moved = fs.rename((parent, old), (parent, new), RenameMode::Replace);
                moved.expect("moved");
            }
        }
    });
}

#[test]
fn exchanged_and_linked_files_are_met() {
    rotated_while(&|fs, runs| {
        if runs != 2 {
            return;
        }
        let dirs = DIRS.map(|dir| ino(fs, ROOT, dir.as_bytes()).expect("there"));
        for number in 0..FILES {
            let name = name_of(number);
            ino(fs, dirs[0], &name).expect("there");
            let other = ino(fs, dirs[1], &name).expect("there");
            let exchange = RenameMode::Exchange;
            fs.rename((dirs[0], &name), (dirs[1], &name), exchange)
                .expect("exchanged");
            let linked = format!("linked {number}").into_bytes();
            fs.link(other, dirs[2], &linked).expect("linked");
            fs.unlink(dirs[0], &name).expect("there");
        }
    });
}

#[test]
fn files_that_are_written_cut_and_removed_under_the_walk_are_no_trouble() {
    rotated_while(&|fs, runs| {
        let parent = ino(fs, ROOT, b"b").expect("there");
        let name = b"busy";
        if runs < 10 && runs % 2 == 0 {
            let mode = NewMode {
                mode: libc::S_IFREG | 0o600,
                umask: 0,
            };
            let made = fs.create(CALLER, parent, name, mode, Existing::Open);
            let (_, fh) = made.expect("made");
            fs.write(fh, runs * 3000, &bytes(runs, 9000))
                .expect("written");
            fs.release(fh).expect("open");
        } else if ino(fs, parent, name).is_some() {
            fs.unlink(parent, name).expect("there");
        }
        for number in 0..FILES {
            let Some(ino) = ino(fs, parent, &name_of(number)) else {
                continue;
            };
            let fh = fs.open(ino, libc::O_RDWR).expect("there");
            fs.write(fh, 4000, &bytes(runs, 300)).expect("written");
            fs.release(fh).expect("open");
        }
    });
}
