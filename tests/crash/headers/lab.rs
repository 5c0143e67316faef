//! The vault whose header is changed, and the ways of changing it.

use wardfs::crypto::{Epoch, VolumeKey};
use wardfs::format::slot::{Argon2Params, Kdf};
use wardfs::format::volume::VolumeHeader;
use wardfs::keys::header as keyed;
use wardfs::keys::names;
use wardfs::keys::rotation::{self, Hands};
use wardfs::keys::secret::SlotSecret;
use wardfs::keys::slots::{self, Lockout, Opener, Remarks};
use wardfs::store::header;
use wardfs::store::volume::VolumeError;
use wardfs::sys::secret::{SecretBytes, SecretVec};

use super::judge::Run;
use crate::disk::{Image, Plan, SimDisk};
use crate::lab::{Lab, Protection};

pub const CHEAP: Argon2Params = Argon2Params {
    memory_kib: Argon2Params::MIN_MEMORY_KIB,
    time: 1,
    lanes: 1,
};

/// So much data in a slot that a header has more than one page.
const SLOT_DATA: usize = 6000;

/// A vault with three key slots: 0 opens with "test", 1 with "second", 2 with a key file.
pub struct Vault {
    pub lab: Lab,
    pub key: VolumeKey,
    pub base: Image,
    pub header: VolumeHeader,
}

/// One way of changing a header.
pub struct Change {
    pub name: &'static str,
    /// What has to be there already.
    pub before: Make,
    pub make: Make,
    /// Passphrases, and the slots that they open before and after it.
    pub opens: &'static [(&'static str, Option<u32>, Option<u32>)],
    /// The content epochs before and after it.
    pub epochs: [&'static [u8]; 2],
}

type Make = fn(&mut VolumeHeader, &VolumeKey);

pub fn passphrase(text: &str) -> SlotSecret {
    SlotSecret::new(Some(SecretVec::from(text.as_bytes())), None).expect("not empty")
}

fn opener(secret: &SlotSecret, time: u32) -> Opener<'_> {
    Opener {
        secret,
        data: Vec::new(),
        kdf: Kdf::Argon2id(Argon2Params { time, ..CHEAP }),
    }
}

fn add(header: &mut VolumeHeader, key: &VolumeKey, text: &str) {
    let (secret, remarks) = (passphrase(text), Remarks::default());
    slots::add(header, key, opener(&secret, 1), remarks).expect("there is room");
}

fn replace(header: &mut VolumeHeader, key: &VolumeKey, text: &str, time: u32) {
    let secret = passphrase(text);
    slots::replace(header, key, 1, opener(&secret, time)).expect("there is slot 1");
}

fn nothing(_: &mut VolumeHeader, _: &VolumeKey) {}

fn begin(header: &mut VolumeHeader, key: &VolumeKey) {
    rotation::begin(header, key, Hands::Daemon(Some(7))).expect("there are epochs left");
}

fn begin_names(header: &mut VolumeHeader, key: &VolumeKey) {
    names::begin(header, key).expect("authentic");
}

const SAME: &[(&str, Option<u32>, Option<u32>)] = &[
    ("test", Some(0), Some(0)),
    ("second", Some(1), Some(1)),
    ("third", None, None),
];

const CHANGE: Change = Change {
    name: "",
    before: nothing,
    make: nothing,
    opens: SAME,
    epochs: [&[0], &[0]],
};

