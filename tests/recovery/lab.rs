//! A vault that can be put into the state in which a crash leaves it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use wardfs::content::{Buffer, Geometry, seal_run};
use wardfs::crypto::{ChunkFlags, ChunkNo, Cipher, FileId, FileKeys, VolumeKeys, WriteSeq};
use wardfs::format::file::{CHUNK_OVERHEAD, FileHeader, HEADER_LEN};
use wardfs::format::journal::{Group, Record};
use wardfs::format::superblock::{SUPERBLOCK_LEN, Superblock};
use wardfs::format::volume::VolumeHeader;
use wardfs::fs::{Caller, Config, Existing, Fs, NewMode, ROOT};
use wardfs::keys::kdf::Argon2Params;
use wardfs::keys::secret::SlotSecret;
use wardfs::store::backing::Backing;
use wardfs::store::disk::{Atime, Disk};
use wardfs::store::recovery::{Env, Origin, Recovery, run};
use wardfs::store::upkeep::JournalMode;
use wardfs::store::volume::{Access, InitParams, Locked, Options, Volume, VolumeError, init};
use wardfs::sys::secret::{SecretBytes, SecretVec};

use crate::common::TempDir;
use crate::watched::Watched;

/// Plaintext bytes of a chunk.
pub const C: usize = 4096;
pub const INNER: ChunkFlags = flags(false);
pub const FINAL: ChunkFlags = flags(true);
/// The turn that has ended in all of these vaults.
pub const RETIRED: u64 = 4;
/// The first live turn.
pub const TURN: u64 = RETIRED + 1;

const fn flags(is_final: bool) -> ChunkFlags {
    ChunkFlags {
        is_final,
        sparse: false,
    }
}

pub struct Lab {
    dir: TempDir,
    vault: PathBuf,
    keys: Arc<VolumeKeys>,
    header: VolumeHeader,
}

/// A file in the vault.
pub struct Stored {
    pub path: PathBuf,
    /// Stored names joined by `/`.
    pub rel: Vec<u8>,
    pub ino: u64,
    pub id: FileId,
    pub keys: FileKeys,
}

impl Lab {
    pub fn new() -> Self {
        let dir = TempDir::new();
        let mut passphrase = SecretVec::new();
        passphrase.extend_from_slice(b"test");
        let secret = SlotSecret::new(Some(passphrase), None).expect("a passphrase");
        let params = InitParams {
            cipher: Cipher::Xaes256Gcm,
            chunk_size: C as u32,
            label: String::new(),
            kdf: Argon2Params {
                memory_kib: 8 * 1024,
                time: 1,
                lanes: 1,
            },
            journal: JournalMode::Full,
        };
        let vault = dir.join("vault");
        init(&vault, &params, &secret).expect("free");
        let locked = Locked::open(&vault).expect("just made");
        let (_, keys) = locked.unlock(&secret).expect("just made");
        Self {
            header: locked.header().clone(),
            vault,
            dir,
            keys,
        }
    }

    /// With files of these names and contents, closed in order; a name has at most one directory before it.
    pub fn with(files: &[(&str, &[u8])]) -> Self {
        let lab = Self::new();
        lab.fill(files);
        lab
    }

    pub fn fill(&self, files: &[(&str, &[u8])]) {
        let fs = self.open();
        for (name, content) in files {
            write_file(&fs, name, content);
        }
        fs.close().expect("complete");
    }

    pub fn vault(&self) -> &Path {
        &self.vault
    }

    pub fn keys(&self) -> &Arc<VolumeKeys> {
        &self.keys
    }

    pub fn open(&self) -> Fs<Disk> {
        self.open_for(Access::ReadWrite)
    }

    /// Opens the volume, with recovery.
    pub fn volume<B: Backing>(&self, disk: B, access: Access) -> Result<Volume<B>, VolumeError> {
        let options = Options {
            segment_len: 1 << 16,
            ..Options::default()
        };
        Volume::on(disk, None, self.keys.clone(), &self.header, access, options)
    }

