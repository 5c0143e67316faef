//! A running mount: the session that answers the kernel, and the thread that turns signals into a clean unmount.

use std::io;
use std::sync::mpsc::channel;
use std::thread;

use super::daemons;
use super::exit::Exit;
use super::failure::Failure;
use crate::fuse::session::Session;
use crate::store::{Disk, Volume};
use crate::sys::holders::holders;
use crate::sys::mount::{self, Mounted, Unmount};
use crate::sys::signals::{Blocked, SignalFd};

/// Termination signals are blocked and watched while it lives.
#[derive(Debug)]
pub struct Serving {
    session: Session,
    mounted: Mounted,
    _blocked: Blocked,
}

impl Serving {
    /// Starts the thread that waits for signals. Its name is how `wardfs umount` finds this process.
    pub fn start(
        session: Session,
        (blocked, pending): (Blocked, SignalFd),
    ) -> Result<Self, Failure> {
        let serving = Self {
            mounted: session.mounted(),
            session,
            _blocked: blocked,
        };
        let mounted = serving.mounted.clone();
        // The name is set by the thread itself, and must be there before anybody looks for it.
        let (named, is_named) = channel::<()>();
        let spawned = thread::Builder::new()
            .name(daemons::thread_name(mounted.dev))
            .spawn(move || {
                drop(named);
                watch(&pending, &mounted);
            });
        if let Err(e) = spawned {
            serving.give_up();
            return Err(Failure::io("start a thread", &e));
        }
        is_named.recv().expect_err("nothing is sent, only dropped");
        Ok(serving)
    }

    /// The mounted volume.
    pub fn volume(&self) -> &Volume<Disk> {
        self.session.volume()
    }

    /// Answers the kernel until the mount is gone.
    pub fn run(self) -> Result<(), Failure> {
        let place = self.mounted.mountpoint.display();
        let served = self.session.run();
        // Still there when the connection was aborted or has failed: without a daemon it would only be in the way.
        if self.mounted.is_in_place().unwrap_or(false) {
            let _ = mount::unmount(&self.mounted.mountpoint, Unmount::Lazy);
        }
        served.map_err(|e| {
            Failure::new(
                Exit::Failed,
                format!("the mount on {place} has failed: {e}"),
            )
        })?;
        log::info!("unmounted {place}");
        Ok(())
    }

    /// Takes the mount away although nobody asked.
    pub fn give_up(&self) {
        unmount(&self.mounted);
    }
}

fn watch(pending: &SignalFd, mounted: &Mounted) {
    loop {
        match pending.wait() {
            Ok(signal) => {
                log::info!(
                    "unmounting {} on signal {}",
                    mounted.mountpoint.display(),
                    signal.as_raw()
                );
                unmount(mounted);
            }
            Err(e) => {
                log::error!("signals cannot be received any more: {e}");
                return;
            }
        }
    }
}

/// Plain if nobody uses it. Otherwise it goes from the tree now, and the daemon serves on until the last user leaves:
/// whoever ends the machine waits for that, and nothing written is lost.
fn unmount(mounted: &Mounted) {
    let place = mounted.mountpoint.display();
    match mounted.unmount(Unmount::Plain) {
        Ok(()) => return,
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy => log_holders(mounted),
        Err(e) => log::warn!("{place}: {e}"),
    }
    // Logged before: this process may end as soon as it is detached.
    log::warn!("detaching {place}; this process ends when the last program has let go of it");
    if let Err(e) = mounted.unmount(Unmount::Lazy) {
        log::error!("cannot unmount {place}: {e}");
    }
}

fn log_holders(mounted: &Mounted) {
    let mine = |entries: Vec<mount::MountEntry>| {
        entries.into_iter().find(|entry| entry.dev == mounted.dev)
    };
    let Ok(Some(entry)) = mount::mounts().map(mine) else {
        return;
    };
    for holder in holders(&entry).unwrap_or_default() {
        log::warn!(
            "{} is in use by process {} ({})",
            mounted.mountpoint.display(),
            holder.pid,
            holder.command
        );
    }
}
