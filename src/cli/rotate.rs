//! `wardfs rotate`: a new content key, and all content sealed with it: here ([`content`]), or by the daemon of a mount
//! ([`online`]).

mod content;
mod kept;
mod names;
mod online;
mod report;
mod summary;
mod volume_key;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::args::Verbosity;
use super::exit::Exit;
use super::failure::Failure;
use super::key::session::{Closed, Refused};
use super::output::{iso_time, print};
use super::unlock::UnlockArgs;
use super::{place, recovered};
use crate::crypto::VolumeKeys;
use crate::format::volume::VolumeHeader;
use crate::keys::rotation::{Begun, RotationError};
use crate::store::disk::Atime;
use crate::store::lock::{LockError, Note, VaultLock};
use crate::store::volume::{Access, Options, VolumeError};
use crate::store::{Disk, Volume};
use volume_key::VolumeKeyArgs;

/// Encrypt all content anew with a new key
///
/// Adds a content key, encrypts every file with it, in place and through the journal, and destroys the old content key
/// when a walk through the whole vault has shown that nothing uses it any more. A mounted vault is rotated by its daemon
/// while it is used; this command watches, and Ctrl-C leaves the daemon at it. A rotation that was interrupted goes on
/// when the command is given again, and one that a daemon has begun also by itself at the next mount.
///
/// With --names, names are encrypted anew instead, with link targets and attributes; with --volume-key, the key of the
/// volume itself is replaced, at once, and nothing is encrypted anew. For both the vault must not be mounted.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs rotate ~/vault
  wardfs rotate /srv/scans --rate 50 --passphrase-file key
  wardfs rotate /srv/scans --json --keyfile key
  wardfs rotate /srv/scans --pause --keyfile key
  wardfs rotate /srv/scans --names --passphrase-file key
  wardfs rotate /srv/scans --volume-key --keep 2=recovery.txt --drop 3

Ends with 0 if nothing uses the old key any more, 27 or 28 if files were passed over because they
are damaged or cannot be read, and 29 if it was stopped, or goes on without this command; the old
key is kept then.")]
pub struct RotateArgs {
    /// The vault's directory
    vault: PathBuf,

    /// Read at most MIB MiB of content each second, and write no more than that
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,

    /// Rotate a vault without a journal: a power cut meanwhile may damage files; with --volume-key, leave no key slot that
    /// a person can open; with --names, pass over what is damaged
    #[arg(long)]
    force: bool,

    /// Let the rotation that is under way in a mount rest, also after the next mount, until it is started again
    #[arg(long, conflicts_with_all = ["rate", "force"])]
    pause: bool,

    /// Print progress, what was passed over, and at last the summary, each as one JSON object on a line of its own
    #[arg(long)]
    json: bool,

    /// Encrypt names, link targets and attributes anew, with a new key of names, and leave the content
    #[arg(long, conflicts_with = "rate")]
    names: bool,

    #[command(flatten)]
    volume_key: VolumeKeyArgs,

    #[command(flatten)]
    unlock: UnlockArgs,
}

/// What was said that holds for all rotations.
#[derive(Debug, Clone, Copy)]
struct How {
    force: bool,
    json: bool,
    verbosity: Verbosity,
}

pub fn run(args: &RotateArgs, verbosity: Verbosity) -> Result<Exit, Failure> {
    let closed = Closed::find(&args.vault)?;
    let vault = closed.vault.clone();
    // Held until the old keys are wiped, or kept.
    let how = How {
        force: args.force,
        json: args.json,
        verbosity,
    };
    if args.names {
        let _lock = lock_unmounted(&vault)?;
        return names::run(closed, &args.unlock, how);
    }
    if args.volume_key.volume_key {
        let _lock = lock_unmounted(&vault)?;
        return volume_key::run(closed, &args.volume_key, &args.unlock, how);
    }
    let lock = lock(&vault)?;
    if args.pause {
        return online::pause(closed, args, how, lock.is_none());
    }
    let Some(_lock) = lock else {
        return online::run(closed, args, how);
    };
    content::run(closed, args, how)
}

fn lock_unmounted(vault: &Path) -> Result<VaultLock, Failure> {
    VaultLock::acquire(vault, None, Note::Write).map_err(|e| match e {
        LockError::HeldBy(note) => place::in_use(vault, note).advise(
            "Its key can be replaced only while it is not mounted: unmount it first, with wardfs umount.",
        ),
        LockError::Io(e) => Failure::io(format!("lock {}", vault.display()), &e),
    })
}

/// `None` if the vault is mounted by a daemon that can rotate it.
fn lock(vault: &Path) -> Result<Option<VaultLock>, Failure> {
    match VaultLock::acquire(vault, None, Note::Write) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::HeldBy(note)) => online::check_permitted(vault, note).map(|()| None),
        Err(LockError::Io(e)) => Err(Failure::io(format!("lock {}", vault.display()), &e)),
    }
}

/// Opens the volume for writing, and says what had to be put in order for that.
fn open(
    vault: &Path,
    keys: &Arc<VolumeKeys>,
    header: &VolumeHeader,
    how: How,
) -> Result<Volume<Disk>, Failure> {
    let failed = |e| Failure::volume(vault, &e);
    let disk =
        Disk::open(vault, Atime::Keep).map_err(|e| failed(VolumeError::io("open the vault", e)))?;
    let (keys, options) = (Arc::clone(keys), Options::default());
    let volume =
        Volume::on(disk, None, keys, header, Access::ReadWrite, options).map_err(failed)?;
    if !how.json {
        recovered::print_report(&volume, false, how.verbosity)?;
    } else if !volume.recovered().is_empty() {
        let line = json!({ "recovered": recovered::named(&volume) });
        print(&format!("{line}\n"))?;
    }
    Ok(volume)
}

fn tell_begun(begun: &Begun, how: How) -> Result<(), Failure> {
    let since = iso_time(begun.since);
    if how.json {
        let line = json!({ "rotation": { "resumed": begun.resumed, "key_created": since } });
        return print(&format!("{line}\n"));
    }
    match begun.resumed && how.verbosity != Verbosity::Quiet {
        true => print(&format!(
            "A rotation is under way since {since}; it is finished, and no other is begun.\n"
        )),
        false => Ok(()),
    }
}

fn refused(e: RotationError) -> Refused {
    match e {
        RotationError::Unlock(e) => Refused::Volume(VolumeError::Unlock(e)),
        RotationError::NoEpochLeft => Refused::Other(
            Failure::new(
                Exit::Failed,
                format!("no further content key can be added: {e}"),
            )
            .advise("Copy the files into a new vault."),
        ),
        RotationError::OtherEpoch => Refused::Other(
            Failure::new(Exit::Failed, format!("the old content key is kept: {e}"))
                .advise("Start the rotation again."),
        ),
        RotationError::NotUnderWay => Refused::Other(Failure::new(
            Exit::Failed,
            format!("there is nothing to pause: {e}"),
        )),
    }
}
