//! The two copies of the volume header on the disk.
//!
//! Both hold the same bytes: an older copy would keep a replaced passphrase alive. They are written one after the other,
//! each by temporary file, fsync, rename and fsync of the directory, so that one of them is whole at any moment.

use std::io;

use crate::crypto::HeaderKey;
use crate::format::volume::{MAX_HEADER_LEN, VolumeHeader};
use crate::keys::header::UnlockError;
use crate::store::backing::{Backing, OpenFor, Sync};
use crate::store::layout::{HEADER, HEADER_BACKUP, META_DIR, TMP_DIR};
use crate::store::volume::VolumeError;

/// A header as found.
#[derive(Debug)]
pub struct Found {
    pub header: VolumeHeader,
    /// The first copy was missing or damaged.
    pub from_backup: bool,
}

/// Reads the first copy, or the second one where the first is damaged.
pub fn read<B: Backing>(backing: &B) -> Result<Found, VolumeError> {
    let root = backing
        .root()
        .map_err(|e| VolumeError::io("open the vault", e))?;
    let meta = match backing.open_dir(&root, META_DIR.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(VolumeError::NotAVault),
        other => other.map_err(|e| VolumeError::io("open ~wardfs", e))?,
    };
    let first = match read_copy(backing, &meta, HEADER) {
        Ok(header) => {
            return Ok(Found {
                header,
                from_backup: false,
            });
        }
        Err(e @ VolumeError::Unsupported(_)) => return Err(e),
        Err(e) => e,
    };
    match (first, read_copy(backing, &meta, HEADER_BACKUP)) {
        (_, Ok(header)) => Ok(Found {
            header,
            from_backup: true,
        }),
        (_, Err(e @ VolumeError::Unsupported(_))) => Err(e),
        (VolumeError::NotAVault, Err(VolumeError::NotAVault)) => Err(VolumeError::NotAVault),
        (VolumeError::NotAVault, Err(e)) | (e, Err(_)) => Err(e),
    }
}

fn read_copy<B: Backing>(
    backing: &B,
    meta: &B::Dir,
    name: &str,
) -> Result<VolumeHeader, VolumeError> {
    let bytes = read_bytes(backing, meta, name)?;
    VolumeHeader::decode(&bytes).map_err(VolumeError::from_format)
}

pub(super) fn read_bytes<B: Backing>(
    backing: &B,
    meta: &B::Dir,
    name: &str,
) -> Result<Vec<u8>, VolumeError> {
    let fail = |e| VolumeError::io("read the volume header", e);
    let file = match backing.open(meta, name.as_bytes(), OpenFor::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(VolumeError::NotAVault),
        other => other.map_err(fail)?,
    };
    let len = backing
        .stat(crate::store::backing::Target::File(&file))
        .map_err(fail)?
        .size;
    let mut bytes = vec![0; (len as usize).min(MAX_HEADER_LEN)];
    let got = backing.read_at(&file, &mut bytes, 0).map_err(fail)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Makes both copies hold `header`, durably.
pub fn write<B: Backing>(backing: &B, header: &VolumeHeader) -> Result<(), VolumeError> {
    let bytes = header.encode();
    let write = || -> io::Result<()> {
        let meta = backing.open_dir(&backing.root()?, META_DIR.as_bytes())?;
        let tmp = backing.open_dir(&meta, TMP_DIR.as_bytes())?;
        for name in [HEADER, HEADER_BACKUP] {
            replace(backing, &tmp, &meta, name.as_bytes(), &bytes)?;
        }
        Ok(())
    };
    write().map_err(|e| VolumeError::io("write the volume header", e))
}

/// Changes the header as it is now on the disk, which must be authentic, and answers it. Both copies are durable when this
/// returns; nothing is written if `change` fails. Only one process at a time may do so: [`crate::store::locked`].
///
/// # Errors
/// Those of `change`, and [`VolumeError`].
pub fn update<B: Backing, T, E: From<VolumeError>>(
    backing: &B,
    key: &impl HeaderKey,
    change: impl FnOnce(&mut VolumeHeader) -> Result<T, E>,
) -> Result<(VolumeHeader, T), E> {
    let mut header = read(backing)?.header;
    if !header.mac_matches(&key.header_mac_key()) {
        return Err(VolumeError::Unlock(UnlockError::Tampered).into());
    }
    let done = change(&mut header)?;
    header
        .check()
        .map_err(|e| VolumeError::Unlock(UnlockError::Invalid(e)))?;
    write(backing, &header)?;
    Ok((header, done))
}

/// Mends the copy that is damaged, or that an interrupted [`write()`] left behind the other one.
///
/// `verified` is the header that was unlocked. If neither copy is that one any more, someone has just replaced it, and
/// both are left alone.
pub fn heal<B: Backing>(backing: &B, verified: &VolumeHeader) -> Result<(), VolumeError> {
    let fail = |e| VolumeError::io("mend the volume header", e);
    let root = backing.root().map_err(fail)?;
    let meta = backing.open_dir(&root, META_DIR.as_bytes()).map_err(fail)?;
    let wanted = verified.encode();
    let bytes_of = |name| read_bytes(backing, &meta, name).unwrap_or_default();
    let (first, second) = (bytes_of(HEADER), bytes_of(HEADER_BACKUP));
    let bad = if first == wanted && second != wanted {
        HEADER_BACKUP
    } else if second == wanted && VolumeHeader::decode(&first).is_err() {
        HEADER
    } else {
        return Ok(());
    };
    log::warn!("the header copy {bad} was damaged or out of date; it is written anew");
    let mend = || {
        let tmp = backing.open_dir(&meta, TMP_DIR.as_bytes())?;
        replace(backing, &tmp, &meta, bad.as_bytes(), &wanted)
    };
    mend().map_err(fail)
}

/// Makes both copies what `verified` is, and durable: whoever wrote them may have been killed in between.
///
/// # Errors
/// [`VolumeError::Io`].
pub fn settle<B: Backing>(backing: &B, verified: &VolumeHeader) -> Result<(), VolumeError> {
    heal(backing, verified)?;
    let sync = || -> io::Result<()> {
        let meta = backing.open_dir(&backing.root()?, META_DIR.as_bytes())?;
        for name in [HEADER, HEADER_BACKUP] {
            let file = backing.open(&meta, name.as_bytes(), OpenFor::Read)?;
            backing.sync(&file, Sync::All)?;
        }
        backing.sync_dir(&meta)
    };
    sync().map_err(|e| VolumeError::io("sync the volume header", e))
}

pub(super) fn replace<B: Backing>(
    backing: &B,
    tmp: &B::Dir,
    into: &B::Dir,
    name: &[u8],
    bytes: &[u8],
) -> io::Result<()> {
    match backing.unlink(tmp, name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = backing.create(tmp, name, 0o600)?;
    backing.write_at(&file, bytes, 0).map_err(|(_, e)| e)?;
    backing.sync(&file, Sync::All)?;
    backing.rename(
        (tmp, name),
        (into, name),
        crate::store::backing::RenameMode::Replace,
    )?;
    backing.sync_dir(into)
}
