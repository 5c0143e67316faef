//! Signals as something to wait for, instead of something that interrupts.
//!
//! A set of signals is blocked for the calling thread and every thread it starts later, and read from a
//! descriptor. This module installs no handlers and decides nothing about what a signal means.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
pub use rustix::process::Signal;

/// The signals that ask a daemon to end.
pub const TERMINATION: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// Keeps the signals blocked in the thread that made it; pending ones are delivered when it is dropped.
#[derive(Debug)]
pub struct Blocked {
    previous: libc::sigset_t,
    /// The mask belongs to one thread, so the guard must be dropped there.
    not_send: PhantomData<*const ()>,
}

/// Becomes readable when one of the blocked signals is pending for the process.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// Blocks `signals` in this thread (and in threads started from it later) and opens a descriptor for them.
pub fn block(signals: &[Signal]) -> io::Result<(Blocked, SignalFd)> {
    let set = set_of(signals);
    // SAFETY: `set` is initialised and lives across the call; signalfd(2) makes a new descriptor or fails.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just made by signalfd(2) and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let previous = change_mask(libc::SIG_BLOCK, &set)?;
    Ok((
        Blocked {
            previous,
            not_send: PhantomData,
        },
        SignalFd(fd),
    ))
}

impl Drop for Blocked {
    fn drop(&mut self) {
        change_mask(libc::SIG_SETMASK, &self.previous).expect("a mask that was in force is valid");
    }
}

impl SignalFd {
    /// Waits for one of the signals and takes it.
    pub fn wait(&self) -> io::Result<Signal> {
        loop {
            let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
            let n = rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut record))?;
            // ssi_signo is the first field (signalfd(2)); the kernel only hands over whole records.
            let number = u32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
            if let Some(signal) = i32::try_from(number)
                .ok()
                .filter(|_| n == record.len())
                .and_then(Signal::from_named_raw)
            {
                return Ok(signal);
            }
        }
    }

    /// Whether one is pending; does not take it.
    pub fn is_pending(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        Ok(rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&now)))? > 0)
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain bits, for which all zeros is a value; sigemptyset then gives it its meaning.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid sigset_t and the numbers come from named signals, so neither call can fail.
    unsafe {
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, signal.as_raw());
        }
    }
    set
}

fn change_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    let mut previous = set_of(&[]);
    // SAFETY: both pointers are to live sigset_t values; only this thread's mask changes.
    match unsafe { libc::pthread_sigmask(how, set, &raw mut previous) } {
        0 => Ok(previous),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_waits_on_the_descriptor() {
        // SIGWINCH is ignored by default, so a mistake here does not end the test run.
        let (_guard, fd) = block(&[Signal::WINCH]).expect("signalfd");
        assert!(!fd.is_pending().expect("poll"));
        // SAFETY: raise() only sends a signal to the calling thread, and SIGWINCH is harmless.
        assert_eq!(unsafe { libc::raise(libc::SIGWINCH) }, 0);
        assert!(fd.is_pending().expect("poll"));
        assert_eq!(fd.wait().expect("read"), Signal::WINCH);
        assert!(!fd.is_pending().expect("poll"));
    }

    #[test]
    fn the_mask_comes_back_when_the_guard_goes() {
        let before = change_mask(libc::SIG_BLOCK, &set_of(&[])).expect("query");
        drop(block(&TERMINATION).expect("signalfd"));
        let after = change_mask(libc::SIG_BLOCK, &set_of(&[])).expect("query");
        for signal in TERMINATION {
            // SAFETY: both sets are initialised and the signal number is valid.
            let (a, b) = unsafe {
                (
                    libc::sigismember(&raw const before, signal.as_raw()),
                    libc::sigismember(&raw const after, signal.as_raw()),
                )
            };
            assert_eq!(a, b);
        }
    }
}
