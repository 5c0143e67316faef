//! `wardfs key remove`: a key slot less.

use std::path::PathBuf;

use clap::Args;

use super::session::{Session, named};
use crate::cli::args::Verbosity;
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cli::policy;
use crate::cli::unlock::UnlockArgs;
use crate::keys::slots::{self, Lockout};

/// Remove a key slot
///
/// Asks for any secret of the vault. What the slot's secret was then opens nothing any more, but for copies of the
/// vault, or of its header, that were made earlier.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs key list ~/vault
  wardfs key remove ~/vault 3")]
pub struct RemoveArgs {
    /// The vault's directory
    vault: PathBuf,

    /// The key slot to remove, as 'wardfs key list' numbers it
    id: u32,

    /// Remove also the last slot that a person can open
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    unlock: UnlockArgs,
}

pub fn run(args: &RemoveArgs, verbosity: Verbosity) -> Result<(), Failure> {
    let mut session = Session::open(&args.vault, &args.unlock)?;
    session.slot(args.id)?;
    let left = session.unlocked.locked.header().slots.iter();
    policy::enforce(
        &session
            .policy
            .of_recovery(left.filter(|slot| slot.id != args.id)),
    )?;
    let lockout = if args.force {
        Lockout::Accept
    } else {
        Lockout::Refuse
    };
    let removed =
        session.change(|header, key| Ok(slots::remove(header, key, args.id, lockout)?))?;
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    print(&format!(
        "Removed {} of {}; copies of the vault made earlier still open with it\n",
        named(&removed),
        session.shown
    ))
}
