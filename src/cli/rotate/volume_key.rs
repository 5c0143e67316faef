//! `wardfs rotate --volume-key`: another volume key, with the key slots whose secrets are at hand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::kept::{self, Asked, Dropped, Sorted};
use super::{How, open};
use crate::cli::args::Verbosity;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, warn};
use crate::cli::key::session::{Closed, Session, named};
use crate::cli::output::print;
use crate::cli::policy::{self, Policy, Violation};
use crate::cli::secret;
use crate::cli::unlock::{UnlockArgs, Unlocked, Words, words};
use crate::crypto::VolumeKeys;
use crate::format::slot::Slot;
use crate::keys::rekey::{Kept, RekeyError, replace_key};
use crate::keys::slots::{ChangeError, Lockout};
use crate::store::rekey::Installed;
use crate::store::volume::{Locked, VolumeError};

/// As typed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Another volume key")]
pub struct VolumeKeyArgs {
    /// Replace the key of the volume itself, and drop every key slot whose secret is not given
    #[arg(long, conflicts_with_all = ["rate", "names"])]
    pub volume_key: bool,
    /// Keep key slot ID, whose secret is in FILE: a passphrase, a key file, a recovery key or a share, as its kind wants it;
    /// said once for each file, a passphrase before the key files that belong to it
    #[arg(long, value_name = "ID=FILE", value_parser = slot_and_file, requires = "volume_key")]
    keep: Vec<(u32, PathBuf)>,
    /// Keep key slots of this key command, and run it
    #[arg(long, value_name = "COMMAND", value_parser = words, requires = "volume_key")]
    keep_command: Vec<Words>,
    /// Drop key slot ID without asking
    #[arg(long, value_name = "ID", requires = "volume_key")]
    drop: Vec<u32>,
}

fn slot_and_file(text: &str) -> Result<(u32, PathBuf), String> {
    let parts = text.split_once('=').filter(|(_, file)| !file.is_empty());
    let parsed = parts.and_then(|(id, file)| Some((id.parse().ok()?, file.into())));
    parsed.ok_or_else(|| "it is told as ID=FILE, as in 2=/media/stick/key".to_owned())
}

/// The vault is locked by the caller until this returns.
pub(super) fn run(
    closed: Closed,
    args: &VolumeKeyArgs,
    unlock: &UnlockArgs,
    how: How,
) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let session = closed.open(unlock)?;
    let Session {
        vault,
        shown,
        policy,
        unlocked,
    } = session;
    if unlocked.opened.keys.next_names().is_some() {
        return Err(Failure::volume(&vault, &VolumeError::NamesUnderWay));
    }
    // Opening it may have left a note in the header.
    let locked = Locked::open(&vault).map_err(|e| Failure::volume(&vault, &e))?;
    check_ids(args, &unlocked, locked.header().slots.as_slice())?;
    let asked = Asked {
        vault: &vault,
        locked: &locked,
        unlocked: &unlocked,
        files: &args.keep,
        commands: args.keep_command.iter().map(|w| w.0.clone()).collect(),
        drop: &args.drop,
    };
    let Sorted {
        kept: secrets,
        dropped,
    } = kept::collect(&asked)?;
    let kept: Vec<Kept<'_>> = secrets
        .iter()
        .map(|(slot, secret)| Kept {
            slot: *slot,
            secret,
        })
        .collect();
    let is_kept = |slot: &&Slot| kept.iter().any(|kept| kept.slot == slot.id);
    enforce(&policy, locked.header().slots.iter().filter(is_kept))?;
    let lockout = match how.force {
        true => Lockout::Accept,
        false => Lockout::Refuse,
    };
    if !dropped.is_empty() {
        confirm(&dropped, how)?;
    }
    let new = replace_key(locked.header(), &unlocked.opened.key, &kept, lockout);
    let new = new.map_err(|e| refused(&vault, e))?;
    let old_keys = settle(&vault, &locked, unlocked.opened.keys, how)?;
    let old = (&unlocked.opened.key, &*old_keys);
    let installed = locked.install(&vault, locked.header(), old, &new);
    match installed.map_err(|e| Failure::volume(&vault, &e))? {
        Installed::Done => {}
        Installed::Outdated => {
            let message = "the volume header was changed by somebody else just now";
            return Err(Failure::new(Exit::Failed, message).advise("Try again."));
        }
    }
    tell(&shown, &kept, &dropped, begun, how)
}

fn check_ids(args: &VolumeKeyArgs, unlocked: &Unlocked, slots: &[Slot]) -> Result<(), Failure> {
    let opens = unlocked.opened.slot;
    for id in args.keep.iter().map(|(id, _)| id).chain(&args.drop) {
        if !slots.iter().any(|slot| slot.id == *id) {
            let message = format!("there is no key slot {id}");
            return Err(Failure::new(Exit::NoSuchSlot, message)
                .advise("'wardfs key list' shows which there are."));
        }
    }
    if let Some(both) = args
        .drop
        .iter()
        .find(|id| args.keep.iter().any(|(k, _)| k == *id))
    {
        let message = format!("key slot {both} cannot be both kept and dropped");
        return Err(Failure::new(Exit::Usage, message));
    }
    if args.drop.contains(&opens) {
        let message = format!("key slot {opens} is the one that opens the vault now, and is kept");
        return Err(Failure::new(Exit::Usage, message)
            .advise("Open the vault with the secret of another slot to drop this one."));
    }
    Ok(())
}

