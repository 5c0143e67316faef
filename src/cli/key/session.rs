//! What comes before every verb that needs a secret, and after: the process is hardened, the vault found, the policy
//! read, the vault opened, what its user should know said, and the changed header written.

use std::path::{Path, PathBuf};

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, warn};
use crate::cli::output::{iso_time, printable};
use crate::cli::place;
use crate::cli::policy::{self, Policy};
use crate::cli::unlock::{Signals, UnlockArgs, Unlocked};
use crate::crypto::VolumeKey;
use crate::format::key_record::KeyRecord;
use crate::format::slot::{Kdf, Slot, SlotKind};
use crate::format::volume::VolumeHeader;
use crate::keys::header::now;
use crate::keys::slots::{self, ChangeError};
use crate::store::last_used::LastUsed;
use crate::store::volume::{Locked, VolumeError};
use crate::sys::secret::harden_process;

const DAY: i64 = 86_400;
/// An expiry is warned about so many days before.
const WARNED: i64 = 30;

/// A vault before it is opened.
#[derive(Debug)]
pub struct Closed {
    pub vault: PathBuf,
    /// As it was typed.
    pub shown: String,
    pub policy: Policy,
    pub locked: Locked,
}

/// A vault that a secret has opened.
#[derive(Debug)]
pub struct Session {
    pub vault: PathBuf,
    pub shown: String,
    pub policy: Policy,
    pub unlocked: Unlocked,
}

/// Whether the vault may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traces {
    Leave,
    None,
}

/// Why a change is not made, from the keys, from the store, or from the policy.
#[derive(Debug)]
pub enum Refused {
    Change(ChangeError),
    Volume(VolumeError),
    Other(Failure),
}

impl From<VolumeError> for Refused {
    fn from(e: VolumeError) -> Self {
        Self::Volume(e)
    }
}

impl From<ChangeError> for Refused {
    fn from(e: ChangeError) -> Self {
        Self::Change(e)
    }
}

impl From<Failure> for Refused {
    fn from(e: Failure) -> Self {
        Self::Other(e)
    }
}

impl Closed {
    pub fn find(typed: &Path) -> Result<Self, Failure> {
        harden_process();
        let vault = place::vault(typed)?;
        let policy = Policy::load()?;
        let locked = Locked::open(&vault).map_err(|e| Failure::volume(&vault, &e))?;
        let shown = typed.display().to_string();
        Ok(Self {
            vault,
            shown,
            policy,
            locked,
        })
    }

    pub fn open(self, args: &UnlockArgs) -> Result<Session, Failure> {
        self.open_leaving(Traces::Leave, args)
    }

    pub fn open_leaving(self, traces: Traces, args: &UnlockArgs) -> Result<Session, Failure> {
        self.open_with(traces, Signals::Free, args)
    }

    /// For a verb that will wait for signals: none of the threads that derive keys takes one from it.
    pub fn open_holding_signals(self, args: &UnlockArgs) -> Result<Session, Failure> {
        self.open_with(Traces::Leave, Signals::Held, args)
    }

    fn open_with(
        self,
        traces: Traces,
        signals: Signals,
        args: &UnlockArgs,
    ) -> Result<Session, Failure> {
        let slots = &self.locked.header().slots;
        let unlocker = args.plan(&self.vault, &self.shown, slots, signals)?;
        let unlocked = unlocker.open()?;
        if unlocked.locked.used_backup() {
            warn("the first copy of the volume header is damaged; the second one is used");
        }
        after_unlock(&self.vault, &unlocked, traces);
        Ok(Session {
            vault: self.vault,
            shown: self.shown,
            policy: self.policy,
            unlocked,
        })
    }
}

impl Session {
    pub fn open(typed: &Path, args: &UnlockArgs) -> Result<Self, Failure> {
        Closed::find(typed)?.open(args)
    }

    /// The slot called `id`, as it was when the vault was opened.
    pub fn slot(&self, id: u32) -> Result<&Slot, Failure> {
        let slots = &self.unlocked.locked.header().slots;
        let found = slots.iter().find(|slot| slot.id == id);
        found.ok_or_else(|| Failure::change(&self.vault, &ChangeError::NoSuchSlot(id)))
    }

