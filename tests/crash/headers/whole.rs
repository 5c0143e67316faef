//! Changes that the rest of the volume hangs on: another volume key, and content keys that are added and wiped. After
//! each power cut the volume is opened with the header that is found, and all of it is read.

use std::sync::Arc;
use std::time::Instant;

use wardfs::crypto::{Epoch, VolumeKey, VolumeKeys};
use wardfs::format::volume::VolumeHeader;
use wardfs::keys::header as keyed;
use wardfs::keys::rekey::{Kept, replace_key};
use wardfs::keys::rotation::{self, Hands};
use wardfs::keys::slots::Lockout;
use wardfs::store::header;
use wardfs::store::rekey::{Installed, install};
use wardfs::store::volume::VolumeError;

use super::judge::{Judge, Outcome, Run, whole_in};
use super::lab::{Vault, passphrase};
use super::{assert_sound, killed_at};
use crate::disk::{Fault, Plan, SimDisk};
use crate::lab::rotate;
use crate::observe::{Observed, observe};
use crate::runner::Effort;
use crate::verdict::Verdict;

const EFFORT: Effort = Effort {
    states: 16,
    again: 1,
    states_again: 4,
    depth: 2,
    sequel: 0,
    seed: 1,
    checked: 0,
};

/// Numbers of the write sequence are reserved in such steps.
const RESERVE: u64 = 1 << 24;

fn keys_of(header: &VolumeHeader, keys: &[&VolumeKey]) -> Result<Arc<VolumeKeys>, String> {
    let is_own = |key: &&&VolumeKey| header.mac_matches(&key.header_mac_key());
    let key = keys.iter().find(is_own).ok_or("nobody's header")?;
    let state = rotation::state(header, *key).map_err(|e| e.to_string())?;
    Ok(Arc::new(VolumeKeys::new(key, state.keyring)))
}

/// What the volume holds all the time.
struct Expected {
    seen: Observed,
    /// The next number of its write sequence, where nothing is written.
    seq: Option<u64>,
}

impl Expected {
    fn of(vault: &Vault) -> Self {
        let disk = SimDisk::from_now(vault.base.clone());
        let keys = keys_of(&vault.header, &[&vault.key]).expect("authentic");
        let fs = vault.lab.open_under(&disk, &keys, &vault.header);
        let fs = fs.expect("whole");
        let seen = observe(&fs, &[]);
        assert!(seen.files.len() >= 2 && seen.unreadable.is_empty());
        let seq = Some(fs.volume().next_seq().expect("open for writing").0);
        Self { seen, seq }
    }
}

/// Judges a run by opening the whole volume.
fn examine(vault: &Vault, keys: &[&VolumeKey], expected: &Expected, run: &Run) -> Outcome {
    let open = |disk: &SimDisk, found: &VolumeHeader| -> Result<(), String> {
        let fs = vault.lab.open_under(disk, &keys_of(found, keys)?, found)?;
        let seen = observe(&fs, &[]);
        let same = seen.files == expected.seen.files
            && seen.slots.keys().eq(expected.seen.slots.keys())
            && seen.unreadable.is_empty();
        if !same {
            return Err(format!("other content: {:?}", seen.unreadable));
        }
        let Some(first) = expected.seq else {
            return Ok(());
        };
        let seq = fs.volume().next_seq().map_err(|e| e.to_string())?.0;
        match seq.checked_sub(first) {
            Some(ahead) if ahead % RESERVE == 0 => Ok(()),
            _ => Err(format!(
                "the write sequence goes on at {seq} and not at {first}"
            )),
        }
    };
    let judge = Judge {
        open: &open,
        effort: EFFORT,
    };
    judge.examine(run)
}

