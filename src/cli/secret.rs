//! Where the secrets of a run come from: the options that say so, and the plan that follows from them.
//!
//! Secrets never stand on the command line, only places where they are. Reading those places is `source`'s work;
//! what a secret opens is decided in `keys`.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::failure::{Failure, warn};
use super::source::{self, Passphrase, Source, Told};
use crate::format::slot::{Slot, SlotKind};
use crate::keys::kind::{Kind, Personal};
use crate::keys::secret::SlotSecret;
use crate::sys::terminal::Terminal;

/// A person would have to be asked more often than this only if the caps-lock key is stuck.
pub const TRIES: usize = 3;

const CREDENTIAL: &str = "wardfs.passphrase";
const NEW_CREDENTIAL: &str = "wardfs.new-passphrase";

/// As typed: the secret that opens the vault.
#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "Secret (without these options the passphrase is asked for on the terminal)"
)]
pub struct SecretArgs {
    /// Take the passphrase from FILE; one newline at its end is not part of it
    #[arg(long, value_name = "FILE", group = "passphrase")]
    passphrase_file: Option<PathBuf>,
    /// Take the passphrase from file descriptor N, read to its end; one newline at the end is not part of it
    #[arg(long, value_name = "N", group = "passphrase")]
    passphrase_fd: Option<i32>,
    /// Take the passphrase from the output of COMMAND, run by sh; one newline at the end is not part of it
    #[arg(long, value_name = "COMMAND", group = "passphrase")]
    passphrase_command: Option<String>,
    /// Ask on the terminal even if there is a key file or a systemd credential
    #[arg(long, group = "passphrase")]
    ask_passphrase: bool,
    /// Use FILE, any bytes, hashed whole, as the secret; together with a passphrase option, both are needed; several key
    /// files are needed together, in any order
    #[arg(long, value_name = "FILE")]
    keyfile: Vec<PathBuf>,
}

/// As typed: the secret that replaces the old one.
#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "New secret (without these options it is asked for on the terminal, twice)"
)]
pub struct NewSecretArgs {
    /// Take the new passphrase from FILE; one newline at its end is not part of it
    #[arg(long, value_name = "FILE", group = "new-passphrase")]
    new_passphrase_file: Option<PathBuf>,
    /// Take the new passphrase from file descriptor N, read to its end
    #[arg(long, value_name = "N", group = "new-passphrase")]
    new_passphrase_fd: Option<i32>,
    /// Take the new passphrase from the output of COMMAND, run by sh
    #[arg(long, value_name = "COMMAND", group = "new-passphrase")]
    new_passphrase_command: Option<String>,
    /// Ask on the terminal even if there is a new key file or a systemd credential
    #[arg(long, group = "new-passphrase")]
    ask_new_passphrase: bool,
    /// Use FILE, any bytes, hashed whole, as the new secret; with a new passphrase, both will be needed; several key files
    /// will be needed together
    #[arg(long, value_name = "FILE")]
    new_keyfile: Vec<PathBuf>,
}

/// Whether the secret opens something or is to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Existing,
    New,
}

/// What the options mean: which parts the secret has and where each is read.
#[derive(Debug, Clone)]
pub struct SecretPlan {
    role: Role,
    passphrase: Option<Source>,
    keyfiles: Vec<PathBuf>,
}

impl SecretArgs {
    /// Whether any of the options was given.
    pub fn is_told(&self) -> bool {
        self.passphrase_file.is_some()
            || self.passphrase_fd.is_some()
            || self.passphrase_command.is_some()
            || self.ask_passphrase
            || !self.keyfile.is_empty()
    }

    pub fn plan(&self, role: Role) -> SecretPlan {
        let told = Told {
            file: self.passphrase_file.as_deref(),
            fd: self.passphrase_fd,
            command: self.passphrase_command.as_deref(),
            ask: self.ask_passphrase,
        };
        SecretPlan::new(role, &told, self.keyfile.clone(), CREDENTIAL)
    }
}

impl NewSecretArgs {
    pub fn plan(&self) -> SecretPlan {
        let told = Told {
            file: self.new_passphrase_file.as_deref(),
            fd: self.new_passphrase_fd,
            command: self.new_passphrase_command.as_deref(),
            ask: self.ask_new_passphrase,
        };
        SecretPlan::new(Role::New, &told, self.new_keyfile.clone(), NEW_CREDENTIAL)
    }
}

impl SecretPlan {
    /// What was told comes first, then a systemd credential, then the terminal; a key file needs no passphrase
    /// beside it.
    fn new(role: Role, told: &Told<'_>, keyfiles: Vec<PathBuf>, credential: &str) -> Self {
        let passphrase = told
            .source()
            .or_else(|| source::credential(credential))
            .or_else(|| keyfiles.is_empty().then_some(Source::Terminal));
        Self {
            role,
            passphrase,
            keyfiles,
        }
    }

