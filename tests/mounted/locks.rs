//! Locks between processes.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{FlockOperation, fcntl_lock, flock};

use crate::fixture::{NOWRITEBACK, PLAIN, assert_errno, on_each};

const FILE: &str = "WARDFS_TEST_LOCK_FILE";
const WAY: &str = "WARDFS_TEST_LOCK_WAY";

fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .expect("ours")
}

fn lock(file: &File, way: &str, operation: FlockOperation) -> rustix::io::Result<()> {
    if way == "flock" {
        flock(file, operation)
    } else {
        fcntl_lock(file, operation)
    }
}

/// The other process: not a test of its own.
#[test]
fn the_other_process() {
    let (Some(path), Ok(way)) = (std::env::var_os(FILE), std::env::var(WAY)) else {
        return;
    };
    let file = open(Path::new(&path));
    lock(&file, &way, FlockOperation::LockExclusive).expect("free");
    println!("\nlocked");
    std::io::stdout().flush().expect("a pipe");
    let _ = std::io::stdin().lines().next();
}

struct Other(Child);

impl Other {
    fn that_locks(path: &Path, way: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", "locks::the_other_process", "--nocapture"])
            .env(FILE, path)
            .env(WAY, way)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Nobody reads what the test harness says at its end.
            .stderr(Stdio::null())
            .spawn()
            .expect("this program");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let locked = lines.map_while(Result::ok).any(|line| line == "locked");
        assert!(locked, "the other process ended without the lock");
        Self(child)
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("started here");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_lock_of_one_process_holds_off_another_until_it_ends() {
    on_each(&[PLAIN, NOWRITEBACK], |place| {
        for way in ["flock", "posix"] {
            let path = place.join(way);
            let other = Other::that_locks(&path, way);
            let file = open(&path);
            let tried = lock(&file, way, FlockOperation::NonBlockingLockExclusive);
            assert_errno(tried, libc::EAGAIN);
            assert_errno(
                lock(&file, way, FlockOperation::NonBlockingLockShared),
                libc::EAGAIN,
            );
            other.end();
            lock(&file, way, FlockOperation::LockExclusive).expect("free now");
        }
    });
}

#[test]
fn shared_locks_share() {
    PLAIN.run(|place| {
        let (a, b) = (open(&place.join("file")), open(&place.join("file")));
        flock(&a, FlockOperation::NonBlockingLockShared).expect("free");
        flock(&b, FlockOperation::NonBlockingLockShared).expect("shared");
        assert_errno(
            flock(&b, FlockOperation::NonBlockingLockExclusive),
            libc::EAGAIN,
        );
        drop(a);
        flock(&b, FlockOperation::NonBlockingLockExclusive).expect("alone now");
    });
}
