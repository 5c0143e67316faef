//! A vault as a whole: opening its header, and serving its tree once it is unlocked.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::content::Geometry;
use crate::crypto::{Cipher, VolumeKey, VolumeKeys, WriteSeq};
use crate::format::FormatError;
use crate::format::volume::{INCOMPATIBLE_JOURNAL, VolumeHeader};
use crate::keys::header::{self as keyed, UnlockError};
use crate::keys::secret::SlotSecret;
use crate::store::backing::{Attr, Backing};
use crate::store::disk::{Atime, Disk};
use crate::store::error::{Error, Result};
use crate::store::header;
use crate::store::journal::{self, Ended, Journal};
use crate::store::layout::{JOURNAL_DIR, META_DIR, TARGETS_DIR};
use crate::store::lock::VaultLock;
use crate::store::recovery::report::Report;
use crate::store::recovery::view::View;
use crate::store::recovery::{self, Origin};
use crate::store::superblock::{self, Sequencer, UncleanTimes};
use crate::store::upkeep::JournalMode;

pub use crate::store::new_vault::{InitParams, init};

/// Whether a volume may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// How a volume is opened.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// A volume that was made without a journal has none whatever this says.
    pub journal: JournalMode,
    /// Bytes of a journal segment at first.
    pub segment_len: u64,
    /// The vault is a copy that was made while it was mounted elsewhere.
    pub copy: bool,
    /// Is told how far recovery has come.
    pub progress: &'a dyn Fn(recovery::Progress),
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            journal: JournalMode::Full,
            segment_len: journal::SEGMENT_LEN,
            copy: false,
            progress: &|_| {},
        }
    }
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("journal", &self.journal)
            .field("segment_len", &self.segment_len)
            .field("copy", &self.copy)
            .finish_non_exhaustive()
    }
}

/// Why a vault cannot be made, opened or unlocked.
#[derive(Debug)]
pub enum VolumeError {
    /// There is no volume header.
    NotAVault,
    /// A new vault needs an empty directory.
    NotEmpty,
    /// Neither copy of the header is whole.
    HeaderDamaged(FormatError),
    /// Made by a later version.
    Unsupported(FormatError),
    /// The secret is not the right one, or the header was changed.
    Unlock(UnlockError),
    InvalidChunkSize(u32),
    /// Names are being sealed anew: some are under the old keys, and some under the new ones.
    NamesUnderWay,
    /// The journal cannot be read.
    Recovery(Error),
    /// Files of the journal could not be read or written: the volume must not be written to before that is mended.
    Unrecovered(Box<Report>),
    Io {
        what: &'static str,
        source: io::Error,
    },
}

impl VolumeError {
    pub(crate) fn from_format(e: FormatError) -> Self {
        if e.is_unsupported() {
            Self::Unsupported(e)
        } else {
            Self::HeaderDamaged(e)
        }
    }

    pub(crate) fn io(what: &'static str, source: io::Error) -> Self {
        Self::Io { what, source }
    }
}

impl std::fmt::Display for VolumeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAVault => f.write_str("there is no wardfs vault here"),
            Self::NotEmpty => f.write_str("the directory is not empty"),
            Self::HeaderDamaged(e) => {
                write!(f, "both copies of the volume header are damaged: {e}")
            }
            Self::Unsupported(e) => write!(f, "this vault needs another version of wardfs: {e}"),
            Self::Unlock(e) => e.fmt(f),
            Self::InvalidChunkSize(size) => write!(
                f,
                "a chunk size of {size} bytes is not offered: use 4096, 8192, 16384, 32768 or 65536"
            ),
            Self::NamesUnderWay => {
                f.write_str("its names are being encrypted anew, which was interrupted")
            }
            Self::Recovery(e) => write!(f, "the journal of the vault cannot be read: {e}"),
            Self::Unrecovered(report) => write!(
                f,
                "the vault was not closed in order and cannot be put in order; nothing is lost, \
                 and it can be mounted read-only (-o ro). {report}"
            ),
            Self::Io { what, source } => write!(f, "cannot {what}: {source}"),
        }
    }
}

impl std::error::Error for VolumeError {}

/// A vault whose header was read but not yet verified: that needs the key.
#[derive(Debug)]
pub struct Locked {
    pub(super) disk: Disk,
    pub(super) found: header::Found,
}

