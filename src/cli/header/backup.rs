//! `wardfs header backup`: the header as a file.

use std::path::PathBuf;

use clap::Args;

use super::write_new;
use crate::cli::args::Verbosity;
use crate::cli::failure::{Failure, warn};
use crate::cli::output::print;
use crate::cli::place;
use crate::store::volume::Locked;

/// Copy the header of a vault into a file
///
/// Needs no secret. FILE must not exist yet. It opens with the secrets that the vault has now, also after they were
/// changed: destroy it when it is out of date.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs header backup ~/vault /media/stick/vault.header")]
pub struct BackupArgs {
    /// The vault's directory
    vault: PathBuf,

    /// A new file
    file: PathBuf,
}

pub fn run(args: &BackupArgs, verbosity: Verbosity) -> Result<(), Failure> {
    let vault = place::vault(&args.vault)?;
    let locked = Locked::open(&vault).map_err(|e| Failure::volume(&vault, &e))?;
    if locked.used_backup() {
        warn("the first copy of the volume header is damaged; this is the second one");
    }
    let file = args.file.display();
    write_new(&args.file, &locked.header().encode())
        .map_err(|e| Failure::io(format!("write {file}"), &e))?;
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    print(&format!(
        "Copied the header of {} to {file}; it opens with today's secrets for ever\n",
        args.vault.display()
    ))
}
