//! Tests of the oracle: what it must blame and what it must let pass, on histories made by hand.

use wardfs::fs::ROOT;
use wardfs::store::backing::Sync;

use crate::history::{Change, History};
use crate::observe::{Observed, Slot};
use crate::oracle::{Moment, Promise, judge};

const FILE: u64 = 50;
const NAME: &[u8] = b"f";

/// A durable file of ten bytes of 1, and what was done to it since.
struct Story {
    history: History,
    seen: Observed,
}

impl Story {
    fn new() -> Self {
        let mut history = History::default();
        history.prepared_file(ROOT, NAME, FILE, vec![1; 10]);
        let mut story = Self {
            history,
            seen: Observed::default(),
        };
        story.sees_name(NAME);
        story
    }

    fn sees_name(&mut self, name: &[u8]) {
        let slot = Slot {
            ino: FILE,
            listed: true,
        };
        self.seen.slots.insert((ROOT, name.to_vec()), slot);
    }

    fn writes(mut self, off: usize, bytes: &[u8]) -> Self {
        let mut content = self.history.latest_content(FILE).to_vec();
        let end = off + bytes.len();
        content.resize(content.len().max(end), 0);
        content[off..end].copy_from_slice(bytes);
        let range = off as u64..end as u64;
        self.history
            .changes_content(FILE, content, range, Change::Write);
        self.history.answered("write".into(), 1);
        self
    }

    fn resizes(mut self, len: usize) -> Self {
        let mut content = self.history.latest_content(FILE).to_vec();
        let old = content.len() as u64;
        content.resize(len, 0);
        let range = old.min(len as u64)..old.max(len as u64);
        self.history
            .changes_content(FILE, content, range, Change::Resize);
        self.history.answered("truncate".into(), 1);
        self
    }

    fn syncs(mut self) -> Self {
        self.history.syncs_file(FILE, Sync::Data);
        self.history.answered("fdatasync".into(), 1);
        self
    }

    fn renames(mut self, to: &[u8]) -> Self {
        self.history.changes_tree(|tree| {
            tree.remove(&(ROOT, NAME.to_vec()));
            tree.insert((ROOT, to.to_vec()), FILE);
        });
        self.history.answered("rename".into(), 1);
        self
    }

    fn syncs_dir(mut self) -> Self {
        self.history.syncs_dir(ROOT);
        self.history.answered("fsync of the directory".into(), 1);
        self
    }

    /// The classes of what is wrong if this is the content after the crash.
    fn classes(mut self, promise: Promise, content: Result<&[u8], &str>) -> Vec<&'static str> {
        let content = content.map(<[u8]>::to_vec).map_err(str::to_owned);
        self.seen.files.insert(FILE, content);
        self.seen.xattrs.insert(FILE, Ok(None));
        let moment = Moment {
            history: &self.history,
            done: self.history.next(),
            promise,
        };
        judge(moment, &self.seen)
            .into_iter()
            .map(|p| p.class)
            .collect()
    }

    fn blamed(self, content: &[u8]) -> Vec<&'static str> {
        self.classes(Promise::Ordered, Ok(content))
    }
}

const OLD: [u8; 10] = [1; 10];
const OVERWRITTEN: [u8; 10] = [1, 1, 2, 2, 2, 1, 1, 1, 1, 1];

#[test]
fn an_unsynced_write_may_be_there_or_not() {
    assert!(Story::new().writes(2, &[2; 3]).blamed(&OLD).is_empty());
    assert!(
        Story::new()
            .writes(2, &[2; 3])
            .blamed(&OVERWRITTEN)
            .is_empty()
    );
}

#[test]
fn a_synced_write_must_be_there() {
    let story = Story::new().writes(2, &[2; 3]).syncs();
    assert_eq!(story.blamed(&OLD), ["old content"]);
    let story = Story::new().writes(2, &[2; 3]).syncs();
    assert!(story.blamed(&OVERWRITTEN).is_empty());
}

#[test]
fn an_answered_write_must_be_there_when_only_the_process_died() {
    let story = Story::new().writes(2, &[2; 3]);
    assert_eq!(
        story.classes(Promise::Everything, Ok(&OLD)),
        ["old content"]
    );
}

#[test]
fn half_a_write_over_durable_bytes_is_torn() {
    let torn = [1, 1, 2, 2, 1, 1, 1, 1, 1, 1];
    assert_eq!(
        Story::new().writes(2, &[2; 3]).blamed(&torn),
        ["torn write"]
    );
}

#[test]
fn bytes_that_no_one_wrote_are_wrong() {
    let wrong = [1, 1, 2, 2, 2, 1, 1, 9, 1, 1];
    assert_eq!(
        Story::new().writes(2, &[2; 3]).blamed(&wrong),
        ["wrong content"]
    );
}

#[test]
fn an_unsynced_extension_may_be_cut_anywhere_or_be_zero() {
    for found in [
        &[1; 10][..],
        &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2],
        &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2, 2],
    ] {
        assert!(
            Story::new().writes(10, &[2; 3]).blamed(found).is_empty(),
            "{found:?}"
        );
    }
    let longer = [&[1; 10][..], &[2; 4]].concat();
    assert_eq!(
        Story::new().writes(10, &[2; 3]).blamed(&longer),
        ["size", "wrong content"]
    );
}

#[test]
fn a_synced_extension_may_neither_be_cut_nor_zero() {
    assert_eq!(
        Story::new().writes(10, &[2; 3]).syncs().blamed(&OLD),
        ["size"]
    );
    let zero = [&[1; 10][..], &[0; 3]].concat();
    assert_eq!(
        Story::new().writes(10, &[2; 3]).syncs().blamed(&zero),
        ["zeros"]
    );
}

#[test]
fn a_cut_is_whole_or_missing() {
    assert!(Story::new().resizes(4).blamed(&OLD).is_empty());
    assert!(Story::new().resizes(4).blamed(&[1; 4]).is_empty());
    assert_eq!(Story::new().resizes(4).blamed(&[1; 7]), ["size"]);
    assert_eq!(
        Story::new().resizes(4).syncs().blamed(&OLD),
        ["size", "old content"]
    );
}

#[test]
fn a_file_must_be_readable() {
    let story = Story::new().writes(2, &[2; 3]);
    let blamed = story.classes(Promise::Weak, Err("torn"));
    assert_eq!(blamed, ["unreadable file with synced content"]);
}

#[test]
fn a_rename_is_before_or_after_and_after_once_the_directory_was_synced() {
    for promise in [Promise::Ordered, Promise::Weak] {
        assert!(
            Story::new()
                .renames(b"g")
                .classes(promise, Ok(&OLD))
                .is_empty()
        );
        let story = Story::new().renames(b"g").syncs_dir();
        assert!(story.classes(promise, Ok(&OLD)).contains(&"names"));
        let mut both = Story::new().renames(b"g");
        both.sees_name(b"g");
        let blamed = both.classes(promise, Ok(&OLD));
        assert_eq!(blamed.is_empty(), promise == Promise::Weak, "{blamed:?}");
    }
}

#[test]
fn a_name_that_is_found_but_not_listed_is_blamed_once_synced() {
    let mut story = Story::new();
    let slot = story.seen.slots.get_mut(&(ROOT, NAME.to_vec()));
    slot.expect("seen").listed = false;
    assert_eq!(story.blamed(&OLD), ["unreadable name"]);
}
