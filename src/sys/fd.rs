//! Descriptors this process was started with.
//!
//! Everything the process opens itself is an `OwnedFd` from the start and none of this module's business.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, RawFd};

use rustix::io::FdFlags;

/// Takes over descriptor `number`, given to this process by the one that started it. Standard input, output and
/// error are duplicated and stay open; any other is closed with the returned file.
///
/// # Errors
/// When it is not open, or was opened by this process itself.
pub fn inherited(number: RawFd) -> io::Result<File> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: used at once and only for fcntl(2), which answers EBADF if nothing is open there.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = rustix::io::fcntl_getfd(borrowed)?;
    if number <= 2 {
        return Ok(File::from(rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?));
    }
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    rustix::io::fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC)?;
    // SAFETY: it was open without FD_CLOEXEC, so it came through execve and nothing in this process owns it (all
    // that is opened here has the flag); with the flag set above, a second call cannot take it again.
    Ok(unsafe { File::from_raw_fd(number) })
}

/// Closes every descriptor but the standard three that came from the process that started this one, so that a daemon
/// does not keep the other end of someone's pipe open.
///
/// # Errors
/// When `/proc` is not there.
pub fn close_inherited() -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in open {
        // Our own, and the listing's, are refused.
        drop(inherited(number));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_is_not_open_or_is_our_own_is_refused() {
        assert!(inherited(-1).is_err());
        assert!(inherited(1_000_000).is_err());
        let own = File::open("/dev/null").expect("it exists");
        assert!(inherited(own.as_raw_fd()).is_err());
    }

    #[test]
    fn standard_input_stays_open() {
        drop(inherited(0));
        assert!(rustix::io::fcntl_getfd(io::stdin()).is_ok());
    }
}
