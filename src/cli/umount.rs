//! `wardfs umount`: takes a mount away, and comes back when its daemon has finished with the vault.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::args::Verbosity;
use super::daemons::Daemon;
use super::exit::Exit;
use super::failure::Failure;
use super::output::print;
use super::place;
use crate::store::lock::VaultLock;
use crate::sys::holders::{Holder, holders};
use crate::sys::mount::{self, FS_TYPE, MountEntry, Unmount};

/// Time for the daemon to complete its files; what it writes then is on the disk when umount returns.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time for a daemon that has nothing left to do.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);

/// Take a mount away
///
/// When the command returns, everything written is in the vault and the vault can be copied or moved. A mount that
/// is in use is left as it is, and the programs that use it are listed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs umount ~/private
  wardfs umount --lazy ~/private     a program will not let go, or the daemon is gone
  wardfs umount --force ~/private    the daemon does not answer any more

With --lazy nothing is lost: the daemon goes on until the last program has closed its files.
With --force, what programs have written and not synced may be lost.")]
pub struct UmountArgs {
    /// Where the vault is mounted
    mountpoint: PathBuf,

    /// Hide the mount now, end it when the last program has closed its files
    #[arg(short, long)]
    lazy: bool,

    /// Break the connection to the daemon; unsynced data may be lost
    #[arg(short, long, conflicts_with = "lazy")]
    force: bool,
}

pub fn run(args: &UmountArgs, verbosity: Verbosity) -> Result<(), Failure> {
    let shown = args.mountpoint.display().to_string();
    let entry = find(&args.mountpoint)?;
    let how = match (args.lazy, args.force) {
        (true, _) => Unmount::Lazy,
        (_, true) => Unmount::Force,
        _ => Unmount::Plain,
    };
    // Found before it is unmounted: afterwards the daemon may end at any moment.
    let daemon = Daemon::of_mount(&entry);
    let users = if how == Unmount::Lazy {
        holders(&entry).unwrap_or_default()
    } else {
        Vec::new()
    };
    unmount(&entry, how).map_err(|e| refused(&shown, &entry, &e))?;
    let Some(daemon) = daemon else { return Ok(()) };
    let ended = |patience| {
        daemon
            .wait(patience)
            .map_err(|e| Failure::io("wait for the daemon", &e))
    };
    let has_ended = match how {
        Unmount::Plain => ended(PATIENCE)?,
        Unmount::Lazy => ended(SHORT_PATIENCE)?,
        // Without fusectl an ordinary user cannot break the connection; and a daemon that hangs does not see it.
        Unmount::Force => ended(SHORT_PATIENCE)? || (daemon.kill().is_ok() && ended(PATIENCE)?),
    };
    if has_ended {
        return Ok(());
    }
    let pid = daemon.pid;
    if how == Unmount::Lazy {
        if verbosity != Verbosity::Quiet {
            let users = if users.is_empty() {
                String::new()
            } else {
                format!(":\n{}", list(&users))
            };
            print(&format!(
                "{shown} is detached; process {pid} ends when the last program has let go{users}\n"
            ))?;
        }
        return Ok(());
    }
    Err(Failure::new(Exit::Unfinished, format!("{shown} is unmounted, but its daemon (process {pid}) is still at work"))
        .advise("Leave the vault alone until it ends. A mount in another namespace (container) also keeps it."))
}

/// A mount that nobody uses can be busy for a moment: while the last request is answered, or while somebody makes a mount
/// namespace, which copies it.
fn unmount(entry: &MountEntry, how: Unmount) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match mount::unmount(&entry.mountpoint, how) {
            Err(e)
                if e.kind() == io::ErrorKind::ResourceBusy
                    && begun.elapsed() < SHORT_PATIENCE
                    && holders(entry).is_ok_and(|users| users.is_empty()) =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

/// The mount meant by `typed`. The mounted filesystem is not asked: a dead one would not answer.
fn find(typed: &Path) -> Result<MountEntry, Failure> {
    let shown = typed.display();
    let path = resolve(typed).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Exit::NotMounted, format!("{shown} does not exist"))
        }
        _ => Failure::io(format!("find {shown}"), &e),
    })?;
    match mount::mount_at(&path).map_err(|e| Failure::io("read the mount table", &e))? {
        Some(entry) if entry.fs_type == FS_TYPE => Ok(entry),
        Some(entry) => {
            let source = entry.source.display();
            let message = format!(
                "{shown} is a mount of type {} ({source}), not of wardfs",
                entry.fs_type
            );
            Err(Failure::new(Exit::NotMounted, message)
                .advise(format!("To unmount it: umount {shown}")))
        }
        None => {
            let failure = Failure::new(Exit::NotMounted, format!("nothing is mounted at {shown}"));
            Err(match place_of_vault(&path) {
                Some(place) => {
                    let place = place.display();
                    failure.advise(format!(
                        "It is a vault, mounted at {place}: wardfs umount {place}"
                    ))
                }
                None => failure,
            })
        }
    }
}

/// Without symbolic links, but never looking behind the last component.
fn resolve(typed: &Path) -> io::Result<PathBuf> {
    match (typed.parent(), typed.file_name()) {
        (Some(parent), Some(name))
            if !fs::symlink_metadata(typed).is_ok_and(|m| m.is_symlink()) =>
        {
            let parent = if parent == Path::new("") {
                Path::new(".")
            } else {
                parent
            };
            let path = fs::canonicalize(parent)?.join(name);
            match rustix::fs::access(&path, rustix::fs::Access::EXISTS) {
                Err(rustix::io::Errno::NOENT) => Err(io::ErrorKind::NotFound.into()),
                _ => Ok(path),
            }
        }
        _ => fs::canonicalize(typed),
    }
}

fn place_of_vault(path: &Path) -> Option<PathBuf> {
    let note = VaultLock::holder(path).ok()??;
    place::holder(path, note)?.mountpoint
}

fn refused(shown: &str, entry: &MountEntry, error: &io::Error) -> Failure {
    let me = rustix::process::geteuid();
    if error.kind() == io::ErrorKind::ResourceBusy {
        return busy(shown, entry);
    }
    match entry.user_id() {
        Some(owner) if !me.is_root() && owner != me.as_raw() => Failure::new(
            Exit::NotPermitted,
            format!("{shown} was mounted by user {owner}"),
        )
        .advise("Only that user and root may unmount it."),
        _ => Failure::io(format!("unmount {shown}"), error),
    }
}

fn busy(shown: &str, entry: &MountEntry) -> Failure {
    let users = holders(entry).unwrap_or_default();
    let mut inner: Vec<String> = mount::mounts()
        .unwrap_or_default()
        .iter()
        .filter(|m| m.mountpoint != entry.mountpoint && m.mountpoint.starts_with(&entry.mountpoint))
        .map(|m| format!("  another mount: {}\n", m.mountpoint.display()))
        .collect();
    inner.push(list(&users));
    let inner = inner.concat();
    let who = if inner.is_empty() {
        " by processes that are not visible to this user".to_owned()
    } else {
        format!(" by\n{inner}")
    };
    Failure::new(Exit::Busy, format!("{shown} is in use{}", who.trim_end()))
        .advise("End these programs and try again; or 'wardfs umount --lazy', which hides the mount and ends it later.")
}

fn list(users: &[Holder]) -> String {
    let line = |user: &Holder| {
        let uses: Vec<&str> = user.uses.iter().map(|u| u.as_str()).collect();
        format!(
            "  process {} ({}): {}\n",
            user.pid,
            user.command,
            uses.join(", ")
        )
    };
    users.iter().map(line).collect()
}
