//! `wardfs mount`: checks the place, gets the secret, and serves the vault until it is unmounted.
//!
//! The order matters. All that can be refused without a secret is refused first, by the process the user started.
//! Then it forks, because neither keys, locked memory nor threads survive a fork; the child still owns the terminal,
//! asks, unlocks and mounts, and lets go of the terminal only when the mount is usable.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::args::{Reader, Verbosity};
use super::exit::Exit;
use super::failure::{Failure, READ_ONLY, warn};
use super::key::session::{self, Traces};
use super::log::{self as logging, Destination};
use super::policy::{self, Policy};
use super::serve::Serving;
use super::unlock::{Signals, UnlockArgs, Unlocked, Unlocker};
use super::{info, output, place, recovered};
use crate::crypto::VolumeKeys;
use crate::format::slot::Slot;
use crate::format::volume::{INCOMPATIBLE_JOURNAL, VolumeHeader};
use crate::fuse::options::MountOptions;
use crate::fuse::session as fuse_session;
use crate::keys::slots;
use crate::store::Disk;
use crate::store::disk::Atime;
use crate::store::lock::{LockError, Note, Rotation, VaultLock};
use crate::store::locked::HeaderLock;
use crate::store::upkeep::JournalMode;
use crate::store::volume::{Access, Locked, Options, Volume};
use crate::sys::daemon::{self, Forked, Outcome};
use crate::sys::secret::{harden_process, lock_all_memory};
use crate::sys::signals::{self, Signal};

