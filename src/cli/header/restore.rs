//! `wardfs header restore`: a backed-up header back into its vault.

use std::path::{Path, PathBuf};

use clap::Args;

use super::write_new;
use crate::cli::args::Verbosity;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, warn};
use crate::cli::info::uuid;
use crate::cli::key::session::named;
use crate::cli::output::{iso_time, print, printable};
use crate::cli::policy::{self, Policy};
use crate::cli::unlock::{Signals, UnlockArgs, Unlocked};
use crate::cli::{place, secret};
use crate::format::volume::VolumeHeader;
use crate::keys::header as keyed;
use crate::store::header_care::{copies, read_bytes, tree_belongs_to};
use crate::store::volume::Locked;
use crate::sys::secret::harden_process;

/// Put a backed-up header back into its vault
///
/// Asks for a secret that opens the header in FILE, shows how it differs from the one in the vault, and refuses a header
/// of another vault. The header that is replaced is kept in a file beside FILE; destroy it when all is well.
///
/// The secrets that the vault had when the header was backed up open it again, and those made since do not.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs header restore ~/vault /media/stick/vault.header
  wardfs header restore ~/vault /media/stick/vault.header --yes --passphrase-file old")]
pub struct RestoreArgs {
    /// The vault's directory
    vault: PathBuf,

    /// The header, as 'wardfs header backup' wrote it
    file: PathBuf,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Restore also a header that lacks keys with which content was written since; that content is lost
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    unlock: UnlockArgs,
}

pub fn run(args: &RestoreArgs, verbosity: Verbosity) -> Result<(), Failure> {
    harden_process();
    let vault = place::vault(&args.vault)?;
    let policy = Policy::load()?;
    let restored = read_backup(&args.file)?;
    let found = copies(&vault);
    let current = found.iter().find_map(|copy| copy.header().ok());
    if let Some(current) = &current
        && current.uuid != restored.uuid
    {
        return Err(other_vault(args, &restored));
    }
    enforce(&policy, &restored)?;
    let shown = args.file.display().to_string();
    let unlocker = args
        .unlock
        .plan(&vault, &shown, &restored.slots, Signals::Free)?
        .for_header(restored.clone());
    let unlocked = unlocker.open()?;
    if !belongs(&vault, &unlocked, current.is_some())? {
        return Err(match &current {
            // The same vault, as the comparison above has shown.
            Some(_) => names_rotated(args),
            None => other_vault(args, &restored),
        });
    }
    if let Some(current) = &current {
        check_epochs(args, current, &unlocked)?;
    }
    let differences = differences(current.as_ref(), &restored);
    if verbosity != Verbosity::Quiet || !args.yes {
        print(&differences)?;
    }
    if !args.yes {
        confirm()?;
    }
    let bytes = found.iter().find_map(|copy| copy.bytes.as_ref().ok());
    let kept = bytes.map(|bytes| keep(&args.file, bytes)).transpose()?;
    Locked::put_back(&vault, &restored).map_err(|e| Failure::volume(&vault, &e))?;
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let kept = kept.map_or_else(String::new, |path| {
        format!("The header it had is kept in {}\n", path.display())
    });
    print(&format!(
        "Restored the header of {}\n{kept}",
        args.vault.display()
    ))
}

fn read_backup(file: &Path) -> Result<VolumeHeader, Failure> {
    let shown = file.display();
    let bytes = read_bytes(file).map_err(|e| Failure::io(format!("read {shown}"), &e))?;
    VolumeHeader::decode(&bytes).map_err(|e| {
        let exit = if e.is_unsupported() {
            Exit::Unsupported
        } else {
            Exit::HeaderDamaged
        };
        Failure::new(exit, format!("{shown} holds no whole header: {e}"))
    })
}

/// What is restored has to be allowed, but for its age: that can be mended afterwards.
fn enforce(policy: &Policy, restored: &VolumeHeader) -> Result<(), Failure> {
    let mut broken = policy.of_cipher(restored.cipher);
    for slot in &restored.slots {
        broken.extend(policy.of_slot(slot.kind, &slot.kdf));
    }
    broken.extend(policy.of_recovery(restored.slots.iter()));
    policy::enforce(&broken)
}

