//! `wardfs header`: looking after the volume header, without which nothing in a vault can be read.

mod backup;
mod restore;
mod verify;

use clap::{Args, Subcommand};

use super::args::Verbosity;
use super::failure::Failure;

/// Back up, restore and verify the header of a vault
///
/// The header holds the key slots. It is stored twice, and a copy in another place is cheap: a few kilobytes. But each
/// copy opens with the secrets that the vault had when it was made.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs header backup ~/vault /media/stick/vault.header
  wardfs header verify ~/vault
  wardfs header restore ~/vault /media/stick/vault.header")]
pub struct HeaderArgs {
    #[command(subcommand)]
    verb: HeaderVerb,
}

#[derive(Debug, Subcommand)]
enum HeaderVerb {
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Verify(verify::VerifyArgs),
}

pub fn run(args: &HeaderArgs, verbosity: Verbosity) -> Result<(), Failure> {
    match &args.verb {
        HeaderVerb::Backup(args) => backup::run(args, verbosity),
        HeaderVerb::Restore(args) => restore::run(args, verbosity),
        HeaderVerb::Verify(args) => verify::run(args, verbosity),
    }
}

/// A new file that only its owner may read.
fn write_new(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
