//! The format, pinned byte for byte: fixed keys and inputs give fixed bytes, which every later version must read.
//!
//! The expected values were computed by a second implementation, written from the format alone on other libraries
//! (OpenSSL through Python's `cryptography`, and Python alone for the printed keys).

use std::sync::Arc;

use data_encoding::HEXLOWER;
use wardfs::crypto::{
    ChunkFlags, ChunkMeta, ChunkNo, DirId, Epoch, FileKeys, NameKeys, VolumeKey, VolumeKeys,
    WriteSeq,
};
use wardfs::format::file::{FileHeader, HEADER_LEN};
use wardfs::format::ids::FileId;
use wardfs::format::ids::VolumeId;
use wardfs::format::journal::{Group, Record};
use wardfs::format::key_record::{KeyRecord, Opening};
use wardfs::format::keyring::{ContentRoot, Keyring};
use wardfs::format::slot::{Argon2Params, Kdf, SlotKind};
use wardfs::format::superblock::Superblock;
use wardfs::format::volume::VolumeHeader;
use wardfs::keys::header::{remac, unlock};
use wardfs::keys::kind::{
    Command, Credential, Kind, Personal, Recovery, Share, Shares, StoredCommand,
};
use wardfs::keys::printed;
use wardfs::keys::secret::{SlotSecret, hash_keyfile};
use wardfs::keys::slot::{SlotError, open_slot};
use wardfs::sys::secret::{SecretBytes, SecretVec};

const DIR: DirId = DirId(ascending(0xb0));
const FILE_ID: [u8; 24] = ascending(0xd0);
const R16: [u8; 16] = ascending(0x70);

const fn ascending<const N: usize>(first: u8) -> [u8; N] {
    let mut bytes = [0; N];
    let mut i = 0;
    while i < N {
        bytes[i] = first + i as u8;
        i += 1;
    }
    bytes
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    HEXLOWER.decode(digits.as_bytes()).expect("hex digits")
}

fn volume_key() -> VolumeKey {
    VolumeKey(SecretBytes::take(&mut ascending(0)))
}

fn volume_keys() -> Arc<VolumeKeys> {
    let root = |epoch, first| ContentRoot {
        epoch: Epoch(epoch),
        created: 0,
        root: SecretBytes::take(&mut ascending(first)),
    };
    let keyring = Keyring {
        current: Epoch(9),
        roots: vec![root(0, 32), root(9, 64)],
        tree: None,
    };
    Arc::new(VolumeKeys::new(&volume_key(), keyring))
}

fn name_keys() -> NameKeys {
    volume_key().name_keys()
}

fn open_golden_file(header: &str) -> FileKeys {
    let bytes: [u8; HEADER_LEN] = hex(header).try_into().expect("64 bytes");
    let header = FileHeader::decode(&bytes).expect("a valid header");
    assert_eq!(header.file_id.0, FILE_ID);
    assert_eq!(header.encode(), bytes);
    volume_keys()
        .open_file(&header)
        .expect("the commitment holds")
}

fn check_chunk(keys: &FileKeys, stored: &str) {
    let plain = b"wardfs golden chunk";
    let meta = ChunkMeta {
        seq: WriteSeq(0x0605_0403_0201),
        epoch: Epoch(9),
        flags: ChunkFlags {
            is_final: true,
            sparse: true,
        },
    };
    let mut sealed = vec![0; plain.len() + 40];
    keys.seal(ChunkNo(7), meta.seq, meta.flags, &R16, plain, &mut sealed);
    assert_eq!(HEXLOWER.encode(&sealed), stored);
    let mut opened = vec![0; plain.len()];
    assert_eq!(keys.open(ChunkNo(7), &sealed, &mut opened), Ok(meta));
    assert_eq!(opened, plain);
}

