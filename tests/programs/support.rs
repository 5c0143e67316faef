//! Small tools of these tests: running programs, made-up content, a network and disks of their own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{Ran, TempDir, run, wait_until};

/// A command without input, in a language that does not change its messages.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env("LC_ALL", "C");
    command
}

/// Runs a shell command line in `directory` and gives what it printed; it must succeed.
#[track_caller]
pub fn sh(directory: &Path, line: &str) -> String {
    try_sh(directory, line).ok()
}

pub fn try_sh(directory: &Path, line: &str) -> Ran {
    run(command("sh").args(["-euc", line]).current_dir(directory))
}

/// Where a program is, also in the directories that only root has in its path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// Whether all of `programs` are there. Says which Debian package is missing if not.
pub fn installed(package: &str, programs: &[&str]) -> bool {
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| find(program).is_none())
        .collect();
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?} not found; install the package {package}");
    }
    missing.is_empty()
}

/// Whether this runs as root. Says what is left out if not.
pub fn is_root(needed_for: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can {needed_for}");
    }
    root
}

/// Bytes that look random, the same for the same seed. Never eight zeros in a row.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    // splitmix64 (Steele, Lea, Flood 2014).
    let mut state = seed;
    let words = std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    });
    let mut bytes: Vec<u8> = words
        .take(len.div_ceil(8))
        .flat_map(u64::to_le_bytes)
        .collect();
    bytes.truncate(len);
    bytes
}

#[track_caller]
pub fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    fs::read(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

#[track_caller]
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    fs::write(path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

#[track_caller]
pub fn mkdir(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    fs::create_dir(path).unwrap_or_else(|e| panic!("mkdir {}: {e}", path.display()));
    path.to_owned()
}

/// All regular files below a directory.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|e| panic!("list {}: {e}", directory.display()));
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let mut files: Vec<PathBuf> = paths
        .flat_map(
            |path| match fs::symlink_metadata(&path).expect("just listed") {
                m if m.is_dir() => files_below(&path),
                m if m.is_file() => vec![path],
                _ => Vec::new(),
            },
        )
        .collect();
    files.sort();
    files
}

/// A server in a network namespace that has nothing but a loopback device. Ended when dropped, with all that it
/// has started.
#[derive(Debug)]
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts `line` in `directory`; its output goes to `log`.
    pub fn start(directory: &Path, line: &str, log: &Path) -> Self {
        let output = fs::File::create(log).expect("the log can be made");
        let errors = output.try_clone().expect("a descriptor is free");
        // The first process of a pid namespace takes all the others with it when it goes.
        let child = command("unshare")
            .args([
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--",
                "sh",
                "-euc",
            ])
            .arg(format!("ip link set lo up; {line}"))
            .current_dir(directory)
            .stdout(output)
            .stderr(errors)
            .spawn()
            .expect("unshare is part of every system");
        Self { child }
    }

    /// A command in the server's network.
    pub fn client(&self, program: &str) -> Command {
        let mut command = command("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.child.id()))
            .arg("--")
            .arg(program);
        command
    }

    /// Waits until `probe`, a client's command line, succeeds.
    #[track_caller]
    pub fn wait_ready(&self, program: &str, arguments: &[&str]) {
        wait_until("the server answers", || {
            run(self.client(program).args(arguments)).code == Some(0)
        });
    }

    /// Ends it now.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    /// Kills the first process of the namespace: when `unshare` has seen its end, all of them are gone.
    fn drop(&mut self) {
        let id = self.child.id();
        let first =
            fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        match first.split_ascii_whitespace().next() {
            Some(first) => drop(run(command("kill").args(["-s", "KILL", "--", first]))),
            None => drop(self.child.kill()),
        }
        let _ = self.child.wait();
    }
}

/// A small ext4 filesystem in a file, mounted; taken off when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    mountpoint: PathBuf,
}

impl SmallDisk {
    pub fn new(dir: &TempDir, mebibytes: u64) -> Self {
        let image = dir.join("disk.img");
        let file = fs::File::create(&image).expect("the directory is writable");
        file.set_len(mebibytes << 20).expect("a sparse file");
        run(command("mkfs.ext4")
            .args(["-q", "-m", "0", "-N", "2000"])
            .arg(&image))
        .ok();
        let mountpoint = dir.dir("disk");
        run(command("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&mountpoint))
        .ok();
        Self { mountpoint }
    }

    pub fn path(&self) -> &Path {
        &self.mountpoint
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let ran = run(command("umount").arg(&self.mountpoint));
        if ran.code != Some(0) {
            eprintln!("unmounting the small disk: {ran:?}");
            run(command("umount").arg("--lazy").arg(&self.mountpoint));
        }
    }
}
