//! Tests that need another system around them: a `/dev/fuse` that every user may open, another `/etc/fuse.conf`, no
//! fusermount3.
//!
//! Such a test runs in a mount namespace of its own, so that nothing of the machine changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{TempDir, run};

const INSIDE: &str = "WARDFS_TEST_NAMESPACE";

/// Runs `body` in a private mount namespace: this test program is started again there for the test called `test`.
/// Answers the name of the test so that a wrong one is noticed: it must match the function's.
pub fn in_own_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let program = std::env::current_exe().expect("this program has a path");
    let ran = run(Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(program)
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, test));
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("1 passed"),
        "no test is called {test}: {}",
        ran.stdout
    );
}

/// Puts a file of this content in the place of `target`.
pub fn replace_file(scratch: &TempDir, target: &str, content: &str, mode: u32) {
    let name = target.replace('/', "_");
    let file = scratch.file(&name, content);
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("it is ours");
    run(Command::new("mount").arg("--bind").arg(file).arg(target)).ok();
}

/// Gives `/dev/fuse` the mode that udev gives it where fuse3 is installed.
pub fn open_fuse_to_users(scratch: &TempDir) {
    let nodes = scratch.dir("nodes");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(&nodes))
    .ok();
    let node = nodes.join("fuse");
    run(Command::new("mknod")
        .arg("-m")
        .arg("666")
        .arg(&node)
        .args(["c", "10", "229"]))
    .ok();
    run(Command::new("mount")
        .arg("--bind")
        .arg(&node)
        .arg("/dev/fuse"))
    .ok();
    run(Command::new("umount").arg("--lazy").arg(&nodes)).ok();
}

/// The control files of FUSE connections, which not every system has mounted.
pub fn mount_fusectl() {
    const PLACE: &str = "/sys/fs/fuse/connections";
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("a mount table");
    if !mounts.contains(PLACE) {
        run(Command::new("mount").args(["-t", "fusectl", "none", PLACE])).ok();
    }
}

/// A `/dev` with null, zero, urandom and these further (name, major, minor) character devices, and nothing else.
pub fn bare_dev(scratch: &TempDir, further: &[[&str; 3]]) {
    let dev = scratch.dir("dev");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "mode=755", "tmpfs"])
        .arg(&dev))
    .ok();
    let usual = [
        ["null", "1", "3"],
        ["zero", "1", "5"],
        ["urandom", "1", "9"],
    ];
    for [name, major, minor] in usual.iter().chain(further) {
        run(Command::new("mknod")
            .args(["-m", "666"])
            .arg(dev.join(name))
            .args(["c", major, minor]))
        .ok();
    }
    run(Command::new("mount").arg("--bind").arg(&dev).arg("/dev")).ok();
    run(Command::new("umount").arg("--lazy").arg(&dev)).ok();
}

/// An ordinary user (nobody) with a copy of the program he can reach and a home of his own.
#[derive(Debug)]
pub struct User {
    pub home: PathBuf,
    program: PathBuf,
}

impl User {
    const ID: &str = "65534";

    pub fn new(scratch: &TempDir) -> Self {
        let home = scratch.dir("home");
        let program = scratch.join("wardfs");
        fs::copy(env!("CARGO_BIN_EXE_wardfs"), &program).expect("there is room");
        run(Command::new("chown")
            .arg(format!("{}:{}", Self::ID, Self::ID))
            .arg(&home))
        .ok();
        Self { home, program }
    }

    /// The program, run as this user in his home.
    pub fn wardfs(&self) -> Command {
        let mut command = self.command(&self.program);
        command.env_remove("CREDENTIALS_DIRECTORY");
        command
    }

    /// Any program, run as this user in his home.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", Self::ID))
            .arg(format!("--regid={}", Self::ID))
            .args(["--clear-groups", "--inh-caps=-all", "--"])
            .arg(program.as_ref())
            .current_dir(&self.home)
            .stdin(std::process::Stdio::null());
        command
    }

    /// A shell command line as this user.
    pub fn sh(&self, line: &str) -> super::Ran {
        run(self.command("/bin/sh").arg("-c").arg(line))
    }
}
