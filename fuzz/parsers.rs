//! One function for each parser of stored bytes. Each takes any bytes and panics if the parser does, or if it accepts
//! what its encoder does not write.
//!
//! Shared by the fuzz targets and by `tests/fuzz_seeded.rs`, which also begins at [`seeds`].
#![allow(dead_code, reason = "each fuzz target uses one of them")]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};
use wardfs::content::Geometry;
use wardfs::crypto::{
    ChunkFlags, ChunkNo, Cipher, DirId, Epoch, FileKeys, VolumeKey, VolumeKeys, WriteSeq,
};
use wardfs::format::file::{CHUNK_OVERHEAD, FileHeader, HEADER_LEN};
use wardfs::format::journal::{GROUP_HEADER_LEN, Group, GroupHeader, Record};
use wardfs::format::key_record::{KeyRecord, Opening};
use wardfs::format::keyring::{ContentRoot, Keyring};
use wardfs::format::mac;
use wardfs::format::slot::Argon2Params;
use wardfs::format::superblock::Superblock;
use wardfs::format::volume::VolumeHeader;
use wardfs::keys::header::{NewVolume, create};
use wardfs::keys::kind::{
    Credential, DEFAULT_TIMEOUT, Kind, Share, ShareSet, Shares, StoredCommand,
};
use wardfs::keys::printed;
use wardfs::keys::secret::SlotSecret;
use wardfs::names::{NameKeys, classify, target_plain_len};
use wardfs::store::last_used::LastUsed;
use wardfs::store::lock::Holder;
use wardfs::sys::secret::{SecretBytes, SecretVec};

type Parser = (&'static str, fn(&[u8]));

pub const ALL: [Parser; 18] = [
    ("volume_header", volume_header),
    ("keyring", keyring),
    ("superblock", superblock),
    ("journal_group", journal_group),
    ("file_header", file_header),
    ("chunk", chunk),
    ("geometry", geometry),
    ("short_name", short_name),
    ("long_name", long_name),
    ("sidecar", sidecar),
    ("directory_id", directory_id),
    ("link_target", link_target),
    ("xattr", xattr),
    ("lock_note", lock_note),
    ("slot_data", slot_data),
    ("key_record", key_record),
    ("last_used", last_used),
    ("printed_key", printed_key),
];

const DIR: DirId = DirId([6; 16]);
const OWNER: [u8; 24] = [8; 24];
const CHECKSUM: usize = 32;
const SUPERBLOCK_MAC_AT: usize = 4064;

static KEYS: LazyLock<Arc<VolumeKeys>> = LazyLock::new(|| {
    let root = ContentRoot {
        epoch: Epoch(0),
        created: 0,
        root: SecretBytes::take(&mut [2; 32]),
    };
    let keyring = Keyring {
        current: Epoch(0),
        roots: vec![root],
        tree: None,
    };
    let key = VolumeKey(SecretBytes::take(&mut [1; 32]));
    Arc::new(VolumeKeys::new(&key, keyring))
});

/// A file of each cipher.
static FILES: LazyLock<Vec<(FileHeader, FileKeys)>> =
    LazyLock::new(|| Cipher::ALL.map(|cipher| KEYS.new_file(cipher, 12)).into());

fn names() -> &'static NameKeys {
    KEYS.names()
}

/// As it is, and with the length and checksum that let it through to the payload.
pub fn volume_header(data: &[u8]) {
    let check = |bytes: &[u8]| {
        if let Ok(header) = VolumeHeader::decode(bytes) {
            assert_eq!(header.encode(), bytes);
        }
    };
    check(data);
    let mut repaired = data.to_vec();
    repaired.truncate(data.len().saturating_sub(CHECKSUM));
    if let Some(length) = repaired.len().checked_sub(16) {
        repaired[12..16].copy_from_slice(&(length as u32).to_le_bytes());
    }
    let checksum = digest(&SHA256, &repaired);
    repaired.extend(checksum.as_ref());
    check(&repaired);
}

pub fn keyring(data: &[u8]) {
    if let Ok(keyring) = Keyring::decode(data) {
        assert_eq!(keyring.encode().as_bytes(), data);
    }
}

/// As it is, and with a right checksum and MAC.
pub fn journal_group(data: &[u8]) {
    let key = KEYS.journal_mac_key();
    let _ = Group::decode(data, key);
    let Ok(header) = GroupHeader::decode(data) else {
        return;
    };
    if data.len() != header.group_len() {
        return;
    }
    let half = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().expect("4 bytes"));
    let (table, images) = (half(32) as usize, half(36) as usize);
    let mut repaired = data.to_vec();
    let mac_at = GROUP_HEADER_LEN + table;
    let checksum = crc32fast::hash(&data[mac_at + 32..][..images]);
    repaired[40..44].copy_from_slice(&checksum.to_le_bytes());
    let tag = mac::tag(key, &[&repaired[..mac_at]]);
    repaired[mac_at..mac_at + 32].copy_from_slice(&tag);
    if let Ok(group) = Group::decode(&repaired, key) {
        let mut encoded = Vec::new();
        group.encode(key, &mut encoded);
        assert_eq!(encoded, repaired);
    }
}

