//! `wardfs key change`, also known as `wardfs passwd`: another secret for the key slot that the old one opens.

use std::path::PathBuf;

use clap::Args;

use super::session::{Closed, unchanged};
use crate::cli::args::Verbosity;
use crate::cli::failure::Failure;
use crate::cli::kdf::{self, KdfArgs, Weak};
use crate::cli::output::print;
use crate::cli::secret::NewSecretArgs;
use crate::cli::unlock::UnlockArgs;
use crate::format::slot::Kdf;
use crate::keys::slots::{self, Opener};

/// Change the passphrase or key file of a vault
///
/// Replaces the secret of the key slot that the old secret opens. The content is not encrypted anew: the slot holds
/// the key of the vault, and only the slot is written. It may be done while the vault is mounted.
///
/// A copy of the vault made earlier still opens with the old secret.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs key change ~/vault
  wardfs passwd ~/vault                        the same
  wardfs key change /srv/scans --keyfile old.key --new-keyfile new.key
  wardfs key change /srv/scans --passphrase-file old --new-passphrase-file new

If $CREDENTIALS_DIRECTORY holds files 'wardfs.passphrase' and 'wardfs.new-passphrase' (systemd:
LoadCredential=), the passphrases are taken from them unless an option says otherwise.")]
pub struct ChangeArgs {
    /// The vault's directory
    vault: PathBuf,

    /// Accept a key derivation with less than 64 MiB of memory
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    unlock: UnlockArgs,

    #[command(flatten)]
    new_secret: NewSecretArgs,

    #[command(flatten)]
    kdf: KdfArgs,
}

pub fn run(args: &ChangeArgs, verbosity: Verbosity) -> Result<(), Failure> {
    let closed = Closed::find(&args.vault)?;
    let plan = args.new_secret.plan();
    args.unlock.secret_plan().check_apart_from(&plan)?;
    // A wrong old secret is told before the new one is typed twice.
    let mut session = closed.open(&args.unlock)?;
    let chosen = args.kdf.choose(Weak::accepted(args.force))?;
    let kdf = Kdf::Argon2id(chosen.params);
    session.check_slot(plan.kind(), &kdf)?;
    let new = plan.collect(&session.shown)?;
    let slot = session.unlocked.slot().clone();
    session.change(|header, key| {
        unchanged(header, &slot)?;
        let opener = Opener {
            secret: &new,
            data: Vec::new(),
            kdf,
        };
        Ok(slots::replace(header, key, slot.id, opener)?)
    })?;
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    print(&format!(
        "Changed key slot {} of {}: {}, {}\n",
        slot.id,
        session.shown,
        new.kind(),
        kdf::describe(&chosen.params)
    ))
}