impl Locked {
    pub fn open(dir: &Path) -> std::result::Result<Self, VolumeError> {
        let disk = Disk::open(dir, Atime::Keep)
            .map_err(|e| VolumeError::io("open the vault's directory", e))?;
        let found = header::read(&disk)?;
        Ok(Self { disk, found })
    }

    pub fn header(&self) -> &VolumeHeader {
        &self.found.header
    }

    /// Whether the first copy of the header was damaged and the second one is used.
    pub fn used_backup(&self) -> bool {
        self.found.from_backup
    }

    /// Opens a slot with `secret` and verifies the header.
    pub fn unlock(
        &self,
        secret: &SlotSecret,
    ) -> std::result::Result<(VolumeKey, Arc<VolumeKeys>), VolumeError> {
        let (key, keys) = keyed::unlock(self.header(), secret).map_err(VolumeError::Unlock)?;
        Ok((key, Arc::new(keys)))
    }
}

/// An unlocked volume, open for serving.
#[derive(Debug)]
pub struct Volume<B: Backing> {
    backing: B,
    keys: Arc<VolumeKeys>,
    cipher: Cipher,
    log2_chunk: u8,
    geometry: Geometry,
    access: Access,
    meta: B::Dir,
    unclean: UncleanTimes,
    /// `None` when mounted read-only.
    pub(super) sequencer: Option<Sequencer<B>>,
    /// `None` when mounted read-only or without one.
    pub(super) journal: Option<Journal<B>>,
    /// What recovery found and a read-only mount must not write: inode → view.
    views: HashMap<u64, View>,
    recovered: Report,
    /// Set after a failure that makes further changes unsafe.
    latched: AtomicBool,
    /// A file could not be completed when it was closed.
    unsettled: AtomicBool,
    _lock: Option<VaultLock>,
}

impl Volume<Disk> {
    /// Opens an unlocked vault on the real filesystem.
    pub fn open(
        dir: &Path,
        lock: VaultLock,
        keys: Arc<VolumeKeys>,
        header: &VolumeHeader,
        (access, atime): (Access, Atime),
        options: Options<'_>,
    ) -> std::result::Result<Self, VolumeError> {
        let disk = Disk::open(dir, atime).map_err(|e| VolumeError::io("open the vault", e))?;
        Self::on(disk, Some(lock), keys, header, access, options)
    }
}