/// As it is, and with a right MAC.
pub fn superblock(data: &[u8]) {
    let key = KEYS.journal_mac_key();
    let _ = Superblock::decode(data, key);
    let mut repaired = data.to_vec();
    if let Some(tag) = repaired
        .get(..SUPERBLOCK_MAC_AT)
        .map(|signed| mac::tag(key, &[signed]))
    {
        repaired.truncate(SUPERBLOCK_MAC_AT);
        repaired.extend(tag);
    }
    if let Ok(block) = Superblock::decode(&repaired, key) {
        assert_eq!(block.encode(key)[..], repaired);
    }
}

pub fn file_header(data: &[u8]) {
    let Some(bytes) = data.first_chunk::<HEADER_LEN>() else {
        return;
    };
    if let Ok(header) = FileHeader::decode(bytes) {
        assert_eq!(&header.encode(), bytes);
        let _ = KEYS.open_file(&header);
    }
}

pub fn chunk(data: &[u8]) {
    for (_, keys) in FILES.iter() {
        let mut out = vec![1; data.len().saturating_sub(CHUNK_OVERHEAD)];
        match keys.open(ChunkNo(3), data, &mut out) {
            Ok(meta) => {
                assert!(keys.peek_meta(data.first_chunk().expect("it has a nonce")) == Some(meta))
            }
            Err(_) => assert!(out.iter().all(|b| *b == 0)),
        }
    }
}

/// The only thing of a file's length that is parsed.
pub fn geometry(data: &[u8]) {
    let Some(stored) = data.first_chunk().copied().map(u64::from_le_bytes) else {
        return;
    };
    for geometry in (0..=u8::MAX).filter_map(Geometry::new) {
        let lossy = geometry.plain_size_lossy(stored);
        if let Ok(plain) = geometry.plain_size(stored) {
            assert_eq!(plain, lossy);
            assert_eq!(geometry.stored_size(plain), stored);
        }
    }
}

pub fn short_name(data: &[u8]) {
    let _ = classify(data);
    if let Ok(plain) = names().open(&DIR, data) {
        assert_eq!(names().seal(&DIR, &plain).entry, data);
    }
}

pub fn long_name(data: &[u8]) {
    let sealed = names().seal(&DIR, &[b'l'; 200]);
    let sidecar = sealed.sidecar.expect("it is long");
    let opened = names().open_long(&DIR, data, &sidecar);
    assert_eq!(opened.is_ok(), data == sealed.entry);
}

pub fn sidecar(data: &[u8]) {
    let sealed = names().seal(&DIR, &[b'l'; 200]);
    let opened = names().open_long(&DIR, &sealed.entry, data);
    assert_eq!(opened.is_ok(), Some(data) == sealed.sidecar.as_deref());
}

pub fn directory_id(data: &[u8]) {
    if let Ok(id) = names().parse_dir_record(data) {
        assert_eq!(names().dir_record(&id), data);
    }
    if let Ok(id) = names().parse_dir_link_name(data) {
        assert_eq!(names().dir_link_name(&id).as_bytes(), data);
    }
}

pub fn link_target(data: &[u8]) {
    if let Ok(target) = names().open_target(data) {
        assert_eq!(target_plain_len(data.len()), Some(target.len()));
    }
}

/// A stored name in the first 44 bytes, a stored value in the others.
pub fn xattr(data: &[u8]) {
    let (name, value) = data.split_at(data.len().min(44));
    let Ok(name) = std::str::from_utf8(name) else {
        return;
    };
    if let Ok((plain, _)) = names().open_xattr(&OWNER, name, value) {
        assert_eq!(names().xattr_name(&OWNER, &plain), name);
    }
}

pub fn lock_note(data: &[u8]) {
    let _ = serde_json::from_slice::<Holder>(data);
}

/// Of every kind that keeps some. Nothing is run or opened.
pub fn slot_data(data: &[u8]) {
    if let Ok(command) = StoredCommand::decode(data) {
        assert_eq!(command.encode(), data);
        let _ = command.shown();
    }
    if let Ok(set) = ShareSet::decode(data) {
        assert_eq!(set.encode(), data);
    }
    if let Ok(path) = Credential::path(Path::new("/d"), data) {
        assert_eq!(path.parent(), Some(Path::new("/d")));
    }
    let _ = Shares::default().open(data);
}

pub fn key_record(data: &[u8]) {
    if let Ok(record) = KeyRecord::decode(data) {
        assert_eq!(record.encode(), data);
    }
}

pub fn last_used(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(used) = LastUsed::parse(text)
    {
        assert_eq!(used.text(), text);
    }
}

