//! `wardfs key add`: another key slot.

use std::path::PathBuf;

use clap::Args;

use super::label::RemarkArgs;
use super::new_secret::{NewKind, NewKindArgs};
use super::session::{Closed, Session};
use super::show::QrArgs;
use crate::cli::args::Verbosity;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::info::uuid;
use crate::cli::kdf::{self, KdfArgs, Weak};
use crate::cli::output::{print, printable};
use crate::cli::unlock::UnlockArgs;
use crate::format::slot::{Kdf, MAX_SLOTS, Slot, SlotKind};
use crate::keys::kind::{Created, ShareSet};
use crate::keys::slots::{self, ChangeError, Lockout, Opener, Remarks};

/// Add a key slot
///
/// Asks for any secret of the vault, then for the new one, unless options say where they are. There are up to 64 key
/// slots.
///
/// A recovery key and shares are made by this command and shown once, after the slot is written: they should be printed
/// or written down, tested ('wardfs key test'), and kept where the vault is not.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs key add ~/vault --label laptop --new-keyfile /media/stick/key
  wardfs key add ~/vault --recovery --qr
  wardfs key add /srv/scans --shares 3/5 --owner 'board of the clinic'
  wardfs key add /srv/scans --new-key-command '/usr/bin/systemd-creds decrypt /etc/scans.cred -'

A vault that is to open with a credential of its service (systemd: LoadCredential=scans.key:...):
  wardfs key add /srv/scans --new-credential scans.key --passphrase-file /root/scans.passphrase")]
pub struct AddArgs {
    /// The vault's directory
    vault: PathBuf,

    /// Accept a key derivation with less than 64 MiB of memory
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    remarks: RemarkArgs,

    #[command(flatten)]
    unlock: UnlockArgs,

    #[command(flatten)]
    new: NewKindArgs,

    #[command(flatten)]
    qr: QrArgs,

    #[command(flatten)]
    kdf: KdfArgs,
}

pub fn run(args: &AddArgs, verbosity: Verbosity) -> Result<(), Failure> {
    args.remarks.check()?;
    if args.qr.is_told() && args.new.printed() == 0 {
        let message = "a QR code is only for a recovery key and for shares";
        return Err(Failure::new(Exit::Usage, message));
    }
    let closed = Closed::find(&args.vault)?;
    if closed.locked.header().slots.len() >= MAX_SLOTS {
        return Err(Failure::change(&closed.vault, &ChangeError::Full));
    }
    let new = args.new.plan()?;
    if let NewKind::Asked(plan) = &new {
        args.unlock.secret_plan().check_apart_from(plan)?;
    }
    let mut session = closed.open(&args.unlock)?;
    let kdf = match new.kind() {
        // Random keys: nothing is gained by making each guess expensive.
        SlotKind::Recovery | SlotKind::Shares => Kdf::HkdfSha256,
        _ => Kdf::Argon2id(args.kdf.choose(Weak::accepted(args.force))?.params),
    };
    session.check_slot(new.kind(), &kdf)?;
    let show = args.qr.prepare(args.new.printed())?;
    let kind = new.collect(&session.shown)?;
    let mut created = kind.create().map_err(|e| Failure::kind(&e))?;
    let id = session.change(|header, key| {
        let opener = Opener {
            secret: &created.secret,
            data: std::mem::take(&mut created.data),
            kdf,
        };
        let remarks = args.remarks.over(Remarks::default());
        Ok(slots::add(header, key, opener, remarks)?)
    })?;
    if created.printed.is_empty() && verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let slot = session.slot(id)?.clone();
    let cost = match &slot.kdf {
        Kdf::Argon2id(params) => format!(", {}", kdf::describe(params)),
        Kdf::HkdfSha256 => String::new(),
    };
    let shown = print(&format!(
        "Added key slot {id} to {}: {}{cost}\n",
        session.shown, slot.kind
    ))
    .and_then(|()| {
        let titles = titles(&session, &slot, &created);
        show.show(&titles.into_iter().zip(&created.printed).collect::<Vec<_>>())
    });
    if let Err(failure) = shown {
        // A key that nobody has seen opens nothing: the slot would only seem to be a way in.
        if !created.printed.is_empty() {
            session.change(|header, key| Ok(slots::remove(header, key, id, Lockout::Accept)?))?;
        }
        return Err(failure);
    }
    match slot.kind {
        SlotKind::Recovery => print(
            "It is shown only now. Print it or write it down, and keep it where the vault is not.\n",
        ),
        SlotKind::Shares => print(
            "They are shown only now. Give each to another person; opening the vault with them is recorded.\n",
        ),
        _ => Ok(()),
    }
}

/// What stands above each printed key.
fn titles(session: &Session, slot: &Slot, created: &Created) -> Vec<String> {
    let header = session.unlocked.locked.header();
    let label = match header.label.as_str() {
        "" => String::new(),
        label => format!(" '{}'", printable(label)),
    };
    let vault = format!(
        "wardfs vault{label} {}, key slot {}",
        uuid(&header.uuid),
        slot.id
    );
    match ShareSet::decode(&slot.data) {
        Ok(set) if slot.kind == SlotKind::Shares => {
            let ShareSet { need, all, .. } = set;
            let numbers = 1..=created.printed.len();
            let title = |n| format!("Share {n} of {all}, any {need} open it: {vault}");
            numbers.map(title).collect()
        }
        _ => vec![format!("Recovery key: {vault}")],
    }
}
