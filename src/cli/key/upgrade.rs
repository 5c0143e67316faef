//! `wardfs key upgrade`: the key derivation of a slot, at today's cost.

use std::path::PathBuf;

use clap::Args;

use super::session::{Session, named, unchanged};
use crate::cli::args::Verbosity;
use crate::cli::failure::Failure;
use crate::cli::kdf::{self, KdfArgs, Weak};
use crate::cli::output::print;
use crate::cli::unlock::UnlockArgs;
use crate::format::slot::Kdf;
use crate::keys::slots::{self, Opener};

/// Make the key derivation of a slot as expensive as it should be today
///
/// The slot is the one that the secret opens; its secret stays the same. Without options of its own the cost is
/// measured as for a new slot.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs key upgrade ~/vault
  wardfs key upgrade ~/vault --slot 2 --kdf-memory 1G")]
pub struct UpgradeArgs {
    /// The vault's directory
    vault: PathBuf,

    /// Accept a key derivation with less than 64 MiB of memory
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    unlock: UnlockArgs,

    #[command(flatten)]
    kdf: KdfArgs,
}

pub fn run(args: &UpgradeArgs, verbosity: Verbosity) -> Result<(), Failure> {
    let mut session = Session::open(&args.vault, &args.unlock)?;
    let slot = session.unlocked.slot().clone();
    if session.unlocked.secret.is_random() {
        return print(&format!(
            "{} is a random key: its derivation costs nothing and need not\n",
            named(&slot)
        ));
    }
    let chosen = args.kdf.choose(Weak::accepted(args.force))?;
    let kdf = Kdf::Argon2id(chosen.params);
    session.check_slot(slot.kind, &kdf)?;
    let secret = session.unlocked.secret.copy();
    session.change(|header, key| {
        unchanged(header, &slot)?;
        let opener = Opener {
            secret: &secret,
            data: slot.data.clone(),
            kdf,
        };
        Ok(slots::replace(header, key, slot.id, opener)?)
    })?;
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    print(&format!(
        "Upgraded {} of {}: {}\n",
        named(&slot),
        session.shown,
        kdf::describe(&chosen.params)
    ))
}
