//! Creating, linking, renaming and removing entries, with what belongs to them: directory ids, sidecars of long names
//! and link targets too long for a backing symlink.
//!
//! Order, so that a crash leaves nothing unreadable: id and sidecar first, entry second; removal the other way round.

use data_encoding::BASE64URL_NOPAD;

use crate::crypto::rand;
use crate::names::target_plain_len;
use crate::store::backing::{Attr, Backing, Kind, OpenFor, RenameMode, Target};
use crate::store::dir::Dir;
use crate::store::error::{Error, Result};
use crate::store::volume::Volume;

/// Begins a backing symlink whose sealed target lies in `~wardfs/targets`: marker, id, dot, plaintext length.
const FAR_TARGET: &str = "~T";
/// The longest symlink target of Linux.
const TARGET_MAX: usize = 4095;

/// What a rename replaces: its attributes, and its handle if it is a directory.
#[derive(Debug, Clone, Copy)]
pub struct Replaced<'a, B: Backing> {
    pub attr: Attr,
    pub dir: Option<&'a Dir<B>>,
}

/// An entry that was removed. Its inode number is given to no other object before this is dropped: until then all that is
/// known by the number is to be forgotten.
#[derive(Debug)]
pub struct Removed<B: Backing> {
    /// Before the removal.
    pub attr: Attr,
    _pin: B::Pin,
}

impl<B: Backing> Volume<B> {
    /// Creates a regular file and opens its backing file, which is empty.
    pub fn create_file(&self, dir: &Dir<B>, name: &[u8], mode: u32) -> Result<B::File> {
        self.add_entry(dir, name, |entry| {
            self.backing().create(dir.handle(), entry, mode)
        })
    }

    pub fn create_dir(&self, dir: &Dir<B>, name: &[u8], mode: u32) -> Result<()> {
        self.add_entry(dir, name, |entry| {
            self.backing().mkdir(dir.handle(), entry, mode)
        })
    }

    /// Creates a fifo, socket or device node.
    pub fn create_special(&self, dir: &Dir<B>, name: &[u8], mode: u32, rdev: u64) -> Result<()> {
        self.add_entry(dir, name, |entry| {
            self.backing().mknod(dir.handle(), entry, mode, rdev)
        })
    }

    pub fn create_symlink(&self, dir: &Dir<B>, name: &[u8], target: &[u8]) -> Result<()> {
        if target.is_empty() || target.len() > TARGET_MAX {
            return Err(Error::NameTooLong);
        }
        let sealed = self.keys().names().seal_target(target);
        let near = self.add_entry(dir, name, |entry| {
            self.backing().symlink(dir.handle(), entry, &sealed)
        });
        match near {
            Err(e) if e.os() == Some(libc::ENAMETOOLONG) => {
                self.create_far_symlink(dir, name, &sealed, target.len())
            }
            other => other,
        }
    }

    fn create_far_symlink(
        &self,
        dir: &Dir<B>,
        name: &[u8],
        sealed: &[u8],
        len: usize,
    ) -> Result<()> {
        let backing = self.backing();
        let targets = self.targets_dir()?;
        let mut id = [0; 16];
        rand::fill(&mut id);
        let id = BASE64URL_NOPAD.encode(&id);
        let file = backing.create(&targets, id.as_bytes(), 0o600)?;
        let marker = format!("{FAR_TARGET}{id}.{len}");
        let done = backing
            .write_at(&file, sealed, 0)
            .map_err(|(_, e)| Error::from(e))
            .and_then(|()| {
                self.add_entry(dir, name, |e| {
                    backing.symlink(dir.handle(), e, marker.as_bytes())
                })
            });
        if done.is_err() {
            backing.unlink(&targets, id.as_bytes())?;
        }
        done
    }

