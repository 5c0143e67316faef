//! The volume under test: made once on a real directory, then kept as an image that every run begins from.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use wardfs::crypto::{Cipher, Epoch, VolumeKey, VolumeKeys};
use wardfs::format::volume::VolumeHeader;
use wardfs::fs::rotate::{Skipped, Watch};
use wardfs::fs::{Caller, Config, Existing, Fs, NewMode, ROOT};
use wardfs::keys::kdf::Argon2Params;
use wardfs::keys::rotation::{self, Hands};
use wardfs::keys::secret::SlotSecret;
use wardfs::store::check::finding::{self, Finding};
use wardfs::store::check::tally::Tally;
use wardfs::store::check::{self, Mode, Plan, Source, Vault};
use wardfs::store::file::Resealed;
use wardfs::store::recovery::Progress;
use wardfs::store::upkeep::JournalMode;
use wardfs::store::volume::{Access, InitParams, Locked, Options, Volume, VolumeError, init};
use wardfs::sys::secret::SecretVec;

use crate::common::TempDir;
use crate::disk::{Body, Image, Node, ROOT_INO, SimDisk, wall_clock};
use crate::history::{History, content};
use crate::place::Place;

pub const CALLER: Caller = Caller { uid: 0, gid: 0 };
pub const NEW_FILE: NewMode = NewMode {
    mode: libc::S_IFREG | 0o600,
    umask: 0,
};
pub const NEW_DIR: NewMode = NewMode {
    mode: libc::S_IFDIR | 0o700,
    umask: 0,
};

const DAY: i64 = 86_400;

/// What protects bytes that were synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    Journal,
    Nothing,
}

impl Protection {
    fn mode(self) -> JournalMode {
        match self {
            Self::Journal => JournalMode::Full,
            Self::Nothing => JournalMode::Off,
        }
    }
}

/// Small, so that workloads come to the end of one.
const SEGMENT_LEN: u64 = 64 * 1024;

/// Whether this version of wardfs has a journal.
pub const HAS_JOURNAL: bool = true;

pub struct Lab {
    keys: Arc<VolumeKeys>,
    header: VolumeHeader,
    protection: Protection,
    base: Image,
    /// What the prepared volume holds.
    pub prepared: History,
}

/// A rotation: the volume while it is under way, with content under the old key, and as it is to be read afterwards.
pub struct Rotation {
    pub under_way: Lab,
    /// Without the old key.
    pub afterwards: Lab,
}

impl Rotation {
    pub fn new() -> Self {
        let (under_way, key) = Lab::made(Protection::Journal);
        let mut header = under_way.header.clone();
        rotation::begin(&mut header, &key, Hands::Own).expect("there are epochs left");
        let keyring =
            |header: &VolumeHeader| rotation::state(header, &key).expect("authentic").keyring;
        let followed = under_way.keys.follow(keyring(&header));
        assert_eq!(followed, Ok(Some(Epoch(1))));
        rotation::finish(&mut header, &key, Epoch(1)).expect("under way");
        let keys = Arc::new(VolumeKeys::new(&key, keyring(&header)));
        let afterwards = Lab {
            keys,
            header: under_way.header.clone(),
            protection: under_way.protection,
            base: under_way.base.clone(),
            prepared: under_way.prepared.clone(),
        };
        Self {
            under_way,
            afterwards,
        }
    }
}

impl Lab {
    pub fn new(protection: Protection) -> Self {
        Self::made(protection).0
    }

    /// With the volume key. Key slot 0 opens with the passphrase "test".
    pub fn made(protection: Protection) -> (Self, VolumeKey) {
        let mut passphrase = SecretVec::new();
        passphrase.extend_from_slice(b"test");
        let secret = SlotSecret::new(Some(passphrase), None).expect("a passphrase");
        let params = InitParams {
            cipher: Cipher::Xaes256Gcm,
            chunk_size: 4096,
            label: String::new(),
            journal: protection.mode(),
            kdf: Argon2Params {
                memory_kib: Argon2Params::MIN_MEMORY_KIB,
                time: 1,
                lanes: 1,
            },
        };
        let dir = TempDir::new();
        let vault = dir.join("vault");
        init(&vault, &params, &secret).expect("free");
        let locked = Locked::open(&vault).expect("just made");
        let (key, keys) = locked.unlock(&secret).expect("just made");
        let mut lab = Self {
            keys,
            header: locked.header().clone(),
            protection,
            base: Image::new(wall_clock(DAY)),
            prepared: History::default(),
        };
        import(&vault, &mut lab.base, ROOT_INO);
        lab.prepare();
        (lab, key)
    }

    pub fn open(&self, disk: &SimDisk) -> Result<Fs<SimDisk>, String> {
        self.open_as(disk, (&self.keys, &self.header), false)
    }

    /// Opens it under another header than it was made with.
    pub fn open_under(
        &self,
        disk: &SimDisk,
        keys: &Arc<VolumeKeys>,
        header: &VolumeHeader,
    ) -> Result<Fs<SimDisk>, String> {
        self.open_as(disk, (keys, header), false)
    }

    /// Opens a copy that was made while the volume was in use.
    pub fn open_copy(&self, disk: &SimDisk) -> Result<Fs<SimDisk>, String> {
        self.open_as(disk, (&self.keys, &self.header), true)
    }

    pub fn header(&self) -> &VolumeHeader {
        &self.header
    }

