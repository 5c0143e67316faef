//! The calls of the seam, carried out on the simulated disk.

use std::collections::BTreeMap;
use std::io;

use wardfs::store::backing::{
    Allocate, Attr, Backing, Kind, OpenFor, RenameMode, SeekTo, SetTime, Space, Sync, Target,
    XattrMode,
};

use crate::disk::image::{BLOCK, Body, FileBody, Ino, SECTOR};
use crate::disk::listing::{Listed, SimListing};
use crate::disk::op::{AttrChange, Op};
use crate::disk::{CallKind, DirHandle, Fault, FileHandle, ROOT_INO, SimDisk, State, error};

/// As on ext4: the longest target of a link, and the bytes that the attributes of an inode may take.
const TARGET_MAX: usize = 4095;
const XATTR_ROOM: usize = BLOCK;

impl State {
    fn file(&self, ino: Ino) -> io::Result<&FileBody> {
        self.node(ino)?
            .file()
            .map_or_else(|| error(libc::EINVAL), Ok)
    }

    fn write(&mut self, ino: Ino, off: u64, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let file = self.file(ino)?;
        let end = off + data.len() as u64;
        let first = off / SECTOR as u64;
        let mut sectors: Vec<_> = (first..end.div_ceil(SECTOR as u64))
            .map(|no| file.sector(no))
            .collect();
        let skip = (off % SECTOR as u64) as usize;
        sectors.as_flattened_mut()[skip..skip + data.len()].copy_from_slice(data);
        let blocks = off / BLOCK as u64..end.div_ceil(BLOCK as u64);
        let fresh = blocks.filter(|no| file.block(*no).is_none()).collect();
        let len_before = file.len;
        self.perform(Op::Write {
            ino,
            first,
            sectors,
            begin: off,
            end,
            len_before,
            fresh,
        });
        Ok(())
    }

    fn punch(&mut self, ino: Ino, off: u64, len: u64) -> io::Result<()> {
        let file = self.file(ino)?;
        let end = (off + len).min(file.len.next_multiple_of(BLOCK as u64));
        if off >= end {
            return Ok(());
        }
        let block = BLOCK as u64;
        let blocks = (off.div_ceil(block), end / block);
        let whole = blocks.0 * block..(blocks.1 * block).max(blocks.0 * block);
        let mut edges = Vec::new();
        for no in off / SECTOR as u64..end.div_ceil(SECTOR as u64) {
            let at = no * SECTOR as u64;
            if whole.contains(&at) || file.block(at / block).is_none() {
                continue;
            }
            let mut sector = file.sector(no);
            let from = off.saturating_sub(at).min(SECTOR as u64) as usize;
            let to = (end - at).min(SECTOR as u64) as usize;
            sector[from..to].fill(0);
            edges.push((no, sector));
        }
        self.perform(Op::Punch { ino, blocks, edges });
        Ok(())
    }

    fn is_empty_dir(&self, ino: Ino) -> io::Result<bool> {
        Ok(self.node(ino)?.entries().is_some_and(BTreeMap::is_empty))
    }

    fn check_replace(&self, moved: Ino, replaced: Ino) -> io::Result<()> {
        match (self.node(moved)?.is_dir(), self.node(replaced)?.is_dir()) {
            (true, false) => error(libc::ENOTDIR),
            (false, true) => error(libc::EISDIR),
            (true, true) if !self.is_empty_dir(replaced)? => error(libc::ENOTEMPTY),
            _ => Ok(()),
        }
    }
}

impl Backing for SimDisk {
    type Dir = DirHandle;
    type File = FileHandle;
    type Listing = SimListing;
    type Pin = ();

    fn root(&self) -> io::Result<DirHandle> {
        Ok(DirHandle(ROOT_INO))
    }

    fn open_dir(&self, parent: &DirHandle, name: &[u8]) -> io::Result<DirHandle> {
        let state = self.state();
        let ino = state.lookup(parent.0, name)?;
        match &state.node(ino)?.body {
            Body::Dir(_) => Ok(DirHandle(ino)),
            Body::Symlink(_) => error(libc::ELOOP),
            _ => error(libc::ENOTDIR),
        }
    }

    fn list(&self, dir: &DirHandle) -> io::Result<SimListing> {
        let mut state = self.state();
        state.may(CallKind::Read)?;
        let Some(entries) = state.node(dir.0)?.entries() else {
            return error(libc::ENOTDIR);
        };
        let dots = [&b"."[..], b".."]
            .into_iter()
            .zip(1..)
            .map(|(name, cookie)| Listed {
                name: name.to_vec(),
                ino: dir.0,
                kind: Some(Kind::Dir),
                cookie,
            });
        let mut entries: Vec<Listed> = entries
            .iter()
            .map(|(name, entry)| Listed {
                name: name.clone(),
                ino: entry.ino,
                kind: state.image.node(entry.ino).and_then(|n| n.kind()),
                cookie: entry.cookie,
            })
            .chain(dots)
            .collect();
        entries.sort_by_key(|e| e.cookie);
        Ok(SimListing { entries, next: 0 })
    }

