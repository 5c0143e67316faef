//! `wardfs key test`: whether a secret opens the vault, and which slot.

use std::path::PathBuf;

use clap::Args;

use super::session::{Session, named};
use crate::cli::args::Verbosity;
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cli::unlock::UnlockArgs;

/// Test whether a secret opens a vault
///
/// Opens the vault as mount would, verifies its header, and says which key slot it was. A recovery key or shares should
/// be tested now and then, before they are needed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs key test ~/vault
  wardfs key test ~/vault --ask-recovery-key
  wardfs key test ~/vault --share a.txt --share b.txt --share c.txt")]
pub struct TestArgs {
    /// The vault's directory
    vault: PathBuf,

    #[command(flatten)]
    unlock: UnlockArgs,
}

pub fn run(args: &TestArgs, verbosity: Verbosity) -> Result<(), Failure> {
    let session = Session::open(&args.vault, &args.unlock)?;
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let slot = session.unlocked.slot();
    print(&format!(
        "Opens {} of {}: {}\n",
        named(slot),
        session.shown,
        slot.kind
    ))
}
