//! What a workload did, call by call: every content, name and attribute that ever was, and what was synced when.
//!
//! Objects are known by inode number, which the simulated disk never uses twice.

use std::collections::BTreeMap;
use std::ops::Range;

use wardfs::fs::ROOT;
use wardfs::store::backing::Sync;

use crate::disk::Ino;
use crate::place::Place;

/// Every name there is: directory and name → inode.
pub type Tree = BTreeMap<(Ino, Vec<u8>), Ino>;

/// One call on the filesystem.
#[derive(Debug, Clone)]
pub struct Event {
    pub text: String,
    /// How long the log was when the call answered; never, if it failed.
    pub acked_at: usize,
}

#[derive(Debug, Clone)]
pub struct Version {
    pub event: usize,
    pub content: Vec<u8>,
    /// The bytes that differ in meaning from the version before.
    pub range: Range<u64>,
    pub how: Change,
}

/// What made a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Made,
    Write,
    Resize,
    Punch,
}

#[derive(Debug, Clone, Default)]
pub struct FileHistory {
    pub made: usize,
    pub versions: Vec<Version>,
    pub xattrs: Vec<(usize, Option<Vec<u8>>)>,
    pub syncs: Vec<(usize, Sync)>,
}

/// See the module. Event 0 stands for the prepared volume.
#[derive(Debug, Clone)]
pub struct History {
    pub events: Vec<Event>,
    pub trees: Vec<(usize, Tree)>,
    pub files: BTreeMap<Ino, FileHistory>,
    pub dir_syncs: Vec<(usize, Ino)>,
    pub all_syncs: Vec<usize>,
}

impl Default for History {
    fn default() -> Self {
        let prepared = Event {
            text: "prepared".into(),
            acked_at: 0,
        };
        Self {
            events: vec![prepared],
            trees: vec![(0, Tree::new())],
            files: BTreeMap::new(),
            dir_syncs: Vec::new(),
            all_syncs: vec![0],
        }
    }
}

/// Bytes that tell where they belong and which event wrote them; never zero.
pub fn content(event: usize, off: u64, len: usize) -> Vec<u8> {
    (off..off + len as u64)
        .map(|at| ((at * 31 + at / 255 * 7 + event as u64 * 97) % 255) as u8 + 1)
        .collect()
}

impl History {
    pub fn prepared_dir(&mut self, parent: Ino, name: &[u8], ino: Ino) {
        self.trees[0].1.insert((parent, name.to_vec()), ino);
    }

    pub fn prepared_file(&mut self, parent: Ino, name: &[u8], ino: Ino, content: Vec<u8>) {
        self.prepared_dir(parent, name, ino);
        let version = Version {
            event: 0,
            range: 0..content.len() as u64,
            content,
            how: Change::Made,
        };
        let file = FileHistory {
            versions: vec![version],
            xattrs: vec![(0, None)],
            ..FileHistory::default()
        };
        self.files.insert(ino, file);
    }

    pub fn prepared_xattr(&mut self, ino: Ino, value: Option<Vec<u8>>) {
        self.file(ino).xattrs = vec![(0, value)];
    }

    pub fn tree(&self) -> &Tree {
        &self.trees.last().expect("the prepared one").1
    }

    /// The inode at a place as of now.
    pub fn latest_at(&self, place: Place) -> Option<Ino> {
        let parent = match place.parent() {
            Some(parent) => self.latest_at(parent)?,
            None => ROOT,
        };
        self.tree().get(&(parent, place.name().to_vec())).copied()
    }

    pub fn latest_content(&self, ino: Ino) -> &[u8] {
        let versions = &self.files[&ino].versions;
        &versions.last().expect("made with one").content
    }

    /// The number of the event that comes next.
    pub fn next(&self) -> usize {
        self.events.len()
    }

    /// The next event changes names.
    pub fn changes_tree(&mut self, change: impl FnOnce(&mut Tree)) {
        let mut tree = self.tree().clone();
        change(&mut tree);
        self.trees.push((self.next(), tree));
    }

    /// The next event makes an empty file.
    pub fn makes_file(&mut self, ino: Ino) {
        let made = self.next();
        let version = Version {
            event: made,
            content: Vec::new(),
            range: 0..0,
            how: Change::Made,
        };
        let file = FileHistory {
            made,
            versions: vec![version],
            xattrs: vec![(made, None)],
            syncs: Vec::new(),
        };
        self.files.insert(ino, file);
    }

    /// The next event changes the content of a file.
    pub fn changes_content(&mut self, ino: Ino, content: Vec<u8>, range: Range<u64>, how: Change) {
        let event = self.next();
        let version = Version {
            event,
            content,
            range,
            how,
        };
        self.file(ino).versions.push(version);
    }

    pub fn changes_xattr(&mut self, ino: Ino, value: Option<Vec<u8>>) {
        let event = self.next();
        self.file(ino).xattrs.push((event, value));
    }

    pub fn syncs_file(&mut self, ino: Ino, what: Sync) {
        let event = self.next();
        self.file(ino).syncs.push((event, what));
    }

    pub fn syncs_dir(&mut self, ino: Ino) {
        self.dir_syncs.push((self.next(), ino));
    }

    pub fn syncs_all(&mut self) {
        self.all_syncs.push(self.next());
    }

    fn file(&mut self, ino: Ino) -> &mut FileHistory {
        self.files.get_mut(&ino).expect("made before")
    }

    /// The next event has answered.
    pub fn answered(&mut self, text: String, acked_at: usize) {
        self.events.push(Event { text, acked_at });
    }

    /// How many events had answered when the log was so long.
    pub fn done_at(&self, log_len: usize) -> usize {
        self.events.partition_point(|e| e.acked_at <= log_len)
    }
}