/// Show the content of a vault as a folder
///
/// Mounts VAULT on MOUNTPOINT, an empty directory, and goes to the background. When the command returns, the mount can
/// be used; otherwise it has said why not. The daemon ends when the mount is unmounted: 'wardfs umount', umount(8),
/// or SIGTERM, SIGINT or SIGHUP to the daemon.
///
/// Ordinary users mount through fusermount3 and see their mounts alone; with -o allow_other others may enter, as far
/// as file modes let them.
///
/// Messages of the daemon go to the system log (journal), or to --log-file.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Mount options (-o), separated by commas:
  ro, rw                  change nothing, neither files nor vault [default: rw]
  allow_other             other users may enter (not root: needs user_allow_other in /etc/fuse.conf)
  default_permissions     check file modes also in a mount for root alone
  dev, nodev              device nodes work, or not [default: nodev; dev is for root]
  suid, nosuid            set-user-id is honoured, or not [default: nosuid; suid is for root]
  exec, noexec            programs can be run, or not [default: exec]
  noatime, relatime       reading does not change access times, or seldom [default: relatime]
  acl, noacl              POSIX access control lists are kept, or not [default: noacl]
  fsname=NAME             first column of the mount table [default: the vault's path]
  threads=N               requests worked on at the same time, 1 to 64 [default: 4]
  shared                  the vault may be changed by something else while mounted (a sync tool):
                          short cache lifetimes, nowriteback
  writeback, nowriteback  the kernel collects small writes, or not [default: writeback]
  entry_timeout=TIME      how long the kernel remembers that a name exists [default: 1h; shared: 1s]
  attr_timeout=TIME       how long it remembers sizes, modes and times [default: 1h; shared: 1s]
  negative_timeout=TIME   how long it remembers that a name does not exist [default: 1h; shared: 1s]
  TIME is in seconds, or a number with s, m or h. Words for mount(8) and systemd (defaults,
  noauto, user, nofail, _netdev, x-...) are accepted and ignored. Anything else is refused.

Examples:
  wardfs mount ~/vault ~/private
  wardfs mount /srv/scans /mnt/scans -o allow_other,noatime --keyfile /root/scans.key
  wardfs mount backup-copy /mnt/check -o ro
  wardfs mount -f ~/vault ~/private -v                                  stay and show what happens
  pass show vault | wardfs mount ~/vault ~/private --passphrase-fd 0

If $CREDENTIALS_DIRECTORY holds a file 'wardfs.passphrase' (systemd: LoadCredential=), the
passphrase is taken from it unless an option says otherwise.")]
pub struct MountArgs {
    /// The vault's directory
    vault: PathBuf,

    /// An empty directory outside the vault
    mountpoint: PathBuf,

    /// Mount options, separated by commas; 'wardfs help mount' lists them
    #[arg(short = 'o', value_name = "OPTIONS", action = clap::ArgAction::Append)]
    options: Vec<String>,

    /// Stay in the foreground; Ctrl-C unmounts
    #[arg(short, long)]
    foreground: bool,

    /// Append messages to FILE; without it, the daemon's go to the system log
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,

    /// Write through the redo journal, or not
    ///
    /// Without it a power cut may tear what is being overwritten, also bytes that were synced long ago. A vault that was
    /// made without a journal has none.
    #[arg(long, value_name = "full|off", default_value = "full", value_parser = super::init::journal_mode)]
    journal: JournalMode,

    /// VAULT is a copy that was made while the original was mounted
    ///
    /// Every file that was written meanwhile is checked, mended where the journal allows it, and named.
    #[arg(long)]
    copy: bool,

    /// Print what was mounted, and what had to be put in order first, as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    unlock: UnlockArgs,

    /// Refuse a key slot that has expired, instead of warning
    #[arg(long)]
    enforce_expiry: bool,
}

/// What the arguments mean, after everything was checked that can be without the secret.
struct Request {
    vault: PathBuf,
    mountpoint: PathBuf,
    /// The vault as it was typed.
    shown: String,
    options: MountOptions,
    journal: JournalMode,
    copy: bool,
    json: bool,
    unlocker: Unlocker,
    policy: Policy,
    enforce_expiry: bool,
    log_file: Option<File>,
    verbosity: Verbosity,
}

pub fn run(args: &MountArgs, verbosity: Verbosity) -> Result<Exit, Failure> {
    harden_process();
    let request = Request::checked(args, verbosity)?;
    if args.foreground {
        return serve_in_foreground(request).map(|()| Exit::Success);
    }
    match daemon::fork().map_err(|e| Failure::io("go to the background", &e))? {
        Forked::Parent(child) => {
            // Ctrl-C is for the child, which has the terminal to put in order; this process ends after it.
            let _blocked = signals::block(&[Signal::INT, Signal::QUIT])
                .map_err(|e| Failure::io("block signals", &e))?;
            let outcome = child
                .wait()
                .map_err(|e| Failure::io("wait for the daemon", &e))?;
            match outcome {
                Outcome::Ready => Ok(Exit::Success),
                Outcome::Failed(code) => Ok(Exit::from_number(code).unwrap_or(Exit::Failed)),
                Outcome::Died(Some(signal)) => Err(Failure::new(
                    Exit::Failed,
                    format!("the daemon was ended by signal {signal} before it had mounted"),
                )),
                Outcome::Died(None) => Err(Failure::new(
                    Exit::Failed,
                    "the daemon ended before it had mounted",
                )),
            }
        }
        Forked::Child(report) => Ok(serve_in_background(request, report)),
    }
}

impl Request {
    fn checked(args: &MountArgs, verbosity: Verbosity) -> Result<Self, Failure> {
        let options = MountOptions::parse(&args.options).map_err(|e| {
            Failure::new(Exit::Usage, e.to_string())
                .advise("'wardfs help mount' lists the mount options.")
        })?;
        let caller = place::caller();
        options
            .check_permitted(caller)
            .map_err(|e| Failure::new(Exit::NotPermitted, e.to_string()))?;
        let vault = place::vault(&args.vault)?;
        let locked = Locked::open(&vault).map_err(|e| Failure::volume(&vault, &e))?;
        place::free(&vault)?;
        let mountpoint = place::mountpoint(&args.mountpoint)?;
        place::apart(&vault, &mountpoint)?;
        place::empty(&mountpoint, caller)?;
        place::fuse_available(caller)?;
        let policy = Policy::load()?;
        let shown = args.vault.display().to_string();
        let header = locked.header();
        policy::enforce(&policy.of_vault(header, info::epoch_created(header)))?;
        let unlocker = args
            .unlock
            .plan(&vault, &shown, &header.slots, Signals::Held)?;
        let log_file = match &args.log_file {
            None => None,
            Some(path) => {
                let opened = logging::open_file(path);
                Some(opened.map_err(|e| {
                    Failure::io(format!("open the log file {}", path.display()), &e)
                })?)
            }
        };
        Ok(Self {
            vault,
            mountpoint,
            shown,
            options,
            journal: args.journal,
            copy: args.copy,
            json: args.json,
            unlocker,
            policy,
            enforce_expiry: args.enforce_expiry,
            log_file,
            verbosity,
        })
    }

    fn unlock(&self) -> Result<Unlocked, Failure> {
        let unlocked = self.unlocker.open()?;
        if self.enforce_expiry {
            session::enforce_expiry(&unlocked)?;
        }
        // Once more, now that what the header says is known to be true.
        let header = unlocked.locked.header();
        let epoch_created = unlocked.opened.epoch_created;
        policy::enforce(&self.policy.of_vault(header, epoch_created))?;
        let traces = if self.options.read_only {
            Traces::None
        } else {
            Traces::Leave
        };
        session::after_unlock(&self.vault, &unlocked, traces);
        Ok(unlocked)
    }

    /// The volume with the vault's lock held, and locked memory around it.
    fn open(&self, header: &VolumeHeader, keys: Arc<VolumeKeys>) -> Result<Volume<Disk>, Failure> {
        let failed = |e| Failure::volume(&self.vault, &e);
        let (access, atime, note) = if self.options.read_only {
            (Access::ReadOnly, Atime::Keep, Note::None)
        } else if self.options.noatime {
            (Access::ReadWrite, Atime::Keep, self.note(header))
        } else {
            (Access::ReadWrite, Atime::Backing, self.note(header))
        };
        if !lock_all_memory() {
            log::debug!("not all memory can be locked (see RLIMIT_MEMLOCK); keys are in any case");
        }
        let lock = self.lock(note)?;
        // Opening mends a header copy that fell behind, and nobody else may write the header meanwhile. Where the lock
        // cannot be had nobody else can write either.
        let _header_lock = match access {
            Access::ReadOnly => None,
            Access::ReadWrite => HeaderLock::acquire(&self.vault).ok(),
        };
        let shown = recovered::Shown::new();
        let options = Options {
            journal: self.journal,
            copy: self.copy,
            progress: &|progress| shown.show(progress),
            ..Options::default()
        };
        let how = (access, atime);
        Volume::open(&self.vault, lock, keys, header, how, options).map_err(failed)
    }

    fn note(&self, header: &VolumeHeader) -> Note {
        let has_journal = header.incompatible & INCOMPATIBLE_JOURNAL != 0;
        Note::Mount(match self.copy {
            true => Rotation::Copy,
            false if has_journal && self.journal == JournalMode::Full => Rotation::Online,
            false => Rotation::NoJournal,
        })
    }

    fn lock(&self, note: Note) -> Result<VaultLock, Failure> {
        const TRIES: usize = 5;

        let mut held_by = None;
        for _ in 0..TRIES {
            match VaultLock::acquire(&self.vault, Some(&self.mountpoint), note) {
                Ok(lock) => return Ok(lock),
                // It may be just somebody who asks who has it, as info does.
                Err(LockError::HeldBy(holder)) => held_by = holder,
                Err(LockError::Io(e)) => {
                    let failure =
                        Failure::io(format!("lock the vault {}", self.vault.display()), &e);
                    let read_only = e.kind() == io::ErrorKind::ReadOnlyFilesystem;
                    return Err(if read_only {
                        failure.advise(READ_ONLY)
                    } else {
                        failure
                    });
                }
            }
            place::free(&self.vault)?;
        }
        Err(place::in_use(&self.vault, held_by))
    }

    /// The mounted session, and the signals it will be ended by: blocked before the session starts any thread.
    fn mount(&self) -> Result<(Serving, Slot), Failure> {
        if let Err(e) = daemon::raise_open_file_limit() {
            log::warn!("the limit of open files stays as it is: {e}");
        }
        let unlocked = self.unlock()?;
        let slot = unlocked.slot().clone();
        let Unlocked { locked, opened, .. } = unlocked;
        if locked.used_backup() {
            warn("the first copy of the volume header is damaged; the second one was used");
        }
        let signals =
            signals::block(&signals::TERMINATION).map_err(|e| Failure::io("block signals", &e))?;
        let volume = self.open(locked.header(), Arc::new(opened.keys))?;
        if !self.json {
            recovered::print_report(&volume, self.copy, self.verbosity)?;
        }
        // A copy of a vault in use is for looking after: what was begun goes on in the original.
        let header_keys = (!self.copy).then(|| opened.key.header_keys());
        let vault = (&*self.vault, header_keys);
        let session = fuse_session::mount(volume, vault, &self.mountpoint, &self.options)
            .map_err(|e| Failure::mount(&self.mountpoint, &e))?;
        let serving = Serving::start(session, signals)?;
        if self.json {
            let printed = recovered::print_mounted(serving.volume(), &self.vault, &self.mountpoint);
            printed.inspect_err(|_| serving.give_up())?;
        }
        Ok((serving, slot))
    }

    fn log_mounted(&self, slot: &Slot) {
        log::info!(
            "mounted {} on {}",
            self.vault.display(),
            self.mountpoint.display()
        );
        if slots::breaks_glass(slot.kind) {
            log::warn!("it was opened with the shares of key slot {}", slot.id);
        }
    }
}

fn serve_in_foreground(mut request: Request) -> Result<(), Failure> {
    let reader = if request.log_file.is_some() {
        Reader::Later
    } else {
        Reader::Present
    };
    if let Some(file) = request.log_file.take() {
        logging::switch_to(Destination::File(file));
    }
    let (serving, slot) = request.mount()?;
    logging::raise(request.verbosity.level(reader));
    request.log_mounted(&slot);
    if request.verbosity != Verbosity::Quiet && !request.json {
        let place = request.mountpoint.display();
        output::print(&format!(
            "Mounted {} on {place}; Ctrl-C unmounts\n",
            request.shown
        ))?;
    }
    serving.run()
}

/// The child's whole life after the fork.
fn serve_in_background(mut request: Request, report: daemon::Report) -> Exit {
    let log_file = request.log_file.take();
    let (serving, slot) = match request.mount() {
        Ok(mounted) => mounted,
        Err(failure) => {
            failure.print();
            report.failed(failure.exit.number());
            return failure.exit;
        }
    };
    logging::switch_to(log_file.map_or(Destination::System, Destination::File));
    logging::raise(request.verbosity.level(Reader::Later));
    if let Err(e) = daemon::detach().and_then(|()| report.ready()) {
        log::error!("cannot go to the background: {e}");
        serving.give_up();
    }
    request.log_mounted(&slot);
    match serving.run() {
        Ok(()) => Exit::Success,
        Err(failure) => {
            log::error!("{failure}");
            failure.exit
        }
    }
}
