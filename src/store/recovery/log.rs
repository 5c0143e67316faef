//! What the journal says, sorted by what it is about: each file's history, and what happened to directories.

use std::collections::HashMap;

use crate::crypto::FileId;
use crate::format::journal::{Group, Record};
use crate::store::recovery::view::{History, ImageAt};

/// See the module.
#[derive(Debug, Default)]
pub struct Log {
    pub files: HashMap<FileId, FileLog>,
    pub covers: Vec<Cover>,
    pub moves: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Everything the journal says about one file.
#[derive(Debug, Default)]
pub struct FileLog {
    /// Where it was, in this order.
    pub places: Vec<Place>,
    /// Its last name was removed.
    pub gone: bool,
    pub history: History,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub ino: u64,
    pub path: Vec<u8>,
}

/// A directory in which files were made without records.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cover {
    pub ino: u64,
    pub path: Vec<u8>,
}

impl Log {
    /// Takes up a group whose images lie in `segment` from `data_at` on. Groups come in the order of the journal.
    pub fn add(&mut self, group: &Group, segment: usize, data_at: u64) {
        if let Some(id) = group.file {
            self.files
                .entry(id)
                .or_default()
                .add(group, segment, data_at);
        }
        for record in &group.records {
            match record {
                Record::Cover { ino, path } => self.covers.push(Cover {
                    ino: *ino,
                    path: path.clone(),
                }),
                Record::Moved { from, to } => self.moves.push((from.clone(), to.clone())),
                _ => {}
            }
        }
    }

    /// Called once after the last group.
    pub fn finish(&mut self) {
        let mut seen = std::collections::HashSet::new();
        self.covers.retain(|c| seen.insert(c.clone()));
        for file in self.files.values_mut() {
            file.history.finish();
        }
    }
}

impl FileLog {
    fn add(&mut self, group: &Group, segment: usize, data_at: u64) {
        let mut at = data_at;
        for record in &group.records {
            match record {
                Record::Place { ino, durable, path } => {
                    self.gone = false;
                    self.history.fresh |= !durable;
                    let place = Place {
                        ino: *ino,
                        path: path.clone(),
                    };
                    if self.places.last() != Some(&place) {
                        self.places.push(place);
                    }
                }
                Record::Image { chunk, len } => {
                    self.history.image(
                        chunk.0,
                        ImageAt {
                            seq: group.seq,
                            segment,
                            at,
                            len: *len,
                        },
                    );
                    at += u64::from(*len);
                }
                Record::Size { size } => self.history.resized(group.seq, *size),
                Record::Extends { stable } => self.history.extends(group.seq, *stable),
                Record::Punch { first, end } => self.history.punched(group.seq, first.0, end.0),
                Record::Gone => self.gone = true,
                Record::Cover { .. } | Record::Moved { .. } => {}
            }
        }
    }
}
