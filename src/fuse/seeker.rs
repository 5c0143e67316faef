//! SEEK_DATA and SEEK_HOLE on a file that is open for writing, under the kernel's writeback cache.
//!
//! The kernel holds dirty pages that the daemon has not seen, and does not flush them before it asks where the data lies:
//! a copy made by holes would lose them. So the inode's pages are written back first, by invalidating them. That must
//! not be asked for from a request handler, which the kernel may be waiting for; it is done by a thread of its own, and
//! the reply follows from there.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::{io, thread};

use fuser::{Errno, FileHandle, INodeNo, Notifier, ReplyLseek};

use crate::fs::Fh;
use crate::fuse::shell::{Shell, run};
use crate::store::backing::SeekTo;

/// A seek that waits for write-back. `answer` looks for the place and replies.
pub struct Job {
    pub ino: INodeNo,
    pub reply: ReplyLseek,
    pub answer: Box<dyn FnOnce(ReplyLseek) + Send>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ino.fmt(f)
    }
}

/// The way to the thread.
#[derive(Debug, Clone)]
pub struct Seeker {
    jobs: Arc<Mutex<Sender<Job>>>,
}

impl Seeker {
    /// Starts the thread; it ends when the last `Seeker` is dropped.
    pub fn start(kernel: Arc<OnceLock<Notifier>>) -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel();
        thread::Builder::new()
            .name("seek".into())
            .spawn(move || serve(&jobs, &kernel))?;
        Ok(Self {
            jobs: Arc::new(Mutex::new(sender)),
        })
    }

    pub fn send(&self, job: Job) {
        // Without the thread the job is dropped, and with it the reply: fuser then answers EIO.
        if let Ok(jobs) = self.jobs.lock() {
            let _ = jobs.send(job);
        }
    }
}

fn serve(jobs: &Receiver<Job>, notifier: &OnceLock<Notifier>) {
    for job in jobs {
        if let Some(notifier) = notifier.get()
            && let Err(e) = notifier.inval_inode(job.ino, 0, 0)
        {
            log::warn!(
                "inode {}: the kernel did not write its pages back: {e}",
                job.ino.0
            );
        }
        (job.answer)(job.reply);
    }
}

impl Shell {
    /// Looks for data or a hole from `offset` on and replies.
    pub fn seek(&self, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let to = match whence {
            libc::SEEK_DATA => SeekTo::Data,
            libc::SEEK_HOLE => SeekTo::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(from) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        let fs = self.fs.clone();
        let answer = move |reply: ReplyLseek| match run(&fs, ino, |fs| fs.seek(Fh(fh.0), from, to))
        {
            Ok(Some(found)) => reply.offset(found as i64),
            Ok(None) => reply.error(Errno::ENXIO),
            Err(e) => reply.error(e),
        };
        let dirty = self.run(ino, |fs| fs.may_have_dirty_pages(Fh(fh.0)));
        if self.policy.writeback && dirty.unwrap_or(true) {
            self.seeker.send(Job {
                ino,
                reply,
                answer: Box::new(answer),
            });
        } else {
            answer(reply);
        }
    }
}