    /// Refuses a slot that the policy does not allow.
    pub fn check_slot(&self, kind: SlotKind, kdf: &Kdf) -> Result<(), Failure> {
        policy::enforce(&self.policy.of_slot(kind, kdf))
    }

    /// Changes the header and writes it.
    pub fn change<T>(
        &mut self,
        change: impl FnOnce(&mut VolumeHeader, &VolumeKey) -> Result<T, Refused>,
    ) -> Result<T, Failure> {
        let key = &self.unlocked.opened.key;
        let locked = &mut self.unlocked.locked;
        let changed = locked.update(&self.vault, key, |header| change(header, key));
        changed.map_err(|refused| match refused {
            Refused::Change(e) => Failure::change(&self.vault, &e),
            Refused::Volume(e) => Failure::volume(&self.vault, &e),
            Refused::Other(failure) => failure,
        })
    }
}

/// Says what whoever opens a vault should know, and leaves the traces that opening it should leave.
pub fn after_unlock(vault: &Path, unlocked: &Unlocked, traces: Traces) {
    let slot = unlocked.slot();
    let shown = named(slot);
    if let Some(expires) = slot.expires {
        let left = expires.saturating_sub(now());
        if left < 0 {
            warn(format!("{shown} has expired on {}", iso_time(expires)));
        } else if left <= WARNED * DAY {
            let days = left / DAY;
            warn(format!(
                "{shown} expires on {}, in {days} days",
                iso_time(expires)
            ));
        }
    }
    let header = unlocked.locked.header();
    let openings = KeyRecord::of(header).map(|record| record.openings);
    for opening in openings.unwrap_or_default() {
        warn(format!(
            "key slot {} was opened with shares at {}; 'wardfs key acknowledge' ends this warning",
            opening.slot,
            iso_time(opening.at)
        ));
    }
    let breaks_glass = slots::breaks_glass(slot.kind);
    if breaks_glass {
        log::warn!(
            "the vault is opened with the shares of key slot {}",
            slot.id
        );
    }
    if traces == Traces::None {
        return;
    }
    let existing: Vec<u32> = header.slots.iter().map(|slot| slot.id).collect();
    LastUsed::note(vault, slot.id, now(), &existing);
    if breaks_glass {
        record_opening(vault, unlocked);
    }
}

/// In the authenticated part of the header. Where it cannot be written, the log still has it.
fn record_opening(vault: &Path, unlocked: &Unlocked) {
    let (key, slot) = (&unlocked.opened.key, unlocked.opened.slot);
    let recorded = Locked::open(vault)
        .map_err(Refused::Volume)
        .and_then(|mut locked| {
            locked.update(vault, key, |header| {
                slots::record_opening(header, key, slot).map_err(Refused::Change)
            })
        });
    if let Err(e) = recorded {
        warn(format!(
            "that the shares were used is not recorded in the vault: {e:?}"
        ));
    }
}

/// Refuses to overwrite what somebody else has changed since the vault was opened.
pub fn unchanged(header: &VolumeHeader, seen: &Slot) -> Result<(), Refused> {
    match header.slots.iter().find(|slot| slot.id == seen.id) {
        None => Err(Refused::Change(ChangeError::NoSuchSlot(seen.id))),
        Some(slot) if slot.changed != seen.changed || slot.salt != seen.salt => {
            let message = format!("{} was changed by somebody else just now", named(seen));
            Err(Failure::new(Exit::Failed, message)
                .advise("Try again.")
                .into())
        }
        Some(_) => Ok(()),
    }
}

/// Refuses a slot that has expired.
pub fn enforce_expiry(unlocked: &Unlocked) -> Result<(), Failure> {
    let slot = unlocked.slot();
    match slot.expires {
        Some(expires) if expires < now() => {
            let message = format!("{} has expired on {}", named(slot), iso_time(expires));
            Err(Failure::new(Exit::Expired, message)
                .advise("Somebody with another key can prolong it: wardfs key label --expires"))
        }
        _ => Ok(()),
    }
}

/// `key slot 3 (desk)`.
pub fn named(slot: &Slot) -> String {
    match slot.label.as_str() {
        "" => format!("key slot {}", slot.id),
        label => format!("key slot {} ({})", slot.id, printable(label)),
    }
}
