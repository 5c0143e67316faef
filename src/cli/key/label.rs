//! `wardfs key label`: what people say of a slot.

use std::path::PathBuf;

use clap::Args;

use super::session::{Session, named};
use crate::cli::args::Verbosity;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cli::unlock::UnlockArgs;
use crate::keys::slots::{self, Remarks};

/// As typed.
#[derive(Debug, Clone, Default, Args)]
pub struct RemarkArgs {
    /// A name for the key slot, readable for everybody
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,

    /// Whose it is, readable for everybody
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,

    /// The last day on which it should be used, as in 2027-12-31, or 'never'
    #[arg(long, value_name = "DATE", value_parser = expiry)]
    expires: Option<Expiry>,
}

/// The end of a day, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expiry(Option<i64>);

fn expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" {
        return Ok(Expiry(None));
    }
    let wrong = |_| "use a date as in 2027-12-31, or never".to_owned();
    let date: jiff::civil::Date = text.parse().map_err(wrong)?;
    let end = date.at(23, 59, 59, 0).to_zoned(jiff::tz::TimeZone::UTC);
    Ok(Expiry(Some(end.map_err(wrong)?.timestamp().as_second())))
}

impl RemarkArgs {
    /// Refused before anybody types a secret.
    pub fn check(&self) -> Result<(), Failure> {
        for (what, text) in [("label", &self.label), ("owner note", &self.owner)] {
            if text
                .as_ref()
                .is_some_and(|text| text.len() > crate::format::slot::MAX_LABEL)
            {
                let message = format!("the {what} is longer than 255 bytes");
                return Err(Failure::new(Exit::Usage, message));
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.label.is_none() && self.owner.is_none() && self.expires.is_none()
    }

    /// With what was not given as it is.
    pub fn over(&self, old: Remarks) -> Remarks {
        Remarks {
            label: self.label.clone().unwrap_or(old.label),
            owner: self.owner.clone().unwrap_or(old.owner),
            expires: self.expires.map_or(old.expires, |Expiry(at)| at),
        }
    }
}

/// Change label, owner note and expiry of a key slot
///
/// Asks for any secret of the vault. What is not given stays as it is.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs key label ~/vault 2 --label laptop --owner 'A. Keeper'
  wardfs key label ~/vault 2 --expires 2027-12-31
  wardfs key label ~/vault 2 --expires never")]
pub struct LabelArgs {
    /// The vault's directory
    vault: PathBuf,

    /// The key slot, as 'wardfs key list' numbers it
    id: u32,

    #[command(flatten)]
    remarks: RemarkArgs,

    #[command(flatten)]
    unlock: UnlockArgs,
}

pub fn run(args: &LabelArgs, verbosity: Verbosity) -> Result<(), Failure> {
    args.remarks.check()?;
    if args.remarks.is_empty() {
        return Err(Failure::new(Exit::Usage, "nothing is to be changed")
            .advise("Use --label, --owner or --expires."));
    }
    let mut session = Session::open(&args.vault, &args.unlock)?;
    session.slot(args.id)?;
    session.change(|header, key| {
        let slot = header.slots.iter().find(|slot| slot.id == args.id);
        let slot = slot.ok_or(slots::ChangeError::NoSuchSlot(args.id))?;
        let old = Remarks {
            label: slot.label.clone(),
            owner: slot.owner.clone(),
            expires: slot.expires,
        };
        Ok(slots::remark(header, key, args.id, args.remarks.over(old))?)
    })?;
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let slot = named(session.slot(args.id)?);
    print(&format!(
        "Changed what is said of {slot} of {}\n",
        session.shown
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_the_end_of_a_day() {
        assert_eq!(expiry("1970-01-01"), Ok(Expiry(Some(86_399))));
        assert_eq!(expiry("never"), Ok(Expiry(None)));
        for bad in ["", "tomorrow", "2027-13-01", "2027-02-30"] {
            assert!(expiry(bad).is_err(), "{bad}");
        }
    }
}
