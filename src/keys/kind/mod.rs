//! The kinds of slots, one file each, behind one small trait.
//!
//! A kind is made from what a person or a machine has at hand; it asks nobody and prints nothing. What comes out of it
//! is the secret of a slot, never the volume key. Slot data is what an attacker may have written until the slot opens:
//! no kind does anything with it that its maker has not allowed.

mod command;
mod credential;
mod personal;
mod recovery;
mod shares;

use std::io;

use crate::format::slot::{Slot, SlotKind};
use crate::keys::printed::PrintedError;
use crate::keys::secret::{SecretError, SlotSecret};
use crate::sys::secret::SecretVec;

pub use command::{Command, DEFAULT_TIMEOUT, MAX_TIMEOUT, StoredCommand};
pub use credential::Credential;
pub use personal::Personal;
pub use recovery::Recovery;
pub use shares::{Share, ShareSet, Shares};

/// See the module.
pub trait Kind: std::fmt::Debug {
    fn kind(&self) -> SlotKind;

    /// For a new slot: its secret, and what has to be kept to find it again.
    ///
    /// # Errors
    /// [`KindError`].
    fn create(&self) -> Result<Created, KindError>;

    /// The secret that should open a slot which keeps `data`.
    ///
    /// # Errors
    /// [`KindError`].
    fn open(&self, data: &[u8]) -> Result<SlotSecret, KindError>;

    /// What `data` tells people.
    ///
    /// # Errors
    /// [`KindError::Data`].
    fn describe(data: &[u8]) -> Result<String, KindError>
    where
        Self: Sized;
}

/// What a new slot is made of.
#[derive(Debug)]
pub struct Created {
    pub secret: SlotSecret,
    pub data: Vec<u8>,
    /// Keys that nobody else has: they are shown once, and kept by people.
    pub printed: Vec<SecretVec>,
}

impl Created {
    fn of(secret: SlotSecret, data: Vec<u8>) -> Self {
        Self {
            secret,
            data,
            printed: Vec::new(),
        }
    }
}

/// Why a kind gives no secret.
#[derive(Debug)]
pub enum KindError {
    Secret(SecretError),
    /// What the slot keeps was never written by this program.
    Data,
    /// A credential's name that cannot be one.
    CredentialName,
    /// The command is not one that may be run.
    Command(String),
    /// A program that could not be run, failed, or took too long; or a file that cannot be read. `what` completes
    /// "cannot …".
    Io {
        what: String,
        source: io::Error,
    },
    Printed(PrintedError),
    /// A share of another set, or of none.
    OtherSet,
    /// The number of different shares is not the one it takes.
    Shares {
        have: usize,
        need: usize,
    },
    /// M of N that make no sense.
    Threshold,
}

impl std::fmt::Display for KindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Secret(e) => e.fmt(f),
            Self::Data => f.write_str("what the slot keeps was changed or damaged"),
            Self::CredentialName => f.write_str(
                "a credential's name has 1 to 255 bytes, no slash and no control characters",
            ),
            Self::Command(why) => f.write_str(why),
            Self::Io { what, source } => write!(f, "cannot {what}: {source}"),
            Self::Printed(e) => e.fmt(f),
            Self::OtherSet => f.write_str("it is a share of another slot"),
            Self::Shares { have, need } => {
                write!(f, "it takes {need} different shares, and {have} were given")
            }
            Self::Threshold => f.write_str(
                "shares are told as M/N: M of N open the vault, M from 2 to N, N at most 255",
            ),
        }
    }
}

impl std::error::Error for KindError {}

/// What the data of any slot tells people; empty for kinds that keep none.
pub fn describe(slot: &Slot) -> String {
    let data = &slot.data;
    let described = match slot.kind {
        SlotKind::Passphrase | SlotKind::Keyfile | SlotKind::PassphraseAndKeyfile => {
            Personal::describe(data)
        }
        SlotKind::Credential => Credential::describe(data),
        SlotKind::Command => Command::describe(data),
        SlotKind::Recovery => Recovery::describe(data),
        SlotKind::Shares => Shares::describe(data),
        SlotKind::Other(_) => Ok(String::new()),
    };
    described.unwrap_or_else(|e| e.to_string())
}

/// For kinds that keep nothing.
fn no_data(data: &[u8]) -> Result<(), KindError> {
    if data.is_empty() {
        Ok(())
    } else {
        Err(KindError::Data)
    }
}
