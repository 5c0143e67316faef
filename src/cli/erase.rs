//! `wardfs erase`: destroys the keys of a vault, and with them everything in it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::args::Verbosity;
use super::exit::Exit;
use super::failure::Failure;
use super::output::{print, printable};
use super::{place, secret};
use crate::store::header_care::{copies, destroy};

/// Destroy a vault
///
/// Overwrites and removes both copies of the volume header and with them every key slot. Nothing opens the vault any
/// more: no passphrase, no recovery key, nobody. It takes a moment, whatever the size of the vault, and needs no secret.
/// The encrypted files stay and can be deleted as usual.
///
/// It cannot reach copies: backups of the vault or of its header, snapshots, and what a disk keeps by itself. On SSDs,
/// and on filesystems that copy on write (btrfs, ZFS), the overwritten bytes may survive in places that no program
/// can write to.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs erase /srv/scans
  wardfs erase /srv/scans --yes-destroy 'CT 2'      for scripts; the label of the vault is CT 2")]
pub struct EraseArgs {
    /// The vault's directory
    vault: PathBuf,

    /// Do not ask; LABEL is the vault's label, or the name of its directory if it has none
    #[arg(long, value_name = "LABEL")]
    yes_destroy: Option<String>,
}

pub fn run(args: &EraseArgs, verbosity: Verbosity) -> Result<(), Failure> {
    let vault = place::vault(&args.vault)?;
    let shown = args.vault.display();
    let copies = copies(&vault);
    if copies.iter().all(|copy| copy.bytes.is_err()) {
        return Err(Failure::new(
            Exit::NotAVault,
            format!("{shown} is not a wardfs vault, or was destroyed already"),
        ));
    }
    place::free(&vault)?;
    let header = copies.iter().find_map(|copy| copy.header().ok());
    let label = header
        .map(|header| header.label)
        .filter(|label| !label.is_empty());
    let name = label.unwrap_or_else(|| directory_name(&vault));
    let typed = match &args.yes_destroy {
        Some(typed) => typed.clone(),
        None => ask(&shown.to_string(), &name)?,
    };
    if typed != name {
        let message = format!("{shown} is left as it is: its label was not given");
        return Err(Failure::new(Exit::NotConfirmed, message));
    }
    destroy(&vault).map_err(|e| Failure::io(format!("destroy all keys of {shown}"), &e))?;
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    print(&format!(
        "Destroyed the keys of {shown}\n\
         Copies of the vault or of its header still open with their secrets: backups, snapshots,\n\
         and what an SSD or a filesystem that copies on write may have kept\n"
    ))
}

fn directory_name(vault: &Path) -> String {
    let name = vault.file_name().unwrap_or(vault.as_os_str());
    name.to_string_lossy().into_owned()
}

fn ask(shown: &str, name: &str) -> Result<String, Failure> {
    let unasked = |e| {
        Failure::new(Exit::NotConfirmed, format!("there is nobody to ask: {e}"))
            .advise("Scripts say --yes-destroy LABEL.")
    };
    let terminal =
        secret::terminal().map_err(|e| Failure::new(Exit::NotConfirmed, e.to_string()))?;
    let name = printable(name);
    terminal
        .say(&format!(
            "This destroys everything in {shown}, for everybody and for ever."
        ))
        .map_err(unasked)?;
    terminal
        .ask(&format!("Type the name of the vault to go on ({name}): "))
        .map_err(unasked)
}
