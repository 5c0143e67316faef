//! Mounts: the FUSE mount itself, its removal, and the kernel's table of what is mounted where.
//!
//! The mount is made here and not by the FUSE library, so that its life is known exactly: nothing is unmounted
//! twice, a busy mount is reported as busy, and the source name cannot smuggle in mount options. This module does
//! not speak the FUSE protocol and does not look into the filesystem it mounts.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

/// The type in the mount table; `findmnt -t fuse.wardfs` and umount(8) see it.
pub const FS_TYPE: &str = "fuse.wardfs";
const SUBTYPE: &str = "wardfs";
const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";
/// Where distributions install the setuid helper; elsewhere (NixOS wrappers) it is found through PATH.
const HELPER_DIRS: [&str; 2] = ["/usr/bin", "/bin"];

/// What the kernel is asked for.
#[derive(Debug, Clone)]
pub struct KernelMount {
    /// First column of the mount table: the vault's path or `-o fsname=`. Any bytes but NUL.
    pub source: OsString,
    pub read_only: bool,
    pub dev: bool,
    pub suid: bool,
    pub exec: bool,
    pub noatime: bool,
    /// Users other than the mounting one may look in, as far as file modes let them.
    pub allow_other: bool,
    /// The kernel checks file modes, also where it need not: see [`fuse_mount`].
    pub default_permissions: bool,
}

/// Why there is no mount.
#[derive(Debug)]
pub enum FuseMountError {
    /// `/dev/fuse` cannot be opened.
    Device(io::Error),
    /// An ordinary user needs `fusermount3`, and it is not installed.
    NoHelper,
    /// `fusermount3` refused; its own words without the program's name.
    Helper(String),
    /// mount(2) refused, or the descriptor could not be passed.
    Mount(io::Error),
}

impl fmt::Display for FuseMountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(e) => write!(f, "cannot open {DEVICE}: {e}"),
            Self::NoHelper => write!(f, "{HELPER} is not installed (package fuse3)"),
            Self::Helper(words) => write!(f, "{HELPER}: {words}"),
            Self::Mount(e) => write!(f, "the kernel refused the mount: {e}"),
        }
    }
}

impl std::error::Error for FuseMountError {}

impl From<FuseMountError> for io::Error {
    fn from(e: FuseMountError) -> Self {
        io::Error::other(e)
    }
}

/// A mount just made: the connection to the kernel, and the handle that removes it.
#[derive(Debug)]
pub struct FuseMount {
    pub fd: OwnedFd,
    pub mounted: Mounted,
}

/// One filesystem instance, known by its device number. The number is not given to another filesystem while any
/// mount of this one exists, so a later mount at the same path is never mistaken for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    pub mountpoint: PathBuf,
    pub dev: Dev,
}

impl Mounted {
    /// Removes every mount of this filesystem, bind mounts included. Nothing left to remove is success: somebody
    /// ran umount(8).
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] when it is in use and `how` is [`Unmount::Plain`].
    pub fn unmount(&self, how: Unmount) -> io::Result<()> {
        for entry in mounts()?.iter().rev().filter(|m| m.dev == self.dev) {
            unmount(&entry.mountpoint, how)?;
        }
        Ok(())
    }

    /// Whether it is still where it was mounted.
    pub fn is_in_place(&self) -> io::Result<bool> {
        let there = mount_at(&self.mountpoint)?;
        Ok(there.is_some_and(|m| m.dev == self.dev && m.fs_type == FS_TYPE))
    }
}

