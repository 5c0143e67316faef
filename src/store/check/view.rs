//! A file as a mount would see it: [`DataFile`], opened in one place, and whether its frame is whole. In a vault that was
//! not closed in order, that is the file as the next mount will recover it.

use std::io;

use crate::content::run::Damage;
use crate::store::backing::{Attr, Backing, OpenFor, Target};
use crate::store::check::Check;
use crate::store::check::file::FileTask;
use crate::store::check::finding::ByteRange;
use crate::store::check::scan::Found;
use crate::store::error::Error;
use crate::store::file::DataFile;

/// A file as it was when it was opened.
#[derive(Debug)]
pub(super) struct View<B: Backing> {
    pub data: DataFile<B>,
    pub attr: Attr,
}

impl<B: Backing> View<B> {
    pub(super) fn file(&self) -> Option<&B::File> {
        match self.data.target() {
            Target::File(file) => Some(file),
            _ => None,
        }
    }

    pub(super) fn whole(&self) -> ByteRange {
        ByteRange {
            start: 0,
            end: self.data.size(),
        }
    }
}

impl<B: Backing> View<B> {
    /// An empty ciphertext file that is an empty file: what a crash left of it, or a running mount has not begun to
    /// write.
    pub(super) fn is_new(&self, check: &Check<'_, B>) -> bool {
        let just_made = check.is_live() && self.attr.mtime.sec >= check.since - 1;
        self.attr.size == 0 && (just_made || check.volume.is_crash_leftover(&self.attr))
    }

    pub(super) fn has_valid_length(&self, check: &Check<'_, B>) -> bool {
        let volume = check.volume;
        let recovered = volume.recovered_view(self.attr.ino);
        recovered.is_some_and(|v| v.size.is_some())
            || volume.geometry().plain_size(self.attr.size).is_ok()
    }
}

impl<B: Backing> Check<'_, B> {
    /// Opens a file as a mount would: the one place where that is decided.
    pub(super) fn view(&self, task: &FileTask<B>) -> io::Result<View<B>> {
        let backing = self.volume.backing();
        let file = backing.open(task.node.dir.handle(), &task.stored, OpenFor::Read)?;
        let attr = backing.stat(Target::File(&file))?;
        let data = DataFile::open(&self.volume.change(), file, OpenFor::Read, &attr);
        Ok(View { data, attr })
    }

    /// Header, length and end. Answers the file id, if the file has one.
    pub(super) fn look_at_frame(&self, view: &View<B>) -> (Found, Option<[u8; 24]>) {
        let mut found = Found::default();
        if view.is_new(self) {
            return (found, None);
        }
        let id = match view.data.owner_id(&self.volume.change()) {
            Ok(id) => id,
            Err(e) => {
                found.add(view.whole(), &e);
                return (found, None);
            }
        };
        if !view.has_valid_length(self) {
            found.add(view.whole(), &Error::file(Damage::Length));
        } else if let Err(e) = view.data.verify_end(self.volume) {
            let size = view.data.size();
            let last = self.volume.geometry().last_chunk(size);
            let start = self.volume.geometry().plain_start(last);
            found.add(ByteRange { start, end: size }, &e);
        }
        (found, Some(id))
    }
}
