//! A mount: from the unlocked volume to the last request.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fuser::{Config, SessionACL};

use crate::crypto::HeaderKeys;
use crate::fs::{self, Fs};
use crate::fuse::keeper::Keeper;
use crate::fuse::options::MountOptions;
use crate::fuse::rotator::Rotator;
use crate::fuse::seeker::Seeker;
use crate::fuse::shell::{Policy, Shell};
use crate::store::{Disk, Volume};
use crate::sys::mount::{FuseMountError, KernelMount, Mounted, fuse_mount};

/// Open directories kept at most, whatever the limit on descriptors.
const CACHED_DIRS_MAX: usize = 8192;

/// Why a volume could not be mounted.
#[derive(Debug)]
pub enum MountError {
    Mount(FuseMountError),
    /// The kernel and the daemon could not agree.
    Handshake(io::Error),
    Fs(fs::Error),
}

impl std::fmt::Display for MountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mount(e) => e.fmt(f),
            Self::Handshake(e) => write!(f, "the kernel's FUSE protocol is not understood: {e}"),
            Self::Fs(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for MountError {}

/// A mounted volume that waits to be served.
#[derive(Debug)]
pub struct Session {
    session: fuser::Session<Shell>,
    fs: Arc<Fs<Disk>>,
    mounted: Mounted,
    rotation: Option<(PathBuf, HeaderKeys)>,
}

/// Mounts `volume`; returns when the mount exists and the kernel has agreed on the protocol.
///
/// The vault is also the first column of the mount table, unless the options say otherwise. Without header keys its
/// content is not rotated meanwhile.
pub fn mount(
    volume: Volume<Disk>,
    (vault, header_keys): (&Path, Option<HeaderKeys>),
    mountpoint: &Path,
    options: &MountOptions,
) -> Result<Session, MountError> {
    // Modes arrive with the caller's umask applied.
    rustix::process::umask(rustix::fs::Mode::empty());
    let config = fs::Config {
        own_as_caller: rustix::process::geteuid().is_root(),
        acl: options.acl,
        cached_dirs: cached_dirs(),
    };
    let fs = Arc::new(Fs::new(volume, config).map_err(MountError::Fs)?);
    let kernel = Arc::new(OnceLock::new());
    let seeker = Seeker::start(kernel.clone()).map_err(MountError::Handshake)?;
    let shell = Shell {
        fs: fs.clone(),
        policy: Policy {
            entry_ttl: options.entry_timeout,
            attr_ttl: options.attr_timeout,
            negative_ttl: options.negative_timeout,
            writeback: options.writeback,
            shared: options.shared,
            acl: options.acl,
        },
        seeker,
        kernel: kernel.clone(),
    };
    let source = options
        .fsname
        .clone()
        .map_or_else(|| vault.into(), OsString::from);
    let request = KernelMount {
        source,
        read_only: options.read_only,
        dev: options.dev,
        suid: options.suid,
        exec: options.exec,
        noatime: options.noatime,
        allow_other: options.allow_other,
        default_permissions: options.default_permissions,
    };
    let session = start(shell, mountpoint, &request, options).inspect_err(|_| {
        // Nothing was served: the volume is as clean as before.
        if let Err(e) = fs.close() {
            log::error!("the volume could not be left clean: {e}");
        }
    });
    let (session, mounted) = session?;
    let _ = kernel.set(session.notifier());
    Ok(Session {
        session,
        fs,
        mounted,
        rotation: header_keys.map(|keys| (vault.to_owned(), keys)),
    })
}

/// Makes the mount and agrees with the kernel on the protocol.
fn start(
    shell: Shell,
    mountpoint: &Path,
    request: &KernelMount,
    options: &MountOptions,
) -> Result<(fuser::Session<Shell>, Mounted), MountError> {
    let made = fuse_mount(mountpoint, request).map_err(MountError::Mount)?;
    let mut config = Config::default();
    config.n_threads = Some(options.threads.get());
    config.clone_fd = options.threads.get() > 1;
    // Who may enter is checked by the kernel; the binding's own check would refuse the kernel's write-back.
    let session = fuser::Session::from_fd(shell, made.fd, SessionACL::All, config)
        .map_err(MountError::Handshake)?;
    Ok((session, made.mounted))
}

/// A quarter of the descriptors this process may open.
fn cached_dirs() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let soft = limit.current.map_or(usize::MAX, |n| n as usize);
    (soft / 4).clamp(16, CACHED_DIRS_MAX)
}

impl Session {
    /// What removes the mount, from another thread.
    pub fn mounted(&self) -> Mounted {
        self.mounted.clone()
    }

    /// The volume that is mounted.
    pub fn volume(&self) -> &Volume<Disk> {
        self.fs.volume()
    }

    /// Serves requests until the filesystem is unmounted, and leaves the volume clean.
    pub fn run(self) -> io::Result<()> {
        // Without a journal there is nothing to look after.
        let keeper = match self.fs.volume().journal() {
            Some(_) => Some(Keeper::start(self.fs.clone())?),
            None => None,
        };
        // Chunks are sealed anew through the journal.
        let rotator = match self.rotation.filter(|_| keeper.is_some()) {
            Some((vault, keys)) => Some(Rotator::start(self.fs.clone(), vault, keys)?),
            None => None,
        };
        let served = self.session.run();
        drop(rotator);
        drop(keeper);
        let closed = self.fs.close().map_err(|e| io::Error::other(e.to_string()));
        served.and(closed)
    }
}