/// Device number of a filesystem instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dev {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Dev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Mounts a FUSE filesystem on `mountpoint`. Root asks the kernel, everybody else `fusermount3`.
///
/// Without `allow_other` the kernel keeps out everybody but the mounting user. It also checks file modes, unless that
/// user is root, whom no mode stops: to check them it would ask for a directory's attributes after each change in it.
pub fn fuse_mount(mountpoint: &Path, request: &KernelMount) -> Result<FuseMount, FuseMountError> {
    let mountpoint = fs::canonicalize(mountpoint).map_err(FuseMountError::Mount)?;
    let fd = if rustix::process::geteuid().is_root() {
        mount_directly(&mountpoint, request)?
    } else {
        mount_by_helper(&mountpoint, request)?
    };
    let entry = mount_at(&mountpoint)
        .map_err(FuseMountError::Mount)?
        .filter(|m| m.fs_type == FS_TYPE)
        .ok_or_else(|| {
            FuseMountError::Mount(io::Error::other("it vanished from the mount table at once"))
        })?;
    Ok(FuseMount {
        fd,
        mounted: Mounted {
            mountpoint,
            dev: entry.dev,
        },
    })
}

/// Opens `/dev/fuse` and closes it again: whether FUSE is there and permitted.
pub fn probe_device() -> io::Result<()> {
    open_device().map(drop)
}

fn open_device() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        DEVICE,
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn mount_directly(mountpoint: &Path, request: &KernelMount) -> Result<OwnedFd, FuseMountError> {
    use std::os::fd::AsRawFd;

    let fd = open_device().map_err(FuseMountError::Device)?;
    let mut flags = MountFlags::empty();
    for (wanted, flag) in [
        (request.read_only, MountFlags::RDONLY),
        (!request.dev, MountFlags::NODEV),
        (!request.suid, MountFlags::NOSUID),
        (!request.exec, MountFlags::NOEXEC),
        (request.noatime, MountFlags::NOATIME),
    ] {
        flags.set(flag, wanted);
    }
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={}",
        fd.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    if request.default_permissions || request.allow_other {
        data += ",default_permissions";
    }
    if request.allow_other {
        data += ",allow_other";
    }
    let data = CString::new(data).expect("numbers and fixed words hold no NUL");
    rustix::mount::mount(
        request.source.as_os_str(),
        mountpoint,
        FS_TYPE,
        flags,
        data.as_c_str(),
    )
    .map_err(|e| FuseMountError::Mount(e.into()))?;
    Ok(fd)
}

/// The protocol of libfuse's `mount.c`: the helper gets one end of a socket pair and its number in
/// `_FUSE_COMMFD`, and sends back the mounted `/dev/fuse`. Handing the socket over as standard input needs no
/// descriptor that survives exec by number.
fn mount_by_helper(mountpoint: &Path, request: &KernelMount) -> Result<OwnedFd, FuseMountError> {
    let helper = helper().ok_or(FuseMountError::NoHelper)?;
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|e| FuseMountError::Mount(e.into()))?;
    let child = Command::new(helper)
        .arg("-o")
        .arg(helper_options(request))
        .arg("--")
        .arg(mountpoint)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(FuseMountError::Mount)?;
    let fd = receive_fd(&ours);
    let output = child.wait_with_output().map_err(FuseMountError::Mount)?;
    if !output.status.success() {
        return Err(FuseMountError::Helper(helper_words(&output.stderr)));
    }
    fd.map_err(FuseMountError::Mount)
}

fn helper_options(request: &KernelMount) -> OsString {
    let mut options = OsString::from("default_permissions,subtype=");
    options.push(SUBTYPE);
    for word in [
        if request.read_only { "ro" } else { "rw" },
        if request.dev { "dev" } else { "nodev" },
        if request.suid { "suid" } else { "nosuid" },
        if request.exec { "exec" } else { "noexec" },
    ] {
        options.push(",");
        options.push(word);
    }
    if request.noatime {
        options.push(",noatime");
    }
    if request.allow_other {
        options.push(",allow_other");
    }
    options.push(",fsname=");
    options.push(escape_option_value(&request.source));
    options
}

