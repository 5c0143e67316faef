//! Whether a vault can be mounted at a place: every reason against it has a sentence of its own.
//!
//! Checked before anybody is asked for a passphrase. Nothing is mounted or changed here.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::daemons;
use super::exit::Exit;
use super::failure::Failure;
use super::output::{iso_time, printable};
use crate::fuse::options::Caller;
use crate::store::lock::{Holder, VaultLock};
use crate::sys::mount::{self, FS_TYPE};

/// The vault's directory without symbolic links.
pub fn vault(typed: &Path) -> Result<PathBuf, Failure> {
    let shown = typed.display();
    match fs::canonicalize(typed) {
        Ok(path) if path.is_dir() => Ok(path),
        Ok(_) => Err(Failure::new(
            Exit::NotAVault,
            format!("{shown} is not a directory, so it is no vault"),
        )),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Failure::new(
            Exit::NotAVault,
            format!("there is no vault at {shown}: it does not exist"),
        )
        .advise(format!("To make one there: wardfs init {shown}"))),
        Err(e) => Err(Failure::io(format!("open the vault {shown}"), &e)),
    }
}

/// The mount point without symbolic links; a directory on which nothing is mounted.
pub fn mountpoint(typed: &Path) -> Result<PathBuf, Failure> {
    let shown = typed.display();
    let metadata = match fs::metadata(typed) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotConnected => {
            return Err(Failure::new(
                Exit::StaleMount,
                format!("a dead mount is in the way at {shown}: its daemon is gone"),
            )
            .advise(format!("To remove it: wardfs umount --lazy {shown}")));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(bad(format!("the mount point {shown} does not exist"))
                .advise(format!("To make it: mkdir {shown}")));
        }
        Err(e) => return Err(Failure::io(format!("use the mount point {shown}"), &e)),
    };
    if !metadata.is_dir() {
        return Err(bad(format!("the mount point {shown} is not a directory")));
    }
    let path = fs::canonicalize(typed)
        .map_err(|e| Failure::io(format!("use the mount point {shown}"), &e))?;
    let there = mount::mount_at(&path).map_err(|e| Failure::io("read the mount table", &e))?;
    if let Some(there) = there {
        let source = there.source.display();
        let failure = bad(format!(
            "{shown} is a mount point already ({source}, type {})",
            there.fs_type
        ));
        return Err(if there.fs_type == FS_TYPE {
            failure.advise(format!("To unmount it: wardfs umount {shown}"))
        } else {
            failure.advise("Choose an empty directory.")
        });
    }
    Ok(path)
}

/// That the mount hides nothing, and that `fusermount3` will accept the place.
pub fn empty(mountpoint: &Path, caller: Caller) -> Result<(), Failure> {
    let shown = mountpoint.display();
    if caller != Caller::Root
        && rustix::fs::access(mountpoint, rustix::fs::Access::WRITE_OK).is_err()
    {
        return Err(bad(format!(
            "the mount point {shown} may not be written to by this user"
        ))
        .advise("Users other than root mount on directories of their own."));
    }
    let mut entries = fs::read_dir(mountpoint)
        .map_err(|e| Failure::io(format!("look into the mount point {shown}"), &e))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(bad(format!("the mount point {shown} is not empty"))
            .advise("What is in it would be hidden by the mount. Choose an empty directory.")),
    }
}

fn bad(message: String) -> Failure {
    Failure::new(Exit::BadMountpoint, message)
}

/// Neither may lie in the other: the daemon would wait for itself, or encrypt its own output.
pub fn apart(vault: &Path, mountpoint: &Path) -> Result<(), Failure> {
    let (v, m) = (vault.display(), mountpoint.display());
    let message = match (is_within(vault, mountpoint), is_within(mountpoint, vault)) {
        (false, false) => return Ok(()),
        (true, true) => format!("the vault {v} cannot be its own mount point"),
        (true, false) => {
            format!("the vault {v} lies below the mount point {m}, which would hide it")
        }
        (false, true) => format!("the mount point {m} lies inside the vault {v}"),
    };
    Err(bad(message).advise("Choose a mount point outside the vault that does not contain it."))
}

/// By device and inode, so that bind mounts of the same directory are seen through.
pub fn is_within(path: &Path, directory: &Path) -> bool {
    let identity = |p: &Path| fs::metadata(p).map(|m| (m.dev(), m.ino())).ok();
    let wanted = identity(directory);
    wanted.is_some()
        && path
            .ancestors()
            .any(|ancestor| identity(ancestor) == wanted)
}