    /// The plaintext target of a symlink.
    pub fn read_target(&self, dir: &Dir<B>, entry: &[u8]) -> Result<Vec<u8>> {
        let stored = self.backing().readlink(dir.handle(), entry)?;
        let names = self.keys().names();
        let Some((id, len)) = far_target(&stored) else {
            return names.open_target(&stored).map_err(|_| Error::DamagedName);
        };
        let file = match self
            .backing()
            .open(&self.targets_dir()?, id.as_bytes(), OpenFor::Read)
        {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Err(Error::DamagedName),
            other => other?,
        };
        let mut sealed = vec![0; 8192];
        let got = self.backing().read_at(&file, &mut sealed, 0)?;
        let target = names
            .open_target(&sealed[..got])
            .map_err(|_| Error::DamagedName)?;
        if target.len() as u64 == len {
            Ok(target)
        } else {
            Err(Error::DamagedName)
        }
    }

    /// The plaintext length of a symlink's target, without opening it.
    pub fn target_len(&self, dir: &Dir<B>, entry: &[u8], attr: &Attr) -> Result<u64> {
        if let Some(len) = target_plain_len(attr.size as usize) {
            return Ok(len as u64);
        }
        let stored = self.backing().readlink(dir.handle(), entry)?;
        Ok(far_target(&stored).map_or(0, |(_, len)| len))
    }

    /// Adds a hard link `to` for the entry `from`.
    pub fn link(&self, from: (&Dir<B>, &[u8]), to: (&Dir<B>, &[u8])) -> Result<()> {
        self.add_entry(to.0, to.1, |entry| {
            self.backing()
                .link((from.0.handle(), from.1), (to.0.handle(), entry))
        })
    }

    /// Removes an empty directory, whose handle is `victim`.
    pub fn remove_dir(&self, dir: &Dir<B>, name: &[u8], victim: &Dir<B>) -> Result<()> {
        self.check_writable()?;
        let sealed = dir.seal(self, name)?;
        let _alone = victim
            .changes
            .write()
            .expect("no code that panics runs under this lock");
        let rmdir = || {
            self.backing()
                .rmdir(dir.handle(), &sealed.entry)
                .map_err(Error::from)
        };
        match rmdir() {
            Err(e) if matches!(e.os(), Some(libc::ENOTEMPTY | libc::EEXIST)) => {
                victim.remove_id(self)?;
                rmdir().map_err(not_empty)
            }
            other => other,
        }?;
        dir.remove_sidecar(self, &sealed);
        Ok(())
    }

    /// Removes an entry that is not a directory.
    pub fn remove(&self, dir: &Dir<B>, name: &[u8]) -> Result<Removed<B>> {
        self.check_writable()?;
        let sealed = dir.seal(self, name)?;
        let backing = self.backing();
        let pin = backing.pin(dir.handle(), &sealed.entry)?;
        let attr = backing.stat(Target::At(dir.handle(), &sealed.entry))?;
        let far = self.far_target_of(dir, &sealed.entry, &attr)?;
        backing.unlink(dir.handle(), &sealed.entry)?;
        self.drop_far_target(far)?;
        dir.remove_sidecar(self, &sealed);
        Ok(Removed { attr, _pin: pin })
    }

    /// The id of the far target that goes with the entry when it is removed.
    fn far_target_of(&self, dir: &Dir<B>, entry: &[u8], attr: &Attr) -> Result<Option<String>> {
        if attr.kind() != Kind::Symlink || attr.nlink > 1 {
            return Ok(None);
        }
        let stored = self.backing().readlink(dir.handle(), entry)?;
        Ok(far_target(&stored).map(|(id, _)| id.to_owned()))
    }

    fn drop_far_target(&self, id: Option<String>) -> Result<()> {
        match id {
            Some(id) => Ok(self.backing().unlink(&self.targets_dir()?, id.as_bytes())?),
            None => Ok(()),
        }
    }

