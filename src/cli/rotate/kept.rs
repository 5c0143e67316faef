//! The secrets of the key slots that are to be kept: from files, from the machine, or as people type them.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::cli::command;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, warn};
use crate::cli::key::session::named;
use crate::cli::output::printable;
use crate::cli::secret;
use crate::cli::source::{self, Source};
use crate::cli::unlock::{self, Unlocked};
use crate::format::slot::{Slot, SlotKind};
use crate::keys::kind::{Command, Credential, Kind, Personal, StoredCommand};
use crate::keys::secret::SlotSecret;
use crate::store::volume::Locked;

/// What is known before anybody is asked.
#[derive(Debug)]
pub struct Asked<'a, 's> {
    pub vault: &'a Path,
    pub locked: &'s Locked,
    pub unlocked: &'a Unlocked,
    /// Secrets in files, by slot.
    pub files: &'a [(u32, PathBuf)],
    /// Key commands that may be run, besides those that the administrator allows.
    pub commands: Vec<Vec<String>>,
    pub drop: &'a [u32],
}

/// A slot that will be gone.
#[derive(Debug)]
pub struct Dropped<'a> {
    pub slot: &'a Slot,
    why: String,
    /// It was named on the command line.
    pub was_told: bool,
}

impl fmt::Display for Dropped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", named(self.slot), self.slot.kind)?;
        if !self.slot.owner.is_empty() {
            write!(f, ", of {}", printable(&self.slot.owner))?;
        }
        write!(f, ": {}", self.why)
    }
}

/// All slots.
#[derive(Debug, Default)]
pub struct Sorted<'s> {
    /// With their secrets, by id.
    pub kept: Vec<(u32, SlotSecret)>,
    pub dropped: Vec<Dropped<'s>>,
}

/// Why a slot has no secret.
enum Missing {
    /// Completes "key slot 3: …".
    Because(String),
    /// Nothing goes on.
    Failed(Failure),
}

impl From<Failure> for Missing {
    fn from(e: Failure) -> Self {
        Self::Failed(e)
    }
}

/// The secrets that are at hand, by slot, and the slots for which there is none.
///
/// # Errors
/// A secret that was given and is not the right one.
pub fn collect<'s>(asked: &Asked<'_, 's>) -> Result<Sorted<'s>, Failure> {
    let mut sorted = Sorted::default();
    for slot in &asked.locked.header().slots {
        let was_told = asked.drop.contains(&slot.id);
        let found = match was_told {
            true => Err(Missing::Because("as told".to_owned())),
            false => asked.secret_of(slot),
        };
        match found {
            Ok(secret) => sorted.kept.push((slot.id, secret)),
            Err(Missing::Because(why)) => sorted.dropped.push(Dropped {
                slot,
                why,
                was_told,
            }),
            Err(Missing::Failed(e)) => return Err(e),
        }
    }
    Ok(sorted)
}

impl Asked<'_, '_> {
    fn secret_of(&self, slot: &Slot) -> Result<SlotSecret, Missing> {
        if slot.id == self.unlocked.opened.slot {
            return Ok(self.unlocked.secret.copy());
        }
        let files: Vec<PathBuf> = self
            .files
            .iter()
            .filter(|(id, _)| *id == slot.id)
            .map(|(_, file)| file.clone())
            .collect();
        if !files.is_empty() {
            let secret = from_files(slot, &files)?;
            return match self.opens(slot, &secret) {
                Ok(()) => Ok(secret),
                Err(e) => Err(Failure::new(
                    e.exit,
                    format!("what is given for {} does not open it: {e}", named(slot)),
                )
                .into()),
            };
        }
        match slot.kind {
            SlotKind::Credential => self.of_machine(slot, credential()?),
            SlotKind::Command => self.of_machine(slot, self.command(slot)?),
            SlotKind::Passphrase | SlotKind::Recovery | SlotKind::Shares => self.ask(slot),
            SlotKind::Keyfile | SlotKind::PassphraseAndKeyfile | SlotKind::Other(_) => {
                Err(Missing::Because("its secret was not given".to_owned()))
            }
        }
    }

    fn opens(&self, slot: &Slot, secret: &SlotSecret) -> Result<(), Failure> {
        let opened = self.locked.open_with(Some(slot.id), secret);
        opened
            .map(drop)
            .map_err(|e| Failure::volume(self.vault, &e))
    }