    /// The only place that knows how a volume is opened.
    fn open_as(
        &self,
        disk: &SimDisk,
        (keys, header): (&Arc<VolumeKeys>, &VolumeHeader),
        copy: bool,
    ) -> Result<Fs<SimDisk>, String> {
        let options = Options {
            copy,
            journal: self.protection.mode(),
            segment_len: SEGMENT_LEN,
            ..Options::default()
        };
        let volume = Volume::on(
            disk.clone(),
            None,
            keys.clone(),
            header,
            Access::ReadWrite,
            options,
        )
        .map_err(|e: VolumeError| e.to_string())?;
        let config = Config {
            own_as_caller: false,
            acl: false,
            cached_dirs: 8,
        };
        Fs::new(volume, config).map_err(|e| e.to_string())
    }

    /// All that a check finds in a volume that nobody has open.
    pub fn check(&self, disk: &SimDisk, mode: Mode) -> Result<Vec<Finding>, String> {
        let source = Source {
            backing: &|| Ok(disk.clone()),
            lock: None,
            keys: self.keys.clone(),
            header: &self.header,
        };
        let plan = Plan {
            mode,
            vault: Vault::Still,
            threads: 1,
            sample: None,
            salvage: None,
            count_ahead: false,
        };
        let found = Findings::default();
        check::run(source, &plan, &found, &Tally::default()).map_err(|e| format!("{e:?}"))?;
        Ok(found.0.into_inner().expect("no panic under it"))
    }

    /// A disk of its own with the prepared volume.
    pub fn disk(&self) -> SimDisk {
        SimDisk::from_now(self.base.clone())
    }

    /// Two directories with a file each and room for another, and an empty directory; all of it durable long ago.
    fn prepare(&mut self) {
        let disk = SimDisk::new(self.base.clone(), DAY / 2);
        let fs = self.open(&disk).expect("new");
        let mut history = History::default();
        for dir in [Place::A, Place::B, Place::E] {
            let made = fs.mkdir(CALLER, ROOT, dir.name(), NEW_DIR).expect("free");
            history.prepared_dir(ROOT, dir.name(), made.attr.ino);
        }
        for (file, len) in [(Place::Ax, 10_240), (Place::Bx, 9_000)] {
            let dir = history.latest_at(file.parent().expect("in a directory"));
            let dir = dir.expect("made above");
            let (entry, fh) = fs
                .create(CALLER, dir, file.name(), NEW_FILE, Existing::Refuse)
                .expect("free");
            let data = content(entry.attr.ino as usize, 0, len);
            fs.write(fh, 0, &data).expect("there is room");
            fs.release(fh).expect("open");
            history.prepared_file(dir, file.name(), entry.attr.ino, data);
        }
        fs.close().expect("complete");
        self.base = disk.image();
        self.prepared = history;
    }
}

/// The journal's commit, as upkeep does it.
pub fn commit(fs: &Fs<SimDisk>) -> Result<(), String> {
    fs.commit().map(drop).map_err(|e| e.to_string())
}

/// The journal's checkpoint, as upkeep does it.
pub fn checkpoint(fs: &Fs<SimDisk>) -> Result<(), String> {
    fs.checkpoint().map_err(|e| e.to_string())
}

/// Seals chunks anew until so many runs of them were read, or all.
pub fn rotate(fs: &Fs<SimDisk>, runs: u64) -> Result<(), String> {
    let left = Left {
        runs: Cell::new(runs),
        passed_over: RefCell::default(),
    };
    let walked = fs.rotate(fs.volume().backing(), &left, &Tally::default());
    let walked = walked.map_err(|e| e.to_string())?;
    match left.passed_over.take() {
        Some(why) => Err(why),
        None if walked.is_complete() || left.runs.get() == 0 => Ok(()),
        None => Err("it was not complete".into()),
    }
}

struct Left {
    runs: Cell<u64>,
    passed_over: RefCell<Option<String>>,
}

impl Watch for Left {
    fn advanced(&self, _: Resealed) {
        self.runs.set(self.runs.get().saturating_sub(1));
    }

    fn skipped(&self, skipped: &Skipped) {
        *self.passed_over.borrow_mut() = Some(skipped.error.to_string());
    }

    fn is_stopped(&self) -> bool {
        self.runs.get() == 0
    }
}

#[derive(Default)]
struct Findings(Mutex<Vec<Finding>>);

impl finding::Watch<SimDisk> for Findings {
    fn found(&self, finding: &Finding) {
        let mut found = self.0.lock().expect("no panic under it");
        found.push(finding.clone());
    }

    fn recovering(&self, _: Progress) {}

    fn opened(&self, _: &Volume<SimDisk>) {}
}

/// Copies a directory of the real filesystem into an image.
fn import(from: &Path, image: &mut Image, into: u64) {
    for entry in std::fs::read_dir(from).expect("there") {
        let entry = entry.expect("readable");
        let mode = entry.metadata().expect("there").mode();
        let ino = image.next_ino();
        let body = match entry.file_type().expect("there").is_dir() {
            true => Body::Dir(BTreeMap::new()),
            false => Body::File(Default::default()),
        };
        image.insert(ino, Node::new(mode, body, wall_clock(DAY)));
        image.enter(into, entry.file_name().as_encoded_bytes(), ino, ino);
        if mode & libc::S_IFMT == libc::S_IFDIR {
            import(&entry.path(), image, ino);
        } else {
            let bytes = std::fs::read(entry.path()).expect("readable");
            let file = image.file_mut(ino).expect("made as a file");
            file.fill(&bytes);
        }
    }
}
