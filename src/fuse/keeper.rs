//! The thread that looks after the journal of a mounted volume: what was written is committed within moments even if
//! nobody syncs it, and applied every half minute.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::fs::Fs;
use crate::store::Disk;

/// Between two looks while there is work, and while there is none.
const BUSY: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(1);
const CHECKPOINT: Duration = Duration::from_secs(30);

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Keeper {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn start(fs: Arc<Fs<Disk>>) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        let keep = move || {
            let mut wait = IDLE;
            let mut since = Instant::now();
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                // A failure has latched the volume, and who syncs is told.
                wait = if fs.commit().unwrap_or(false) {
                    BUSY
                } else {
                    IDLE
                };
                if since.elapsed() >= CHECKPOINT {
                    since = Instant::now();
                    if let Err(e) = fs.checkpoint() {
                        log::error!(
                            "the journal could not be applied, which will be tried again: {e}"
                        );
                    }
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("wardfs-journal".into())
            .spawn(keep)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics only with a defect, which was logged.
            let _ = thread.join();
        }
    }
}
