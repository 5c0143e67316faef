//! `wardfs key acknowledge`: that somebody knows of the openings with shares.

use std::path::PathBuf;

use clap::Args;

use super::session::Session;
use crate::cli::args::Verbosity;
use crate::cli::failure::Failure;
use crate::cli::output::{iso_time, print};
use crate::cli::unlock::UnlockArgs;
use crate::keys::slots;

/// Acknowledge that a vault was opened with shares
///
/// Every opening with shares is recorded in the vault, and everybody who opens it later is warned, until somebody with a
/// secret says here that he knows.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs key acknowledge /srv/scans")]
pub struct AcknowledgeArgs {
    /// The vault's directory
    vault: PathBuf,

    #[command(flatten)]
    unlock: UnlockArgs,
}

pub fn run(args: &AcknowledgeArgs, verbosity: Verbosity) -> Result<(), Failure> {
    let mut session = Session::open(&args.vault, &args.unlock)?;
    let openings = session.change(|header, key| Ok(slots::acknowledge(header, key)?))?;
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    if openings.is_empty() {
        return print("There was nothing to acknowledge\n");
    }
    let lines = openings.iter().map(|opening| {
        let at = iso_time(opening.at);
        format!(
            "Acknowledged: key slot {} was opened with shares at {at}\n",
            opening.slot
        )
    });
    print(&lines.collect::<String>())
}