/// Whether the key in the restored header is the one that the tree was made with.
fn belongs(vault: &Path, unlocked: &Unlocked, same_uuid: bool) -> Result<bool, Failure> {
    match tree_belongs_to(vault, &unlocked.opened.keys) {
        Ok(belongs) => Ok(belongs),
        // A vault without its root's id has it in another place; then the uuid has to do.
        Err(_) if same_uuid => Ok(true),
        Err(e) => Err(Failure::io(
            "see whether the header belongs to this vault",
            &e,
        )),
    }
}

fn names_rotated(args: &RestoreArgs) -> Failure {
    let message = format!(
        "{} is a header of this vault from before its names were encrypted anew (wardfs rotate --names), and cannot read them",
        args.file.display()
    );
    Failure::new(Exit::OtherVault, message)
        .advise("A backup of the header from after that is needed.")
}

fn other_vault(args: &RestoreArgs, restored: &VolumeHeader) -> Failure {
    let (file, vault) = (args.file.display(), args.vault.display());
    let message = format!(
        "{file} is the header of another vault ({})",
        uuid(&restored.uuid)
    );
    Failure::new(Exit::OtherVault, message)
        .advise(format!("To see which one this is: wardfs info {vault}"))
}

/// That the restored header has every content key that the vault has now.
fn check_epochs(
    args: &RestoreArgs,
    current: &VolumeHeader,
    unlocked: &Unlocked,
) -> Result<(), Failure> {
    let key = &unlocked.opened.key;
    let Ok(missing) = keyed::lacking(unlocked.locked.header(), current, key) else {
        warn(
            "the header in the vault was not written with the key of this one: the volume key was replaced since \
             (wardfs rotate --volume-key), or somebody without the key wrote it",
        );
        return Ok(());
    };
    if missing == 0 || args.force {
        return Ok(());
    }
    let message =
        format!("content keys were added since this header was backed up ({missing} of them)");
    Err(Failure::new(Exit::Failed, message).advise(
        "What was written with them could not be read any more. --force restores it all the same.",
    ))
}

/// One line for each thing that changes.
fn differences(current: Option<&VolumeHeader>, restored: &VolumeHeader) -> String {
    let Some(current) = current else {
        let slots = restored.slots.len();
        return format!(
            "Both copies in the vault are damaged; the header to restore has {slots} key slots\n"
        );
    };
    let mut text = String::new();
    if current.label != restored.label {
        let (old, new) = (printable(&current.label), printable(&restored.label));
        text += &format!("label: '{old}' becomes '{new}'\n");
    }
    for slot in &current.slots {
        let name = named(slot);
        match restored.slots.iter().find(|s| s.id == slot.id) {
            None => text += &format!("{name} ({}) opens the vault no more\n", slot.kind),
            Some(old) if old.salt != slot.salt => {
                let at = iso_time(old.changed);
                text += &format!("{name} ({}) opens with its secret of {at}\n", old.kind);
            }
            Some(old) if old != slot => text += &format!("{name}: what is said of it changes\n"),
            Some(_) => {}
        }
    }
    for slot in &restored.slots {
        if !current.slots.iter().any(|s| s.id == slot.id) {
            text += &format!("{} ({}) opens the vault again\n", named(slot), slot.kind);
        }
    }
    if text.is_empty() {
        text += "The header to restore does not differ in its key slots\n";
    }
    text
}

fn confirm() -> Result<(), Failure> {
    let unconfirmed = || Failure::new(Exit::NotConfirmed, "the header is left as it is");
    let terminal = secret::terminal().map_err(|_| unconfirmed().advise("Scripts say --yes."))?;
    match terminal.ask("Restore it? Type yes to go on: ") {
        Ok(answer) if answer == "yes" => Ok(()),
        _ => Err(unconfirmed()),
    }
}

/// The bytes of the replaced header, beside the backup.
fn keep(file: &Path, bytes: &[u8]) -> Result<PathBuf, Failure> {
    let mut number = 0;
    loop {
        let mut path = file.to_owned().into_os_string();
        path.push(".replaced");
        if number > 0 {
            path.push(format!("-{number}"));
        }
        let path = PathBuf::from(path);
        match write_new(&path, bytes) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            Err(e) => return Err(Failure::io(format!("write {}", path.display()), &e)),
        }
    }
}
