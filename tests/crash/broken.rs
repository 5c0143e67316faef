//! What is broken on purpose on the simulated disk: a check finds it there, a repair mends what can be mended, and the
//! judge blames what was synced.

use std::collections::BTreeMap;

use wardfs::store::check::Mode;
use wardfs::store::check::finding::{ByteRange, Finding, State, Subject};

use crate::disk::{Body, Image, Ino, Node, ROOT_INO, SimDisk, wall_clock};
use crate::findings::{judge, judge_silence};
use crate::lab::{Lab, Protection};
use crate::observe::{Observed, observe};
use crate::oracle::{Moment, Promise};
use crate::place::Place;

/// The prepared volume, in which something is broken.
struct Broken {
    lab: Lab,
    disk: SimDisk,
}

impl Broken {
    /// As it was closed.
    fn new(harm: impl FnOnce(&Lab, &mut Image)) -> Self {
        let lab = Lab::new(Protection::Journal);
        let image = lab.disk().image();
        Self::of(lab, image, harm)
    }

    /// As a process that was killed left it.
    fn in_use(harm: impl FnOnce(&Lab, &mut Image)) -> Self {
        let lab = Lab::new(Protection::Journal);
        let disk = lab.disk();
        drop(lab.open(&disk).expect("whole"));
        Self::of(lab, disk.image(), harm)
    }

    fn of(lab: Lab, mut image: Image, harm: impl FnOnce(&Lab, &mut Image)) -> Self {
        harm(&lab, &mut image);
        let disk = SimDisk::from_now(image);
        Self { lab, disk }
    }

    fn check(&self, mode: Mode) -> Vec<Finding> {
        self.lab.check(&self.disk, mode).expect("it can be opened")
    }

    /// The only thing that a check finds.
    #[track_caller]
    fn finding(&self) -> Finding {
        let found = self.check(Mode::Look);
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().expect("one")
    }

    /// How much of it is blamed, where all that was prepared is durable.
    fn blamed(&self) -> usize {
        let found = self.check(Mode::Look);
        judge(self.moment(), &self.disk.image(), &found).len()
    }

    /// How much is passed over in silence by a check that says this.
    fn silent(&self, found: &[Finding]) -> usize {
        let disk = SimDisk::from_now(self.disk.image());
        let seen: Observed = observe(&self.lab.open(&disk).expect("mountable"), &[]);
        judge_silence(&disk.image(), found, &seen).len()
    }

    fn moment(&self) -> Moment<'_> {
        Moment {
            history: &self.lab.prepared,
            done: 1,
            promise: Promise::Weak,
        }
    }

    #[track_caller]
    fn is_mended(&self) {
        let found = self.check(Mode::Repair);
        assert!(
            found.iter().all(|f| f.state == State::Repaired),
            "{found:?}"
        );
        assert_eq!(found.len(), 1);
        assert_eq!(self.check(Mode::Look).len(), 0);
    }
}

fn ino_of(lab: &Lab, place: Place) -> Ino {
    lab.prepared.latest_at(place).expect("prepared")
}

fn at(image: &Image, path: &[&str]) -> Ino {
    path.iter().fold(ROOT_INO, |dir, name| {
        image.entry(dir, name.as_bytes()).expect("there")
    })
}

fn flip(image: &mut Image, ino: Ino, off: u64) {
    let file = image.file_mut(ino).expect("a file");
    let mut sector = file.sector(off / 512);
    sector[off as usize % 512] ^= 1;
    file.put_sector(off / 512, &sector);
}

/// The names of the copies of a directory's id: the file, and the link to it.
fn id_names(image: &Image, dir: Ino) -> Vec<Vec<u8>> {
    let entries = image.node(dir).and_then(Node::entries);
    let names = entries.into_iter().flat_map(BTreeMap::keys);
    names.filter(|n| n.starts_with(b"~id")).cloned().collect()
}

#[test]
fn in_a_volume_that_is_whole_nothing_is_found() {
    for broken in [Broken::new(|_, _| {}), Broken::in_use(|_, _| {})] {
        assert_eq!(broken.check(Mode::Look).len(), 0);
        assert_eq!(broken.check(Mode::Repair).len(), 0);
        assert_eq!(broken.check(Mode::Look).len(), 0);
    }
}

#[test]
fn a_flipped_bit_in_a_chunk_is_found_with_the_bytes_it_takes() {
    let broken = Broken::new(|lab, image| flip(image, ino_of(lab, Place::Ax), 5000));
    let found = broken.finding();
    assert_eq!(
        (found.state, found.subject),
        (State::Damaged, Subject::File)
    );
    assert_eq!(found.path, b"A/x");
    let (start, end) = (4096, 8192);
    assert_eq!(found.ranges, [ByteRange { start, end }]);
    assert_eq!(broken.blamed(), 1);
    assert_eq!(broken.silent(&[]), 1);
    assert_eq!(broken.silent(&[found]), 0);
}

#[test]
fn a_directory_that_has_lost_both_copies_of_its_id_is_found() {
    let broken = Broken::new(|lab, image| {
        let dir = ino_of(lab, Place::A);
        for name in id_names(image, dir) {
            image.leave(dir, &name);
        }
    });
    let found = broken.finding();
    let what = (found.state, found.subject);
    assert_eq!(what, (State::Damaged, Subject::DirectoryId));
    assert_eq!(found.path, b"A");
    assert_eq!(broken.blamed(), 1);
    assert_eq!(broken.silent(&[]), 1);
    assert_eq!(broken.silent(&[found]), 0);
}

#[test]
fn a_copy_of_a_directory_id_that_is_lost_is_made_again_from_the_other() {
    for which in [0, 1] {
        let broken = Broken::new(|lab, image| {
            let dir = ino_of(lab, Place::A);
            let names = id_names(image, dir);
            assert_eq!(names.len(), 2);
            image.leave(dir, &names[which]);
        });
        let found = broken.finding();
        let what = (found.state, found.subject);
        assert_eq!(what, (State::Damaged, Subject::DirectoryId));
        broken.is_mended();
        assert_eq!(broken.silent(&[]), 0);
    }
}

#[test]
fn a_temporary_file_that_nobody_needs_is_a_leftover_and_removed() {
    let broken = Broken::new(|_, image| {
        let (tmp, ino) = (at(image, &["~wardfs", "tmp"]), image.next_ino());
        let file = Body::File(Default::default());
        image.insert(ino, Node::new(libc::S_IFREG | 0o600, file, wall_clock(0)));
        image.enter(tmp, b"volume", ino, ino);
    });
    let found = broken.finding();
    let what = (found.state, found.subject);
    assert_eq!(what, (State::Leftover, Subject::Temporary));
    assert_eq!(found.stored, b"~wardfs/tmp/volume");
    assert_eq!(broken.blamed(), 0);
    broken.is_mended();
}

#[test]
fn a_slot_of_the_superblock_that_a_crash_tore_is_a_leftover_and_else_damage() {
    let harm = |_: &Lab, image: &mut Image| {
        let superblock = at(image, &["~wardfs", "journal", "superblock"]);
        flip(image, superblock, 4096 + 20);
    };
    for (broken, state) in [
        (Broken::in_use(harm), State::Leftover),
        (Broken::new(harm), State::Damaged),
    ] {
        let found = broken.finding();
        assert_eq!((found.state, found.subject), (state, Subject::Superblock));
        broken.is_mended();
    }
}