    /// A key command that nobody has allowed is not run: the slot may be of somebody else.
    fn command(&self, slot: &Slot) -> Result<Command, Missing> {
        let mut permitted = command::trusted()?;
        permitted.extend(self.commands.iter().cloned());
        let shown =
            StoredCommand::decode(&slot.data).map(|c| (permitted.contains(&c.argv), c.shown()));
        match shown {
            Ok((true, _)) => Ok(Command {
                new: None,
                permitted,
            }),
            Ok((false, shown)) => Err(Missing::Because(format!(
                "nobody on this machine has allowed its key command {shown} (--keep-command)"
            ))),
            Err(e) => Err(Missing::Because(e.to_string())),
        }
    }

    fn of_machine(&self, slot: &Slot, kind: impl Kind) -> Result<SlotSecret, Missing> {
        let secret = kind
            .open(&slot.data)
            .map_err(|e| Missing::Because(e.to_string()))?;
        match self.opens(slot, &secret) {
            Ok(()) => Ok(secret),
            Err(e) if e.exit == Exit::WrongSecret => Err(Missing::Because(
                "what the machine gives for it does not open it".to_owned(),
            )),
            Err(e) => Err(e.into()),
        }
    }

    /// On the terminal, if there is one. An empty line drops the slot.
    fn ask(&self, slot: &Slot) -> Result<SlotSecret, Missing> {
        let missing = || Missing::Because("its secret was not given".to_owned());
        let terminal = secret::terminal().map_err(|_| missing())?;
        let shown = format!("{} (leave it empty to drop the slot)", named(slot));
        for left in (0..secret::TRIES).rev() {
            let typed = match slot.kind {
                SlotKind::Recovery => {
                    unlock::recovery_key(None, &shown).and_then(|kind| open(&kind, slot))
                }
                SlotKind::Shares => unlock::shares(&[], &shown).and_then(|kind| open(&kind, slot)),
                _ => {
                    source::ask(&terminal, &format!("Passphrase for {shown}: ")).and_then(|typed| {
                        let kind = Personal::new(Some(typed), Vec::new());
                        open(&kind.map_err(|e| Failure::kind(&e))?, slot)
                    })
                }
            };
            let secret = typed.map_err(|_| missing())?;
            match self.opens(slot, &secret) {
                Ok(()) => return Ok(secret),
                Err(e) if e.exit == Exit::WrongSecret && left > 0 => terminal
                    .say("That does not open it. Try again.")
                    .map_err(|e| Failure::io("write to the terminal", &e))?,
                Err(e) if e.exit == Exit::WrongSecret => break,
                Err(e) => return Err(e.into()),
            }
        }
        warn(format!(
            "what was typed for {} does not open it",
            named(slot)
        ));
        Err(missing())
    }
}

fn open(kind: &dyn Kind, slot: &Slot) -> Result<SlotSecret, Failure> {
    kind.open(&slot.data).map_err(|e| Failure::kind(&e))
}

fn credential() -> Result<Credential, Missing> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let none = || Missing::Because("there are no credentials here".to_owned());
    Ok(Credential {
        directory: directory.ok_or_else(none)?,
        name: String::new(),
    })
}

/// What the files hold, as the slot's kind wants it.
fn from_files(slot: &Slot, files: &[PathBuf]) -> Result<SlotSecret, Failure> {
    let one = || match files {
        [file] => Ok(file.as_path()),
        _ => Err(Failure::new(
            Exit::Usage,
            format!("{} takes one file", named(slot)),
        )),
    };
    let keyfiles = |files: &[PathBuf]| -> Result<Vec<_>, Failure> {
        files
            .iter()
            .map(|file| source::read_keyfile(file))
            .collect()
    };
    let passphrase = |file: &Path| Source::File(file.to_owned()).read();
    let personal = |passphrase, keyfiles| -> Result<SlotSecret, Failure> {
        let kind = Personal::new(passphrase, keyfiles).map_err(|e| Failure::kind(&e))?;
        open(&kind, slot)
    };
    match slot.kind {
        SlotKind::Passphrase => personal(Some(passphrase(one()?)?), Vec::new()),
        SlotKind::Keyfile => personal(None, keyfiles(files)?),
        SlotKind::PassphraseAndKeyfile => {
            let (first, others) = files.split_first().expect("there is one");
            personal(Some(passphrase(first)?), keyfiles(others)?)
        }
        SlotKind::Recovery => open(&unlock::recovery_key(Some(one()?), "")?, slot),
        SlotKind::Shares => open(&unlock::shares(files, "")?, slot),
        SlotKind::Credential | SlotKind::Command | SlotKind::Other(_) => Err(Failure::new(
            Exit::Usage,
            format!(
                "the secret of {}, {}, is not given in a file",
                named(slot),
                slot.kind
            ),
        )),
    }
}