/// That no other process serves the vault.
pub fn free(vault: &Path) -> Result<(), Failure> {
    match VaultLock::holder(vault) {
        Ok(None) => Ok(()),
        Ok(Some(holder)) => Err(in_use(vault, holder)),
        Err(e) => Err(Failure::io(
            format!("see whether {} is mounted", vault.display()),
            &e,
        )),
    }
}

/// Says who has the vault and where.
pub fn in_use(vault: &Path, note: Option<Holder>) -> Failure {
    let vault_shown = vault.display();
    let Some(holder) = holder(vault, note) else {
        return Failure::new(
            Exit::InUse,
            format!("{vault_shown} is in use by another process"),
        );
    };
    let mountpoint = holder
        .mountpoint
        .map(|m| printable(&m.display().to_string()));
    let place = match &mountpoint {
        Some(mountpoint) => format!("mounted at {mountpoint}"),
        None => "in use".to_owned(),
    };
    let since = match i64::try_from(holder.since) {
        Ok(1..) => format!(" since {}", iso_time(holder.since.cast_signed())),
        _ => String::new(),
    };
    let message = format!(
        "{vault_shown} is already {place}{since} (process {} on {})",
        holder.pid,
        printable(&holder.host)
    );
    let failure = Failure::new(Exit::InUse, message);
    match mountpoint {
        Some(mountpoint) => {
            failure.advise(format!("To unmount it there: wardfs umount {mountpoint}"))
        }
        None => failure,
    }
}

/// Who holds the vault's lock: what the kernel knows, completed by the note in the vault. A read-only mount leaves no
/// note, and then the note is of an earlier mount. Of a holder on another machine there is only the note.
pub fn holder(vault: &Path, note: Option<Holder>) -> Option<Holder> {
    let Some(pid) = daemons::flock_holder(&VaultLock::path(vault)) else {
        return note;
    };
    if note.as_ref().is_some_and(|note| note.pid == pid) {
        return note;
    }
    Some(Holder {
        pid,
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        mountpoint: daemons::mount_of(pid).map(|mount| mount.mountpoint),
        since: 0,
        rotation: None,
    })
}

/// That FUSE is there for this user.
pub fn fuse_available(caller: Caller) -> Result<(), Failure> {
    if let Err(e) = mount::probe_device() {
        return Err(match e.kind() {
            io::ErrorKind::NotFound => Failure::new(Exit::NoFuse, "there is no /dev/fuse on this machine")
                .advise("Load the kernel module (modprobe fuse); in a container, pass the device in."),
            io::ErrorKind::PermissionDenied => Failure::new(Exit::NoFuse, "/dev/fuse may not be opened by this user")
                .advise("The administrator can permit it: chmod 666 /dev/fuse (udev does so where fuse3 is installed)."),
            _ => Failure::new(Exit::NoFuse, format!("/dev/fuse cannot be opened: {e}"))
                .advise("Load the kernel module (modprobe fuse); in a container, allow the device."),
        });
    }
    if caller != Caller::Root && mount::helper().is_none() {
        return Err(Failure::new(
            Exit::NoFuse,
            "fusermount3 is not installed; users other than root need it to mount",
        )
        .advise("Install the package fuse3."));
    }
    Ok(())
}

/// Who mounts, and what the administrator has allowed.
pub fn caller() -> Caller {
    if rustix::process::geteuid().is_root() {
        return Caller::Root;
    }
    let config = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    Caller::User {
        may_allow_other: config.lines().any(|line| line.trim() == "user_allow_other"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_inside_the_other_is_seen_both_ways() {
        let base = std::env::temp_dir().join(format!("wardfs-place-{}", std::process::id()));
        let inner = base.join("a/b");
        fs::create_dir_all(&inner).expect("a temporary directory");
        fs::create_dir(base.join("a-not")).expect("a temporary directory");
        let words = |v: &Path, m: &Path| apart(v, m).map_err(|e| e.to_string());
        let (outer, sibling) = (base.join("a"), base.join("a-not"));
        let results = [
            words(&inner, &outer),
            words(&outer, &inner),
            words(&outer, &outer),
            words(&outer, &sibling),
        ];
        fs::remove_dir_all(&base).expect("it was made above");
        assert!(
            results[0]
                .as_ref()
                .is_err_and(|e| e.contains("below the mount point"))
        );
        assert!(
            results[1]
                .as_ref()
                .is_err_and(|e| e.contains("inside the vault"))
        );
        assert!(
            results[2]
                .as_ref()
                .is_err_and(|e| e.contains("its own mount point"))
        );
        assert_eq!(results[3], Ok(()));
    }
}
