//! Opening a vault: which slots are tried with what, in which order.
//!
//! The slot that was named, or what the options say; else the kinds that need no prompt; else one question on the
//! terminal, whose answer is tried on all passphrase slots. What can be refused without a secret is refused by
//! [`UnlockArgs::plan`].

use std::path::{Path, PathBuf};

use clap::Args;

use super::command;
use super::exit::Exit;
use super::failure::{Failure, warn};
use super::secret::{self, Role, SecretArgs, SecretPlan};
use super::source::{self, Source};
use crate::format::slot::{Slot, SlotKind};
use crate::format::volume::VolumeHeader;
use crate::keys::header::{self as keyed, Opened};
use crate::keys::kind::{
    Command, Credential, Kind, KindError, Recovery, Share, Shares, StoredCommand,
};
use crate::keys::secret::SlotSecret;
use crate::store::volume::{Locked, VolumeError};
use crate::sys::signals;

/// As typed: what opens the vault.
#[derive(Debug, Clone, Default, Args)]
pub struct UnlockArgs {
    #[command(flatten)]
    secret: SecretArgs,

    #[command(flatten)]
    other: OtherArgs,
}

/// As typed: the ways in that are neither passphrase nor key file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Key slots and other secrets")]
struct OtherArgs {
    /// Try key slot ID and no other
    #[arg(long, value_name = "ID")]
    slot: Option<u32>,
    /// Take the recovery key from FILE
    #[arg(long, value_name = "FILE", group = "other-secret", conflicts_with_all = ["passphrase", "keyfile"])]
    recovery_key_file: Option<PathBuf>,
    /// Ask for the recovery key on the terminal
    #[arg(long, group = "other-secret", conflicts_with_all = ["passphrase", "keyfile"])]
    ask_recovery_key: bool,
    /// Take a share of a key from FILE; said once for each share
    #[arg(long, value_name = "FILE", group = "other-secret", conflicts_with_all = ["passphrase", "keyfile"])]
    share: Vec<PathBuf>,
    /// Ask for the shares of a key on the terminal
    #[arg(long, group = "other-secret", conflicts_with_all = ["passphrase", "keyfile"])]
    ask_shares: bool,
    /// Run COMMAND, without a shell, for the key slot that was made with the same command
    #[arg(long, value_name = "COMMAND", value_parser = words, group = "other-secret", conflicts_with_all = ["passphrase", "keyfile"])]
    key_command: Option<Words>,
}

/// A command line, taken apart.
#[derive(Debug, Clone)]
pub struct Words(pub Vec<String>);

pub fn words(line: &str) -> Result<Words, String> {
    command::words(line).map(Words)
}

/// One way in.
#[derive(Debug)]
enum Way {
    /// A passphrase, key files or both.
    Secret(SecretPlan),
    /// A kind that asks nobody, tried on slots of its kind.
    Silent(Box<dyn Kind>),
    RecoveryKey(Option<PathBuf>),
    Shares(Vec<PathBuf>),
}

/// Whether the signals that end a process wait while a key is derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signals {
    /// They are for the thread that will serve the mount.
    Held,
    Free,
}

/// What the options mean for this vault. Nothing was asked yet.
#[derive(Debug)]
pub struct Unlocker {
    vault: PathBuf,
    /// The vault as it was typed, for questions.
    shown: String,
    slot: Option<u32>,
    ways: Vec<Way>,
    signals: Signals,
    /// Opened instead of the one in the vault.
    header: Option<VolumeHeader>,
}

/// An open vault and what opened it.
#[derive(Debug)]
pub struct Unlocked {
    pub locked: Locked,
    pub opened: Opened,
    pub secret: SlotSecret,
}

impl Unlocked {
    /// The slot that opened.
    pub fn slot(&self) -> &Slot {
        let id = self.opened.slot;
        let slots = &self.locked.header().slots;
        slots
            .iter()
            .find(|slot| slot.id == id)
            .expect("it has just opened")
    }
}

impl UnlockArgs {
    /// The passphrase and key files alone, for a comparison with those that are to replace them.
    pub fn secret_plan(&self) -> SecretPlan {
        self.secret.plan(Role::Existing)
    }

    /// # Errors
    /// What is missing, or does not fit the slots.
    pub fn plan(
        &self,
        vault: &Path,
        shown: &str,
        slots: &[Slot],
        signals: Signals,
    ) -> Result<Unlocker, Failure> {
        let slot = self.other.slot;
        let slots: Vec<Slot> = match slot {
            None => slots.to_vec(),
            Some(id) => {
                let named: Vec<Slot> = slots.iter().filter(|s| s.id == id).cloned().collect();
                if named.is_empty() {
                    let error = VolumeError::Unlock(keyed::UnlockError::NoSuchSlot(id));
                    return Err(Failure::volume(vault, &error));
                }
                named
            }
        };
        let ways = match self.told_way(&slots)? {
            Some(way) => vec![way],
            None => untold_ways(&self.secret, &slots, slot.is_some())?,
        };
        Ok(Unlocker {
            vault: vault.to_owned(),
            shown: shown.to_owned(),
            slot,
            ways,
            signals,
            header: None,
        })
    }

