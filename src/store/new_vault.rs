//! A new vault: its directories, its superblock and its header, on an empty directory.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::content::Geometry;
use crate::crypto::{Cipher, VolumeKeys};
use crate::format::volume::{INCOMPATIBLE_JOURNAL, VolumeHeader};
use crate::keys::header::{self as keyed, NewVolume};
use crate::keys::kdf::Argon2Params;
use crate::keys::secret::SlotSecret;
use crate::store::backing::{Backing, Target};
use crate::store::disk::{Atime, Disk};
use crate::store::header;
use crate::store::layout::{self, JOURNAL_DIR, META_DIR, TARGETS_DIR, TMP_DIR};
use crate::store::superblock;
use crate::store::upkeep::JournalMode;
use crate::store::volume::VolumeError;

/// Bytes that stored names may have.
const NAME_MAX: u32 = 255;

/// What a new vault is to be.
#[derive(Debug, Clone)]
pub struct InitParams {
    pub cipher: Cipher,
    /// Bytes, a power of two from 4 KiB to 64 KiB.
    pub chunk_size: u32,
    pub label: String,
    pub kdf: Argon2Params,
    pub journal: JournalMode,
}

/// Makes a vault in `dir`, which must be empty or missing.
pub fn init(
    dir: &Path,
    params: &InitParams,
    secret: &SlotSecret,
) -> std::result::Result<VolumeHeader, VolumeError> {
    let log2 = params.chunk_size.trailing_zeros() as u8;
    if !params.chunk_size.is_power_of_two() || Geometry::new(log2).is_none() {
        return Err(VolumeError::InvalidChunkSize(params.chunk_size));
    }
    let fail = |what| move |e| VolumeError::io(what, e);
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(VolumeError::io("make the vault's directory", e));
        }
        _ => {}
    }
    let mut entries = std::fs::read_dir(dir).map_err(fail("read the vault's directory"))?;
    if entries.next().is_some() {
        return Err(VolumeError::NotEmpty);
    }
    let new = NewVolume {
        cipher: params.cipher,
        log2_chunk: log2,
        label: params.label.clone(),
        kdf: params.kdf,
        incompatible: match params.journal {
            JournalMode::Full => INCOMPATIBLE_JOURNAL,
            JournalMode::Off => 0,
        },
    };
    // The slow part comes before anything is on the disk.
    let (header, keys) = keyed::create(&new, secret).map_err(VolumeError::Unlock)?;
    let made = write_new(dir, &header, &keys);
    if made.is_err() {
        let _ = std::fs::remove_dir_all(layout::meta(dir));
    }
    made.map(|()| header)
}

fn write_new(
    dir: &Path,
    header: &VolumeHeader,
    keys: &VolumeKeys,
) -> std::result::Result<(), VolumeError> {
    let disk = Disk::open(dir, Atime::Backing).map_err(|e| VolumeError::io("open the vault", e))?;
    let layout = || -> io::Result<()> {
        let name_max = disk.space()?.name_max;
        if name_max < NAME_MAX {
            return Err(io::Error::other(format!(
                "this filesystem has names of at most {name_max} bytes, and {NAME_MAX} are needed"
            )));
        }
        let root = disk.root()?;
        disk.mkdir(&root, META_DIR.as_bytes(), 0o700)?;
        let other_case = META_DIR.to_uppercase();
        if disk.stat(Target::At(&root, other_case.as_bytes())).is_ok() {
            let why =
                "this directory does not tell upper and lower case apart, which stored names need";
            return Err(io::Error::other(why));
        }
        let meta = disk.open_dir(&root, META_DIR.as_bytes())?;
        for name in [JOURNAL_DIR, TMP_DIR, TARGETS_DIR] {
            disk.mkdir(&meta, name.as_bytes(), 0o700)?;
        }
        let journal = disk.open_dir(&meta, JOURNAL_DIR.as_bytes())?;
        let journaled = header.incompatible & INCOMPATIBLE_JOURNAL != 0;
        superblock::create(&disk, &journal, keys, journaled)?;
        // So that a first mount that is read-only finds something to lock.
        disk.create(&meta, layout::LOCK.as_bytes(), 0o600)?;
        disk.sync_dir(&meta)?;
        disk.sync_dir(&root)
    };
    layout().map_err(|e| VolumeError::io("write the new vault", e))?;
    header::write(&disk, header)
}