/// What people type: many texts are one key.
pub fn printed_key(data: &[u8]) {
    for len in [32, 38] {
        if let Ok(key) = printed::decode(data, len) {
            let again = printed::decode(printed::encode(key.as_bytes()).as_bytes(), len);
            assert_eq!(again.expect("our own").as_bytes(), key.as_bytes());
        }
    }
    if let Ok(share) = Share::typed(data) {
        let given = vec![share];
        let _ = Shares { new: None, given }.open(&[0, 0, 0, 0, 2, 3]);
    }
}

/// Valid input of the parser called `name`.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    match name {
        "volume_header" => {
            let new = NewVolume {
                incompatible: 0,
                cipher: Cipher::Xaes256Gcm,
                log2_chunk: 12,
                label: "label".into(),
                kdf: Argon2Params {
                    memory_kib: 8192,
                    time: 1,
                    lanes: 1,
                },
            };
            let secret = SlotSecret::new(Some(SecretVec::from(&b"p"[..])), None);
            let (header, _) = create(&new, &secret.expect("a secret")).expect("can be made");
            vec![header.encode()]
        }
        "keyring" => {
            let root = |epoch| ContentRoot {
                epoch: Epoch(epoch),
                created: 7,
                root: SecretBytes::take(&mut [epoch; 32]),
            };
            let keyring = Keyring {
                current: Epoch(1),
                roots: vec![root(0), root(1)],
                tree: None,
            };
            vec![keyring.encode().as_bytes().to_vec()]
        }
        "superblock" => [0, 9]
            .map(|windows| Superblock {
                windows: vec![(1, 2); windows],
                ..Superblock::default()
            })
            .map(|block| block.encode(KEYS.journal_mac_key()).to_vec())
            .into(),
        "journal_group" => {
            let records = vec![
                Record::Place {
                    ino: 7,
                    durable: true,
                    path: b"a/b".to_vec(),
                },
                Record::Image {
                    chunk: ChunkNo(1),
                    len: 50,
                },
                Record::Size { size: 9 },
            ];
            let group = Group {
                turn: 3,
                index: 0,
                seq: WriteSeq(5),
                file: Some(FILES[0].0.file_id),
                records,
                data: vec![6; 50],
            };
            let mut bytes = Vec::new();
            group.encode(KEYS.journal_mac_key(), &mut bytes);
            vec![bytes]
        }
        "file_header" => FILES.iter().map(|(h, _)| h.encode().to_vec()).collect(),
        "chunk" => {
            let seal = |(_, keys): &(FileHeader, FileKeys)| {
                let mut stored = vec![0; 100 + CHUNK_OVERHEAD];
                let (no, seq, flags) = (ChunkNo(3), WriteSeq(1), ChunkFlags::default());
                keys.seal(no, seq, flags, &[4; 16], &[5; 100], &mut stored);
                stored
            };
            FILES.iter().map(seal).collect()
        }
        "geometry" => [0, 63, 64, 104, 4200, 4241, u64::MAX]
            .map(|len| len.to_le_bytes().to_vec())
            .into(),
        "short_name" => [&b"a"[..], &[b'b'; 160]]
            .map(|plain| names().seal(&DIR, plain).entry)
            .into(),
        "long_name" => vec![names().seal(&DIR, &[b'l'; 200]).entry],
        "sidecar" => vec![
            names()
                .seal(&DIR, &[b'l'; 200])
                .sidecar
                .expect("it is long"),
        ],
        "directory_id" => {
            let link = names().dir_link_name(&DIR).into_bytes();
            vec![names().dir_record(&DIR).to_vec(), link]
        }
        "link_target" => [&b"../a"[..], &[b'/'; 4095]]
            .map(|target| names().seal_target(target))
            .into(),
        "xattr" => {
            let name = names().xattr_name(&OWNER, b"user.a");
            assert_eq!(name.len(), 44);
            let value = names().seal_xattr(&OWNER, b"user.a", b"value");
            vec![[name.into_bytes(), value].concat()]
        }
        "lock_note" => vec![br#"{"pid":1,"host":"h","mountpoint":"/m","since":2}"#.to_vec()],
        "slot_data" => {
            let command = StoredCommand {
                argv: vec!["/bin/echo".into(), "a b".into()],
                timeout: DEFAULT_TIMEOUT,
            };
            let set = ShareSet {
                set: [1, 2, 3, 4],
                need: 3,
                all: 5,
            };
            vec![command.encode(), set.encode(), b"scans.key".to_vec()]
        }
        "key_record" => {
            let opening = Opening { slot: 3, at: 9 };
            let record = KeyRecord {
                next_slot: 4,
                newest_epoch: Some(5),
                openings: vec![opening; 2],
            };
            vec![record.encode(), KeyRecord::default().encode()]
        }
        "last_used" => vec![b"0 5\n7 -1\n".to_vec()],
        "printed_key" => [32, 38]
            .map(|len| printed::encode(&vec![0xa5; len]).as_bytes().to_vec())
            .into(),
        _ => unreachable!("{name} is in the list"),
    }
}