    fn told_way(&self, slots: &[Slot]) -> Result<Option<Way>, Failure> {
        let takes = |kind| {
            if slots.iter().any(|slot| slot.kind == kind) {
                return Ok(());
            }
            let message =
                format!("no key slot of this vault, or not the one named, is of kind {kind}");
            Err(Failure::new(Exit::NoSecret, message)
                .advise("'wardfs key list' shows what its key slots take."))
        };
        let other = &self.other;
        if other.recovery_key_file.is_some() || other.ask_recovery_key {
            takes(SlotKind::Recovery)?;
            return Ok(Some(Way::RecoveryKey(other.recovery_key_file.clone())));
        }
        if !other.share.is_empty() || other.ask_shares {
            takes(SlotKind::Shares)?;
            return Ok(Some(Way::Shares(other.share.clone())));
        }
        if let Some(Words(argv)) = &other.key_command {
            takes(SlotKind::Command)?;
            return Ok(Some(Way::Silent(Box::new(Command {
                new: None,
                permitted: vec![argv.clone()],
            }))));
        }
        if self.secret.is_told() {
            let plan = self.secret.plan(Role::Existing).for_slots(slots)?;
            return Ok(Some(Way::Secret(plan)));
        }
        Ok(None)
    }
}

/// What is tried without being told: what needs no prompt first.
fn untold_ways(secret: &SecretArgs, slots: &[Slot], is_named: bool) -> Result<Vec<Way>, Failure> {
    let mut ways: Vec<Way> = Vec::new();
    if let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) {
        let is_there = |slot: &Slot| {
            let path = Credential::path(&directory, &slot.data);
            slot.kind == SlotKind::Credential && path.is_ok_and(|path| path.is_file())
        };
        if slots.iter().any(is_there) {
            let name = String::new();
            ways.push(Way::Silent(Box::new(Credential { directory, name })));
        }
    }
    let commands: Vec<StoredCommand> = slots
        .iter()
        .filter(|slot| slot.kind == SlotKind::Command)
        .filter_map(|slot| StoredCommand::decode(&slot.data).ok())
        .collect();
    if !commands.is_empty() {
        let permitted = command::trusted()?;
        if commands.iter().any(|c| permitted.contains(&c.argv)) {
            ways.push(Way::Silent(Box::new(Command {
                new: None,
                permitted,
            })));
        } else if is_named {
            let shown = commands[0].shown();
            let message = format!("nobody on this machine has allowed the key command {shown}");
            return Err(Failure::new(Exit::NotPermitted, message).advise(format!(
                "If it is yours, say so: --key-command {}, or list it in {}",
                shlex::try_quote(&shown).unwrap_or_default(),
                command::TRUSTED
            )));
        }
    }
    if is_named {
        match slots[0].kind {
            SlotKind::Recovery => ways.push(Way::RecoveryKey(None)),
            SlotKind::Shares => ways.push(Way::Shares(Vec::new())),
            _ => {}
        }
    }
    match secret.plan(Role::Existing).for_slots(slots) {
        Ok(plan) => ways.push(Way::Secret(plan)),
        Err(failure) if ways.is_empty() => return Err(failure),
        Err(_) => {}
    }
    Ok(ways)
}

impl Unlocker {
    /// Opens `header` and not the one that the vault has.
    pub fn for_header(self, header: VolumeHeader) -> Self {
        Self {
            header: Some(header),
            ..self
        }
    }

    fn locked(&self) -> Result<Locked, VolumeError> {
        match &self.header {
            None => Locked::open(&self.vault),
            Some(header) => Locked::with_header(&self.vault, header.clone()),
        }
    }

    /// Gets the secret and opens the vault. The header is read only when a secret is at hand: it may have been changed
    /// while somebody typed.
    ///
    /// # Errors
    /// Of the last way; why the others failed is a warning.
    pub fn open(&self) -> Result<Unlocked, Failure> {
        let (last, others) = self.ways.split_last().expect("a plan has a way");
        for way in others {
            match self.go(way) {
                Ok(unlocked) => return Ok(unlocked),
                Err(failure) if failure.exit == Exit::Tampered => return Err(failure),
                Err(failure) => warn(failure),
            }
        }
        self.go(last)
    }