    /// Renames; `replaced` is what stands under the new name, if anything does.
    pub fn rename(
        &self,
        from: (&Dir<B>, &[u8]),
        to: (&Dir<B>, &[u8]),
        mode: RenameMode,
        replaced: Option<Replaced<'_, B>>,
    ) -> Result<()> {
        self.check_writable()?;
        let backing = self.backing();
        let _kept =
            to.0.changes
                .read()
                .expect("no code that panics runs under this lock");
        to.0.stored_id(self)?;
        let (old, new) = (from.0.seal(self, from.1)?, to.0.seal(self, to.1)?);
        let (at_old, at_new) = (
            (from.0.handle(), &old.entry[..]),
            (to.0.handle(), &new.entry[..]),
        );
        let move_entry = || backing.rename(at_old, at_new, mode).map_err(Error::from);
        let (victim, far) = match replaced.filter(|_| mode == RenameMode::Replace) {
            Some(r) => (r.dir, self.far_target_of(to.0, &new.entry, &r.attr)?),
            None => (None, None),
        };
        to.0.put_sidecar(self, &new)?;
        let moved = match move_entry() {
            Err(e) if matches!(e.os(), Some(libc::ENOTEMPTY | libc::EEXIST)) => match victim {
                Some(victim) => {
                    let _alone = victim
                        .changes
                        .write()
                        .expect("no code that panics runs under this lock");
                    victim
                        .remove_id(self)
                        .and_then(|()| move_entry().map_err(not_empty))
                }
                None => Err(e),
            },
            other => other,
        };
        let gone = |at: (&B::Dir, &[u8])| {
            backing
                .stat(Target::At(at.0, at.1))
                .is_err_and(|e| e.raw_os_error() == Some(libc::ENOENT))
        };
        match moved {
            Ok(()) if mode == RenameMode::Exchange => Ok(()),
            // Two links to one file: rename(2) then keeps both.
            Ok(()) => {
                let kept_both = (old.sidecar.is_some() || far.is_some()) && !gone(at_old);
                if !kept_both {
                    from.0.remove_sidecar(self, &old);
                    self.drop_far_target(far)?;
                }
                Ok(())
            }
            Err(e) => {
                if new.sidecar.is_some() && gone(at_new) {
                    to.0.remove_sidecar(self, &new);
                }
                Err(e)
            }
        }
    }

    /// Adds an entry with what it needs: the directory's id and the sidecar of a long name.
    fn add_entry<R>(
        &self,
        dir: &Dir<B>,
        name: &[u8],
        add: impl FnOnce(&[u8]) -> std::io::Result<R>,
    ) -> Result<R> {
        self.check_writable()?;
        let _kept = dir
            .changes
            .read()
            .expect("no code that panics runs under this lock");
        dir.stored_id(self)?;
        let sealed = dir.seal(self, name)?;
        dir.put_sidecar(self, &sealed)?;
        add(&sealed.entry).map_err(|e| {
            if sealed.sidecar.is_some() && e.raw_os_error() != Some(libc::EEXIST) {
                dir.remove_sidecar(self, &sealed);
            }
            e.into()
        })
    }
}

/// The id and plaintext length in a symlink that points to `~wardfs/targets`.
pub(super) fn far_target(stored: &[u8]) -> Option<(&str, u64)> {
    let (id, len) = std::str::from_utf8(stored)
        .ok()?
        .strip_prefix(FAR_TARGET)?
        .split_once('.')?;
    let valid = id.len() == 22 && BASE64URL_NOPAD.decode(id.as_bytes()).is_ok();
    let number: u64 = len.parse().ok().filter(|l| *l <= TARGET_MAX as u64)?;
    (valid && number.to_string() == len).then_some((id, number))
}

fn not_empty(e: Error) -> Error {
    match e.os() {
        Some(libc::ENOTEMPTY | libc::EEXIST) => Error::NotEmpty,
        _ => e,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_targets_are_parsed_strictly() {
        let id = "AAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(
            far_target(format!("~T{id}.4095").as_bytes()),
            Some((id, 4095))
        );
        for bad in [
            "",
            "~T",
            "~T.1",
            "~TAAAA.5",
            "~TAAAAAAAAAAAAAAAAAAAAAA.4096",
            "~TAAAAAAAAAAAAAAAAAAAAAA",
            "~T../../../../../etc/shad.1",
            "~TAAAAAAAAAAAAAAAAAAAAAA.007",
            "~TAAAAAAAAAAAAAAAAAAAAAA.+5",
            "AAAAAAAAAAAAAAAAAAAAAA.1",
        ] {
            assert_eq!(far_target(bad.as_bytes()), None, "{bad}");
        }
    }
}