/// A comma in an option's value would start another option (libfuse `fuse_opt_add_opt_escaped`).
fn escape_option_value(value: &OsStr) -> OsString {
    let mut escaped = Vec::with_capacity(value.len());
    for &byte in value.as_bytes() {
        if byte == b',' || byte == b'\\' {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    OsString::from_vec(escaped)
}

fn receive_fd(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut byte = [0_u8; 1];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            socket.as_fd(),
            &mut [io::IoSliceMut::new(&mut byte)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    ancillary
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{HELPER} passed no descriptor"),
            )
        })
}

/// The setuid helper. The usual places come first, so that a stray entry in PATH is not what runs; there is no
/// privilege to gain from PATH either way, since wardfs has none that its caller lacks.
pub fn helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    HELPER_DIRS
        .iter()
        .map(PathBuf::from)
        .chain(std::env::split_paths(&path).filter(|dir| dir.is_absolute()))
        .map(|dir| dir.join(HELPER))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok())
}

fn helper_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let words = text
        .split_once("fusermount3: ")
        .map_or(&*text, |(_program, words)| words)
        .trim();
    if words.is_empty() {
        "failed without a message".to_owned()
    } else {
        words.to_owned()
    }
}

/// How to take a mount away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Only when nobody uses it.
    Plain,
    /// From the tree now, from memory when the last user leaves.
    Lazy,
    /// Breaks the connection first: every running and later request fails, what was not written is lost.
    Force,
}

/// Unmounts whatever is on top at `mountpoint`, as root or through `fusermount3`. It is success, too, when somebody
/// else is faster: the daemon itself, once its connection is broken.
///
/// # Errors
/// [`io::ErrorKind::ResourceBusy`] when it is in use and `how` is [`Unmount::Plain`].
pub fn unmount(mountpoint: &Path, how: Unmount) -> io::Result<()> {
    let there = || -> io::Result<Option<u64>> { Ok(mount_at(mountpoint)?.map(|m| m.id)) };
    let before = there()?;
    if how == Unmount::Force {
        abort_connection(mountpoint)?;
    }
    match take_away(mountpoint, how) {
        Err(_) if before != there()? => Ok(()),
        result => result,
    }
}

fn take_away(mountpoint: &Path, how: Unmount) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let flags = UnmountFlags::NOFOLLOW
            | match how {
                Unmount::Plain => UnmountFlags::empty(),
                Unmount::Lazy | Unmount::Force => UnmountFlags::DETACH,
            };
        return Ok(rustix::mount::unmount(mountpoint, flags)?);
    }
    let helper = helper()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, FuseMountError::NoHelper))?;
    let mut command = Command::new(helper);
    command.arg("-u");
    if how != Unmount::Plain {
        command.arg("-z");
    }
    let output = command
        .arg("--")
        .arg(mountpoint)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = helper_words(&output.stderr);
    // fusermount3 never calls setlocale, so strerror(EBUSY) is always English.
    if words.contains("busy") {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    Err(io::Error::other(FuseMountError::Helper(words)))
}

/// The owner of a FUSE mount may abort its connection through fusectl; root needs no fusectl for it.
fn abort_connection(mountpoint: &Path) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return match rustix::mount::unmount(
            mountpoint,
            UnmountFlags::NOFOLLOW | UnmountFlags::FORCE,
        ) {
            // The connection is broken, but somebody still has a file open; detaching follows. When it came off
            // at once, there is nothing left to detach.
            Err(rustix::io::Errno::BUSY) | Ok(()) => Ok(()),
            Err(e) => Err(e.into()),
        };
    }
    let Some(entry) = mount_at(mountpoint)? else {
        return Ok(());
    };
    let control = format!("/sys/fs/fuse/connections/{}/abort", entry.dev.minor);
    match fs::write(&control, "1") {
        // Already dead: a stale mount has no connection any more.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    pub id: u64,
    pub dev: Dev,
    /// The part of the filesystem that is visible; `/` unless it is a bind mount of a directory inside.
    pub root: PathBuf,
    pub mountpoint: PathBuf,
    pub options: String,
    pub fs_type: String,
    pub source: OsString,
    pub super_options: String,
}

