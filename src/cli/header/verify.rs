//! `wardfs header verify`: whether both copies of the header are whole and authentic.

use std::path::PathBuf;

use clap::Args;

use crate::cli::args::Verbosity;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, warn};
use crate::cli::key::session::Closed;
use crate::cli::output::print;
use crate::cli::place;
use crate::cli::unlock::UnlockArgs;
use crate::store::header_care::copies;

/// Verify both copies of the header of a vault
///
/// Opens the vault and checks that its header was written by somebody with the key. A copy that is damaged or out of
/// date is then written anew from the other one.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs header verify ~/vault
  wardfs header verify ~/vault --checksum-only")]
pub struct VerifyArgs {
    /// The vault's directory
    vault: PathBuf,

    /// Look for damage only: needs no secret, changes nothing, does not notice tampering
    #[arg(long)]
    checksum_only: bool,

    #[command(flatten)]
    unlock: UnlockArgs,
}

pub fn run(args: &VerifyArgs, verbosity: Verbosity) -> Result<(), Failure> {
    let vault = place::vault(&args.vault)?;
    let found = copies(&vault);
    let mut damaged = 0;
    for copy in &found {
        let path = copy.path.display();
        match (&copy.bytes, copy.header()) {
            (Err(e), _) => warn(format!("{path} cannot be read: {e}")),
            (Ok(_), Err(Some(e))) => warn(format!("{path} is damaged: {e}")),
            _ => continue,
        }
        damaged += 1;
    }
    let [first, second] = found.each_ref().map(|copy| copy.bytes.as_ref().ok());
    let differ = damaged == 0 && first != second;
    if differ {
        warn("the two copies differ: one is out of date");
    }
    if args.checksum_only {
        if damaged > 0 || differ {
            let message = format!("{damaged} of 2 copies are damaged");
            return Err(Failure::new(Exit::HeaderDamaged, message)
                .advise("Whoever mounts the vault, or verifies it with its secret, mends them."));
        }
    } else {
        let session = Closed::find(&args.vault)?.open(&args.unlock)?;
        if damaged > 0 || differ {
            let healed = session.unlocked.locked.heal(&vault);
            healed.map_err(|e| Failure::volume(&vault, &e))?;
        }
    }
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let how = match (args.checksum_only, damaged > 0 || differ) {
        (true, _) => "whole (not authenticated)",
        (false, false) => "whole and authentic",
        (false, true) => "whole and authentic again",
    };
    print(&format!(
        "Both copies of the header of {} are {how}\n",
        args.vault.display()
    ))
}
