//! What the mounted tests share: temporary vaults, mounts that always come off again, and running the built program.
//!
//! Everything goes through the program itself, as a user would. Only processes and mounts made here are ended here.
#![allow(dead_code, reason = "each test program uses a part of this")]

pub mod namespace;
pub mod terminal;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The cheapest key derivation the format takes: tests are not about guessing.
pub const CHEAP_KDF: [&str; 7] = [
    "--kdf-memory",
    "8M",
    "--kdf-time",
    "1",
    "--kdf-parallel",
    "1",
    "--force",
];

pub const PASSPHRASE: &str = "correct horse battery staple";

const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test.
pub fn wardfs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wardfs"));
    command
        .stdin(Stdio::null())
        .env_remove("CREDENTIALS_DIRECTORY")
        .env_remove("WARDFS_LOG");
    command
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ran {
    /// It must have succeeded; gives what it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// It must have been refused with this exit code, printed nothing on standard output, and named all of `words`.
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:?}");
        }
    }
}

/// Waits until `condition` holds; panics when it does not within 20 seconds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} until {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory that goes away with everything in it, unless something is still mounted below it.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Mode 0755, so that other users can get to what is in it.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let base = fs::canonicalize(std::env::temp_dir()).expect("there is a temporary directory");
        let path = base.join(format!("wardfs-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("the name is free");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// An empty directory in it.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir(&path).expect("the name is free");
        path
    }

    /// A file in it that only the owner may read.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content).expect("the directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if mountpoints()
            .iter()
            .any(|mountpoint| mountpoint.starts_with(&self.0))
        {
            eprintln!(
                "left behind, something is mounted in it: {}",
                self.0.display()
            );
            return;
        }
        let removed = fs::remove_dir_all(&self.0);
        if let Err(e) = removed {
            eprintln!("left behind, {e}: {}", self.0.display());
        }
    }
}

/// Where anything is mounted.
pub fn mountpoints() -> Vec<PathBuf> {
    let mounts = wardfs::sys::mount::mounts().expect("procfs is mounted");
    mounts.into_iter().map(|mount| mount.mountpoint).collect()
}

pub fn is_mounted(path: &Path) -> bool {
    mountpoints().iter().any(|mountpoint| mountpoint == path)
}

/// A vault with a passphrase, a cheap key derivation, and an empty directory to mount it on.
#[derive(Debug)]
pub struct Vault {
    dir: TempDir,
}

impl Vault {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// Made with further arguments of `wardfs init`.
    pub fn with(arguments: &[&str]) -> Self {
        let vault = Self::unmade(PASSPHRASE);
        vault.init(arguments);
        vault
    }

    /// Runs `wardfs init` for one that was left unmade.
    #[track_caller]
    pub fn init(&self, arguments: &[&str]) {
        let mut command = wardfs();
        command
            .arg("init")
            .arg(self.path())
            .args(CHEAP_KDF)
            .args(arguments);
        run(command.arg("--passphrase-file").arg(self.passphrase_file())).ok();
    }

    /// A copy of a vault that exists, with its passphrase.
    pub fn copy_of(source: &Path, passphrase: &str) -> Self {
        let vault = Self::unmade(passphrase);
        run(Command::new("cp").arg("-a").arg(source).arg(vault.path())).ok();
        vault
    }

    /// Everything but the vault itself: that is for the test to put in its place.
    pub fn unmade(passphrase: &str) -> Self {
        let dir = TempDir::new();
        dir.dir("mnt");
        dir.file("passphrase", passphrase);
        Self { dir }
    }

    /// The ciphertext.
    pub fn path(&self) -> PathBuf {
        self.dir.join("vault")
    }

    pub fn mountpoint(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    pub fn passphrase_file(&self) -> PathBuf {
        self.dir.join("passphrase")
    }

    /// The directory that holds all three, for more of the kind.
    pub fn dir(&self) -> &TempDir {
        &self.dir
    }

    /// `wardfs mount` of this vault on its mount point with its passphrase; not yet run.
    pub fn mount_command(&self) -> Command {
        let mut command = wardfs();
        command.arg("mount").arg(self.path()).arg(self.mountpoint());
        command.arg("--passphrase-file").arg(self.passphrase_file());
        command
    }

    pub fn mount(&self) -> Mount<'_> {
        self.mount_with(&[])
    }