impl MountEntry {
    /// Who mounted a FUSE filesystem.
    pub fn user_id(&self) -> Option<u32> {
        self.super_options
            .split(',')
            .find_map(|o| o.strip_prefix("user_id=")?.parse().ok())
    }
}

/// Everything mounted in this process's mount namespace, in the order it was mounted.
pub fn mounts() -> io::Result<Vec<MountEntry>> {
    Ok(fs::read("/proc/self/mountinfo")?
        .split(|&b| b == b'\n')
        .filter_map(parse_entry)
        .collect())
}

/// What is mounted on exactly this (canonical) path; the topmost where mounts are stacked.
pub fn mount_at(mountpoint: &Path) -> io::Result<Option<MountEntry>> {
    Ok(mounts()?
        .into_iter()
        .rev()
        .find(|m| m.mountpoint == mountpoint))
}

/// proc(5): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn parse_entry(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&b| b == b' ');
    let mut next = || fields.next();
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let id = text(next()?).parse().ok()?;
    let _parent = next()?;
    let (major, minor) = text(next()?)
        .split_once(':')
        .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))?;
    let root = PathBuf::from(unescape_octal(next()?));
    let mountpoint = PathBuf::from(unescape_octal(next()?));
    let options = text(next()?);
    while next()? != b"-" {}
    Some(MountEntry {
        id,
        dev: Dev { major, minor },
        root,
        mountpoint,
        options,
        fs_type: text(next()?),
        source: unescape_octal(next()?),
        super_options: text(next().unwrap_or_default()),
    })
}

/// The kernel writes space, tab, newline, backslash and `#` as `\ooo` (fs/proc_namespace.c, `mangle`).
fn unescape_octal(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if byte == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        plain.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_table_line_is_read_with_its_escapes() {
        let line = br"61 29 0:54 / /mnt/with\040space\134and\011tab rw,nosuid,nodev shared:8 master:2 - fuse.wardfs /srv/a\040b,c rw,user_id=1000,group_id=1000";
        let entry = parse_entry(line).expect("a valid line");
        assert_eq!(entry.id, 61);
        assert_eq!(
            entry.dev,
            Dev {
                major: 0,
                minor: 54
            }
        );
        assert_eq!(entry.mountpoint, Path::new("/mnt/with space\\and\ttab"));
        assert_eq!(entry.fs_type, FS_TYPE);
        assert_eq!(entry.source, "/srv/a b,c");
        assert_eq!(entry.user_id(), Some(1000));
    }

    #[test]
    fn a_line_without_optional_fields_is_read_and_a_broken_one_is_skipped() {
        let line = b"22 1 0:21 / /proc rw - proc proc rw";
        assert_eq!(parse_entry(line).expect("a valid line").user_id(), None);
        assert_eq!(parse_entry(b"22 1 0:21 / /proc rw"), None);
        assert_eq!(parse_entry(b""), None);
    }

    #[test]
    fn a_trailing_backslash_or_a_short_escape_is_kept_as_it_is() {
        assert_eq!(unescape_octal(br"a\04"), r"a\04");
        assert_eq!(unescape_octal(br"a\"), r"a\");
        assert_eq!(unescape_octal(br"\134040"), r"\040");
    }

    #[test]
    fn the_running_system_has_a_root_mount() {
        assert!(
            mounts()
                .expect("procfs")
                .iter()
                .any(|m| m.mountpoint == Path::new("/"))
        );
    }

    #[test]
    fn a_source_cannot_add_mount_options() {
        let request = KernelMount {
            source: OsString::from("a,suid\\b"),
            read_only: false,
            dev: false,
            suid: false,
            exec: true,
            noatime: true,
            allow_other: false,
            default_permissions: false,
        };
        assert_eq!(
            helper_options(&request),
            "default_permissions,subtype=wardfs,rw,nodev,nosuid,exec,noatime,fsname=a\\,suid\\\\b"
        );
    }
}
