//! Which process serves which mount.
//!
//! A daemon names one of its threads after the device number of its mount (`mnt 0:54`), which any user may read in
//! /proc. So it is found whatever `-o fsname=` put into the mount table, and without a register that could be out
//! of date.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::sys::mount::{Dev, FS_TYPE, MountEntry, mounts};

/// The name of the thread that waits for signals. The kernel keeps 15 bytes of it, enough for any device number.
pub fn thread_name(dev: Dev) -> String {
    format!("mnt {dev}")
}

/// A running daemon; stays the same process even if its pid is given out again.
#[derive(Debug)]
pub struct Daemon {
    pub pid: Pid,
    process: OwnedFd,
}

impl Daemon {
    /// The daemon that serves `mount`, if it still runs and is visible (same pid namespace).
    pub fn of_mount(mount: &MountEntry) -> Option<Self> {
        let name = thread_name(mount.dev);
        let pid = processes()
            .filter(|&pid| owner(pid) == mount.user_id())
            .find(|&pid| thread_names(pid).any(|thread| thread == name))?;
        Self::watch(pid)
    }

    fn watch(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        Some(Self { pid, process })
    }

    /// Ends it the hard way.
    pub fn kill(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(
            &self.process,
            Signal::KILL,
        )?)
    }

    /// Waits until the process has ended. Answers whether it has.
    pub fn wait(&self, at_most: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + at_most;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).expect("a few seconds");
            let mut fds = [PollFd::new(&self.process, PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&timeout)) {
                Ok(ended) => return Ok(ended > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// The process that holds a `flock` on `file`, by the kernel's own list (proc(5), /proc/locks).
pub fn flock_holder(file: &Path) -> Option<u32> {
    let metadata = fs::metadata(file).ok()?;
    let device = metadata.dev();
    let id = format!(
        "{:02x}:{:02x}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device),
        metadata.ino()
    );
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (kind, _, _, pid) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        (kind == "FLOCK" && fields.next()? == id).then(|| pid.parse().ok())?
    })
}

/// What the process `pid` has mounted here.
pub fn mount_of(pid: u32) -> Option<MountEntry> {
    let names: Vec<String> = thread_names(pid).collect();
    mounts()
        .ok()?
        .into_iter()
        .find(|mount| mount.fs_type == FS_TYPE && names.contains(&thread_name(mount.dev)))
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn thread_names(pid: u32) -> impl Iterator<Item = String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    threads.filter_map(|thread| {
        Some(
            fs::read_to_string(thread.path().join("comm"))
                .ok()?
                .trim_end()
                .to_owned(),
        )
    })
}

/// Who runs a process. Not the owner of its directory in /proc: that is root for a process that is not dumpable.
fn owner(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| {
        line.strip_prefix("Uid:")?
            .split_ascii_whitespace()
            .next()?
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FlockOperation, flock};

    #[test]
    fn a_thread_name_fits_into_the_kernels_15_bytes() {
        assert!(
            thread_name(Dev {
                major: 0,
                minor: (1 << 20) - 1
            })
            .len()
                <= 15
        );
    }

    #[test]
    fn a_lock_leads_to_the_process_that_holds_it() {
        let path = std::env::temp_dir().join(format!("wardfs-lock-{}", std::process::id()));
        let file = fs::File::create(&path).expect("a file in the temporary directory");
        assert_eq!(flock_holder(&path), None);
        flock(&file, FlockOperation::NonBlockingLockExclusive).expect("nobody else locks it");
        let holder = flock_holder(&path);
        fs::remove_file(&path).expect("it was made above");
        assert_eq!(holder, Some(std::process::id()));
    }

    #[test]
    fn a_process_that_runs_is_not_waited_for_longer_than_told() {
        let own = Daemon::watch(std::process::id()).expect("this process runs");
        assert!(!own.wait(Duration::from_millis(1)).expect("poll"));
    }
}
