//! Open files: reading, writing, syncing, space and holes.

use std::sync::Arc;

use crate::content::Buffer;
use crate::fs::error::{Error, Result};
use crate::fs::files::OpenFile;
use crate::fs::handles::Fh;
use crate::fs::{Caller, Fs};
use crate::store::backing::{Backing, OpenFor, SeekTo, SetTime, Sync};
use crate::store::file::{Clear, Route};

/// Bytes moved at once by [`Fs::copy_range`].
const COPY_STEP: u64 = 1 << 20;
/// The largest file whose content is given away when it is opened.
const GIVEN_MAX: u64 = 64 << 10;
/// The largest file that is read from the disk as a whole when it is opened, although the kernel asks for it in parts:
/// an image of a scan.
const FETCHED_MAX: u64 = 1 << 20;

impl<B: Backing> Fs<B> {
    /// Opens a regular file; `flags` as in open(2).
    pub fn open(&self, ino: u64, flags: i32) -> Result<Fh> {
        let how = match flags & libc::O_ACCMODE {
            libc::O_RDONLY => OpenFor::Read,
            _ => {
                self.volume.check_writable()?;
                OpenFor::ReadWrite
            }
        };
        self.inodes.note_opened(ino)?;
        let file = self.enter_file(ino, how)?;
        self.opened(file, flags)
    }

    /// Opens a regular file. The content of a small one that is opened for reading, for the first time since the kernel
    /// knows it, goes to `give`. Until that has returned nobody else opens the file or changes its size: what is given
    /// is its content, and the kernel has nothing newer.
    pub fn open_giving(&self, ino: u64, flags: i32, give: impl FnOnce(&[u8])) -> Result<Fh> {
        let reads = flags & (libc::O_ACCMODE | libc::O_DIRECT) == libc::O_RDONLY;
        if !reads || !self.inodes.note_opened(ino)? {
            return self.open(ino, flags);
        }
        let (file, alone) = self.enter_alone(ino)?;
        let size = file.data.size();
        if alone.is_some() && (1..=GIVEN_MAX).contains(&size) {
            let mut content = Buffer::of_len(size as usize);
            // Damage is for who reads it.
            if let Ok(got) = file.data.read(&self.volume, 0, &mut content)
                && got == content.len()
            {
                give(&content);
            }
        }
        drop(alone);
        if (GIVEN_MAX + 1..=FETCHED_MAX).contains(&size) {
            file.data.will_read(&self.volume);
        }
        self.opened(file, flags)
    }

    /// The handle of a file that was entered.
    fn opened(&self, file: Arc<OpenFile<B>>, flags: i32) -> Result<Fh> {
        if flags & libc::O_ACCMODE != libc::O_WRONLY && file.data.size() == 0 {
            // The kernel sends no READ for an empty file, so one that was cut to nothing is noticed here.
            if let Err(e) = file.data.verify_end(&self.volume) {
                self.leave_file(&file)?;
                return Err(e.into());
            }
        }
        self.handles.add_file(file)
    }

    /// The last use of a handle.
    pub fn release(&self, fh: Fh) -> Result<()> {
        let file = self.handles.remove_file(fh)?;
        self.leave_file(&file)
    }

    /// Reads until `out` is full or the file ends; answers how many bytes.
    pub fn read(&self, fh: Fh, off: u64, out: &mut [u8]) -> Result<usize> {
        Ok(self.file(fh)?.data.read(&self.volume, off, out)?)
    }

    pub fn write(&self, fh: Fh, off: u64, data: &[u8]) -> Result<()> {
        let file = self.file(fh)?;
        self.write_to(&file, off, data)?;
        file.note_direct_write();
        Ok(())
    }

    /// Writes what the kernel had in its cache. The modification time is then the one it tells, before or after.
    pub fn write_cached(&self, fh: Fh, off: u64, data: &[u8]) -> Result<()> {
        let file = self.file(fh)?;
        self.admit()?;
        let change = self.covered_change(&file)?;
        file.data.write(&change, off, data)?;
        drop(change);
        file.note_cached_write();
        self.after_write();
        Ok(())
    }

