//! What opens a new slot: any kind that a slot can have.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::secret::{NewSecretArgs, SecretPlan};
use crate::cli::unlock::{Words, words};
use crate::format::slot::SlotKind;
use crate::keys::kind::{
    Command, Credential, DEFAULT_TIMEOUT, Kind, KindError, MAX_TIMEOUT, Recovery, Shares,
    StoredCommand,
};

/// As typed.
#[derive(Debug, Clone, Default, Args)]
pub struct NewKindArgs {
    #[command(flatten)]
    secret: NewSecretArgs,

    #[command(flatten)]
    other: OtherKinds,
}

/// As typed: kinds other than passphrase and key file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Other kinds of new secrets")]
struct OtherKinds {
    /// Make a recovery key: 256 random bits to be kept on paper, shown once
    #[arg(long, group = "new-kind", conflicts_with_all = ["new-passphrase", "new_keyfile"])]
    recovery: bool,
    /// Make a key in N shares of which any M open the vault; each is shown once
    #[arg(long, value_name = "M/N", value_parser = threshold, group = "new-kind", conflicts_with_all = ["new-passphrase", "new_keyfile"])]
    shares: Option<(u8, u8)>,
    /// Use what COMMAND writes to its standard output; it is split into words and run without a shell
    #[arg(long, value_name = "COMMAND", value_parser = words, group = "new-kind", conflicts_with_all = ["new-passphrase", "new_keyfile"])]
    new_key_command: Option<Words>,
    /// Seconds that the key command may take, 1 to 3600 [default: 60]
    #[arg(long, value_name = "SECONDS", requires = "new_key_command", value_parser = clap::value_parser!(u16).range(1..=MAX_TIMEOUT.as_secs() as i64))]
    key_timeout: Option<u16>,
    /// Use the file NAME, any bytes, of the directory in which the service manager hands over credentials
    #[arg(long, value_name = "NAME", group = "new-kind", conflicts_with_all = ["new-passphrase", "new_keyfile"])]
    new_credential: Option<String>,
}

fn threshold(text: &str) -> Result<(u8, u8), String> {
    let parsed = text.split_once('/').and_then(|(need, all)| {
        let numbers: (u8, u8) = (need.parse().ok()?, all.parse().ok()?);
        (2..=numbers.1).contains(&numbers.0).then_some(numbers)
    });
    parsed.ok_or_else(|| KindError::Threshold.to_string())
}

/// What the options mean.
#[derive(Debug)]
pub enum NewKind {
    Asked(SecretPlan),
    Ready(Box<dyn Kind>),
}

impl NewKindArgs {
    pub fn plan(&self) -> Result<NewKind, Failure> {
        let other = &self.other;
        let ready: Box<dyn Kind> = if other.recovery {
            Box::new(Recovery::default())
        } else if let Some(new) = other.shares {
            Box::new(Shares {
                new: Some(new),
                given: Vec::new(),
            })
        } else if let Some(Words(argv)) = &other.new_key_command {
            let timeout = other.key_timeout.map(u64::from).map(Duration::from_secs);
            let command = StoredCommand {
                argv: argv.clone(),
                timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            };
            command
                .check()
                .map_err(|e| Failure::new(Exit::Usage, e.to_string()))?;
            let permitted = Vec::new();
            Box::new(Command {
                new: Some(command),
                permitted,
            })
        } else if let Some(name) = &other.new_credential {
            let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                Failure::new(Exit::NoSecret, "there are no credentials here")
                    .advise("The service manager sets $CREDENTIALS_DIRECTORY; see LoadCredential= in systemd.exec(5).")
            })?;
            Box::new(Credential {
                directory: PathBuf::from(directory),
                name: name.clone(),
            })
        } else {
            return Ok(NewKind::Asked(self.secret.plan()));
        };
        Ok(NewKind::Ready(ready))
    }

    /// Keys that will be printed.
    pub fn printed(&self) -> usize {
        match (self.other.recovery, self.other.shares) {
            (true, _) => 1,
            (false, Some((_, all))) => usize::from(all),
            (false, None) => 0,
        }
    }
}

impl NewKind {
    pub fn kind(&self) -> SlotKind {
        match self {
            Self::Asked(plan) => plan.kind(),
            Self::Ready(kind) => kind.kind(),
        }
    }

    /// Reads or asks for what is not there yet.
    pub fn collect(self, shown: &str) -> Result<Box<dyn Kind>, Failure> {
        match self {
            Self::Asked(plan) => plan.collect_kind(shown),
            Self::Ready(kind) => Ok(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_as_m_of_n() {
        assert_eq!(threshold("3/5"), Ok((3, 5)));
        assert_eq!(threshold("2/255"), Ok((2, 255)));
        for bad in ["", "3", "1/5", "6/5", "3/256", "a/b", "3/5/7"] {
            assert!(threshold(bad).is_err(), "{bad}");
        }
    }
}