/// What is written anew has to be allowed.
fn enforce<'a>(
    policy: &Policy,
    kept: impl Iterator<Item = &'a Slot> + Clone,
) -> Result<(), Failure> {
    let mut broken = policy.of_recovery(kept.clone());
    for slot in kept {
        let of_slot = policy.of_slot(slot.kind, &slot.kdf).into_iter();
        broken.extend(of_slot.map(|v| Violation {
            what: format!("{}: {}", named(slot), v.what),
            ..v
        }));
    }
    policy::enforce(&broken)
}

/// Lists what is to go, and asks unless each was named.
fn confirm(dropped: &[Dropped<'_>], how: How) -> Result<(), Failure> {
    let lines: String = dropped.iter().map(|d| format!("  {d}\n")).collect();
    let list = format!("These key slots will not open the vault any more:\n{lines}");
    let unnamed: Vec<&Dropped<'_>> = dropped.iter().filter(|d| !d.was_told).collect();
    if unnamed.is_empty() {
        return match how.json || how.verbosity == Verbosity::Quiet {
            true => Ok(()),
            false => print(&list),
        };
    }
    let ids: Vec<String> = unnamed
        .iter()
        .map(|d| format!("--drop {}", d.slot.id))
        .collect();
    let unconfirmed = || {
        Failure::new(
            Exit::NotConfirmed,
            format!("the volume key is left as it is. {}", list.trim_end()),
        )
    };
    let advice = format!(
        "Scripts say so: {}; or --keep ID=FILE with its secret.",
        ids.join(" ")
    );
    let terminal = secret::terminal().map_err(|_| unconfirmed().advise(advice))?;
    terminal
        .say(list.trim_end())
        .map_err(|e| Failure::io("write to the terminal", &e))?;
    match terminal.ask("Replace the volume key? Type yes to go on: ") {
        Ok(answer) if answer == "yes" => Ok(()),
        _ => Err(Failure::new(
            Exit::NotConfirmed,
            "the volume key is left as it is",
        )),
    }
}

/// Puts the volume in order and closes it: nothing may be left in the journal, which the new key cannot read.
pub(super) fn settle(
    vault: &Path,
    locked: &Locked,
    keys: VolumeKeys,
    how: How,
) -> Result<Arc<VolumeKeys>, Failure> {
    let keys = Arc::new(keys);
    let volume = open(vault, &keys, locked.header(), how)?;
    volume.close(None).map_err(|e| {
        Failure::new(
            Exit::Failed,
            format!("cannot put {} in order: {e}", vault.display()),
        )
    })?;
    Ok(keys)
}

fn refused(vault: &Path, error: RekeyError) -> Failure {
    match error {
        RekeyError::Change(e @ ChangeError::LastForPeople(_)) => {
            let failure = Failure::change(vault, &e);
            Failure::new(failure.exit, format!("{}: no key slot would be left that a person can open", vault.display()))
                .advise("Give the secret of one (--keep ID=FILE), or say --force and rely on the machine alone.")
        }
        RekeyError::Change(e) => Failure::change(vault, &e),
        RekeyError::Unlock(e) => Failure::volume(vault, &VolumeError::Unlock(e)),
    }
}

fn tell(
    shown: &str,
    kept: &[Kept<'_>],
    dropped: &[Dropped<'_>],
    begun: Instant,
    how: How,
) -> Result<Exit, Failure> {
    let kept: Vec<u32> = kept.iter().map(|kept| kept.slot).collect();
    if how.json {
        let dropped: Vec<u32> = dropped.iter().map(|d| d.slot.id).collect();
        let line = json!({
            "summary": "complete",
            "volume_key": "replaced",
            "kept": kept,
            "dropped": dropped,
            "seconds": begun.elapsed().as_secs_f64(),
        });
        return print(&format!("{line}\n")).map(|()| Exit::Success);
    }
    if how.verbosity == Verbosity::Quiet {
        return Ok(Exit::Success);
    }
    let ids: Vec<String> = kept.iter().map(u32::to_string).collect();
    let slots = match ids.len() {
        1 => "key slot",
        _ => "key slots",
    };
    print(&format!(
        "Replaced the volume key of {shown}; it opens with {slots} {}\n",
        ids.join(", ")
    ))?;
    warn(format!(
        "copies of the header from before still open with the old secrets, and hold the content keys of today: \
         'wardfs rotate {shown}' replaces those, and 'wardfs rotate --names {shown}' that of names; destroy the copies and make a new one: wardfs header backup"
    ));
    Ok(Exit::Success)
}