    fn write_to(&self, file: &OpenFile<B>, off: u64, data: &[u8]) -> Result<()> {
        self.admit()?;
        let change = self.covered_change(file)?;
        if file.data.write(&change, off, data)? == Route::Journal {
            // The backing file has not been touched yet, but it is to look so.
            file.data
                .set_times(&self.volume, SetTime::Keep, SetTime::Now)?;
        }
        drop(change);
        self.after_write();
        Ok(())
    }

    /// Clears set-user-id and set-group-id after a write by `caller`, where the kernel asks for it.
    pub fn drop_file_privileges(&self, caller: Caller, fh: Fh) -> Result<()> {
        let file = self.file(fh)?;
        self.drop_privileges(caller, file.data.target())
    }

    /// Makes the file durable, and every name on the way to it readable.
    pub fn fsync(&self, fh: Fh, what: Sync) -> Result<()> {
        if self.volume.was_opened_read_only() {
            return Ok(());
        }
        let file = self.file(fh)?;
        if let Ok((place, others)) = self.inodes.places(file.ino) {
            self.make_path_durable(place.parent)?;
            for other in others {
                self.make_path_durable(other.parent)?;
            }
        }
        Ok(file.data.sync(self.covered_change(&file)?, what)?)
    }

    /// Whether the kernel may hold pages of the file that were written but not sent.
    pub fn may_have_dirty_pages(&self, fh: Fh) -> Result<bool> {
        Ok(self.file(fh)?.data.is_writable())
    }

    /// The next data or hole at or after `off`; `None` beyond the last.
    pub fn seek(&self, fh: Fh, off: u64, to: SeekTo) -> Result<Option<u64>> {
        Ok(self.file(fh)?.data.seek(&self.volume, to, off)?)
    }

    /// fallocate(2); `mode` as there.
    pub fn fallocate(&self, caller: Caller, fh: Fh, off: u64, len: u64, mode: i32) -> Result<()> {
        const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
        const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
        const ZERO_KEEP: i32 = ZERO | KEEP;
        if len == 0 {
            return Err(Error::Invalid);
        }
        let file = self.file(fh)?;
        let data = &file.data;
        let end = off.checked_add(len).ok_or(crate::store::Error::TooLarge)?;
        {
            let change = self.covered_change(&file)?;
            match mode {
                0 | KEEP => data.reserve(&change, off, len)?,
                PUNCH => data.clear(&change, Clear::Punch, off, len)?,
                ZERO | ZERO_KEEP => {
                    data.reserve(&change, off, len)?;
                    data.clear(&change, Clear::ZeroRange, off, len)?;
                }
                _ => return Err(Error::Unsupported),
            }
            if matches!(mode, 0 | ZERO) {
                data.extend(&change, end)?;
            }
            if mode != KEEP {
                data.set_times(&self.volume, SetTime::Keep, SetTime::Now)?;
            }
        }
        self.drop_privileges(caller, data.target())
    }

    /// Copies a range between two open files; answers how many bytes.
    pub fn copy_range(
        &self,
        caller: Caller,
        from: (Fh, u64),
        to: (Fh, u64),
        len: u64,
    ) -> Result<u64> {
        let (source, target) = (self.file(from.0)?, self.file(to.0)?);
        let mut buffer = vec![0; len.min(COPY_STEP) as usize];
        let mut done = 0;
        while done < len {
            let step = (len - done).min(COPY_STEP) as usize;
            let got = source
                .data
                .read(&self.volume, from.1 + done, &mut buffer[..step])?;
            if got == 0 {
                break;
            }
            let written = self.write_to(&target, to.1 + done, &buffer[..got]);
            match written {
                Err(_) if done > 0 => break,
                other => other?,
            }
            done += got as u64;
        }
        self.drop_privileges(caller, target.data.target())?;
        Ok(done)
    }
}