#[test]
fn a_file_under_xaes_256_gcm() {
    let keys = open_golden_file(
        "7772644601010c00d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7
         85d04b83dcdc875fcb457c3485906279ef5abd4441148c87406deee21fe4e1c2",
    );
    check_chunk(
        &keys,
        "bcd5422c2ff20c85707172737475767778797a7b7c7d7e7f\
         326e8ad5345d1d1c9b40d3c6724c9ce5d7b152e112856cfd734984e7663ae600a0b637",
    );
}

#[test]
fn a_file_under_xchacha20_poly1305() {
    let keys = open_golden_file(
        "7772644601020c00d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7
         415a0d57f814e046d64e6b248db4fdddd5fd1beb8268e03ef280847ccb728e21",
    );
    check_chunk(
        &keys,
        "177c3d76e8e9eb9f707172737475767778797a7b7c7d7e7f\
         3ed932425373f30e3b546c162a145cff67df7691b683b20295667725f2fc93af643cc6",
    );
}

#[test]
fn a_short_name() {
    let keys = name_keys();
    let sealed = keys.seal(&DIR, b"image-0001.dcm");
    assert_eq!(sealed.entry, b"lVgOF38vpp-pIf0kE1m4FVLIOo1ZNERha4JHas9MZjg");
    assert_eq!(sealed.sidecar, None);
    assert_eq!(
        keys.open(&DIR, &sealed.entry),
        Ok(b"image-0001.dcm".to_vec())
    );
}

#[test]
fn a_long_name() {
    let keys = name_keys();
    let sealed = keys.seal(&DIR, &[b'n'; 161]);
    assert_eq!(
        sealed.entry,
        b"~Ls-Ha1U7kzPEE8M9TawVw5GXb96qnPJ2hC-JYrJk2mNI"
    );
    let sidecar = sealed.sidecar.expect("it is long");
    assert_eq!(
        sidecar,
        hex(
            "0219875a39fc717ff5a3e75101b7bf696982d2eab71323ee15d068ad929267ec
             85a2400359554ff830ae0a3eed40b4d62c049b7620fc7bfc1dd11e9ab1d9855d
             23f7b8419ad210a1179cfe1c55d0b87dbbb26b2cdce224ddf0c6d5cbdb1a9d31
             4249ad388e8bea927b1cca56c0fd00556ed6fe2f39aa5e7f3d94becb4d669a0a
             70c0c11dcc229c723e5b93b540afa40c0d3a7a60a651930fec40697c89e61e45
             929f2b707978b3528c15bda1f26fbce1a1b2e38a59fab8ca2d49f6564b81b340"
        )
    );
    assert_eq!(
        keys.open_long(&DIR, &sealed.entry, &sidecar),
        Ok(vec![b'n'; 161])
    );
}

#[test]
fn a_directory_id() {
    let keys = name_keys();
    assert_eq!(
        keys.dir_record(&DIR)[..],
        hex("b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc88e9032c82908ef54107597da5a5fa5")
    );
    assert_eq!(
        keys.dir_link_name(&DIR),
        "~id.sLGys7S1tre4ubq7vL2-v8iOkDLIKQjvVBB1l9paX6U"
    );
}

#[test]
fn a_link_target() {
    let stored = b"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXoDUqeTuskWTT7lb4fEGW-iADiW-ql23sl2HZ";
    assert_eq!(name_keys().open_target(stored), Ok(b"../series/1".to_vec()));
}