    fn go(&self, way: &Way) -> Result<Unlocked, Failure> {
        match way {
            Way::Secret(plan) => {
                let (opened, secret) = plan.try_with(&self.shown, |secret| {
                    self.with_header(|locked| locked.open_with(self.slot, secret))
                })?;
                let (locked, opened) = opened;
                Ok(Unlocked {
                    locked,
                    opened,
                    secret,
                })
            }
            Way::Silent(kind) => self.try_kind(kind.as_ref()),
            Way::RecoveryKey(file) => self.try_kind(&recovery_key(file.as_deref(), &self.shown)?),
            Way::Shares(files) => self.try_kind(&shares(files, &self.shown)?),
        }
    }

    /// Tries a kind on the slots of its kind.
    fn try_kind(&self, kind: &dyn Kind) -> Result<Unlocked, Failure> {
        let volume = |e| Failure::volume(&self.vault, &e);
        let locked = self.locked().map_err(volume)?;
        let slots: Vec<Slot> = locked
            .header()
            .slots
            .iter()
            .filter(|slot| slot.kind == kind.kind())
            .filter(|slot| self.slot.is_none_or(|id| id == slot.id))
            .cloned()
            .collect();
        keyed::affordable(slots.iter()).map_err(|e| volume(VolumeError::Unlock(e)))?;
        let none = VolumeError::Unlock(keyed::UnlockError::NoSlotFor(kind.kind()));
        let mut failure = volume(none);
        let mut was_wrong = false;
        for slot in slots {
            let secret = match kind.open(&slot.data) {
                Ok(secret) => secret,
                // That a secret was wrong says more than that there was none for another slot.
                Err(e) => {
                    if !was_wrong {
                        failure = Failure::kind(&e);
                    }
                    continue;
                }
            };
            match self.with_header(|locked| locked.open_with(Some(slot.id), &secret)) {
                Ok((locked, opened)) => {
                    return Ok(Unlocked {
                        locked,
                        opened,
                        secret,
                    });
                }
                Err(e) if e.exit == Exit::WrongSecret => (failure, was_wrong) = (e, true),
                Err(e) => return Err(e),
            }
        }
        Err(failure)
    }

    fn with_header(
        &self,
        open: impl FnOnce(&Locked) -> Result<Opened, VolumeError>,
    ) -> Result<(Locked, Opened), Failure> {
        let failed = |e| Failure::volume(&self.vault, &e);
        let locked = self.locked().map_err(failed)?;
        // The key derivation starts threads, and these must not take signals from the one that waits for them.
        let _blocked = match self.signals {
            Signals::Free => None,
            Signals::Held => Some(
                signals::block(&signals::TERMINATION)
                    .map_err(|e| Failure::io("block signals", &e))?,
            ),
        };
        let opened = open(&locked).map_err(failed)?;
        Ok((locked, opened))
    }
}

/// The recovery key in `file`, or as somebody types it for `shown`.
pub fn recovery_key(file: Option<&Path>, shown: &str) -> Result<Recovery, Failure> {
    let Some(file) = file else {
        return ask_printed(&format!("Recovery key for {shown}: "), Recovery::typed);
    };
    let text = Source::File(file.to_owned()).read()?;
    Recovery::typed(text.as_bytes()).map_err(|e| named(file, &e))
}

/// The shares in `files`; without any, as many as it takes are asked for.
pub fn shares(files: &[PathBuf], shown: &str) -> Result<Shares, Failure> {
    let mut shares = Shares::default();
    for file in files {
        let text = Source::File(file.clone()).read()?;
        let share = Share::typed(text.as_bytes()).map_err(|e| named(file, &e))?;
        shares.given.push(share);
    }
    if files.is_empty() {
        let mut need = 1;
        while shares.given.len() < need {
            let number = shares.given.len() + 1;
            let question = match number {
                1 => format!("First share for {shown}: "),
                _ => format!("Share {number} of {need}: "),
            };
            let share = ask_printed(&question, Share::typed)?;
            need = usize::from(share.need());
            shares.given.push(share);
        }
    }
    Ok(shares)
}

fn named(file: &Path, error: &KindError) -> Failure {
    let failure = Failure::kind(error);
    Failure::new(failure.exit, format!("{}: {error}", file.display()))
}

/// Asks for a printed key until it has no typo, three times at most.
fn ask_printed<T>(
    question: &str,
    typed: impl Fn(&[u8]) -> Result<T, KindError>,
) -> Result<T, Failure> {
    let terminal = secret::terminal()?;
    let mut left = secret::TRIES;
    loop {
        let text = source::ask(&terminal, question)?;
        match typed(text.as_bytes()) {
            Ok(key) => return Ok(key),
            Err(e) => {
                left -= 1;
                if left == 0 {
                    return Err(Failure::kind(&e));
                }
                terminal
                    .say(&format!("Not so: {e}. Try again."))
                    .map_err(|e| Failure::io("write to the terminal", &e))?;
            }
        }
    }
}