/// Every way of changing a header under its volume key.
pub const CHANGES: [Change; 14] = [
    Change {
        name: "slot added",
        make: |header, key| add(header, key, "third"),
        opens: &[("test", Some(0), Some(0)), ("third", None, Some(3))],
        ..CHANGE
    },
    Change {
        name: "slot removed",
        make: |header, key| {
            slots::remove(header, key, 1, Lockout::Refuse).expect("there is slot 1");
        },
        opens: &[("test", Some(0), Some(0)), ("second", Some(1), None)],
        ..CHANGE
    },
    Change {
        name: "secret changed",
        make: |header, key| replace(header, key, "third", 1),
        opens: &[
            ("test", Some(0), Some(0)),
            ("second", Some(1), None),
            ("third", None, Some(1)),
        ],
        ..CHANGE
    },
    Change {
        name: "key derivation upgraded",
        make: |header, key| replace(header, key, "second", 2),
        ..CHANGE
    },
    Change {
        name: "slot labelled",
        make: |header, key| {
            let remarks = Remarks {
                label: "desk".into(),
                owner: "A. Keeper".into(),
                expires: Some(7),
            };
            slots::remark(header, key, 1, remarks).expect("there is slot 1");
        },
        ..CHANGE
    },
    Change {
        name: "opening recorded",
        make: |header, key| slots::record_opening(header, key, 1).expect("valid"),
        ..CHANGE
    },
    Change {
        name: "openings acknowledged",
        before: |header, key| slots::record_opening(header, key, 1).expect("valid"),
        make: |header, key| {
            slots::acknowledge(header, key).expect("valid");
        },
        ..CHANGE
    },
    Change {
        name: "rotation begun",
        make: |header, key| {
            rotation::begin(header, key, Hands::Own).expect("there are epochs left");
        },
        epochs: [&[0], &[0, 1]],
        ..CHANGE
    },
    Change {
        name: "rotation begun for a daemon",
        make: begin,
        epochs: [&[0], &[0, 1]],
        ..CHANGE
    },
    Change {
        name: "rotation paused",
        before: begin,
        make: |header, key| {
            rotation::pause(header, key).expect("under way");
        },
        epochs: [&[0, 1], &[0, 1]],
        ..CHANGE
    },
    Change {
        name: "rotation gone on with",
        before: |header, key| {
            begin(header, key);
            rotation::pause(header, key).expect("under way");
        },
        make: begin,
        epochs: [&[0, 1], &[0, 1]],
        ..CHANGE
    },
    Change {
        name: "rotation finished",
        before: begin,
        make: |header, key| {
            assert_eq!(rotation::finish(header, key, Epoch(1)), Ok(1));
        },
        epochs: [&[0, 1], &[1]],
        ..CHANGE
    },
    Change {
        name: "rotation of names begun",
        make: begin_names,
        ..CHANGE
    },
    Change {
        name: "rotation of names finished",
        before: begin_names,
        make: |header, key| names::finish(header, key).expect("authentic"),
        ..CHANGE
    },
];

pub fn change(name: &str) -> &'static Change {
    let mut changes = CHANGES.iter();
    changes.find(|c| c.name == name).expect("there is one")
}

impl Change {
    /// That the headers before and after it are authentic and open with what they should.
    pub fn check(&self, key: &VolumeKey, before: &VolumeHeader, after: &VolumeHeader) {
        for (header, which) in [(before, 0), (after, 1)] {
            let epochs = keyed::epochs(header, key).expect("authentic");
            let epochs: Vec<u8> = epochs.iter().map(|(epoch, _)| epoch.0).collect();
            assert_eq!(epochs, self.epochs[which], "{}", self.name);
            for (text, old, new) in self.opens {
                let opened = keyed::open(header, None, &passphrase(text));
                let wanted = [*old, *new][which];
                assert_eq!(opened.ok().map(|o| o.slot), wanted, "{}: {text}", self.name);
            }
        }
    }
}

impl Vault {
    pub fn new() -> Self {
        let (lab, key) = Lab::made(Protection::Journal);
        let mut header = lab.header().clone();
        add(&mut header, &key, "second");
        let keyfile = SlotSecret::new(None, Some(SecretBytes::zeroed())).expect("a key file");
        let opener = Opener {
            secret: &keyfile,
            data: vec![7; SLOT_DATA],
            kdf: Kdf::HkdfSha256,
        };
        slots::add(&mut header, &key, opener, Remarks::default()).expect("there is room");
        let base = with_header(lab.disk().image(), &header);
        Self {
            lab,
            key,
            base,
            header,
        }
    }

    /// The disk as it is before a change.
    pub fn prepared(&self, change: &Change) -> Image {
        let mut header = self.header.clone();
        (change.before)(&mut header, &self.key);
        with_header(self.base.clone(), &header)
    }

    /// Makes the change on the disk, and answers the header that it made.
    pub fn make(&self, change: &Change, disk: &SimDisk) -> Result<VolumeHeader, VolumeError> {
        let make = |header: &mut VolumeHeader| {
            (change.make)(header, &self.key);
            Ok::<_, VolumeError>(())
        };
        header::update(disk, &self.key, make).map(|(header, ())| header)
    }

    /// One change after the other on a disk that began as `base`.
    pub fn run(&self, changes: &[&Change], base: Image, plan: Option<Plan>) -> Run {
        let disk = SimDisk::from_now(base.clone());
        let found = header::read(&disk).expect("whole").header;
        let names: Vec<&str> = changes.iter().map(|c| c.name).collect();
        let mut run = Run::new(names.join(", "), base, vec![Some(found)]);
        disk.plan(plan);
        for change in changes {
            let begin = disk.log_len();
            let made = self.make(change, &disk).expect("nothing fails");
            run.headers.push(Some(made));
            run.changes.push((begin, disk.log_len()));
        }
        run.log = disk.log();
        run
    }
}

/// The image with this header, durable long ago.
pub fn with_header(image: Image, header: &VolumeHeader) -> Image {
    let disk = SimDisk::from_now(image);
    header::write(&disk, header).expect("nothing fails");
    disk.image()
}
