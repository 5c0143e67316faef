//! Directory streams of the simulated disk: what the directory held when the stream was opened.

use std::io;

use wardfs::store::backing::{Kind, ListedEntry, Listing};

use crate::disk::image::Ino;

#[derive(Debug)]
pub struct Listed {
    pub name: Vec<u8>,
    pub ino: Ino,
    pub kind: Option<Kind>,
    pub cookie: u64,
}

#[derive(Debug)]
pub struct SimListing {
    /// By cookie.
    pub entries: Vec<Listed>,
    pub next: usize,
}

impl Listing for SimListing {
    fn seek(&mut self, cookie: u64) -> io::Result<()> {
        self.next = self.entries.partition_point(|e| e.cookie <= cookie);
        Ok(())
    }

    fn read(&mut self, each: &mut dyn FnMut(ListedEntry<'_>) -> bool) -> io::Result<()> {
        while let Some(entry) = self.entries.get(self.next) {
            let taken = each(ListedEntry {
                name: &entry.name,
                ino: entry.ino,
                kind: entry.kind,
                cookie: entry.cookie,
            });
            if !taken {
                break;
            }
            self.next += 1;
        }
        Ok(())
    }
}
