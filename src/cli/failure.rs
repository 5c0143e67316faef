//! What a verb says when it cannot do its work: one sentence, perhaps a piece of advice, and the exit code.
//!
//! Here the errors of the layers below get their exit codes. No message ever holds a secret.

use std::fmt;
use std::io;
use std::path::Path;

use super::exit::Exit;
use crate::fuse::session::MountError;
use crate::keys::header::UnlockError;
use crate::keys::kind::KindError;
use crate::keys::slots::ChangeError;
use crate::store::volume::VolumeError;
use crate::sys::mount::FuseMountError;

/// Advice for a vault on read-only media.
pub const READ_ONLY: &str = "It can be mounted for reading, with -o ro.";

#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    message: String,
    advice: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            advice: None,
        }
    }

    /// What the user can do about it; a whole sentence.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// An error of the system without an exit code of its own. `what` completes "cannot …".
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::NotPermitted,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("cannot {what}: {error}"))
    }

    /// What happened to the vault in `dir`.
    pub fn volume(dir: &Path, error: &VolumeError) -> Self {
        let dir = dir.display();
        match error {
            VolumeError::NotAVault => Self::new(Exit::NotAVault, format!("{dir} is not a wardfs vault"))
                .advise("A vault is made in a directory that is empty or new: wardfs init DIRECTORY"),
            VolumeError::NotEmpty => Self::new(Exit::NotEmpty, format!("{dir} is not empty"))
                .advise("A new vault needs a directory that is empty or does not exist yet."),
            VolumeError::HeaderDamaged(_) => Self::new(Exit::HeaderDamaged, format!("{dir}: {error}")).advise(
                "Bring it back from a backup: wardfs header restore. Without a whole header no secret can open the vault.",
            ),
            VolumeError::NamesUnderWay => Self::new(Exit::NamesUnderWay, format!("{dir}: {error}"))
                .advise(format!("Nothing is lost; this finishes it: wardfs rotate --names {dir}")),
            VolumeError::Recovery(_) | VolumeError::Unrecovered(_) => {
                Self::new(Exit::Failed, format!("{dir}: {error}"))
            }
            VolumeError::Unsupported(_) => Self::new(Exit::Unsupported, format!("{dir}: {error}")),
            VolumeError::Unlock(UnlockError::WrongSecret) => {
                Self::new(Exit::WrongSecret, format!("wrong passphrase or key file for {dir}"))
            }
            VolumeError::Unlock(UnlockError::NoSuchSlot(_)) => Self::new(Exit::NoSuchSlot, format!("{dir}: {error}"))
                .advise(format!("To see which there are: wardfs key list {dir}")),
            VolumeError::Unlock(UnlockError::TooCostly) => Self::new(Exit::KeyDerivation, format!("{dir}: {error}"))
                .advise("Name the one that the secret opens: --slot ID"),
            VolumeError::Unlock(UnlockError::NoSlotFor(_)) => Self::new(Exit::WrongSecret, format!("{dir}: {error}")),
            VolumeError::Unlock(UnlockError::Tampered) => Self::new(Exit::Tampered, format!("{dir}: {error}"))
                .advise("Do not trust this copy of the vault; bring its header back from a backup: wardfs header restore"),
            VolumeError::Unlock(UnlockError::Kdf(_)) => Self::new(Exit::KeyDerivation, format!("{dir}: {error}")),
            VolumeError::Unlock(UnlockError::Invalid(_)) => Self::new(Exit::Usage, format!("{dir}: {error}")),
            VolumeError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::new(Exit::NotPermitted, format!("{dir}: {error}"))
            }
            VolumeError::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Self::new(Exit::Failed, format!("{dir}: {error}")).advise(READ_ONLY)
            }
            VolumeError::InvalidChunkSize(_) => Self::new(Exit::Usage, format!("{dir}: {error}")),
            VolumeError::Io { .. } => Self::new(Exit::Failed, format!("{dir}: {error}")),
        }
    }

    /// Why a kind of secret could not be had.
    pub fn kind(error: &KindError) -> Self {
        let exit = match error {
            KindError::Threshold => Exit::Usage,
            KindError::Data => Exit::Tampered,
            KindError::Command(_) => Exit::NotPermitted,
            _ => Exit::NoSecret,
        };
        Self::new(exit, error.to_string())
    }

    /// Why the slots of the vault in `dir` were not changed.
    pub fn change(dir: &Path, error: &ChangeError) -> Self {
        let dir = dir.display();
        let exit = match error {
            ChangeError::NoSuchSlot(_) | ChangeError::Full => Exit::NoSuchSlot,
            ChangeError::LastForPeople(_) | ChangeError::Last(_) => Exit::LastSlot,
            ChangeError::Kdf(_) => Exit::KeyDerivation,
            ChangeError::Invalid(_) => Exit::Usage,
        };
        let failure = Self::new(exit, format!("{dir}: {error}"));
        match error {
            ChangeError::NoSuchSlot(_) => {
                failure.advise(format!("To see which there are: wardfs key list {dir}"))
            }
            ChangeError::Full => failure.advise("Remove one first: wardfs key remove"),
            ChangeError::LastForPeople(_) => failure.advise(
                "Add another first (wardfs key add), or say --force and rely on the machine alone.",
            ),
            ChangeError::Last(_) => {
                failure.advise(format!("To destroy the vault: wardfs erase {dir}"))
            }
            _ => failure,
        }
    }

    /// Why there is no mount at `place`. What could be checked beforehand has a better sentence in `place`.
    pub fn mount(place: &Path, error: &MountError) -> Self {
        let message = format!("cannot mount on {}: {error}", place.display());
        match error {
            MountError::Mount(FuseMountError::Device(_) | FuseMountError::NoHelper) => {
                Self::new(Exit::NoFuse, message)
            }
            MountError::Mount(FuseMountError::Mount(e))
                if e.kind() == io::ErrorKind::PermissionDenied =>
            {
                Self::new(Exit::NoFuse, message)
                    .advise("In a container, mounting needs the capability SYS_ADMIN.")
            }
            MountError::Mount(FuseMountError::Helper(words))
                if words.contains("no write access") =>
            {
                Self::new(Exit::BadMountpoint, message)
                    .advise("Users other than root mount on directories of their own.")
            }
            MountError::Mount(FuseMountError::Helper(_)) => Self::new(Exit::NotPermitted, message),
            _ => Self::new(Exit::Failed, message),
        }
    }

    /// On standard error, the advice indented on a line of its own.
    pub fn print(&self) {
        eprintln!("wardfs: {self}");
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.advice {
            Some(advice) => write!(f, "\n        {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// A warning on standard error, for what the user should know although the work went on.
pub fn warn(message: impl fmt::Display) {
    eprintln!("wardfs: warning: {message}");
}
