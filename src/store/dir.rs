//! One directory of the encrypted tree, open: its id, and what of it is not yet durable.
//!
//! The id lives in a small file under a fixed name and in the name of a hard link to it. Names are metadata, so the id
//! outlives lost file data, and a copy made without hard links keeps both. A directory without entries needs no id: a new
//! one gets it with its first entry. Creating and removing entries is in [`crate::store::namespace`].

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use crate::crypto::{DirId, rand};
use crate::names::{Opener, SealedName, Stored, classify};
use crate::store::backing::{Attr, Backing, Kind, Listing, OpenFor, Sync, Target};
use crate::store::error::{Error, Result};
use crate::store::volume::Volume;

/// The fixed name of the file that holds a directory's id.
pub const ID_FILE: &[u8] = b"~id";
/// Follows the entry of a long name in the name of its sidecar.
const SIDECAR_SUFFIX: &[u8] = b".name";
/// Sidecars remembered one by one until they are durable; beyond that the whole filesystem is synced.
const SIDECARS_TRACKED: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Dir<B: Backing> {
    handle: B::Dir,
    ino: u64,
    id: Mutex<Option<Id>>,
    pending: Mutex<Pending>,
    /// Held while what is pending is synced: whoever needs it too has to wait.
    syncing: Mutex<()>,
    /// Entries are made under the read side; removing the directory takes the write side.
    pub(super) changes: RwLock<()>,
}

#[derive(Debug, Clone, Copy)]
enum Id {
    Stored(DirId),
    /// Chosen, but not on the disk: the directory has no entries.
    Unstored(DirId),
}

/// What fsync of anything below must make durable first.
#[derive(Debug, Default)]
struct Pending {
    id: bool,
    sidecars: Vec<Vec<u8>>,
    too_many: bool,
}

/// An entry of a directory with its name opened.
#[derive(Debug)]
pub struct PlainEntry<'a> {
    pub name: &'a [u8],
    pub stored: &'a [u8],
    pub ino: u64,
    pub kind: Option<Kind>,
    pub cookie: u64,
}

impl<B: Backing> Dir<B> {
    pub fn new(handle: B::Dir, ino: u64) -> Self {
        Self {
            handle,
            ino,
            id: Mutex::default(),
            pending: Mutex::default(),
            syncing: Mutex::default(),
            changes: RwLock::default(),
        }
    }

    /// A directory that was just made: it has no id yet, and need not be searched for one.
    pub fn just_made(handle: B::Dir, ino: u64) -> Self {
        let made = Self::new(handle, ino);
        *made.id_state() = Some(Id::Unstored(random_id()));
        made
    }

    pub fn handle(&self) -> &B::Dir {
        &self.handle
    }

    pub fn ino(&self) -> u64 {
        self.ino
    }