/// Puts another volume key into the place of `found`, which keeps slot 0 alone.
fn rekey(disk: &SimDisk, found: &VolumeHeader, key: &VolumeKey) -> (VolumeHeader, VolumeKey) {
    let (secret, keys) = (
        passphrase("test"),
        keys_of(found, &[key]).expect("authentic"),
    );
    let kept = Kept {
        slot: 0,
        secret: &secret,
    };
    let new = replace_key(found, key, &[kept], Lockout::Refuse).expect("made");
    let installed = install(disk, found, (key, &keys), &new).expect("nothing fails");
    assert_eq!(installed, Installed::Done);
    (new.header, new.key)
}

#[test]
fn another_volume_key_is_there_as_a_whole_or_not_at_all() {
    let vault = Vault::new();
    let expected = Expected::of(&vault);
    let begun = Instant::now();
    let disk = SimDisk::from_now(vault.base.clone());
    let (header, key) = rekey(&disk, &vault.header, &vault.key);
    for (text, old, new) in [("test", Some(0), Some(0)), ("second", Some(1), None)] {
        let opens = |header| keyed::open(header, None, &passphrase(text)).ok();
        assert_eq!(opens(&vault.header).map(|o| o.slot), old);
        assert_eq!(opens(&header).map(|o| o.slot), new);
    }
    let headers = vec![Some(vault.header.clone()), Some(header)];
    let run = Run {
        log: disk.log(),
        changes: vec![(0, disk.log_len())],
        ..Run::new("volume key replaced", vault.base.clone(), headers)
    };
    let out = examine(&vault, &[&vault.key, &key], &expected, &run);
    let mut total = out.verdict;
    // Once more after it was interrupted, as the command does it: the volume is put in order first.
    for left in out.left {
        let disk = SimDisk::from_now(left.image.clone());
        let keys = keys_of(&left.header, &[&vault.key, &key]).expect("authentic");
        let fs = vault.lab.open_under(&disk, &keys, &left.header);
        fs.and_then(|fs| fs.close().map_err(|e| e.to_string()))
            .expect("nothing fails");
        let begin = disk.log_len();
        let is_old = left.header.mac_matches(&vault.key.header_mac_key());
        let current = if is_old { &vault.key } else { &key };
        let (again, newest) = rekey(&disk, &left.header, current);
        let run = Run {
            log: disk.log(),
            changes: vec![(begin, disk.log_len())],
            stale: whole_in(&left.image),
            ..Run::new(
                format!("volume key replaced again on {}", left.profile),
                left.image,
                vec![Some(left.header), Some(again)],
            )
        };
        total.add(examine(&vault, &[&vault.key, &key, &newest], &expected, &run).verdict);
    }
    assert_sound("another volume key", &total, begun, 30_000);
}

/// A rotation from its first call to its last, by one process or under a mount.
struct Rotation {
    /// At which call the one who begins it under a mount is killed; else who begins it goes on with it himself.
    killed_at: Option<usize>,
    lacks: Lacks,
}

/// What of the protection is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lacks {
    Nothing,
    /// The daemon takes the header for durable; nothing is judged but what it does then.
    Settling,
    /// Nothing is synced while chunks are sealed anew.
    Syncs,
}

