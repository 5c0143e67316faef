//! The thread that looks after the journal of a mounted volume: what was written is committed within moments even if
//! nobody syncs it, applied to the files within seconds, and durable there every half minute.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::fs::Fs;
use crate::store::Disk;
use crate::store::journal::Journal;

/// Between two looks while there is work, and while there is none.
const BUSY: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(1);
const APPLY: Duration = Duration::from_secs(2);
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
            let mut checkpoint = Instant::now();
            let mut applied = Instant::now();
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                // A failure has latched the volume, and who syncs is told.
                let committed = fs.commit().unwrap_or(false);
                wait = if committed { BUSY } else { IDLE };
                let waits = |journal: &Journal<Disk>| journal.overlay_bytes() > 0;
                let done = if checkpoint.elapsed() >= CHECKPOINT {
                    checkpoint = Instant::now();
                    fs.checkpoint()
                } else if applied.elapsed() >= APPLY && fs.volume().journal().is_some_and(waits) {
                    applied = Instant::now();
                    fs.apply()
                } else {
                    Ok(())
                };
                if let Err(e) = done {
                    log::error!("the journal could not be applied, which will be tried again: {e}");
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
