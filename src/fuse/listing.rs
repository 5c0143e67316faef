//! Listings, with and without attributes, as the kernel reads them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{FileHandle, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use crate::fs::{Detail, DirEntry, Fh};
use crate::fuse::convert::{file_attr, file_type};
use crate::fuse::shell::Shell;

impl Shell {
    /// Replies with names behind `offset`.
    pub fn list_names(&self, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut add = |e: &DirEntry<'_>| {
            let name = OsStr::from_bytes(e.name);
            !reply.add(INodeNo(e.ino), e.cookie, file_type(e.kind), name)
        };
        match self.run(ino, |fs| {
            fs.readdir(Fh(fh.0), offset, Detail::Names, &mut add)
        }) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    /// Replies with names and attributes behind `offset`.
    pub fn list_attributes(
        &self,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let ttl = self.policy.entry_ttl.min(self.policy.attr_ttl);
        let mut add = |e: &DirEntry<'_>| {
            let Some(entry) = &e.entry else {
                return true;
            };
            let name = OsStr::from_bytes(e.name);
            let generation = Generation(entry.generation);
            !reply.add(
                INodeNo(e.ino),
                e.cookie,
                name,
                &ttl,
                &file_attr(&entry.attr),
                generation,
            )
        };
        match self.run(ino, |fs| {
            fs.readdir(Fh(fh.0), offset, Detail::Attributes, &mut add)
        }) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }
}