    fn sync_dir(&self, dir: &DirHandle) -> io::Result<()> {
        let mut state = self.state();
        if state.may_sync()? {
            state.perform(Op::SyncDir { ino: dir.0 });
        }
        Ok(())
    }

    fn create(&self, dir: &DirHandle, name: &[u8], mode: u32) -> io::Result<FileHandle> {
        let mut state = self.state();
        state.may(CallKind::Grow)?;
        let mode = libc::S_IFREG | mode & 0o7777;
        let body = Body::File(FileBody::default());
        Ok(FileHandle(state.make(dir.0, name, mode, body, 0)?))
    }

    fn open(&self, dir: &DirHandle, name: &[u8], _: OpenFor) -> io::Result<FileHandle> {
        let mut state = self.state();
        state.may(CallKind::Read)?;
        let ino = state.lookup(dir.0, name)?;
        match &state.node(ino)?.body {
            Body::File(_) => Ok(FileHandle(ino)),
            _ => error(libc::EIO),
        }
    }

    /// Numbers are given once.
    fn pin(&self, dir: &DirHandle, name: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Read)?;
        state.lookup(dir.0, name).map(drop)
    }

    fn read_at(&self, file: &FileHandle, buf: &mut [u8], off: u64) -> io::Result<usize> {
        let mut state = self.state();
        state.may(CallKind::Read)?;
        Ok(state.file(file.0)?.read(off, buf))
    }

    fn write_at(&self, file: &FileHandle, buf: &[u8], off: u64) -> Result<(), (usize, io::Error)> {
        let mut state = self.state();
        let done = match state.strike(CallKind::Grow) {
            Some(Fault::Error(errno)) => return Err((0, io::Error::from_raw_os_error(errno))),
            Some(Fault::Short(errno)) => Some((buf.len() / 2, errno)),
            _ => None,
        };
        let part = &buf[..done.map_or(buf.len(), |(half, _)| half)];
        state.write(file.0, off, part).map_err(|e| (0, e))?;
        match done {
            Some((half, errno)) => Err((half, io::Error::from_raw_os_error(errno))),
            None => Ok(()),
        }
    }

    fn set_len(&self, file: &FileHandle, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Change)?;
        state.perform(Op::SetLen { ino: file.0, len });
        Ok(())
    }

    fn sync(&self, file: &FileHandle, what: Sync) -> io::Result<()> {
        let mut state = self.state();
        if state.may_sync()? {
            state.perform(Op::Sync { ino: file.0, what });
        }
        Ok(())
    }

    fn allocate(&self, file: &FileHandle, how: Allocate, off: u64, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.may(match how {
            Allocate::Punch => CallKind::Change,
            _ => CallKind::Grow,
        })?;
        match how {
            // Space is not counted here, and reserved blocks read as holes.
            Allocate::Reserve => Ok(()),
            Allocate::Punch | Allocate::Zero => state.punch(file.0, off, len),
        }
    }

    fn seek(&self, file: &FileHandle, to: SeekTo, off: u64) -> io::Result<Option<u64>> {
        let state = self.state();
        Ok(state.file(file.0)?.seek(off, to == SeekTo::Data))
    }

    fn mkdir(&self, dir: &DirHandle, name: &[u8], mode: u32) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Grow)?;
        let mode = libc::S_IFDIR | mode & 0o7777;
        state
            .make(dir.0, name, mode, Body::Dir(BTreeMap::new()), 0)
            .map(drop)
    }

    fn mknod(&self, dir: &DirHandle, name: &[u8], mode: u32, rdev: u64) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Grow)?;
        state.make(dir.0, name, mode, Body::Special, rdev).map(drop)
    }

    fn symlink(&self, dir: &DirHandle, name: &[u8], target: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Grow)?;
        if target.len() > TARGET_MAX {
            return error(libc::ENAMETOOLONG);
        }
        let mode = libc::S_IFLNK | 0o777;
        state
            .make(dir.0, name, mode, Body::Symlink(target.to_vec()), 0)
            .map(drop)
    }

    fn readlink(&self, dir: &DirHandle, name: &[u8]) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.may(CallKind::Read)?;
        let ino = state.lookup(dir.0, name)?;
        match &state.node(ino)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => error(libc::EINVAL),
        }
    }

    fn link(&self, from: (&DirHandle, &[u8]), to: (&DirHandle, &[u8])) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Grow)?;
        let ino = state.lookup(from.0.0, from.1)?;
        state.free(to.0.0, to.1)?;
        if state.node(ino)?.is_dir() {
            return error(libc::EPERM);
        }
        state.perform(Op::Link {
            dir: to.0.0,
            name: to.1.to_vec(),
            ino,
        });
        Ok(())
    }

    fn rename(
        &self,
        from: (&DirHandle, &[u8]),
        to: (&DirHandle, &[u8]),
        mode: RenameMode,
    ) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Grow)?;
        let ino = state.lookup(from.0.0, from.1)?;
        let replaced = state.image.entry(to.0.0, to.1);
        match (mode, replaced) {
            (RenameMode::NoReplace, Some(_)) => return error(libc::EEXIST),
            (RenameMode::Exchange, None) => return error(libc::ENOENT),
            (RenameMode::Replace, Some(same)) if same == ino => return Ok(()),
            (RenameMode::Replace, Some(other)) => state.check_replace(ino, other)?,
            (_, None) => state.free(to.0.0, to.1)?,
            _ => {}
        }
        state.perform(Op::Rename {
            from: (from.0.0, from.1.to_vec()),
            to: (to.0.0, to.1.to_vec()),
            ino,
            replaced,
            exchange: mode == RenameMode::Exchange,
        });
        Ok(())
    }

    fn unlink(&self, dir: &DirHandle, name: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Change)?;
        let ino = state.lookup(dir.0, name)?;
        if state.node(ino)?.is_dir() {
            return error(libc::EISDIR);
        }
        state.perform(Op::Remove {
            dir: dir.0,
            name: name.to_vec(),
            ino,
        });
        Ok(())
    }

    fn rmdir(&self, dir: &DirHandle, name: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Change)?;
        let ino = state.lookup(dir.0, name)?;
        if !state.node(ino)?.is_dir() {
            return error(libc::ENOTDIR);
        }
        if !state.is_empty_dir(ino)? {
            return error(libc::ENOTEMPTY);
        }
        state.perform(Op::Remove {
            dir: dir.0,
            name: name.to_vec(),
            ino,
        });
        Ok(())
    }

    fn stat(&self, target: Target<'_, Self>) -> io::Result<Attr> {
        let state = self.state();
        let ino = state.target(target)?;
        Ok(state.node(ino)?.attr(ino))
    }

    fn chmod(&self, target: Target<'_, Self>, mode: u32) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Change)?;
        let ino = state.target(target)?;
        let change = AttrChange::Mode(mode);
        state.perform(Op::Attr { ino, change });
        Ok(())
    }

    fn chown(
        &self,
        target: Target<'_, Self>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Change)?;
        let ino = state.target(target)?;
        let change = AttrChange::Owner(uid, gid);
        state.perform(Op::Attr { ino, change });
        Ok(())
    }

    fn set_times(
        &self,
        target: Target<'_, Self>,
        atime: SetTime,
        mtime: SetTime,
    ) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Change)?;
        let ino = state.target(target)?;
        let change = AttrChange::Times(atime, mtime);
        state.perform(Op::Attr { ino, change });
        Ok(())
    }

    fn get_xattr(&self, target: Target<'_, Self>, name: &[u8]) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.may(CallKind::Read)?;
        let ino = state.target(target)?;
        match state.node(ino)?.xattrs.get(name) {
            Some(value) => Ok(value.clone()),
            None => error(libc::ENODATA),
        }
    }

    fn set_xattr(
        &self,
        target: Target<'_, Self>,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Grow)?;
        let ino = state.target(target)?;
        match (mode, state.node(ino)?.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return error(libc::EEXIST),
            (XattrMode::Replace, false) => return error(libc::ENODATA),
            _ => {}
        }
        let others = state.node(ino)?.xattrs.iter().filter(|(n, _)| *n != name);
        let taken = others.map(|(name, value)| name.len() + value.len());
        if taken.sum::<usize>() + name.len() + value.len() > XATTR_ROOM {
            return error(libc::ENOSPC);
        }
        state.perform(Op::Xattr {
            ino,
            name: name.to_vec(),
            value: Some(value.to_vec()),
        });
        Ok(())
    }

    fn remove_xattr(&self, target: Target<'_, Self>, name: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.may(CallKind::Change)?;
        let ino = state.target(target)?;
        if !state.node(ino)?.xattrs.contains_key(name) {
            return error(libc::ENODATA);
        }
        state.perform(Op::Xattr {
            ino,
            name: name.to_vec(),
            value: None,
        });
        Ok(())
    }

    fn list_xattrs(&self, target: Target<'_, Self>) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.may(CallKind::Read)?;
        let ino = state.target(target)?;
        let mut listed = Vec::new();
        for name in state.node(ino)?.xattrs.keys() {
            listed.extend_from_slice(name);
            listed.push(0);
        }
        Ok(listed)
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space {
            block_size: BLOCK as u32,
            fragment_size: BLOCK as u32,
            blocks: 1 << 20,
            blocks_free: 1 << 19,
            blocks_available: 1 << 19,
            files: 1 << 20,
            files_free: 1 << 19,
            name_max: 255,
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.may_sync()? {
            state.perform(Op::SyncAll);
        }
        Ok(())
    }
}