    pub fn target(&self) -> Target<'_, B> {
        Target::Dir(&self.handle)
    }

    pub fn attr(&self, volume: &Volume<B>) -> Result<Attr> {
        Ok(volume.backing().stat(self.target())?)
    }

    /// Seals a name for this directory.
    ///
    /// # Errors
    /// [`Error::NoDirId`] if the directory has entries but its id is lost.
    pub fn seal(&self, volume: &Volume<B>, name: &[u8]) -> Result<SealedName> {
        if name.len() > 255 {
            return Err(Error::NameTooLong);
        }
        if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
            return Err(Error::Invalid);
        }
        Ok(volume.keys().names().seal(&self.known_id(volume)?, name))
    }

    /// The stored name and attributes of an entry.
    pub fn lookup(&self, volume: &Volume<B>, name: &[u8]) -> Result<(SealedName, Attr)> {
        let sealed = self.seal(volume, name)?;
        let attr = volume
            .backing()
            .stat(Target::At(&self.handle, &sealed.entry))?;
        Ok((sealed, attr))
    }

    /// The id, whether it is stored or not.
    pub fn known_id(&self, volume: &Volume<B>) -> Result<DirId> {
        let mut id = self.id_state();
        if let Some(Id::Stored(known) | Id::Unstored(known)) = *id {
            return Ok(known);
        }
        let found = self.load_id(volume)?;
        *id = Some(found);
        let (Id::Stored(known) | Id::Unstored(known)) = found;
        Ok(known)
    }

    /// The id, stored first if it was not yet.
    pub fn stored_id(&self, volume: &Volume<B>) -> Result<DirId> {
        self.known_id(volume)?;
        let mut id = self.id_state();
        if let Some(Id::Unstored(new)) = *id {
            self.store_id(volume, new)?;
            *id = Some(Id::Stored(new));
        }
        match *id {
            Some(Id::Stored(known)) => Ok(known),
            _ => Err(Error::NoDirId),
        }
    }

    fn id_state(&self) -> MutexGuard<'_, Option<Id>> {
        self.id
            .lock()
            .expect("no code that panics runs under this lock")
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending
            .lock()
            .expect("no code that panics runs under this lock")
    }

    fn load_id(&self, volume: &Volume<B>) -> Result<Id> {
        let unreadable = match self.read_id_file(volume) {
            Ok(id) => return Ok(Id::Stored(id)),
            Err(e) if e.is_not_found() || matches!(e, Error::DamagedName) => None,
            Err(e) => Some(e),
        };
        let names = volume.keys().names();
        let mut from_link = None;
        let mut has_entries = false;
        volume.backing().list(&self.handle)?.read(&mut |entry| {
            match classify(entry.name) {
                Stored::DirIdLink if from_link.is_none() => {
                    from_link = names.parse_dir_link_name(entry.name).ok();
                }
                Stored::Short | Stored::Long => has_entries = true,
                _ => {}
            }
            true
        })?;
        match (from_link, unreadable) {
            (Some(id), _) => {
                log::warn!(
                    "directory {}: its id was read from the second copy",
                    self.ino
                );
                Ok(Id::Stored(id))
            }
            (None, Some(e)) => Err(e),
            (None, None) if has_entries => Err(Error::NoDirId),
            (None, None) => Ok(Id::Unstored(random_id())),
        }
    }

    fn read_id_file(&self, volume: &Volume<B>) -> Result<DirId> {
        let file = volume
            .backing()
            .open(&self.handle, ID_FILE, OpenFor::Read)?;
        let mut record = [0; 64];
        let got = volume.backing().read_at(&file, &mut record, 0)?;
        let names = volume.keys().names();
        names
            .parse_dir_record(&record[..got])
            .map_err(|_| Error::DamagedName)
    }

    fn store_id(&self, volume: &Volume<B>, id: DirId) -> Result<()> {
        let backing = volume.backing();
        let names = volume.keys().names();
        let record = names.dir_record(&id);
        let dir = &self.handle;
        // What an interrupted creation left in an empty directory is no one's id.
        let file = backing
            .create(dir, ID_FILE, 0o600)
            .or_else(|e| match e.raw_os_error() {
                Some(libc::EEXIST) => {
                    backing.unlink(dir, ID_FILE)?;
                    backing.create(dir, ID_FILE, 0o600)
                }
                _ => Err(e),
            })?;
        let link = names.dir_link_name(&id);
        let stored = backing
            .write_at(&file, &record, 0)
            .map_err(|(_, e)| e)
            .and_then(|()| {
                backing
                    .link((dir, ID_FILE), (dir, link.as_bytes()))
                    .or_else(|_| {
                        // A filesystem without hard links keeps the id in the name of an empty file.
                        backing.create(dir, link.as_bytes(), 0o600).map(drop)
                    })
            });
        if let Err(e) = stored {
            let _ = backing.unlink(dir, ID_FILE);
            return Err(e.into());
        }
        self.pending().id = true;
        Ok(())
    }

    /// Removes the id of a directory that has no entries, so that it can be removed itself.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if there is anything but the id.
    pub(super) fn remove_id(&self, volume: &Volume<B>) -> Result<()> {
        let mut links = Vec::new();
        let mut others = false;
        volume.backing().list(&self.handle)?.read(&mut |entry| {
            match classify(entry.name) {
                Stored::DirIdFile | Stored::DirIdLink => links.push(entry.name.to_vec()),
                _ if matches!(entry.name, b"." | b"..") => {}
                _ => others = true,
            }
            !others
        })?;
        if others {
            return Err(Error::NotEmpty);
        }
        // Should the removal of the directory fail, the next entry stores the same id again.
        let known = self.known_id(volume)?;
        for link in links {
            volume.backing().unlink(&self.handle, &link)?;
        }
        *self.id_state() = Some(Id::Unstored(known));
        Ok(())
    }

    /// Writes the sidecar of a long name, or leaves none behind. Does nothing for a short one.
    pub(super) fn put_sidecar(&self, volume: &Volume<B>, name: &SealedName) -> Result<()> {
        let Some(content) = &name.sidecar else {
            return Ok(());
        };
        let backing = volume.backing();
        let sidecar = sidecar_name(&name.entry);
        let (file, is_new) = match backing.create(&self.handle, &sidecar, 0o600) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {
                let file = backing.open(&self.handle, &sidecar, OpenFor::ReadWrite)?;
                (file, false)
            }
            other => (other?, true),
        };
        if let Err((_, e)) = backing.write_at(&file, content, 0) {
            if is_new {
                self.remove_sidecar(volume, name);
            }
            return Err(e.into());
        }
        let mut pending = self.pending();
        if pending.sidecars.len() < SIDECARS_TRACKED {
            pending.sidecars.push(sidecar);
        } else {
            pending.too_many = true;
        }
        Ok(())
    }

    /// Removes the sidecar of a long name whose entry is gone.
    pub(super) fn remove_sidecar(&self, volume: &Volume<B>, name: &SealedName) {
        if name.sidecar.is_some() {
            let gone = volume
                .backing()
                .unlink(&self.handle, &sidecar_name(&name.entry));
            if let Err(e) = gone {
                log::warn!(
                    "directory {}: a name sidecar could not be removed: {e}",
                    self.ino
                );
            }
        }
    }

    /// Makes the id and the sidecars durable, so that every entry that is durable can also be read.
    pub fn make_durable(&self, volume: &Volume<B>) -> Result<()> {
        // It protects no data: only the order of syncs.
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = std::mem::take(&mut *self.pending());
        if !pending.id && pending.sidecars.is_empty() {
            return Ok(());
        }
        let done = self.sync_pending(volume, &pending);
        if done.is_err() {
            let mut now = self.pending();
            now.id = true;
            now.too_many = true;
        }
        done
    }

    fn sync_pending(&self, volume: &Volume<B>, pending: &Pending) -> Result<()> {
        let backing = volume.backing();
        if pending.too_many {
            return Ok(backing.sync_all()?);
        }
        let id = pending.id.then_some(ID_FILE);
        for name in id
            .into_iter()
            .chain(pending.sidecars.iter().map(Vec::as_slice))
        {
            match backing.open(&self.handle, name, OpenFor::Read) {
                Ok(file) => backing.sync(&file, Sync::Data)?,
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(backing.sync_dir(&self.handle)?)
    }

    /// Whether [`Dir::make_durable`] has something to do.
    pub fn is_pending(&self) -> bool {
        let pending = self.pending();
        pending.id || !pending.sidecars.is_empty()
    }

    /// Opens the stored names of `listing` and calls `each` until it answers `false`.
    ///
    /// Entries that are not wardfs's, or whose names do not authenticate, are skipped and logged by directory.
    pub fn read_entries(
        &self,
        volume: &Volume<B>,
        listing: &mut B::Listing,
        each: &mut dyn FnMut(PlainEntry<'_>) -> bool,
    ) -> Result<()> {
        let mut outcome = Ok(());
        let mut skipped = 0u32;
        let mut opener = None;
        listing.read(&mut |entry| {
            let opened;
            let name = match classify(entry.name) {
                _ if matches!(entry.name, b"." | b"..") => entry.name,
                stored @ (Stored::Short | Stored::Long) => {
                    match self.open_name_with(&mut opener, volume, entry.name, stored) {
                        Ok(name) => {
                            opened = name;
                            &opened
                        }
                        Err(Error::DamagedName) => {
                            skipped += 1;
                            return true;
                        }
                        Err(e) => {
                            outcome = Err(e);
                            return false;
                        }
                    }
                }
                Stored::Foreign => {
                    skipped += 1;
                    return true;
                }
                _ => return true,
            };
            each(PlainEntry {
                name,
                stored: entry.name,
                ino: entry.ino,
                kind: entry.kind,
                cookie: entry.cookie,
            })
        })?;
        if skipped > 0 {
            log::warn!(
                "directory {}: {skipped} entries with unreadable names skipped",
                self.ino
            );
        }
        outcome
    }

    pub(super) fn open_name(
        &self,
        volume: &Volume<B>,
        entry: &[u8],
        stored: Stored,
    ) -> Result<Vec<u8>> {
        self.open_name_with(&mut None, volume, entry, stored)
    }

    /// For many names: `opener` is made with the first.
    fn open_name_with<'a>(
        &self,
        opener: &mut Option<Opener<'a>>,
        volume: &'a Volume<B>,
        entry: &[u8],
        stored: Stored,
    ) -> Result<Vec<u8>> {
        let opener = match opener {
            Some(opener) => opener,
            none => none.insert(volume.keys().names().opener(&self.known_id(volume)?)),
        };
        if stored == Stored::Short {
            return opener.open(entry).map_err(|_| Error::DamagedName);
        }
        let backing = volume.backing();
        let file = match backing.open(&self.handle, &sidecar_name(entry), OpenFor::Read) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EIO)) => {
                return Err(Error::DamagedName);
            }
            other => other?,
        };
        let mut content = [0; 512];
        let got = backing.read_at(&file, &mut content, 0)?;
        opener
            .open_long(entry, &content[..got])
            .map_err(|_| Error::DamagedName)
    }
}

fn random_id() -> DirId {
    DirId(rand::array())
}

fn sidecar_name(entry: &[u8]) -> Vec<u8> {
    [entry, SIDECAR_SUFFIX].concat()
}