    pub fn open_for(&self, access: Access) -> Fs<Disk> {
        let disk = Disk::open(&self.vault, Atime::Backing).expect("there");
        let volume = self.volume(disk, access);
        let config = Config {
            own_as_caller: false,
            acl: false,
            cached_dirs: 4,
        };
        Fs::new(volume.expect("whole"), config).expect("readable")
    }

    /// What a mount reads of a file.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, wardfs::fs::Error> {
        let fs = self.open();
        let read = read_file(&fs, name);
        fs.close().expect("complete");
        read
    }

    /// Where the file is stored.
    pub fn find(&self, name: &str) -> Stored {
        let fs = self.open_for(Access::ReadOnly);
        let ino = ino_of(&fs, name);
        let (path, _) = walk(&self.vault)
            .into_iter()
            .find(|(_, i)| *i == ino)
            .expect("in the vault");
        self.stored(&path)
    }

    pub fn stored(&self, path: &Path) -> Stored {
        let bytes = fs::read(path).expect("stored");
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().expect("a header");
        let header = FileHeader::decode(header).expect("a header");
        let rel = path.strip_prefix(&self.vault).expect("in the vault");
        Stored {
            rel: rel.to_str().expect("base64url").as_bytes().to_vec(),
            ino: fs::metadata(path).expect("stored").ino(),
            id: header.file_id,
            keys: self.keys.open_file(&header).expect("of this volume"),
            path: path.to_owned(),
        }
    }

    /// The stored path of a directory, and its inode number.
    pub fn find_dir(&self, name: &str) -> (Vec<u8>, u64) {
        let fs = self.open_for(Access::ReadOnly);
        let ino = ino_of(&fs, name);
        let (path, _) = walk(&self.vault)
            .into_iter()
            .find(|(_, i)| *i == ino)
            .expect("in the vault");
        let rel = path.strip_prefix(&self.vault).expect("in the vault");
        (rel.to_str().expect("base64url").into(), ino)
    }

    fn journal(&self) -> PathBuf {
        self.vault.join("~wardfs/journal")
    }

    pub fn superblock(&self) -> Superblock {
        let bytes = fs::read(self.journal().join("superblock")).expect("there");
        let slots = bytes.chunks(SUPERBLOCK_LEN);
        let key = self.keys.journal_mac_key();
        slots
            .filter_map(|slot| Superblock::decode(slot, key).ok())
            .max_by_key(|s| s.generation)
            .expect("one is valid")
    }

    /// Leaves the volume as one that was in use: everything written so far is durable, [`RETIRED`] is the last turn that
    /// is done with, and the journal is empty. Answers a number that the crashed mount may have used next.
    pub fn crash(&self) -> u64 {
        let mut block = self.superblock();
        let next = block.seq_high_water;
        block.generation += 1;
        block.clean = false;
        block.retired_turn = RETIRED;
        block.retired_seq = next;
        block.seq_high_water = WriteSeq(next.0 + (1 << 24));
        block.opened_at = now_ns();
        let slot = block.encode(self.keys.journal_mac_key());
        fs::write(self.journal().join("superblock"), [slot, slot].concat()).expect("room");
        for segment in ["0", "1"] {
            fs::write(self.journal().join(segment), b"").expect("room");
        }
        next.0
    }

    pub fn change_superblock(&self, change: impl FnOnce(&mut Superblock)) {
        let mut block = self.superblock();
        block.generation += 1;
        change(&mut block);
        let slot = block.encode(self.keys.journal_mac_key());
        fs::write(self.journal().join("superblock"), [slot, slot].concat()).expect("room");
    }

    pub fn write_segment(&self, turn: u64, bytes: &[u8]) {
        fs::write(self.journal().join((turn % 2).to_string()), bytes).expect("room");
    }

    pub fn segment(&self, turn: u64) -> Segment<'_> {
        Segment {
            lab: self,
            turn,
            index: 0,
            bytes: Vec::new(),
        }
    }

    pub fn recover(&self) -> Recovery {
        self.recover_as(Origin::InPlace, true)
    }

    pub fn recover_as(&self, origin: Origin, writes: bool) -> Recovery {
        let disk = Disk::open(&self.vault, Atime::Keep).expect("there");
        self.recover_on(&disk, origin, writes)
    }

    /// The vault on a disk that can refuse.
    pub fn watched(&self) -> Watched {
        Watched {
            disk: Disk::open(&self.vault, Atime::Keep).expect("there"),
            watch: Arc::default(),
        }
    }

    pub fn recover_on<B: Backing>(&self, disk: &B, origin: Origin, writes: bool) -> Recovery {
        let root = disk.root().expect("there");
        let meta = disk.open_dir(&root, b"~wardfs").expect("there");
        let journal = disk.open_dir(&meta, b"journal").expect("there");
        let found = self.superblock();
        let next = AtomicU64::new(found.seq_high_water.0);
        let next_seq = || Ok(WriteSeq(next.fetch_add(1, Ordering::Relaxed)));
        let recovery = run(&Env {
            backing: disk,
            journal: &journal,
            keys: &self.keys,
            cipher: Cipher::Xaes256Gcm,
            log2_chunk: 12,
            found: Some(&found),
            origin,
            next_seq: writes.then_some(&next_seq),
            progress: &|_| {},
        });
        recovery.expect("readable")
    }

    /// All of the vault but its own directory: path, bytes and times.
    pub fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>, SystemTime)> {
        let files = walk(&self.vault).into_iter();
        let files = files.filter(|(path, _)| path.is_file());
        files
            .map(|(path, _)| {
                let modified = fs::metadata(&path).and_then(|m| m.modified());
                let bytes = fs::read(&path).expect("readable");
                (path, bytes, modified.expect("known"))
            })
            .collect()
    }

    /// A copy of the vault with inode numbers and change times of its own.
    pub fn copy(&self) -> Self {
        let vault = self.dir.join("copy");
        let copied = std::process::Command::new("cp")
            .args(["-r", "--preserve=timestamps"])
            .args([&self.vault, &vault])
            .status();
        assert!(copied.expect("cp is there").success());
        Self {
            dir: TempDir::new(),
            vault,
            keys: self.keys.clone(),
            header: self.header.clone(),
        }
    }
}