impl Rotation {
    /// `None` if it was killed before it had begun.
    fn run(&self, vault: &Vault) -> Option<Run> {
        let disk = SimDisk::from_now(vault.base.clone());
        // The volume is put in order with the keys as they are, and then follows.
        let keys = keys_of(&vault.header, &[&vault.key]).expect("authentic");
        let fs = vault.lab.open_under(&disk, &keys, &vault.header);
        let fs = fs.expect("whole");
        disk.plan(self.killed_at.map(killed_at));
        let first = disk.log_len();
        let hands = match self.killed_at {
            Some(_) => Hands::Daemon(None),
            None => Hands::Own,
        };
        let begun = header::update(&disk, &vault.key, |header| {
            rotation::begin(header, &vault.key, hands).map_err(|_| VolumeError::NotAVault)
        });
        assert_eq!(begun.is_err(), !disk.struck().is_empty());
        disk.plan(None);
        let found = header::read(&disk).expect("whole").header;
        let state = rotation::state(&found, &vault.key).expect("authentic");
        if !state.is_under_way() {
            return None;
        }
        if self.killed_at.is_some() && self.lacks != Lacks::Settling {
            header::settle(&disk, &found).expect("nothing fails");
        }
        assert_eq!(keys.follow(state.keyring), Ok(Some(Epoch(1))));
        let begun = (first, disk.log_len());
        if self.lacks == Lacks::Syncs {
            disk.plan(Some(Plan {
                fault: Fault::Swallowed,
                at: 0,
                lasting: true,
            }));
        }
        rotate(&fs, u64::MAX).expect("nothing fails");
        disk.plan(None);
        let name = format!(
            "rotation, killed at {:?}, lacks {:?}",
            self.killed_at, self.lacks
        );
        if self.lacks == Lacks::Settling {
            let headers = vec![Some(vault.header.clone()), Some(found)];
            return Some(Run {
                log: disk.log(),
                ..Run::new(name, vault.base.clone(), headers)
            });
        }
        let end = disk.log_len();
        let (finished, wiped) = header::update(&disk, &vault.key, |header| {
            rotation::finish(header, &vault.key, Epoch(1)).map_err(|_| VolumeError::NotAVault)
        })
        .expect("nothing fails");
        assert_eq!(wiped, 1);
        let ended = (end, disk.log_len());
        fs.close().expect("nothing fails");
        let headers = [&vault.header, &found, &finished].map(|h| Some(h.clone()));
        Some(Run {
            log: disk.log(),
            changes: vec![begun, ended],
            ..Run::new(name, vault.base.clone(), headers.to_vec())
        })
    }

    fn judge(&self, vault: &Vault) -> Option<Verdict> {
        let expected = Expected {
            seq: None,
            ..Expected::of(vault)
        };
        let run = self.run(vault)?;
        Some(examine(vault, &[&vault.key], &expected, &run).verdict)
    }
}

/// The header with the new key is durable before any chunk is sealed with it, and that without the old one appears when
/// no chunk needs it.
#[test]
fn every_header_that_a_rotation_leaves_reads_everything() {
    let vault = Vault::new();
    let begun = Instant::now();
    let rotation = Rotation {
        killed_at: None,
        lacks: Lacks::Nothing,
    };
    let verdict = rotation.judge(&vault).expect("begun");
    assert_sound("headers of a rotation", &verdict, begun, 3000);
}

/// Whoever begins it is killed at any call; the daemon that sees it goes on.
#[test]
fn a_daemon_follows_only_to_a_key_that_stays() {
    let vault = Vault::new();
    let begun = Instant::now();
    let mut total = Verdict::default();
    let mut followed = 0;
    for at in 0..CALLS {
        let rotation = Rotation {
            killed_at: Some(at),
            lacks: Lacks::Nothing,
        };
        if let Some(verdict) = rotation.judge(&vault) {
            followed += 1;
            total.add(verdict);
        }
    }
    assert!(followed >= 8, "it had begun only {followed} times");
    assert_sound("rotations under a mount", &total, begun, 20_000);
}

/// More than a change of the header makes.
const CALLS: usize = 24;

mod teeth {
    use super::*;

    fn is_unreadable(found: &Verdict) -> bool {
        let mut classes = found.classes.keys();
        classes.any(|(_, class)| *class == "unreadable volume")
    }

    #[test]
    fn a_key_that_is_followed_before_it_is_durable_is_noticed() {
        let vault = Vault::new();
        let harms = |at| {
            let rotation = Rotation {
                killed_at: Some(at),
                lacks: Lacks::Settling,
            };
            rotation
                .judge(&vault)
                .is_some_and(|found| is_unreadable(&found))
        };
        assert!((0..CALLS).any(harms), "nothing was found");
    }

    #[test]
    fn a_key_that_is_wiped_before_everything_is_durable_is_noticed() {
        let rotation = Rotation {
            killed_at: None,
            lacks: Lacks::Syncs,
        };
        let found = rotation.judge(&Vault::new()).expect("begun");
        assert!(is_unreadable(&found));
    }
}
