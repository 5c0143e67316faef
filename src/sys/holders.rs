//! Who keeps a mount busy: processes with a working directory, root, open file, program or mapping on it.
//!
//! Everything is read from procfs, never from the mounted filesystem, which may not answer any more. An ordinary
//! user only sees his own processes. Nobody is signalled here.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::mount::MountEntry;

/// One process that uses the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// The command's short name, as ps(1) shows it.
    pub command: String,
    pub uses: BTreeSet<Use>,
}

/// In which way a process uses the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    WorkingDirectory,
    Root,
    OpenFile,
    Program,
    Mapping,
}

impl Use {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkingDirectory => "working directory",
            Self::Root => "root directory",
            Self::OpenFile => "open file",
            Self::Program => "running program",
            Self::Mapping => "mapped file",
        }
    }
}

/// The processes that use `mount`, by pid.
pub fn holders(mount: &MountEntry) -> io::Result<Vec<Holder>> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let directory = process.path();
        let uses = uses_of(&directory, mount);
        if !uses.is_empty() {
            let command = fs::read(directory.join("comm")).unwrap_or_default();
            found.push(Holder {
                pid,
                command: String::from_utf8_lossy(&command).trim_end().to_owned(),
                uses,
            });
        }
    }
    found.sort_by_key(|holder| holder.pid);
    Ok(found)
}

/// What cannot be read belongs to somebody else or has ended: not found rather than an error.
fn uses_of(process: &Path, mount: &MountEntry) -> BTreeSet<Use> {
    let mut uses = BTreeSet::new();
    for (link, way) in [
        ("cwd", Use::WorkingDirectory),
        ("root", Use::Root),
        ("exe", Use::Program),
    ] {
        if mount_of_link(&process.join(link)) == Some(mount.id) {
            uses.insert(way);
        }
    }
    for file in fs::read_dir(process.join("fdinfo"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if fs::read_to_string(file.path())
            .ok()
            .as_deref()
            .and_then(mount_id)
            == Some(mount.id)
        {
            uses.insert(Use::OpenFile);
        }
    }
    let device = format!("{:02x}:{:02x}", mount.dev.major, mount.dev.minor);
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    // Address, permissions, offset, device, inode, path (proc(5)).
    if maps
        .split(|&b| b == b'\n')
        .any(|line| line.split(|&b| b == b' ').nth(3) == Some(device.as_bytes()))
    {
        uses.insert(Use::Mapping);
    }
    uses
}

/// The mount a magic link leads to. An `O_PATH` descriptor does not ask the filesystem, so a dead one cannot hang us.
fn mount_of_link(link: &Path) -> Option<u64> {
    let fd = rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    mount_id(&fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?)
}

fn mount_id(fdinfo: &str) -> Option<u64> {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mount;

    #[test]
    fn this_test_is_found_by_its_working_directory_and_its_program() {
        let pid = std::process::id();
        for (link, way) in [
            ("cwd", Use::WorkingDirectory),
            ("exe", Use::Program),
            ("root", Use::Root),
        ] {
            let id = mount_of_link(Path::new(&format!("/proc/self/{link}")))
                .expect("own links are readable");
            let entry = mount::mounts()
                .expect("procfs")
                .into_iter()
                .find(|m| m.id == id)
                .expect("a known mount");
            let mine = holders(&entry)
                .expect("procfs")
                .into_iter()
                .find(|h| h.pid == pid)
                .expect("this process");
            assert!(mine.uses.contains(&way), "{way:?} in {mine:?}");
        }
    }
}
