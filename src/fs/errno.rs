//! The one place where an error becomes an errno, and is logged if someone must know: by inode, never by name.

use crate::fs::error::Error;
use crate::store::Error as Store;

/// The errno for `error`, met at inode `ino`.
pub fn errno(ino: u64, error: &Error) -> i32 {
    match error {
        Error::Store(e) => store_errno(ino, e),
        Error::Stale => libc::ESTALE,
        Error::BadHandle | Error::NotOpenFor => libc::EBADF,
        Error::IsDirectory => libc::EISDIR,
        Error::NotDirectory => libc::ENOTDIR,
        Error::Invalid => libc::EINVAL,
        Error::Unsupported => libc::EOPNOTSUPP,
        Error::Poisoned => libc::EIO,
    }
}

fn store_errno(ino: u64, error: &Store) -> i32 {
    match error {
        Store::Io(e) => {
            let code = e.raw_os_error().unwrap_or(libc::EIO);
            if code == libc::EIO {
                log::error!("inode {ino}: the backing filesystem failed: {e}");
            }
            code
        }
        Store::Damaged { .. } | Store::DamagedName | Store::NoDirId => {
            log::error!("inode {ino}: damaged: {error}");
            libc::EIO
        }
        Store::JournalFailed => libc::EIO,
        Store::ReadOnly => libc::EROFS,
        Store::TooLarge => libc::EFBIG,
        Store::NameTooLong => libc::ENAMETOOLONG,
        Store::Invalid => libc::EINVAL,
        Store::Unsupported => libc::EOPNOTSUPP,
        Store::NotEmpty => libc::ENOTEMPTY,
    }
}