    /// Fits the plan to what the vault's slots take: asks for a passphrase beside a key file where both are needed,
    /// and says so when the right kind of secret was not given at all.
    pub fn for_slots(mut self, slots: &[Slot]) -> Result<Self, Failure> {
        let takes = |kind| slots.iter().any(|slot| slot.kind == kind);
        let (passphrase, keyfile, both) = (
            takes(SlotKind::Passphrase),
            takes(SlotKind::Keyfile),
            takes(SlotKind::PassphraseAndKeyfile),
        );
        let (message, advice) = match (self.passphrase.is_some(), !self.keyfiles.is_empty()) {
            (true, false) if passphrase => return Ok(self),
            (false, true) if keyfile => return Ok(self),
            (true, true) if both => return Ok(self),
            (false, true) if both => {
                self.passphrase = Some(Source::Terminal);
                return Ok(self);
            }
            _ if !(passphrase || keyfile || both) => {
                let message = "no key slot of this vault takes a passphrase or a key file";
                return Err(Failure::new(Exit::NoSecret, message)
                    .advise("'wardfs key list' shows what its key slots take."));
            }
            (_, false) => (
                "this vault needs its key file",
                "Say where it is: --keyfile FILE",
            ),
            (_, true) if passphrase => (
                "this vault opens with a passphrase alone",
                "Leave out --keyfile.",
            ),
            (_, true) => (
                "this vault opens with a key file alone",
                "Leave out the passphrase.",
            ),
        };
        Err(Failure::new(Exit::NoSecret, message).advise(advice))
    }

    /// The kind of slot that the secret opens, or will open.
    pub fn kind(&self) -> SlotKind {
        match (self.passphrase.is_some(), self.keyfiles.is_empty()) {
            (true, true) => SlotKind::Passphrase,
            (true, false) => SlotKind::PassphraseAndKeyfile,
            (false, _) => SlotKind::Keyfile,
        }
    }

    /// A descriptor is read to its end, so it holds one passphrase.
    pub fn check_apart_from(&self, other: &Self) -> Result<(), Failure> {
        match (&self.passphrase, &other.passphrase) {
            (Some(Source::Fd(a)), Some(Source::Fd(b))) if a == b => Err(Failure::new(
                Exit::Usage,
                format!("file descriptor {a} cannot hold both passphrases"),
            )),
            _ => Ok(()),
        }
    }

    /// Whether another try may give another secret.
    fn asks_a_person(&self) -> bool {
        matches!(self.passphrase, Some(Source::Terminal))
    }

    /// Reads the secret, as the kind of slot that it opens. `vault` is only for the question on the terminal.
    pub fn collect_kind(&self, vault: &str) -> Result<Box<dyn Kind>, Failure> {
        let keyfiles = self.keyfiles.iter().map(|path| source::read_keyfile(path));
        let keyfiles = keyfiles.collect::<Result<Vec<_>, _>>()?;
        let passphrase = match (&self.passphrase, self.role) {
            (None, _) => None,
            (Some(Source::Terminal), Role::Existing) => Some(ask(vault)?),
            (Some(Source::Terminal), Role::New) => Some(ask_twice(vault)?),
            (Some(source), _) => Some(source.read()?),
        };
        let personal = Personal::new(passphrase, keyfiles).map_err(|e| Failure::kind(&e))?;
        Ok(Box::new(personal))
    }

    /// Reads the secret.
    pub fn collect(&self, vault: &str) -> Result<SlotSecret, Failure> {
        let kind = self.collect_kind(vault)?;
        kind.open(&[]).map_err(|e| Failure::kind(&e))
    }

    /// Reads the secret and hands it to `open`, again as long as a person mistypes it, three times at most.
    pub fn try_with<T>(
        &self,
        vault: &str,
        mut open: impl FnMut(&SlotSecret) -> Result<T, Failure>,
    ) -> Result<(T, SlotSecret), Failure> {
        for left in (0..TRIES).rev() {
            let secret = self.collect(vault)?;
            match open(&secret) {
                Ok(opened) => return Ok((opened, secret)),
                Err(e) if e.exit == Exit::WrongSecret && left > 0 && self.asks_a_person() => {
                    terminal()?
                        .say("That does not open it. Try again.")
                        .map_err(no_terminal)?;
                }
                Err(e) => return Err(e),
            }
        }
        unreachable!("the last try returns")
    }
}

pub fn terminal() -> Result<Terminal, Failure> {
    Terminal::open().map_err(no_terminal)
}

fn no_terminal(error: std::io::Error) -> Failure {
    Failure::new(Exit::NoSecret, format!("there is no terminal to ask for the passphrase on: {error}")).advise(
        "Give it with --passphrase-file, --passphrase-fd 0, --passphrase-command, as systemd credential \
         'wardfs.passphrase', or use --keyfile.",
    )
}

fn ask(vault: &str) -> Result<Passphrase, Failure> {
    source::ask(&terminal()?, &format!("Passphrase for {vault}: "))
}

fn ask_twice(vault: &str) -> Result<Passphrase, Failure> {
    const SHORT: usize = 12;

    let terminal = terminal()?;
    for _ in 0..TRIES {
        let first = source::ask(&terminal, &format!("New passphrase for {vault}: "))?;
        let second = source::ask(&terminal, "The same again: ")?;
        if first.as_bytes() == second.as_bytes() {
            if first.len() < SHORT {
                warn(format!(
                    "a passphrase of fewer than {SHORT} bytes can be guessed; several words are better"
                ));
            }
            return Ok(first);
        }
        terminal
            .say("These are not the same. Try again.")
            .map_err(no_terminal)?;
    }
    Err(Failure::new(
        Exit::NoSecret,
        format!("the passphrase was not typed twice the same in {TRIES} tries"),
    ))
}