    /// Mounted with further arguments, such as `["-o", "ro"]`.
    #[track_caller]
    pub fn mount_with(&self, arguments: &[&str]) -> Mount<'_> {
        let ran = run(self.mount_command().args(arguments));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        Mount::adopt(self, self.mountpoint())
    }

    /// The answer of `wardfs info --json`.
    pub fn info(&self) -> serde_json::Value {
        let json = run(wardfs().arg("info").arg(self.path()).arg("--json")).ok();
        serde_json::from_str(&json).expect("info prints JSON")
    }
}

/// A mounted vault; unmounted when dropped, with force if need be.
#[derive(Debug)]
pub struct Mount<'v> {
    vault: &'v Vault,
    mountpoint: PathBuf,
    pid: u32,
    gone: bool,
}

impl<'v> Mount<'v> {
    /// Takes over a mount that the test has made in another way.
    pub fn adopt(vault: &'v Vault, mountpoint: PathBuf) -> Self {
        // Made before anything can fail, so that it comes off again even then.
        let mut mount = Self {
            vault,
            mountpoint,
            pid: 0,
            gone: false,
        };
        let pid = vault.info()["mounted"]["pid"]
            .as_u64()
            .expect("it is mounted");
        mount.pid = u32::try_from(pid).expect("a pid");
        mount
    }

    pub fn path(&self) -> &Path {
        &self.mountpoint
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mountpoint.join(name)
    }

    pub fn vault(&self) -> &Vault {
        self.vault
    }

    /// The daemon.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Unmounts as a user does; the daemon has ended when this returns.
    #[track_caller]
    pub fn umount(mut self) {
        let ran = run(wardfs().arg("umount").arg(&self.mountpoint));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        self.gone = true;
    }

    /// `kill -9`, and the dead mount removed.
    pub fn kill(mut self) {
        self.kill_daemon();
        run(wardfs().args(["umount", "--lazy"]).arg(&self.mountpoint)).ok();
        self.gone = true;
    }

    /// `kill -9`; a dead mount stays.
    pub fn kill_daemon(&self) {
        signal("KILL", self.pid);
        wait_until("the killed daemon is gone", || !runs(self.pid));
    }

    /// Sends the daemon a signal, by name as kill(1) takes it.
    pub fn signal(&self, name: &str) {
        signal(name, self.pid);
    }

    /// Waits until the daemon has ended and the mount is gone, after something that leads to it.
    #[track_caller]
    pub fn wait_until_gone(mut self) {
        wait_until("the daemon has ended", || !runs(self.pid));
        assert!(
            !is_mounted(&self.mountpoint),
            "still mounted: {}",
            self.mountpoint.display()
        );
        self.gone = true;
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        for how in [None, Some("--force")] {
            let ran = run(wardfs().arg("umount").args(how).arg(&self.mountpoint));
            if ran.code == Some(0) || !is_mounted(&self.mountpoint) {
                break;
            }
            eprintln!("unmounting {how:?}: {ran:?}");
        }
        if runs(self.pid) {
            signal("KILL", self.pid);
        }
    }
}

fn signal(name: &str, pid: u32) {
    run(Command::new("kill")
        .args(["-s", name, "--"])
        .arg(pid.to_string()))
    .ok();
}

/// Whether a wardfs process of this pid runs. One that has ended may stay a zombie where nobody collects it; but while
/// other threads of a zombie are still ending, its files are open.
pub fn runs(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let has_ended = status.contains("State:\tZ") && status.contains("Threads:\t1\n");
    status.starts_with("Name:\twardfs\n") && !has_ended
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub struct Background(pub std::process::Child);

impl Background {
    pub fn spawn(program: impl AsRef<OsStr>, arguments: &[&str], directory: &Path) -> Self {
        let child = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .spawn()
            .expect("the program exists");
        Self(child)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
