//! Becoming a daemon in two steps: fork first, let go of the terminal only when the work is under way.
//!
//! Between the steps the child still owns the terminal, so it can ask for a passphrase and print its own errors,
//! while the parent waits for one byte: the exit code. Keys, locked memory and threads come after the fork, since
//! none of them survives one. What the child does is not known here.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};

use crate::sys::fd;
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions};

/// Which side of the fork this is.
#[derive(Debug)]
pub enum Forked {
    Parent(Child),
    Child(Report),
}

/// The parent's view of the process it started.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    status: PipeReader,
}

/// How the child's start went.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Ready,
    /// It has said why on standard error; this is its exit code.
    Failed(u8),
    /// It ended without a word, by this signal if one is known.
    Died(Option<i32>),
}

/// The child's one chance to say how it went.
#[derive(Debug)]
pub struct Report(PipeWriter);

/// Forks. The child is killed if the parent goes away before [`Report::ready`].
///
/// # Errors
/// Also when this process has more than one thread: the others would not exist in the child, but their locks would.
pub fn fork() -> io::Result<Forked> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other(
            "a process with threads cannot go to the background",
        ));
    }
    let (reader, writer) = io::pipe()?;
    let parent = rustix::process::getpid();
    // SAFETY: there is exactly one thread (checked above), so no lock is held by a thread missing in the child,
    // and the child may run any code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            // The parent may have died before the line above took effect.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::Error::other("the starting process is gone"));
            }
            Ok(Forked::Child(Report(writer)))
        }
        pid => {
            drop(writer);
            let pid = Pid::from_raw(pid).expect("fork returns a positive pid to the parent");
            Ok(Forked::Parent(Child {
                pid,
                status: reader,
            }))
        }
    }
}

impl Child {
    /// Waits until the child reports or ends.
    pub fn wait(mut self) -> io::Result<Outcome> {
        let mut byte = [0_u8; 1];
        // The pipe closes when the child ends, so this cannot wait for ever.
        match self.status.read_exact(&mut byte) {
            Ok(()) if byte[0] == 0 => return Ok(Outcome::Ready),
            Ok(()) => return Ok(Outcome::Failed(byte[0])),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(e) => return Err(e),
        }
        let ended = rustix::io::retry_on_intr(|| {
            rustix::process::waitpid(Some(self.pid), WaitOptions::empty())
        })?;
        Ok(Outcome::Died(
            ended.and_then(|(_, status)| status.terminating_signal()),
        ))
    }
}

impl Report {
    /// Tells the parent that all is well; it ends, and this process stays.
    pub fn ready(mut self) -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(None)?;
        self.0.write_all(&[0])
    }

    /// Hands the exit code (not 0) to the parent.
    pub fn failed(mut self, code: u8) {
        debug_assert_ne!(code, 0, "0 means ready");
        // A parent that is gone needs no report.
        let _ = self.0.write_all(&[code]);
    }
}

/// Leaves the terminal, its session, the working directory, and every descriptor that others passed on. What is printed
/// from here on is lost.
pub fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    fd::close_inherited()
}

/// Lets this process open as many files as the system allows it.
pub fn raise_open_file_limit() -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    Ok(rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?)
}