fn write_file(fs: &Fs<Disk>, name: &str, content: &[u8]) {
    let caller = Caller { uid: 0, gid: 0 };
    let mode = |mode| NewMode { mode, umask: 0 };
    let (parent, name) = match name.split_once('/') {
        None => (ROOT, name),
        Some((dir, name)) => {
            let found = fs.lookup(ROOT, dir.as_bytes()).expect("readable");
            let made = found.unwrap_or_else(|| {
                fs.mkdir(caller, ROOT, dir.as_bytes(), mode(0o755))
                    .expect("free")
            });
            (made.attr.ino, name)
        }
    };
    let (_, fh) = fs
        .create(
            caller,
            parent,
            name.as_bytes(),
            mode(libc::S_IFREG | 0o600),
            Existing::Refuse,
        )
        .expect("free");
    fs.write(fh, 0, content).expect("room");
    fs.release(fh).expect("open");
}

fn ino_of(fs: &Fs<Disk>, path: &str) -> u64 {
    path.split('/').fold(ROOT, |parent, name| {
        let entry = fs.lookup(parent, name.as_bytes()).expect("readable");
        entry.expect("there").attr.ino
    })
}

pub fn read_file(fs: &Fs<Disk>, name: &str) -> Result<Vec<u8>, wardfs::fs::Error> {
    let fh = fs.open(ino_of(fs, name), libc::O_RDONLY)?;
    let mut data = vec![0; 1 << 20];
    let got = fs.read(fh, 0, &mut data);
    fs.release(fh)?;
    data.truncate(got?);
    Ok(data)
}

/// Everything of the tree, with inode numbers.
pub fn walk(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("readable").path();
        if path.file_name().is_some_and(|n| n == "~wardfs") {
            continue;
        }
        let meta = fs::symlink_metadata(&path).expect("there");
        if meta.is_dir() {
            found.extend(walk(&path));
        }
        found.push((path, meta.ino()));
    }
    found.sort();
    found
}

pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_nanos() as i64
}

impl Stored {
    /// Its stored name.
    pub fn name(&self) -> &[u8] {
        let name = self.path.file_name().expect("it has one");
        name.as_encoded_bytes()
    }

    pub fn seal(&self, no: u64, seq: u64, plain: &[u8], flags: ChunkFlags) -> Vec<u8> {
        let geometry = Geometry::new(12).expect("allowed");
        let mut out = Buffer::empty();
        let seq = WriteSeq(seq);
        seal_run(
            &self.keys,
            geometry,
            ChunkNo(no),
            plain,
            seq,
            flags,
            &mut out,
        );
        out.to_vec()
    }

    pub fn put(&self, no: u64, seq: u64, plain: &[u8], flags: ChunkFlags) {
        self.write_at(chunk_at(no), &self.seal(no, seq, plain, flags));
    }

    pub fn write_at(&self, at: usize, bytes: &[u8]) {
        let file = File::options().write(true).open(&self.path).expect("there");
        file.write_all_at(bytes, at as u64).expect("room");
    }

    /// Makes a sector of chunk `no` what it is not.
    pub fn tear(&self, no: u64) {
        self.write_at(chunk_at(no) + 1024, &[0x55; 512]);
    }

    pub fn set_len(&self, len: usize) {
        let file = File::options().write(true).open(&self.path).expect("there");
        file.set_len(len as u64).expect("room");
    }

    pub fn place(&self) -> Record {
        self.place_at(&self.rel)
    }

    pub fn place_at(&self, path: &[u8]) -> Record {
        Record::Place {
            ino: self.ino,
            durable: true,
            path: path.to_vec(),
        }
    }
}

pub fn chunk_at(no: u64) -> usize {
    HEADER_LEN + no as usize * (C + CHUNK_OVERHEAD)
}

/// A segment of the journal under construction.
pub struct Segment<'l> {
    lab: &'l Lab,
    turn: u64,
    index: u64,
    pub bytes: Vec<u8>,
}

/// A chunk image: number, plaintext, flags.
pub type Image<'a> = (u64, &'a [u8], ChunkFlags);

impl Segment<'_> {
    pub fn group(self, file: &Stored, seq: u64, images: &[Image<'_>], more: Vec<Record>) -> Self {
        let mut records = Vec::new();
        let mut data = Vec::new();
        for (no, plain, flags) in images {
            let sealed = file.seal(*no, seq, plain, *flags);
            records.push(Record::Image {
                chunk: ChunkNo(*no),
                len: sealed.len() as u32,
            });
            data.extend(sealed);
        }
        records.extend(more);
        self.raw(Some(file.id), seq, records, data)
    }

    pub fn dirs(self, seq: u64, records: Vec<Record>) -> Self {
        self.raw(None, seq, records, Vec::new())
    }

    pub fn raw(
        mut self,
        file: Option<FileId>,
        seq: u64,
        records: Vec<Record>,
        data: Vec<u8>,
    ) -> Self {
        let group = Group {
            turn: self.turn,
            index: self.index,
            seq: WriteSeq(seq),
            file,
            records,
            data,
        };
        group.encode(self.lab.keys.journal_mac_key(), &mut self.bytes);
        self.index += 1;
        self
    }

    /// Lets the next group have a number that does not follow.
    pub fn skip_index(mut self) -> Self {
        self.index += 1;
        self
    }

    pub fn write(self) {
        self.lab.write_segment(self.turn, &self.bytes);
    }
}

/// The same group under the key of someone else.
pub fn forged(file: &Stored, seq: u64) -> Vec<u8> {
    let sealed = file.seal(0, seq, b"forged", FINAL);
    let group = Group {
        turn: TURN,
        index: 0,
        seq: WriteSeq(seq),
        file: Some(file.id),
        records: vec![
            file.place(),
            Record::Image {
                chunk: ChunkNo(0),
                len: sealed.len() as u32,
            },
        ],
        data: sealed,
    };
    let mut bytes = Vec::new();
    group.encode(&SecretBytes::take(&mut [9; 32]), &mut bytes);
    bytes
}
