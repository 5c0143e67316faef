//! `wardfs passwd`: another secret for the key slot that the old one opens.

use std::path::PathBuf;

use clap::Args;

use super::args::Verbosity;
use super::failure::{Failure, warn};
use super::kdf::{self, KdfArgs, Weak};
use super::output::print;
use super::place;
use super::secret::{NewSecretArgs, Role, SecretArgs};
use crate::store::volume::Locked;
use crate::sys::secret::harden_process;

/// Change the passphrase or key file of a vault
///
/// Replaces the secret of the key slot that the old secret opens. The content is not encrypted anew: the slot holds
/// the key of the vault, and only the slot is written. It may be done while the vault is mounted.
///
/// A copy of the vault made earlier still opens with the old secret.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs passwd ~/vault
  wardfs passwd /srv/scans --keyfile old.key --new-keyfile new.key
  wardfs passwd /srv/scans --passphrase-file old --new-passphrase-file new

If $CREDENTIALS_DIRECTORY holds files 'wardfs.passphrase' and 'wardfs.new-passphrase' (systemd:
LoadCredential=), the passphrases are taken from them unless an option says otherwise.")]
pub struct PasswdArgs {
    /// The vault's directory
    vault: PathBuf,

    /// Accept a key derivation with less than 64 MiB of memory
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    secret: SecretArgs,

    #[command(flatten)]
    new_secret: NewSecretArgs,

    #[command(flatten)]
    kdf: KdfArgs,
}

pub fn run(args: &PasswdArgs, verbosity: Verbosity) -> Result<(), Failure> {
    harden_process();
    let vault = place::vault(&args.vault)?;
    let shown = args.vault.display().to_string();
    let failed = |e| Failure::volume(&vault, &e);
    let locked = Locked::open(&vault).map_err(failed)?;
    if locked.used_backup() {
        warn(
            "the first copy of the volume header is damaged; the second one is used, and both are written anew",
        );
    }
    let old = args
        .secret
        .plan(Role::Existing)
        .for_slots(&locked.header().slots)?;
    let new = args.new_secret.plan();
    old.check_apart_from(&new)?;
    // A wrong old secret is told before the new one is typed twice.
    let (_, old) = old.try_with(&shown, |secret| {
        locked.unlock(secret).map(drop).map_err(failed)
    })?;
    let weak = if args.force {
        Weak::Accept
    } else {
        Weak::Refuse
    };
    let chosen = args.kdf.choose(weak)?;
    let new = new.collect(&shown)?;
    // Read anew: somebody may have changed another slot while the passphrases were typed.
    let mut locked = Locked::open(&vault).map_err(failed)?;
    let slot = locked
        .change_secret(&old, &new, chosen.params)
        .map_err(failed)?;
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    print(&format!(
        "Changed key slot {slot} of {shown}: {}, {}\n",
        new.kind(),
        kdf::describe(&chosen.params)
    ))
}