#[test]
fn an_extended_attribute() {
    let keys = name_keys();
    let name = keys.xattr_name(&FILE_ID, b"user.comment");
    assert_eq!(name, "user.wardfs.BZmAWJlE_RdcZizQivwE6D0q4IvotYND");
    let stored = hex("404142434445464748494a4b4c4d4e4f5051525354555657
         5ba928b90e3a6caa2d0818ac5877b0d1ee754c1a52bbad6248f164173dea5dbc");
    assert_eq!(
        keys.open_xattr(&FILE_ID, &name, &stored),
        Ok((b"user.comment".to_vec(), b"ok".to_vec()))
    );
}

#[test]
fn a_superblock() {
    let block = Superblock {
        generation: 5,
        clean: true,
        seq_high_water: WriteSeq(0x0100_0000),
        opened_at: 1_700_000_000_000_000_000,
        retired_turn: 0,
        retired_seq: WriteSeq(0),
        windows: vec![(-1, 2), (3, 4)],
    };
    let bytes = block.encode(volume_keys().journal_mac_key());
    let mut expected = hex(
        "7772645375706572 0100 01 00 02000000 0500000000000000 0000000100000000
         00002a36fe9c9717 ffffffffffffffff 0200000000000000 0300000000000000 0400000000000000",
    );
    expected.resize(4064, 0);
    expected.extend(hex(
        "d876346f0e4551985e6aa4254d38c6907a56b804695713d3f14d0b21de2bdc14",
    ));
    assert_eq!(bytes[..], expected);
}

#[test]
fn a_superblock_of_a_volume_with_a_journal() {
    let block = Superblock {
        generation: 5,
        clean: false,
        seq_high_water: WriteSeq(0x0100_0000),
        opened_at: 1_700_000_000_000_000_000,
        retired_turn: 7,
        retired_seq: WriteSeq(0x1234),
        windows: vec![(-1, 2)],
    };
    let bytes = block.encode(volume_keys().journal_mac_key());
    let mut expected = hex(
        "7772645375706572 0200 00 00 01000000 0500000000000000 0000000100000000
         00002a36fe9c9717 0700000000000000 3412000000000000 ffffffffffffffff 0200000000000000",
    );
    expected.resize(4064, 0);
    expected.extend(hex(
        "03f492211641f93b2720b2b1689b156f439b501336fefa498733af3ee21d2136",
    ));
    assert_eq!(bytes[..], expected);
}

#[test]
fn a_group_of_the_journal() {
    let group = Group {
        turn: 7,
        index: 2,
        seq: WriteSeq(0x0102),
        file: Some(FileId(FILE_ID)),
        records: vec![
            Record::Place {
                ino: 11,
                durable: true,
                path: b"a/b".to_vec(),
            },
            Record::Image {
                chunk: ChunkNo(3),
                len: 4,
            },
            Record::Size { size: 5 },
            Record::Extends { stable: 6 },
            Record::Punch {
                first: ChunkNo(1),
                end: ChunkNo(2),
            },
            Record::Gone,
            Record::Cover {
                ino: 12,
                path: Vec::new(),
            },
            Record::Moved {
                from: b"a".to_vec(),
                to: b"c".to_vec(),
            },
        ],
        data: hex("deadbeef"),
    };
    let mut bytes = Vec::new();
    group.encode(volume_keys().journal_mac_key(), &mut bytes);
    let mut expected = hex(
        "77726447726f7570 0700000000000000 0200000000000000 0201000000000000
         5a000000 04000000 5aa39c7c 00000000",
    );
    expected.extend(FILE_ID);
    expected.extend([0; 8]);
    expected.extend(hex("
         01 0b00000000000000 01 03000000 612f62
         02 0300000000000000 04000000
         03 0500000000000000
         04 0600000000000000
         05 0100000000000000 0200000000000000
         06
         07 0c00000000000000 00000000
         08 01000000 61 01000000 63"));
    expected.extend(hex(
        "7380e2c88e5b785d26003acd378fb4d85bc5cf71793eab2129dcbc6ecf5a84e0",
    ));
    expected.extend(hex("deadbeef"));
    expected.resize(512, 0);
    assert_eq!(bytes, expected);
}

const HEADER: &str = "
    5741524446535648 0100 0100 d6010000
    0000000000000000 0100000000000000
    a0a1a2a3a4a5a6a7a8a9aaabacadaeaf
    0600000000000000 776172642033
    00f1536500000000 01 0c
    0100000000000000
        04000000 0300
        0400000000000000 6465736b
        0900000000000000 412e204b6565706572
        00f1536500000000 02f1536500000000 01 00d2496b00000000
        00000000 00200000 01000000 02000000
        5151515151515151515151515151515151515151515151515151515151515151
        73a915827cfdb0883e974541bc8aad76958daa3487200f53ded1e03d62ceb247
        525252525252525252525252525252525252525252525252
        a1f3132040d194f0ed940ea3c95281c7193d5ba4f18542697a4f1bf2336d7e93
        8b207d924792c3bf3a83918363b88fd8
        0000000000000000
    535353535353535353535353535353535353535353535353
    6500000000000000
        fbe7708404adff820172ef484ee4cf00af9b773fe6b32438e77d00365f1577ef
        4b34573993ed2043a90980e9cb70b0ac9413ad7868044ae577a4a99b4c60b62a
        c9238df4a41606424d0b603bdd264cb32a187c643d5f1192f6ebc2b411b9708d
        b96dc07888
    0100000000000000 0201 0300000000000000 657874
    a5398b4f506040b93c10c7388f5dfa2b1a5bfa0d672755c856cec2f52b0269af
    f1653b58b126150df67615d015d4357aa89a5f9323323e67e1f87b4e7609fdd7";

#[test]
fn a_volume_header() {
    let bytes = hex(HEADER);
    let header = VolumeHeader::decode(&bytes).expect("valid");
    assert_eq!(
        header.uuid.to_string(),
        "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf"
    );
    assert_eq!(header.label, "ward 3");
    let slot = &header.slots[0];
    assert_eq!((slot.id, slot.kind), (4, SlotKind::PassphraseAndKeyfile));
    assert_eq!((&slot.label[..], &slot.owner[..]), ("desk", "A. Keeper"));
    assert_eq!(slot.expires, Some(1_800_000_000));
    let cost = Argon2Params {
        memory_kib: 8192,
        time: 1,
        lanes: 2,
    };
    assert_eq!(slot.kdf, Kdf::Argon2id(cost));
    assert_eq!(
        (header.extensions[0].tag, &header.extensions[0].data[..]),
        (258, &b"ext"[..])
    );
    assert_eq!(header.encode(), bytes);
}

#[test]
fn a_volume_header_unlocks() {
    let mut header = VolumeHeader::decode(&hex(HEADER)).expect("valid");
    let passphrase = SecretVec::from(&b"correct horse"[..]);
    let keyfile = SecretBytes::take(&mut [0x77; 32]);
    let secret = SlotSecret::new(Some(passphrase), Some(keyfile)).expect("a secret");
    let (key, keys) = unlock(&header, &secret).expect("the right secret");
    assert!(key.0.ct_eq(&ascending(0)));
    assert_eq!(keys.current_epoch(), Epoch(9));
    let mac = header.mac;
    remac(&mut header, &key);
    assert_eq!(header.mac, mac);
}

const RECOVERY_KEY: &str =
    "810MJ-4GT44-8N34Z-EJ29E-995MW-RKAEM-9X85Y-2MJKA-AHANY-CNTRV-B5D5M-PQ2X0-BSFGA";
/// Numbers 1, 2 and 5 of a set of which three open.
const SHARES: [&str; 3] = [
    "NAXW3-SQ83W-05A0D-7WN1W-E0ZQ8-XFEC1-7DN5V-K26Q4-TTAM2-8WS2P-T6G6S-YBKDY-QKNH4-MJDRZ-GZ301-A0004",
    "NAXW3-SQ83W-0BBA9-8PJRV-38TG5-2YD9P-R62Q8-MP0A6-74DMQ-3BQAX-J9N2Q-45G90-CDRR3-ZVCFJ-80A05-R0005",
    "NAXW3-SQ83W-0PKMT-TJXRX-2KTJ1-SEQ4F-KFQPP-Z7QWN-9QQ8G-4HHJR-17BRY-TN3SJ-AQHE8-8JGV4-AZ9HQ-G000N",
];

/// Whether `kind` gives the secret that the slot of this commitment was made for. There is nothing in the slot, so that a
/// right secret finds it tampered with.
fn is_committed_to(kind: &dyn Kind, data: &[u8], commitment: &str) -> bool {
    let mut slot = VolumeHeader::decode(&hex(HEADER)).expect("valid").slots[0].clone();
    slot.kind = kind.kind();
    slot.kdf = Kdf::HkdfSha256;
    slot.salt = ascending(0x90);
    slot.commitment = hex(commitment).try_into().expect("32 bytes");
    slot.data = data.to_vec();
    let secret = kind.open(data).expect("it has one");
    let opened = open_slot(&slot, &VolumeId(ascending(0xa0)), &secret);
    assert!(matches!(
        opened,
        Err(SlotError::Tampered | SlotError::WrongSecret)
    ));
    matches!(opened, Err(SlotError::Tampered))
}

#[test]
fn a_recovery_key_and_shares_of_the_same_bytes() {
    let key: [u8; 32] = ascending(0x40);
    assert_eq!(printed::encode(&key).as_bytes(), RECOVERY_KEY.as_bytes());
    let recovery = Recovery::typed(RECOVERY_KEY.as_bytes()).expect("no typo");
    assert!(is_committed_to(
        &recovery,
        &[],
        "de5be297118b9616e11ac7c07c5b6d4bb2f0c672730240f361a70a5b40188688"
    ));
    let typed = |text: &&str| Share::typed(text.as_bytes()).expect("no typo");
    let shares = Shares {
        new: None,
        given: SHARES.iter().map(typed).collect(),
    };
    assert!(is_committed_to(
        &shares,
        &[0xaa, 0xbb, 0xcc, 0xdd, 3, 5],
        "1ccef3ff903662568119d8e956b036386c3b35e78c9841ee03d98c846e84b6d5"
    ));
}

#[test]
fn several_keyfiles() {
    let hashes = ["third", "first", "second"];
    let hashes = hashes.map(|text| hash_keyfile(&mut text.as_bytes()).expect("bytes"));
    let keyfiles = Personal::new(None, hashes.into()).expect("different ones");
    assert!(is_committed_to(
        &keyfiles,
        &[],
        "06ad50a2860fa64c7ac861fea57785410de658949223a383b03c8a817a828597"
    ));
}

#[test]
fn the_output_of_a_command() {
    let data = b"\x3c\x00\x02\x09\x00/bin/echo\x09\x00two words";
    let stored = StoredCommand::decode(data).expect("valid");
    assert_eq!(stored.argv, ["/bin/echo", "two words"]);
    assert_eq!(stored.encode(), data);
    let command = Command {
        new: None,
        permitted: vec![stored.argv],
    };
    assert!(is_committed_to(
        &command,
        data,
        "8c533127aacbb36e564afa96703eb1cbfe7796422e568c446ee50e5b8638bd6b"
    ));
}

#[test]
fn a_credential() {
    let directory = std::env::temp_dir().join(format!("wardfs-golden-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("the name is free");
    std::fs::write(directory.join("scans.key"), "a credential\n").expect("written");
    let credential = Credential {
        directory: directory.clone(),
        name: String::new(),
    };
    let committed = is_committed_to(
        &credential,
        b"scans.key",
        "f16c18a5281a560b4bfbf7a4b0e40bdaec907317a03840a72b6ec5765eb18c25",
    );
    std::fs::remove_dir_all(directory).expect("ours");
    assert!(committed);
}

#[test]
fn a_key_record() {
    let bytes =
        hex("07000000 0500000000000000 02 03000000 0900000000000000 03000000 f6ffffffffffffff");
    let record = KeyRecord::decode(&bytes).expect("valid");
    assert_eq!((record.next_slot, record.newest_epoch), (7, Some(5)));
    let openings = [Opening { slot: 3, at: 9 }, Opening { slot: 3, at: -10 }];
    assert_eq!(record.openings, openings);
    assert_eq!(record.encode(), bytes);
}