impl<B: Backing> Volume<B> {
    /// Opens an unlocked vault on any backing. `lock` is `None` where no other process can reach it.
    pub fn on(
        backing: B,
        lock: Option<VaultLock>,
        keys: Arc<VolumeKeys>,
        header: &VolumeHeader,
        access: Access,
        options: Options<'_>,
    ) -> std::result::Result<Self, VolumeError> {
        if keys.next_names().is_some() {
            return Err(VolumeError::NamesUnderWay);
        }
        let fail = |e| VolumeError::io("open the volume", e);
        let log2_chunk = header.log2_chunk;
        let geometry = Geometry::new(log2_chunk).ok_or(VolumeError::InvalidChunkSize(
            1u32.wrapping_shl(log2_chunk.into()),
        ))?;
        let root = backing.root().map_err(fail)?;
        let meta = backing.open_dir(&root, META_DIR.as_bytes()).map_err(fail)?;
        let journal_dir = backing
            .open_dir(&meta, JOURNAL_DIR.as_bytes())
            .map_err(fail)?;
        let found = superblock::load(&backing, &journal_dir, &keys).map_err(fail)?;
        let unclean = UncleanTimes::new(found.as_ref().unwrap_or(&superblock::first_superblock()));
        let mode = match header.incompatible & INCOMPATIBLE_JOURNAL {
            0 => JournalMode::Off,
            _ => options.journal,
        };
        let before = found.clone();
        let sequencer = match access {
            Access::ReadOnly => None,
            Access::ReadWrite => {
                header::heal(&backing, header)?;
                if found.as_ref().is_none_or(|s| !s.clean) {
                    // What an earlier daemon wrote but no one synced counts as durable from here on.
                    backing.sync_all().map_err(fail)?;
                }
                Some(Sequencer::open(&backing, &journal_dir, &keys, found).map_err(fail)?)
            }
        };
        let next_seq = sequencer
            .as_ref()
            .map(|sequencer| || sequencer.next(&backing, &keys));
        let recovery = recovery::run(&recovery::Env {
            backing: &backing,
            journal: &journal_dir,
            keys: &keys,
            cipher: header.cipher,
            log2_chunk,
            found: before.as_ref(),
            origin: match options.copy {
                true => Origin::Copy,
                false => Origin::InPlace,
            },
            next_seq: next_seq
                .as_ref()
                .map(|next| next as &dyn Fn() -> Result<WriteSeq>),
            progress: options.progress,
        })
        .map_err(VolumeError::Recovery)?;
        let mut journal = None;
        if let Some(sequencer) = &sequencer {
            let ended = Ended {
                turn: recovery.last_turn,
                seq: sequencer.peek(),
                at: superblock::now_ns(),
            };
            if !recovery.is_complete() {
                return Err(VolumeError::Unrecovered(Box::new(recovery.report)));
            }
            if header.incompatible & INCOMPATIBLE_JOURNAL != 0 {
                sequencer.retire(&backing, &keys, &ended).map_err(fail)?;
            }
            if mode == JournalMode::Full {
                let turn = recovery.last_turn + 1;
                journal = Some(
                    Journal::open(&backing, &journal_dir, turn, options.segment_len)
                        .map_err(fail)?,
                );
            }
        }
        Ok(Self {
            backing,
            keys,
            cipher: header.cipher,
            log2_chunk,
            geometry,
            access,
            meta,
            unclean,
            sequencer,
            journal,
            views: recovery.views,
            recovered: recovery.report,
            latched: AtomicBool::new(false),
            unsettled: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// What recovery had to do when the volume was opened.
    pub fn recovered(&self) -> &Report {
        &self.recovered
    }

    pub fn backing(&self) -> &B {
        &self.backing
    }

    pub fn keys(&self) -> &Arc<VolumeKeys> {
        &self.keys
    }

    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    pub fn log2_chunk(&self) -> u8 {
        self.log2_chunk
    }

    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether it was opened so that nothing is written to the vault.
    pub fn was_opened_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    pub fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly || self.latched.load(Ordering::Acquire)
    }

    /// # Errors
    /// [`Error::ReadOnly`] if nothing may be changed, or nothing any more.
    pub fn check_writable(&self) -> Result<()> {
        if self.is_read_only() {
            Err(Error::ReadOnly)
        } else {
            Ok(())
        }
    }

    /// Allows no change from now on, until the volume is mounted again.
    pub fn latch_read_only(&self, why: &str) {
        if !self.latched.swap(true, Ordering::AcqRel) {
            log::error!("the volume is read-only from now on: {why}");
        }
    }

    /// The next number of the write sequence.
    pub fn next_seq(&self) -> Result<WriteSeq> {
        let sequencer = self.sequencer.as_ref().ok_or(Error::ReadOnly)?;
        sequencer.next(&self.backing, &self.keys)
    }

    /// Whether an empty ciphertext file may be what a crash left of a file that was being created.
    pub fn is_crash_leftover(&self, attr: &Attr) -> bool {
        self.unclean.covers(attr.mtime, self.is_unsettled())
    }

    /// What recovery made of a file, where the volume must not be written to.
    pub(super) fn recovered_view(&self, ino: u64) -> Option<&View> {
        self.views.get(&ino)
    }

    /// The plaintext size of a file by its attributes.
    pub fn plain_size_of(&self, attr: &Attr) -> u64 {
        self.recovered_view(attr.ino)
            .and_then(|view| view.size)
            .unwrap_or_else(|| self.geometry.plain_size_lossy(attr.size))
    }

    pub(super) fn set_unsettled(&self) {
        self.unsettled.store(true, Ordering::Release);
    }

    pub(super) fn is_unsettled(&self) -> bool {
        self.unsettled.load(Ordering::Acquire)
    }

    /// `~wardfs`.
    pub(super) fn meta_dir(&self) -> &B::Dir {
        &self.meta
    }

    /// The directory of sealed symlink targets, which vaults have from the beginning.
    pub(super) fn targets_dir(&self) -> Result<B::Dir> {
        match self.backing.open_dir(&self.meta, TARGETS_DIR.as_bytes()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.check_writable()?;
                self.backing
                    .mkdir(&self.meta, TARGETS_DIR.as_bytes(), 0o700)?;
                Ok(self.backing.open_dir(&self.meta, TARGETS_DIR.as_bytes())?)
            }
            other => Ok(other?),
        }
    }
}
