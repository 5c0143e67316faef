//! Directory streams of the real filesystem.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{self, FileType};

use crate::store::backing::{Kind, ListedEntry, Listing};

const GETDENTS_BUFFER: usize = 32 * 1024;

/// A directory stream, read in batches of 32 KiB.
#[derive(Debug)]
pub struct DiskListing {
    fd: OwnedFd,
    /// The names of the batch, one after the other.
    names: Vec<u8>,
    batch: Vec<Decoded>,
    /// The first entry of the batch that was not yet taken.
    next: usize,
    at_end: bool,
}

#[derive(Debug)]
struct Decoded {
    name_end: usize,
    ino: u64,
    kind: Option<Kind>,
    cookie: u64,
}

impl DiskListing {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            names: Vec::new(),
            batch: Vec::new(),
            next: 0,
            at_end: false,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        self.names.clear();
        self.batch.clear();
        self.next = 0;
        let mut buf = [MaybeUninit::uninit(); GETDENTS_BUFFER];
        let mut entries = fs::RawDir::new(&self.fd, &mut buf);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            self.names.extend_from_slice(entry.file_name().to_bytes());
            self.batch.push(Decoded {
                name_end: self.names.len(),
                ino: entry.ino(),
                kind: kind(entry.file_type()),
                cookie: entry.next_entry_cookie(),
            });
            if entries.is_buffer_empty() {
                break;
            }
        }
        self.at_end = self.batch.is_empty();
        Ok(())
    }
}

impl Listing for DiskListing {
    fn seek(&mut self, cookie: u64) -> io::Result<()> {
        fs::seek(&self.fd, fs::SeekFrom::Start(cookie))?;
        self.batch.clear();
        self.next = 0;
        self.at_end = false;
        Ok(())
    }

    fn read(&mut self, each: &mut dyn FnMut(ListedEntry<'_>) -> bool) -> io::Result<()> {
        loop {
            while let Some(entry) = self.batch.get(self.next) {
                let begin = self
                    .next
                    .checked_sub(1)
                    .map_or(0, |i| self.batch[i].name_end);
                let taken = each(ListedEntry {
                    name: &self.names[begin..entry.name_end],
                    ino: entry.ino,
                    kind: entry.kind,
                    cookie: entry.cookie,
                });
                if !taken {
                    return Ok(());
                }
                self.next += 1;
            }
            if self.at_end {
                return Ok(());
            }
            self.refill()?;
        }
    }
}

fn kind(file_type: FileType) -> Option<Kind> {
    Kind::of_mode(file_type.as_raw_mode())
}
